"""The demo: a call of this machine with itself from end to end, and its parts."""

import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mien.bench.loopback_call import decoded_states, landmark_error
from mien.cli import main
from mien.commands import demo
from mien.encoder.capture import Frame
from mien.encoder.excerpt import Excerpt
from mien.encoder.tracker_choice import open_tracker
from mien.models.face_model import FaceModel, project
from mien.protocol.codec import MessageEncoder
from mien.protocol.errors import MienError
from mien.protocol.quantizer import Quality
from mien.protocol.state import FaceState
from tests.stream_samples import stream_header


@pytest.fixture(scope="module")
def needs_tracker() -> None:
    try:
        open_tracker().close()
    except MienError as error:
        pytest.skip(f"no face tracker: {error}")


def pictures_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.usefixtures("needs_tracker")
def test_three_seconds_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(demo, "SYNTHETIC_ENROL_S", 3.0)
    out, figures_path = tmp_path / "demo.mp4", tmp_path / "figures.json"
    assert main(["demo", "--seconds", "3", "--out", str(out), "--json", str(figures_path)]) == 0

    printed = capsys.readouterr().out
    for words in ("synthetic source", "payload", "wire, forward", "SACK", "NME", "fps", "latency", str(out)):
        assert words in printed, words
    figures = json.loads(figures_path.read_text())
    wire = figures["wire_kbps"]
    assert 0.2 < figures["payload_kbps"] < 2.5
    assert figures["payload_kbps"] + 2 < wire["sent"]["coefficients"] < 8
    assert wire["sent"]["coefficients"] <= wire["sent"]["total"] < 12
    assert wire["received"]["sack"] > 0.5
    assert 0 < figures["nme_percent"]["mean"] < 1.5 and figures["nme_percent"]["frames"] > 10
    assert 100 < figures["latency_ms"]["median"] < 3000  # a batch is 200 ms old; a busy machine is slow
    assert figures["receiver"]["loopback"] is True
    assert figures["sender"]["sent"]["camera_pixels"] == 0 and "video" not in wire["sent"]
    assert not (tmp_path / "home").exists()  # no key, no avatar, nothing is kept

    film = pictures_of(out)
    assert len(film) >= 10
    height, width, _ = film[0].shape
    source, received = film[-1][40 : height - 40, : width // 2], film[-1][40 : height - 40, width // 2 :]
    size = (64, 64)
    one, other = (np.asarray(Image.fromarray(p).resize(size), float).ravel() for p in (source, received))
    assert np.corrcoef(one, other)[0, 1] > 0.9  # the right face at the right place
    right_halves = [
        picture[40 : height - 40, width // 2 :].astype(int) for picture in film[:: len(film) // 5]
    ]
    moved = [np.abs(b - a).mean() for a, b in pairwise(right_halves)]
    assert max(moved) > 1  # and it moves
    sheet = np.asarray(Image.open(out.with_suffix(".png")))
    assert sheet.shape[1] > 3 * 200 and sheet.std() > 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seconds", "0"], "expected 1 to"),
        (["--input", "camera"], "consent"),
        (["--input", "/nowhere/clip.mp4"], "does not exist"),
        (["--avatar", "/nowhere/me.avatar"], "cannot read"),
    ],
)
@pytest.mark.usefixtures("needs_tracker")
def test_what_cannot_be_shown_is_refused(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path / "x.mp4"), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "x.mp4").exists()


class Clip:
    """A source of grey frames whose value is their number."""

    width, height, live, name = 4, 4, False, "clip"

    def __init__(self, frames: int, rate: int = 10) -> None:
        self.rate = Fraction(rate)
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._frames):
            yield Frame(np.full((4, 4, 3), index, np.uint8), round(index * 1e6 / self.rate), index)

    def close(self) -> None:
        pass


def test_excerpt_is_a_source_of_its_own() -> None:
    part = Excerpt(Clip(10), 0.3, 0.7)
    for _ in range(2):  # it can be iterated again
        frames = list(part)
        assert [int(f.rgb[0, 0, 0]) for f in frames] == [3, 4, 5, 6]
        assert [(f.timestamp_us, f.index) for f in frames] == [
            (0, 0),
            (100_000, 1),
            (200_000, 2),
            (300_000, 3),
        ]


def test_the_first_sixty_percent_are_enrolled() -> None:
    split_s, end_s = demo._split(Clip(50))
    assert (split_s, end_s) == (3.0, 5.0)
    enrolled, called = Excerpt(Clip(50), 0, split_s), Excerpt(Clip(50), split_s, end_s)
    assert (len(list(enrolled)), len(list(called))) == (30, 20)


@pytest.mark.parametrize("frames", [0, 1, 22])
def test_a_clip_can_be_too_short(frames: int) -> None:
    with pytest.raises(MienError, match=f"{frames} frames: a demo needs a clip of 2.5 s"):
        demo._split(Clip(frames))


def test_landmark_error_is_in_percent_of_the_pupils_distance() -> None:
    header, model = stream_header(unit_px=Fraction(100), width=640, height=480), FaceModel.load()
    rng = np.random.default_rng(3)
    encoder = MessageEncoder(header, quality=Quality.HIGH, frames_per_message=4)
    messages, truth = [], {}
    for tick in range(8):
        state = FaceState(
            rng.normal(0, 0.1, 6).astype(np.float32), rng.normal(0, 0.05, 30).astype(np.float32)
        )
        message = encoder.push(tick, replace(state, tracked=tick != 5))
        messages += [message] if message else []
        vertices = model.vertices(model.mean, state.expression)
        truth[tick] = project(vertices, state.pose, unit_px=100, width=640, height=480)[:, :2]
    assert len(decoded_states(messages, header)) == 8
    exact = landmark_error(messages, header, truth, model.mean)
    assert exact.frames == 7  # one had no face
    assert 0 < exact.mean_percent < 0.5  # the quantiser's
    pupils_px = np.linalg.norm(truth[0][468] - truth[0][473])
    shifted = landmark_error(
        messages, header, {0: truth[0] + np.array([0.1 * pupils_px, 0], np.float32)}, model.mean
    )
    assert shifted.mean_percent == pytest.approx(10, abs=0.5)
    assert shifted.frames == 1
    lost = landmark_error(messages[1:], header, truth, model.mean)
    assert lost.frames == 3
    assert landmark_error([b"", b"\x10"], header, truth, model.mean).frames == 0
