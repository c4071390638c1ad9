"""Sound from files, as a voice: of any format that FFmpeg reads, on its own or together with its picture."""

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from mien.call.audio import FRAME_SAMPLES, RATE_HZ, VoiceTrack
from mien.call.voice_coder import MonoSound
from mien.protocol.errors import MienError

logger = logging.getLogger(__name__)

ADVICE: Final = "Give a file with sound, `input`, `microphone` or `silence`"
MAX_FIRST_US: Final = 3_600_000_000  # a sound that begins later than that beside its picture is a broken file


class SoundFile:
    """A file's sound, read once from front to end: mono, 48 kHz. Positions count from where the picture begins."""

    def __init__(self, path: Path, *, with_picture: bool = False) -> None:
        """`with_picture`: position 0 is the first picture's time, not the sound's. Raises `MienError`."""
        self._path = path
        self._container = _open(path)
        self._origin = self._first_picture_s() if with_picture else None
        self._pieces = self._decoded()
        self._waiting = np.zeros(0, np.int16)  # decoded, not read yet
        self._waiting_at = 0
        self._ended = False
        try:
            self._take_piece()  # a file without sound is refused now, not when somebody listens
        except MienError:
            self.close()
            raise
        if self._ended:
            self.close()
            raise MienError(f"{path} holds no sound that can be decoded. {ADVICE}")

    def read(self, position: int, count: int) -> NDArray[np.int16]:
        """Return `count` samples from a position on, int16; silence where there is none. Never goes back."""
        sound = np.zeros(count, np.int16)
        while self._waiting_at < position + count:
            start = max(position, self._waiting_at)
            part = self._waiting[start - self._waiting_at :][: position + count - start]
            sound[start - position : start - position + len(part)] = part
            if self._ended or self._waiting_at + len(self._waiting) > position + count:
                break
            self._take_piece()
        return sound

    def close(self) -> None:
        """Close the file: what follows is silence."""
        self._ended = True
        self._container.close()

    def _take_piece(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            self._ended = True
        else:
            self._waiting_at, self._waiting = piece

    def _first_picture_s(self) -> Fraction | None:
        with _open(self._path, kind="video") as container:
            stream = container.streams.video[0]
            first = next((p for p in container.demux(stream) if p.pts is not None), None)
            # Packets come in the order of decoding; in files that were cut or reordered `start_time` is the earlier.
            times = [t for t in (stream.start_time, first.pts if first else None) if t is not None]
            return min(times) * stream.time_base if times and stream.time_base else None

    def _decoded(self) -> Iterator[tuple[int, NDArray[np.int16]]]:
        converter = MonoSound()
        shift: int | None = None
        for frame in self._frames():
            time_base = frame.time_base
            if shift is None:
                began = (
                    frame.pts * time_base if frame.pts is not None and time_base is not None else Fraction(0)
                )
                origin = began if self._origin is None else self._origin
                shift = -round(origin * RATE_HZ)
                if abs(began - origin) * 1_000_000 > MAX_FIRST_US:
                    shift = -round(began * RATE_HZ)
            for position, samples in converter.convert(frame):
                yield position + shift, samples
        for position, samples in converter.flush():
            yield position + (shift or 0), samples

    def _frames(self) -> Iterator[av.AudioFrame]:
        packets = self._container.demux(self._container.streams.audio[0])
        damaged = 0
        while True:
            try:
                frames = next(packets).decode()
            except (StopIteration, EOFError):
                break
            except av.error.InvalidDataError:
                damaged += 1
                continue
            except av.error.FFmpegError as error:
                logger.warning("%s: reading stopped: %s", self._path, error)
                break
            yield from (frame for frame in frames if isinstance(frame, av.AudioFrame))
        if damaged:
            logger.warning("%s: %d damaged packets of sound were skipped", self._path, damaged)


class FileTrack(VoiceTrack):
    """A file's sound, then silence."""

    def __init__(self, path: Path, *, muted: bool = False) -> None:
        """Raises `MienError`."""
        super().__init__(muted=muted)
        self._file = SoundFile(path)
        self._at = 0  # what was not sent, muted, is not lost

    async def read(self) -> NDArray[np.int16]:
        """Return the file's next samples."""
        self._at += FRAME_SAMPLES
        return self._file.read(self._at - FRAME_SAMPLES, FRAME_SAMPLES)

    def stop(self) -> None:
        """Close the file."""
        self._file.close()
        super().stop()


def _open(path: Path, *, kind: str = "audio") -> Any:
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MienError(f"cannot read {path}: {error}. {ADVICE}") from None
    if not any(stream.type == kind for stream in container.streams):
        container.close()
        raise MienError(f"{path} holds no {'sound' if kind == 'audio' else 'picture'}. {ADVICE}")
    return container
