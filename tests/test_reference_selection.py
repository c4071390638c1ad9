"""Which frames become references: the central one first, then what covers the rest; never blurred or covered ones."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.encoder.appearance import FrameQuality, frame_quality
from mien.encoder.occlusion import occlusion
from mien.encoder.reference_selection import (
    FEATURES,
    NAMES,
    coverage,
    face_features,
    rest_distances,
    select_references,
    upright,
    usable,
)
from mien.models.face_model import FaceModel
from mien.models.rotation import rotation_matrix
from tests.avatar_samples import portrait

GOOD = FrameQuality(sharpness=100.0, exposure=0.5, clipped=0.0)
AT_REST = dict(zip(NAMES, [0, 0, 0, 0.01, 0.8, 0, 0, 0.3, 0.3, 0.5, 0, 0], strict=True))


def face(**changes: float) -> list[float]:
    values = AT_REST | changes
    return [float(values[name]) for name in NAMES]


def choose(rows: list[list[float]], qualities: list[FrameQuality], count: int) -> list[int]:
    return select_references(
        np.array(rows, np.float32), np.zeros(len(rows), np.float32), qualities, count=count
    )


def test_the_central_face_comes_first_then_the_different_ones() -> None:
    different = [face(yaw=25), face(mouth_open=0.5), face(lids_left=0.05, lids_right=0.05), face(yaw=-25)]
    rows = [one for one in different for _ in range(3)]  # a tenth of a second each
    rows += [face(yaw=float(i % 3) / 10) for i in range(200)]  # a long time of doing nothing
    chosen = choose(rows, [GOOD] * len(rows), 5)
    assert chosen[0] >= 12
    assert sorted(i // 3 for i in chosen[1:]) == [0, 1, 2, 3]


def test_fewer_come_back_from_a_still_face() -> None:
    assert len(choose([face()] * 50, [GOOD] * 50, 6)) == 1
    assert choose([face()], [GOOD], 6) == [0]
    with pytest.raises(ValueError, match="0 frames"):
        select_references(np.zeros((0, len(NAMES)), np.float32), np.zeros(0, np.float32), [], count=3)


def test_blurred_dark_and_covered_frames_are_left_out() -> None:
    rows = [face()] * 10 + [face(yaw=20), face(yaw=-20), face(mouth_open=0.4), face(pitch=20)]
    bad = [
        replace(GOOD, sharpness=20.0),
        replace(GOOD, exposure=0.2),
        replace(GOOD, covered=0.2),
        replace(GOOD, clipped=0.5),
    ]
    qualities = [GOOD] * 10 + bad
    assert usable(qualities).tolist() == [True] * 10 + [False] * 4
    assert all(i < 10 for i in choose(rows, qualities, 6))


def test_something_is_usable_even_where_nothing_is_good() -> None:
    terrible = [replace(GOOD, covered=0.9, sharpness=float(i)) for i in range(3)] + [
        replace(GOOD, clipped=0.9)
    ]
    assert usable(terrible).any()


def test_the_same_clip_gives_the_same_references() -> None:
    rng = np.random.default_rng(3)
    rows = [face(yaw=float(a), mouth_open=float(b)) for a, b in rng.uniform(0, 0.5, (80, 2)) * [60, 1]]
    assert choose(rows, [GOOD] * 80, 6) == choose(rows, [GOOD] * 80, 6)


def test_one_open_mouth_and_one_blink_are_not_outvoted() -> None:
    rng = np.random.default_rng(6)
    rows = [
        face(yaw=float(a), pitch=float(b), gaze_x=float(c) / 40, brows=0.5 + float(d) / 100)
        for a, b, c, d in rng.uniform(-15, 15, (300, 4))
    ]
    rows += [face(mouth_open=0.3)] * 3 + [face(lids_left=0.1, lids_right=0.1)] * 3
    chosen = choose(rows, [GOOD] * len(rows), 6)
    assert chosen[0] < 300
    assert {300, 303} <= {300 + 3 * ((i - 300) // 3) for i in chosen if i >= 300}
    assert choose(rows, [GOOD] * len(rows), 1) == chosen[:1]


def test_a_mistracked_frame_does_not_pull() -> None:
    rng = np.random.default_rng(4)
    rows = [face(yaw=float(y)) for y in rng.uniform(-10, 10, 300)] + [face(yaw=500.0)]
    chosen = choose(rows, [GOOD] * 301, 6)
    assert len(chosen) > 2
    spread = [rows[i][0] for i in chosen if i != 300]
    assert min(spread) < -3
    assert max(spread) > 3


def test_features_read_what_the_face_does() -> None:
    mean = FaceModel.load().mean.astype(np.float64)
    mean = mean @ upright(mean).T
    opened = mean.copy()
    opened[14, 1] += 0.2
    turned = np.stack(
        [np.eye(3), rotation_matrix(np.array([0.0, -0.3, 0.0])), rotation_matrix(np.array([0.2, 0, 0]))]
    )
    still = face_features(np.stack([mean] * 3), turned)
    wide = face_features(opened[None], np.eye(3)[None])
    by_name = {name: still[:, i] for i, name in enumerate(NAMES)}
    assert by_name["yaw"] == pytest.approx([0, np.degrees(0.3), 0], abs=0.1)  # the nose to the viewer's right
    assert abs(by_name["pitch"][2]) == pytest.approx(np.degrees(0.2), abs=0.1)
    assert wide[0, NAMES.index("mouth_open")] - still[0, NAMES.index("mouth_open")] == pytest.approx(
        0.2, abs=0.02
    )
    assert np.isfinite(still).all()
    assert still.shape == (3, len(FEATURES))


def test_yaw_and_pitch_have_the_signs_that_they_say() -> None:
    nose_right = rotation_matrix(np.array([0.0, -0.3, 0.0])) @ np.array([0.0, 0.0, -1.0])
    assert nose_right[0] > 0
    down = rotation_matrix(np.array([0.3, 0.0, 0.0]))
    features = face_features(FaceModel.load().mean[None].astype(np.float64), down[None])
    assert (down @ np.array([0.0, 0.0, -1.0]))[1] > 0
    assert features[0, NAMES.index("pitch")] > 0


def test_upright() -> None:
    mean = FaceModel.load().mean.astype(np.float64)
    tilted = mean @ rotation_matrix(np.array([0.3, -0.2, 0.4])).T
    for face_found in (mean, tilted):
        turn = upright(face_found)
        assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-9)
        assert np.linalg.det(turn) == pytest.approx(1)
        straight = face_found @ turn.T
        assert straight[152] - straight[10] == pytest.approx([0, 2.7, 0], abs=0.3)
        assert straight[263, 0] - straight[33, 0] > 1


def test_rest_distance() -> None:
    mean = FaceModel.load().mean
    moved = mean + np.array([0.03, 0.04, 9.0], np.float32)  # depth does not count
    assert rest_distances(np.stack([mean, moved]), mean) == pytest.approx([0, 0.05], abs=1e-5)


def test_coverage() -> None:
    features = np.array([face(yaw=float(y)) for y in range(-50, 51)], np.float32)
    low, high, mine_low, mine_high = coverage(features, [50, 60])["yaw"]
    assert (low, high) == (-48, 48)
    assert (mine_low, mine_high) == (0, 10)


def test_quality_falls_with_blur_and_darkness() -> None:
    rgb, landmarks = portrait()
    sharp = frame_quality(rgb, landmarks)
    blurred = frame_quality(np.asarray(cv2.GaussianBlur(rgb, (0, 0), 3), np.uint8), landmarks)
    dark = frame_quality((rgb * 0.2).astype(np.uint8), landmarks)
    assert blurred.sharpness < 0.1 * sharp.sharpness
    assert dark.exposure == pytest.approx(0.2 * sharp.exposure, rel=0.1)
    assert frame_quality(np.full_like(rgb, 255), landmarks).clipped == 1.0


def test_quality_does_not_depend_on_the_size_of_the_picture() -> None:
    rgb, landmarks = portrait()
    double = np.asarray(cv2.resize(rgb, (512, 512), interpolation=cv2.INTER_CUBIC), np.uint8)
    small, large = frame_quality(rgb, landmarks), frame_quality(double, landmarks * 2)
    assert large.sharpness == pytest.approx(small.sharpness, rel=0.5)


def test_a_face_at_the_border_is_measured_too() -> None:
    rgb, landmarks = portrait()
    for shift in (-300.0, 300.0):
        quality = frame_quality(rgb, landmarks + np.float32(shift))
        assert np.isfinite([quality.sharpness, quality.exposure, quality.clipped]).all()


def test_a_hand_before_the_face() -> None:
    rgb, landmarks = portrait()
    pictures: list[NDArray[np.uint8]] = []
    rng = np.random.default_rng(5)
    for _ in range(20):
        light = rng.uniform(0.9, 1.05)
        pictures.append(np.clip(rgb * light, 0, 255).astype(np.uint8))
    x, y = landmarks[205, :2].astype(int)  # a cheek
    cv2.circle(pictures[7], (int(x), int(y)), 22, (60, 90, 200), -1)
    still = np.zeros((20, len(NAMES)), np.float32)
    share = occlusion(pictures, [landmarks] * 20, still)
    assert share[7] > 0.1
    assert np.delete(share, 7).max() < 0.01
    assert not occlusion(pictures[:5], [landmarks] * 5, still[:5]).any()  # too short to know what is usual


def test_light_that_wanders_with_the_head_covers_nothing() -> None:
    rgb, landmarks = portrait()
    ramp = np.linspace(-1, 1, rgb.shape[1])[None, :, None]
    features = np.zeros((40, len(NAMES)), np.float32)
    features[:8, 0] = np.linspace(25, 10, 8)  # a glance aside, then straight ahead
    pictures = [
        np.clip(rgb * 0.7 * (1 + 0.5 * yaw / 25 * ramp), 0, 255).astype(np.uint8) for yaw in features[:, 0]
    ]
    assert occlusion(pictures, [landmarks] * 40, features[:, :3]).max() < 0.02
    assert (
        occlusion(pictures, [landmarks] * 40, features[:, :3] * 0).max() > 0.1
    )  # without knowing of the turn


def test_a_mouth_and_a_blink_need_no_picture_of_both() -> None:
    # Regions are drawn from one reference each: mouth and lids that do as they like need no picture of each pair.
    gaps, lids = (0.01, 0.15, 0.3, 0.45), (0.3, 0.05)
    rows = [face(mouth_open=g, lids_left=e, lids_right=e) for g in gaps for e in lids for _ in range(3)]
    chosen = choose(rows, [GOOD] * len(rows), 5)
    assert {rows[i][NAMES.index("mouth_open")] for i in chosen} == set(gaps)
    assert {rows[i][NAMES.index("lids_left")] for i in chosen} == set(lids)
