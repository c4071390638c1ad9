"""Writes the log of a source: every frame tracked, coded and noted."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

import mien
from mien.encoder.capture import Frame, Source
from mien.encoder.sender import FaceSender, SenderCounts
from mien.encoder.stream_setup import ENOUGH_FACES, make_fitter, make_stream_header, owner_fingerprint
from mien.encoder.tracker import Tracker, Tracking
from mien.protocol.avatar import Avatar
from mien.protocol.errors import MienError
from mien.protocol.log import LogHeader, LogWriter, Origin, SourceFrame
from mien.protocol.quantizer import Quality

# The stream's scale and rest pose come from its first faces; that many frames are looked at for them.
MAX_LOOK_AHEAD: Final = 300


def record_source(
    source: Source,
    tracker: Tracker,
    avatar: Avatar,
    path: str,
    *,
    quality: Quality,
    skip_frames: int = 0,
    on_frame: Callable[[], None] | None = None,
) -> SenderCounts:
    """Write the log of a source, but for its first `skip_frames`, to `path`; return what became of its frames.

    `on_frame` is called after each one. Raises `MienError` for no face at all; then there is no log.
    """
    tracked = track(islice(source, skip_frames, None), tracker)
    ahead = look_ahead(tracked)
    sender, header = open_stream(source, tracker, avatar, ahead, quality=quality)
    with LogWriter.create(path, header) as log:
        recorder = SourceRecorder(sender, log)
        for frame in chain(ahead, tracked):
            recorder.take(frame)
            if on_frame is not None:
                on_frame()
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
