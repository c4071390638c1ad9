"""A made-up person that moves before a made-up background, for the scene layer's tests."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mien.models.face_model import FaceModel, project
from mien.protocol.state import FaceState
from tests.picture_fixtures import UNIT_PX, smooth_picture, state

SIDE = 128
TICK_RATE = Fraction(30)


def landmarks_of(moved: FaceState) -> NDArray[np.float32]:
    """Return the mean face's landmarks in pixels, float32 [478, 3]."""
    model = FaceModel.load()
    shape = model.vertices(model.mean, moved.expression)
    placed = project(shape, moved.pose, unit_px=float(UNIT_PX), width=SIDE, height=SIDE)
    return np.asarray(placed, np.float32)


def moving_frame(tick: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return a frame and its landmarks: a face drawn as speckle wanders over smooth colour."""
    points = landmarks_of(state(x=0.2 * float(np.sin(tick / 9))))
    rgb = smooth_picture(4, SIDE).copy()
    rng = np.random.default_rng(1)
    colours = rng.integers(0, 256, (len(points), 3), dtype=np.uint8)
    for (x, y), colour in zip(np.rint(points[:, :2]).astype(int), colours, strict=True):
        rgb[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = colour
    return rgb, points
