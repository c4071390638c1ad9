"""Picture metrics: exact on equal pictures, and equal to an independent yardstick where that is at hand."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.bench import akd
from mien.bench.akd import Face, FrameScore, Retracker, score, summarise
from mien.bench.picture_metrics import compared
from mien.decoder.output import VideoSink
from mien.models.store import find_model
from mien.models.topology import EYE_CORNERS, IRIS_CENTRES
from tests.picture_fixtures import smooth_picture

YARDSTICK = Path(__file__).parents[1] / "../shared/yardstick/metrics.py"


def face(seed: int = 0, *, shift: float = 0.0) -> Face:
    rng = np.random.default_rng(seed)
    landmarks = rng.uniform(80, 180, (478, 2))
    landmarks[33], landmarks[263] = (90, 100), (170, 100)
    return Face(landmarks + shift, rng.uniform(0, 1, 52), np.eye(3))


def test_a_picture_equals_itself() -> None:
    picture = smooth_picture(1, 256)
    out = score(picture, picture, face(), face())
    assert out.found and out.akd == out.mouth == out.blendshapes == 0
    assert out.ssim == pytest.approx(1) and out.msssim == pytest.approx(1, abs=1e-4)
    assert out.edge == out.face_edge == 1 and out.gmsd == pytest.approx(0, abs=1e-6)
    assert out.pose_deg == pytest.approx(0, abs=1e-3)


def test_a_shift_is_measured_in_eye_distances() -> None:
    picture = smooth_picture(1, 256)
    out = score(picture, picture, face(), face(shift=0.8))
    assert out.akd == pytest.approx(100 * 0.8 * np.sqrt(2) / 80)


def test_blur_lowers_edge_and_ssim() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    out = score(picture, np.asarray(cv2.GaussianBlur(picture, (9, 9), 2)), face(), None)
    assert not out.found and np.isnan(out.akd)
    assert out.edge < 0.5 and out.ssim < 0.7 and out.gmsd > 0.05


def test_gaze_is_measured_in_eye_widths_along_and_across_the_eye() -> None:
    landmarks = np.zeros((478, 2))
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])  # a head that is tilted
    for centre, (outer, inner) in zip(IRIS_CENTRES, EYE_CORNERS, strict=True):
        landmarks[outer], landmarks[inner] = (0, 0), turn @ (20, 0)
        landmarks[centre] = turn @ (12, 3)
    assert akd.gaze(landmarks) == pytest.approx(np.array([[0.1, 0.15], [0.1, 0.15]]))


def test_eyes_count_lids_and_irises_only() -> None:
    picture = smooth_picture(1, 256)
    again = face()
    again.landmarks[akd.EYE_POINTS] += (0.8, 0)
    out = score(picture, picture, face(), again)
    assert out.eyes == pytest.approx(1) and out.mouth == 0
    assert out.akd == pytest.approx(len(akd.EYE_POINTS) / 478)


def test_turns_are_measured_in_degrees() -> None:
    turned, _ = cv2.Rodrigues(np.array([0, np.radians(12), 0]))
    assert akd.angle_deg(np.eye(3), np.asarray(turned, np.float64)) == pytest.approx(12)


def test_summary_means_and_correlations() -> None:
    def frame(jaw: float, found: bool = True) -> FrameScore:
        extra = {"akd": 2.0, "jaw": (jaw, 0.5 * jaw), "blink": (0.0, jaw)} if found else {}
        return FrameScore(found, 30, 30, 1, 1, 1, 0, 1, 1, **extra)  # type: ignore[arg-type]

    out = summarise([*(frame(x / 10) for x in range(10)), frame(0, found=False)])
    assert out["found"] == pytest.approx(10 / 11, abs=1e-4) and out["akd"] == 2
    assert out["jaw_corr"] == 1
    assert "blink_corr" not in out  # the original never blinked


def jittered(picture: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    turn = cv2.getRotationMatrix2D((128, 128), 1.5 * np.sin(number), 1 + 0.01 * number)
    return np.asarray(cv2.warpAffine(picture, turn, (256, 256)), np.uint8)


def test_agrees_with_the_yardstick(tmp_path: Path) -> None:
    bundle = find_model("face_landmarker")
    pytest.importorskip("mediapipe.tasks")
    if bundle is None or not YARDSTICK.exists():
        pytest.skip("needs the FaceLandmarker bundle and the independent metrics beside the checkout")
    from skimage.data import astronaut

    head = compared(np.ascontiguousarray(astronaut()[0:300, 80:380]), 256)
    files = [tmp_path / "source.mp4", tmp_path / "test.mp4"]
    for path, delay in zip(files, (0, 1), strict=True):
        with VideoSink(path, width=256, height=256, rate=Fraction(25)) as sink:
            for number in range(10):
                sink.write(jittered(head, number + delay))
    command = [sys.executable, str(YARDSTICK), *map(str, files), "--task", str(bundle), "--step", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=dict(os.environ), timeout=120
    )
    wanted = json.loads(done.stdout.strip().splitlines()[-1])
    with Retracker(bundle) as retracker:
        ours = summarise([
            score(a, b, seen, retracker.face(b))
            for a, b in zip(*(decoded(path) for path in files), strict=True)
            if (seen := retracker.face(a)) is not None
        ])  # fmt: skip
    names = {"bse": "blendshapes"} | {
        n: n for n in ("psnr", "face_psnr", "ssim", "face_ssim", "msssim", "gmsd", "edge", "face_edge", "found", "akd",
                       "mouth", "pose_deg")
    }  # fmt: skip
    for theirs, mine in names.items():
        assert ours[mine] == pytest.approx(wanted[theirs], rel=2e-3, abs=2e-4), mine
    assert wanted["akd"] > 0.3  # there was something to measure


def decoded(path: Path) -> list[NDArray[np.uint8]]:
    import av

    with av.open(str(path)) as container:
        return [np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in container.decode(video=0)]
