"""What the demo leaves to look at: the side-by-side video, written by a thread, and the sheet of chosen instants."""

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from mien.bench.contact_sheet import Moment, SideBySide, contact_sheet
from mien.bench.loopback_call import LiveFigures
from mien.call.face_view import ShownPicture
from mien.call.source_worker import TrackedFrame
from mien.decoder.output import VideoSink

logger = logging.getLogger(__name__)

RATE: Final = Fraction(30)
TITLES: Final = ("source, now", "received, now")
COLUMNS: Final = 8
REMEMBERED_FRAMES: Final = 24  # of the source, for finding the one that a picture shows
NEAR_TICK: Final = 0.2  # a picture this near to a source frame's moment stands for it on the sheet
PATIENCE_TICKS: Final = 6  # after so many take the next best
TEXT_PERIOD_US: Final = 250_000
MAX_WAITING: Final = 45  # composed frames before the video coder: 1.5 s

_Picture = NDArray[np.uint8]


class Film:
    """Takes frames and pictures on the event loop; a context manager that finishes the video."""

    def __init__(self, path: Path, *, picture_size: tuple[int, int], heading: str, seconds: float) -> None:
        """Open the file. Raises `MienError` where it cannot be written."""
        self._view = SideBySide(TITLES, picture_width=picture_size[0], picture_height=picture_size[1])
        self._sink = VideoSink(path, width=self._view.width, height=self._view.height, rate=RATE)
        self._heading = heading
        self._interval_us = round(seconds * 1e6 / (COLUMNS + 1))
        self._frames: deque[TrackedFrame] = deque(maxlen=REMEMBERED_FRAMES)
        self._moments: list[Moment] = []
        self._first_us: int | None = None
        self._next_moment_us = 0
        self._text, self._text_us = "", -TEXT_PERIOD_US
        self._show: Callable[[_Picture], None] | None = None
        self._fault: Exception | None = None
        self._waiting: queue.Queue[tuple[_Picture | None, _Picture, str, int] | None] = queue.Queue(
            MAX_WAITING
        )
        self._thread = threading.Thread(target=self._run, name="mien film", daemon=True)
        self._thread.start()
        self.left_out = 0  # frames that the video lacks, because the coder was too slow

    @staticmethod
    def size_for(picture_size: tuple[int, int]) -> tuple[int, int]:
        """Return width and height of the film for pictures of a size."""
        view = SideBySide(TITLES, picture_width=picture_size[0], picture_height=picture_size[1])
        return view.width, view.height

    def show_on(self, loop: asyncio.AbstractEventLoop, show: Callable[[_Picture], None]) -> None:
        """Have every composed frame shown too, on the loop's thread."""

        def later(frame: _Picture) -> None:
            loop.call_soon_threadsafe(show, frame)

        self._show = later

    def on_frame(self, frame: TrackedFrame) -> None:
        """Take a source frame."""
        self._frames.append(frame)

    def on_picture(self, picture: ShownPicture, figures: LiveFigures) -> None:
        """Take a picture of the other end."""
        if self._first_us is None:
            self._first_us = self._next_moment_us = picture.composited_us
            self._next_moment_us += self._interval_us // 2
        self._collect(picture, figures)
        if picture.composited_us - self._text_us >= TEXT_PERIOD_US:
            self._text, self._text_us = _text(figures), picture.composited_us
        source = self._frames[-1].rgb if self._frames else None
        try:
            self._waiting.put_nowait(
                (source, picture.rgb, self._text, picture.composited_us - self._first_us)
            )
        except queue.Full:
            self.left_out += 1

    def _collect(self, picture: ShownPicture, figures: LiveFigures) -> None:
        """Keep the picture for the sheet, beside the source frame of the moment that it shows."""
        if picture.shown.tick is None or len(self._moments) == COLUMNS:
            return
        overdue_us = picture.composited_us - self._next_moment_us
        tick = round(picture.shown.tick)
        near = abs(picture.shown.tick - tick) <= NEAR_TICK or overdue_us > PATIENCE_TICKS * 33_333
        frame = next((f for f in self._frames if f.tick == tick), None)
        if overdue_us < 0 or not near or frame is None:
            return
        late = f"shown {figures.latency_ms:.0f} ms later" if figures.latency_ms is not None else ""
        self._moments.append(Moment(frame.timestamp_us / 1e6, (frame.rgb, picture.rgb), late))
        self._next_moment_us += self._interval_us

    def sheet(self) -> _Picture:
        """Return the sheet: source over received, each pair of the same moment."""
        return contact_sheet(self._moments, ("source", "received"), title=f"mien demo: {self._heading}")

    def close(self) -> None:
        """Write what waits and finish the file. Raises what went wrong while writing."""
        self._waiting.put(None)
        self._thread.join()
        self._sink.close()
        if self._fault is not None:
            raise self._fault

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- on the thread

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._fault is not None:
                continue
            try:
                source, received, text, time_us = item
                frame = self._view.compose((source, received), text)
                self._sink.write(frame, time_us=time_us)
                if self._show is not None:
                    self._show(frame)
            except Exception as error:  # noqa: BLE001  a full disk; `close` raises it
                self._fault = error


def _text(figures: LiveFigures) -> str:
    parts = [
        f"face {figures.face_kbps:.1f} kbps on the wire",
        f"all {figures.out_kbps:.1f} out, {figures.back_kbps:.1f} back",
    ]
    if figures.latency_ms is not None:
        parts.append(f"{figures.latency_ms:.0f} ms behind")
    return "   ".join(parts)
