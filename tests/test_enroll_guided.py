"""Guided enrolment from a made-up camera: a person who follows gets an avatar, a photo does not."""

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import mien.commands.enroll as command
import mien.commands.enroll_guided as guided
from mien.cli import main
from mien.encoder.appearance import FrameQuality
from mien.encoder.capture import Frame
from mien.encoder.enroll import Footage
from mien.encoder.enrolment_coverage import ITEMS, Item
from mien.encoder.enrolment_guide import REQUESTS, Guide
from mien.encoder.enrolment_script import random_order
from mien.encoder.reference_selection import select_references
from mien.encoder.tracker import Tracking
from mien.protocol.errors import MienError
from mien.protocol.stream import TrackerId
from tests.avatar_samples import portrait
from tests.enrolment_faces import face

SIZE = 192


class Camera:
    """Ten frames a second of the portrait, without waiting; `live`, as a camera is."""

    name, width, height, rate, live = "camera:0", SIZE, SIZE, Fraction(10), True

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[Frame]:
        rgb, _ = portrait()
        picture = np.asarray(cv2.resize(rgb, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.uint8)
        while True:
            yield Frame(picture, self.taken * 100_000, self.taken)
            self.taken += 1

    def close(self) -> None:
        pass


class Stage:
    """A tracker whose face follows the guide's requests half a second later, or does not."""

    tracker_id = TrackerId.UNKNOWN

    def __init__(self, *, follows: bool, still: bool = False) -> None:
        self._follows, self._still = follows, still
        self.guide: Guide | None = None
        self._asked: Item | None = None
        self._since_us = 0

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        if self._still:  # a single picture says nothing of what was asked
            return Tracking(())
        asked = None if self.guide is None else self.guide.script.asked
        if asked is not self._asked:
            self._asked, self._since_us = asked, timestamp_us
        acts = self._follows and asked is not None and timestamp_us >= self._since_us + 500_000
        return Tracking((face(asked if acts and asked is not None else Item.REST),))

    def close(self) -> None:
        pass


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    return tmp_path


def on_stage(monkeypatch: pytest.MonkeyPatch, *, follows: bool) -> Camera:
    camera, stage = Camera(), Stage(follows=follows)

    def made(*arguments: Any, **options: Any) -> Guide:
        stage.guide = Guide(*arguments, **options)
        return stage.guide

    monkeypatch.setattr(command, "open_source", lambda spec: camera)

    def opened(*, still: bool = False) -> Stage:
        return Stage(follows=follows, still=True) if still else stage

    monkeypatch.setattr(command, "open_tracker", opened)
    monkeypatch.setattr(guided, "Guide", made)
    monkeypatch.setattr(guided, "_open_window", lambda size: None)
    return camera


def arguments(home: Path, *more: str) -> list[str]:
    base = ["enroll", "camera", "-o", str(home / "me.avatar"), "--consent", "self", "--no-template"]
    return [*base, "--reference-px", "256", *more]


def test_a_person_who_follows(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = on_stage(monkeypatch, follows=True)
    assert main(arguments(home, "--guided", "--json")) == 0
    assert camera.taken < 200  # done long before the minute is over
    told = capsys.readouterr()
    summary = json.loads(told.out)
    assert {row["grade"] for row in summary["items"]} == {"covered"}
    assert [row["item"] for row in summary["items"]] == [str(item) for item in ITEMS]
    assert summary["advice"] == []
    assert all(text in told.err for text in REQUESTS.values())
    assert (home / "me.avatar").exists()


def test_a_photo_before_the_camera(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = on_stage(monkeypatch, follows=False)
    assert main(arguments(home, "--guided", "--seconds", "30")) == 2
    assert camera.taken == pytest.approx(300, abs=2)
    text = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "did not show a living person who follows the requests: 0 of 4" in text
    assert "mien enroll CLIP --consent self" in text
    assert not (home / "me.avatar").exists()


def test_without_a_terminal_nobody_is_asked(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_stage(monkeypatch, follows=False)
    assert main(arguments(home, "--seconds", "2")) == 0
    told = capsys.readouterr()
    assert REQUESTS[Item.REST] not in told.err
    lines = told.out.splitlines()
    assert any(re.match(r"\s+rest\s+covered .*best at \d\.\d s", line) for line in lines)
    assert any(re.match(r"\s+teeth\s+missing", line) for line in lines)
    assert any("smile broadly" in line for line in lines)


def test_options_that_make_no_sense(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = on_stage(monkeypatch, follows=True)
    assert main(arguments(home, "--guided", "--seconds", "5")) == 2
    assert "needs 30 or more" in capsys.readouterr().err
    monkeypatch.setattr(camera, "live", False, raising=False)
    assert main(arguments(home, "--guided")) == 2
    assert "needs a camera" in capsys.readouterr().err


def test_guided_by_default_in_front_of_a_camera_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    terminal, file = Console(force_terminal=True), Console(force_terminal=False)
    monkeypatch.setattr("sys.stdin", type("Keyboard", (), {"isatty": lambda self: True})())
    camera: Any = Camera()
    assert command._is_guided(None, camera, terminal)
    assert not command._is_guided(False, camera, terminal)
    assert not command._is_guided(None, camera, file)
    camera.live = False
    assert not command._is_guided(None, camera, terminal)


# --- the guide --------------------------------------------------------------------------------------------------


def frame(number: int) -> Frame:
    rgb, _ = portrait()
    return Frame(np.asarray(rgb[:SIZE, :SIZE]), number * 33_333, number)


def test_the_best_picture_of_what_was_asked_is_kept() -> None:
    guide = Guide((Item.REST, Item.MOUTH_OPEN), limit_us=20_000_000)
    kept: list[tuple[int, Item]] = []
    for number in range(200):
        item = Item.REST if number < 60 else Item.MOUTH_OPEN
        kept += [(number, best) for best in guide.see(frame(number), (face(item),))]
        if guide.done:
            break
    assert guide.done
    assert [item for _, item in kept].count(Item.MOUTH_OPEN) == 1  # the same picture again is not better


def test_two_faces_and_none_are_not_followed() -> None:
    guide = Guide(random_order(), limit_us=3_000_000)
    for number, faces in enumerate([(face(), face())] * 50 + [()] * 50):
        assert guide.see(frame(number), faces) == ()
    assert guide.done
    assert not any(answer.answered for answer in guide.answers)
    with pytest.raises(MienError, match="0 of 4"):
        guide.check_alive()


def test_the_live_line_says_how_far_it_is() -> None:
    lines: list[str] = []
    guide = Guide(
        (Item.REST, Item.TEETH),
        limit_us=9_000_000,
        changed=lambda g, _: lines.append(guided.coverage_line(g)),
    )
    for number in range(60):
        guide.see(frame(number), (face(),))
    guide.see(frame(60), ())
    assert lines[0].startswith("○" * 12 + " 0 of 12, 9 s left")
    assert lines[-1].startswith("●" + "○" * 11 + " 1 of 12, 7 s left, no face seen")


def test_the_preview_is_mirrored_and_has_the_text() -> None:
    rgb = np.zeros((90, 160, 3), np.uint8)
    rgb[:, :20] = 200
    shown = guided.draw_preview(rgb, (320, 180), ("Raise your eyebrows.", "3 of 12"))
    assert shown.shape == (180, 320, 3)
    assert shown[10, 310, 0] > 150 > shown[10, 10, 0]
    assert shown[140:, :250].max() > 180


# --- references -------------------------------------------------------------------------------------------------


def test_pinned_pictures_join_the_pool_once_and_in_order() -> None:
    footage = Footage()
    rgb, _ = portrait()
    for number in range(4):
        footage.add(number, rgb, face(), 64, time_us=number)
        if number in (1, 2):
            footage.pin((Item.TEETH, Item.REST) if number == 1 else (Item.TEETH,), rgb, 64)
    footage.pool = [entry for entry in footage.pool if entry[0] in (0, 2)]
    footage.settle()
    assert [entry[0] for entry in footage.pool] == [0, 1, 2]


def test_wanted_frames_survive_thinning() -> None:
    features = np.zeros((30, 12), np.float32)
    features[:, 7:9] = 0.33
    features[10:, 3] = 0.2
    features[20:, 9] = 0.03  # so near to the others that thinning would drop it
    rest = np.zeros(30, np.float32)
    qualities = [FrameQuality(100.0 - i, 0.5, 0.0) for i in range(30)]
    without = select_references(features, rest, qualities, count=8)
    chosen = select_references(features, rest, qualities, count=8, wanted=[25])
    assert 25 in chosen
    assert 25 not in without
