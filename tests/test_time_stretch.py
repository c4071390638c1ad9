"""Speech made longer and shorter: by how much, and that nothing clicks."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.call.time_stretch import LEAST_SAMPLES, MOST_SAMPLES, lengthen, shorten
from tests.voice_samples import RATE_HZ, speech


def tone(hz: float, count: int = 2880) -> NDArray[np.int16]:
    wave = 8000 * np.sin(2 * np.pi * hz * np.arange(count) / RATE_HZ)
    return np.asarray(np.rint(wave), np.int16)


def roughness(sound: NDArray[np.int16]) -> float:
    """The largest second difference: a click has a large one."""
    return float(np.abs(np.diff(sound.astype(float), 2)).max())


@pytest.mark.parametrize("hz", [90, 140.3, 233, 390])
def test_a_tone_keeps_its_pitch_and_does_not_click(hz: float) -> None:
    sound = tone(hz)
    for changed, sign in ((lengthen(sound, MOST_SAMPLES), 1), (shorten(sound, MOST_SAMPLES), -1)):
        change = sign * (len(changed) - len(sound))
        assert LEAST_SAMPLES <= change <= MOST_SAMPLES
        assert change % (RATE_HZ / hz) == pytest.approx(0, abs=3) or change % (RATE_HZ / hz) == pytest.approx(
            RATE_HZ / hz, abs=3
        )
        assert roughness(changed) < 1.5 * roughness(sound) + 4
        crossings = np.count_nonzero(np.diff(np.sign(changed)) > 0)
        assert crossings == pytest.approx(hz * len(changed) / RATE_HZ, abs=2)


def test_speech_and_noise_are_changed_without_clicks() -> None:
    said = speech(6.0)
    changed = 0
    for start in range(0, len(said) - 2880, 2880):
        sound = said[start : start + 2880]
        for change in (lengthen, shorten):
            result = change(sound, MOST_SAMPLES)
            changed += len(result) != len(sound)
            assert roughness(result) <= 1.3 * roughness(sound) + 200
            assert (result[:600] == sound[:600]).all() and (result[-600:] == sound[-600:]).all()
    assert changed > 80  # of 200


def test_no_more_is_changed_than_asked_for() -> None:
    sound = tone(200)
    for most in (0, 60, LEAST_SAMPLES - 1):
        assert len(lengthen(sound, most)) == len(shorten(sound, most)) == len(sound)
    assert len(lengthen(sound, 250)) - len(sound) <= 250
    for count in (0, 1, 240, 300, 480, 500):
        short = tone(200, count)
        assert 0 <= len(lengthen(short, MOST_SAMPLES)) - count <= MOST_SAMPLES
        assert 0 <= count - len(shorten(short, MOST_SAMPLES)) <= MOST_SAMPLES


def test_what_is_quiet_may_be_cut_anywhere() -> None:
    quiet = np.zeros(2880, np.int16)
    assert len(lengthen(quiet, 700)) == 2880 + 700
    assert len(shorten(quiet, 700)) == 2880 - 700
