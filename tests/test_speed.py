"""What the bench says about the codec's cost: that it measures what it says, never how long it took."""

import json
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.bench import speed
from mien.bench.drawing_speed import WARM_UP, measure_drawing
from mien.bench.speed import measure_codec
from mien.call.incoming import placeholder
from mien.cli import main
from mien.decoder.recording import Segment, Track
from mien.models.generator_fields import OUTPUT_PLANES
from mien.protocol.avatar import Avatar
from mien.protocol.codec import Batch, MessageDecoder
from mien.protocol.errors import MienError
from mien.protocol.state import FaceState
from tests.picture_fixtures import made_up_avatar, state
from tests.test_scene_painter import header, messages


def moving(frames: int) -> list[FaceState]:
    walk = np.cumsum(np.random.default_rng(1).normal(0, 0.004, (frames, 36)), 0).astype(np.float32)
    return [FaceState.from_coefficients(row) for row in walk]


def test_both_ways_of_coding_are_measured() -> None:
    cost = measure_codec(placeholder(), moving(30), passes=1)
    assert cost.frames == 30
    assert cost.encode_ms > 0 and cost.decode_ms > 0
    assert cost.codec_ms == pytest.approx(cost.encode_ms + cost.decode_ms, abs=0.002)
    assert 2 < cost.search_saves_percent < 40  # chosen residuals take fewer bytes than rounded ones
    assert json.loads(json.dumps(asdict(cost)))["frames"] == 30


def test_every_frame_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 14 frames two full messages and a rest; all of them go through the decoder."""
    decoded: list[int] = []
    decode = MessageDecoder.decode

    def counting(self: MessageDecoder, data: bytes) -> object:
        batch = decode(self, data)
        decoded.append(len(batch.states))
        return batch

    monkeypatch.setattr(MessageDecoder, "decode", counting)
    measure_codec(placeholder(), moving(14), passes=1)
    assert decoded == [6, 6, 2]


def test_nothing_costs_nothing() -> None:
    assert measure_codec(placeholder(), [], passes=1).frames == 0


# --- drawing ------------------------------------------------------------------------------------------------


def short_talk() -> tuple[Avatar, list[Segment]]:
    """Return a made-up avatar that turns its head for a second, and a scene of ten pictures."""
    track = Track()
    track.add(Batch(0, tuple(state(yaw=0.01 * tick) for tick in range(31))))
    return made_up_avatar(), [Segment(header(), track, scene=messages(0, 30))]


class Network:
    """Stands for a generator."""

    device, run_ms = "test", 1.234

    def __call__(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((1, OUTPUT_PLANES, *planes.shape[2:]), np.float32)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "synthetic_talk", short_talk)
    monkeypatch.setattr(speed, "shipped_generator", Network)


def rows(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main(["bench", "speed", "--backend", "numpy", "--json", *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["machine"]
    found: list[dict[str, Any]] = report["rows"]
    return found


def test_every_tier_and_size_is_drawn(known: None, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "--sizes", "48x48,80x45", "--pictures", "5")
    assert [(r["width"], r["height"], r["tier"], r["generator"]) for r in found] == [
        (48, 48, "W", None), (48, 48, "S", None), (48, 48, "S", "test"),
        (80, 45, "W", None), (80, 45, "S", None), (80, 45, "S", "test"),
    ]  # fmt: skip
    assert all(r["pictures"] == 5 and r["fps"] > 0 and r["cpu_ms"] > 0 for r in found)
    assert {r["generator_ms"] for r in found} == {None, 1.23}
    assert {r["renderer"] for r in found} == {"numpy"} and {r["device"] for r in found} == {"NumPy"}


def test_pictures_are_those_of_the_rate(known: None, capsys: pytest.CaptureFixture[str]) -> None:
    for fps, pictures in (("20", 20), ("60", 60)):
        found = rows(capsys, "--sizes", "32x32", "--fps", fps, "--generator", "off", "--pictures", "500")
        assert [r["tier"] for r in found] == ["W", "S"]
        assert all(abs(r["pictures"] - (pictures - WARM_UP)) <= 2 for r in found)


def test_the_table_tells_the_same(known: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "speed", "--backend", "numpy", "--sizes", "32x32", "--pictures", "3"]) == 0
    said = capsys.readouterr().out
    assert "drawing with NumPy" in said and "test, 1.23 ms a scene picture" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sizes", "big"], "256x256,1280x720"),
        (["--sizes", "5x5"], "16 to 4096"),
        (["--log", "talk.mien"], "go together"),
        (["--fps", "0"], "at most 240"),
        (["--generator", "nowhere.onnx"], "expected on, off or an ONNX file"),
    ],
)
def test_refusals(words: list[str], said: str, known: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "speed", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_talk_that_is_too_short_is_not_measured() -> None:
    avatar, segments = short_talk()
    with pytest.raises(MienError, match="too few"):
        measure_drawing(
            avatar, segments, tier="W", size=(32, 32), rate=Fraction(5), pictures=9, backend="numpy"
        )
