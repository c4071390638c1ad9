"""Opus for voice (RFC 6716): mono, 6 to 24 kbps, in frames of 20 to 120 ms. Sound in, packets out, and back.

Nothing here knows a socket, a clock or RTP. libopus does the work, through PyAV.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from mien.call import libopus
from mien.protocol.errors import WireError

RATE_HZ: Final = 48_000
SAMPLES_PER_MS: Final = RATE_HZ // 1000
TIME_BASE: Final = Fraction(1, RATE_HZ)
FRAMES_MS: Final = (20, 40, 60, 120)
MIN_KBPS: Final = 6.0
MAX_KBPS: Final = 24.0
BRIGHT_KBPS: Final = 20.0
WIDE_HZ: Final = 8000
MAX_PACKET_MS: Final = 120
MAX_PACKET_BYTES: Final = 1275 * 6  # six frames of 20 ms, the most that a packet may hold

# RFC 6716 table 2: the duration of one frame, by the two low bits of the configuration, in samples at 48 kHz.
_SILK_SAMPLES: Final = (480, 960, 1920, 2880)
_HYBRID_SAMPLES: Final = (480, 960, 480, 960)
_CELT_SAMPLES: Final = (120, 240, 480, 960)
_FIRST_HYBRID: Final = 12
_FIRST_CELT: Final = 16


@dataclass(frozen=True, slots=True)
class VoiceSettings:
    """How a voice is coded. `expected_loss_percent` above 0 adds in-band repeats (FEC) for a decoder that reads them.

    Raises ValueError for what the codec cannot do.
    """

    kbps: float = 12.0
    frame_ms: int = 60
    expected_loss_percent: int = 0

    def __post_init__(self) -> None:
        if not MIN_KBPS <= self.kbps <= MAX_KBPS:
            raise ValueError(f"{self.kbps:g} kbps, expected {MIN_KBPS:g} to {MAX_KBPS:g}")
        if self.frame_ms not in FRAMES_MS:
            raise ValueError(f"frames of {self.frame_ms} ms, expected one of {FRAMES_MS}")
        if not 0 <= self.expected_loss_percent <= 100:
            raise ValueError(f"a loss of {self.expected_loss_percent} %, expected 0 to 100")

    @property
    def frame_samples(self) -> int:
        """Samples in a frame."""
        return self.frame_ms * SAMPLES_PER_MS

    @property
    def highest_hz(self) -> int | None:
        """What is coded at most, None: as libopus sees fit.

        From 14 kbps on libopus spends bits above 8 kHz. Below `BRIGHT_KBPS` they are worth more below: extended STOI
        at 14 and 16 kbps is 0.955 and 0.964 with the limit, 0.922 and 0.941 without. Repeats too go up to 8 kHz only.
        """
        return WIDE_HZ if self.kbps < BRIGHT_KBPS or self.expected_loss_percent else None


class OpusEncoder:
    """One stream of packets. The rate is kept on the mean of loud sound; easier sound takes less."""

    def __init__(self, settings: VoiceSettings | None = None) -> None:
        self.settings = settings or VoiceSettings()
        self._codec = av.CodecContext.create("libopus", "w")
        assert isinstance(self._codec, av.AudioCodecContext)
        self._codec.bit_rate = round(self.settings.kbps * 1000)
        self._codec.format = av.AudioFormat("s16")
        self._codec.layout = av.AudioLayout("mono")
        self._codec.sample_rate = RATE_HZ
        self._codec.time_base = TIME_BASE
        self._codec.options = {
            "application": "voip",
            "frame_duration": str(self.settings.frame_ms),
            "vbr": "constrained",
            "fec": str(int(self.settings.expected_loss_percent > 0)),
            "packet_loss": str(self.settings.expected_loss_percent),
            "cutoff": str(self.settings.highest_hz or 0),
        }
        self._codec.open()
        self._position = 0

    def encode(self, samples: NDArray[np.int16]) -> bytes:
        """Return the packet of one frame. `samples`: int16 [settings.frame_samples], 48 kHz.

        Raises ValueError for another number of samples.
        """
        if samples.shape != (self.settings.frame_samples,):
            raise ValueError(f"samples of shape {samples.shape}, expected ({self.settings.frame_samples},)")
        packets = self._codec.encode(audio_frame(samples, self._position))
        self._position += len(samples)
        if len(packets) != 1:
            raise RuntimeError(f"libopus made {len(packets)} packets of one frame")
        return bytes(packets[0])


class OpusDecoder:
    """Reads one stream of packets, and fills in for those that are missing.

    Through libopus itself where it can be called, else through PyAV: the same sound, but no repeats are read.
    """

    FILL_SAMPLES: Final = 960

    def __init__(self, *, direct: bool = True) -> None:
        """`direct`: call libopus where that is possible."""
        self._direct = libopus.LibOpusDecoder() if direct and libopus.available() else None
        self._codec = av.CodecContext.create("libopus", "r")
        assert isinstance(self._codec, av.AudioCodecContext)
        self._codec.format = av.AudioFormat("s16")
        self._codec.layout = av.AudioLayout("mono")
        self._codec.sample_rate = RATE_HZ
        self._toc: int | None = None

    def decode(self, packet: bytes) -> NDArray[np.int16]:
        """Return a packet's sound, int16 [n], 48 kHz. Raises `WireError`."""
        expected = packet_samples(packet)
        samples = self._direct.decode(packet) if self._direct else self._decode(packet)
        if len(samples) != expected:
            raise WireError(f"a packet of {expected} samples decoded to {len(samples)}")
        self._toc = packet[0]
        return samples

    def fill(self) -> NDArray[np.int16]:
        """Return 20 ms for sound that did not come: what was heard last, fading into its background noise."""
        if self._toc is None:
            return np.zeros(self.FILL_SAMPLES, np.int16)
        if self._direct:
            return self._direct.fill(self.FILL_SAMPLES)
        return self._decode(empty_packet(self._toc))

    def repair(self, following: bytes) -> NDArray[np.int16] | None:
        """Return the frame that is missing right before a packet, as that repeats it; None where it does not."""
        if self._direct is None or self._toc is None or not libopus.has_repeat(following):
            return None
        return self._direct.repair(frame_samples(following), following)

    def _decode(self, packet: bytes) -> NDArray[np.int16]:
        try:
            frames = self._codec.decode(av.Packet(packet))
        except av.FFmpegError as error:
            raise WireError(f"an Opus packet of {len(packet)} bytes cannot be decoded: {error}") from None
        pieces = [frame.to_ndarray().reshape(-1) for frame in frames if isinstance(frame, av.AudioFrame)]
        return np.concatenate(pieces).astype(np.int16, copy=False) if pieces else np.zeros(0, np.int16)


def packet_samples(packet: bytes) -> int:
    """Return how long a packet plays, in samples at 48 kHz, from its first bytes. Raises `WireError`."""
    if not 1 <= len(packet) <= MAX_PACKET_BYTES:
        raise WireError(f"an Opus packet of {len(packet)} bytes, expected 1 to {MAX_PACKET_BYTES}")
    code = packet[0] & 3
    if code == 3 and len(packet) < 2:
        raise WireError("an Opus packet ends before its number of frames")
    frames = packet[1] & 63 if code == 3 else (1, 2, 2)[code]
    samples = frames * _frame_samples(packet[0] >> 3)
    if not 0 < samples <= MAX_PACKET_MS * SAMPLES_PER_MS:
        raise WireError(
            f"an Opus packet of {samples / SAMPLES_PER_MS:g} ms, expected 2.5 to {MAX_PACKET_MS} ms"
        )
    return samples


def frame_samples(packet: bytes) -> int:
    """Return how long one of a packet's frames plays, in samples at 48 kHz. Raises `WireError`."""
    if not packet:
        raise WireError("an Opus packet of 0 bytes")
    return _frame_samples(packet[0] >> 3)


def empty_packet(toc: int) -> bytes:
    """Return the packet that says "20 ms of nothing new" in the same mode and bandwidth: RFC 6716 section 3.1.

    Sent, it keeps a silent stream alive; given to a decoder, it makes it fill in for a packet that was lost.
    """
    configuration = toc >> 3
    length = 3 if configuration >= _FIRST_CELT else 1
    return bytes(
        [(configuration & ~3 | length if configuration < _FIRST_HYBRID else configuration | length) << 3]
    )


def audio_frame(samples: NDArray[np.int16], position: int) -> av.AudioFrame:
    """Return mono sound as PyAV's frame; `position` in samples."""
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = RATE_HZ
    frame.pts = position
    frame.time_base = TIME_BASE
    return frame


def _frame_samples(configuration: int) -> int:
    if configuration < _FIRST_HYBRID:
        return _SILK_SAMPLES[configuration & 3]
    return (_HYBRID_SAMPLES if configuration < _FIRST_CELT else _CELT_SAMPLES)[configuration & 3]
