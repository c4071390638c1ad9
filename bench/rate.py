"""`mien bench rate`: kbps against landmark error beside plain codes and video codecs, and what a frame and a call cost."""

import argparse
import contextlib
import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mien.bench.call_cost import CallCost, measure_call
from mien.bench.clip_folder import find_clips
from mien.bench.coefficient_codes import CodeResult, rate_codes
from mien.bench.provenance import provenance
from mien.bench.rate_cache import Cache, file_id, tracking_id
from mien.bench.rate_carriers import CARRIERS, DATACHANNEL
from mien.bench.rate_modes import RateResult, StateCheck, check_states, rate_mode
from mien.bench.rate_quality import ENROLMENT_SHARE, CodedPart, TrackedClip, coded_part, track_clip
from mien.bench.rate_report import check_line, clips_table, medians_table, parity_rows, write_report
from mien.bench.rate_rivals import FRAMES, RATES_KBPS, Footage, RivalBench, RivalResult, chosen, present
from mien.bench.rate_summary import Results, of_codes, of_modes, of_rivals
from mien.bench.rivals import Rival
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
  mien bench rate                                 the embedded test picture, no video codecs
  mien bench rate --clips clips/ --out report/    every clip of a folder: tables, JSON lines, plots, one page
  mien bench rate --clips clips/ --json --no-call --no-speed --rivals none
  mien bench rate --clips clips/ --only anna --rivals 'SVT-AV1 256,VP9' --rates 15,30

With --out a run that was stopped goes on where it was: what is known lies in OUT/cache (landmarks and coded
pictures of the clips' people; delete it when done). With the real-time video codecs a clip takes about a minute on
two cores (37 clips: 35 minutes), with all of them about six.
"""
SYNTHETIC_SECONDS: Final = 20.0
SPEED_FRAMES: Final = 240
CALL_SECONDS: Final = 12.0
ENROL_SECONDS: Final = 8.0
MAX_ENROL_SECONDS: Final = 30.0
MAX_CLIPS_IN_TERMINAL: Final = 12
WIDTH: Final = 110  # of tables in a file or a pipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's arguments."""
    parser.add_argument(
        "--clips", type=Path, metavar="DIR", help="videos to measure (default: the test picture)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="clips whose name holds this, or a,b,c")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write rate.jsonl, rate.html and plots there, and resume"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of tables")
    parser.add_argument("--max-frames", type=int, metavar="N", help="of each clip (default: all)")
    parser.add_argument(
        "--rivals",
        metavar="WHICH",
        help="video codecs: none, realtime, all, or names (default: realtime with --clips, else none)",
    )
    parser.add_argument(
        "--rates",
        metavar="KBPS,...",
        help=f"payload rates for the video codecs (default: {_default_rates()})",
    )
    parser.add_argument(
        "--rival-frames",
        type=int,
        default=FRAMES,
        metavar="N",
        help=f"of a clip's coded part that video codecs get (default: {FRAMES})",
    )
    parser.add_argument("--no-speed", action="store_true", help="skip the sender's and receiver's cost")
    parser.add_argument("--no-call", action="store_true", help="skip the call over loopback")


@dataclass(slots=True)
class _Run:
    """What is to be measured, and what was found so far."""

    options: argparse.Namespace
    clips: list[Path]
    rivals: list[Rival]
    rates_kbps: tuple[float, ...]
    cache: Cache
    modes: list[RateResult] = field(default_factory=list)
    codes: list[CodeResult] = field(default_factory=list)
    videos: list[RivalResult] = field(default_factory=list)
    checks: list[StateCheck] = field(default_factory=list)

    @property
    def results(self) -> Results:
        return Results(self.modes, self.codes, self.videos)


def run(options: argparse.Namespace) -> int:
    """Measure and report. Raises `MienError` where no clip could be measured."""
    console = Console(stderr=True)
    bench = _prepared(options, console)
    _measure(bench, console)
    if not bench.modes:
        raise MienError("no clip with a face in both its parts: nothing to measure")
    rows = _rows(bench)
    first = bench.clips[0] if bench.clips else None
    sender: SenderCost | None = None
    receivers: list[ReceiverSpeed] = []
    if not options.no_speed:
        sender, receivers = _speed(first, console)
        rows.append({"kind": "sender", **asdict(sender), **provenance()})
        rows += [{"kind": "receiver", **asdict(r), **provenance()} for r in receivers]
    call: CallCost | str | None = None
    if not options.no_call:
        call = _call_or_why(first, console)
        if isinstance(call, CallCost):
            rows.append({"kind": "call", **asdict(call), **provenance()})
    sentences = _costs(sender, receivers, call)
    if options.json:
        print("\n".join(json.dumps(row) for row in rows))
    else:
        _tell(bench, sentences)
    if options.out:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (options.out / "rate.jsonl").write_text(lines, encoding="utf-8")
        paths = write_report(options.out, bench.results, bench.checks, sentences, partial(_command, options))
        console.print(f"wrote {options.out / 'rate.jsonl'}, {', '.join(map(str, paths))}")
    return 0


def _prepared(options: argparse.Namespace, console: Console) -> _Run:
    if options.max_frames is not None and options.max_frames < 1:
        raise MienError(f"--max-frames {options.max_frames}: expected 1 or more")
    if options.rival_frames < 1:
        raise MienError(f"--rival-frames {options.rival_frames}: expected 1 or more")
    rivals, lacks = present(chosen(options.rivals or ("realtime" if options.clips else "none")))
    for line in lacks:
        console.print(line)
    if options.out:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MienError(f"--out {options.out} cannot be made: {error.strerror}") from error
    cache = Cache(options.out / "cache" if options.out else None)
    return _Run(
        options,
        find_clips(options.clips, options.only) if options.clips else [],
        rivals,
        _rates_kbps(options.rates),
        cache,
    )


def _rates_kbps(text: str | None) -> tuple[float, ...]:
    try:
        rates = tuple(float(word) for word in text.split(",")) if text else ()
    except ValueError:
        rates = (0.0,)
    if not all(1 <= rate <= 100_000 for rate in rates):
        raise MienError(f"--rates {text}: expected numbers of kbps, as in 15,30")
    return rates


def _default_rates() -> str:
    return "; ".join(
        f"at {size} px {','.join(f'{r:g}' for r in rates)}" for size, rates in RATES_KBPS.items()
    )


def _measure(bench: _Run, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        closing(RivalBench(open_tracker, bench.cache)) as rival_bench,
    ):
        task = progress.add_task("clips", total=max(1, len(bench.clips)))
        for clip in _each(bench.clips):
            name = clip.name if clip else "synthetic"
            progress.update(task, description=f"{name[:28]}: tracking")
            part = coded_part(_tracked(clip, bench))
            if part is None:
                console.print(f"{name}: too few frames with one face, left out")
            else:
                _measure_part(bench, part)
                for what, result in _videos(bench, clip, part, rival_bench):
                    progress.update(task, description=f"{name[:28]}: {what}")
                    bench.videos.append(result)
            progress.advance(task)


def _each(clips: Sequence[Path]) -> Sequence[Path | None]:
    """The clips; without one a `None`, which stands for the test picture."""
    return clips or [None]


def _measure_part(bench: _Run, part: CodedPart) -> None:
    for carrier in CARRIERS:
        bench.modes += [rate_mode(part, quality, carrier) for quality in Quality]
        bench.checks.append(check_states(part, carrier))
    bench.codes += rate_codes(part)


def _videos(
    bench: _Run, clip: Path | None, part: CodedPart, rival_bench: RivalBench
) -> Iterator[tuple[str, RivalResult]]:
    if not bench.rivals:
        return
    clip_id = f"{_clip_id(clip)} {bench.options.max_frames}"
    footage = Footage(partial(_open, clip), part, clip_id, bench.options.rival_frames)
    for size in sorted({rival.size for rival in bench.rivals}):
        yield f"{size} px not coded", rival_bench.uncoded(footage, size)
    for rival in bench.rivals:
        for result in rival_bench.measure(footage, rival, bench.rates_kbps or RATES_KBPS[rival.size]):
            yield f"{rival.name} at {result.target_kbps:g} kbps", result


def _rows(bench: _Run) -> list[dict[str, Any]]:
    """Return the JSON lines: `clip` and `summary` are the data channel's, `carrier` those of the audio carrier."""
    here = provenance()

    def command(**change: str) -> dict[str, str]:
        return {"command": _command(bench.options, **change)}

    def kind(carrier: str, own: str, other: str) -> str:
        return own if carrier == DATACHANNEL.name else other

    rows: list[dict[str, Any]] = []
    for mode in bench.modes:
        again = command(only=mode.clip, rivals="none")
        rows.append({"kind": kind(mode.carrier, "clip", "carrier"), **asdict(mode), **again, **here})
    for code in bench.codes:
        rows.append({"kind": "code", **asdict(code), **command(only=code.clip, rivals="none"), **here})
    for video in bench.videos:
        again = command(only=video.clip, rivals=video.rival, rates=f"{video.target_kbps:g}")
        rows.append({"kind": "rival", **asdict(video), **again, **here})
    rows += [{"kind": "check", **asdict(c), **here} for c in bench.checks]
    for row in of_modes(bench.modes):
        rows.append({"kind": kind(row["carrier"], "summary", "summary_carrier"), **row, **here})
    rows += [{"kind": "summary_code", **row, **here} for row in of_codes(bench.codes)]
    rows += [{"kind": "summary_rival", **row, **here} for row in of_rivals(bench.videos)]
    return rows


def _command(options: argparse.Namespace, **change: str) -> str:
    """Return a command line that measures the same, or a part of it."""
    words = ["mien", "bench", "rate"]
    values = {
        "--clips": options.clips and str(options.clips),
        "--only": change.get("only", options.only) if options.clips else "",
        "--max-frames": options.max_frames,
        "--rivals": change.get("rivals", options.rivals),
        "--rates": change.get("rates", "" if change.get("rivals") == "none" else options.rates),
        "--rival-frames": None if options.rival_frames == FRAMES else options.rival_frames,
    }
    for flag, value in values.items():
        if value:
            words += [flag, str(value)]
    if change or options.no_speed:
        words.append("--no-speed")
    if change or options.no_call:
        words.append("--no-call")
    return shlex.join(words)


def _tracked(clip: Path | None, bench: _Run) -> TrackedClip:
    """Track a clip, or take what an earlier run has found."""
    max_frames: int | None = bench.options.max_frames
    key = ["clip", _clip_id(clip), max_frames, tracking_id()]
    kept = bench.cache.find_clip(key)
    if kept is None:
        with closing(_open(clip)) as source:
            kept = track_clip(source, name=clip.name if clip else "synthetic", max_frames=max_frames)
        bench.cache.keep_clip(key, kept)
    return kept


def _clip_id(clip: Path | None) -> str:
    return file_id(clip) if clip else f"synthetic {SYNTHETIC_SECONDS}"


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


def _call_or_why(clip: Path | None, console: Console) -> CallCost | str:
    """Measure a call, or say why there is none: it must not take with it what was measured before."""
    try:
        return _call(clip, console)
    except MienError as error:
        return f"no figures of a call: {error}"


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


def _costs(
    sender: SenderCost | None, receivers: Sequence[ReceiverSpeed], call: CallCost | str | None
) -> list[str]:
    """Return a line for each thing that a frame and a call cost."""
    lines = []
    if sender:
        lines.append(
            f"sender: {sender.total_ms} ms CPU a frame ({sender.tracking_ms} tracking, {sender.coding_ms} fit and code)"
        )
        codec = sender.codec
        lines.append(
            f"codec: {codec.codec_ms} ms CPU a frame ({codec.encode_ms} encode, {codec.decode_ms} decode); the search for "
            f"cheap residuals {codec.search_ms} ms more, for {codec.search_saves_percent} % fewer bytes than rounding, at some more error"
        )
    for speed in receivers:
        lines.append(
            f"receiver at {speed.size_px} px: {speed.fps} pictures/s, {speed.cpu_ms} ms CPU each ({speed.backend})"
        )
    if isinstance(call, str):
        lines.append(call)
    elif call:
        agreement = "not compared" if call.capture_percent is None else f"{call.capture_percent:+.2f} %"
        lines += [
            (
                f"call of {call.seconds} s on loopback, wire kbps: coefficients {call.coefficients_kbps}, STUN "
                f"{call.stun_kbps}, control {call.control_kbps}, whole uplink {call.uplink_kbps}; back: SACKs "
                f"{call.sack_back_kbps}, whole downlink {call.downlink_kbps}"
            ),
            (
                f"latency, frame stamp to composited picture: {call.latency_median_ms} ms median, "
                f"{call.latency_p95_ms} ms p95; {call.frames_per_s} frames/s sent, {call.pictures_per_s} pictures/s shown"
            ),
            f"meter against capture: {agreement} ({call.capture_note})",
        ]
    return lines


def _tell(bench: _Run, sentences: Sequence[str]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    if len({r.clip for r in bench.modes}) <= MAX_CLIPS_IN_TERMINAL:
        console.print(clips_table(bench.modes))
    console.print(medians_table(bench.results))
    headings, rows = parity_rows(bench.results)
    if rows:
        table = Table(*headings, title="Wire kbps at which video has the error of mien normal")
        for row in rows:
            table.add_row(*map(str, row))
        console.print(table)
    console.print("wire: computed, one way; data channel 93 bytes of headers a message, audio carrier 5 or 6")
    console.print(check_line(bench.modes, bench.checks))
    for sentence in sentences:
        console.print(sentence)
