"""The bench of budgets: what it reports of rows, and what the payload's table says."""

import argparse
import asyncio
import io
import json
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from rich.console import Console

from mien.bench.budget import add_arguments, report
from mien.bench.budget_page import budget_table
from mien.bench.budget_rows import BudgetRow
from mien.bench.dearest_window import DearestWindow, Watched, dearer, watch_windows
from mien.bench.payload_cost import REPEATS, CodedPart, mean_and_peak_kbps, message_bytes
from mien.call.wire_cause import CAUSES, Cause
from mien.call.wire_meter import WireMeter
from mien.protocol.quantizer import Quality
from mien.protocol.state import FaceState
from tests.stream_samples import stream_header

ROW = BudgetRow(
    budget_kbps=20,
    voice=True,
    seconds=15,
    plan="voice 10k/120 ms",
    plan_kbps=19.7,
    mean_kbps=17.5,
    most_kbps=19.5,
    voice_kbps=11.2,
    face_kbps=3.3,
    payload_kbps=3.0,
    latency_ms=465,
    changes=0,
    frames_left_out=3,
    stall_ms=140,
    dearest={"audio": 12.5, "coefficients": 4.0, "dtls": 0.25},
)


def test_the_table_says_what_was_sent() -> None:
    file = io.StringIO()
    Console(file=file, width=150).print(budget_table([ROW]))
    assert all(text in file.getvalue() for text in ("20", "17.50", "19.50", "voice 10k/120 ms"))


def test_rows_and_a_picture_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    report([ROW, replace(ROW, voice=False)], parser.parse_args(["--out", str(tmp_path), "--json"]))
    lines = (tmp_path / "budget.jsonl").read_text().splitlines()
    assert [json.loads(line)["most_kbps"] for line in lines] == [19.5, 19.5]
    assert capsys.readouterr().out.splitlines() == lines
    assert (tmp_path / "budget.png").stat().st_size > 5000
    page = (tmp_path / "budget.html").read_text()
    assert "mien bench budget --seconds 15 --face-budgets 20 --budgets<" in page
    assert (
        '<td class="n">16.75</td>' in page and '<td class="n">0.25</td>' in page
    )  # together, and what is rare


def test_a_budget_is_kept_or_not() -> None:
    assert ROW.kept and replace(ROW, most_kbps=20.0).kept and not replace(ROW, most_kbps=20.01).kept


def test_the_dearest_window_of_a_call_and_its_stall() -> None:
    meter = cast(WireMeter, SimpleNamespace(kbps=lambda d, c=None, window_us=0: rates[c]))
    rates: dict[Cause | None, float] = {None: 5.0, Cause.AUDIO: 4.0, Cause.STUN: 1.0} | {
        c: 0.0 for c in CAUSES if c not in (Cause.AUDIO, Cause.STUN)
    }
    seen = dearer(DearestWindow(4.0, {"audio": 4.0}), meter)
    assert seen == DearestWindow(5.0, {"audio": 4.0, "stun": 1.0})
    assert dearer(DearestWindow(6.0), meter) == DearestWindow(6.0)

    async def scenario() -> Watched:
        asyncio.get_running_loop().call_later(0.15, time.sleep, 0.2)
        return await watch_windows([meter], 0.5)

    watched = asyncio.run(scenario())
    assert watched.windows == (seen,)
    assert 100_000 < watched.stall_us < 2_000_000


def moving_part(frames: int) -> CodedPart:
    header = stream_header(unit_px=Fraction(100), width=640, height=480)
    neutral = FaceState.neutral().coefficients()
    rng = np.random.default_rng(1)
    walk = np.cumsum(rng.normal(0, 0.02, (frames, len(neutral))), axis=0).astype(np.float32)
    return CodedPart(header, tuple(FaceState.from_coefficients(neutral + row, tracked=True) for row in walk))


def test_longer_messages_cost_less_and_repeats_more() -> None:
    part = moving_part(96)
    plain = {n: message_bytes(part, Quality.NORMAL, n, None).sum() for n in (2, 6, 16)}
    assert plain[2] > plain[6] > plain[16] > 0
    assert message_bytes(part, Quality.NORMAL, 6, REPEATS["three"]).sum() > plain[6]
    assert message_bytes(part, Quality.LOW, 6, None).sum() < plain[6]


def test_the_dearest_window() -> None:
    sizes = np.zeros(600, np.int64)
    sizes[200:350] = 10  # 5 s of 10 bytes a tick
    mean, peak = mean_and_peak_kbps(sizes, 30.0)
    assert mean == pytest.approx(0.6) and peak == pytest.approx(2.4)
