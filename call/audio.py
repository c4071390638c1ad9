"""A voice that is sent: 20 ms of sound at a time, when it is due, and when the sound at a position was made."""

import asyncio
from fractions import Fraction
from typing import Final, Protocol

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from mien.call import clock

RATE_HZ: Final = 48_000
FRAME_SAMPLES: Final = 960  # 20 ms
FRAME_US: Final = 20_000
MAX_WAITING_FRAMES: Final = 10


class SoundFilter(Protocol):
    """What may be done to a voice before it is coded."""

    def clean(self, samples: NDArray[np.int16], *, captured_us: int) -> NDArray[np.int16]:
        """Return as many samples; `captured_us` is when the first of them was in the air."""


class VoiceTrack(MediaStreamTrack):
    """20 ms of mono 16-bit sound at a time. Muted it gives nothing at all, so that not a packet is sent.

    A frame's `pts` is its position: samples at 48 kHz since the track began. `capture_us` and `position_at` map
    positions to `mien.call.clock` and back, so that a face can be shown with the sound it made.
    """

    kind = "audio"

    def __init__(self, *, muted: bool = False) -> None:
        super().__init__()
        self._heard = asyncio.Event()
        self._start_us: int | None = None
        self._position = -1  # in frames; of the newest one
        self.filter: SoundFilter | None = None
        self.muted = muted

    @property
    def muted(self) -> bool:
        """Whether nothing is sent."""
        return not self._heard.is_set()

    @muted.setter
    def muted(self, muted: bool) -> None:
        if muted:
            self._heard.clear()
        else:
            self._heard.set()

    def capture_us(self, position: int) -> int:
        """Return when the sample at a position is made, on `mien.call.clock`. Positions count from the first use."""
        return self._begin() + position * 1_000_000 // RATE_HZ

    def position_at(self, captured_us: int) -> int:
        """Return the position of the sound that is made at a time: what `capture_us` maps back to it, to 1 ms."""
        return (captured_us - self.capture_us(0)) * RATE_HZ // 1_000_000

    async def recv(self) -> av.AudioFrame:
        """Return the next frame when it is due."""
        await self._next_turn()
        while self.muted:
            await self._heard.wait()
            await self._next_turn()
        if self.readyState != "live":
            raise MediaStreamError
        samples = await self.read()
        position = self._position * FRAME_SAMPLES
        if self.filter is not None:
            samples = self.filter.clean(samples, captured_us=self.capture_us(position))
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        frame.pts = position
        frame.time_base = Fraction(1, RATE_HZ)
        return frame

    async def read(self) -> NDArray[np.int16]:
        """Return `FRAME_SAMPLES` samples, int16."""
        return np.zeros(FRAME_SAMPLES, np.int16)

    def _begin(self) -> int:
        """Return when position 0 is due, which is now where nobody asked before."""
        if self._start_us is None:
            self._start_us = clock.now_us()
        return self._start_us

    async def _next_turn(self) -> None:
        """Wait for the next 20 ms. A moment that was slept through is caught up with, a longer time left out."""
        start_us, now_us = self._begin(), clock.now_us()
        due = (now_us - start_us) // FRAME_US
        self._position = due if due - self._position > MAX_WAITING_FRAMES else self._position + 1
        await asyncio.sleep(max(0, start_us + self._position * FRAME_US - now_us) / 1e6)
