"""What a microphone hears of a voice: at its level, with pauses, in noise, with an echo of the room. Seeded."""

from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bench.speech_sound import speech
from mien.call.opus import RATE_HZ

LEVEL: Final = 2500.0  # root mean square of speech, of 16-bit samples: 22 dB below full scale

Sound = NDArray[np.float64]


@cache
def clear_voice(seconds: float, *, seed: int = 3) -> NDArray[np.int16]:
    """Return the test voice at the level of speech, without pauses: int16 [48 000 seconds]."""
    return as_samples(at_level(speech(seconds, seed=seed, breath=0).astype(np.float64), LEVEL))


def with_pauses(sound: NDArray[np.int16], *, talk_s: float = 2.4, pause_s: float = 2.4) -> NDArray[np.int16]:
    """Return a sound with silence put in after every `talk_s`: int16."""
    talk, pause = round(talk_s * RATE_HZ), np.zeros(round(pause_s * RATE_HZ), np.int16)
    parts = [sound[at : at + talk] for at in range(0, len(sound), talk)]
    return np.concatenate([piece for part in parts for piece in (part, pause)])


def white(count: int, random: np.random.Generator) -> Sound:
    """Return hiss."""
    return random.normal(size=count)


def pink(count: int, random: np.random.Generator) -> Sound:
    """Return noise of as much power in every octave: a fan, a street."""
    spectrum = np.fft.rfft(random.normal(size=count))
    frequency = np.maximum(np.fft.rfftfreq(count, 1 / RATE_HZ), 20.0)
    return np.asarray(np.fft.irfft(spectrum / np.sqrt(frequency), count))


def babble(count: int, random: np.random.Generator) -> Sound:
    """Return six voices at once, behind one another."""
    voices = [clear_voice(4.0, seed=100 + voice).astype(np.float64) for voice in range(6)]
    return np.asarray(
        np.sum([np.resize(np.roll(v, int(random.integers(len(v)))), count) for v in voices], axis=0)
    )


NOISES: Final[dict[str, Callable[[int, np.random.Generator], Sound]]] = {
    "white": white,
    "pink": pink,
    "babble": babble,
}


def in_noise(sound: NDArray[np.int16], kind: str, snr_db: float, *, seed: int = 0) -> NDArray[np.int16]:
    """Return a sound in noise of `NOISES`, so far below the level of its louder parts: int16."""
    noise = NOISES[kind](len(sound), np.random.default_rng(seed))
    return as_samples(sound + at_level(noise, level(sound) * 10 ** (-snr_db / 20)))


def level(sound: NDArray[np.int16]) -> float:
    """Return the root mean square of the sound where it is not silent, by blocks of 20 ms."""
    blocks = np.square(sound[: len(sound) // 960 * 960], dtype=np.float64).reshape(-1, 960).mean(1)
    return float(np.sqrt(blocks[blocks > blocks.max(initial=0) / 1000].mean())) if blocks.any() else 0.0


def at_level(sound: Sound, root_mean_square: float) -> Sound:
    """Return a sound of another level."""
    return np.asarray(sound * (root_mean_square / max(float(np.sqrt(np.square(sound).mean())), 1e-9)))


def as_samples(sound: Sound) -> NDArray[np.int16]:
    """Return 16-bit samples; what is too loud is clipped."""
    return np.asarray(np.clip(sound, -32_768, 32_767), np.int16)


def echo_of(far: NDArray[np.int16], *, delay_ms: int, seed: int = 1) -> Sound:
    """Return what a microphone hears of a loudspeaker in a room of 0.2 s of reverberation, 12 dB quieter."""
    random = np.random.default_rng(seed)
    count = round(0.2 * RATE_HZ)
    room = random.normal(size=count) * np.exp(-6.9 * np.arange(count) / count)
    room[0] = 4 * np.abs(room).max()
    length = len(far) + count + delay_ms * 48
    heard = np.fft.irfft(np.fft.rfft(far, length) * np.fft.rfft(room, length), length)
    heard = np.roll(heard, delay_ms * 48)[: len(far)]
    heard[: delay_ms * 48] = 0
    return at_level(heard, level(far) / 4)
