"""The depth of references: a tracker's wrong guess is replaced, what is seen in the picture stays."""

import numpy as np
from numpy.typing import NDArray

from mien.encoder.reference_depth import Fitted
from mien.models.face_model import FaceModel
from mien.protocol.state import FaceState

MODEL = FaceModel.load()
UNIT_PX, SIZE = 60.0, 256


def test_depth_is_the_faces_own() -> None:
    fitted = Fitted(MODEL, MODEL.mean, unit_px=UNIT_PX, width=SIZE, height=SIZE)
    true = FaceState(np.array([0.1, 0.05, 0, 0, 0, 0], np.float32), np.zeros(30, np.float32))
    seen = fitted.place(true)
    guessed = seen.copy()
    guessed[:, 2] = 1.3 * seen[:, 2] + 20  # a longer nose, all of it elsewhere
    out, state = fitted.with_depth(guessed)
    np.testing.assert_array_equal(out[:, :2], guessed[:, :2])
    assert depth_error(out, seen) < 0.3 * depth_error(guessed, seen)
    assert np.abs(out[:, 2] - fitted.place(state)[:, 2]).mean() < 0.5


def depth_error(landmarks: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return how much depth differs, but for how far away the whole is, pixels."""
    apart = landmarks[:, 2] - other[:, 2]
    return float(np.abs(apart - apart.mean()).mean())


def test_right_depth_stays() -> None:
    fitted = Fitted(MODEL, MODEL.mean, unit_px=UNIT_PX, width=SIZE, height=SIZE)
    true = FaceState(np.array([0, 0.2, 0, 0, 0.1, 0], np.float32), np.zeros(30, np.float32))
    seen = fitted.place(true)
    out, state = fitted.with_depth(seen)
    assert np.abs(out - seen).max() < 0.05
    np.testing.assert_allclose(state.pose, true.pose, atol=2e-3)
