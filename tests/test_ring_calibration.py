"""Ring anchors: the prior, what optical flow teaches, bounds."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.encoder.ring_calibration import calibrate_rings
from mien.models.face_model import FaceModel, project
from mien.models.rings import (
    ANCHOR_COUNT,
    RAYS,
    ROW_LENGTH,
    check_rings,
    default_rings,
    ring_offset,
    ring_positions,
)
from mien.protocol.errors import WireError

SIZE, UNIT = 160, 26.0


def pose(x: float = 0.0, yaw: float = 0.0) -> NDArray[np.float32]:
    return np.array([0, yaw, 0, 0, x, 0], np.float32)


def landmarks(posed: NDArray[np.float32]) -> NDArray[np.float32]:
    return project(FaceModel.load().mean, posed, unit_px=UNIT, width=SIZE, height=SIZE)


def texture() -> NDArray[np.uint8]:
    noise = np.random.default_rng(5).integers(0, 256, (SIZE // 4 + 40, SIZE // 4 + 40, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (SIZE + 160, SIZE + 160), interpolation=cv2.INTER_CUBIC), np.uint8)


def test_one_photo_gives_the_prior() -> None:
    rings = calibrate_rings(
        [np.zeros((SIZE, SIZE, 3), np.uint8)], landmarks(pose())[None], pose()[None], unit_px=UNIT
    )
    assert rings.shape == (ANCHOR_COUNT, ROW_LENGTH)
    check_rings(rings)
    still, moved = ring_positions(rings, pose()), ring_positions(rings, pose(x=0.4))
    step = (moved - still)[:, 0].reshape(-1, RAYS)
    assert step[0].min() > 0.25 and step[-1].max() < 0.1 and (np.diff(step.mean(1)) < 0).all()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_flow_teaches_what_follows_the_head(share: float) -> None:
    """A wall that stands still, or a picture that moves as a whole, whatever the prior says."""
    shifts = np.linspace(-0.25, 0.25, 9)
    wall = texture()
    frames = []
    for x in shifts:
        left = 80 - round(share * x * UNIT)
        frames.append(np.ascontiguousarray(wall[80 : 80 + SIZE, left : left + SIZE]))
    poses = np.stack([pose(x) for x in shifts])
    rings = calibrate_rings(frames, np.stack([landmarks(p) for p in poses]), poses, unit_px=UNIT)
    check_rings(rings)
    moved = (ring_positions(rings, pose(0.25)) - ring_positions(rings, pose(-0.25)))[:, 0]
    assert np.median(np.abs(moved - share * 0.5)) < 0.07


def test_hair_follows_a_head_that_goes_far() -> None:
    """A head with its hair before a wall that stands still, a third of the picture to and fro: flow alone loses it."""
    shifts = np.linspace(-1.0, 1.0, 9)
    wall = texture()[:SIZE, :SIZE] // 2
    inside = cv2.circle(np.zeros((SIZE, SIZE), np.uint8), (SIZE // 2, SIZE // 2), 48, 1, -1)
    head = 127 + texture()[80 : 80 + SIZE, 80 : 80 + SIZE] // 2
    frames = []
    for x in shifts:
        step = np.array([[1, 0, round(x * UNIT)], [0, 1, 0]], np.float64)
        mask = cv2.warpAffine(inside, step, (SIZE, SIZE))[..., None]
        frames.append(np.where(mask > 0, cv2.warpAffine(head, step, (SIZE, SIZE)), wall).astype(np.uint8))
    poses = np.stack([pose(x) for x in shifts])
    rings = calibrate_rings(frames, np.stack([landmarks(p) for p in poses]), poses, unit_px=UNIT)
    moved = (ring_positions(rings, pose(0.5)) - ring_positions(rings, pose(-0.5)))[:, 0].reshape(-1, RAYS)
    assert moved[0].min() > 0.8 and moved[0].max() < 1.1


def test_offsets_say_where_a_reference_differs() -> None:
    """Same pose, but everything around the head has moved by 4 pixels in the second reference."""
    wall = texture()
    frames = [np.ascontiguousarray(wall[80 : 80 + SIZE, left : left + SIZE]) for left in (80, 76)]
    poses = np.stack([pose(), pose(x=1e-3)])
    rings = calibrate_rings(
        frames, np.stack([landmarks(p) for p in poses]), poses, unit_px=UNIT, references=[0, 1]
    )
    assert rings.shape == (ANCHOR_COUNT, ROW_LENGTH + 4)
    check_rings(rings)
    apart = (ring_offset(rings, 1) - ring_offset(rings, 0))[:, 0] * UNIT
    assert np.median(apart) == pytest.approx(4, abs=1)
    assert np.array_equal(ring_offset(rings, 2), np.zeros((ANCHOR_COUNT, 2)))


def test_anchors_surround_a_face_at_the_edge_of_the_frame() -> None:
    shifted = pose(x=2.6)  # half of the face is outside
    rings = default_rings(landmarks(shifted), shifted, unit_px=UNIT, width=SIZE, height=SIZE)
    check_rings(rings)
    assert np.isfinite(ring_positions(rings, shifted)).all()


def test_rings_out_of_bounds_are_refused() -> None:
    good = default_rings(landmarks(pose()), pose(), unit_px=UNIT, width=SIZE, height=SIZE)
    check_rings(good)
    for row, value in ((0, np.nan), (4, 65.0), (3, 1.5), (3, -0.1)):
        bad = good.copy()
        bad[7, row] = value
        with pytest.raises(WireError):
            check_rings(bad)
    for shape in (
        (ANCHOR_COUNT, ROW_LENGTH + 1),
        (3, ROW_LENGTH),
        (ANCHOR_COUNT, ROW_LENGTH, 1),
        (ANCHOR_COUNT, 99),
    ):
        with pytest.raises(WireError, match="shape"):
            check_rings(np.zeros(shape, np.float32))


def test_counts_must_agree() -> None:
    with pytest.raises(ValueError, match="as many"):
        calibrate_rings([], np.zeros((0, 478, 3), np.float32), np.zeros((0, 6), np.float32), unit_px=UNIT)
