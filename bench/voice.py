"""`mien bench voice`: what a voice takes, what cleaning it gives, what losses do to it, how pauses are told."""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mien.bench import voice_measures
from mien.bench.plot_style import COLOURS, png, pyplot
from mien.bench.provenance import provenance
from mien.bench.report_page import ReportPage
from mien.bench.room_sound import NOISES, clear_voice, level
from mien.bench.voice_measures import BLOCK
from mien.call.audio_processing import why_no_processing
from mien.call.sound_file import SoundFile
from mien.protocol.errors import MienError

EXAMPLE: Final = """examples:
  mien bench voice                                  the test voice
  mien bench voice --clips clips/ --out report/     the sound of every clip of a folder: tables, JSON lines, a page
  mien bench voice --only loss --seconds 10
"""
SUFFIXES: Final = (".mp4", ".mov", ".mkv", ".webm", ".wav", ".ogg", ".opus", ".mp3", ".m4a", ".flac")
LEAST_LEVEL: Final = 60.0  # root mean square of 16-bit samples: what is quieter is no voice
LEAST_SECONDS: Final = 4.0
KINDS: Final = ("rate", "noise", "echo", "cost", "loss", "pauses")

Row = dict[str, Any]

# Kind -> what the rows of a table agree on, and what is the median over the clips.
TABLES: Final[dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    "rate": (
        "What a voice takes (pauses: half of the time). Wire: + 50 bytes a packet, reports not counted",
        ("kbps", "frame_ms", "pauses"),
        ("payload_kbps", "wire_kbps", "packets_per_s", "stoi"),
    ),
    "noise": (
        "Noise suppression, understood behind Opus at 12 kbps",
        ("noise", "snr_db"),
        ("measured_db", "stoi_without", "stoi_with", "quieter_db", "runs"),
    ),
    "echo": (
        "Echo cancellation in a room",
        ("delay_ms",),
        (
            "return_loss_db",
            "stoi_without",
            "stoi_with",
            "stoi_alone",
            "stoi_headphones_cancelled",
            "stoi_headphones",
        ),
    ),
    "cost": ("What it costs one core", ("what",), ("us_per_10_ms",)),
    "loss": (
        "Losses, and Opus' repeats",
        ("kbps", "frame_ms", "loss"),
        ("payload_kbps", "payload_kbps_repeating", "stoi", "stoi_repeating"),
    ),
    "pauses": (
        "Pauses told from speech",
        ("noise", "snr_db"),
        ("pauses_sent", "speech_cut"),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's arguments."""
    parser.add_argument(
        "--clips", type=Path, metavar="DIR", help="films or sounds with speech (default: the test voice)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write voice.jsonl, voice.png and voice.html there"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of tables")
    parser.add_argument(
        "--seconds", type=float, default=8.0, metavar="S", help="of each clip at most (default: 8)"
    )
    parser.add_argument("--only", choices=KINDS, action="append", help="measure this alone; may be repeated")
    parser.add_argument(
        "--noise",
        choices=list(NOISES),
        action="append",
        help="to speak in; may be repeated (default: all)",
    )


def run(options: argparse.Namespace) -> int:
    """Measure and report. Raises `MienError` where there is no clip with a voice."""
    if not LEAST_SECONDS <= options.seconds <= 600:
        raise MienError(f"--seconds {options.seconds:g}: expected {LEAST_SECONDS:g} to 600")
    console = Console(stderr=True)
    rows = [{**row, **provenance()} for row in _rows(options, console)]
    if options.json:
        print("\n".join(json.dumps(row) for row in rows))
    else:
        for kind in KINDS:
            _print_table(kind, rows)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (options.out / "voice.jsonl").write_text(lines, encoding="utf-8")
        write_report(rows, options.out)
        console.print(f"wrote voice.jsonl and voice.html to {options.out}")
    return 0


def _rows(options: argparse.Namespace, console: Console) -> Iterator[Row]:
    clips = list(_voices(options.clips, options.seconds, console))
    if not clips:
        raise MienError(
            f"{options.clips} holds no file with {LEAST_SECONDS:g} s of sound ({', '.join(SUFFIXES)})"
        )
    noises = options.noise or list(NOISES)
    kinds = _kinds(options.only or KINDS, console)
    measures: dict[str, Callable[[str, NDArray[np.int16]], Iterator[Any]]] = {
        "rate": voice_measures.rate_rows,
        "noise": lambda clip, sound: voice_measures.noise_rows(clip, sound, noises),
        "echo": voice_measures.echo_rows,
        "loss": voice_measures.loss_rows,
        "pauses": lambda clip, sound: voice_measures.pause_rows(clip, sound, noises),
    }
    with Progress(console=console, disable=not console.is_terminal) as progress:
        for clip, sound in progress.track(clips, description="voices"):
            for kind in kinds:
                if kind in measures:
                    yield from ({"kind": kind, **asdict(row)} for row in measures[kind](clip, sound))
        if "cost" in kinds:
            yield from ({"kind": "cost", **asdict(row)} for row in voice_measures.cost_rows(clips[0][1]))


def _kinds(wanted: Sequence[str], console: Console) -> list[str]:
    missing = why_no_processing()
    if missing:
        console.print(f"noise, echo and cost are left out: {missing}")
    return [kind for kind in wanted if not (missing and kind in ("noise", "echo", "cost"))]


def _voices(folder: Path | None, seconds: float, console: Console) -> Iterator[tuple[str, NDArray[np.int16]]]:
    if folder is None:
        yield "test voice", clear_voice(seconds)
        return
    if not folder.is_dir():
        raise MienError(f"{folder} is no folder")
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
        try:
            file = SoundFile(path)
        except MienError:
            continue  # a film without sound
        sound = file.read(0, round(seconds * 48_000))
        file.close()
        ended = int(np.flatnonzero(sound)[-1]) + 1 if sound.any() else 0
        sound = sound[: ended // BLOCK * BLOCK]
        if len(sound) >= LEAST_SECONDS * 48_000 and level(sound) > LEAST_LEVEL:
            yield path.name, sound
        else:
            console.print(f"{path.name}: no {LEAST_SECONDS:g} s of a voice, left out")


# --- the report ---------------------------------------------------------------------------------------------------


def medians(kind: str, rows: Sequence[Row]) -> list[Row]:
    """Return the medians over the clips of one kind of rows; of what is true or false, the share."""
    _, keys, values = TABLES[kind]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["kind"] == kind:
            groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [
        {
            **dict(zip(keys, group, strict=True)),
            **{value: _middle([m[value] for m in members]) for value in values},
        }
        for group, members in groups.items()
    ]


def _middle(values: Sequence[float | bool]) -> float:
    if all(isinstance(value, bool) for value in values):
        return sum(values) / len(values)
    known = [float(value) for value in values if not np.isnan(value)]
    return median(known) if known else float("nan")


def _cells(kind: str, row: Row) -> list[str | float]:
    _, keys, values = TABLES[kind]
    texts = ["yes" if row[k] is True else "no" if row[k] is False else row[k] for k in keys]
    texts = [
        f"{t:.0%}" if k == "loss" else f"{t:g}" if isinstance(t, float) else t
        for k, t in zip(keys, texts, strict=True)
    ]
    return [*texts, *(row[value] for value in values)]


def _print_table(kind: str, rows: Sequence[Row]) -> None:
    found = medians(kind, rows)
    if not found:
        return
    title, keys, values = TABLES[kind]
    table = Table(
        title=f"{title}; medians over {len({r['clip'] for r in rows if 'clip' in r})} voices",
        title_justify="left",
    )
    for heading in (*keys, *values):
        table.add_column(heading.replace("_", " "), justify="right")
    for row in found:
        cells = _cells(kind, row)
        table.add_row(*(f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells))
    Console(width=140).print(table)


def write_report(rows: Sequence[Row], folder: Path) -> None:
    """Write voice.png and voice.html. Raises `MienError` without matplotlib."""
    page = ReportPage("Voice", "What a voice takes, what cleaning it gives, what losses do to it")
    clips = sorted({row["clip"] for row in rows if "clip" in row})
    page.text(
        f"Medians over {len(clips)} voices: {', '.join(clips)}. stoi: extended short-time objective intelligibility, "
        "1 where everything is understood, measured against what was said."
    )
    plot = _plot(rows)
    if plot is not None:
        (folder / "voice.png").write_bytes(plot)
        page.figure(plot, "Understood: against the rate, in noise, with losses")
    for kind in KINDS:
        found = medians(kind, rows)
        if found:
            title, keys, values = TABLES[kind]
            page.heading(title)
            headings = [name.replace("_", " ") for name in (*keys, *values)]
            page.table(headings, [_cells(kind, row) for row in found], decimals=3)
    page.write(folder / "voice.html")


def _plot(rows: Sequence[Row]) -> bytes | None:
    kinds = [kind for kind in ("rate", "noise", "loss") if medians(kind, rows)]
    if not kinds:
        return None
    draw = {"rate": _draw_rate, "noise": _draw_noise, "loss": _draw_loss}
    figure, axes = pyplot().subplots(1, len(kinds), figsize=(5.2 * len(kinds), 4.2), squeeze=False)
    for axis, kind in zip(axes[0], kinds, strict=True):
        draw[kind](axis, medians(kind, rows))
        axis.set_ylabel("understood (extended STOI)")
        axis.legend(fontsize=9)
    figure.tight_layout()
    return png(figure)


def _draw_rate(axis: Any, found: Sequence[Row]) -> None:
    for frame_ms in sorted({row["frame_ms"] for row in found}):
        points = [r for r in found if r["frame_ms"] == frame_ms and not r["pauses"]]
        axis.plot([r["wire_kbps"] for r in points], [r["stoi"] for r in points], "o-", label=f"{frame_ms} ms")
    axis.set_xlabel("kbps on the wire, speech without pauses")
    axis.set_title("Rate and packet length")


def _draw_noise(axis: Any, found: Sequence[Row]) -> None:
    for index, noise in enumerate(sorted({row["noise"] for row in found})):
        points = [row for row in found if row["noise"] == noise]
        colour = list(COLOURS.values())[index * 2]
        snrs = [r["snr_db"] for r in points]
        axis.plot(snrs, [r["stoi_without"] for r in points], "--", color=colour, label=f"{noise}, as it is")
        axis.plot(snrs, [r["stoi_with"] for r in points], "-", color=colour, label=f"{noise}, suppressed")
    axis.set_xlabel("speech above noise, dB")
    axis.set_title("Noise suppression")


def _draw_loss(axis: Any, found: Sequence[Row]) -> None:
    for index, kbps in enumerate((12.0, 16.0, 24.0)):
        points = [row for row in found if row["kbps"] == kbps and row["frame_ms"] == 60]
        colour = list(COLOURS.values())[index * 2]
        losses = [100 * r["loss"] for r in points]
        axis.plot(losses, [r["stoi"] for r in points], "--", color=colour, label=f"{kbps:g} kbps")
        axis.plot(
            losses, [r["stoi_repeating"] for r in points], "-", color=colour, label=f"{kbps:g} kbps, repeats"
        )
    axis.set_xlabel("packets lost, %")
    axis.set_title("Losses, packets of 60 ms")
