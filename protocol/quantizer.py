"""Coefficients to steps, and integers back to coefficients: a uniform quantiser.

An integer q of coefficient k stands for `rest[k] + q * step / SCALE[k]`, where rest is the stream's rest pose
(zero for the expression). Which integers a sender chooses is its own affair; what they mean is the format.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.protocol.state import COEFFICIENT_COUNT, EXPRESSION_COUNT, POSE_COUNT, FaceState

# Quantiser steps in ten-thousandths, by the index that a message carries. Their order is part of the format.
STEPS: Final = (60, 35, 20, 30, 45, 80, 120, 180)
MAX_VALUE: Final = 4095  # of a quantised value, either sign: every decoded one is clamped to it

# Pitch and yaw move the vertices less than roll does, so they bear a coarser step.
SCALE: Final = (0.6, 0.6, *(1.0,) * (COEFFICIENT_COUNT - 2))
_SCALE: Final = np.array(SCALE)


class Quality(IntEnum):
    """The named settings; the value is the step's index in `STEPS`."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


def to_steps(state: FaceState, rest_pose: Sequence[int], step_index: int) -> NDArray[np.float64]:
    """Return `state` in steps, float64 [36], not yet rounded. `rest_pose` is six integers in thousandths."""
    values = state.coefficients().astype(np.float64)
    values[:POSE_COUNT] -= np.array(rest_pose) / 1000.0
    steps: NDArray[np.float64] = values * _SCALE * (10000.0 / STEPS[step_index])
    return steps


def from_steps(values: NDArray[np.int16], rest_pose: Sequence[int], step_index: int) -> NDArray[np.float32]:
    """Return the coefficients float32 [n, 36] that `values` int16 [n, 36] stand for."""
    rest = np.concatenate([np.array(rest_pose) / 1000.0, np.zeros(EXPRESSION_COUNT)])
    coefficients: NDArray[np.float32] = (rest + values * (STEPS[step_index] / 10000.0) / _SCALE).astype(
        np.float32
    )
    return coefficients
