"""The bench of budgets: what it reports of rows, and what the payload's table says."""

import argparse
import io
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mien.bench.budget import BudgetRow, add_arguments, budget_table, report
from mien.bench.payload_cost import REPEATS, CodedPart, mean_and_peak_kbps, message_bytes
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
