"""The face mesh: which landmarks make triangles, what is mouth, eye, brow, and where the oval runs.

The triangulation is our own (`mien.models.build_topology`). Loops list landmark numbers in order around
an opening or an outline. `eye_a` is the eye on the viewer's left in an unmirrored picture.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

ASSET: Final = Path(__file__).with_name("assets") / "topology.npz"

FACE_OVAL: Final = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
# From one corner along the lower lip to the other corner and back along the upper lip.
INNER_LIPS: Final = (
    78,
    95,
    88,
    178,
    87,
    14,
    317,
    402,
    318,
    324,
    308,
    415,
    310,
    311,
    312,
    13,
    82,
    81,
    80,
    191,
)
OUTER_LIPS: Final = (
    61,
    146,
    91,
    181,
    84,
    17,
    314,
    405,
    321,
    375,
    291,
    409,
    270,
    269,
    267,
    0,
    37,
    39,
    40,
    185,
)
EYE_A: Final = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
EYE_B: Final = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
EYE_LOOPS: Final = (EYE_A, EYE_B)
IRIS_CENTRES: Final = (468, 473)
LIDS: Final = ((159, 145), (386, 374))  # upper and lower lid's middle, per eye
EYE_CORNERS: Final = ((33, 133), (263, 362))  # outer and inner corner, per eye

# Each brow's lower, then its upper edge, from the temple inwards.
BROWS: Final = (
    46, 53, 52, 65, 55, 70, 63, 105, 66, 107,
    276, 283, 282, 295, 285, 300, 293, 334, 296, 336,
)  # fmt: skip

REGION_NAMES: Final = ("mouth", "eye_a", "eye_b", "brows")


@dataclass(frozen=True, slots=True, eq=False)
class Topology:
    """Triangles are uint16 [n, 3] landmark numbers, all turned the same way round (clockwise on screen).

    `regions` is float32 [478, 4]: how much of each vertex belongs to each of `REGION_NAMES`, 0 to 1; what is
    missing from 1 is skin.
    """

    skin: NDArray[np.uint16]
    mouth: NDArray[np.uint16]
    eyes: NDArray[np.uint16]
    regions: NDArray[np.float32]

    @property
    def triangles(self) -> NDArray[np.uint16]:
        """All triangles: skin, then mouth, then eyes."""
        return np.concatenate([self.skin, self.mouth, self.eyes])


@cache
def load_topology() -> Topology:
    """Return the packaged mesh."""
    with np.load(ASSET, allow_pickle=False) as asset:
        return Topology(
            skin=asset["skin"],
            mouth=asset["mouth"],
            eyes=asset["eyes"],
            regions=asset["regions"].astype(np.float32) / 255,
        )
