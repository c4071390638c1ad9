"""Sound that a speech coder takes for speech: buzzing vowels and hissing consonants, seeded."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

RATE_HZ = 48_000


@cache
def speech(seconds: float, *, noise: float = 0.0) -> NDArray[np.int16]:
    """Return int16 [48 000 seconds]; `noise` is added white noise, as a part of full scale."""
    random = np.random.default_rng(3)
    pieces: list[NDArray[np.float64]] = []
    while sum(map(len, pieces)) < seconds * RATE_HZ:
        pieces += [_vowel(random), _consonant(random)]
    sound = np.concatenate(pieces)[: round(seconds * RATE_HZ)]
    sound = sound + random.normal(0, noise, len(sound))
    return np.clip(sound * 32_000, -32_000, 32_000).astype(np.int16)


def _vowel(random: np.random.Generator) -> NDArray[np.float64]:
    count = round(random.uniform(0.12, 0.25) * RATE_HZ)
    pitch_hz = np.linspace(random.uniform(100, 160), random.uniform(90, 180), count)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    formants_hz = random.uniform((300, 900, 2300), (800, 2000, 3000))
    sound = np.zeros(count)
    for harmonic in range(1, 28):
        distance = np.abs(harmonic * pitch_hz[:, None] - formants_hz) / 150
        sound += (1 / (1 + distance**2)).sum(1) * np.sin(harmonic * phase)
    return 0.1 * sound * np.hanning(count) ** 0.4


def _consonant(random: np.random.Generator) -> NDArray[np.float64]:
    count = round(random.uniform(0.04, 0.09) * RATE_HZ)
    low_hz = random.uniform(1500, 3000)
    hiss = sosfilt(
        butter(2, (low_hz, 2.2 * low_hz), "bandpass", fs=RATE_HZ, output="sos"), random.normal(0, 0.15, count)
    )
    return np.asarray(hiss * np.hanning(count) ** 0.5)
