"""The trackers: whichever is present finds the portrait, follows it, and notices a second face."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from mien.encoder import tracker_choice as choice_module
from mien.encoder.tracker import CROWD_CHECK_US, CrowdWatch, Tracker, largest_first, native_stderr_to_log
from mien.encoder.tracker_choice import FACE_MESH_VERSION, LANDMARKER_VERSION, explain_absence, open_tracker
from mien.protocol.errors import MienError
from mien.protocol.stream import TrackerId

ROOT = Path(__file__).parent.parent
SECOND_PYTHON = ROOT / ".venv-face-mesh" / "bin" / "python"
FRAME_US = 33_333
LEFT_EYE, RIGHT_EYE, CHIN, FOREHEAD, NOSE_TIP = 33, 263, 152, 10, 1  # as the viewer sees them


def portrait() -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = skimage.data.astronaut()
    return picture


def two_people() -> NDArray[np.uint8]:
    face = portrait()[:260, 100:360]
    smaller = cv2.resize(np.pad(face, ((40, 40), (40, 40), (0, 0))), (512, 512))[:, ::-1]
    return np.concatenate([cv2.resize(face, (512, 512)), smaller], axis=1).astype(np.uint8)


@pytest.fixture(scope="module")
def still() -> Iterator[Tracker]:
    yield from opened(still=True)


@pytest.fixture
def following() -> Iterator[Tracker]:
    yield from opened(still=False)


def opened(*, still: bool) -> Iterator[Tracker]:
    try:
        found = open_tracker(still=still)
    except MienError as error:
        pytest.skip(str(error))
    yield found
    found.close()
    found.close()  # twice does no harm


def test_portrait(still: Tracker) -> None:
    faces = still.track(portrait(), 0).faces
    assert len(faces) == 1
    face = faces[0]
    assert face.shape == (478, 3) and face.dtype == np.float32
    # She looks at us from about (224, 115) of 512 x 512, her chin down.
    assert np.abs(face[NOSE_TIP, :2] - (213, 128)).max() < 20
    assert 30 < face[RIGHT_EYE, 0] - face[LEFT_EYE, 0] < 100
    assert face[FOREHEAD, 1] < face[LEFT_EYE, 1] < face[NOSE_TIP, 1] < face[CHIN, 1]
    assert face[NOSE_TIP, 2] < face[LEFT_EYE, 2] - 5  # z grows away from the camera, in pixels
    irises = face[[468, 473], :2]
    eyes = face[[LEFT_EYE, 133, 362, RIGHT_EYE], :2]
    assert eyes[0, 0] < irises[0, 0] < eyes[1, 0] < eyes[2, 0] < irises[1, 0] < eyes[3, 0]


def test_still_pictures_have_no_memory(still: Tracker) -> None:
    first = still.track(portrait(), 0).faces[0]
    assert still.track(np.zeros((300, 400, 3), np.uint8), 0).faces == ()
    assert len(still.track(portrait()[:, ::-1], 0).faces) == 1  # also: a view that is not contiguous
    assert np.array_equal(still.track(portrait(), 0).faces[0], first)


def test_photo_and_clip_measure_alike(still: Tracker, following: Tracker) -> None:
    photo = still.track(portrait(), 0).faces[0]
    for index in range(8):
        clip = following.track(portrait(), index * FRAME_US).faces[0]
    eyes_px = float(np.linalg.norm(photo[468] - photo[473]))
    error = np.linalg.norm(clip[:, :2] - photo[:, :2], axis=1).mean() / eyes_px
    assert error < 0.01


def test_landmarks_scale_with_the_picture(still: Tracker) -> None:
    small = still.track(portrait(), 0).faces[0]
    picture = np.zeros((768, 1000, 3), np.uint8)
    picture[:768, :768] = cv2.resize(portrait(), (768, 768))
    large = still.track(picture, 0).faces[0]
    eyes_px = float(np.linalg.norm(small[468] - small[473]))
    assert np.linalg.norm(large[:, :2] / 1.5 - small[:, :2], axis=1).mean() / eyes_px < 0.03
    assert abs(float(np.ptp(large[:, 2]) / np.ptp(small[:, 2])) - 1.5) < 0.15


def test_movement_is_followed(following: Tracker) -> None:
    start = following.track(portrait(), 0).faces[0]
    for index in range(1, 16):
        face = following.track(np.roll(portrait(), 3 * index, axis=1), index * FRAME_US).faces[0]
    moved = (face - start)[:, :2].mean(0)
    assert abs(moved[0] - 45) < 3 and abs(moved[1]) < 2


def test_second_face_is_noticed_and_forgotten(following: Tracker) -> None:
    alone, crowd = portrait()[:260, 100:360], two_people()
    time_us = 0
    for _ in range(3):
        assert len(following.track(alone, time_us).faces) == 1
        time_us += FRAME_US
    noticed_us: int | None = None
    for _ in range(20):
        faces = following.track(crowd, time_us).faces
        if noticed_us is None and len(faces) == 2:
            noticed_us = time_us
        assert noticed_us is None or len(faces) == 2
        time_us += FRAME_US
    assert noticed_us is not None and noticed_us <= CROWD_CHECK_US + FRAME_US
    widths = [np.ptp(face[:, 0]) for face in faces]
    assert widths[0] > 1.1 * widths[1]
    assert [len(following.track(alone, time_us + i * FRAME_US).faces) for i in range(3)] == [1, 1, 1]


def test_face_that_leaves_and_returns(following: Tracker) -> None:
    black = np.zeros_like(portrait())
    counts = [
        len(following.track(picture, index * FRAME_US).faces)
        for index, picture in enumerate([portrait()] * 3 + [black] * 3 + [portrait()] * 2)
    ]
    assert counts == [1, 1, 1, 0, 0, 0, 1, 1]


def test_cut_to_another_place_loses_no_frame(following: Tracker) -> None:
    for index in range(3):
        following.track(portrait(), index * FRAME_US)
    moved = np.roll(portrait(), 230, axis=1)
    assert len(following.track(moved, 3 * FRAME_US).faces) == 1


def test_any_timestamps(following: Tracker) -> None:
    """A camera's clock, another clip from zero, two frames in a millisecond: never an error."""
    for timestamp_us in (5_000_000, 5_000_001, 5_000_400, 0, 0, 3_600_000_000, 33_333):
        assert len(following.track(portrait(), timestamp_us).faces) == 1


def test_nothing_is_printed(tmp_path: Path) -> None:
    """MediaPipe's lines go to the log. In a process of its own, because the descriptor is what counts."""
    if why := absence():
        pytest.skip(why)
    result = run_script([sys.executable, "-m", "tests.traced_tracker"])
    assert result.stderr == ""


def test_trackers_agree(still: Tracker) -> None:
    """The second tracker, in an environment of its own, measures the same face within a few percent."""
    if still.tracker_id is TrackerId.FACE_MESH:
        pytest.skip(
            "FaceMesh is the main tracker here: all tests run it, and there is no bundle for the other"
        )
    if not SECOND_PYTHON.exists():
        pytest.skip("no .venv-face-mesh: `make test` makes it (with Python 3.12 or older)")
    report = json.loads(run_script([str(SECOND_PYTHON), "-m", "tests.traced_tracker"]).stdout)
    assert report["tracker"] == TrackerId.FACE_MESH and report["mediapipe"] == FACE_MESH_VERSION
    assert report["found"] == 12
    ours = still.track(portrait(), 0).faces[0]
    theirs, followed = np.array(report["still"]), np.array(report["last"])
    eyes_px = float(np.linalg.norm(ours[468] - ours[473]))
    between = np.linalg.norm(theirs[:, :2] - ours[:, :2], axis=1).mean() / eyes_px
    assert 0.001 < between < 0.06  # 0 would mean that both are the same tracker
    assert np.linalg.norm(followed[:, :2] - theirs[:, :2], axis=1).mean() / eyes_px < 0.02


def run_script(command: list[str]) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, timeout=120, check=True
    )


def absence() -> str | None:
    try:
        open_tracker().close()
    except MienError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (None, ["make setup", "no face tracker"]),
        (LANDMARKER_VERSION, ["mien models fetch", "MIEN_MODELS", "face_landmarker.task"]),
        ("1.2.2", ["1.2.2", "reports usage", f"mediapipe=={LANDMARKER_VERSION}"]),
    ],
)
def test_absence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str | None, words: list[str]
) -> None:
    monkeypatch.setattr(choice_module, "mediapipe_version", lambda: version)
    monkeypatch.setattr(choice_module, "find_model", lambda name: None)
    with pytest.raises(MienError) as caught:
        open_tracker()
    assert str(caught.value) == explain_absence(version)
    assert all(word in str(caught.value).replace("report usage", "reports usage") for word in words)


def test_harmed_bundle(tmp_path: Path) -> None:
    if (
        importlib.util.find_spec("mediapipe") is None
        or choice_module.mediapipe_version() != LANDMARKER_VERSION
    ):
        pytest.skip("another tracker is installed here")
    from mien.encoder.tracker_landmarker import FaceLandmarkerTracker

    (tmp_path / "face_landmarker.task").write_bytes(b"not a bundle")
    with pytest.raises(MienError, match="mien models fetch"):
        FaceLandmarkerTracker(tmp_path / "face_landmarker.task")


def test_crowd_watch() -> None:
    watch = CrowdWatch()
    assert watch.due(0)  # the first frame
    watch.saw(1, 0)
    assert not watch.due(CROWD_CHECK_US - 1)
    assert watch.due(CROWD_CHECK_US)
    watch.saw(2, CROWD_CHECK_US)
    assert watch.due(CROWD_CHECK_US + 1)  # every frame while there are several
    watch.saw(1, CROWD_CHECK_US + 1)
    assert not watch.due(CROWD_CHECK_US + 2)
    assert watch.due(5)  # time ran backwards: another clip


def test_largest_first() -> None:
    small, large = np.zeros((478, 3), np.float32), np.zeros((478, 3), np.float32)
    small[0], large[0] = (10, 10, 900), (20, 20, 0)
    assert largest_first([small, large])[0] is large
    assert largest_first([]) == ()


def test_native_lines_go_to_the_log(caplog: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level("DEBUG", logger="mien.encoder.tracker"):
        with native_stderr_to_log():
            os.write(2, b"chatter one\n")
            with native_stderr_to_log():  # nests
                os.write(2, b"chatter two\n")
        os.write(2, b"real\n")
    assert capfd.readouterr().err == "real\n"
    assert "chatter one" in caplog.text and "chatter two" in caplog.text
