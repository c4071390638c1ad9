"""Tells speech from its pauses, so that pauses are not sent.

webrtcvad tells sound that is like speech from sound that is not, at any level. What it takes for speech counts
only where it also stands out of the noise, and is not far below the voice: other people in the room are as like
speech as the one before the microphone.
"""

from collections import deque
from typing import Final

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from mien.call.opus import RATE_HZ

BLOCK_SAMPLES: Final = 960  # 20 ms
HOLD_MS: Final = (
    300  # a pause begins so long after speech: word ends are quiet, and the noise behind is learned
)
LENIENCE: Final = 1  # of webrtcvad: 0 takes most for speech, 3 least
NEWEST: Final = 400  # blocks that levels are learned from: 8 s
LEAST_BLOCKS: Final = 50  # before that everything that is like speech counts
LEARN_EVERY: Final = 10  # blocks
NOISE_PERCENTILE: Final = 10
VOICE_PERCENTILE: Final = 80
ABOVE_NOISE: Final = 1.5  # times its power
BELOW_VOICE: Final = 10**-2.5  # times its power: 25 dB
FADE: Final = 10 ** (-0.02 * BLOCK_SAMPLES / RATE_HZ)  # 0.2 dB a second: who goes on so quietly will be heard


class VoiceActivity:
    """Listens to one voice. Speech begins with the first 20 ms of it, and ends `HOLD_MS` after the last."""

    def __init__(self) -> None:
        self._detector = webrtcvad.Vad(LENIENCE)
        self._held = 0  # samples for which it still counts as speech
        self._powers: deque[float] = deque(maxlen=NEWEST)
        self._voice: deque[float] = deque(maxlen=NEWEST)  # powers of what counted as speech
        self._faded = 1.0  # by how much the voice is remembered quieter than it was
        self._blocks = 0
        self._least_power = 0.0  # what is quieter is no speech

    def hear(self, samples: NDArray[np.int16]) -> bool:
        """Return whether these next samples are to be sent. int16 [a multiple of 960], 48 kHz."""
        if len(samples) % BLOCK_SAMPLES:
            raise ValueError(f"{len(samples)} samples, expected a multiple of {BLOCK_SAMPLES}")
        sent = self._held > 0
        for at in range(0, len(samples), BLOCK_SAMPLES):
            if self._is_speech(samples[at : at + BLOCK_SAMPLES]):
                self._held = HOLD_MS * RATE_HZ // 1000
                sent = True
            else:
                self._held = max(0, self._held - BLOCK_SAMPLES)
        return sent

    def _is_speech(self, block: NDArray[np.int16]) -> bool:
        power = float(np.square(block, dtype=np.float64).mean())
        like_speech: bool = self._detector.is_speech(block.tobytes(), RATE_HZ)
        self._powers.append(power)
        counts = like_speech and power >= self._least_power
        if counts:
            self._voice.append(power)
            self._faded = 1.0
        elif like_speech:
            self._faded *= FADE
        self._blocks += 1
        if self._blocks % LEARN_EVERY == 0:
            self._least_power = self._learned()
        return counts

    def _learned(self) -> float:
        if len(self._voice) < LEAST_BLOCKS:
            return 0.0
        noise = np.percentile(self._powers, NOISE_PERCENTILE)
        voice = np.percentile(self._voice, VOICE_PERCENTILE) * self._faded
        return float(max(ABOVE_NOISE * noise, BELOW_VOICE * voice))
