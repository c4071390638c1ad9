"""The face model and its fit, on faces that the model itself makes."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.models.face_model import FaceModel, project
from mien.models.fit import Fitter, estimate_neutral, reference_scale, rest_pose
from mien.models.landmark_sets import inter_pupil_px
from mien.models.rotation import rotation_matrix, rotation_vector
from mien.models.train_face_model import Track, train
from mien.protocol.errors import MienError
from mien.protocol.state import FaceState

MODEL = FaceModel.load()
UNIT_PX, WIDTH, HEIGHT = 80.0, 512, 480


def person(seed: int) -> NDArray[np.float32]:
    """A neutral face of model space."""
    weights = np.random.default_rng(seed).normal(0, 0.7, len(MODEL.identity))
    return (MODEL.mean + np.tensordot(weights, MODEL.identity, 1)).astype(np.float32)


def motion(frames: int, seed: int) -> list[FaceState]:
    rng = np.random.default_rng(seed)
    pose = rng.normal(0, [0.1, 0.15, 0.05, 0.03, 0.1, 0.1], (frames, 6))
    expression = rng.normal(0, MODEL.deviation, (frames, 30))
    rows = np.concatenate([pose, expression], axis=1).astype(np.float32)
    return [FaceState.from_coefficients(row) for row in rows]


def landmarks(neutral: NDArray[np.float32], state: FaceState) -> NDArray[np.float32]:
    vertices = MODEL.vertices(neutral, state.expression)
    return project(vertices, state.pose, unit_px=UNIT_PX, width=WIDTH, height=HEIGHT)


def test_rotations_go_both_ways() -> None:
    rng = np.random.default_rng(2)
    for vector in [*rng.normal(0, 1, (50, 3)), np.zeros(3), np.array([1e-9, 0, 0]), np.array([0, np.pi, 0])]:
        matrix = rotation_matrix(vector)
        assert np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.allclose(rotation_matrix(rotation_vector(matrix)), matrix, atol=1e-7)


def test_turning_the_head_to_the_right_of_the_picture_moves_the_nose_there() -> None:
    nose_tip = 4
    turned = FaceState.from_coefficients(np.concatenate([[0, -0.4, 0], np.zeros(33)]).astype(np.float32))
    assert (
        landmarks(MODEL.mean, turned)[nose_tip, 0]
        > landmarks(MODEL.mean, FaceState.neutral())[nose_tip, 0] + 5
    )


def test_fit_recovers_what_was_drawn() -> None:
    neutral = person(1)
    fitter = Fitter(MODEL, neutral, unit_px=UNIT_PX, width=WIDTH, height=HEIGHT)
    for state in motion(20, seed=3):
        points = landmarks(neutral, state)
        fitted = fitter.fit(points)
        error = np.linalg.norm(landmarks(neutral, fitted)[:, :2] - points[:, :2], axis=1).mean()
        assert error / inter_pupil_px(points) < 0.004
        turn = rotation_matrix(fitted.pose[:3].astype(float)).T @ rotation_matrix(
            state.pose[:3].astype(float)
        )
        assert np.linalg.norm(rotation_vector(turn)) < np.radians(3)


def test_pose_does_not_follow_the_jaw() -> None:
    """Drop the lower face: the head's rotation must hardly change."""
    neutral = person(4)
    fitter = Fitter(MODEL, neutral, unit_px=UNIT_PX, width=WIDTH, height=HEIGHT)
    points = landmarks(neutral, FaceState.neutral())
    dropped = points.copy()
    below = points[:, 1] > points[13, 1]  # under the upper lip
    dropped[below, 1] += 0.25 * UNIT_PX * (points[below, 1] - points[13, 1]) / np.ptp(points[below, 1])
    change = np.degrees(fitter.fit(dropped).pose[:3] - fitter.fit(points).pose[:3])
    assert np.abs(change).max() < 3.0


def test_identity_from_a_clip() -> None:
    neutral = person(5)
    tracks = np.array([landmarks(neutral, s) for s in motion(200, seed=6)])
    found = estimate_neutral(tracks, MODEL)
    assert np.linalg.norm((found - neutral)[:, :2], axis=1).mean() < 0.02
    assert reference_scale(tracks, found, MODEL) == pytest.approx(Fraction(80), rel=0.03)


def test_identity_from_one_smiling_picture_is_nearer_to_the_face_at_rest() -> None:
    smile = FaceState(np.zeros(6, np.float32), np.zeros(30, np.float32))
    smile.expression[:3] = 2 * MODEL.deviation[:3]
    ratios = []
    for seed in range(8):
        neutral = person(seed)
        found = estimate_neutral(landmarks(neutral, smile)[None], MODEL)
        as_it_is = MODEL.vertices(neutral, smile.expression)
        ratios.append(np.linalg.norm(found - neutral) / np.linalg.norm(as_it_is - neutral))
    assert np.mean(ratios) < 0.9


def test_fit_refuses_what_is_not_finite() -> None:
    fitter = Fitter(MODEL, MODEL.mean, unit_px=UNIT_PX, width=WIDTH, height=HEIGHT)
    with pytest.raises(ValueError, match="finite"):
        fitter.fit(np.full((478, 3), np.nan, np.float32))
    with pytest.raises(ValueError, match="no tracked frame"):
        estimate_neutral(np.full((3, 478, 3), np.nan, np.float32), MODEL)


def test_fit_refuses_a_collapsed_face() -> None:
    fitter = Fitter(MODEL, MODEL.mean, unit_px=UNIT_PX, width=WIDTH, height=HEIGHT)
    with pytest.raises(ValueError, match="smaller than a pixel"):
        fitter.fit(np.zeros((478, 3), np.float32))


def test_rest_pose_is_the_middle_one() -> None:
    assert rest_pose(motion(1, seed=1) * 3 + motion(2, seed=2)) == tuple(
        int(v) for v in np.round(1000 * motion(1, seed=1)[0].pose)
    )


def test_training_finds_the_motion_that_was_put_in() -> None:
    """Three people who move along two directions: two components explain it."""
    tracks = []
    for seed in (1, 2, 3):
        neutral = person(seed)
        states = motion(80, seed=seed + 10)
        for state in states:
            state.expression[2:] = 0
        tracks.append(Track(str(seed), np.array([landmarks(neutral, s) for s in states], np.float64)))
    learned = FaceModel.parse(train(tracks))
    assert learned.deviation[1] > 8 * learned.deviation[2]
    assert learned.model_id != MODEL.model_id


def test_damaged_asset() -> None:
    with pytest.raises(MienError, match="damaged"):
        FaceModel.parse(b"MFM1")
    with pytest.raises(MienError, match="shape"):
        FaceModel.parse(b"MFM1" + bytes(8))
