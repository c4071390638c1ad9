"""What the microphones of a measured call give."""

from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bench.call_cases import Voice
from mien.bench.speech_sound import room_noise, speech
from mien.call.audio import RATE_HZ
from mien.call.sound_file import SoundFile

LOUD_S: Final = 10.0
PAUSES_S: Final = 20.0  # long enough for several pauses
MAX_FILE_S: Final = 60


class Voices:
    """Sound for each side, int16 at 48 kHz, to be played round and round. The two sides say different things."""

    def __init__(self, file: Path | None) -> None:
        """`file`: who speaks instead of the test voice, with whatever pauses there are. Raises `MienError`."""
        self._file = None if file is None else _read(file)

    def of(self, voice: Voice, side: int) -> NDArray[np.int16] | None:
        """Return what a side's microphone gives; None for a side without one."""
        match voice:
            case Voice.NONE:
                return None
            case Voice.LISTENS | Voice.MUTED:
                return room_noise(LOUD_S, seed=1 + side)
            case _ if self._file is not None:
                return np.roll(self._file, side * len(self._file) // 2)
            case Voice.PAUSES:
                return _spoken(PAUSES_S, 1 + side, True)
            case _:
                return _spoken(LOUD_S, 1 + side, False)


@cache
def _spoken(seconds: float, seed: int, pauses: bool) -> NDArray[np.int16]:
    return speech(seconds, seed=seed, pauses=pauses)


def _read(path: Path) -> NDArray[np.int16]:
    file = SoundFile(path)
    try:
        sound = file.read(0, MAX_FILE_S * RATE_HZ)
    finally:
        file.close()
    heard = np.flatnonzero(sound)
    return sound[: heard[-1] + 1] if len(heard) else sound
