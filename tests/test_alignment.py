"""The avatar's face is laid over the camera's: landmarks move by what the two differ, and by no more."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.call.glancing import Glancer
from mien.encoder.alignment import (
    GLANCE_US,
    MOST,
    AligningFitter,
    Glances,
    OwnView,
    can_align,
    columns_of,
    eye_distance,
    glance_size,
)
from mien.models.face_model import FaceModel
from mien.protocol.avatar import parse_avatar, sign_avatar
from mien.protocol.errors import MienError
from mien.protocol.state import FaceState
from tests.avatar_samples import CREATED, TEST_KEY, content, declaration

SIZE = (160, 120)
SEEN_BESIDE = np.array([1.5, -1.0])  # pixels of the view


def landmarks(scale: float = 1.0) -> NDArray[np.float32]:
    """Return the mean face in the middle of a frame of SIZE, times `scale`."""
    out = FaceModel.load().mean * 34.0
    out[:, :2] += np.array(SIZE) / 2
    return np.asarray(out * scale, np.float32)


def skin() -> NDArray[np.uint8]:
    """Return a picture with something to see everywhere."""
    noise = np.random.default_rng(4).normal(size=(SIZE[1], SIZE[0], 3)).astype(np.float32)
    noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2.0), np.float32)
    return np.asarray(np.clip(128 + 60 * noise / noise.std(), 0, 255), np.uint8)


def moved(picture: NDArray[np.uint8], by: NDArray[np.floating]) -> NDArray[np.uint8]:
    matrix = np.array([[1, 0, by[0]], [0, 1, by[1]]], np.float64)
    return np.asarray(cv2.warpAffine(picture, matrix, SIZE, borderMode=cv2.BORDER_REFLECT), np.uint8)


class Echo:
    """A fitter that keeps what it was given, as a pose that says where the face is."""

    def __init__(self) -> None:
        self.given = np.zeros((478, 3), np.float32)

    def fit(self, landmarks: NDArray[np.float32]) -> FaceState:
        if not np.isfinite(landmarks).all():
            raise ValueError("landmarks must be finite")
        self.given = landmarks.copy()
        pose = np.zeros(6, np.float32)
        pose[4:6] = landmarks[:, :2].mean(0)
        return FaceState(pose, FaceState.neutral().expression)


@dataclass(frozen=True)
class Picture:
    rgb: NDArray[np.uint8]
    landmarks: NDArray[np.float32]


class Mirror:
    """Shows the skin where the state says that the face is."""

    def __init__(self) -> None:
        self.size = SIZE
        self.closed = False
        self._rest = landmarks()[:, :2]

    def draw(self, state: FaceState) -> Picture:
        by = state.pose[4:6] - self._rest.mean(0)
        return Picture(moved(skin(), by), np.asarray(self._rest + by, np.float32))

    def close(self) -> None:
        self.closed = True


def made() -> tuple[AligningFitter, Echo, Mirror]:
    fitter, view = Echo(), Mirror()
    return AligningFitter(fitter, lambda: view, width=SIZE[0], height=SIZE[1]), fitter, view


def look(aligning: AligningFitter, face: NDArray[np.float32], rgb: NDArray[np.uint8]) -> None:
    aligning.fit(face)
    assert aligning.last is not None
    aligning.compare(rgb, aligning.last)


def shift_of(aligning: AligningFitter, fitter: Echo, face: NDArray[np.float32]) -> NDArray[np.floating]:
    aligning.fit(face)
    return np.asarray((fitter.given - face)[:, :2].mean(0))


def test_landmarks_come_to_lie_where_the_skin_is_seen() -> None:
    aligning, fitter, _ = made()
    before = shift_of(aligning, fitter, landmarks())
    for _ in range(12):
        look(aligning, landmarks(), moved(skin(), SEEN_BESIDE))
    assert np.abs(before).max() == 0
    assert np.abs(shift_of(aligning, fitter, landmarks()) - SEEN_BESIDE).max() < 0.25


def test_shift_is_in_pixels_of_the_frame() -> None:
    fitter, large = Echo(), landmarks(2.0)

    class Halved(Mirror):
        def draw(self, state: FaceState) -> Picture:
            pose = state.pose.copy()
            pose[4:6] /= 2
            return super().draw(FaceState(pose, state.expression))

    aligning = AligningFitter(fitter, Halved, width=2 * SIZE[0], height=2 * SIZE[1])
    for _ in range(12):
        look(aligning, large, moved(skin(), SEEN_BESIDE))
    assert np.abs(shift_of(aligning, fitter, large) - 2 * SEEN_BESIDE).max() < 0.5


def test_a_picture_of_something_else_teaches_nothing() -> None:
    aligning, fitter, _ = made()
    other = np.asarray(np.random.default_rng(9).integers(0, 255, (SIZE[1], SIZE[0], 3)), np.uint8)
    for _ in range(12):
        look(aligning, landmarks(), other)
    assert np.abs(shift_of(aligning, fitter, landmarks())).max() < 0.5


def test_no_shift_is_larger_than_a_mistake() -> None:
    aligning, fitter, _ = made()
    for _ in range(40):
        look(aligning, landmarks(), moved(skin(), np.array([9.0, 0.0])))
    assert np.linalg.norm(shift_of(aligning, fitter, landmarks())) < 2 * MOST * eye_distance(
        landmarks().astype(np.float64)
    )


def test_what_is_no_face_is_left_to_the_fitter() -> None:
    aligning, _, _ = made()
    with pytest.raises(ValueError, match="finite"):
        aligning.fit(np.full((478, 3), np.nan, np.float32))
    assert aligning.last is None


def test_a_frame_of_another_size_is_refused() -> None:
    aligning, _, _ = made()
    aligning.fit(landmarks())
    assert aligning.last is not None
    with pytest.raises(ValueError, match="compare"):
        aligning.compare(np.zeros((8, 8, 3), np.uint8), aligning.last)


@pytest.mark.parametrize(("made_up", "can"), [((), True), (((3, "a mouth, open"),), False)])
def test_one_photo_says_too_little_to_align_by(made_up: tuple[tuple[int, str], ...], can: bool) -> None:
    signed = sign_avatar(content(), declaration(made_up=made_up), TEST_KEY)
    assert can_align(parse_avatar(signed, now_unix_s=CREATED)) is can


def test_columns_are_a_similarity() -> None:
    points = landmarks().astype(np.float64)
    turned = columns_of(points) @ np.array([0, 0, 0, 0.1])
    middle = points[:, :2] - points[:, :2].mean(0)
    assert np.abs((turned * (middle - middle.mean(0))).sum(1)).max() < 10  # across the way from the middle
    grown = columns_of(points) @ np.array([0, 0, 0.1, 0])
    assert np.corrcoef(grown[:, 0], points[:, 0])[0, 1] > 0.999


def test_glances_are_rare_and_rarer_where_they_cost_much() -> None:
    glances = Glances()
    due = [t for t in range(0, 1_000_000, 33_333) if glances.due(t)]
    assert len(due) == 5
    assert glances.due(2_000_000)
    glances.took(100_000)
    assert not glances.due(2_000_000 + 5 * GLANCE_US)
    assert glances.due(4_100_000)


def test_views_have_the_frame_s_shape_and_are_small() -> None:
    assert glance_size(1280, 720) == (192, 108)
    assert glance_size(100, 100) == (100, 100)


def wait_until(what: Callable[[], bool]) -> bool:
    until = time.monotonic() + 10
    while not what() and time.monotonic() < until:
        time.sleep(0.01)
    return what()


def test_a_glancer_learns_beside_the_frames_and_frees_the_view() -> None:
    aligning, fitter, view = made()
    glancer = Glancer(aligning, SIZE)
    seen = moved(skin(), SEEN_BESIDE)
    times = iter(range(0, 10**9, 10 * GLANCE_US))

    def learned() -> bool:
        aligning.fit(landmarks())
        glancer.offer(seen, next(times))
        return bool(np.abs(shift_of(aligning, fitter, landmarks()) - SEEN_BESIDE).max() < 0.4)

    assert wait_until(learned)
    glancer.stop()
    assert view.closed


def test_without_a_view_the_tracker_is_believed(caplog: pytest.LogCaptureFixture) -> None:
    def none() -> OwnView:
        raise MienError("no OpenGL here")

    fitter = Echo()
    aligning = AligningFitter(fitter, none, width=SIZE[0], height=SIZE[1])
    glancer = Glancer(aligning, SIZE)
    aligning.fit(landmarks())
    glancer.offer(skin(), 0)
    assert wait_until(lambda: "no OpenGL here" in caplog.text)
    assert np.abs(shift_of(aligning, fitter, landmarks())).max() == 0
    glancer.stop()
