"""How much of speech can be understood: extended STOI (Jensen and Taal 2016), which agrees with listening tests.

One number from 0 to 1 for what was heard against what was said, both at the same positions. It compares the
rise and fall of a third of a second in 15 bands; pauses do not count.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

Sound = NDArray[np.float64]

RATE_HZ: Final = 10_000
FRAME: Final = 256
HOP: Final = 128
TRANSFORM: Final = 512
BANDS: Final = 15
LOWEST_BAND_HZ: Final = 150
SEGMENT: Final = 30  # frames: 384 ms
RANGE_DB: Final = 40  # what is quieter than the loudest frame by more is a pause
TINY: Final = 1e-12


def extended_stoi(said: NDArray[np.int16], heard: NDArray[np.int16], *, rate_hz: int = 48_000) -> float:
    """Return the measure, nan where there is less than a segment of speech. Both int16, of one length."""
    if len(said) != len(heard):
        raise ValueError(f"{len(said)} samples said and {len(heard)} heard, expected as many")
    clean, other = (resample_poly(s.astype(np.float64), RATE_HZ, rate_hz) for s in (said, heard))
    clean, other = _without_pauses(clean, other)
    if len(clean) < (SEGMENT + 1) * HOP + FRAME:
        return float("nan")
    one, two = _bands(clean), _bands(other)
    segments = range(SEGMENT, one.shape[1] + 1)
    return float(np.mean([_agreement(one[:, i - SEGMENT : i], two[:, i - SEGMENT : i]) for i in segments]))


def _frames(sound: Sound) -> Sound:
    """Return [frames, FRAME], windowed."""
    window = np.hanning(FRAME + 2)[1:-1]
    starts = range(0, len(sound) - FRAME, HOP)
    return np.array([sound[at : at + FRAME] * window for at in starts]).reshape(-1, FRAME)


def _without_pauses(clean: Sound, other: Sound) -> tuple[Sound, Sound]:
    frames, others = _frames(clean), _frames(other)
    if not len(frames):
        return clean[:0], other[:0]
    level_db = 20 * np.log10(np.linalg.norm(frames, axis=1) + TINY)
    spoken = level_db > level_db.max() - RANGE_DB
    return _joined(frames[spoken]), _joined(others[spoken])


def _joined(frames: Sound) -> Sound:
    """Overlap and add."""
    sound = np.zeros((len(frames) - 1) * HOP + FRAME if len(frames) else 0)
    for index, frame in enumerate(frames):
        sound[index * HOP : index * HOP + FRAME] += frame
    return sound


def _bands(sound: Sound) -> Sound:
    """Return the magnitudes [BANDS, frames] in thirds of an octave."""
    power = np.abs(np.fft.rfft(_frames(sound), TRANSFORM)) ** 2
    bins_hz = np.arange(TRANSFORM // 2 + 1) * RATE_HZ / TRANSFORM
    bands = []
    for band in range(BANDS):
        centre = LOWEST_BAND_HZ * 2 ** (band / 3)
        low, high = (int(np.argmin(np.abs(bins_hz - centre * 2**shift))) for shift in (-1 / 6, 1 / 6))
        bands.append(np.sqrt(power[:, low:high].sum(1)))
    return np.array(bands)


def _agreement(one: Sound, two: Sound) -> float:
    """Return how alike two segments are whose rows, then columns, have mean 0 and length 1."""
    normal = [_normalised(_normalised(s, axis=1), axis=0) for s in (one, two)]
    return float((normal[0] * normal[1]).sum() / SEGMENT)


def _normalised(values: Sound, *, axis: int) -> Sound:
    centred = values - values.mean(axis=axis, keepdims=True)
    return np.asarray(centred / (np.linalg.norm(centred, axis=axis, keepdims=True) + TINY))
