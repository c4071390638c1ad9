"""Keeps what we send within a budget, and within what the link carries: down quickly, up slowly.

No I/O and no clock: figures and times come as arguments. Three things bound the plan:

- the budget, ours or the other side's. Where more is measured than the model says, the model is mistrusted by as much;
- the link. A queue that builds up, or losses together with a longer round trip, mean that we send more than it
  carries; losses alone do not: less would not get through better;
- after that, patience: a step up is tried once nothing bad was heard for a while, and each time that it was a
  mistake the next one waits twice as long.

Nothing here ever shows more of a person: all that changes is how well voice and face are coded.
"""

import math
from collections import deque
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from mien.call.rate_plan import Plan, Situation, best_plan

QUEUE_US: Final = (
    220_000  # messages that wait that long wait behind our own; a mobile link alone makes 150 ms
)
LONG_QUEUE_US: Final = 450_000  # no matter whether it grows
SOME_QUEUE_US: Final = 80_000  # less, and the round trip is longer because reports were lost
HIGH_LOSS: Final = 0.1
TRIP_SHARE: Final = 0.4  # of a queue that the round trip shows too
TRIP_GROWTH: Final = 1.5
TRIP_GROWTH_US: Final = 60_000
REACT_US: Final = 3_000_000  # a queue needs time to empty, and its report to come
WINDOW_US: Final = 5_000_000  # that what is measured is over
DOWN: Final = 0.85  # of what gets through; less while a queue is to empty:
DRAIN_PER_S: Final = 0.25  # of queue
LEAST_DOWN: Final = 0.5
FALLING: Final = 0.85  # a queue that is shorter by that much needs time, not less of us
FIRST_PATIENCE_US: Final = 8_000_000
MAX_PATIENCE_US: Final = 64_000_000
UP: Final = 1.15
PROVED_US: Final = 12_000_000  # a step up that was a mistake shows in this time
SETTLED_US: Final = 6_200_000  # after a change, until what is measured is all the new plan's
MISTRUST_STEP: Final = 1.02
MAX_MISTRUST: Final = 2.0
TRUST_AGAIN_US: Final = 30_000_000
TRUST_STEP: Final = 0.97
HEADROOM: Final = 0.985  # a packet more or less in the window
SPARE: Final = (
    0.85  # of the limit may be filled up; a budget without voice is filled up to what is dearest beside:
)
SPARE_WITHOUT_VOICE: Final = 0.96
DEAREST_US: Final = 15_000_000
OVER: Final = 0.985  # of the budget, in the last five seconds: too near


class PlanReason(Enum):
    """Why a plan was taken."""

    START = "start"
    SITUATION = "situation"  # carrier, redundancy or voice have changed
    BUDGET = "budget"  # more was sent than the model says
    LINK = "link"  # it carries less
    PATIENCE = "patience"  # nothing bad was heard for a while


@dataclass(frozen=True, slots=True)
class LinkReport:
    """What a report says about our direction: share of messages lost, their queue, and the round trip (0: unknown)."""

    loss: float
    queue_us: int
    round_trip_us: int


class RateControl:
    """Give it what is measured; take `plan`. `reason` says why it is as it is."""

    def __init__(self, situation: Situation, *, budget_kbps: float | None, now_us: int) -> None:
        self._situation = situation
        self._budget_kbps = budget_kbps if budget_kbps is not None else math.inf
        self._link_kbps = math.inf
        self._mistrust = 1.0  # what is measured, by what the model says
        self._sent_kbps = self._planned_kbps = 0.0  # in the last five seconds
        self._least_trip_us: int | None = None
        self._begin_us = self._excused_us = now_us
        self._queue_us, self._report_us = 0, now_us
        self._after_drain_kbps: float | None = None
        self._patience_us = FIRST_PATIENCE_US
        self._bad_us = now_us  # when something bad was heard, or a step was tried
        self._cut_us: int | None = None
        self._raised_us: int | None = None
        self._trusted_us = now_us
        self._changed_us = now_us
        self._measured = 0
        self._measured_sum = 0.0
        self._others: deque[tuple[int, float]] = deque()  # when what beside an avatar was sent: kbps
        self.most_kbps = 0.0  # in any five seconds
        self.reason = PlanReason.START
        self.plan = best_plan(self.limit_kbps, situation)

    @property
    def limit_kbps(self) -> float:
        """What the model may say at most, now."""
        return min(HEADROOM * self._budget_kbps, self._link_kbps) / self._mistrust

    @property
    def situation(self) -> Situation:
        """What plans are made for."""
        return self._situation

    def spare_kbps(self, others_kbps: float) -> float:
        """Return what is left beside what else is sent in fact: for an avatar that is still on its way.

        Without voice a budget is so small that reports and checks which happen to meet are a good part of it: what is
        left is what they leave in their dearest five seconds.
        """
        spare = SPARE * min(self._budget_kbps, self._link_kbps) - others_kbps
        if self._situation.voice is None and self._link_kbps >= self._budget_kbps:
            dearest = max([others_kbps, *(kbps for _, kbps in self._others)])
            spare = SPARE_WITHOUT_VOICE * self._budget_kbps - dearest
        return max(0.0, spare)

    def excuse(self, now_us: int) -> None:
        """What is sent now is not the plan's alone: it says nothing about the model."""
        self._changed_us = self._excused_us = now_us

    def set_situation(self, situation: Situation, now_us: int) -> bool:
        """Take in what has changed; return whether the plan does."""
        if situation == self._situation:
            return False
        self._situation = situation
        return self._choose(PlanReason.SITUATION, now_us)

    def on_report(self, report: LinkReport, now_us: int) -> bool:
        """Take in what the other side says; return whether the plan changes."""
        trip_us = report.round_trip_us
        if trip_us:
            self._least_trip_us = min(trip_us, self._least_trip_us or trip_us)
        queue_before_us, passed_us = self._queue_us, max(1, now_us - self._report_us)
        self._queue_us, self._report_us = report.queue_us, now_us
        if not self._is_congested(report, queue_before_us):
            return report.queue_us < QUEUE_US and self._end_drain(now_us)
        self._bad_us = now_us
        if self._cut_us is not None and now_us - self._cut_us < REACT_US:
            return False
        growth = min(0.9, max(0.0, (report.queue_us - queue_before_us) / passed_us))
        self._cut((1 - min(0.9, report.loss)) * (1 - growth), now_us)
        return self._choose(PlanReason.LINK, now_us)

    def advance(self, sent_kbps: float, now_us: int, *, avatar_kbps: float = 0.0) -> bool:
        """Let time pass; `sent_kbps`: on the wire, in the last five seconds. Return whether the plan changes.

        `avatar_kbps` of that was for an avatar's layers, which no plan is to blame for.
        """
        self._sent_kbps, self._planned_kbps = sent_kbps, sent_kbps - avatar_kbps
        self._take_down(sent_kbps, now_us)
        self._others.append((now_us, self._planned_kbps))
        while now_us - self._others[0][0] > DEAREST_US:
            self._others.popleft()
        return self._mind_budget(now_us) or self._try_more(now_us)

    @property
    def budget_kbps(self) -> float | None:
        """The budget, None without one."""
        return None if self._budget_kbps == math.inf else self._budget_kbps

    @property
    def mean_kbps(self) -> float:
        """What was sent, on average, but for what is excused."""
        return self._measured_sum / self._measured if self._measured else 0.0

    def _take_down(self, sent_kbps: float, now_us: int) -> None:
        if now_us - max(self._excused_us, self._begin_us) > SETTLED_US:
            self.most_kbps = max(self.most_kbps, sent_kbps)
            self._measured_sum, self._measured = self._measured_sum + sent_kbps, self._measured + 1

    def _is_congested(self, report: LinkReport, queue_before_us: int) -> bool:
        least_us = self._least_trip_us or 0
        grown_us = report.round_trip_us - least_us
        # A sender that is slow itself makes its messages late, too, but not the round trip.
        queued = grown_us >= TRIP_SHARE * report.queue_us or not report.round_trip_us
        if queued and report.queue_us > LONG_QUEUE_US and report.queue_us > FALLING * queue_before_us:
            return True
        if queued and report.queue_us > QUEUE_US and report.queue_us > queue_before_us:
            return True
        longer = grown_us > (TRIP_GROWTH - 1) * least_us + TRIP_GROWTH_US
        waits = report.queue_us >= max(SOME_QUEUE_US, queue_before_us)
        return report.loss >= HIGH_LOSS and longer and waits

    def _cut(self, share: float, now_us: int) -> None:
        """Send less: `share` is what got through of what we sent."""
        if self._raised_us is not None and now_us - self._raised_us < PROVED_US:
            self._patience_us = min(2 * self._patience_us, MAX_PATIENCE_US)
        self._raised_us, self._cut_us = None, now_us
        measured_us = min(WINDOW_US, max(1, now_us - self._begin_us))
        sent = self._sent_kbps * WINDOW_US / measured_us or self.plan.wire_kbps * self._mistrust
        carried = share * sent
        down = max(LEAST_DOWN, DOWN - DRAIN_PER_S * self._queue_us / 1e6)
        least = best_plan(0, self._situation).wire_kbps
        self._link_kbps = max(least, min(down * carried, DOWN * self._link_kbps))
        self._after_drain_kbps = max(least, DOWN * carried)

    def _end_drain(self, now_us: int) -> bool:
        """The queue is empty: what the link was found to carry may be used."""
        if self._after_drain_kbps is None:
            return False
        self._link_kbps, self._after_drain_kbps = max(self._link_kbps, self._after_drain_kbps), None
        return self._choose(PlanReason.PATIENCE, now_us)

    def _mind_budget(self, now_us: int) -> bool:
        """Mistrust the model as far as what was sent tells, trust it again where that was long ago."""
        over = self._planned_kbps > OVER * self._budget_kbps
        settled = now_us - self._changed_us > SETTLED_US
        ratio = self._planned_kbps / self.plan.wire_kbps
        if over and settled:
            self._trusted_us = self._changed_us = now_us
            self._mistrust = min(MAX_MISTRUST, max(self._mistrust, ratio) * MISTRUST_STEP)
            return self._choose(PlanReason.BUDGET, now_us)
        if self._mistrust > 1 and now_us - self._trusted_us > TRUST_AGAIN_US:
            self._trusted_us = now_us
            self._mistrust = max(1.0, self._mistrust * TRUST_STEP)
            return self._choose(PlanReason.PATIENCE, now_us)
        return False

    def _try_more(self, now_us: int) -> bool:
        """After a while without anything bad, see whether the link carries a little more."""
        if (
            self._link_kbps == math.inf
            or now_us - max(self._bad_us, self._raised_us or 0) < self._patience_us
        ):
            return False
        self._raised_us = now_us
        most = (
            best_plan(HEADROOM * self._budget_kbps / self._mistrust, self._situation).wire_kbps
            * self._mistrust
        )
        self._link_kbps *= UP
        if self._link_kbps >= most:
            self._link_kbps, self._patience_us = math.inf, FIRST_PATIENCE_US
        return self._choose(PlanReason.PATIENCE, now_us)

    def _choose(self, reason: PlanReason, now_us: int) -> bool:
        plan = best_plan(self.limit_kbps, self._situation)
        if plan == self.plan:
            return False
        if _differs(plan, self.plan):
            self._changed_us = now_us
        self.plan, self.reason = plan, reason
        return True


def _differs(one: Plan, other: Plan) -> bool:
    """Return whether more than the model's figures differ."""
    figures = {"voice_kbps": 0.0, "face_kbps": 0.0, "wire_kbps": 0.0, "ride_kbps": 0.0, "points": 0.0}
    return replace(one, **figures) != replace(other, **figures)  # type: ignore[arg-type]  # all are floats
