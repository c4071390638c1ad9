"""The appearance code: what an avatar says in numbers about colours that no reference picture may show.

The renderer paints with it where the pictures end: a mouth that was never seen open, the white of an eye
that was closed, the background behind a head that has moved away. It identifies nobody.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from mien.protocol.errors import WireError


class Region(IntEnum):
    """Parts of the picture with colours of their own."""

    SKIN = 0
    LIPS = 1
    MOUTH = 2  # the inside, from the widest openings
    SCLERA = 3
    IRIS = 4
    BROWS = 5
    HAIR = 6
    CLOTHES = 7
    BACKGROUND = 8


REGION_COUNT: Final = len(Region)
PER_REGION: Final = 7  # mean and spread of linear R, G, B; share of the frame that was measured
GLOBALS: Final = 8
CODE_LENGTH: Final = REGION_COUNT * PER_REGION + GLOBALS


@dataclass(frozen=True, slots=True, eq=False)
class AppearanceCode:
    """The code in named parts; in an avatar it is one float16 vector of `CODE_LENGTH`, in the order of the fields.

    `mean` and `spread` (standard deviation) float32 [9, 3], linear-light RGB, 0 to 1; `share` float32 [9], how
    much of the frame the region filled, 0 where it was never seen (its colours are then guesses from the
    others); `light` float32 [3], how linear luminance of the skin changes per model unit towards x, y and z,
    relative to its mean; `sharpness`, `exposure`, `contrast` describe the references (see
    `mien.encoder.appearance`).
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    share: NDArray[np.float32]
    light: NDArray[np.float32]
    sharpness: float
    exposure: float
    contrast: float

    def to_vector(self) -> NDArray[np.float32]:
        """Return float32 [`CODE_LENGTH`]."""
        regions = np.concatenate([self.mean, self.spread, self.share[:, None]], axis=1)
        rest = [*self.light, self.sharpness, self.exposure, self.contrast, 0.0, 0.0]
        return np.concatenate([regions.ravel(), np.array(rest)]).astype(np.float32)

    @classmethod
    def from_vector(cls, vector: NDArray[np.float32]) -> Self:
        """Read an avatar's code; numbers of later versions at its end are ignored. Raises `WireError`."""
        if vector.ndim != 1 or vector.size < CODE_LENGTH or not np.isfinite(vector).all():
            raise WireError(f"appearance code of shape {vector.shape}, expected {CODE_LENGTH} finite numbers")
        regions = vector[: REGION_COUNT * PER_REGION].reshape(REGION_COUNT, PER_REGION)
        rest = vector[REGION_COUNT * PER_REGION :]
        return cls(
            mean=np.clip(regions[:, :3], 0, 1),
            spread=np.clip(regions[:, 3:6], 0, 1),
            share=np.clip(regions[:, 6], 0, 1),
            light=np.clip(rest[:3], -4, 4),
            sharpness=float(rest[3]),
            exposure=float(rest[4]),
            contrast=float(rest[5]),
        )

    def srgb(self, region: Region) -> tuple[int, int, int]:
        """Return a region's mean colour as sRGB bytes."""
        red, green, blue = (round(255 * float(v)) for v in to_srgb(self.mean[region]))
        return red, green, blue


def to_linear(srgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return linear light, 0 to 1, of sRGB bytes (IEC 61966-2-1)."""
    return _LINEAR[srgb]


def to_srgb(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return sRGB, 0 to 1, of linear light."""
    clipped = np.clip(linear, 0, 1)
    return np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055).astype(
        np.float32
    )


def _linear_table() -> NDArray[np.float32]:
    steps = np.arange(256) / 255
    return np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4).astype(np.float32)


_LINEAR: Final = _linear_table()
