"""Makes speech a few milliseconds longer or shorter without a click: a period of it is repeated, or left out.

Between two places that sound alike the sound is faded from one to the other (waveform similarity overlap-add:
Verhelst and Roelands, ICASSP 1993). The places are a pitch period or several apart in a vowel, and any distance in
noise, so the pitch stays what it was. 15 ms at most at a time, about once in 60 ms, is a tempo that nobody hears.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEAST_SAMPLES: Final = 120  # 2.5 ms at 48 kHz: the period of a child's voice
MOST_SAMPLES: Final = 720  # 15 ms: of a deep one
FADE_SAMPLES: Final = 240
QUIET: Final = 200.0  # root mean square; what is quieter may be cut anywhere
ALIKE: Final = 0.5  # correlation of two places between which sound may be faded

Sound = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class _Splice:
    at: int
    distance: int


def lengthen(sound: Sound, most: int) -> Sound:
    """Return int16 [n + 120 ... n + `most`], at most 15 ms longer; or the sound itself, where it does not fit."""
    splice = _find(sound, most)
    if splice is None:
        return sound
    at, later = splice.at, splice.at + splice.distance
    return np.concatenate([sound[:later], _faded(sound, later, at), sound[at + FADE_SAMPLES :]])


def shorten(sound: Sound, most: int) -> Sound:
    """Return int16 [n - `most` ... n - 120], at most 15 ms shorter; or the sound itself, where it does not fit."""
    splice = _find(sound, most)
    if splice is None:
        return sound
    at, later = splice.at, splice.at + splice.distance
    return np.concatenate([sound[:at], _faded(sound, at, later), sound[later + FADE_SAMPLES :]])


def _faded(sound: Sound, start: int, end: int) -> Sound:
    """Return what leads from how it sounds at `start` to how it sounds at `end`."""
    weight = np.linspace(0, 1, FADE_SAMPLES, dtype=np.float32)
    one, other = sound[start : start + FADE_SAMPLES], sound[end : end + FADE_SAMPLES]
    return np.rint(one * (1 - weight) + other * weight).astype(np.int16)


def _find(sound: Sound, most: int) -> _Splice | None:
    """Return the two places that sound most alike, in the middle of the sound."""
    most = min(most, MOST_SAMPLES, (len(sound) - FADE_SAMPLES) // 2)
    if most < LEAST_SAMPLES:
        return None
    at = (len(sound) - most - FADE_SAMPLES) // 2
    around = sound[at : at + most + FADE_SAMPLES].astype(np.float64)
    pattern = around[:FADE_SAMPLES]
    if np.sqrt(np.square(around).mean()) < QUIET:
        return _Splice(at, most)
    products = np.correlate(around, pattern, "valid")[LEAST_SAMPLES:]
    sums = np.concatenate([[0.0], np.cumsum(np.square(around))])
    energies = (sums[FADE_SAMPLES:] - sums[:-FADE_SAMPLES])[LEAST_SAMPLES:]
    alike = products / np.sqrt(energies * np.square(pattern).sum() + 1)
    best = int(np.argmax(alike))
    return _Splice(at, LEAST_SAMPLES + best) if alike[best] >= ALIKE else None
