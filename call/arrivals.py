"""How regularly coefficient messages arrive, from their first four bytes. No clock inside."""

from fractions import Fraction
from typing import Final

from mien.protocol.message import FACE_KINDS, CoefficientMessage, Kind

TICKS: Final = 1 << 16
RESTART_US: Final = 2_000_000  # a larger step is a pause or another stream, not jitter
JITTER_SHARE: Final = 16  # RFC 3550 section 6.4.1
SIZE_SHARE: Final = 8  # of the newest message in the mean number of frames


class Arrivals:
    """Counts messages and measures jitter. A stranger's bytes can spoil the figures, nothing else."""

    def __init__(self, tick_rate: Fraction) -> None:
        self._period_us = 1_000_000 / float(tick_rate)
        self._after: int | None = None  # the tick after the latest message
        self._arrival_us = 0
        self._jitter_us = 0.0
        self.messages = 0
        self._missing = 0.0
        self._frames = 0.0  # of a message, smoothed; 0: none came
        self._at_rest = False  # the latest message said so, and nothing need follow it

    @property
    def missing(self) -> int:
        """Messages that did not come, as the gaps in the ticks tell. One that comes late does not count.

        While the face is at rest a missing message tells nothing of itself.
        """
        return round(max(0.0, self._missing))

    @property
    def jitter_us(self) -> int:
        """The smoothed deviation of the transit time between messages, as in RFC 3550."""
        return round(self._jitter_us)

    def on_message(self, data: bytes, arrival_us: int) -> None:
        """Take the bytes of one message, good or bad."""
        self.messages += 1
        if len(data) < CoefficientMessage.LAYOUT.size or data[0] >> 4 not in FACE_KINDS:
            return
        _, flags, first = CoefficientMessage.LAYOUT.unpack_from(data)
        frames = (flags & 0x0F) + 1
        after, still = first + frames, data[0] >> 4 == Kind.STILL
        if not still:
            self._frames += (frames - self._frames) / SIZE_SHARE if self._frames else frames
        ticks = 0
        if self._after is not None:
            ticks = (after - self._after + TICKS // 2) % TICKS - TICKS // 2
            deviation_us = abs(arrival_us - self._arrival_us - ticks * self._period_us)
            if deviation_us < RESTART_US and ticks and not self._at_rest:
                self._missing += (ticks - frames) / (self._frames or frames)
                if not still:
                    self._jitter_us += (deviation_us - self._jitter_us) / JITTER_SHARE
        self._after, self._arrival_us, self._at_rest = (
            after,
            arrival_us,
            still or (self._at_rest and ticks < 0),
        )
