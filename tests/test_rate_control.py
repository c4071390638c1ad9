"""The rate control on computed links: what it sends fits, it recovers from an outage, and it does not hunt."""

import math
from collections import deque
from dataclasses import dataclass, field

import pytest

from mien.bench.impairment import Link, Profile, RandomLoss
from mien.bench.link_trace import LinkTrace
from mien.call.opus import VoiceSettings
from mien.call.queue_gauge import QueueGauge
from mien.call.rate_control import LinkReport, PlanReason, RateControl
from mien.call.rate_plan import Plan, Situation, least_kbps
from mien.protocol.control import Carrier

TALK = Situation(
    VoiceSettings(16, 40), carriers=frozenset({Carrier.AUDIO, Carrier.DATACHANNEL}), acknowledges=False
)
STEP_US = 20_000
BACK_US = 50_000
SECOND_US = 1_000_000


@dataclass
class Course:
    """What a simulated call did, second by second."""

    sent_kbps: list[float] = field(default_factory=list)  # in that second
    worst_kbps: float = 0.0  # in any five seconds
    queue_us: list[int] = field(default_factory=list)
    plans: list[tuple[float, Plan, PlanReason]] = field(default_factory=list)

    def mean(self, start: int, end: int) -> float:
        return sum(self.sent_kbps[start:end]) / (end - start)


def simulate(
    profile: Profile, *, seconds: int, budget_kbps: float | None = None, dearer: float = 1.0
) -> Course:
    """Send what the plan says (times `dearer`) through a link, with reports as calls send them."""
    control = RateControl(TALK, budget_kbps=budget_kbps, now_us=0)
    link, gauge, course = Link(profile, seed=1), QueueGauge(), Course()
    course.plans.append((0, control.plan, control.reason))
    arriving: list[tuple[int, int]] = []  # arrival, made
    window: deque[tuple[int, int]] = deque()
    sent = came = told_sent = told_came = told_us = second_bytes = 0
    next_packet_us = told_queue_us = trip_us = 0
    for now_us in range(0, seconds * SECOND_US, STEP_US):
        changed = False
        while next_packet_us <= now_us:
            frame_ms = control.plan.voice.frame_ms if control.plan.voice else 100
            size = round(control.plan.wire_kbps * dearer * frame_ms / 8)
            arriving += [(at, next_packet_us) for at in link.send(next_packet_us, size)]
            window.append((now_us, size))
            sent, second_bytes = sent + 1, second_bytes + size
            next_packet_us += frame_ms * 1000
        for at, made in sorted(a for a in arriving if a[0] <= now_us):
            gauge.note(made, at)
            trip_us = at - made + BACK_US
            came += 1
        arriving = [a for a in arriving if a[0] > now_us]
        while window and window[0][0] <= now_us - 5 * SECOND_US:
            window.popleft()
        kbps = sum(size for _, size in window) * 8 / 5000
        course.worst_kbps = max(course.worst_kbps, kbps)
        queue_us = gauge.queue_us(now_us)
        new_sent, new_came = sent - len(arriving) - told_sent, came - told_came
        loss = max(0.0, 1 - new_came / new_sent) if new_sent > 0 else 0.0
        due_us = (
            1_500_000 if max(queue_us, told_queue_us) > 100_000 else 4_000_000 if loss > 0.03 else 10_000_000
        )
        if now_us - told_us >= due_us and new_came > 0:
            changed |= control.on_report(LinkReport(loss, queue_us, trip_us), now_us)
            told_sent, told_came, told_us, told_queue_us = sent - len(arriving), came, now_us, queue_us
        changed |= control.advance(kbps, now_us)
        if changed:
            course.plans.append((now_us / 1e6, control.plan, control.reason))
        if now_us % SECOND_US == 0:
            course.sent_kbps.append(second_bytes * 8 / 1000)
            course.queue_us.append(queue_us)
            second_bytes = 0
    return course


def test_a_free_link_carries_the_best_plan_from_the_start() -> None:
    course = simulate(Profile(delay_us=40_000, jitter_us=30_000), seconds=60)
    assert len(course.plans) == 1


def test_random_loss_alone_changes_nothing() -> None:
    course = simulate(Profile(delay_us=40_000, loss=RandomLoss(0.2)), seconds=90)
    assert len(course.plans) == 1


def test_losses_that_make_reports_late_are_no_narrow_link() -> None:
    control = RateControl(TALK, budget_kbps=None, now_us=0)
    best = control.plan
    for second, trip_us in enumerate((80_000, 1_100_000, 80_000, 1_080_000)):
        assert not control.on_report(LinkReport(0.2, 30_000, trip_us), second * 4 * SECOND_US)
    assert control.plan == best
    assert control.on_report(LinkReport(0.2, 100_000, 300_000), 20 * SECOND_US)


def test_a_slow_machine_is_no_narrow_link() -> None:
    control = RateControl(TALK, budget_kbps=None, now_us=0)
    for second, queue_us in enumerate((0, 300_000, 500_000, 600_000)):
        assert not control.on_report(LinkReport(0.0, queue_us, 90_000), second * 2 * SECOND_US)
    assert control.on_report(LinkReport(0.0, 600_000, 700_000), 20 * SECOND_US)


def test_a_narrow_link_is_found_and_kept_to() -> None:
    course = simulate(Profile(delay_us=40_000, rate_kbps=15, queue_bytes=8000), seconds=180)
    assert course.mean(30, 180) < 15
    assert course.mean(60, 180) > 11
    late = course.queue_us[60:]
    assert sum(q < 300_000 for q in late) > 0.8 * len(late)
    assert len(course.plans) < 30


def test_a_link_that_gets_wide_again_is_used_again() -> None:
    rows = [f"{20_000 * i},{15 if i < 2 else 500},40,0" for i in range(20)]
    narrow = LinkTrace.parse("\n".join(["time_ms,rate_kbps,delay_ms,loss_percent", *rows]))
    course = simulate(Profile(trace=narrow, queue_bytes=8000), seconds=200)
    assert course.mean(25, 40) < 16
    assert course.plans[-1][1] == course.plans[0][1]  # the best again
    back_s = next(at for at, plan, _ in course.plans if at > 40 and plan == course.plans[0][1])
    assert 45 < back_s < 165


@pytest.mark.parametrize("name", ["edge", "lte"])
def test_traces_with_an_outage(name: str) -> None:
    trace = LinkTrace.named(name)
    profile = Profile(trace=trace, outages=((60_000_000, 62_000_000),))
    course = simulate(profile, seconds=180)
    recovered = course.queue_us[70:]
    assert sum(q < 500_000 for q in recovered) > 0.7 * len(recovered)
    assert course.mean(100, 180) >= 0.9 * least_kbps(TALK)
    if name == "lte":
        assert course.mean(100, 180) > 20


@pytest.mark.parametrize("budget", [12, 16, 20, 26, 30])
@pytest.mark.parametrize("dearer", [0.8, 1.0])
def test_a_budget_holds_in_any_five_seconds(budget: float, dearer: float) -> None:
    course = simulate(Profile(delay_us=40_000), seconds=60, budget_kbps=budget, dearer=dearer)
    assert course.worst_kbps <= budget + 0.3  # of which one packet more or less in the window is .2
    assert course.mean(20, 60) > 0.75 * dearer * budget


def test_a_model_that_is_too_low_is_mistrusted() -> None:
    course = simulate(Profile(delay_us=40_000), seconds=120, budget_kbps=20, dearer=1.2)
    assert course.mean(15, 120) <= 20
    assert {reason for _, _, reason in course.plans} <= {
        PlanReason.START,
        PlanReason.BUDGET,
        PlanReason.PATIENCE,
    }
    assert len(course.plans) < 12


def test_what_is_left_over() -> None:
    control = RateControl(TALK, budget_kbps=20, now_us=0)
    assert control.spare_kbps(12) == pytest.approx(5)
    assert control.spare_kbps(25) == 0
    control.advance(16, 1 * SECOND_US, avatar_kbps=1)
    assert control.spare_kbps(12) == pytest.approx(5)  # a pause of the voice is room


def test_what_is_left_over_without_voice_is_what_the_dearest_time_leaves() -> None:
    control = RateControl(Situation(), budget_kbps=6, now_us=0)
    assert control.spare_kbps(3) == pytest.approx(2.76)
    for second, sent in enumerate((3.0, 5.5, 3.0)):
        control.advance(sent, second * SECOND_US, avatar_kbps=0.5)
    assert control.spare_kbps(2.5) == pytest.approx(0.76)
    assert control.spare_kbps(6) == 0
    for second in range(3, 18):
        control.advance(3.0, second * SECOND_US)
    assert control.spare_kbps(2.5) == pytest.approx(2.76)  # the dear time is long ago
    assert RateControl(Situation(), budget_kbps=None, now_us=0).spare_kbps(9) == math.inf


def test_what_is_excused_is_no_reason_for_mistrust() -> None:
    control, excused, blameless = (RateControl(TALK, budget_kbps=20, now_us=0) for _ in range(3))
    for second in range(20):
        excused.excuse(second * SECOND_US)
        excused.advance(25, second * SECOND_US)
        blameless.advance(25, second * SECOND_US, avatar_kbps=6)
        control.advance(25, second * SECOND_US)
    first = RateControl(TALK, budget_kbps=20, now_us=0).plan
    assert excused.plan == blameless.plan == first != control.plan
