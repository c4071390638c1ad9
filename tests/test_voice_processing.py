"""Speech clean-up: what runs when, and, where the library is installed, what it does to sound."""

from collections import deque
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.call.audio import FRAME_SAMPLES, FRAME_US, RATE_HZ
from mien.call.audio_processing import AudioProcessor, why_no_processing
from mien.call.sound_device import Block
from mien.call.voice_processing import ProcessingSettings, SpeechToNoise, Switch, VoiceProcessing
from mien.protocol.errors import MienError
from tests.voice_samples import speech

library = pytest.mark.skipif(bool(why_no_processing()), reason=why_no_processing())


class Recorder:
    """Stands for the library: halves what is near, and writes down what it is told."""

    def __init__(self, **what: bool) -> None:
        self.what = [name for name, wanted in what.items() if wanted]
        self.told: list[tuple[str, int]] = []

    def near(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        self.told.append(("near", int(samples[0])))
        return np.asarray(samples // 2, np.int16)

    def far(self, samples: NDArray[np.int16]) -> None:
        self.told.append(("far", int(samples[0])))

    def set_delay_ms(self, delay_ms: int) -> None:
        self.told.append(("delay", delay_ms))


def absent(**what: bool) -> Any:
    raise MienError("no speech clean-up: the package livekit is not installed")


@cache
def talk(noise_db: float | None) -> NDArray[np.int16]:
    """Return 8 s of speech with pauses, in white noise so many dB below it."""
    said = speech(8.0).astype(float)
    level = float(np.sqrt(np.square(said).mean()))
    time = np.arange(len(said)) / RATE_HZ
    said *= time % 2 < 1.5
    if noise_db is not None:
        said += np.random.default_rng(5).normal(0, level * 10 ** (-noise_db / 20), len(said))
    return np.asarray(np.clip(said, -32_000, 32_000), np.int16)


def frames(sound: NDArray[np.int16]) -> list[NDArray[np.int16]]:
    return [sound[at : at + FRAME_SAMPLES] for at in range(0, len(sound) - FRAME_SAMPLES + 1, FRAME_SAMPLES)]


def clean(processing: VoiceProcessing, sound: NDArray[np.int16]) -> NDArray[np.int16]:
    parts = [
        processing.clean(frame, captured_us=i * FRAME_US).astype(np.int16)
        for i, frame in enumerate(frames(sound))
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("noise_db", [5, 10, 15, 20, 30])
def test_noise_is_measured(noise_db: float) -> None:
    ratio = SpeechToNoise()
    for frame in frames(talk(noise_db)):
        ratio.hear(frame)
    assert ratio.db is not None and abs(ratio.db - noise_db) < 3


def test_noise_that_cannot_be_measured() -> None:
    silence, quiet = SpeechToNoise(), SpeechToNoise()
    for frame in frames(talk(None)):
        quiet.hear(frame)
        silence.hear(np.zeros(FRAME_SAMPLES, np.int16))
    assert silence.db is None  # nobody said anything
    assert quiet.db is not None and quiet.db > 40


def test_what_runs_by_itself() -> None:
    def on(settings: ProcessingSettings | None = None, **where: Any) -> tuple[bool, bool, bool]:
        processing = VoiceProcessing(settings, make=Recorder, **where)
        clean(processing, talk(None))
        treatments = processing.treatments()
        assert all(t.why for t in (treatments.noise, treatments.gain, treatments.echo))
        return treatments.noise.on, treatments.gain.on, treatments.echo.on

    speaker: deque[Block] = deque()
    assert on(microphone=True, played=speaker) == (False, True, True)
    assert on(microphone=True) == (False, True, False)  # no loudspeaker, no echo
    assert on(microphone=False, played=speaker) == (False, False, False)  # a file
    everything = ProcessingSettings(Switch.ON, Switch.ON, Switch.ON)
    assert on(everything, microphone=False, played=speaker) == (True, True, True)
    nothing = ProcessingSettings(Switch.OFF, Switch.OFF, Switch.OFF)
    assert on(nothing, microphone=True, played=speaker) == (False, False, False)


def test_noise_is_suppressed_below_15_db_only() -> None:
    for noise_db, wanted in ((8, True), (25, False)):
        processing = VoiceProcessing(microphone=False, make=Recorder)
        heard = clean(processing, talk(noise_db))
        treatment = processing.treatments().noise
        assert treatment.on is wanted and "dB above" in treatment.why
        unchanged = (heard == talk(noise_db)).reshape(-1, FRAME_SAMPLES).all(1)
        assert unchanged[:99].all() and (not unchanged[-1]) is wanted
        changes = np.flatnonzero(np.diff(unchanged.astype(int)))
        assert len(changes) == wanted  # it does not come and go


def test_the_echo_canceller_hears_far_before_near_and_the_delay() -> None:
    played: deque[Block] = deque(maxlen=50)
    processing = VoiceProcessing(
        ProcessingSettings(noise=Switch.OFF, gain=Switch.OFF), microphone=True, played=played, make=Recorder
    )
    played.append(Block(np.full(FRAME_SAMPLES, 3, np.int16).tobytes(), air_us=90_000))
    processing.clean(np.full(FRAME_SAMPLES, 8, np.int16), captured_us=50_000)
    echo: Any = processing._echo
    assert echo.told == [("far", 3), ("delay", 40), ("near", 8)]
    played.extend(Block(np.full(FRAME_SAMPLES, i, np.int16).tobytes(), air_us=0) for i in range(40))
    processing.clean(np.full(FRAME_SAMPLES, 8, np.int16), captured_us=0)
    assert [value for what, value in echo.told[3:] if what == "far"] == list(range(30, 40))
    assert not played


def test_echo_is_left_alone_where_none_is_heard() -> None:
    """In headphones; then they are taken off. `on` cancels all the same."""
    rng = np.random.default_rng(3)
    loudness = np.repeat(rng.choice([0.1, 0.5, 1.0], 250), 6)  # 30 s of syllables
    far = (np.repeat(loudness, FRAME_SAMPLES) * rng.normal(0, 3000, 1500 * FRAME_SAMPLES)).astype(np.int16)
    for switch, worn in ((Switch.AUTO, False), (Switch.ON, True)):
        played: deque[Block] = deque()
        settings = ProcessingSettings(noise=Switch.OFF, gain=Switch.OFF, echo=switch)
        processing = VoiceProcessing(settings, microphone=True, played=played, make=Recorder)
        assert processing.treatments().echo.on
        for index, block in enumerate(frames(far)):
            played.append(Block(block.tobytes(), air_us=index * FRAME_US))
            echo = block // 4 if index >= 1000 else rng.normal(0, 5, FRAME_SAMPLES).astype(np.int16)
            heard = processing.clean(echo, captured_us=index * FRAME_US)
            if index == 999:
                assert processing.treatments().echo.on is worn
                assert bool((heard == echo).all()) is not worn
        assert processing.treatments().echo.on
    assert "headphones" not in processing.treatments().echo.why


def test_without_the_library_the_voice_is_sent_as_it_is() -> None:
    processing = VoiceProcessing(microphone=True, played=deque(), make=absent)
    assert (clean(processing, talk(8)) == talk(8)).all()
    treatments = processing.treatments()
    for treatment in (treatments.noise, treatments.gain, treatments.echo):
        assert not treatment.on and "livekit" in treatment.why


# --- the library ------------------------------------------------------------------------------------------------


def power_db(sound: NDArray[np.int16]) -> float:
    return 10 * float(np.log10(np.square(sound, dtype=np.float64).mean() + 1e-9))


@library
def test_echo_is_cancelled_and_the_near_voice_kept() -> None:
    """A loudspeaker 70 ms before the microphone, two reflections; the other side talks 6 s, then both sides talk."""
    far = np.concatenate([speech(6.0), speech(2.0)])
    echo = np.zeros(len(far) + RATE_HZ)
    for delay_ms, gain in ((70, 0.3), (83, 0.12), (110, 0.06)):
        echo[delay_ms * 48 : delay_ms * 48 + len(far)] += gain * far
    near = np.zeros(len(far))
    near[6 * RATE_HZ :] = 0.7 * np.roll(speech(2.0), 20_000)
    microphone = np.clip(echo[: len(far)] + near, -32_000, 32_000).astype(np.int16)
    played: deque[Block] = deque(maxlen=50)
    processing = VoiceProcessing(
        ProcessingSettings(noise=Switch.OFF, gain=Switch.OFF), microphone=True, played=played
    )
    heard = []
    for index, (f, m) in enumerate(zip(frames(far), frames(microphone), strict=True)):
        played.append(Block(f.tobytes(), air_us=index * FRAME_US + 70_000))
        heard.append(processing.clean(m, captured_us=index * FRAME_US))
    sound = np.concatenate(heard)
    alone = slice(3 * RATE_HZ, 6 * RATE_HZ)
    assert power_db(microphone[alone]) - power_db(sound[alone]) > 25  # ERLE
    both = slice(6 * RATE_HZ + 9600, 8 * RATE_HZ - 9600)
    kept = max(
        np.corrcoef(near[both.start : both.stop], sound[both.start + d : both.stop + d])[0, 1]
        for d in range(0, 1000, 8)
    )
    assert kept > 0.5


@library
def test_steady_noise_is_suppressed() -> None:
    processing = VoiceProcessing(microphone=False)
    heard = clean(processing, talk(8))
    assert processing.treatments().noise.on
    pause = slice(round(7.65 * RATE_HZ), round(7.95 * RATE_HZ))
    assert power_db(talk(8)[pause]) - power_db(heard[pause]) > 8
    voice = slice(6 * RATE_HZ, round(7.4 * RATE_HZ))
    assert abs(power_db(talk(8)[voice]) - power_db(heard[voice])) < 4


@library
def test_a_quiet_voice_is_raised() -> None:
    quiet = (talk(None) // 16).astype(np.int16)
    processing = VoiceProcessing(ProcessingSettings(noise=Switch.OFF), microphone=True)
    heard = clean(processing, quiet)
    end = slice(6 * RATE_HZ, round(7.4 * RATE_HZ))
    assert power_db(heard[end]) - power_db(quiet[end]) > 5


@library
def test_the_library_takes_whole_blocks_only() -> None:
    processor = AudioProcessor(noise=True)
    assert processor.near(np.zeros(1440, np.int16)).shape == (1440,)
    with pytest.raises(ValueError, match="multiple"):
        processor.near(np.zeros(500, np.int16))
