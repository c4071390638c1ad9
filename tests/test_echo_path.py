"""Whether there is an echo: headphones, a loudspeaker, two people at once, headphones that are taken off."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.call.echo_path import FRAME_US, EchoPath, correlation, syllables

FRAME = 960
DELAY_FRAMES = 4
Sound = NDArray[np.float64]


def talk(seconds: float, *, seed: int, turns_s: tuple[float, float]) -> Sound:
    """Return noise that is as loud as syllables, of 60 to 200 ms, in turns with silence between them."""
    rng = np.random.default_rng(seed)
    loudness: list[float] = []
    while len(loudness) < seconds * 50:
        end = len(loudness) + round(turns_s[0] * 50 * rng.uniform(0.7, 1.3))
        while len(loudness) < end:
            loudness += [float(rng.choice([0.05, 0.4, 1.0]))] * int(rng.integers(3, 10))
        loudness += [0.0] * round(turns_s[1] * 50 * rng.uniform(0.7, 1.3))
    frames = np.array(loudness[: round(seconds * 50)])
    return np.repeat(frames, FRAME) * rng.normal(0, 3000, len(frames) * FRAME)


def course(far: Sound, near: Sound, echo: Sound, *, noise: float) -> list[bool]:
    """Return, frame by frame, whether an echo is taken to be there."""
    path, rng, states = EchoPath(), np.random.default_rng(9), []
    microphone = near + echo + rng.normal(0, noise, len(far))
    for index in range(len(far) // FRAME):
        at = slice(index * FRAME, (index + 1) * FRAME)
        path.play(far[at].astype(np.int16), index * FRAME_US)
        path.hear(np.clip(microphone[at], -32_000, 32_000).astype(np.int16), index * FRAME_US)
        states.append(path.heard)
    return states


def echo_of(far: Sound, gain: float = 0.2) -> Sound:
    return gain * np.concatenate([np.zeros(DELAY_FRAMES * FRAME), far[: -DELAY_FRAMES * FRAME]])


@pytest.mark.parametrize("noise", [5.0, 100.0])
def test_headphones_are_found_while_both_take_turns(noise: float) -> None:
    far = talk(30, seed=1, turns_s=(3, 3))
    near = talk(30, seed=2, turns_s=(2, 4))
    states = course(far, near, np.zeros(len(far)), noise=noise)
    assert all(states[:240])  # nothing is known yet
    assert not any(states[20 * 50 :])


@pytest.mark.parametrize("gain", [0.05, 0.3])
def test_an_echo_is_never_taken_for_headphones(gain: float) -> None:
    far = talk(30, seed=3, turns_s=(3, 3))
    near = talk(30, seed=4, turns_s=(2, 4))
    assert all(course(far, near, echo_of(far, gain), noise=10))
    assert all(course(far, np.zeros(len(far)), echo_of(far, gain), noise=10))


def test_nothing_is_known_of_a_loudspeaker_that_is_silent() -> None:
    near = talk(10, seed=4, turns_s=(2, 2))
    assert all(course(np.zeros(len(near)), near, np.zeros(len(near)), noise=10))


def test_headphones_that_are_taken_off() -> None:
    far = talk(40, seed=5, turns_s=(3, 2))
    echo = echo_of(far)
    echo[: 25 * 50 * FRAME] = 0
    states = course(far, np.zeros(len(far)), echo, noise=10)
    assert not any(states[20 * 50 : 25 * 50])
    assert all(states[31 * 50 :])


def test_two_people_at_once_are_no_echo() -> None:
    far, near = talk(40, seed=6, turns_s=(3, 1)), talk(40, seed=7, turns_s=(3, 1))
    near[: 15 * 50 * FRAME] = 0
    assert not any(course(far, near, np.zeros(len(far)), noise=10)[15 * 50 :])


def test_loudness_from_syllable_to_syllable() -> None:
    rng = np.random.default_rng(1)
    slow = np.repeat([1e3, 1e6, 1e3], 60)
    assert np.abs(syllables(slow)[20:40]).max() < 1e-9  # whose turn it is does not count
    powers = rng.uniform(1e4, 1e7, 180)
    assert correlation(syllables(powers), syllables(powers * 0.1)) > 0.95
    assert correlation(np.ones(5), np.arange(5.0)) == 0
