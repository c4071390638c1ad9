"""How often and how far back our messages repeat earlier frames, from what the other side's reports say is lost.

No I/O and no clock.
"""

from dataclasses import dataclass
from typing import Final

from mien.protocol.control import Carrier, ReceiverReport
from mien.protocol.repeats import REPEAT_STRIDE

ON_LOSS: Final = 0.03  # from this share of lost messages on, repeats are worth their bits and their delay
OFF_REPORTS: Final = 3  # good ones in a row, until they stop
BURSTY_RUN: Final = 1.8  # messages; random loss of 20 % makes runs of 1.25, of 30 % of 1.43
KEPT: Final = 0.5  # of the older reports' weight, with each new one


@dataclass(frozen=True, slots=True)
class Redundancy:
    """`copies`: how often each message's time comes again; `lag`: fifths of a second that are passed over before.

    `stride`: ticks from one repeated frame to the next. `frames`: thirtieths of a second in a message of the data
    channel; None: as long as it would be without losses.
    """

    copies: int = 0
    lag: int = 0
    stride: int = REPEAT_STRIDE
    frames: int | None = None


NO_REPEATS: Final = Redundancy()
# What a burst takes is unknown until the first message after it, and a head that has turned meanwhile is ten times as
# wrong as anything else: no way of making it up helps. So messages are short, and a burst of so many packets is, too;
# each says again one frame that lies as far back as a voice can wait, and those of a row of messages are what is
# missing, from the first message after the burst on.
IN_BURSTS_BY_CHANNEL: Final = Redundancy(copies=1, lag=1, stride=3, frames=3)
# The same, in messages that are short anyway.
IN_BURSTS_BY_AUDIO: Final = Redundancy(copies=1, lag=1, stride=2)


class LossTrend:
    """What the reports say about our messages: switched on by one bad report, off by several good ones."""

    def __init__(self) -> None:
        self._before: ReceiverReport | None = None
        self._good_in_a_row = 0
        self._wanted = False
        self._lost = self._runs = 0.0  # fading
        self.loss = 0.0  # share of messages, of the newest report

    def take(self, report: ReceiverReport) -> None:
        """Take a report. Numbers that run backwards count as no news."""
        before, self._before = self._before, report
        lost = report.lost - (before.lost if before else 0)
        came = report.received - (before.received if before else 0)
        runs = report.runs - (before.runs if before else 0)
        if lost < 0 or came < 0 or runs < 0 or lost + came == 0:
            return
        self.loss = lost / (lost + came)
        bad = self.loss >= ON_LOSS
        self._good_in_a_row = 0 if bad else self._good_in_a_row + 1
        self._wanted = bad or (self._wanted and self._good_in_a_row < OFF_REPORTS)
        if lost and runs:
            self._lost, self._runs = KEPT * self._lost + lost, KEPT * self._runs + runs

    @property
    def mean_run(self) -> float:
        """Messages that get lost in a row, on average of late; 0 while none was."""
        return self._lost / self._runs if self._runs else 0.0

    def redundancy(self, carrier: Carrier) -> Redundancy:
        """Return what our messages should repeat."""
        if not self._wanted:
            return NO_REPEATS
        bursty = self.mean_run >= BURSTY_RUN
        if carrier is Carrier.AUDIO:
            return IN_BURSTS_BY_AUDIO if bursty else Redundancy(copies=2)
        return IN_BURSTS_BY_CHANNEL if bursty else Redundancy(copies=1)
