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
NOISE: Final = 3.0  # grey levels that a camera adds by itself
MIN_FRAMES: Final = 12  # fewer do not say what is usual


def occlusion(
    pictures: Sequence[NDArray[np.uint8]],
    landmarks: Sequence[NDArray[np.float32]],
    features: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return for each frame the share of skin landmarks that look unusual, float32 [T]; zeros for a short clip.

    What is usual depends on what the face does: light wanders over a head that turns, cheeks fold. `features`
    [T, F] say what it does (`face_features`), and each colour is expected to be a linear function of them.
    """
    if len(pictures) < MIN_FRAMES:
        return np.zeros(len(pictures), np.float32)
    colours = np.stack([_sample(rgb, points) for rgb, points in zip(pictures, landmarks, strict=True)])
    colours -= np.median(colours, axis=1, keepdims=True)  # the light and the camera's exposure may change
    gap = np.abs(colours - _expected(colours, features)).max(2)
    spread = np.median(gap, axis=0)
    return np.asarray((gap > TOLERANCE * spread + SLACK).mean(1), np.float32)


def _expected(colours: NDArray[np.float32], features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fit colours [T, n, 3] by features; frames that fit badly count for nothing in a second and third fit."""
    centred = (features - np.median(features, axis=0)) / (features.std(axis=0) + 1e-3)
    design = np.c_[np.ones(len(features)), np.clip(centred, -3, 3)].astype(np.float64)
    flat = colours.reshape(len(colours), -1).astype(np.float64)
    weights = np.ones(len(features))  # a head that turns rarely is not yet something odd
    ridge = 0.01 * len(features) * np.eye(design.shape[1])
    ridge[0, 0] = 0
    for _ in range(3):
        weighted = design * weights[:, None]
        expected = design @ np.linalg.solve(weighted.T @ design + ridge, weighted.T @ flat)
        misfit = np.abs(flat - expected).mean(1)
        weights = 1 / (1 + (misfit / (2 * np.median(misfit) + NOISE)) ** 4)
    return np.asarray(expected.reshape(colours.shape), np.float32)


def _sample(rgb: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the colours around the skin landmarks, float32 [n, 3], 0 to 255."""
    reach = max(1, round(0.015 * float(np.ptp(points[list(FACE_OVAL), 1]))))
    smooth = cv2.blur(rgb, (2 * reach + 1, 2 * reach + 1))
    height, width = rgb.shape[:2]
    x = np.clip(points[SKIN, 0].astype(int), 0, width - 1)
    y = np.clip(points[SKIN, 1].astype(int), 0, height - 1)
    return np.asarray(smooth[y, x], np.float32)
