"""The gate before the video track: the only way on which a camera picture can leave as video.

Closed, it keeps no frame and passes none, so that whatever a track or an encoder does, there is nothing it could
send. It opens by the user's act, or where the user allowed it for this call (`mien.call.ladder` decides).
"""

import asyncio

import numpy as np
from numpy.typing import NDArray


class VideoGate:
    """Holds at most one frame, and only while it is open. Used from the event loop's thread."""

    def __init__(self) -> None:
        self._open = False
        self._frame: tuple[NDArray[np.uint8], int] | None = None
        self._arrived = asyncio.Event()
        self.ever_open = False
        self.passed_frames = 0
        self.passed_pixels = 0

    @property
    def is_open(self) -> bool:
        """Whether camera pictures pass."""
        return self._open

    def open(self) -> None:
        """Let the frames offered from now on pass."""
        self._open = True
        self.ever_open = True

    def close(self) -> None:
        """Let no further frame pass, and forget the one that waits."""
        self._open = False
        self._frame = None
        self._arrived.clear()

    def offer(self, rgb: NDArray[np.uint8], timestamp_us: int) -> None:
        """Take a camera frame, uint8 [height, width, 3]. Closed, it is dropped; open, it replaces the waiting one."""
        if self._open:
            self._frame = (rgb, timestamp_us)
            self._arrived.set()

    async def take(self) -> tuple[NDArray[np.uint8], int]:
        """Wait for a frame and return it with its time; the gate then holds none."""
        while self._frame is None:
            self._arrived.clear()
            await self._arrived.wait()
        rgb, timestamp_us = self._frame
        self._frame = None
        self.passed_frames += 1
        self.passed_pixels += rgb.shape[0] * rgb.shape[1]
        return rgb, timestamp_us
