"""WebRTC's audio processing, out of the `livekit` package: the one module that knows it, and knows how to do without.

Nothing of that package but this is used, and this opens no connection. It is an extra, because it wants a newer
protobuf than one of the face trackers can live with.
"""

import logging
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.call.audio import RATE_HZ
from mien.protocol.errors import MienError

logger = logging.getLogger(__name__)

BLOCK_SAMPLES: Final = 480  # 10 ms, the only length that it takes
MAX_DELAY_MS: Final = 500
ADVICE: Final = "pip install 'mien[voice]'"


class AudioProcessor:
    """One of the things it does, on one voice. All of it happens in place, on the calling thread."""

    def __init__(self, *, echo: bool = False, noise: bool = False, gain: bool = False) -> None:
        """Raises `MienError` where the package is missing or cannot be loaded."""
        self._rtc = _package()
        self._module = self._rtc.AudioProcessingModule(
            echo_cancellation=echo, noise_suppression=noise, auto_gain_control=gain, high_pass_filter=False
        )

    def near(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return the microphone's sound, processed: int16 [a multiple of 480], 48 kHz."""
        return self._each(samples, self._module.process_stream)

    def far(self, samples: NDArray[np.int16]) -> None:
        """Take what the loudspeaker plays; before the sound from the microphone that has its echo."""
        self._each(samples, self._module.process_reverse_stream)

    def set_delay_ms(self, delay_ms: int) -> None:
        """Say how much later than `far` is told of a sound `near` gets its echo. A hint: it finds out by itself."""
        self._module.set_stream_delay_ms(min(max(delay_ms, 0), MAX_DELAY_MS))

    def _each(self, samples: NDArray[np.int16], process: Any) -> NDArray[np.int16]:
        if len(samples) % BLOCK_SAMPLES:
            raise ValueError(f"{len(samples)} samples, expected a multiple of {BLOCK_SAMPLES}")
        result = np.empty(len(samples), np.int16)
        for at in range(0, len(samples), BLOCK_SAMPLES):
            data = bytearray(samples[at : at + BLOCK_SAMPLES].tobytes())
            frame = self._rtc.AudioFrame(data, RATE_HZ, 1, BLOCK_SAMPLES)
            process(frame)
            result[at : at + BLOCK_SAMPLES] = np.frombuffer(frame.data, np.int16)
        return result


def why_no_processing() -> str:
    """Return why there is no audio processing here, "" where there is."""
    try:
        _package()
    except MienError as error:
        return str(error)
    return ""


@cache
def _package() -> Any:
    """Load the package: half a second, and 28 MB of code."""
    try:
        from livekit import rtc

        rtc.AudioProcessingModule()
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name in ("livekit", "livekit.rtc")
        reason = "the package livekit is not installed" if missing else f"livekit cannot be loaded ({error})"
        raise MienError(f"no speech clean-up: {reason}; {ADVICE}") from None
    except Exception as error:  # noqa: BLE001  a foreign package with native code: whatever it raises, calls do without
        raise MienError(f"no speech clean-up: livekit fails here ({error}); {ADVICE}") from None
    return rtc
