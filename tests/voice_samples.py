"""Sound that a speech coder takes for speech, and files of sound."""

import wave
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.bench.speech_sound import speech as made_up_speech

RATE_HZ = 48_000


@cache
def speech(seconds: float, *, noise: float = 0.0) -> NDArray[np.int16]:
    """Return a clear voice, int16 [48 000 seconds]; `noise` is added white noise, as a part of full scale."""
    sound = made_up_speech(seconds, seed=3, breath=0).astype(np.float64)
    sound += 32_000 * np.random.default_rng(4).normal(0, noise, len(sound))
    return np.clip(sound, -32_000, 32_000).astype(np.int16)


def write_wav(path: Path, samples: NDArray[Any], *, rate: int = RATE_HZ, channels: int = 1) -> Path:
    """Write 16-bit sound, int16 [samples * channels] or [samples, channels]."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path
