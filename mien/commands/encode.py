"""`mien encode`: a clip and an avatar in, a coefficient log out."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import mien
from mien.commands.avatar_files import read_avatar
from mien.commands.log_report import report_log
from mien.decoder.recording import read_recording
from mien.encoder.capture import Frame, Source, open_source
from mien.encoder.identity import watched
from mien.encoder.sender import FaceSender, SenderCounts
from mien.encoder.stream_setup import ENOUGH_FACES, make_fitter, make_stream_header, owner_fingerprint
from mien.encoder.tracker import Tracker, Tracking
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.avatar import Avatar
from mien.protocol.errors import MienError
from mien.protocol.log import LogHeader, LogWriter, Origin, SourceFrame, open_log
from mien.protocol.quantizer import Quality

EXAMPLE: Final = """examples:
  mien encode talk.mp4 --avatar me.avatar -o talk.mien
  mien encode talk.mp4 --avatar me.avatar -o talk.mien --quality high --json
  mien enroll talk.mp4 --until 0.6 -o me.avatar --consent self && mien encode talk.mp4 --from 0.6 --avatar me.avatar -o talk.mien
"""
# The stream's scale and rest pose come from its first faces; that many frames are looked at for them.
MAX_LOOK_AHEAD: Final = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("clip", metavar="CLIP", help="a video, a photo, a folder of images, or camera[:N]")
    parser.add_argument(
        "--avatar", required=True, metavar="FILE", help="the avatar of the person in the clip"
    )
    parser.add_argument(
        "-o", "--out", dest="output", required=True, metavar="FILE", help="the log to write (.mien)"
    )
    parser.add_argument(
        "--quality", choices=[q.name.lower() for q in Quality], default="normal", help="default: normal"
    )
    parser.add_argument("--scene", type=float, metavar="KBPS", help="a scene layer of so many kbps (not yet)")
    parser.add_argument(
        "--from",
        dest="begin",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="leave out the first part of the clip, such as 0.6 of it",
    )
    parser.add_argument("--json", action="store_true", help="report as one JSON line")


def run(options: argparse.Namespace) -> int:
    """Run the verb."""
    if options.scene is not None:
        raise MienError("--scene: the scene layer is not there yet; leave the option out")
    refuse_same_file(options.clip, options.output)
    avatar = read_avatar(options.avatar).avatar
    if avatar is None:
        raise MienError(f"{options.avatar} has no first layer")
    source = open_source(options.clip)
    console = Console(stderr=True)
    try:
        skip = frames_before(source, options.begin)
        tracker = watched(
            open_tracker(), avatar, lambda text: console.print(f"warning: {text}", style="yellow")
        )
        try:
            if tracker.tracker_id != avatar.manifest.tracker:
                console.print(
                    f"warning: {options.avatar} was measured with tracker {avatar.manifest.tracker.name}, this clip "
                    f"with {tracker.tracker_id.name}; they differ by 1-2 %. Enrol again with the same one.",
                    style="yellow",
                )
            counts = encode(
                source,
                tracker,
                avatar,
                options.output,
                quality=Quality[options.quality.upper()],
                console=console,
                skip=skip,
            )
        finally:
            tracker.close()
    finally:
        source.close()
    with open_log(options.output) as reader:
        report = report_log(read_recording(reader), file_bytes=Path(options.output).stat().st_size)
    tell(report, counts, options)
    return 0


def encode(
    source: Source,
    tracker: Tracker,
    avatar: Avatar,
    path: str,
    *,
    quality: Quality,
    console: Console,
    skip: int = 0,
) -> SenderCounts:
    """Write the log of a source, but for its first `skip` frames, to `path`; return what became of its frames.

    Raises `MienError` for no face at all.
    """
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed} frames"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(f"reading {source.name}", total=None)
        tracked = track(islice(source, skip, None), tracker)
        ahead = look_ahead(tracked)
        sender, header = open_stream(source, tracker, avatar, ahead, quality=quality)
        with LogWriter.create(path, header) as log:
            recorder = SourceRecorder(sender, log)
            for frame in ahead:
                recorder.take(frame)
                progress.advance(task)
            for frame in tracked:
                recorder.take(frame)
                progress.advance(task)
            recorder.finish()
    if sender.counts.tracked == 0:
        os.unlink(path)
        raise MienError(explain_no_face(source.name, sender.counts))
    return sender.counts


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFrame:
    """The time of a frame of the source, and the faces in it."""

    timestamp_us: int
    tracking: Tracking


def frames_before(source: Source, fraction: float) -> int:
    """Return how many frames make up a fraction of a source that ends. Raises `MienError` for one that does not."""
    if not 0 <= fraction < 1:
        raise MienError(f"--from {fraction:g}: expected a fraction from 0 up to 1")
    if fraction == 0:
        return 0
    if source.live:
        raise MienError("--from needs an input that ends")
    return int(fraction * sum(1 for _ in source) + 1e-9)


def track(frames: Iterable[Frame], tracker: Tracker) -> Iterator[TrackedFrame]:
    """Give the faces of every frame; times count from the first one."""
    start_us: int | None = None
    for frame in frames:
        start_us = frame.timestamp_us if start_us is None else start_us
        yield TrackedFrame(frame.timestamp_us - start_us, tracker.track(frame.rgb, frame.timestamp_us))


def look_ahead(tracked: Iterator[TrackedFrame]) -> list[TrackedFrame]:
    """Take the first frames, until enough faces are among them."""
    ahead: list[TrackedFrame] = []
    faces = 0
    for frame in tracked:
        ahead.append(frame)
        faces += len(frame.tracking.faces) == 1
        if faces >= ENOUGH_FACES or len(ahead) >= MAX_LOOK_AHEAD:
            break
    return ahead


def open_stream(
    source: Source, tracker: Tracker, avatar: Avatar, ahead: list[TrackedFrame], *, quality: Quality
) -> tuple[FaceSender, LogHeader]:
    """Return the sender for a source whose first frames are `ahead`, and its log's header."""
    faces: list[NDArray[np.float32]] = [f.tracking.faces[0] for f in ahead if len(f.tracking.faces) == 1]
    stream = make_stream_header(
        avatar,
        faces,
        source_rate=source.rate,
        width=source.width,
        height=source.height,
        tracker=tracker.tracker_id,
    )
    header = LogHeader(
        stream=stream,
        origin=Origin.SOURCE,
        source_rate=source.rate.limit_denominator(100_000),
        width=source.width,
        height=source.height,
        avatar_id=avatar.avatar_id,
        owner=owner_fingerprint(avatar),
        writer=mien.__version__,
    )
    return FaceSender(stream, make_fitter(avatar, stream), quality=quality, source_rate=source.rate), header


class SourceRecorder:
    """Writes what a sender makes of a source's frames; the frames of a message stand before it."""

    def __init__(self, sender: FaceSender, log: LogWriter) -> None:
        self._sender = sender
        self._log = log
        self._frames: list[SourceFrame] = []
        self._last_us = 0

    def take(self, frame: TrackedFrame) -> None:
        """Encode a frame."""
        messages = self._sender.on_tracking(frame.timestamp_us, frame.tracking)
        self._frames.append(SourceFrame(frame.timestamp_us, self._sender.frame_tick))
        self._last_us = frame.timestamp_us
        if messages:
            self._write(messages)

    def finish(self) -> None:
        """Write what is left."""
        self._write(self._sender.finish())

    def _write(self, messages: list[bytes]) -> None:
        self._log.frames(self._frames)
        self._frames = []
        for message in messages:
            self._log.message(message, time_us=self._last_us)


def explain_no_face(name: str, counts: SenderCounts) -> str:
    """Say why a clip gave nothing."""
    if counts.several_faces:
        return f"{name} shows several faces in {counts.several_faces} frames and never one alone: cut it to one person"
    return f"no face was found in the {counts.frames} frames of {name}"


def refuse_same_file(source: str, output: str) -> None:
    """Raise `MienError` when the output would replace the input."""
    if Path(source).exists() and Path(output).exists() and Path(source).samefile(output):
        raise MienError(f"{output} is the input: name another output")


def tell(report: dict[str, Any], counts: SenderCounts, options: argparse.Namespace) -> None:
    """Print what was written and what it costs."""
    if options.json:
        frames = {"without_face": counts.without_face, "several_faces": counts.several_faces}
        print(json.dumps({"output": options.output, "quality": options.quality, **frames, **report}))
        return
    wire = report["wire_kbps"]["datachannel_ipv4"]
    print(
        f"{options.output}: {report['frames']} frames, {report['duration_s']:.2f} s, "
        f"payload {report['payload_kbps']:.2f} kbps (computed on a data channel: {wire:.2f} kbps)"
    )
    if counts.without_face or counts.several_faces:
        print(
            f"  no face in {counts.without_face} frames, several in {counts.several_faces}: there the last is held",
            file=sys.stderr,
        )
