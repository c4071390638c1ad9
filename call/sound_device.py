"""The microphone and the loudspeaker, through PortAudio, and how late they are."""

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from mien.call import clock
from mien.call.audio import FRAME_SAMPLES, FRAME_US, MAX_WAITING_FRAMES, RATE_HZ, VoiceTrack
from mien.protocol.errors import MienError

logger = logging.getLogger(__name__)

FRAME_BYTES: Final = 2 * FRAME_SAMPLES
START_FRAMES: Final = 2  # that wait before a loudspeaker begins: the call's loop is not punctual
MOST_FRAMES: Final = 6  # that wait at most; of more, the oldest are left out
PLAYED_FRAMES: Final = 50  # that are remembered for the echo's sake
SMOOTHING: Final = (
    32  # frames over which a microphone's clock is compared with ours, and a queue is looked at
)
SLIP_US: Final = 60_000  # a larger step is a gap in the sound, not an unsteady clock
MAX_LATENCY_US: Final = 500_000  # a device that says more does not know


@dataclass(frozen=True, slots=True)
class Block:
    """20 ms of one device, int16 mono at 48 kHz; `air_us` is when its first sample is in the air."""

    data: bytes
    air_us: int


class MicrophoneTrack(VoiceTrack):
    """The default input device, which gives the pace. Raises `MienError` where there is none."""

    def __init__(self, *, muted: bool = False) -> None:
        super().__init__(muted=muted)
        self._event_loop = asyncio.get_running_loop()
        self._blocks: deque[Block] = deque(maxlen=MAX_WAITING_FRAMES)
        self._came = asyncio.Event()
        self._block = Block(bytes(FRAME_BYTES), 0)
        self.latency_us = 0
        self._stream = open_device("RawInputStream", self._on_samples)
        self.latency_us = device_latency_us(self._stream)

    async def read(self) -> NDArray[np.int16]:
        """Return the oldest samples that wait."""
        return np.frombuffer(self._block.data, np.int16)

    def stop(self) -> None:
        """Release the device."""
        self._stream.close()
        self._came.set()
        super().stop()

    def _begin(self) -> int:
        if self._start_us is None:
            self._start_us = clock.now_us() - FRAME_US - self.latency_us
        return self._start_us

    async def _next_turn(self) -> None:
        """Wait for the device. Its clock is followed; where samples are missing, positions are left out."""
        while not self._blocks:
            self._came.clear()
            await self._came.wait()
            if self.readyState != "live":
                return
        self._block = self._blocks.popleft()
        following = self._position + 1
        late_us = self._block.air_us - self._begin() - following * FRAME_US
        if abs(late_us) > SLIP_US or following == 0:
            following += max(0, round(late_us / FRAME_US))
            self._start_us = self._block.air_us - following * FRAME_US
        else:
            self._start_us = self._begin() + late_us // SMOOTHING
        self._position = following

    def _on_samples(self, data: Any, frames: int, time: Any, status: Any) -> None:
        """Take a block, on the device's own thread; appending to a deque is atomic."""
        if self.muted or len(data) != FRAME_BYTES:
            return
        age_us = _difference_us(time.currentTime, time.inputBufferAdcTime)
        self._blocks.append(
            Block(
                bytes(data), clock.now_us() - (age_us if age_us is not None else self.latency_us + FRAME_US)
            )
        )
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._event_loop.call_soon_threadsafe(self._came.set)


class Loudspeaker:
    """The default output device. Raises `MienError` where there is none.

    `played` remembers what it plays, silence too, until somebody takes it: the echo canceller has to know.
    """

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._running = False
        self._waiting = START_FRAMES * SMOOTHING  # frames, smoothed, times `SMOOTHING`
        self.latency_us = 0
        self.played: deque[Block] = deque(maxlen=PLAYED_FRAMES)
        self._resampler = av.AudioResampler(
            format="s16", layout="mono", rate=RATE_HZ, frame_size=FRAME_SAMPLES
        )
        self._stream = open_device("RawOutputStream", self._on_wanted)
        self.latency_us = device_latency_us(self._stream)

    @property
    def delay_us(self) -> int:
        """How long from `play` until the sound is in the air: what waits, and the device."""
        return (self._waiting * FRAME_US) // SMOOTHING + self.latency_us

    def play(self, frame: av.AudioFrame) -> None:
        """Take 20 ms of the other side's voice."""
        for piece in self._resampler.resample(frame):
            self._frames.append(piece.to_ndarray().tobytes())
        while len(self._frames) > MOST_FRAMES:
            self._frames.popleft()
        self._waiting += len(self._frames) - self._waiting // SMOOTHING

    def close(self) -> None:
        """Release the device."""
        self._stream.close()

    def _on_wanted(self, data: Any, frames: int, time: Any, status: Any) -> None:
        """Give a block, on the device's own thread."""
        self._running = bool(self._frames) and (self._running or len(self._frames) >= START_FRAMES)
        block = bytes(len(data))
        if self._running:
            with contextlib.suppress(IndexError):  # `play` has just thrown the last one away
                block = self._frames.popleft()
        data[:] = block
        ahead_us = _difference_us(time.outputBufferDacTime, time.currentTime)
        self.played.append(Block(block, clock.now_us() + (self.latency_us if ahead_us is None else ahead_us)))


def device_latency_us(stream: Any) -> int:
    """Return what a sounddevice stream says about its own latency, 0 where it says nothing sensible."""
    try:
        latency_us = round(float(stream.latency) * 1e6)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return 0
    return latency_us if 0 <= latency_us <= MAX_LATENCY_US else 0


def open_device(kind: str, callback: Any) -> Any:
    """Open and start a sounddevice stream of 20 ms blocks, mono, 16 bits. Raises `MienError`."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # the package, or the PortAudio library below it
        raise MienError(
            f"no sound here ({error}): on Debian install libportaudio2, or use --audio silence"
        ) from None
    try:
        stream = getattr(sounddevice, kind)(
            samplerate=RATE_HZ,
            channels=1,
            dtype="int16",
            blocksize=FRAME_SAMPLES,
            callback=callback,
        )
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise MienError(f"no sound device can be used ({error}): use --audio silence") from None
    return stream


def _difference_us(later_s: float, earlier_s: float) -> int | None:
    """Return the time between two of PortAudio's times; None where the device does not give them."""
    difference_us = round((later_s - earlier_s) * 1e6) if later_s and earlier_s else 0
    return difference_us if 0 < difference_us <= MAX_LATENCY_US else None
