"""`mien bench latency`: from a frame's stamp to its composited picture, stage by stage, on each carrier."""

import argparse
import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from rich.console import Console

from mien.bench.called_person import SYNTHETIC_TAKE_S, enrol, parts
from mien.bench.latency_page import draw_latency_plot, latency_table, skew_table, write_latency_page
from mien.bench.latency_rows import LatencyRow, latency_row
from mien.bench.provenance import provenance
from mien.bench.skew_rows import SkewRow, called_rows, computed_rows
from mien.bench.speech_sound import speech
from mien.bench.timed_call import KeptFrames, TimedCall, timed_call
from mien.call.carrier_choice import CarrierWish
from mien.call.opus import VoiceSettings
from mien.call.turns import short_turns
from mien.encoder.capture import Source
from mien.encoder.owner_key import OwnerKey
from mien.encoder.tracker import Tracker
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.errors import MienError

EXAMPLE: Final = """examples:
  mien bench latency                              the test picture, tracked live
  mien bench latency --out report/ --seconds 20   also latency.jsonl, latency.png and latency.html
  mien bench latency --input talk.mp4 --case audio

Both ends run in this process, over loopback: the network takes next to nothing. Run it on a quiet machine.
"""
DEFAULT_SECONDS: Final = 10.0
MAX_SECONDS: Final = 600.0
TABLE_COLUMNS: Final = 132  # where nobody says how wide the paper is
VOICE_S: Final = 10.0
VOICE_KBPS: Final = 12.0
DATACHANNEL_MS: Final = 300.0
AUDIO_MS: Final = 150.0


@dataclass(frozen=True, slots=True)
class Case:
    """A call. `at_most_ms`: what its median may be, None where nothing is asked."""

    name: str
    carrier: CarrierWish
    frame_ms: int
    speaks: bool = True
    at_most_ms: float | None = None


CASES: Final = (
    Case("data channel", CarrierWish.DATACHANNEL, 60, at_most_ms=DATACHANNEL_MS),
    Case("audio, 20 ms packets", CarrierWish.AUDIO, 20, at_most_ms=AUDIO_MS),
    Case("audio, 40 ms packets", CarrierWish.AUDIO, 40, at_most_ms=AUDIO_MS),
    Case("audio, 60 ms packets", CarrierWish.AUDIO, 60),
    Case("audio, muted", CarrierWish.AUDIO, 60, speaks=False),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's arguments."""
    parser.add_argument(
        "--input", type=Path, metavar="CLIP", help="a clip to track (default: the test picture)"
    )
    parser.add_argument("--case", metavar="TEXT", help="only cases with this in their name")
    parser.add_argument("--no-skew", action="store_true", help="skip how lips and voice lie to one another")
    parser.add_argument(
        "--seconds", type=float, default=DEFAULT_SECONDS, help="measured in each call (default: %(default)g)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write latency.jsonl, latency.png and latency.html there"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")


def run(options: argparse.Namespace) -> int:
    """Measure and report. Returns 1 where a case could not be measured."""
    cases = chosen_cases(options)
    console = Console(stderr=True)
    with contextlib.closing(open_tracker()) as tracker, short_turns():
        with console.status("enrolling"):
            prepared = _prepare(options.input, tracker)
        rows = list(measure_cases(cases, prepared, options.seconds, console))
        skews = [] if options.no_skew else _skews(prepared, options.input, console)
    if not rows:
        raise MienError("no call could be followed: nothing to report")
    lines = [json.dumps({"kind": "latency", **asdict(row), **provenance()}) for row in rows]
    lines += [json.dumps({"kind": "skew", **asdict(row), **provenance()}) for row in skews]
    if options.json:
        print("\n".join(lines))
    else:
        out = Console(highlight=False)
        if not out.is_terminal:
            out = Console(width=TABLE_COLUMNS, highlight=False)
        out.print(latency_table(rows))
        if skews:
            out.print(skew_table(skews))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "latency.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        draw_latency_plot(rows, options.out / "latency.png")
        write_latency_page(rows, skews, options.out)
        console.print(f"wrote latency.jsonl, latency.png and latency.html in {options.out}", highlight=False)
    return 0 if len(rows) == len(cases) else 1


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    """Return the cases to measure. Raises `MienError` for options that make no sense."""
    if not 1 <= options.seconds <= MAX_SECONDS:
        raise MienError(f"--seconds {options.seconds:g}: expected 1 to {MAX_SECONDS:g}")
    cases = [case for case in CASES if not options.case or options.case in case.name]
    if not cases:
        raise MienError("no such case; there are: " + "; ".join(case.name for case in CASES))
    return cases


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Who is seen, by what tracker. Each call takes a source of its own."""

    source: Callable[[], Source]
    tracker: Tracker
    avatar: bytes
    key: OwnerKey


def measure_cases(
    cases: Sequence[Case], prepared: Prepared, seconds: float, console: Console
) -> list[LatencyRow]:
    """Call once for each case, one after the other."""
    voice = speech(VOICE_S)
    rows = []
    for case in cases:
        call = TimedCall(
            source=prepared.source(),
            tracker=prepared.tracker,
            avatar=prepared.avatar,
            signer=prepared.key,
            voice=voice if case.speaks else None,
            carrier=case.carrier,
            voice_settings=VoiceSettings(VOICE_KBPS, case.frame_ms),
            seconds=seconds,
        )
        try:
            result = asyncio.run(timed_call(call))
        except MienError as error:
            console.print(f"{case.name}: {error}", style="yellow", highlight=False)
            continue
        row = latency_row(case.name, case.carrier, case.frame_ms, case.at_most_ms, seconds, result)
        console.print(f"{case.name}: {row.stages['total'].median_ms:.0f} ms", highlight=False)
        rows.append(row)
    return rows


def _skews(prepared: Prepared, clip: Path | None, console: Console) -> list[SkewRow]:
    """Measure lips against voice with the test picture, whose jaw can be told when to open."""

    def avatar() -> tuple[bytes, OwnerKey]:
        if clip is None:
            return prepared.avatar, prepared.key
        key = OwnerKey.throw_away()
        return enrol(parts(None)[0], key, prepared.tracker), key

    with console.status("computing how lips and voice lie to one another"):
        rows = list(computed_rows())
    return rows + list(called_rows(prepared.tracker, avatar, console))


def _prepare(clip: Path | None, tracker: Tracker) -> Prepared:
    enrolled, played = parts(clip)
    key = OwnerKey.throw_away()
    avatar = enrol(enrolled, key, tracker)
    if clip is not None:
        return Prepared(lambda: parts(clip)[1], tracker, avatar, key)
    # Drawing the test picture is not what a camera costs: it is done before.
    frames = list(islice(played, round(SYNTHETIC_TAKE_S * played.rate)))
    return Prepared(lambda: KeptFrames(frames, rate=played.rate, name=played.name), tracker, avatar, key)
