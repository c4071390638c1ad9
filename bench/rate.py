"""`mien bench rate`: kbps against landmark error on clips, what a frame costs, and a real call over loopback."""

import argparse
import contextlib
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mien.bench.call_cost import CallCost, measure_call
from mien.bench.provenance import provenance
from mien.bench.rate_quality import ENROLMENT_SHARE, RateResult, TrackedClip, rate_quality, track_clip
from mien.bench.rate_report import draw_rate_plot
from mien.bench.speed import SIZES_PX, ReceiverSpeed, SenderCost, measure_receiver, measure_sender
from mien.encoder.capture import Frame, Source, open_source
from mien.encoder.enroll import Settings, Window, enroll_in_detail
from mien.encoder.excerpt import Excerpt
from mien.encoder.owner_key import OwnerKey
from mien.encoder.synthetic_source import SyntheticSource
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.avatar import Avatar
from mien.protocol.consent import Consent
from mien.protocol.errors import MienError
from mien.protocol.quantizer import Quality

EXAMPLE: Final = """examples:
  mien bench rate                                 the embedded test picture
  mien bench rate --clips clips/ --out report/    every clip of a folder: table, JSON lines and a plot
  mien bench rate --clips clips/ --json --no-call
"""
CLIP_SUFFIXES: Final = (".mp4", ".webm", ".mov", ".mkv", ".avi")
SYNTHETIC_SECONDS: Final = 20.0
SPEED_FRAMES: Final = 240
CALL_SECONDS: Final = 12.0
ENROL_SECONDS: Final = 8.0
MAX_ENROL_SECONDS: Final = 30.0
MEDIANS: Final = (
    "payload_kbps", "wire_kbps", "coding_nme", "fit_nme", "total_nme", "mouth_nme", "eyes_nme", "tracking_ms",
    "fit_ms", "encode_ms", "decode_ms",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's arguments."""
    parser.add_argument(
        "--clips", type=Path, metavar="DIR", help="videos to measure (default: the test picture)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write rate.jsonl and rate.png there")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of tables")
    parser.add_argument("--max-frames", type=int, metavar="N", help="of each clip (default: all)")
    parser.add_argument("--no-speed", action="store_true", help="skip the sender's and receiver's cost")
    parser.add_argument("--no-call", action="store_true", help="skip the call over loopback")


def run(options: argparse.Namespace) -> int:
    """Measure and report. Exit status 1 where no clip could be measured."""
    console = Console(stderr=True)
    clips = _clips(options.clips)
    results = list(_rates(clips, options, console))
    if not results:
        raise MienError("no clip with a face in both its parts: nothing to measure")
    rows: list[dict[str, Any]] = [{"kind": "clip", **asdict(r), **provenance()} for r in results]
    rows += [{"kind": "summary", **s, **provenance()} for s in summarise(results)]
    sender: SenderCost | None = None
    receivers: list[ReceiverSpeed] = []
    if not options.no_speed:
        sender, receivers = _speed(clips[0] if clips else None, console)
        rows.append({"kind": "sender", **asdict(sender), **provenance()})
        rows += [{"kind": "receiver", **asdict(r), **provenance()} for r in receivers]
    call = None
    if not options.no_call:
        call = _call(clips[0] if clips else None, console)
        rows.append({"kind": "call", **asdict(call), **provenance()})
    if options.json:
        print("\n".join(json.dumps(row) for row in rows))
    else:
        _tell(results, sender, receivers, call)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "rate.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
        draw_rate_plot(results, options.out / "rate.png")
        console.print(f"wrote {options.out / 'rate.jsonl'} and {options.out / 'rate.png'}")
    return 0


def summarise(results: Sequence[RateResult]) -> list[dict[str, Any]]:
    """Return, for each quality, the median over clips of each figure, and the worst payload and error."""
    rows = []
    for quality in Quality:
        chosen = [r for r in results if r.quality == quality.name.lower()]
        if chosen:
            row: dict[str, Any] = {"quality": quality.name.lower(), "clips": len(chosen)}
            row |= {name: round(statistics.median(getattr(r, name) for r in chosen), 4) for name in MEDIANS}
            row["payload_kbps_max"] = max(r.payload_kbps for r in chosen)
            row["total_nme_max"] = max(r.total_nme for r in chosen)
            rows.append(row)
    return rows


def _clips(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise MienError(f"{folder} is no folder: give --clips a folder of videos")
    clips = sorted(p for p in folder.iterdir() if p.suffix.lower() in CLIP_SUFFIXES)
    if not clips:
        raise MienError(f"{folder} holds no video ({', '.join(CLIP_SUFFIXES)})")
    return clips


def _rates(clips: list[Path], options: argparse.Namespace, console: Console) -> Iterator[RateResult]:
    with Progress(console=console, disable=not console.is_terminal) as progress:
        for clip in progress.track(clips or [None], description="clips"):
            tracked = _track(clip, options.max_frames)
            for quality in Quality:
                result = rate_quality(tracked, quality)
                if result is None:
                    console.print(f"{tracked.name}: too few frames with one face, left out")
                    break
                yield result


def _track(clip: Path | None, max_frames: int | None) -> TrackedClip:
    source = _open(clip)
    try:
        return track_clip(source, name=clip.name if clip else "synthetic", max_frames=max_frames)
    finally:
        source.close()


def _open(clip: Path | None) -> Source:
    return open_source(str(clip)) if clip else SyntheticSource(seconds=SYNTHETIC_SECONDS)


def _speed(clip: Path | None, console: Console) -> tuple[SenderCost, list[ReceiverSpeed]]:
    with console.status("measuring what a frame costs"):
        source = _open(clip)
        try:
            rate, frames = source.rate, list(islice(source, SPEED_FRAMES))
        finally:
            source.close()
        avatar = _enrol(frames)
        tracker = open_tracker()
        try:
            cost, sender, messages = measure_sender(frames, tracker, avatar, source_rate=rate)
        finally:
            tracker.close()
        return cost, [measure_receiver(avatar, sender, messages, size) for size in SIZES_PX]


def _call(clip: Path | None, console: Console) -> CallCost:
    with console.status("calling, in real time"), contextlib.closing(open_tracker()) as tracker:
        if clip is None:
            return measure_call(
                SyntheticSource(CALL_SECONDS, start_s=ENROL_SECONDS), SyntheticSource(ENROL_SECONDS), tracker
            )
        times_us = [frame.timestamp_us for frame in open_source(str(clip))]
        split_s = times_us[int(ENROLMENT_SHARE * len(times_us))] / 1e6
        enrolled = Excerpt(open_source(str(clip)), max(0.0, split_s - MAX_ENROL_SECONDS), split_s)
        return measure_call(
            Excerpt(open_source(str(clip)), split_s, split_s + CALL_SECONDS), enrolled, tracker
        )


def _enrol(frames: list[Frame]) -> Avatar:
    """Make an avatar that lives only as long as this measurement."""
    settings = Settings(window=Window(frames=len(frames) // 2))
    consent = Consent.test_fixture(given_unix_s=0)
    return enroll_in_detail(
        frames, consent=consent, name="bench", key=OwnerKey.throw_away(), settings=settings
    ).avatar


def _tell(
    results: Sequence[RateResult],
    sender: SenderCost | None,
    receivers: Sequence[ReceiverSpeed],
    call: CallCost | None,
) -> None:
    console = Console()
    table = Table(title="Payload and wire against landmark error (% of the inter-pupil distance)")
    for heading in (
        "clip",
        "quality",
        "frames",
        "payload kbps",
        "wire kbps",
        "coding",
        "total",
        "mouth",
        "eyes",
    ):
        table.add_column(heading, justify="left" if heading in ("clip", "quality") else "right")
    for r in results:
        table.add_row(r.clip, r.quality, str(r.frames), f"{r.payload_kbps:.2f}", f"{r.wire_kbps:.2f}",
                      f"{r.coding_nme:.2f}", f"{r.total_nme:.2f}", f"{r.mouth_nme:.2f}", f"{r.eyes_nme:.2f}")  # fmt: skip
    for s in summarise(results):
        table.add_section()
        table.add_row(f"median of {s['clips']}", s["quality"], "", f"{s['payload_kbps']:.2f}", f"{s['wire_kbps']:.2f}",
                      f"{s['coding_nme']:.2f}", f"{s['total_nme']:.2f}", f"{s['mouth_nme']:.2f}",
                      f"{s['eyes_nme']:.2f}")  # fmt: skip
    console.print(table)
    console.print("wire: computed, one way, 93 bytes of headers a message on the data channel")
    if sender:
        console.print(
            f"sender: {sender.total_ms} ms CPU a frame ({sender.tracking_ms} tracking, {sender.coding_ms} fit and code)"
        )
    for speed in receivers:
        console.print(
            f"receiver at {speed.size_px} px: {speed.fps} pictures/s, {speed.cpu_ms} ms CPU each ({speed.backend})"
        )
    if call:
        agreement = "not compared" if call.capture_percent is None else f"{call.capture_percent:+.2f} %"
        console.print(
            f"call of {call.seconds} s on loopback, wire kbps: coefficients {call.coefficients_kbps}, STUN "
            f"{call.stun_kbps}, control {call.control_kbps}, whole uplink {call.uplink_kbps}; back: SACKs "
            f"{call.sack_back_kbps}, whole downlink {call.downlink_kbps}"
        )
        console.print(
            f"latency, frame stamp to composited picture: {call.latency_median_ms} ms median, "
            f"{call.latency_p95_ms} ms p95; {call.frames_per_s} frames/s sent, {call.pictures_per_s} pictures/s shown"
        )
        console.print(f"meter against capture: {agreement} ({call.capture_note})")
