"""How coefficient messages arrive: lost frames and jitter, from the messages' first four bytes. No clock inside."""

from fractions import Fraction
from typing import Final

from mien.protocol.message import CoefficientMessage, Kind

TICKS: Final = 1 << 16
RESTART_TICKS: Final = 3000  # a jump further than this is another stream
JITTER_SHARE: Final = 16  # RFC 3550 section 6.4.1


class Arrivals:
    """Counts what came and what did not, in frames. A stranger's bytes can spoil the figures, nothing else."""

    def __init__(self, tick_rate: Fraction) -> None:
        self._period_us = 1_000_000 / float(tick_rate)
        self._newest: int | None = None  # tick after the newest frame, extended beyond 16 bits
        self._transit_us: float | None = None
        self._jitter_us = 0.0
        self._expected = 0
        self._came = 0

    @property
    def lost(self) -> int:
        """Frames that were sent, as later ones show, and have not come."""
        return max(0, self._expected - self._came)

    @property
    def jitter_us(self) -> int:
        """The smoothed deviation of the transit time, as in RFC 3550, of whole messages."""
        return round(self._jitter_us)

    def on_message(self, data: bytes, arrival_us: int) -> None:
        """Take the bytes of one message."""
        if len(data) < CoefficientMessage.LAYOUT.size or data[0] >> 4 != Kind.COEFFICIENTS:
            return
        _, flags, first = CoefficientMessage.LAYOUT.unpack_from(data)
        count = (flags & 0x0F) + 1
        after = self._extended(first) + count
        self._note_transit(after, arrival_us)
        if self._newest is None or abs(after - self._newest) > RESTART_TICKS:
            self._newest, self._expected, self._came = after, self._expected + count, self._came + count
            return
        self._expected += max(0, after - self._newest)
        self._came += count
        self._newest = max(self._newest, after)

    def _extended(self, first: int) -> int:
        if self._newest is None:
            return first
        return self._newest + (first - self._newest + TICKS // 2) % TICKS - TICKS // 2

    def _note_transit(self, after: int, arrival_us: int) -> None:
        transit_us = arrival_us - after * self._period_us
        if self._transit_us is not None:
            self._jitter_us += (abs(transit_us - self._transit_us) - self._jitter_us) / JITTER_SHARE
        self._transit_us = transit_us
