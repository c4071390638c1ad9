"""Writes the log of a source: every frame tracked, coded and noted."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

import mien
from mien.encoder.capture import Frame, Source
from mien.encoder.scene_encoder import scene_size
from mien.encoder.scene_sender import SceneSender, SceneSettings, shrunk
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
    scene: SceneSettings | None = None,
    may_show: Callable[[], bool] = lambda: True,
    on_frame: Callable[[], None] | None = None,
) -> SenderCounts:
    """Write the log of a source, but for its first `skip_frames`, to `path`; return what became of its frames.

    `scene`: with a scene layer, for as long as `may_show` says so. `on_frame` is called after each frame. Raises
    `MienError` for no face at all; then there is no log.
    """
    keep = scene_size(source.width, source.height) if scene else None
    tracked = track(islice(source, skip_frames, None), tracker, keep=keep)
    ahead = look_ahead(tracked)
    sender, header = open_stream(source, tracker, avatar, ahead, quality=quality)
    layer = SceneSender(header.stream, scene, width=source.width, height=source.height) if scene else None
    with contextlib.ExitStack() as stack:
        if layer is not None:
            stack.callback(layer.close)
        log = stack.enter_context(LogWriter.create(path, header))
        recorder = SourceRecorder(sender, log, layer)
        for frame in chain(ahead, tracked):
            if layer is not None and not may_show():
                layer.stop()
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
    """The time of a frame of the source, and the faces in it.

    `small`: the frame, made small, and the faces in its pixels, where a scene is wanted.
    """

    timestamp_us: int
    tracking: Tracking
    small: tuple[NDArray[np.uint8], Tracking] | None = None


def track(
    frames: Iterable[Frame], tracker: Tracker, *, keep: tuple[int, int] | None = None
) -> Iterator[TrackedFrame]:
    """Give the faces of every frame; times count from the first one. `keep`: and the frame, at (width, height)."""
    start_us: int | None = None
    for frame in frames:
        start_us = frame.timestamp_us if start_us is None else start_us
        tracking = tracker.track(frame.rgb, frame.timestamp_us)
        small = shrunk(frame.rgb, tracking, keep) if keep else None
        yield TrackedFrame(frame.timestamp_us - start_us, tracking, small)


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
        writer=f"mien {mien.__version__}",
    )
    return FaceSender(stream, make_fitter(avatar, stream), quality=quality, source_rate=source.rate), header


class SourceRecorder:
    """Writes what a sender makes of a source's frames; the frames of a message stand before it.

    A scene's messages stand before those, as they are sent: at once.
    """

    def __init__(self, sender: FaceSender, log: LogWriter, scene: SceneSender | None = None) -> None:
        self._sender = sender
        self._log = log
        self._scene = scene
        self._frames: list[SourceFrame] = []
        self._last_us = 0

    def take(self, frame: TrackedFrame) -> None:
        """Encode a frame."""
        messages = self._sender.on_tracking(frame.timestamp_us, frame.tracking)
        self._frames.append(SourceFrame(frame.timestamp_us, self._sender.frame_tick))
        self._last_us = frame.timestamp_us
        if self._scene is not None and frame.small is not None:
            for message in self._scene.on_frame(self._sender.frame_tick, *frame.small):
                self._log.message(message, time_us=frame.timestamp_us)
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
