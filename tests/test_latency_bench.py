"""`mien bench latency`: stages from stamps, and short calls whose pictures are followed; sums, never durations."""

import asyncio
import json
import random
from collections import Counter
from dataclasses import asdict, astuple, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mien.bench.latency_page import (
    draw_latency_plot,
    latency_table,
    left_out_note,
    skew_table,
    write_latency_page,
)
from mien.bench.latency_rows import LatencyRow, latency_row
from mien.bench.latency_stages import STAGES, FrameTimes, MessageTimes, Stages, Stopwatch, summarise
from mien.bench.skew_rows import computed_rows, skew_row
from mien.bench.speech_sound import speech
from mien.bench.timed_call import KeptFrames, TimedCall, TimedResult, timed_call
from mien.call.carrier_choice import CarrierWish
from mien.call.face_view import ViewSettings
from mien.call.opus import VoiceSettings
from mien.cli import main
from mien.protocol.control import Carrier
from tests.avatar_samples import TEST_KEY
from tests.call_samples import PortraitSource, PortraitTracker, avatar_file


def stopwatch() -> Stopwatch:
    """Ticks 0 to 5, a frame each 33 ms; frame 3 was left out, so that the sender filled its tick in."""
    watch = Stopwatch()
    for tick in (0, 1, 2, 4, 5):
        stamp_us = 1_000_000 + 33_000 * tick
        watch.on_frame(tick, FrameTimes(stamp_us, stamp_us + 8_000, stamp_us + 10_000))
    watch.on_message(range(3), MessageTimes(1_090_000, 1_091_000))
    watch.on_message(range(2, 6), MessageTimes(1_180_000, 1_181_000))  # tick 2 again
    return watch


def test_the_stages_of_a_picture_between_two_frames() -> None:
    stages = stopwatch().stages(Fraction(5, 4), render_us=1_120_000, composited_us=1_126_000)
    assert stages == Stages(
        interpolation=24_750,  # the shown moment is a quarter of the way from frame 1 to frame 2
        tracking=8_000,
        coding=2_000,
        leaving=1_090_000 - 1_076_000,
        network=1_000,
        playout=29_000,
        drawing=6_000,
    )
    assert stages.total == 1_126_000 - (1_033_000 + 8_250)


def test_a_moment_on_a_tick_needs_no_later_frame() -> None:
    stages = stopwatch().stages(Fraction(2), render_us=1_120_000, composited_us=1_126_000)
    assert stages is not None and stages.interpolation == 0
    assert stages.total == 1_126_000 - 1_066_000


def test_a_filled_tick_is_between_the_frames_around_it() -> None:
    stages = stopwatch().stages(Fraction(3), render_us=1_200_000, composited_us=1_206_000)
    assert stages is not None and stages.interpolation == 33_000
    assert stages.total == 1_206_000 - 1_099_000


def test_what_is_not_known_has_no_stages() -> None:
    watch = stopwatch()
    for tick in (Fraction(11, 2), Fraction(40), Fraction(-3, 2)):
        assert watch.stages(tick, render_us=2_000_000, composited_us=2_006_000) is None
    # a picture made before the message of the frame that it would be drawn towards cannot stand on it
    assert watch.stages(Fraction(9, 2), render_us=1_180_500, composited_us=1_190_000) is None


def pictures(count: int) -> tuple[Stages, ...]:
    chance = random.Random(7)
    return tuple(Stages(*(chance.randrange(50_000) for _ in STAGES)) for _ in range(count))


def test_means_add_up() -> None:
    some = pictures(100)
    summary = summarise(some)
    assert list(summary) == [*STAGES, "total"]
    assert sum(summary[name].mean_ms for name in STAGES) == pytest.approx(summary["total"].mean_ms, abs=0.05)
    assert summary["total"].mean_ms == pytest.approx(sum(p.total for p in some) / 100_000, abs=0.01)
    drawing = sorted(p.drawing for p in some)
    assert drawing[49] / 1000 <= summary["drawing"].median_ms <= drawing[50] / 1000 + 0.01
    assert drawing[94] / 1000 <= summary["drawing"].p95_ms + 0.01
    with pytest.raises(ValueError, match="no pictures"):
        summarise(())


@pytest.mark.parametrize("carrier", [CarrierWish.DATACHANNEL, CarrierWish.AUDIO])
def test_pictures_of_a_call_are_followed(carrier: CarrierWish) -> None:
    call = TimedCall(
        PortraitSource(4),
        PortraitTracker(),
        avatar_file(),
        TEST_KEY,
        speech(1.0),
        carrier,
        VoiceSettings(12, 40),
        ViewSettings(longest_px=64),
        seconds=2.0,
        settle_s=3.0 if carrier is CarrierWish.AUDIO else 0.5,
    )
    result = asyncio.run(asyncio.wait_for(timed_call(call), 60))
    wanted = Carrier.AUDIO if carrier is CarrierWish.AUDIO else Carrier.DATACHANNEL
    assert result.by_carrier[wanted] > 3
    assert len(result.pictures) > 5
    for picture in result.pictures:
        assert all(stage >= 0 for stage in astuple(picture)), picture


def test_frames_in_memory_are_a_source() -> None:
    frames = list(PortraitSource(0.2))
    source = KeptFrames(frames, rate=Fraction(30), name="kept")
    assert (source.width, source.height, list(source), list(source)) == (128, 128, frames, frames)


def row(**changes: object) -> LatencyRow:
    result = TimedResult(pictures(50), 3, Counter({Carrier.AUDIO: 20}), 29.94, 0, 30.0)
    made = latency_row("audio, 40 ms packets", CarrierWish.AUDIO, 40, 150.0, 10.0, result)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_rows_and_reports(tmp_path: Path) -> None:
    made = row()
    total = made.stages["total"]
    assert made.kept is (total.median_ms <= 150)
    data = json.loads(json.dumps(asdict(made)))
    assert data["stages"]["total"]["median_ms"] == total.median_ms and data["frames_per_s"] == 29.9
    console = Console(record=True, width=132, file=(tmp_path / "table.txt").open("w"))
    console.print(latency_table([made]))
    text = console.export_text()
    assert f"{made.stages['playout'].mean_ms:.1f}" in text and f"{total.p95_ms:.0f}" in text
    pytest.importorskip("matplotlib")
    draw_latency_plot([made], tmp_path / "latency.png")
    skew = skew_row("call", "audio", 60, 40, 190.0, np.array([3.0, -60.0, 4.0]))
    assert (skew.tones, skew.median_ms, skew.worst_ms, skew.kept) == (3, 3.0, -60.0, True)
    assert skew.face_ms == 160.0  # without the path's 30 ms
    assert not skew_row("computed", "audio", 60, 40, 190.0, np.array([3.0, -60.0, 4.0])).kept
    console.print(skew_table([skew]))
    assert "-60" in console.export_text()
    write_latency_page([made], [skew], tmp_path)
    page = (tmp_path / "latency.html").read_text()
    assert f"{total.median_ms:.1f}" in page and "what evens out" in page and "data:image/png" in page
    assert "-60.0" in page


def test_skews_of_computed_calls() -> None:
    """Short ones: that every carrier and jitter has a row; what they may be is for other tests."""
    rows = list(computed_rows(seconds=11.0))
    carriers = ("datachannel", "audio")
    assert [(r.carrier, r.frame_ms, r.jitter_ms) for r in rows] == [
        *((carrier, 60, jitter_ms) for carrier in carriers for jitter_ms in (0, 40, 80)),
        *(("audio", frame_ms, 0) for frame_ms in (40, 20)),
    ]
    assert all(r.how == "computed" and r.tones > 0 and r.kept for r in rows)
    with pytest.raises(ValueError, match="no tones"):
        skew_row("computed", "audio", 60, 0, 190.0, np.zeros(0))


def test_a_slow_machine_is_told() -> None:
    assert left_out_note([row()]) == ""
    assert "too slow" in left_out_note([row(frames_left_out=40)])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seconds", "0"], "expected 1 to 600"),
        (["--case", "pigeon"], "there are: data channel; audio, 20 ms"),
    ],
)
def test_options_that_make_no_sense(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "latency", *arguments]) == 2
    assert words in capsys.readouterr().err
