"""libopus called directly, for the one thing that PyAV has no way to ask for: the repeat of a lost frame (FEC).

It is the very library that PyAV's own packages bring. Where it is not found, or is another than expected, there
is no such thing here, and `mien.call.opus` decodes through PyAV.
"""

import ctypes
import ctypes.util
import logging
import sys
from functools import cache
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from mien.protocol.errors import WireError

logger = logging.getLogger(__name__)

RATE_HZ: Final = 48_000
MAX_SAMPLES: Final = 5760  # 120 ms: no packet is longer (RFC 6716 section 3.4)
STEP_SAMPLES: Final = 120  # what is missing is a multiple of 2.5 ms
NAMES: Final = ("libopus-*.so*", "libopus.*.dylib", "libopus*.dll", "opus-*.dll")


class LibOpusDecoder:
    """One stream. Whatever bytes come, a call returns sound or raises `WireError`; it is not for several threads."""

    def __init__(self) -> None:
        """Raises OSError where there is no libopus: see `available`."""
        self._state: int | None = None
        self._library = _library()
        error = ctypes.c_int(0)
        state = self._library.opus_decoder_create(RATE_HZ, 1, ctypes.byref(error))
        if not state or error.value:
            raise OSError(f"libopus makes no decoder: error {error.value}")
        self._state = state
        self._sound = np.zeros(MAX_SAMPLES, np.int16)  # never shorter than what libopus is told it may write

    def __del__(self) -> None:
        if self._state is not None:
            self._library.opus_decoder_destroy(self._state)
            self._state = None

    def decode(self, packet: bytes) -> NDArray[np.int16]:
        """Return a packet's sound, int16 [n], mono, 48 kHz."""
        if not packet:
            raise WireError("an Opus packet of 0 bytes")
        return self._decode(packet, MAX_SAMPLES, repeat=False)

    def fill(self, count: int) -> NDArray[np.int16]:
        """Return `count` samples for what did not come, from what was heard last."""
        _check_missing(count)
        return self._decode(None, count, repeat=False)

    def repair(self, count: int, following: bytes) -> NDArray[np.int16]:
        """Return `count` samples for what did not come before a packet: its repeat of them, as far as it has one."""
        _check_missing(count)
        if not following:
            raise WireError("an Opus packet of 0 bytes")
        return self._decode(following, count, repeat=True)

    def _decode(self, packet: bytes | None, count: int, *, repeat: bool) -> NDArray[np.int16]:
        length = len(packet) if packet is not None else 0
        decoded = self._library.opus_decode(
            self._state, packet, length, self._sound.ctypes.data, count, int(repeat)
        )
        if decoded < 0:
            raise WireError(f"an Opus packet of {length} bytes cannot be decoded: libopus says {decoded}")
        return self._sound[:decoded].copy()


@cache
def available() -> bool:
    """Return whether libopus can be called directly."""
    try:
        LibOpusDecoder().fill(STEP_SAMPLES)
    except OSError as error:
        logger.info("no repeats of lost sound: %s", error)
        return False
    return True


def has_repeat(packet: bytes) -> bool:
    """Return whether a packet repeats the sound before it: the flag of RFC 6716 section 4.2.4, read by libopus."""
    if not packet or not available():
        return False
    library = _library()
    return hasattr(library, "opus_packet_has_lbrr") and library.opus_packet_has_lbrr(packet, len(packet)) == 1


def _check_missing(count: int) -> None:
    if not 0 < count <= MAX_SAMPLES or count % STEP_SAMPLES:
        raise ValueError(f"{count} samples, expected a multiple of {STEP_SAMPLES} up to {MAX_SAMPLES}")


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(_path())
    try:
        library.opus_decoder_create.argtypes = [
            ctypes.c_int32,
            ctypes.c_int,
            ctypes.POINTER(ctypes.c_int),
        ]
        library.opus_decoder_create.restype = ctypes.c_void_p
        library.opus_decoder_destroy.argtypes = [ctypes.c_void_p]
        library.opus_decoder_destroy.restype = None
        library.opus_decode.argtypes = [
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_int32,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_int,
        ]
        library.opus_decode.restype = ctypes.c_int
        if hasattr(library, "opus_packet_has_lbrr"):  # since libopus 1.3.1
            library.opus_packet_has_lbrr.argtypes = [ctypes.c_char_p, ctypes.c_int32]
            library.opus_packet_has_lbrr.restype = ctypes.c_int
    except AttributeError as error:
        raise OSError(f"the libopus found is another than expected: {error}") from None
    return library


def _path() -> str:
    """Return where libopus is: beside PyAV in its packages, else where the system has it. Raises OSError."""
    package = Path(av.__file__).parent
    folders = (package.parent / "av.libs", package / ".dylibs", package.parent / "av.dylibs")
    for folder in folders:
        for name in NAMES:
            found = sorted(folder.glob(name))
            if found:
                return str(found[0])
    system = ctypes.util.find_library("opus") if sys.platform != "win32" else None
    if system is None:
        raise OSError("PyAV's packages here bring no libopus of their own, and the system has none")
    return system
