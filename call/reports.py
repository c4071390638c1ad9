"""What the two sides tell one another about how it goes, and what follows from that: round trip, losses, latency.

No I/O and no clock. Times are integer microseconds of our own clock, unless a name says `their`.
"""

from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from mien.call.redundancy import ON_LOSS, LossTrend
from mien.call.statistics import Latency
from mien.protocol.control import ReceiverReport

FIRST_US: Final = 2_000_000
PERIOD_US: Final = 10_000_000  # with SACK and headers about 0.3 kbps
LOSS_PERIOD_US: Final = 4_000_000  # reports come so much more often while messages are missing
QUEUE_NEWS_US: Final = 150_000  # a queue that long, or its end, is told soon
QUEUE_PERIOD_US: Final = 2_000_000
MAX_SAMPLES: Final = 10_000
RECENT_REPORTS: Final = 4
RECENT_SAMPLES: Final = 300
MAX_AGE_US: Final = 60_000_000
SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Reception:
    """What we received of the other side's coefficients: messages, frames that came `late`, messages `missing`.

    `runs`: unbroken ones that the missing messages make; `by_audio`: messages in packets of the voice; `audio_packets`:
    those packets, with and without message; `queue_us`: how much longer messages take than they could.
    """

    received: int
    malformed: int
    late: int
    jitter_us: int
    missing: int = 0
    runs: int = 0
    by_audio: int = 0
    audio_packets: int = 0
    queue_us: int = 0


class Reports:
    """Both directions of the reports of one call."""

    def __init__(self) -> None:
        self._due_us: int | None = None
        self.least_period_us = QUEUE_PERIOD_US  # between two reports; more where a budget is small
        self._reported_us = 0
        self._reported_missing = 0
        self._reported_received = 0
        self._reported_queue_us = 0
        self._theirs: ReceiverReport | None = None
        self._came_us = 0
        self._their_zero_us: int | None = None  # when their tick 0 was taken
        self._latencies_us: deque[int] = deque(maxlen=MAX_SAMPLES)
        # A report that had to be sent again says more about losses than about the way: the least of a few counts.
        self._round_trips_us: deque[int] = deque(maxlen=RECENT_REPORTS)
        self._their_zeros_us: deque[int] = deque(maxlen=RECENT_REPORTS)  # as if their reports took no time
        self.newest_round_trip_us = 0  # 0: not known
        self.lost = 0  # of their messages, as of their newest report
        self.our_loss = LossTrend()

    def start(self, now_us: int) -> None:
        """The connection stands."""
        self._due_us = now_us + FIRST_US

    def is_due(self, now_us: int) -> bool:
        """Return whether a report is to be sent now; it then is not any more."""
        if self._due_us is None or now_us < self._due_us:
            return False
        self._due_us = now_us + PERIOD_US
        self._reported_us = now_us
        return True

    def note_missing(self, missing: int, received: int, *, now_us: int) -> None:
        """Take in how many messages are missing so far, of how many more that came: losses are reported soon."""
        lost, came = missing - self._reported_missing, received - self._reported_received
        if self._due_us is None or lost < max(1.0, ON_LOSS * (lost + came)):
            return
        self._due_us = min(
            self._due_us, max(now_us, self._reported_us + max(LOSS_PERIOD_US, self.least_period_us))
        )

    def note_queue(self, queue_us: int, *, now_us: int) -> None:
        """Take in how much longer their messages take now: a queue is told soon, and so is its end."""
        if self._due_us is None or max(queue_us, self._reported_queue_us) < QUEUE_NEWS_US:
            return
        self._due_us = min(self._due_us, max(now_us, self._reported_us + self.least_period_us))

    def make(
        self, reception: Reception, *, sent: int, coded: tuple[int, int] | None, now_us: int
    ) -> ReceiverReport:
        """Return our report. `coded`: our newest coded tick, and when its frame was taken."""
        self._reported_missing, self._reported_received = reception.missing, reception.received
        self._reported_queue_us = reception.queue_us
        return ReceiverReport(
            sent_us=now_us,
            echo_us=self._theirs.sent_us if self._theirs else 0,
            held_us=now_us - self._came_us if self._theirs else 0,
            received=reception.received,
            malformed=reception.malformed,
            lost=max(self.lost, reception.missing),
            runs=reception.runs,
            late=reception.late,
            jitter_us=reception.jitter_us,
            queue_us=reception.queue_us,
            latency_us=round(self.recent_latency.median_ms * 1000),
            by_audio=reception.by_audio,
            audio_packets=reception.audio_packets,
            sent=sent,
            coded_tick=coded[0] if coded else 0,
            coded_us=max(0, now_us - coded[1]) if coded else 0,
        )

    def take(
        self, report: ReceiverReport, *, came: int, tick_rate: Fraction | None, transport_us: int, now_us: int
    ) -> None:
        """Take their report.

        `came`: how many of their coefficient messages have come; `tick_rate`: of their stream; `transport_us`:
        the round trip as the transport measures it, used until there is a better one.
        """
        self.our_loss.take(report)
        if report.queue_us >= QUEUE_NEWS_US and self._due_us is not None:
            # Their queue is our doing: an answer that comes soon tells them and us whether the round trip grows.
            self._due_us = min(self._due_us, max(now_us, self._reported_us + self.least_period_us))
        self._theirs, self._came_us = report, now_us
        echoed_us = report.echo_us + report.held_us
        if report.echo_us and echoed_us <= now_us:
            self.newest_round_trip_us = now_us - echoed_us
            self._round_trips_us.append(self.newest_round_trip_us)
        self.lost = max(0, report.sent - came)
        if report.coded_tick and tick_rate is not None:
            self._their_zeros_us.append(now_us - report.coded_us - ticks_us(report.coded_tick, tick_rate))
            self._their_zero_us = min(self._their_zeros_us) - (self.round_trip_us or transport_us) // 2

    def note_picture(self, tick: Fraction, tick_rate: Fraction, composited_us: int) -> None:
        """Take in that a live picture of a tick of theirs was composited at this time."""
        if self._their_zero_us is not None:
            age_us = composited_us - self._their_zero_us - ticks_us(tick, tick_rate)
            if abs(age_us) <= MAX_AGE_US:  # else their figures make no sense
                self._latencies_us.append(max(0, age_us))

    @property
    def round_trip_us(self) -> int:
        """The way there and back, 0 where it is not known."""
        return min(self._round_trips_us, default=0)

    @property
    def latency(self) -> Latency:
        """From the stamps of their frames to our pictures of them."""
        return Latency.of(list(self._latencies_us))

    @property
    def recent_latency(self) -> Latency:
        """The same of the newest pictures."""
        return Latency.of(list(self._latencies_us)[-RECENT_SAMPLES:])

    @property
    def their_lost(self) -> int:
        """Messages of ours that did not reach them, as they last said."""
        return self._theirs.lost if self._theirs else 0

    @property
    def their_report(self) -> ReceiverReport | None:
        """Their newest report, and nothing while there is none."""
        return self._theirs

    @property
    def their_latency_ms(self) -> float:
        """The median over there, as they last said; 0 if they do not know."""
        return self._theirs.latency_us / 1000 if self._theirs else 0.0


def ticks_us(ticks: Fraction | int, tick_rate: Fraction) -> int:
    """Return how long so many ticks last."""
    return round(ticks / tick_rate * SECOND_US)
