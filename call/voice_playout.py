"""When to play which of the packets that came: a jitter buffer for one voice, that knows pauses from losses.

The sound waits as long as the packets' jitter asks for, and no longer. Whatever comes too late makes it wait
longer from then on, and the next pause makes it wait no longer than needed again. A packet that is missing when
its turn comes is filled in by the decoder: with what was heard last, and in a pause with its background noise.

No I/O and no clock: times are integer microseconds of any clock that never runs backwards.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.call.opus import RATE_HZ, OpusDecoder, packet_samples
from mien.protocol.errors import WireError

READ_SAMPLES: Final = 960  # 20 ms
LEAST_WAIT: Final = RATE_HZ * 20 // 1000  # samples; for what a scheduler does to both ends
MOST_WAIT: Final = RATE_HZ * 400 // 1000
STEADY_PACKETS: Final = 64  # jitter is what the newest so many show
MOST_HELD: Final = MOST_WAIT + RATE_HZ * 120 // 1000  # samples
MAX_HELD: Final = 64  # packets
GONE_US: Final = 1_200_000  # without a packet, three signs of life among them: muted, or gone
RESYNC_SAMPLES: Final = 5 * RATE_HZ  # a jump of the times by more is another stream


@dataclass(slots=True)
class VoiceCounts:
    """What became of the packets."""

    packets: int = 0
    malformed: int = 0
    late: int = 0  # came after their turn and were not played
    skipped: int = 0  # came in time, but behind more than is ever kept waiting
    filled_samples: int = 0  # played without a packet: pauses and losses
    played_samples: int = 0


class VoicePlayout:
    """`push` what comes, `read` 20 ms every 20 ms."""

    def __init__(self) -> None:
        self.counts = VoiceCounts()
        self._reset()

    def _reset(self) -> None:
        self._decoder = OpusDecoder()
        self._held: dict[int, bytes] = {}  # packets by where their sound begins
        self._next: int | None = None  # where the next sound to be decoded begins; None: nothing is played
        self._played_to = 0  # end of the newest packet that was decoded
        self._newest_end = 0
        self._newest_sequence = 0
        self._transits_us: deque[int] = deque(maxlen=STEADY_PACKETS)
        self._sound = np.zeros(0, np.int16)  # decoded, not read yet
        self._heard_us = 0

    @property
    def playing(self) -> bool:
        """Whether `read` gives anything."""
        return self._next is not None

    @property
    def wait_us(self) -> int:
        """How long sound waits at least, for the jitter that was seen."""
        return self._wait * 1_000_000 // RATE_HZ

    @property
    def _wait(self) -> int:
        if not self._transits_us:
            return LEAST_WAIT
        spread = (max(self._transits_us) - min(self._transits_us)) * RATE_HZ // 1_000_000
        return min(MOST_WAIT, LEAST_WAIT + spread)

    def push(self, sequence: int, timestamp: int, packet: bytes, *, arrival_us: int) -> None:
        """Take a packet with its RTP sequence number (16 bits) and timestamp (32 bits, 48 kHz)."""
        self.counts.packets += 1
        try:
            length = packet_samples(packet)
        except WireError:
            self.counts.malformed += 1
            return
        if self._next is not None and abs(_difference(timestamp, self._newest_end)) > RESYNC_SAMPLES:
            self._reset()
        if self._next is None:
            self._newest_end = timestamp
        start = self._newest_end + _difference(timestamp, self._newest_end)
        self._heard_us = arrival_us
        self._transits_us.append(arrival_us - start * 1_000_000 // RATE_HZ)
        follows = (sequence - self._newest_sequence) % (1 << 16) == 1
        after_pause = follows and start > self._newest_end
        if self._next is None:
            self._next = self._played_to = start - self._wait
        elif len(packet) > 1:
            self._place(start, after_pause=after_pause)
        if start + length > self._newest_end:
            self._newest_end, self._newest_sequence = start + length, sequence
        if len(packet) > 1:
            self._hold(start, packet)

    def _place(self, start: int, *, after_pause: bool) -> None:
        """Move what is played next to suit sound that begins at `start`; only where nothing is said."""
        assert self._next is not None
        if after_pause and not self._held:
            self._next = max(self._played_to, min(start, start - self._wait + len(self._sound)))
        elif self._played_to <= start < self._next <= start + MOST_WAIT:
            self._next = start

    def _hold(self, start: int, packet: bytes) -> None:
        assert self._next is not None
        if start < self._next:
            self.counts.late += 1
            return
        self._held[start] = packet
        if self._newest_end - self._next > MOST_HELD or len(self._held) > MAX_HELD:
            self._next = max(self._next, start - self._wait)
            self._drop_passed()

    def read(self, now_us: int) -> NDArray[np.int16] | None:
        """Return the next 20 ms, int16 [960] at 48 kHz; None while there is no voice at all."""
        if self._next is None:
            return None
        gone = now_us - self._heard_us > GONE_US
        while len(self._sound) < READ_SAMPLES:
            self._sound = np.concatenate([self._sound, self._decode_next()])
        sound, self._sound = self._sound[:READ_SAMPLES], self._sound[READ_SAMPLES:]
        self.counts.played_samples += READ_SAMPLES
        if gone:
            self._reset()
            return np.asarray(sound * np.linspace(1, 0, READ_SAMPLES), np.int16)
        return sound

    def _decode_next(self) -> NDArray[np.int16]:
        assert self._next is not None
        packet = self._held.pop(self._next, None)
        if packet is not None:
            try:
                sound = self._decoder.decode(packet)
            except WireError:
                self.counts.malformed += 1
            else:
                self._next = self._played_to = self._next + len(sound)
                self._drop_passed()
                return sound
        gap = min((start - self._next for start in self._held), default=READ_SAMPLES)
        sound = self._decoder.fill()[:gap]
        self.counts.filled_samples += len(sound)
        self._next += len(sound)
        return sound

    def _drop_passed(self) -> None:
        """Let go of packets whose turn is over: a stranger's may overlap."""
        assert self._next is not None
        passed = [start for start in self._held if start < self._next]
        self.counts.skipped += len(passed)
        for start in passed:
            del self._held[start]


def _difference(timestamp: int, position: int) -> int:
    """Return how far a 32-bit timestamp is ahead of a position that wraps nowhere."""
    return (timestamp - position + (1 << 31)) % (1 << 32) - (1 << 31)
