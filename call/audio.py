"""Voice: a microphone, a WAV file or silence in; a loudspeaker out, where there is one."""

import asyncio
import logging
import wave
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from mien.call import clock
from mien.protocol.errors import MienError

logger = logging.getLogger(__name__)

RATE_HZ: Final = 48_000
FRAME_SAMPLES: Final = 960  # 20 ms
FRAME_US: Final = 20_000
MAX_WAITING_FRAMES: Final = 10
FRAME_BYTES: Final = 2 * FRAME_SAMPLES


class VoiceTrack(MediaStreamTrack):
    """20 ms of mono 16-bit sound at a time. Muted it gives nothing at all, so that not a packet is sent."""

    kind = "audio"

    def __init__(self, *, muted: bool = False) -> None:
        super().__init__()
        self._heard = asyncio.Event()
        self._start_us: int | None = None
        self._position = 0  # in frames
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

    async def recv(self) -> av.AudioFrame:
        """Return the next frame when it is due."""
        await self._next_turn()
        while self.muted:
            await self._heard.wait()
            await self._next_turn()
        if self.readyState != "live":
            raise MediaStreamError
        samples = await self.read()
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        frame.pts = self._position * FRAME_SAMPLES
        frame.time_base = Fraction(1, RATE_HZ)
        return frame

    async def read(self) -> NDArray[np.int16]:
        """Return `FRAME_SAMPLES` samples, int16."""
        return np.zeros(FRAME_SAMPLES, np.int16)

    async def _next_turn(self) -> None:
        """Wait for the next 20 ms. A moment that was slept through is caught up with, a longer time left out."""
        now_us = clock.now_us()
        if self._start_us is None:
            self._start_us = now_us
            return
        due = (now_us - self._start_us) // FRAME_US
        self._position = due if due - self._position > MAX_WAITING_FRAMES else self._position + 1
        await asyncio.sleep(max(0, self._start_us + self._position * FRAME_US - now_us) / 1e6)


class WavTrack(VoiceTrack):
    """A WAV file, 16 bits, then silence."""

    def __init__(self, path: Path, *, muted: bool = False) -> None:
        super().__init__(muted=muted)
        self._samples = read_wav(path)
        self._at = 0

    async def read(self) -> NDArray[np.int16]:
        """Return the file's next samples."""
        piece = self._samples[self._at : self._at + FRAME_SAMPLES]
        self._at += FRAME_SAMPLES
        return np.pad(piece, (0, FRAME_SAMPLES - len(piece)))


class MicrophoneTrack(VoiceTrack):
    """The default input device. Raises `MienError` where there is none."""

    def __init__(self, *, muted: bool = False) -> None:
        super().__init__(muted=muted)
        self._loop = asyncio.get_running_loop()
        self._frames: deque[bytes] = deque(maxlen=MAX_WAITING_FRAMES)
        self._stream = _open_device("RawInputStream", self._on_samples)

    async def read(self) -> NDArray[np.int16]:
        """Return the oldest samples that wait; silence where the device is behind."""
        data = self._frames.popleft() if self._frames else bytes(FRAME_BYTES)
        return np.frombuffer(data, np.int16)

    def stop(self) -> None:
        """Release the device."""
        self._stream.close()
        super().stop()

    def _on_samples(self, data: Any, frames: int, time: Any, status: Any) -> None:
        if not self.muted:  # on the device's own thread; appending to a deque is atomic
            self._frames.append(bytes(data))


class Loudspeaker:
    """The default output device. Raises `MienError` where there is none."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque(maxlen=MAX_WAITING_FRAMES)
        self._resampler = av.AudioResampler(
            format="s16", layout="mono", rate=RATE_HZ, frame_size=FRAME_SAMPLES
        )
        self._stream = _open_device("RawOutputStream", self._on_wanted)

    def play(self, frame: av.AudioFrame) -> None:
        """Take 20 ms of the other side's voice."""
        for piece in self._resampler.resample(frame):
            self._frames.append(piece.to_ndarray().tobytes())

    def close(self) -> None:
        """Release the device."""
        self._stream.close()

    def _on_wanted(self, data: Any, frames: int, time: Any, status: Any) -> None:
        data[:] = self._frames.popleft() if self._frames else bytes(len(data))


def open_voice(spec: str, *, muted: bool = False) -> VoiceTrack:
    """Return the track for "microphone", "silence" or the path of a WAV file. Raises `MienError`."""
    if spec == "microphone":
        return MicrophoneTrack(muted=muted)
    if spec == "silence":
        return VoiceTrack(muted=muted)
    return WavTrack(Path(spec), muted=muted)


def read_wav(path: Path) -> NDArray[np.int16]:
    """Return a WAV file's first channel at `RATE_HZ`, int16 [n]. Raises `MienError`."""
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise MienError(f"{path} has {8 * file.getsampwidth()} bits a sample, expected 16")
            channels, rate = file.getnchannels(), file.getframerate()
            data = file.readframes(min(file.getnframes(), 3600 * rate))
    except (OSError, EOFError, wave.Error) as error:
        raise MienError(f"cannot read {path}: {error}. Give a WAV file, `microphone` or `silence`") from None
    samples = np.frombuffer(data, np.int16)[::channels]
    if rate == RATE_HZ or not len(samples):
        return samples
    at = np.arange(0, len(samples), rate / RATE_HZ)
    return np.asarray(np.interp(at, np.arange(len(samples)), samples), np.int16)


def _open_device(kind: str, callback: Any) -> Any:
    """Open and start a sounddevice stream of 20 ms blocks, mono, 16 bits."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # the package, or the PortAudio library below it
        raise MienError(
            f"no sound here ({error}): on Debian install libportaudio2, or use --audio silence"
        ) from None
    try:
        stream = getattr(sounddevice, kind)(
            samplerate=RATE_HZ, channels=1, dtype="int16", blocksize=FRAME_SAMPLES, callback=callback
        )
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise MienError(f"no sound device can be used ({error}): use --audio silence") from None
    return stream
