"""The state of a face at one instant: what the codec carries."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

POSE_COUNT: Final = 6
EXPRESSION_COUNT: Final = 30
COEFFICIENT_COUNT: Final = POSE_COUNT + EXPRESSION_COUNT
LANDMARK_COUNT: Final = 478


@dataclass(frozen=True, slots=True, eq=False)
class FaceState:
    """Pose and expression of one frame.

    `pose` is float32 [6], `expression` float32 [30] (see the package's conventions). `tracked` is false
    where the sender saw no face; pose and expression then repeat the last ones that it saw.
    """

    pose: NDArray[np.float32]
    expression: NDArray[np.float32]
    tracked: bool = True

    def __post_init__(self) -> None:
        if self.pose.shape != (POSE_COUNT,) or self.expression.shape != (EXPRESSION_COUNT,):
            raise ValueError(
                f"pose {self.pose.shape} and expression {self.expression.shape}, expected (6,) and (30,)"
            )

    @classmethod
    def neutral(cls) -> "FaceState":
        """Return the neutral face, upright, in the picture's centre, at the stream's reference scale."""
        return cls(np.zeros(POSE_COUNT, np.float32), np.zeros(EXPRESSION_COUNT, np.float32))

    def coefficients(self) -> NDArray[np.float32]:
        """Return pose and expression joined, float32 [36]."""
        return np.concatenate([self.pose, self.expression])

    @classmethod
    def from_coefficients(cls, values: NDArray[np.float32], *, tracked: bool = True) -> "FaceState":
        """Split float32 [36] into pose and expression."""
        return cls(values[:POSE_COUNT], values[POSE_COUNT:], tracked)
