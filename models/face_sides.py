"""Left and right of a face: which landmark stands opposite to which, and how far each lies beside the middle."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from mien.models.face_model import FaceModel


@cache
def opposite() -> NDArray[np.intp]:
    """Return for each landmark the one on the other side of the face, [478]; one in the middle is its own."""
    mean, aside, across = sideways()
    flipped = mean - 2 * aside[:, None] * across
    gap = ((flipped[:, None] - mean[None]) ** 2).sum(2)
    return np.asarray(gap.argmin(1))


def sideways() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean face [478, 3], how far each landmark lies beside its middle [478], and that direction [3]."""
    mean = FaceModel.load().mean.astype(np.float64)
    across = mean[[263, 291, 454]].mean(0) - mean[[33, 61, 234]].mean(0)
    across /= np.linalg.norm(across)
    return mean, (mean - mean.mean(0)) @ across, across
