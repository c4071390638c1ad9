"""Tells speech from its pauses, so that pauses are not sent."""

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


class VoiceActivity:
    """Listens to one voice. Speech begins with the first 20 ms of it, and ends `HOLD_MS` after the last."""

    def __init__(self) -> None:
        self._detector = webrtcvad.Vad(LENIENCE)
        self._held = 0  # samples for which it still counts as speech

    def hear(self, samples: NDArray[np.int16]) -> bool:
        """Return whether these next samples are to be sent. int16 [a multiple of 960], 48 kHz."""
        if len(samples) % BLOCK_SAMPLES:
            raise ValueError(f"{len(samples)} samples, expected a multiple of {BLOCK_SAMPLES}")
        sent = self._held > 0
        for at in range(0, len(samples), BLOCK_SAMPLES):
            if self._detector.is_speech(samples[at : at + BLOCK_SAMPLES].tobytes(), RATE_HZ):
                self._held = HOLD_MS * RATE_HZ // 1000
                sent = True
            else:
                self._held = max(0, self._held - BLOCK_SAMPLES)
        return sent
