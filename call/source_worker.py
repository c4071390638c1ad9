"""The thread that reads the camera (or a file, at its own pace), finds faces, and makes messages.

Everything slow happens here; the event loop gets finished `TrackedFrame`s. At most a few of them may wait there:
when the loop is slower than the camera, frames are left out at the source.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.call import clock
from mien.encoder.capture import Frame, Source
from mien.encoder.scene_sender import SceneSender, SceneSettings
from mien.encoder.sender import FaceSender
from mien.encoder.stream_setup import make_fitter, make_stream_header
from mien.encoder.tracker import Tracker, Tracking
from mien.protocol.avatar import Avatar
from mien.protocol.quantizer import Quality
from mien.protocol.repeats import REPEAT_STRIDE
from mien.protocol.stream import StreamHeader

logger = logging.getLogger(__name__)

MAX_WAITING_FRAMES: Final = 3
WARM_UP_US: Final = 500_000  # of faces that the stream's reference is made from
MAX_WARM_UP_US: Final = 2_000_000  # waited for the first of them
LATE_US: Final = 100_000  # a file's frame that is later than this is left out
STOP_S: Final = 3.0
CUT_S: Final = 0.01  # waited for the thread; the next packet takes what this one does not


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFrame:
    """One frame that was looked at.

    `rgb` is uint8 [height, width, 3]. `stamp_us` is when it was taken, on `mien.call.clock`; `done_us` when
    tracking and coding were done; `cpu_us` what they cost this thread. `landmarks`: the face, float32
    [478, 3] in image space, where exactly one was found. `messages` are the coefficient messages that this frame
    completed, `tick` the stream's tick that carries it, None if none does. `scene` are the messages of its scene
    picture, where one was due and is to be made.
    """

    rgb: NDArray[np.uint8]
    timestamp_us: int
    stamp_us: int
    done_us: int
    cpu_us: int
    faces: int
    landmarks: NDArray[np.float32] | None
    tick: int | None
    messages: tuple[bytes, ...]
    scene: tuple[bytes, ...] = ()


class SourceListener(Protocol):
    """What a worker tells, on the event loop."""

    def on_stream(self, header: StreamHeader) -> None:
        """Messages of this stream will follow."""

    def on_frame(self, frame: TrackedFrame) -> None:
        """A frame was tracked."""

    def on_source_end(self, messages: tuple[bytes, ...], error: Exception | None) -> None:
        """Nothing follows: the source has ended, was stopped, or failed. `messages`: the last ones."""


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """How the face is coded."""

    quality: Quality = Quality.NORMAL
    frames_per_message: int | None = None  # None: 200 ms of them
    repeat: bool = False  # a file begins again at its end
    scene: SceneSettings | None = None  # that a scene may be made at all, and what it may show
    may_show: Callable[[], bool] = lambda: (
        True
    )  # whether nothing says that it is a stranger who would be shown


class SourceWorker:
    """Owns a source and a tracker from `start` until `stop`; closes the source, not the tracker."""

    def __init__(
        self,
        source: Source,
        tracker: Tracker,
        avatar: Avatar | None,
        listener: SourceListener,
        *,
        settings: SenderSettings | None = None,
    ) -> None:
        """Without an avatar frames are tracked, for the ladder, and nothing is coded."""
        self._source = source
        self._tracker = tracker
        self._avatar = avatar
        self._listener = listener
        self._settings = settings or SenderSettings()
        self._loop = asyncio.get_running_loop()
        self._slots = threading.Semaphore(MAX_WAITING_FRAMES)
        self._stopping = threading.Event()
        self._done = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="mien source", daemon=True)
        self._sender: FaceSender | None = None
        self._coding = threading.Lock()  # the sender is used on the thread, and cut on the loop
        self._wishes: dict[str, Callable[[FaceSender], None]] = {}  # for a sender that is not there yet
        self._scene: SceneSender | None = None  # used on the thread alone
        self._scene_open = threading.Event()
        self._scene_refresh = threading.Event()
        self._warm_up: list[NDArray[np.float32]] = []
        self._warm_since_us: int | None = None
        self.left_out = 0  # frames that were not tracked, because loop or machine were too slow

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    async def stop(self) -> None:
        """Stop reading and wait for the thread. A camera that hangs is left to its thread, with a warning."""
        self._stopping.set()
        self._slots.release()
        if not self._thread.is_alive():
            return
        try:
            async with asyncio.timeout(STOP_S):
                await self._done.wait()
        except TimeoutError:
            logger.warning("the source %s did not stop within %g s", self._source.name, STOP_S)

    def cut(self) -> bytes | None:
        """Return the message that was begun, as `FaceSender.cut` does; `None` also where it is being worked on."""
        if not self._coding.acquire(timeout=CUT_S):  # the loop has a voice to send, too
            return None
        try:
            return self._sender.cut() if self._sender else None
        finally:
            self._coding.release()

    def set_quality(self, quality: Quality) -> None:
        """See `FaceSender.set_quality`."""
        self._wish("quality", lambda sender: sender.set_quality(quality))

    def set_frames_per_message(self, frames: int) -> None:
        """See `FaceSender.set_frames_per_message`."""
        self._wish("frames", lambda sender: sender.set_frames_per_message(frames))

    def set_repeats(
        self, copies: int, lag: int = 0, *, span: int | None = None, stride: int = REPEAT_STRIDE
    ) -> None:
        """See `FaceSender.set_repeats`."""
        self._wish("repeats", lambda sender: sender.set_repeats(copies, lag, span=span, stride=stride))

    def open_scene(self, wanted: bool) -> None:
        """Make scene pictures from the next frame on, or no more of them. Closed at first."""
        if wanted:
            self._scene_open.set()
        else:
            self._scene_open.clear()

    def refresh_scene(self) -> None:
        """Let the next scene picture decode alone."""
        self._scene_refresh.set()

    def _wish(self, what: str, change: Callable[[FaceSender], None]) -> None:
        """Change how the sender codes, now or as soon as there is one."""
        with self._coding:
            self._wishes[what] = change
            if self._sender is not None:
                change(self._sender)

    # --- on the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        error: Exception | None = None
        messages: tuple[bytes, ...] = ()
        try:
            for frame, timestamp_us, stamp_us in self._paced():
                self._look_at(frame, timestamp_us, stamp_us)
            with self._coding:
                messages = tuple(self._sender.finish()) if self._sender else ()
        except Exception as caught:  # noqa: BLE001  whatever a camera or a tracker raises ends the source, not the call
            error = caught
        finally:
            self._source.close()
            if self._scene is not None:
                self._scene.close()
        self._post(self._finish, messages, error)

    def _paced(self) -> Iterator[tuple[Frame, int, int]]:
        """Give frames with their time, which never steps back, and when they were taken on the call's clock."""
        start_us: int | None = None
        offset_us, last_us = 0, -1
        while True:
            frames = 0
            for frame in self._source:
                frames += 1
                if self._stopping.is_set():
                    return
                timestamp_us = max(frame.timestamp_us + offset_us, last_us + 1)
                last_us = timestamp_us
                if self._source.live:
                    yield frame, timestamp_us, clock.now_us()
                    continue
                if start_us is None:
                    start_us = clock.now_us() - timestamp_us
                due_us = start_us + timestamp_us
                self._stopping.wait(max(0, due_us - clock.now_us()) / 1e6)
                if clock.now_us() - due_us > LATE_US:
                    self.left_out += 1
                    continue
                yield frame, timestamp_us, due_us
            photo = frames == 1  # it stands still for as long as the call lasts
            if self._source.live or not frames or not (self._settings.repeat or photo):
                return
            offset_us = last_us + round(1_000_000 / (self._source.rate or Fraction(30)))

    def _look_at(self, frame: Frame, timestamp_us: int, stamp_us: int) -> None:
        if not self._slots.acquire(blocking=not self._source.live):
            self.left_out += 1
            return
        if self._stopping.is_set():
            return
        before = time.thread_time_ns()
        tracking = self._tracker.track(frame.rgb, timestamp_us)
        face = tracking.faces[0] if len(tracking.faces) == 1 else None
        messages: list[bytes] = []
        tick = None
        if self._sender is None and self._avatar is not None:
            self._collect(face, timestamp_us, frame)
        if self._sender is not None:
            state = self._sender.look_at(timestamp_us, tracking)
            with self._coding:
                messages = self._sender.code(state)
            tick = self._sender.frame_tick
        scene = self._scene_of(tick, frame, tracking)
        self._post(
            self._deliver,
            TrackedFrame(
                rgb=frame.rgb,
                timestamp_us=timestamp_us,
                stamp_us=stamp_us,
                done_us=clock.now_us(),
                cpu_us=(time.thread_time_ns() - before) // 1000,
                faces=len(tracking.faces),
                landmarks=face,
                tick=tick,
                messages=tuple(messages),
                scene=tuple(scene),
            ),
        )

    def _scene_of(self, tick: int | None, frame: Frame, tracking: Tracking) -> list[bytes]:
        """Return the messages of the frame's scene picture, if one may be made and is due."""
        wanted = self._settings.scene
        if wanted is None or self._sender is None or not self._scene_open.is_set():
            return []
        if not self._settings.may_show():
            return []
        if self._scene is None:
            height, width = frame.rgb.shape[:2]
            self._scene = SceneSender(self._sender.header, wanted, width=width, height=height)
        if self._scene_refresh.is_set():
            self._scene_refresh.clear()
            self._scene.refresh()
        messages = self._scene.on_frame(tick, frame.rgb, tracking)
        # Asked again: the user may have hidden the camera meanwhile.
        return messages if self._scene_open.is_set() else []

    def _collect(self, face: NDArray[np.float32] | None, timestamp_us: int, frame: Frame) -> None:
        """Collect faces for the stream's reference; begin the stream when there are enough, or none comes."""
        assert self._avatar is not None
        if self._warm_since_us is None or (face is not None and not self._warm_up):
            self._warm_since_us = timestamp_us
        if face is not None:
            self._warm_up.append(face)
        passed_us = timestamp_us - self._warm_since_us
        if passed_us < (WARM_UP_US if self._warm_up else MAX_WARM_UP_US):
            return
        header = make_stream_header(
            self._avatar,
            self._warm_up,
            source_rate=self._source.rate,
            width=frame.rgb.shape[1],
            height=frame.rgb.shape[0],
            tracker=self._tracker.tracker_id,
        )
        self._warm_up.clear()
        sender = FaceSender(
            header,
            make_fitter(self._avatar, header),
            quality=self._settings.quality,
            frames_per_message=self._settings.frames_per_message,
            source_rate=self._source.rate,
        )
        with self._coding:
            for change in self._wishes.values():
                change(sender)
            self._sender = sender
        self._post(self._listener.on_stream, header)

    def _post(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self._stopping.set()

    # --- on the loop ------------------------------------------------------------------------------------------

    def _deliver(self, frame: TrackedFrame) -> None:
        self._slots.release()
        if not self._stopping.is_set():
            self._listener.on_frame(frame)

    def _finish(self, messages: tuple[bytes, ...], error: Exception | None) -> None:
        self._done.set()
        self._listener.on_source_end(messages, error)
