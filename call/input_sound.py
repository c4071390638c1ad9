"""The sound of the input file itself, in step with its pictures, however often the file begins again.

The pictures lead: their thread goes through the file, and whenever it begins, the sound is told.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.call import clock
from mien.call.audio import FRAME_SAMPLES, FRAME_US, RATE_HZ, VoiceTrack
from mien.call.sound_file import SoundFile
from mien.encoder.capture import DEFAULT_RATE, Frame, Source
from mien.encoder.wrapped_source import WrappedSource
from mien.protocol.errors import MienError

logger = logging.getLogger(__name__)


class InputSound(VoiceTrack):
    """Until the first picture is taken there is no sound; where the file has none, silence.

    Position 0 is that picture, unless somebody asked for positions before.
    """

    def __init__(self, path: Path, *, muted: bool = False) -> None:
        """Raises `MienError` for a file without sound. Make it in a running loop."""
        super().__init__(muted=muted)
        self._path = path
        self._event_loop = asyncio.get_running_loop()
        self._file = SoundFile(path, with_picture=True)
        self._file_begins_us = 0
        self._first_picture_us = 0  # after position 0
        self._passes: list[int] = []  # when each begins, µs after the first; the one that is heard leads
        self._begun = asyncio.Event()

    def begin_pass(self, begins_us: int, now_us: int) -> None:
        """The file begins, `begins_us` after its first beginning. Any thread may say so."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._event_loop.call_soon_threadsafe(self._begin_pass, begins_us, now_us)

    def _begin_pass(self, begins_us: int, now_us: int) -> None:
        if not self._passes:
            if self._start_us is None:
                self._start_us = now_us
            self._first_picture_us = now_us - self._start_us
            self._begun.set()
        self._passes.append(begins_us)

    async def read(self) -> NDArray[np.int16]:
        """Return what belongs to the pictures of these 20 ms."""
        at_us = self._position * FRAME_US - self._first_picture_us
        self._turn_to(at_us)
        return self._file.read((at_us - self._file_begins_us) * RATE_HZ // 1_000_000, FRAME_SAMPLES)

    def stop(self) -> None:
        """Close the file."""
        self._file.close()
        self._begun.set()  # whoever waits for the first picture learns that there will be none
        super().stop()

    async def _next_turn(self) -> None:
        await self._begun.wait()
        await super()._next_turn()

    def _turn_to(self, at_us: int) -> None:
        """Open the file anew where another time through it has begun."""
        while len(self._passes) > 1 and self._passes[1] <= at_us:
            self._passes.pop(0)
        begins_us = self._passes[0] if self._passes else 0
        if begins_us != self._file_begins_us:
            self._file.close()
            self._file_begins_us = begins_us
            try:
                self._file = SoundFile(self._path, with_picture=True)
            except MienError as error:  # gone meanwhile: the old one is at its end, and gives silence
                logger.warning("%s", error)


class SoundingSource(WrappedSource):
    """Another source's frames; whenever they begin, their sound is told. Stands directly before what paces them."""

    def __init__(self, source: Source, sound: InputSound) -> None:
        """Raises `MienError` for a camera: its sound is the microphone's."""
        if source.live:
            raise MienError("a camera has no sound of its own: use --audio microphone")
        super().__init__(source)
        self._sound = sound
        self._frames_us = 0  # of all passes so far

    def __iter__(self) -> Iterator[Frame]:
        begins_us = self._frames_us
        for index, frame in enumerate(self._source):
            if index == 0:
                self._sound.begin_pass(begins_us, clock.now_us() - frame.timestamp_us)
            # The next pass begins one frame after this one, as in `source_worker`.
            self._frames_us = begins_us + frame.timestamp_us + round(1_000_000 / (self.rate or DEFAULT_RATE))
            yield frame
