"""A test voice: sound that a speech coder takes for speech, seeded. Buzzing vowels, hissing consonants, pauses.

It is nobody's voice and says nothing. Without pauses it is the worst case for a voice's rate: nobody speaks for
long without drawing breath.
"""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.call.opus import RATE_HZ

PEAK: Final = 30_000
HARMONICS: Final = 28
BAND_HZ: Final = 150.0  # of a formant
BREATH: Final = 1.0  # makes it a hoarse voice, whose noise takes bits as real voices do
KNOTS: Final = 12
PHRASE_S: Final = (1.2, 3.0)
PAUSE_S: Final = (0.5, 1.6)  # people in a conversation pause for 20 to 45 % of their turns


def speech(
    seconds: float, *, seed: int = 1, pauses: bool = False, breath: float = BREATH
) -> NDArray[np.int16]:
    """Return int16 [48 000 seconds], loud. `pauses`: between phrases, as people make them.

    `breath`: beside harmonics of 1. With 0 the voice is clear: what a coder loses of it can be heard and measured.
    """
    random = np.random.default_rng(seed)
    count = round(seconds * RATE_HZ)
    pieces: list[NDArray[np.float64]] = []
    length = 0
    for piece in _phrases(random, breath) if pauses else _syllables(random, math.inf, breath):
        pieces.append(piece)
        length += len(piece)
        if length >= count:
            break
    sound = np.concatenate(pieces)[:count]
    # The room behind the voice: digital silence is what no microphone gives.
    sound += random.normal(0, 3e-4, count)
    return np.asarray(np.clip(sound, -1, 1) * PEAK, np.int16)


def _phrases(random: np.random.Generator, breath: float) -> Iterator[NDArray[np.float64]]:
    while True:
        yield from _syllables(random, random.uniform(*PHRASE_S), breath)
        yield np.zeros(round(random.uniform(*PAUSE_S) * RATE_HZ))


def _syllables(random: np.random.Generator, seconds: float, breath: float) -> Iterator[NDArray[np.float64]]:
    passed = 0
    while passed < seconds * RATE_HZ:
        for sound in (_consonant(random), _vowel(random, breath)):
            passed += len(sound)
            yield sound


def _vowel(random: np.random.Generator, breath: float) -> NDArray[np.float64]:
    """A buzz of harmonics, the louder the nearer they are to one of three formants, and some breath."""
    count = round(random.uniform(0.12, 0.25) * RATE_HZ)
    pitch_hz = np.linspace(random.uniform(100, 160), random.uniform(90, 180), count)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    formants_hz = random.uniform((300, 900, 2300), (800, 2000, 3000))
    places = np.linspace(0, count - 1, KNOTS, dtype=int)  # how loud it is changes slowly
    sound = random.normal(0, breath, count)
    for harmonic in range(1, HARMONICS):
        distance = np.abs(harmonic * pitch_hz[places, None] - formants_hz) / BAND_HZ
        loudness = np.interp(np.arange(count), places, (1 / (1 + distance**2)).sum(1))
        sound += loudness * np.sin(harmonic * phase)
    return np.asarray(0.12 * sound * np.hanning(count) ** 0.4)


def _consonant(random: np.random.Generator) -> NDArray[np.float64]:
    """Noise of an octave above 1.5 to 3 kHz."""
    count = round(random.uniform(0.04, 0.09) * RATE_HZ)
    low_hz = random.uniform(1500, 3000)
    spectrum = np.fft.rfft(random.normal(0, 0.2, count))
    at_hz = np.fft.rfftfreq(count, 1 / RATE_HZ)
    spectrum[(at_hz < low_hz) | (at_hz > 2.2 * low_hz)] = 0
    return np.asarray(np.fft.irfft(spectrum, count) * np.hanning(count) ** 0.5)


def room_noise(seconds: float, *, seed: int = 1) -> NDArray[np.int16]:
    """Return what a microphone gives while nobody speaks: int16 [48 000 seconds]."""
    noise = np.random.default_rng(seed).normal(0, 3e-4, round(seconds * RATE_HZ))
    return np.asarray(noise * PEAK, np.int16)
