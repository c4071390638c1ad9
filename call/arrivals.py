"""How regularly coefficient messages arrive, from their heads. No clock inside."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from mien.call.queue_gauge import QueueGauge
from mien.protocol.codec import KEEP_ALIVE_SECONDS
from mien.protocol.errors import WireError
from mien.protocol.message import Kind, MessageHead

RESTART_US: Final = 2_000_000  # a larger step is a pause or another stream, not jitter
STILL_RESTART_US: Final = 6_000_000  # the same between keep-alives
JITTER_SHARE: Final = 16  # RFC 3550 section 6.4.1
SIZE_SHARE: Final = 8  # of the newest message in the mean number of frames
MAX_OPEN_GAPS: Final = 16  # which a message that comes late can still fill
LATE_KEEP_ALIVE: Final = 1.5  # periods without one: it was lost


@dataclass(slots=True)
class _Gap:
    """Ticks from `start` to before `end` that no message has brought; a message there holds `frames`."""

    start: int
    end: int
    frames: float

    @property
    def messages(self) -> int:
        return max(1, round((self.end - self.start) / self.frames))


class Arrivals:
    """Counts messages and measures jitter. A stranger's bytes can spoil the figures, nothing else.

    A face that is still sends keep-alives only: what lies between two of them was never sent, so it is not missing.
    """

    def __init__(self, tick_rate: Fraction) -> None:
        self._period_us = 1_000_000 / float(tick_rate)
        self._keep_alive_ticks = KEEP_ALIVE_SECONDS * float(tick_rate)
        self._after: int | None = None  # the tick after the newest message, counted on without end
        self._still = False  # the newest message said so
        self._frames = 0.0  # of a message, smoothed, without those of a still face; 0: none came
        self._latest: tuple[int, int] | None = (
            None  # the tick after the latest message, its arrival; moving faces only
        )
        self._jitter_us = 0.0
        self._gaps: list[_Gap] = []
        self._closed_missing = 0
        self._closed_runs = 0
        self.queue = QueueGauge()  # how much longer messages take now than they could
        self.messages = 0
        self.still_messages = 0

    @property
    def missing(self) -> int:
        """Messages that did not come, as the gaps in the ticks tell. One that comes late does not count."""
        return self._closed_missing + sum(gap.messages for gap in self._gaps)

    @property
    def runs(self) -> int:
        """Unbroken runs that the missing messages make: `missing` / `runs` tells bursts from single losses."""
        return self._closed_runs + len(self._gaps)

    @property
    def jitter_us(self) -> int:
        """The smoothed deviation of the transit time between messages, as in RFC 3550."""
        return round(self._jitter_us)

    def on_message(self, data: bytes, arrival_us: int) -> None:
        """Take the bytes of one message, good or bad."""
        self.messages += 1
        try:
            head = MessageHead.parse(data)
        except WireError:
            return
        still, frames, ticks = head.kind == Kind.STILL, head.frame_count, head.tick_modulus
        self.still_messages += still
        newest = self._after if self._after is not None else head.first_tick
        first = newest + (head.first_tick - newest + ticks // 2) % ticks - ticks // 2
        limit_us = STILL_RESTART_US if self._still else RESTART_US
        if self._after is None or abs(first - newest) * self._period_us > limit_us:
            self._restart()
        elif first >= newest:
            self._note_gap(newest, first, frames, still=still)
        else:
            self._fill(first, first + frames)
        if still:
            self._latest = None
        else:
            self._note_transit(first + frames, arrival_us)
        if self._after is None or first + frames > self._after:
            self._after, self._still = first + frames, still
        if not still:
            self._frames += (frames - self._frames) / SIZE_SHARE if self._frames else frames

    def _restart(self) -> None:
        """Forget where the stream was: it has begun, or goes on after a pause."""
        while self._gaps:
            self._close_oldest_gap()
        self._after = None

    def _note_gap(self, start: int, end: int, frames: int, *, still: bool) -> None:
        """Take in that a message of `frames` leaves `start` to before `end` out."""
        if self._still or still:
            silent_periods = (end - start) / self._keep_alive_ticks if self._still else 0.0
            if silent_periods < LATE_KEEP_ALIVE:
                return
            gap = _Gap(start, round(end - self._keep_alive_ticks), self._keep_alive_ticks)
        elif end > start:
            gap = _Gap(start, end, self._frames or frames)
        else:
            return
        self._gaps.append(gap)
        if len(self._gaps) > MAX_OPEN_GAPS:
            self._close_oldest_gap()

    def _close_oldest_gap(self) -> None:
        gap = self._gaps.pop(0)
        self._closed_missing += gap.messages
        self._closed_runs += 1

    def _fill(self, start: int, end: int) -> None:
        """A message came late: what it brings is not missing any more."""
        left = []
        for gap in self._gaps:
            if end <= gap.start or gap.end <= start:
                left.append(gap)
                continue
            parts = ((gap.start, min(start, gap.end)), (max(end, gap.start), gap.end))
            left += [_Gap(a, b, gap.frames) for a, b in parts if b > a]
        self._gaps = left[-MAX_OPEN_GAPS:]

    def _note_transit(self, after: int, arrival_us: int) -> None:
        self.queue.note(round(after * self._period_us), arrival_us)
        if self._latest is not None and after != self._latest[0]:
            passed_us = (after - self._latest[0]) * self._period_us
            deviation_us = abs(arrival_us - self._latest[1] - passed_us)
            if deviation_us < RESTART_US:
                self._jitter_us += (deviation_us - self._jitter_us) / JITTER_SHARE
        self._latest = after, arrival_us
