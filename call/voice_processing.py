"""Cleans a voice before it is coded: echo, noise, level, each where it helps and not where it harms.

Measured behind Opus at 8 and 12 kbps (`mien bench voice`): noise suppression makes speech easier to understand
where the noise is less than 15 dB below it, and harder above 20 dB. Echo can only come back where both a
loudspeaker and a microphone are in the room; where none does, in headphones, cancelling it would only take away from
a voice that speaks while the other side does (`echo_path`). The level of a file is its maker's.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from mien.call.audio import FRAME_SAMPLES, RATE_HZ
from mien.call.audio_processing import AudioProcessor
from mien.call.echo_path import EchoPath
from mien.call.sound_device import Block
from mien.protocol.errors import MienError

SUPPRESS_BELOW_DB: Final = 15.0
RELEASE_ABOVE_DB: Final = 18.0
STEADY_FRAMES: Final = 400  # 8 s: speech and noise are what these show
LEAST_SPEECH_FRAMES: Final = 50
LEAST_FRAMES: Final = 100
FLOOR_PERCENTILE: Final = 10
QUIETEST: Final = 1.0  # mean square of 16-bit samples: what is below is silence
JUDGE_EVERY_FRAMES: Final = 25
MOST_FAR_BLOCKS: Final = 10  # after a mute, older sound of the loudspeaker has no echo any more


class Switch(StrEnum):
    """What the user says about one kind of processing."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class ProcessingSettings:
    """What the user wants done."""

    noise: Switch = Switch.AUTO
    gain: Switch = Switch.AUTO
    echo: Switch = Switch.AUTO


@dataclass(frozen=True, slots=True)
class Treatment:
    """Whether something runs, and why."""

    on: bool
    why: str


@dataclass(frozen=True, slots=True)
class Treatments:
    """All three. `snr_db`: speech against noise as it comes, None while unknown."""

    noise: Treatment
    gain: Treatment
    echo: Treatment
    snr_db: float | None = None


class Processor(Protocol):
    """What `AudioProcessor` does."""

    def near(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return the microphone's sound, processed."""

    def far(self, samples: NDArray[np.int16]) -> None:
        """Take what the loudspeaker plays."""

    def set_delay_ms(self, delay_ms: int) -> None:
        """Say how much later the echo comes."""


class SpeechToNoise:
    """How far speech is above the noise in which it is spoken, over the newest seconds."""

    def __init__(self) -> None:
        self._detector = webrtcvad.Vad(2)
        self._powers: deque[float] = deque(maxlen=STEADY_FRAMES)
        self._speech: deque[bool] = deque(maxlen=STEADY_FRAMES)

    def hear(self, samples: NDArray[np.int16]) -> None:
        """Take 20 ms, int16 [960], 48 kHz."""
        self._powers.append(float(np.square(samples, dtype=np.float64).mean()))
        self._speech.append(self._detector.is_speech(samples.tobytes(), RATE_HZ))

    @property
    def db(self) -> float | None:
        """None while too little was said.

        The floor is what the quietest tenth of the time is below: it holds also where the detector takes noise
        for speech, and where pauses are short.
        """
        powers, speech = np.array(self._powers), np.array(self._speech, bool)
        if len(powers) < LEAST_FRAMES or speech.sum() < LEAST_SPEECH_FRAMES:
            return None
        floor = max(float(np.percentile(powers, FLOOR_PERCENTILE)), QUIETEST)
        return 10 * float(np.log10(max(powers[speech].mean(), QUIETEST) / floor))


class VoiceProcessing:
    """A `SoundFilter` of one voice track. Use it on one thread; only `played` may be filled on another."""

    def __init__(
        self,
        settings: ProcessingSettings | None = None,
        *,
        microphone: bool,
        played: deque[Block] | None = None,
        make: Callable[..., Processor] = AudioProcessor,
    ) -> None:
        """`microphone`: whether the voice comes from one. `played`: what the loudspeaker plays, None without one."""
        self._settings = settings or ProcessingSettings()
        self._played = played
        self._make = make
        self._missing = ""
        self._ratio = SpeechToNoise()
        self._heard = 0  # frames
        self._suppressing = self._settings.noise is Switch.ON
        self._share = float(self._suppressing)  # of what is heard that is suppressed sound: for cross-fades
        self._path = EchoPath() if self._settings.echo is Switch.AUTO else None
        self._cancelled = 1.0  # share of what is heard that is without echo: for cross-fades
        self._echo_why = self._why_echo(microphone)
        self._gain_why = self._why_gain(microphone)
        self._echo = self._open(echo=True) if not self._echo_why else None
        self._noise = self._open(noise=True) if self._settings.noise is not Switch.OFF else None
        self._gain = self._open(gain=True) if not self._gain_why else None

    def clean(self, samples: NDArray[np.int16], *, captured_us: int) -> NDArray[np.int16]:
        """Return 20 ms of the voice, cleaned: int16 [960] at 48 kHz. `captured_us`: when it was in the air."""
        if self._echo is not None:
            samples = self._without_echo(self._echo, samples, captured_us)
        self._judge(samples)
        if self._noise is not None:
            samples = self._without_noise(self._noise, samples)
        return self._gain.near(samples) if self._gain is not None else samples

    def treatments(self) -> Treatments:
        """Return what runs, and why, for people to read."""
        ratio = self._ratio.db
        return Treatments(
            noise=self._noise_treatment(ratio),
            gain=Treatment(self._gain is not None, self._gain_why or self._missing or "microphone"),
            echo=self._echo_treatment(),
            snr_db=ratio,
        )

    def _noise_treatment(self, ratio: float | None) -> Treatment:
        if self._settings.noise is not Switch.AUTO:
            return Treatment(self._noise is not None, self._missing or "as asked")
        if self._missing:
            return Treatment(False, self._missing)
        if ratio is None:
            return Treatment(self._suppressing, "too little speech to tell")
        return Treatment(self._suppressing, f"speech is {ratio:.0f} dB above the noise")

    def _echo_treatment(self) -> Treatment:
        if self._echo is not None and self._path is not None and not self._path.heard:
            return Treatment(False, "no echo is heard: headphones")
        why = self._echo_why or self._missing or "loudspeaker and microphone"
        return Treatment(self._echo is not None, why)

    def _why_echo(self, microphone: bool) -> str:
        """Return why echo is not cancelled, "" where it is."""
        if self._settings.echo is Switch.OFF:
            return "as asked"
        if self._played is None:
            return "no loudspeaker"
        if not microphone and self._settings.echo is Switch.AUTO:
            return "no microphone"
        return ""

    def _why_gain(self, microphone: bool) -> str:
        if self._settings.gain is Switch.OFF:
            return "as asked"
        if not microphone and self._settings.gain is Switch.AUTO:
            return "no microphone"
        return ""

    def _open(self, **what: bool) -> Processor | None:
        try:
            return self._make(**what)
        except MienError as error:
            self._missing = str(error)
            return None

    def _without_echo(
        self, echo: Processor, samples: NDArray[np.int16], captured_us: int
    ) -> NDArray[np.int16]:
        assert self._played is not None
        while len(self._played) > MOST_FAR_BLOCKS:
            self._played.popleft()
        while self._played:
            block = self._played.popleft()
            far = np.frombuffer(block.data, np.int16)
            echo.far(far)
            echo.set_delay_ms((block.air_us - captured_us) // 1000)
            if self._path is not None:
                self._path.play(far, block.air_us)
        cleaned = echo.near(samples)  # it goes on learning, to be ready when the headphones are taken off
        if self._path is None:
            return cleaned
        self._path.hear(samples, captured_us)
        before, self._cancelled = self._cancelled, float(self._path.heard)
        return _faded(samples, cleaned, before, self._cancelled)

    def _judge(self, samples: NDArray[np.int16]) -> None:
        """Decide about noise from the sound before anything was suppressed in it."""
        self._ratio.hear(samples)
        self._heard += 1
        if self._settings.noise is not Switch.AUTO or self._heard % JUDGE_EVERY_FRAMES:
            return
        ratio = self._ratio.db
        if ratio is not None:
            self._suppressing = ratio < (RELEASE_ABOVE_DB if self._suppressing else SUPPRESS_BELOW_DB)

    def _without_noise(self, noise: Processor, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """It learns the noise also while nobody hears it, so that it is ready when it is wanted."""
        cleaned = noise.near(samples)
        before, self._share = self._share, float(self._suppressing)
        return _faded(samples, cleaned, before, self._share)


def _faded(
    plain: NDArray[np.int16], cleaned: NDArray[np.int16], before: float, after: float
) -> NDArray[np.int16]:
    """Return a frame that goes from one share of what was cleaned to another."""
    if before == after:
        return cleaned if after else plain
    shares = np.linspace(before, after, FRAME_SAMPLES)
    return np.asarray(shares * cleaned + (1 - shares) * plain, np.int16)
