"""Drives the rate control of a call: tells it what is measured and reported, and does what its plan says."""

import math
from collections.abc import Iterator
from typing import Final

from mien.call.call_state import CallState
from mien.call.carrier_cadence import Gaps
from mien.call.opus import VoiceSettings
from mien.call.rate_control import LinkReport, PlanReason, RateControl
from mien.call.rate_plan import Situation
from mien.call.reports import PERIOD_US
from mien.call.statistics import PlanChange
from mien.call.wire_cause import Cause, Direction
from mien.protocol.control import Carrier, ReceiverReport

EVERY_US: Final = 500_000
WINDOW_US: Final = 5_000_000
REPORT_BITS: Final = 2600  # on the wire, with its SACK
REPORT_SHARE: Final = 0.1  # of a budget, that reports may take while things go wrong
SHORT_US: Final = 600_000
LEAST_FIRST_SHARE: Final = 0.5  # of the budget, for the first picture, where voice would leave less


def begin_control(call: CallState, now_us: int) -> None:
    """The other side has said hello: make the first plan, and keep to it."""
    call.rate = RateControl(
        _situation(call, acknowledges=False), budget_kbps=budget_kbps(call), now_us=now_us
    )
    budget = budget_kbps(call)
    if budget is not None:
        period_us = round(REPORT_BITS * 1000 / (REPORT_SHARE * budget))
        call.reports.least_period_us = max(call.reports.least_period_us, min(period_us, PERIOD_US))
    _apply(call, now_us)


def budget_kbps(call: CallState) -> float | None:
    """Return what both sides allow our direction, None where neither says anything."""
    theirs = call.hello.budget_bps / 1000 if call.hello and call.hello.budget_bps else None
    budgets = [budget for budget in (call.settings.rate.budget_kbps, theirs) if budget is not None]
    return min(budgets) if budgets else None


def first_transfer_kbps(call: CallState) -> float:
    """Return how fast what makes our first picture may be sent: what voice leaves of the budget, or half of it."""
    budget, wish_kbps = budget_kbps(call), call.settings.rate.first_picture_kbps
    if wish_kbps is not None:
        return wish_kbps
    if budget is None or call.rate is None:
        return call.settings.transfer_kbps
    plan = call.rate.plan
    left = budget - (plan.wire_kbps - plan.face_kbps)
    return min(call.settings.transfer_kbps, max(LEAST_FIRST_SHARE * budget, left))


def spare_kbps(call: CallState) -> float:
    """Return what everything but an avatar leaves of the rate now. A voice that has just begun counts at once."""
    if call.rate is None:
        return math.inf
    return call.rate.spare_kbps(max(_without_avatar_kbps(call, window) for window in (WINDOW_US, SHORT_US)))


def _without_avatar_kbps(call: CallState, window_us: int) -> float:
    sent = call.meter.kbps(Direction.SENT, window_us=window_us)
    return sent - call.meter.kbps(Direction.SENT, Cause.TRANSFER, window_us=window_us)


class RateKeeper:
    """Lives on the event loop, as long as the call."""

    def __init__(self, call: CallState) -> None:
        self._call = call
        self._next_us = 0
        self._seen: ReceiverReport | None = None
        self._by_channel = 0  # messages of theirs
        self._by_channel_us: int | None = None  # when the newest of them were there
        self._told_too_little = False

    def advance(self, now_us: int) -> None:
        """Let time pass."""
        if self._call.rate is None or now_us < self._next_us:
            return
        self._next_us = now_us + EVERY_US
        if any(list(self._changes(self._call.rate, now_us))):
            _apply(self._call, now_us)
        self._notice_too_little()

    def _changes(self, rate: RateControl, now_us: int) -> Iterator[bool]:
        call = self._call
        yield rate.set_situation(_situation(call, acknowledges=self._acknowledges(now_us)), now_us)
        report = call.reports.their_report
        if report is not None and report is not self._seen and call.settings.rate.follow_link:
            self._seen = report
            link = LinkReport(call.reports.our_loss.loss, report.queue_us, call.reports.newest_round_trip_us)
            yield rate.on_report(link, now_us)
        if call.gate.is_open or (call.offer is not None and not call.offer.judged):
            rate.excuse(now_us)  # the camera's pictures, or the avatar's first one
        yield rate.advance(
            call.meter.kbps(Direction.SENT, window_us=WINDOW_US),
            now_us,
            avatar_kbps=call.meter.kbps(Direction.SENT, Cause.TRANSFER, window_us=WINDOW_US),
        )

    def _acknowledges(self, now_us: int) -> bool:
        count = self._call.carriers.received[Carrier.DATACHANNEL].messages
        if count != self._by_channel:
            self._by_channel, self._by_channel_us = count, now_us
        return self._by_channel_us is not None and now_us - self._by_channel_us < WINDOW_US

    def _notice_too_little(self) -> None:
        rate, budget = self._call.rate, budget_kbps(self._call)
        if rate is None or budget is None or self._told_too_little or rate.plan.wire_kbps <= budget:
            return
        self._told_too_little = True
        self._call.tell(
            f"rate: {budget:g} kbps may be too little: this call takes {rate.plan.wire_kbps:.1f} as it is now"
        )


def _situation(call: CallState, *, acknowledges: bool) -> Situation:
    line = call.peer.voice_line if call.peer else None
    sounds = call.me.voice is not None and not call.me.voice.muted
    most_kbps = line.most_kbps if line is not None and sounds else None
    begun = call.outgoing is not None and call.outgoing.messages > 0
    # Before the first message audio is counted on where it is likely: it is tried while the picture is sent.
    rides = call.carriers.current is Carrier.AUDIO if begun else _may_ride(call)
    scene = call.settings.sender.scene
    return Situation(
        voice=VoiceSettings(most_kbps, call.settings.voice.frame_ms) if most_kbps else None,
        face=call.avatar is not None and call.me.source is not None,
        carriers=frozenset({Carrier.DATACHANNEL, *((Carrier.AUDIO,) if rides else ())}),
        qualities=call.settings.rate.qualities or frozenset({call.settings.sender.quality}),
        redundancy=call.reports.our_loss.redundancy(call.carriers.current),
        acknowledges=acknowledges,
        scene_kbps=scene.kbps if scene is not None and call.outgoing and call.outgoing.scene_live else 0.0,
    )


def _may_ride(call: CallState) -> bool:
    theirs = call.hello.carriers if call.hello else ()
    return call.me.voice is not None and Carrier.AUDIO in call.carriers.offered and Carrier.AUDIO in theirs


def _apply(call: CallState, now_us: int) -> None:
    """Do what the plan says, and take down that it was changed."""
    assert call.rate is not None and call.peer is not None
    plan, reason = call.rate.plan, call.rate.reason
    if call.outgoing is not None:
        call.outgoing.pace(plan)
        call.outgoing.repeat(plan.redundancy)
    line = call.peer.voice_line
    if line is not None:
        if plan.voice is not None:
            line.pace(plan.voice.kbps, plan.voice.frame_ms)
        if plan.carrier is Carrier.AUDIO:
            packet_ms = plan.voice.frame_ms if plan.voice else call.settings.voice.frame_ms
            line.space(Gaps.of(plan.gap_ms, plan.silence_gap_ms, packet_ms))
    change = PlanChange(call.course.since_connected(now_us) or 0.0, plan.text, plan.wire_kbps, reason.value)
    if not call.plans or call.plans[-1].plan != change.plan:
        call.plans.append(change)
        if reason in (PlanReason.LINK, PlanReason.BUDGET, PlanReason.PATIENCE):
            call.tell(f"rate: {plan.text} ({reason.value})")
