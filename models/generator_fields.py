"""What the generator is asked and what it answers: the one thing that its trainer and its player agree on.

Once for each scene picture the network runs on the grid of that picture (about 128 x 128, sides divisible by 8) and
decides; the painter then paints at any size. The player, for each picture:

1. measures the correction without weights as ever (`base`), with a memory of its own: its `before` is the base
   correction before it, never the generator's;
2. calls `refined` with the network, and with the generator's own correction before this one, carried to now;
3. paints the answer in place of `base`: the same nine fields, in the same order, so the painting stays as it is.

What differs from a correction without weights: `light` is as fine as the grid, no longer only slow. It is all that
lies between what was moved and the *restored picture*, which is as fine as the grid and mixed, place by place, out of
three: the scene's picture, what the references drew (moved and lit), and what was shown before, carried to now. Coarse
and fine detail of each are weighed apart, and the network adds what it thinks is missing in all. The references give
whatever is finer than the grid.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.models.topology import FACE_OVAL

Floats = NDArray[np.float32]

# Named planes of the input, in order, with how many each has. The first three are looked at pixel by pixel, the rest
# is smooth, and the network looks at it at half the resolution. "Drawn" is what the references gave at that tick.
INPUTS: Final = {
    "seen": 3,  # the scene's picture, decoded
    "lit": 3,  # drawn, moved by the base flow and lit by the base light
    "held": 3,  # drawn, corrected as the correction before says; without one, as `lit`
    "flow": 2,  # base flow
    "light": 3,  # base light
    "paint": 1,  # base share of the picture
    "held_flow": 2,  # that of the correction before
    "held_paint": 1,
    "outside": 1,  # 0 in the face's oval, 1 outside
    "place": 2,  # from the oval's middle, in its heights: across, down
    "has_before": 1,
    "face": 1,  # 1 where the picture shows the face, 0 where it is filled
}
FINE_PLANES: Final = 9
INPUT_PLANES: Final = sum(INPUTS.values())
# The output, likewise.
OUTPUTS: Final = {
    "restored": 3,  # to add to the mixed picture
    "flow": 2,  # to add to the base flow, grid pixels
    "coarse": 2,  # share of the scene's picture, and of what was shown before, in coarse detail; the rest is lit
    "fine": 2,  # likewise in fine detail
    "paint": 1,  # of the restored picture alone, detail of the references included
}
OUTPUT_PLANES: Final = sum(OUTPUTS.values())
FIELDS: Final = (
    9  # flow 2, light 3, paint 1, picture 3: as `mien.decoder.scene_layer.Correction.fields` has them
)

MEAN_LEVEL: Final = 128.0
LEVELS: Final = 64.0  # 8-bit steps that are 1 in the input
LIGHT_LEVELS: Final = 32.0
FLOW_PX: Final = 4.0
RESTORED_LEVELS: Final = 32.0  # 8-bit steps that are 1 in the output
MAX_FLOW_CHANGE: Final = 4.0  # the network's output reaches -1 to 1
MAX_LIGHT: Final = 96.0
DIVISOR: Final = 8  # of the grid's sides
SHARPER: Final = 0.3  # of the fine detail of a scene's picture is added where it is painted without weights
BAND_PX: Final = 9  # width of the window, and
BAND_SIGMA: Final = 1.5  # its deviation, that part coarse from fine detail

Network = Callable[[Floats], Floats]  # [1, INPUT_PLANES, gh, gw] to [1, OUTPUT_PLANES, gh, gw]


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    """What is known at a scene picture's tick, on its grid.

    `seen` and `drawn` uint8 [gh, gw, 3]: the scene's picture, and what the references gave, made small. `base`
    float32 [gh, gw, 9]: the fields of the correction without weights. `before`: the fields of the generator's
    correction before this one, carried to now by the mesh, or None. `outside` [gh, gw, 1]: 0 in the face's oval, 1
    outside. `positions` [v, 2 or more]: the mesh's vertices in grid pixels, landmarks first. `face`: whether the
    picture shows the face.
    """

    seen: NDArray[np.uint8]
    drawn: NDArray[np.uint8]
    base: Floats
    before: Floats | None
    outside: Floats
    positions: NDArray[np.floating]
    face: bool


def refined(situation: Situation, network: Network) -> Floats:
    """Return the generator's fields, float32 [gh, gw, 9], in the order of `Correction.fields`."""
    return fields_of(situation, network(input_of(situation)))


def fits(width: int, height: int) -> bool:
    """Return whether the network can look at a grid of this size."""
    return min(width, height) >= 2 * DIVISOR and width % DIVISOR == 0 and height % DIVISOR == 0


def input_of(situation: Situation) -> Floats:
    """Return the network's input, float32 [1, INPUT_PLANES, gh, gw]. Raises `ValueError` for a grid it cannot take."""
    height, width = situation.seen.shape[:2]
    if not fits(width, height):
        raise ValueError(f"a grid of {width} x {height}: expected sides that are multiples of {DIVISOR}")
    base, before = situation.base, situation.before
    known = np.ones((height, width, 1), np.float32)
    lit = lit_picture(situation.drawn, base[..., :2], base[..., 2:5])
    old = np.zeros_like(base) if before is None else before
    planes = {
        "seen": _levels(situation.seen),
        "lit": _levels(lit),
        "held": _levels(lit if before is None else corrected(situation.drawn, before)),
        "flow": base[..., :2] / FLOW_PX,
        "light": base[..., 2:5] / LIGHT_LEVELS,
        "paint": base[..., 5:6],
        "held_flow": old[..., :2] / FLOW_PX,
        "held_paint": old[..., 5:6],
        "outside": situation.outside,
        "place": place_in_face(situation.positions, width, height),
        "has_before": known * np.float32(before is not None),
        "face": known * np.float32(situation.face),
    }
    stacked = np.concatenate([planes[name] for name in INPUTS], 2)
    return np.ascontiguousarray(stacked.transpose(2, 0, 1)[None], np.float32)


def fields_of(situation: Situation, output: Floats) -> Floats:
    """Return the fields, float32 [gh, gw, 9], that a network's output [1, OUTPUT_PLANES, gh, gw] means.

    Whatever the network says, the fields are finite and in range, the face's oval is not moved, and takes
    nothing from a picture in which it is filled. Raises `ValueError` for an output of another shape.
    """
    height, width = situation.seen.shape[:2]
    _check(output, width, height)
    planes = np.nan_to_num(output[0].transpose(1, 2, 0).astype(np.float32), posinf=0, neginf=0)
    outside, base, drawn = situation.outside, situation.base, situation.drawn
    change = MAX_FLOW_CHANGE * np.clip(planes[..., 3:5], -1, 1)
    flow = np.asarray((base[..., :2] + change) * outside, np.float32)
    moved = held_picture(drawn, flow)
    lit = np.clip(moved + base[..., 2:5], 0, 255)
    seen = situation.seen.astype(np.float32)
    before = lit if situation.before is None else corrected(drawn, situation.before)
    painted = base[..., 5:6] * outside  # what a filled face is filled with is not shown
    plain = lit + painted * (np.clip(seen + SHARPER * (seen - blurred(seen)), 0, 255) - lit)
    others = seen - plain, before - plain
    coarse, fine = shares(planes[..., 5:7]), shares(planes[..., 7:9])
    change = RESTORED_LEVELS * planes[..., :3]
    for number, apart in enumerate(others):
        slow = blurred(apart)
        change = change + coarse[..., number : number + 1] * slow
        change = change + fine[..., number : number + 1] * (apart - slow)
    picture = np.clip(plain + change * (1 if situation.face else outside), 0, 255)
    light = np.clip(picture - moved, -MAX_LIGHT, MAX_LIGHT)
    paint = np.clip(planes[..., 9:10], 0, 1) * outside
    return np.concatenate([flow, light, paint, picture], 2).astype(np.float32)


def shares(values: Floats) -> Floats:
    """Return what is asked for of two others [., ., 2], together at most all."""
    values = np.clip(values, 0, 1)
    return np.asarray(values / np.maximum(values.sum(2, keepdims=True), 1), np.float32)


def blurred(picture: Floats) -> Floats:
    """Return the coarse detail of a picture [gh, gw, 3]."""
    window = (BAND_PX, BAND_PX)
    return np.asarray(
        cv2.GaussianBlur(picture, window, BAND_SIGMA, borderType=cv2.BORDER_REFLECT_101), np.float32
    )


def lit_picture(drawn: NDArray[np.uint8], flow: Floats, light: Floats) -> Floats:
    """Return a small picture [gh, gw, 3], moved and lit."""
    return np.asarray(np.clip(held_picture(drawn, flow) + light, 0, 255), np.float32)


def held_picture(drawn: NDArray[np.uint8], flow: Floats) -> Floats:
    """Return a small picture [gh, gw, 3] with each place taken from itself plus its flow [gh, gw, 2]."""
    height, width = flow.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    values = drawn.astype(np.float32)
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def corrected(drawn: NDArray[np.uint8], fields: Floats) -> Floats:
    """Return a small picture [gh, gw, 3] moved, lit and painted over by fields of its own size."""
    paint = fields[..., 5:6]
    lit = lit_picture(drawn, fields[..., :2], fields[..., 2:5])
    return np.asarray(lit * (1 - paint) + fields[..., 6:9] * paint, np.float32)


def place_in_face(positions: NDArray[np.floating], width: int, height: int) -> Floats:
    """Return float32 [gh, gw, 2]: how far each place is from the middle of the face's oval, in its heights."""
    oval = np.asarray(positions, np.float64)[list(FACE_OVAL), :2]
    middle = oval.mean(0)
    tall = max(4.0, float(np.ptp(oval[:, 1])))
    rows, columns = np.mgrid[:height, :width]
    return np.clip(np.stack([columns - middle[0], rows - middle[1]], 2) / tall, -3, 3).astype(np.float32)


def _check(output: Floats, width: int, height: int) -> None:
    wanted = (1, OUTPUT_PLANES, height, width)
    if output.shape != wanted:
        raise ValueError(f"the generator gave {output.shape}, expected {wanted}")


def _levels(picture: NDArray[np.generic]) -> Floats:
    return np.asarray((np.asarray(picture, np.float32) - MEAN_LEVEL) / LEVELS, np.float32)
