"""The other side's picture: messages in, composited frames out, on one thread of its own.

Receiver, renderer (an OpenGL context belongs to one thread), recorder and video file all live on that thread, and
what is asked of them is done in the order of asking: so a log of the calls repeats what was shown.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from mien.call import clock
from mien.decoder.compositor import FADE_US
from mien.decoder.output import VideoSink
from mien.decoder.playout import PlayoutSettings, Shown
from mien.decoder.receiver import Receiver
from mien.decoder.renderer import Backend
from mien.decoder.stage import AvatarEvent, RungEvent, Stage, ViewEvent
from mien.protocol.avatar import Avatar
from mien.protocol.control import Carrier, Rung
from mien.protocol.errors import WireError
from mien.protocol.log import LogHeader, LogWriter
from mien.protocol.stream import StreamHeader
from mien.protocol.tuning import Tuning

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 64  # messages before the thread; a peer that sends faster than this is not worth more


@dataclass(frozen=True, slots=True)
class ViewSettings:
    """What the picture is to be. `longest_px` bounds its longer side; its shape is the stream's, unless `size` is said.

    `size`: width and height, which the stream's picture covers, however large or small that is.
    """

    longest_px: int = 512
    size: tuple[int, int] | None = None
    rate: Fraction = Fraction(30)
    backend: Backend = "auto"
    out: Path | None = None  # an MP4 of what was shown
    playout: PlayoutSettings | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ShownPicture:
    """One composited picture, RGB uint8 [height, width, 3], and what it shows.

    `render_us` is the time that it is for and `composited_us` when it was finished, on `mien.call.clock`;
    `avatar` says whether there was an avatar to draw. `offset_us`: what the playout adds to media times, on the
    same clock; None before the first message.
    """

    rgb: NDArray[np.uint8]
    shown: Shown
    render_us: int
    composited_us: int
    rung: Rung
    avatar: bool
    offset_us: int | None = None
    wants_scene_refresh: bool = False  # scene messages come, and nothing can be made of them


@dataclass(frozen=True, slots=True)
class ViewCounts:
    """What came and what became of it."""

    messages: int = 0
    scene_messages: int = 0
    scene_bytes: int = 0
    scene_pictures: int = 0
    malformed: int = 0
    late: int = 0
    pictures: int = 0
    backend: str = "none"


class FaceView:
    """Made and used on the event loop; every method returns at once or is awaited."""

    def __init__(
        self,
        settings: ViewSettings,
        *,
        on_fault: Callable[[Exception], None],
        on_unusable: Callable[[Exception], None],
    ) -> None:
        """`on_fault`: something here failed. `on_unusable`: an avatar cannot be drawn, and is not."""
        self._settings = settings
        self._on_fault = on_fault
        self._on_unusable = on_unusable
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mien picture")
        self._loop = asyncio.get_running_loop()
        self._worker: _Worker | None = None
        self._rung = Rung.STILL  # the latest; it may come before there is a stream to show
        self._waiting = 0
        self._avatars = 0  # that were to be drawn so far
        self.started = False
        self.overrun = 0  # messages dropped because too many were waiting

    def start(self, header: StreamHeader, *, record: tuple[Path, LogHeader] | None = None) -> None:
        """Show this stream; the first call also fixes the size of the picture, and begins the recording."""
        self.started = True
        self._post(self._start, header, record, clock.now_us())

    def message(self, data: bytes, arrival_us: int, carrier: Carrier = Carrier.DATACHANNEL) -> None:
        """Take a coefficient message that came by this carrier."""
        if self._waiting >= MAX_WAITING:
            self.overrun += 1
            return
        self._post(self._in_worker, lambda worker: worker.receiver.on_message(data, arrival_us, carrier))

    def wait_at_least(self, floor_us: int) -> None:
        """Let the face wait for the voice: media times are shown no sooner than so much later."""
        now_us = clock.now_us()
        self._post(self._in_worker, lambda worker: worker.receiver.wait_at_least(floor_us, now_us=now_us))

    def use_avatar(self, avatar: Avatar, layers: frozenset[int], tuning: Tuning | None = None) -> None:
        """Draw this avatar from the next picture on, unless a newer one comes before the thread has its turn."""
        self._avatars += 1
        self._post(self._use_avatar, avatar, layers, tuning, clock.now_us(), self._avatars)

    def set_rung(self, rung: Rung) -> None:
        """Fade to this rung."""
        self._post(self._set_rung, rung, clock.now_us())

    def stop_recording(self) -> None:
        """Close the log."""
        self._post(self._in_worker, lambda worker: worker.stop_recording())

    async def picture(self, video: av.VideoFrame | None) -> ShownPicture | None:
        """Make the next picture; None before `start`. `video` is the other side's newest camera frame."""
        return await self._loop.run_in_executor(self._pool, self._picture, video)

    async def counts(self) -> ViewCounts:
        """Return what came so far."""
        return await self._loop.run_in_executor(self._pool, self._counts)

    async def close(self) -> None:
        """Finish the files and free the renderer."""
        await self._loop.run_in_executor(self._pool, self._close)
        self._pool.shutdown(wait=False)

    def _post(self, function: Callable[..., None], *arguments: object) -> None:
        self._waiting += 1
        future = self._loop.run_in_executor(self._pool, function, *arguments)
        future.add_done_callback(self._posted)

    def _posted(self, future: "asyncio.Future[None]") -> None:
        self._waiting -= 1
        if not future.cancelled() and isinstance(error := future.exception(), Exception):
            self._on_fault(error)

    # --- on the thread ----------------------------------------------------------------------------------------

    def _start(self, header: StreamHeader, record: tuple[Path, LogHeader] | None, now_us: int) -> None:
        if self._worker is None:
            self._worker = _Worker(header, self._settings, record, now_us)
            self._worker.set_rung(self._rung, now_us)
        else:
            self._worker.receiver.on_stream(header, now_us=now_us)

    def _set_rung(self, rung: Rung, now_us: int) -> None:
        self._rung = rung
        if self._worker is not None:
            self._worker.set_rung(rung, now_us)

    def _in_worker(self, do: Callable[["_Worker"], object]) -> None:
        if self._worker is not None:
            do(self._worker)

    def _use_avatar(
        self, avatar: Avatar, layers: frozenset[int], tuning: Tuning | None, now_us: int, number: int
    ) -> None:
        assert self._worker is not None
        if number != self._avatars:
            return  # preparing one takes a while, in which several layers may come
        try:
            self._worker.use_avatar(avatar, layers, tuning, now_us)
        except (WireError, ValueError) as error:
            self._worker.clear()
            self._loop.call_soon_threadsafe(self._on_unusable, error)

    def _picture(self, video: av.VideoFrame | None) -> ShownPicture | None:
        return self._worker.picture(video) if self._worker else None

    def _counts(self) -> ViewCounts:
        return self._worker.counts() if self._worker else ViewCounts()

    def _close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None


class _Worker:
    """What lives on the thread."""

    def __init__(
        self, header: StreamHeader, settings: ViewSettings, record: tuple[Path, LogHeader] | None, now_us: int
    ) -> None:
        self._settings = settings
        self._log = LogWriter.create(str(record[0]), record[1]) if record else None
        self.receiver = Receiver(header, settings=settings.playout, recorder=self._log, now_us=now_us)
        width, height = settings.size or fit_view(header.width, header.height, settings.longest_px)
        self._stage = Stage(width=width, height=height, backend=settings.backend)
        self._sink: VideoSink | None = None
        self._sink_failed = False
        self._first_us: int | None = None
        self._last_us = 0
        self._rung = Rung.STILL
        self._left_video_us: int | None = None
        self._video: NDArray[np.uint8] | None = None
        self._pictures = 0

    def use_avatar(self, avatar: Avatar, layers: frozenset[int], tuning: Tuning | None, now_us: int) -> None:
        self._stage.set_avatar(avatar, self.receiver.header, tuning)
        view = ViewEvent(self._stage.width, self._stage.height, self._stage.backend)
        self.receiver.note(ViewEvent.KIND, view.serialize(), now_us=now_us)
        event = AvatarEvent(avatar.avatar_id, layers)
        self.receiver.note(AvatarEvent.KIND, event.serialize(), now_us=now_us)

    def clear(self) -> None:
        """Draw no avatar any more; a log cannot tell that, so it ends."""
        self._stage.clear()
        self.stop_recording()

    def set_rung(self, rung: Rung, now_us: int) -> None:
        if rung is self._rung:
            return
        if self._rung is Rung.VIDEO:
            self._left_video_us = now_us
        self._rung = rung
        self._stage.set_rung(rung, now_us=now_us)
        self.receiver.note(RungEvent.KIND, RungEvent(rung).serialize(), now_us=now_us)

    def picture(self, video: av.VideoFrame | None) -> ShownPicture:
        now_us = max(clock.now_us(), self._last_us + 1)
        self._last_us = now_us
        shown = self.receiver.show(now_us)
        for scene in self.receiver.take_scene():
            self._stage.add_scene(scene)
        rgb = self._stage.draw(
            shown, now_us=now_us, video=self._video_picture(video, now_us), known=self.receiver.known
        )
        if self._video is None:  # a log holds no camera pictures, so no replay could repeat this one
            self.receiver.on_picture(rgb, now_us=now_us)
        self._pictures += 1
        composited_us = clock.now_us()
        self._write(rgb, now_us)
        offset_us = self.receiver.offset_us
        return ShownPicture(
            rgb, shown, now_us, composited_us, self._rung, self._stage.has_avatar, offset_us,
            wants_scene_refresh=self.receiver.wants_scene_refresh,
        )  # fmt: skip

    def counts(self) -> ViewCounts:
        counts, playout = self.receiver.counts, self.receiver.playout_counts
        return ViewCounts(
            messages=counts.messages,
            scene_messages=counts.scene_messages,
            scene_bytes=counts.scene_bytes,
            scene_pictures=counts.scene_pictures,
            malformed=counts.bad_messages,
            late=playout.late_ticks,
            pictures=self._pictures,
            backend=self._stage.backend if self._stage.has_avatar else "none",
        )

    def stop_recording(self) -> None:
        self.receiver.recorder = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def close(self) -> None:
        self._stage.close()
        try:
            self.stop_recording()
        finally:
            if self._sink is not None:
                self._sink.close()

    def _video_picture(self, video: av.VideoFrame | None, now_us: int) -> NDArray[np.uint8] | None:
        """Return the camera picture for as long as the rung or a fade needs it, then forget it."""
        if self._rung is Rung.VIDEO:
            if video is not None:
                self._video = np.asarray(video.to_ndarray(format="rgb24"), np.uint8)
        elif self._left_video_us is None or now_us - self._left_video_us > FADE_US:
            self._video = None
        return self._video

    def _write(self, rgb: NDArray[np.uint8], now_us: int) -> None:
        if self._settings.out is None or self._sink_failed:
            return
        try:
            self._write_or_fail(self._settings.out, rgb, now_us)
        except OSError as error:  # a full disk ends the file, not the call
            self._sink_failed = True
            logger.error("the video file %s ended: %s", self._settings.out, error)

    def _write_or_fail(self, out: Path, rgb: NDArray[np.uint8], now_us: int) -> None:
        if self._sink is None:
            self._first_us = now_us
            self._sink = VideoSink(out, width=rgb.shape[1], height=rgb.shape[0], rate=self._settings.rate)
        self._sink.write(rgb, time_us=now_us - (self._first_us or 0))


def fit_view(width: int, height: int, longest_px: int) -> tuple[int, int]:
    """Return an even size with the shape of `width` x `height`, at most `longest_px` on the longer side."""
    scale = min(1.0, longest_px / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
