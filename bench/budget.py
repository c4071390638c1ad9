"""`mien bench budget`: calls over loopback with a budget, and what they really send, in any five seconds."""

import argparse
import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console

from mien.bench.budget_page import budget_table, draw_budget_plot, write_budget_page
from mien.bench.budget_rows import BudgetRow
from mien.bench.call_cases import Voice
from mien.bench.call_voices import Voices
from mien.bench.called_person import called_person
from mien.bench.provenance import provenance
from mien.bench.two_way_call import Person, Side, SideResult, TwoWayCall, two_way_call
from mien.call.carrier_choice import CarrierWish
from mien.call.opus import VoiceSettings
from mien.call.settings import RateSettings
from mien.call.turns import short_turns
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.errors import MienError
from mien.protocol.quantizer import Quality

EXAMPLE: Final = """examples:
  mien bench budget                            voice and face at 12 to 30 kbps, faces alone at 4 to 8
  mien bench budget --seconds 60 --out report/
  mien bench budget --input talk.mp4 --voice talk.mp4 --budgets 16 20 --faces-alone
"""
BUDGETS_KBPS: Final = (12.0, 16.0, 20.0, 26.0, 30.0)
FACE_BUDGETS_KBPS: Final = (4.0, 6.0, 8.0)
MOST_VOICE: Final = VoiceSettings(16, 40)
FIRST_PICTURE_KBPS: Final = 2000.0  # is not what is measured
SETTLE_S: Final = 8.0  # until the carrier is chosen, and the window of what is measured is full
TABLE_COLUMNS: Final = 150
MAX_SECONDS: Final = 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's arguments."""
    parser.add_argument(
        "--input", type=Path, metavar="CLIP", help="a clip for the faces (default: the test picture)"
    )
    parser.add_argument("--voice", type=Path, metavar="FILE", help="who speaks (default: the test voice)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each call (default: 30)")
    parser.add_argument("--budgets", type=float, nargs="*", default=list(BUDGETS_KBPS), metavar="KBPS")
    parser.add_argument(
        "--face-budgets",
        type=float,
        nargs="*",
        default=list(FACE_BUDGETS_KBPS),
        metavar="KBPS",
        help="for calls in which nobody speaks",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write budget.jsonl, budget.png and budget.html there"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")


def run(options: argparse.Namespace) -> int:
    """Measure and report. Exit status 1 where a budget was not kept."""
    if not 1 <= options.seconds <= MAX_SECONDS:
        raise MienError(f"--seconds {options.seconds:g}: expected 1 to {MAX_SECONDS:g}")
    with contextlib.closing(open_tracker()) as tracker:
        person = called_person(options.input, tracker)
    voices = Voices(options.voice)
    wanted = [(budget, True) for budget in options.budgets] + [(b, False) for b in options.face_budgets]
    rows = []
    with short_turns():
        for budget, speaks in wanted:
            rows += asyncio.run(
                measure_budget(person, voices, budget, speaks=speaks, seconds=options.seconds)
            )
    report(rows, options)
    return int(not all(row.kept for row in rows))


async def measure_budget(
    person: Person, voices: Voices, budget_kbps: float, *, speaks: bool, seconds: float
) -> list[BudgetRow]:
    """Make one call with faces on both sides, and return what each of them sent."""
    voice = Voice.SPEECH if speaks else Voice.MUTED
    sides = tuple(Side(voices.of(voice, i), muted=not speaks, face=True) for i in range(2))
    call = TwoWayCall(
        person,
        (sides[0], sides[1]),
        carrier=CarrierWish.AUTO,
        voice=MOST_VOICE,
        seconds=seconds,
        settle_s=SETTLE_S,
        rate=RateSettings(
            budget_kbps, frozenset(Quality), first_picture_kbps=FIRST_PICTURE_KBPS, follow_link=False
        ),
        whole_avatar=False,
    )
    pair = await two_way_call(call)
    return [_row(side, budget_kbps, speaks=speaks, seconds=seconds) for side in pair]


def _row(side: SideResult, budget_kbps: float, *, speaks: bool, seconds: float) -> BudgetRow:
    rate, sent = side.statistics.rate, side.statistics.sent
    return BudgetRow(
        budget_kbps=budget_kbps,
        voice=speaks,
        seconds=seconds,
        plan=rate.plan,
        plan_kbps=rate.plan_kbps,
        mean_kbps=side.kbps(),
        most_kbps=rate.most_kbps,
        voice_kbps=side.kbps("audio"),
        face_kbps=side.kbps("coefficients"),
        payload_kbps=side.payload_kbps,
        latency_ms=sent.reported_latency_ms,
        changes=len(rate.changes) - 1,
        frames_left_out=sent.frames_left_out,
        stall_ms=side.stall_us / 1000,
        dearest={cause: round(kbps, 4) for cause, kbps in side.dearest.by_cause.items()},
    )


def report(rows: Sequence[BudgetRow], options: argparse.Namespace) -> None:
    """Print, and write where that was asked for."""
    lines = [json.dumps({"kind": "budget", **asdict(row), **provenance()}) for row in rows]
    if options.json:
        print("\n".join(lines))
    else:
        Console(width=TABLE_COLUMNS).print(budget_table(rows))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "budget.jsonl").write_text("\n".join(lines) + "\n")
        draw_budget_plot(rows, options.out / "budget.png")
        write_budget_page(rows, options.out)
