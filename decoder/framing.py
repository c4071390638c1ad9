"""Where a stream's face stands in an avatar's picture: sizes and reference scales of the two need not agree."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Framing:
    """A picture's size in pixels and its reference scale: pixels per unit of pose translation."""

    unit_px: float
    width: int
    height: int

    def __post_init__(self) -> None:
        if not (self.unit_px > 0 and self.width > 0 and self.height > 0):
            raise ValueError(
                f"framing {self.width} x {self.height}, unit {self.unit_px} px: expected positive numbers"
            )

    def fitted_into(self, other: Self) -> float:
        """Return how many pixels of `other` one pixel of this framing takes, when it is fitted inside it, centred."""
        return min(other.width / self.width, other.height / self.height)


def reframe(pose: NDArray[np.floating], source: Framing, target: Framing) -> NDArray[np.float64]:
    """Return a pose [6] of `source` as the pose in `target` when `source` is fitted inside `target`, centred."""
    ratio = source.unit_px * source.fitted_into(target) / target.unit_px
    out = np.array(pose, np.float64)
    out[3] += np.log(ratio)
    out[4:6] *= ratio
    return out
