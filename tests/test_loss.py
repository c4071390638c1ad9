"""The bench of packet loss, on a scripted face that needs no tracker."""

import argparse
import json
import math
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mien.bench import loss
from mien.bench.impairment import Profile
from mien.bench.loss_curve import CodedClip, LossPattern, LossResult, code_clip, measure_loss
from mien.bench.loss_report import draw_loss_plot, summarise, write_loss_page
from mien.bench.rate_quality import TrackedClip
from mien.decoder.playout import PlayoutSettings
from mien.models.face_model import FaceModel, project
from mien.protocol.errors import MienError
from mien.protocol.quantizer import Quality
from mien.protocol.stream import TrackerId

PATH = Profile(delay_us=30_000, jitter_us=10_000)


@cache
def scripted_clip(frames: int = 750) -> TrackedClip:
    """A face that nods and talks, 25 frames a second; it is away for the last third of a second."""
    model = FaceModel.load()
    neutral = np.asarray(model.mean, np.float32)
    landmarks = []
    for number in range(frames):
        expression = np.zeros(30, np.float32)
        expression[:3] = [math.sin(number / 4), math.sin(number / 9), math.cos(number / 13)]
        pose = np.array([0.2 * math.sin(number / 9), 0.3 * math.sin(number / 23), 0, 0, 0, 0], np.float32)
        vertices = model.vertices(neutral, 0.2 * expression)
        landmarks.append(project(vertices, pose, unit_px=60, width=256, height=256))
    track = np.array(landmarks, np.float32)
    track[-8:] = np.nan
    return TrackedClip(
        name="scripted",
        landmarks=track,
        times_us=np.arange(frames, dtype=np.int64) * 40_000,
        rate=Fraction(25),
        width=256,
        height=256,
        tracker=TrackerId.UNKNOWN,
        tracking_ms=0.0,
    )


@cache
def coded() -> CodedClip:
    clip = code_clip(scripted_clip(), Quality.NORMAL)
    assert clip is not None
    return clip


@cache
def measured(kind: str, share: float, seeds: int = 3, margin_us: int = 40_000) -> LossResult:
    settings = PlayoutSettings(margin_us=margin_us)
    return measure_loss(coded(), LossPattern(kind, share), PATH, seeds=seeds, settings=settings)


def test_without_loss_nothing_is_made_up() -> None:
    result = measured("random", 0)
    assert result.lost == 0 and result.concealed == 0
    assert result.pictures > 3 * 300  # of 360 in 12 s
    assert result.nme < 1.2
    assert 230 <= result.delay_ms <= 310  # a batch of 200 ms, the margin, the path and its jitter


def test_loss_costs_and_bursts_cost_more() -> None:
    none, some, much = (measured("random", share, 5) for share in (0, 0.1, 0.3))
    assert some.lost == pytest.approx(0.1, abs=0.05) and much.lost == pytest.approx(0.3, abs=0.1)
    assert none.nme < some.nme < much.nme
    assert 0 < some.concealed < much.concealed < 0.7
    bursts = measured("bursts", 0.3, 5)
    assert bursts.nme > much.nme


def test_the_wait_follows_the_jitter_and_the_margin_comes_on_top() -> None:
    pattern = LossPattern("random", 0)
    calm, jittery, long = (
        measure_loss(coded(), pattern, replace(PATH, jitter_us=jitter_us), seeds=1, settings=settings)
        for jitter_us, settings in (
            (0, PlayoutSettings()),
            (80_000, PlayoutSettings()),
            (80_000, PlayoutSettings(margin_us=120_000)),
        )
    )
    assert calm.concealed == jittery.concealed == long.concealed == 0
    assert calm.delay_ms + 40 < jittery.delay_ms
    assert long.delay_ms > jittery.delay_ms + 90


def test_the_same_seeds_give_the_same_figures() -> None:
    pattern, settings = LossPattern("bursts", 0.2), PlayoutSettings()
    one, other = (measure_loss(coded(), pattern, PATH, seeds=2, settings=settings) for _ in range(2))
    assert one == other


def test_too_little_to_measure() -> None:
    assert code_clip(scripted_clip(30), Quality.NORMAL) is None


def test_means_over_clips_and_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot needs mien[bench]")
    results = [measured("random", 0), measured("random", 0.1, 5), measured("bursts", 0.3, 5)]
    rows = summarise(results)
    assert [(r["pattern"], r["loss"], r["clips"]) for r in rows] == [
        ("random", 0, 1),
        ("random", 0.1, 1),
        ("bursts", 0.3, 1),
    ]
    assert rows[1]["nme"] == results[1].nme
    draw_loss_plot(results, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    write_loss_page(results, tmp_path / "loss.png", tmp_path / "loss.html", "mien bench loss")
    page = (tmp_path / "loss.html").read_text()
    assert "mien bench loss" in page and f"{results[1].nme:.2f}" in page and "data:image/png" in page


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    loss.add_arguments(parser)
    return parser.parse_args(words)


def test_command_prints_a_row_for_each_pattern(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loss, "_track", lambda clip, max_frames: scripted_clip(200))
    assert loss.run(options("--json", "--seeds", "1", "--trace", "lte")) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 2 * 3 * 9 and {r["kind"] for r in rows} == {"clip", "summary"}
    assert rows[0]["path_trace"] == "lte" and rows[0]["delay_ms"] > 200


def test_command_refuses_what_cannot_be_measured(tmp_path: Path) -> None:
    for words in (("--clips", str(tmp_path)), ("--seeds", "0")):
        with pytest.raises(MienError):
            loss.run(options(*words))
