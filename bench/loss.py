"""`mien bench loss`: the shown face's error against packet loss, computed from clips without any waiting."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mien.bench.clip_folder import CLIP_SUFFIXES
from mien.bench.impairment import Profile
from mien.bench.link_trace import TRACES, LinkTrace
from mien.bench.loss_curve import (
    CARRIAGES,
    DATA_CHANNEL,
    PATTERNS,
    Carriage,
    CodedClip,
    LossPattern,
    LossResult,
    code_clip,
    measure_loss,
)
from mien.bench.loss_report import draw_loss_plot, summarise, write_loss_page
from mien.bench.provenance import provenance
from mien.bench.rate import SYNTHETIC_SECONDS
from mien.bench.rate_quality import TrackedClip, track_clip
from mien.call.redundancy import (
    IN_BURSTS_BY_AUDIO,
    IN_BURSTS_BY_CHANNEL,
    NO_REPEATS,
    ON_LOSS,
    Redundancy,
)
from mien.call.settings import MOST_DELAY_WITH_VOICE_US
from mien.decoder.playout import PlayoutSettings
from mien.encoder.capture import open_source
from mien.encoder.synthetic_source import SyntheticSource
from mien.protocol.errors import MienError
from mien.protocol.quantizer import Quality

EXAMPLE: Final = """examples:
  mien bench loss                                  the embedded test picture
  mien bench loss --clips clips/ --out report/     every clip of a folder: table, JSON lines and a plot
  mien bench loss --delay-ms 60 --jitter-ms 40 --margin-ms 240
  mien bench loss --trace edge
"""

WIDTH: Final = 120  # of tables in a pipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's arguments."""
    parser.add_argument(
        "--clips", type=Path, metavar="DIR", help="videos to measure (default: the test picture)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write loss.jsonl and loss.png there")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument("--max-frames", type=int, metavar="N", help="of each clip (default: all)")
    parser.add_argument("--quality", choices=[q.name.lower() for q in Quality], default="normal")
    parser.add_argument(
        "--carrier",
        choices=["datachannel", "audio", "both"],
        default="both",
        help="audio: in packets of 60 ms, and of 40 ms",
    )
    parser.add_argument(
        "--repeats",
        choices=["auto", "on", "off"],
        default="auto",
        help="messages that repeat earlier ones (default: auto, where 3 %% or more are lost, as in a call)",
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="runs of each clip (default: 5)")
    parser.add_argument("--delay-ms", type=int, default=30, metavar="MS", help="of the path (default: 30)")
    parser.add_argument("--jitter-ms", type=int, default=10, metavar="MS", help="on top of it (default: 10)")
    parser.add_argument("--trace", choices=TRACES, help="rate, delay and losses of such a link, too")
    parser.add_argument("--margin-ms", type=int, metavar="MS", help="the playout's (default: the product's)")


def run(options: argparse.Namespace) -> int:
    """Measure and report. Raises `MienError` where no clip could be measured."""
    if options.seeds < 1:
        raise MienError(f"--seeds is {options.seeds}, expected at least 1")
    console = Console(stderr=True)
    results = list(_results(options, console))
    if not results:
        raise MienError("no clip with a face in both its parts: nothing to measure")
    path = {
        "path_delay_ms": options.delay_ms,
        "path_jitter_ms": options.jitter_ms,
        "path_trace": options.trace,
        "playout_margin_ms": _playout(options).margin_us // 1000,
    }
    rows: list[dict[str, Any]] = [{"kind": "clip", **_row(r), **path, **provenance()} for r in results]
    rows += [{"kind": "summary", **s, **path, **provenance()} for s in summarise(results)]
    if options.json:
        print("\n".join(json.dumps(row) for row in rows))
    else:
        _tell(results)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "loss.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
        draw_loss_plot(results, options.out / "loss.png")
        command = f"mien bench loss --clips {options.clips}" if options.clips else "mien bench loss"
        command += f" --seeds {options.seeds}"
        write_loss_page(results, options.out / "loss.png", options.out / "loss.html", command)
        console.print(f"wrote loss.jsonl, loss.png and loss.html in {options.out}")
    return 0


def _row(result: LossResult) -> dict[str, Any]:
    row = asdict(result)
    return {"pattern": row.pop("kind"), **row}


def _results(options: argparse.Namespace, console: Console) -> Iterator[LossResult]:
    clips = _clips(options.clips)
    path = Profile(
        delay_us=1000 * options.delay_ms,
        jitter_us=1000 * options.jitter_ms,
        trace=LinkTrace.named(options.trace) if options.trace else None,
    )
    with Progress(console=console, disable=not console.is_terminal) as progress:
        for clip in progress.track(clips, description="clips"):
            tracked = _track(clip, options.max_frames)
            for carriage in _carriages(options.carrier):
                yield from _losses(tracked, carriage, path, options)


def _losses(
    clip: TrackedClip, carriage: Carriage, path: Profile, options: argparse.Namespace
) -> Iterator[LossResult]:
    coded: dict[Redundancy, CodedClip | None] = {}
    for pattern in PATTERNS:
        redundancy = redundancy_for(options.repeats, carriage, pattern)
        if redundancy not in coded:
            coded[redundancy] = code_clip(clip, Quality[options.quality.upper()], carriage, redundancy)
        chosen = coded[redundancy]
        if chosen is None:
            Console(stderr=True).print(f"{clip.name}: too few frames with one face, left out")
            return
        # As where a voice is there, which waits no longer.
        settings = replace(_playout(options), most_delay_us=MOST_DELAY_WITH_VOICE_US)
        yield measure_loss(chosen, pattern, path, seeds=options.seeds, settings=settings)


def redundancy_for(wanted: str, carriage: Carriage, pattern: LossPattern) -> Redundancy:
    """What messages repeat: as a call decides it, unless the user does."""
    if wanted == "off" or (wanted == "auto" and pattern.share < ON_LOSS):
        return NO_REPEATS
    bursts = pattern.kind == "bursts"
    if carriage is not DATA_CHANNEL:
        return IN_BURSTS_BY_AUDIO if bursts else Redundancy(copies=2)
    return IN_BURSTS_BY_CHANNEL if bursts else Redundancy(copies=1)


def _carriages(wanted: str) -> tuple[Carriage, ...]:
    if wanted == "datachannel":
        return (DATA_CHANNEL,)
    return CARRIAGES if wanted == "both" else tuple(c for c in CARRIAGES if c is not DATA_CHANNEL)


def _playout(options: argparse.Namespace) -> PlayoutSettings:
    settings = PlayoutSettings()
    return settings if options.margin_ms is None else replace(settings, margin_us=1000 * options.margin_ms)


def _clips(folder: Path | None) -> list[Path | None]:
    """Return the videos of a folder; without one a `None`, which stands for the test picture."""
    if folder is None:
        return [None]
    clips = (
        sorted(p for p in folder.iterdir() if p.suffix.lower() in CLIP_SUFFIXES) if folder.is_dir() else []
    )
    if not clips:
        raise MienError(f"{folder} is no folder with videos ({', '.join(CLIP_SUFFIXES)})")
    return [*clips]


def _track(clip: Path | None, max_frames: int | None) -> TrackedClip:
    source = open_source(str(clip)) if clip else SyntheticSource(seconds=SYNTHETIC_SECONDS)
    try:
        return track_clip(source, name=clip.name if clip else "synthetic", max_frames=max_frames)
    finally:
        source.close()


def _tell(results: Sequence[LossResult]) -> None:
    table = Table(
        title="The shown face against the tracked one (% of the inter-pupil distance), means over clips"
    )
    table.add_column("carrier")
    table.add_column("loss")
    for heading in (
        "of packets",
        "clips",
        "error",
        "median",
        "p95",
        "mouth",
        "made up",
        "held",
        "delay ms",
        "payload kbps",
    ):
        table.add_column(heading, justify="right")
    for s in summarise(results):
        table.add_row(
            str(s["carriage"]), str(s["pattern"]), f"{s['loss']:.0%}", str(s["clips"]), f"{s['nme']:.2f}", f"{s['nme_median']:.2f}",
            f"{s['nme_p95']:.2f}", f"{s['mouth_nme']:.2f}", f"{s['concealed']:.1%}", f"{s['held']:.1%}", f"{s['delay_ms']:.0f}",
            f"{s['payload_kbps']:.2f}",
        )  # fmt: skip
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(table)
    console.print(
        "bursts: of 5 packets on average, on the data channel of 5 messages, of 100 ms once bursts are reported; "
        "made up: interpolated or held over a gap; held: shows no later moment than the picture before"
    )
