"""`mien bench call`: whole calls over loopback, voice and face on both sides, every byte counted by its cause."""

import argparse
import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console

from mien.bench.call_cases import Case, Role, all_cases
from mien.bench.call_page import astray_note, call_tables, draw_call_plot, left_out_note, write_call_page
from mien.bench.call_rows import Measured, measured
from mien.bench.call_voices import Voices
from mien.bench.called_person import called_person
from mien.bench.packet_capture import PacketCapture
from mien.bench.provenance import provenance
from mien.bench.two_way_call import Person, Side, SideResult, TwoWayCall, two_way_call
from mien.call.opus import VoiceSettings
from mien.call.turns import short_turns
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.errors import MienError

EXAMPLE: Final = """examples:
  mien bench call                                  every case, the test picture and the test voice
  mien bench call --out report/                    also call.jsonl, call.png and call.html
  mien bench call --case "8k/60 on audio" --seconds 30
  mien bench call --input talk.mp4 --voice talk.mp4

Both sides run in this process. The face is tracked before the calls and played into them, since two live trackers
are more than two cores can do; what crosses the wire is the same.
"""
DEFAULT_SECONDS: Final = 20.0
MAX_SECONDS: Final = 600.0
AT_ONCE: Final = 3
MAX_AT_ONCE: Final = 8
TABLE_COLUMNS: Final = 132  # where nobody says how wide the paper is

Pair = tuple[SideResult, SideResult]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's arguments."""
    parser.add_argument(
        "--input", type=Path, metavar="CLIP", help="a clip for the faces (default: the test picture)"
    )
    parser.add_argument(
        "--voice", type=Path, metavar="FILE", help="who speaks, in every case (default: the test voice)"
    )
    parser.add_argument(
        "--case", action="append", metavar="TEXT", help="only cases with this in their name (repeatable)"
    )
    parser.add_argument(
        "--seconds", type=float, default=DEFAULT_SECONDS, help="measured in each call (default: %(default)g)"
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=AT_ONCE,
        metavar="N",
        help="calls at the same time (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write call.jsonl, call.png and call.html there"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")


def run(options: argparse.Namespace) -> int:
    """Call and report. Returns 1 where a call did not come about."""
    cases = chosen_cases(options)
    voices = Voices(options.voice)
    console = Console(stderr=True)
    with console.status("enrolling and tracking"), contextlib.closing(open_tracker()) as tracker:
        person = called_person(options.input, tracker)
    with short_turns():
        rows, note = asyncio.run(measure_cases(cases, person, voices, options, console))
    if not rows:
        raise MienError("no call came about: nothing to report")
    lines = [json.dumps({"kind": "side", **asdict(row), **provenance()}) for row in rows]
    if options.json:
        print("\n".join(lines))
    else:
        out = Console(highlight=False)
        if not out.is_terminal:
            out = Console(width=TABLE_COLUMNS, highlight=False)
        notes = filter(None, (note, left_out_note(rows), astray_note(rows)))
        out.print(*call_tables(rows), *notes, sep="\n")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "call.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        draw_call_plot(rows, options.out / "call.png")
        write_call_page(rows, options.out, note)
        console.print(f"wrote call.jsonl, call.png and call.html in {options.out}", highlight=False)
    return 0 if {row.case for row in rows} == {case.name for case in cases} else 1


def chosen_cases(options: argparse.Namespace) -> list[Case]:
    """Return the cases to measure. Raises `MienError` for options that make no sense."""
    if not 1 <= options.seconds <= MAX_SECONDS:
        raise MienError(f"--seconds {options.seconds:g}: expected 1 to {MAX_SECONDS:g}")
    if not 1 <= options.at_once <= MAX_AT_ONCE:
        raise MienError(f"--at-once {options.at_once}: expected 1 to {MAX_AT_ONCE}")
    cases = list(all_cases())
    if options.case:
        cases = [c for c in cases if any(text in c.name for text in options.case)]
        if not cases:
            raise MienError("no such case; there are: " + "; ".join(c.name for c in all_cases()))
    return cases


async def measure_cases(
    cases: list[Case], person: Person, voices: Voices, options: argparse.Namespace, console: Console
) -> tuple[list[Measured], str]:
    """Make all calls, some at once. Returns the rows in the order of the cases, and a note about the capture."""
    results: dict[str, Pair] = {}
    with_faces = asyncio.Semaphore(options.at_once)
    without_faces = asyncio.Semaphore(2 * options.at_once)  # they take next to no time of the machine
    capture, note = _open_capture()

    async def measure(case: Case) -> None:
        async with with_faces if case.has_faces else without_faces:
            try:
                results[case.name] = await two_way_call(_call(case, person, voices, options.seconds))
            except MienError as error:
                console.print(f"{case.name}: {error}", style="yellow", highlight=False)
                return
            console.print(f"{case.name}: {results[case.name][0].kbps():.2f} kbps", highlight=False)

    with contextlib.ExitStack() as stack:
        if capture is not None:
            stack.callback(capture.close)
        for group in (False, True):
            await asyncio.gather(*(measure(case) for case in cases if case.has_faces is group))
        for case in cases:  # what the machine was too slow for, beside others, is done again without others
            if options.at_once > 1 and (case.name not in results or _lacks(case, results)):
                console.print(f"{case.name}: the machine was too slow, once more alone", highlight=False)
                await measure(case)
    bytes_from: Mapping[int, int] = capture.bytes_from if capture is not None else {}
    return [row for case in cases for row in _rows(case, results, bytes_from)], note


def _rows(
    case: Case, results: Mapping[str, Pair], bytes_from: Mapping[int, int] | None = None
) -> list[Measured]:
    if case.name not in results:
        return []
    return measured(case, results[case.name], results.get(case.without_face or ""), bytes_from or {})


def _lacks(case: Case, results: Mapping[str, Pair]) -> bool:
    return any(row.lacks for row in _rows(case, results))


def _call(case: Case, person: Person, voices: Voices, seconds: float) -> TwoWayCall:
    return TwoWayCall(
        person=person,
        sides=(_side(case.roles[0], 0, voices), _side(case.roles[1], 1, voices)),
        carrier=case.carrier,
        voice=VoiceSettings(case.kbps, case.frame_ms),
        seconds=seconds,
    )


def _side(role: Role, number: int, voices: Voices) -> Side:
    return Side(
        voices.of(role.voice, number),
        muted=role.voice == "muted",
        face=role.face,
        scene_kbps=role.scene_kbps,
    )


def _open_capture() -> tuple[PacketCapture | None, str]:
    try:
        return PacketCapture(), "Compared with a packet socket on loopback, over the whole of each call."
    except (AttributeError, OSError) as error:
        return None, f"Not compared with a capture: no packet socket here ({error}); it needs Linux and root."
