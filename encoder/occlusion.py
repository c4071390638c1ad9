"""Finds frames in which something stands before the face: a hand, a cup, hair.

Where a landmark sits on plain skin its colour hardly changes over a clip. A frame in which many of them look
unlike they usually do is one that should not become a reference picture.
"""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.models.landmark_sets import BROWS, EYES, IRISES, LIPS
from mien.models.topology import FACE_OVAL
from mien.protocol.state import LANDMARK_COUNT

SKIN: Final = np.setdiff1d(np.arange(LANDMARK_COUNT), [*LIPS, *EYES, *IRISES, *BROWS, *FACE_OVAL])
TOLERANCE: Final = 4.0  # times the usual spread of a landmark's colour
SLACK: Final = 10.0  # grey levels that are never odd
MIN_FRAMES: Final = 12  # fewer do not say what is usual


def occlusion(
    pictures: Sequence[NDArray[np.uint8]], landmarks: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return for each frame the share of skin landmarks that look unusual, float32 [T]; zeros for a short clip."""
    if len(pictures) < MIN_FRAMES:
        return np.zeros(len(pictures), np.float32)
    colours = np.stack([_sample(rgb, points) for rgb, points in zip(pictures, landmarks, strict=True)])
    colours -= np.median(colours, axis=1, keepdims=True)  # the light and the camera's exposure may change
    usual = np.median(colours, axis=0)
    gap = np.abs(colours - usual).max(2)
    spread = np.median(gap, axis=0)
    return np.asarray((gap > TOLERANCE * spread + SLACK).mean(1), np.float32)


def _sample(rgb: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the colours around the skin landmarks, float32 [n, 3], 0 to 255."""
    reach = max(1, round(0.015 * float(np.ptp(points[list(FACE_OVAL), 1]))))
    smooth = cv2.blur(rgb, (2 * reach + 1, 2 * reach + 1))
    height, width = rgb.shape[:2]
    x = np.clip(points[SKIN, 0].astype(int), 0, width - 1)
    y = np.clip(points[SKIN, 1].astype(int), 0, height - 1)
    return np.asarray(smooth[y, x], np.float32)
