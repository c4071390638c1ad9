"""The playout: timing, interpolation, concealment, re-entry, hostile timelines, exact repetition."""

import random
from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np
import pytest

from mien.decoder.concealment import blink_closure, conceal
from mien.decoder.playout import MAX_TICKS, Playout, PlayoutSettings, Shown, Status
from mien.protocol.codec import Batch
from mien.protocol.errors import WireError
from mien.protocol.state import FaceState
from tests.playout_samples import largest_step
from tests.stream_samples import stream_header

TICK_US = Fraction(1_000_000, 30)
START_US = 5_000_000_000  # the receiver's clock when the sender's tick 0 happens
PATH_US = 30_000
AGE_US = PATH_US + 200_000 + 15_000  # path, batch, margin
BLINK = np.full(30, 0.25, np.float32)


def ramp(tick: int, *, tracked: bool = True) -> FaceState:
    """A face whose first pose number is tick / 100, with a constant expression of .5."""
    pose = np.zeros(6, np.float32)
    pose[0] = tick / 100
    return FaceState(pose, np.full(30, 0.5, np.float32), tracked)


def make_batch(first: int, count: int = 6, state: Callable[[int], FaceState] = ramp) -> Batch:
    return Batch(first, tuple(state(tick) for tick in range(first, first + count)))


def sent_us(batch: Batch) -> int:
    """When a batch leaves: at its last tick."""
    return START_US + int((batch.first_tick + len(batch.states) - 1) * TICK_US)


Delivery = tuple[int, Batch]  # arrival time, batch


def deliver(
    batches: Iterable[Batch], *, delay_us: Callable[[Batch], int] = lambda b: PATH_US
) -> list[Delivery]:
    return sorted(((sent_us(b) + delay_us(b), b) for b in batches), key=lambda d: d[0])


def play(
    playout: Playout, deliveries: list[Delivery], *, until_us: int, step_us: int = 16_667, from_us: int = 0
) -> list[tuple[int, Shown]]:
    """Run a receiver that draws every `step_us`; times are relative to START_US."""
    pictures = []
    waiting = list(deliveries)
    for render_us in range(START_US + from_us, START_US + until_us, step_us):
        while waiting and waiting[0][0] <= render_us:
            arrival_us, batch = waiting.pop(0)
            playout.push(batch, arrival_us=arrival_us)
        pictures.append((render_us - START_US, playout.state_at(render_us)))
    return pictures


def batches(count: int, *, state: Callable[[int], FaceState] = ramp) -> list[Batch]:
    return [make_batch(6 * n, state=state) for n in range(count)]


def lag_us(time_us: int, shown: Shown) -> float:
    """How old the shown frame is."""
    assert shown.tick is not None
    return float(time_us - shown.tick * TICK_US)


def test_waits_then_plays_every_tick_at_a_constant_age() -> None:
    pictures = play(Playout(stream_header()), deliver(batches(20)), until_us=3_900_000)
    assert pictures[0][1].status is Status.WAITING
    assert pictures[0][1].tick is None
    live = [(t, s) for t, s in pictures if s.tick is not None and s.tick > 0]
    assert len(live) > 200
    assert {s.status for _, s in live} == {Status.LIVE}
    ages = [lag_us(t, s) for t, s in live]
    assert max(ages) - min(ages) < 2  # no drift
    assert ages[0] == pytest.approx(AGE_US, abs=2)


def test_waits_in_the_rest_pose() -> None:
    header = stream_header(rest_pose=(100, 0, 0, -20, 0, 0))
    state = Playout(header).state_at(0).state
    assert state.pose.tolist() == pytest.approx([0.1, 0, 0, -0.02, 0, 0])
    assert not state.expression.any() and not state.tracked


def test_interpolates_between_ticks() -> None:
    pictures = play(Playout(stream_header()), deliver(batches(20)), until_us=3_900_000, step_us=7_001)
    for _, shown in pictures:
        if shown.status is Status.LIVE and shown.tick is not None and shown.tick >= 0:
            assert shown.state.pose[0] == pytest.approx(float(shown.tick) / 100, abs=1e-6)


def test_first_picture_shows_the_first_frame_as_soon_as_it_is_there() -> None:
    playout = Playout(stream_header())
    playout.push(make_batch(0), arrival_us=START_US + 200_000)
    shown = playout.state_at(START_US + 200_000)
    assert shown.status is Status.LIVE
    assert shown.state.pose[0] == 0


@pytest.mark.parametrize("rate", [Fraction(1), Fraction(15), Fraction(24000, 1001), Fraction(25)])
def test_other_tick_rates(rate: Fraction) -> None:
    playout = Playout(stream_header(tick_rate=rate))
    for n in range(10):
        arrival_us = int((3 * n + 2) * 1_000_000 / rate)
        playout.push(make_batch(3 * n, 3), arrival_us=arrival_us)
        shown = playout.state_at(arrival_us)
    assert shown.tick is not None
    # At the arrival of tick 29: three ticks and the margin behind.
    assert float(shown.tick) == pytest.approx(29 - 3 - 0.015 * float(rate), abs=0.001)


def test_jitter_makes_it_wait_longer_and_is_invisible_then() -> None:
    for seed in range(4):
        jitter = random.Random(seed)
        shaken = deliver(batches(100), delay_us=lambda b, jitter=jitter: PATH_US + jitter.randrange(80_000))  # type: ignore[misc]
        pictures = play(Playout(stream_header()), shaken, until_us=19_900_000)
        settled = [(t, s) for t, s in pictures if t > 3_000_000]
        assert {s.status for _, s in settled} == {Status.LIVE}
        assert max(lag_us(t, s) for t, s in settled) < AGE_US + 82_000
        assert largest_step(settled) < 0.02


def test_it_waits_less_when_the_jitter_is_over_and_nobody_sees_it() -> None:
    jitter = random.Random(2)
    calm = deliver(
        batches(150), delay_us=lambda b: PATH_US + (jitter.randrange(80_000) if b.first_tick < 300 else 0)
    )
    pictures = play(Playout(stream_header()), calm, until_us=29_900_000)
    ages = {t // 1_000_000: lag_us(t, s) for t, s in pictures if s.tick is not None}
    assert ages[9] > AGE_US + 45_000  # while it lasts, and for ten seconds more
    assert ages[19] > AGE_US + 45_000
    assert ages[29] == pytest.approx(AGE_US, abs=2)
    assert largest_step([p for p in pictures if p[0] > 12_000_000]) < 0.0056 * 1.11


def test_a_face_at_rest_lets_it_wait_less_at_once() -> None:
    """The sender sees no face for a while: whatever the picture does then, it is not seen."""
    late = deliver(
        batches(70, state=lambda tick: ramp(tick, tracked=not 345 < tick < 380)),
        delay_us=lambda b: PATH_US + (60_000 if b.first_tick in (24, 30, 36) else 0),
    )
    pictures = play(Playout(stream_header()), late, until_us=13_900_000)
    ages = {t // 100_000: lag_us(t, s) for t, s in pictures if s.tick is not None}
    assert ages[113] > AGE_US + 40_000
    assert ages[120] == pytest.approx(AGE_US, abs=2)


def test_a_slow_first_batch_does_not_cost_age_for_ever() -> None:
    """The first message of a call often waits for something; the clock must get over it."""
    late = deliver(batches(50), delay_us=lambda b: PATH_US + (180_000 if b.first_tick == 0 else 0))
    pictures = play(Playout(stream_header()), late, until_us=9_900_000)
    assert lag_us(*pictures[-1]) == pytest.approx(AGE_US, abs=2)
    assert max(lag_us(t, s) for t, s in pictures if t > 3_500_000) < AGE_US + 60_000
    assert largest_step(pictures) < 0.0056 * 1.11


def test_one_late_batch_among_many_costs_its_own_frames_only() -> None:
    late = deliver(batches(100), delay_us=lambda b: PATH_US + (180_000 if b.first_tick == 300 else 0))
    pictures = play(Playout(stream_header()), late, until_us=19_900_000)
    assert {s.status for t, s in pictures if t > 10_700_000} == {Status.LIVE}
    assert max(lag_us(t, s) for t, s in pictures if t > 10_700_000) == pytest.approx(AGE_US, abs=2)


@pytest.mark.parametrize("drift_ppm", [-300, 300])
def test_follows_a_clock_that_drifts(drift_ppm: int) -> None:
    """Two minutes at 300 ppm are 36 ms: the age must stay, and nothing may be concealed."""
    drifting = [
        (START_US + (a - START_US) * (1_000_000 + drift_ppm) // 1_000_000, b)
        for a, b in deliver(batches(600))
    ]
    playout = Playout(stream_header())
    pictures = play(playout, drifting, until_us=119_000_000, step_us=33_333)
    assert {s.status for _, s in pictures} == {Status.WAITING, Status.LIVE}
    true_age = [
        float(t / (1 + drift_ppm / 1e6) - s.tick * TICK_US) for t, s in pictures[60:] if s.tick is not None
    ]
    assert max(true_age) - min(true_age) < 6_000
    assert largest_step(pictures) < 0.011


@pytest.mark.parametrize("most_delay_us", [450_000, 1_500_000])
def test_a_longer_path_is_believed_from_its_second_batch_without_a_pop(most_delay_us: int) -> None:
    detour = deliver(batches(60), delay_us=lambda b: PATH_US + (250_000 if b.first_tick >= 120 else 0))
    playout = Playout(stream_header(), PlayoutSettings(most_delay_us=most_delay_us))
    pictures = play(playout, detour, until_us=11_500_000)
    late = [s.status for t, s in pictures if t > 5_500_000]
    assert set(late) == {Status.LIVE}
    assert lag_us(*pictures[-1]) == pytest.approx(AGE_US + 250_000, abs=2)
    assert largest_step(pictures) < 0.05


def test_lost_batch_is_bridged_and_called_concealed() -> None:
    lost = deliver(b for b in batches(20) if b.first_tick != 60)
    pictures = play(Playout(stream_header()), lost, until_us=3_900_000)
    over_the_gap = [s for _, s in pictures if s.tick is not None and 59 < s.tick < 66]
    assert over_the_gap and {s.status for s in over_the_gap} == {Status.CONCEALED}
    assert {s.status for _, s in pictures if s.tick is not None and 0 <= s.tick <= 59} == {Status.LIVE}
    assert {s.status for _, s in pictures if s.tick is not None and s.tick >= 67} == {Status.LIVE}
    assert largest_step(pictures) < 0.04  # a pop would be .06


def test_outage_holds_then_rests_then_blinks_and_says_so() -> None:
    playout = Playout(stream_header(), blink=BLINK)
    pictures = play(playout, deliver(batches(10)), until_us=20_000_000)
    end_us = 59 * TICK_US + AGE_US
    held = [s for t, s in pictures if end_us < t < end_us + 400_000]
    assert {s.status for t, s in pictures if end_us < t < end_us + 150_000} == {Status.LIVE}  # perhaps late
    assert {s.status for t, s in pictures if end_us + 150_000 < t < end_us + 3_000_000} == {Status.CONCEALED}
    assert all(s.state.expression[0] == 0.5 and s.state.pose[0] == pytest.approx(0.59) for s in held)
    rested = [s for t, s in pictures if t > end_us + 1_300_000]
    assert all(s.state.pose[0] == pytest.approx(0.59) for s in rested)
    expression = np.array([s.state.expression[0] for s in rested])
    assert expression.min() == 0 and expression.max() == pytest.approx(0.25)
    shut = expression > 0.1
    assert np.count_nonzero(np.diff(shut.astype(int)) == 1) in (3, 4)  # blinks in 16 s
    assert next(s.status for t, s in pictures if t > end_us + 3_020_000) is Status.LOST
    assert largest_step([p for p in pictures if p[0] > end_us + 20_000]) < 0.11  # a lid shuts in 80 ms


def test_comes_back_within_one_message_without_a_pop() -> None:
    there = [b for b in batches(60) if not 60 <= b.first_tick < 180]
    pictures = play(Playout(stream_header()), deliver(there), until_us=11_500_000)
    back_us = sent_us(make_batch(180)) - START_US + PATH_US
    states = [(t, s) for t, s in pictures if t > back_us]
    again = next(t for t, s in states if s.status is Status.LIVE)
    assert again - back_us < 100_000
    for t, shown in states:
        if t > again + 200_000:
            assert shown.status is Status.LIVE and shown.tick is not None
            assert shown.state.pose[0] == pytest.approx(float(shown.tick) / 100, abs=1e-5)
    # The pose is 1.2 away and the expression .5: spread over 180 ms, 11 pictures.
    assert largest_step(pictures) < 0.2


def test_untracked_face_rests_and_is_named() -> None:
    def state(tick: int) -> FaceState:
        return ramp(min(tick, 30), tracked=not 30 < tick < 120) if tick < 120 else ramp(tick)

    pictures = play(Playout(stream_header()), deliver(batches(40, state=state)), until_us=7_500_000)
    gone = [s for _, s in pictures if s.tick is not None and 31 <= s.tick < 120]
    assert {s.status for s in gone} == {Status.UNTRACKED}
    assert not any(s.state.tracked for s in gone)
    assert gone[-1].state.expression[0] == 0
    assert gone[-1].state.pose[0] == pytest.approx(0.3)
    assert pictures[-1][1].state.pose[0] == pytest.approx(float(pictures[-1][1].tick or 0) / 100)
    assert largest_step(pictures) < 0.15  # from .3 to 1.2 and back to an open face


def test_reordered_and_repeated_batches_change_nothing() -> None:
    order = random.Random(3)
    sent = batches(40)
    plain = play(Playout(stream_header()), deliver(sent), until_us=7_000_000)
    twice: list[Delivery] = []
    for batch in sent:
        twice.append((sent_us(batch) + PATH_US, batch))
        twice.append((sent_us(batch) + PATH_US + order.randrange(250_000), batch))
    playout = Playout(stream_header())
    doubled = play(playout, sorted(twice, key=lambda d: d[0]), until_us=7_000_000)
    assert [s.checksum() for _, s in doubled] == [s.checksum() for _, s in plain]
    copies = playout.counts.batches - sum(
        arrival <= doubled[-1][0] + START_US for arrival, _ in deliver(sent)
    )
    assert copies > 30
    assert playout.counts.repeated_ticks + playout.counts.late_ticks == 6 * copies


def test_a_batch_that_comes_a_little_late_is_used_as_far_as_it_goes() -> None:
    delayed = deliver(batches(20), delay_us=lambda b: PATH_US + (190_000 if b.first_tick == 60 else 0))
    playout = Playout(stream_header())
    pictures = play(playout, delayed, until_us=3_900_000)
    assert 3 <= playout.counts.late_ticks <= 5
    assert any(s.status is Status.CONCEALED for _, s in pictures)
    assert next(s.status for _, s in pictures if s.tick is not None and s.tick > 66) is Status.LIVE
    assert largest_step(pictures) < 0.03


def test_one_stray_batch_is_left_out() -> None:
    playout = Playout(stream_header())
    deliveries = deliver(batches(20))
    deliveries.insert(10, (deliveries[9][0] + 1000, make_batch(40_000)))
    pictures = play(playout, deliveries, until_us=3_900_000)
    assert playout.counts.outliers == 1
    assert {s.status for _, s in pictures} == {Status.WAITING, Status.LIVE}
    assert lag_us(*pictures[-1]) == pytest.approx(AGE_US, abs=2)


def test_a_new_timeline_is_taken_up_from_its_second_batch() -> None:
    """The sender's machine slept for an hour of ticks."""
    jumped = [Batch(b.first_tick + 108_000, b.states) if b.first_tick >= 60 else b for b in batches(30)]
    arrivals = [(sent_us(b) + PATH_US, j) for b, j in zip(batches(30), jumped, strict=True)]
    playout = Playout(stream_header())
    pictures = play(playout, arrivals, until_us=5_900_000)
    assert playout.counts.new_timelines == 1 and playout.counts.outliers == 1
    tick = pictures[-1][1].tick
    assert tick is not None and tick > 108_000
    assert pictures[-1][1].status is Status.LIVE
    assert largest_step(pictures) < 0.06


def test_a_burst_after_an_outage_does_not_move_the_clock() -> None:
    """Four seconds of batches were queued and come at once; then all is as before."""
    queued = deliver(
        batches(100),
        delay_us=lambda b: (
            PATH_US + max(0, START_US + 8_000_000 - sent_us(b) if 120 <= b.first_tick < 240 else 0)
        ),
    )
    playout = Playout(stream_header())
    pictures = play(playout, queued, until_us=19_500_000)
    assert playout.counts.new_timelines == 0
    assert lag_us(*pictures[-1]) == pytest.approx(AGE_US, abs=2)
    assert {s.status for t, s in pictures if t > 8_700_000} == {Status.LIVE}


def test_time_that_goes_backwards_shows_the_same_picture() -> None:
    playout = Playout(stream_header())
    playout.push(make_batch(0), arrival_us=START_US)
    later = playout.state_at(START_US + 100_000)
    assert playout.state_at(START_US) is later


def test_memory_is_bounded_when_nobody_looks_and_when_the_sender_floods() -> None:
    playout = Playout(stream_header())
    for arrival_us, batch in deliver(batches(500)):
        playout.push(batch, arrival_us=arrival_us)
    assert len(playout._ticks) == len(playout._states) == MAX_TICKS
    assert playout.counts.unshown_ticks == 3000 - MAX_TICKS
    shown = playout.state_at(START_US + 99_900_000)
    assert shown.status is Status.LIVE
    hostile = random.Random(4)
    for n in range(3000):
        playout.push(
            make_batch(hostile.randrange(1 << 62), 16), arrival_us=START_US + hostile.randrange(1 << 40)
        )
        playout.state_at(START_US + n * 1_000_000_000)
    assert len(playout._ticks) == len(playout._states) <= MAX_TICKS


def test_the_same_calls_give_the_same_states_to_the_bit() -> None:
    def run(seed: int) -> list[int]:
        network = random.Random(seed)
        rough = deliver(
            (b for b in batches(100) if network.random() > 0.2),
            delay_us=lambda b: PATH_US + int(network.expovariate(1 / 40_000)),
        )
        playout = Playout(stream_header(), blink=BLINK)
        return [s.checksum() for _, s in play(playout, rough, until_us=25_000_000)]

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_rough_networks_never_pop() -> None:
    """30 % loss and heavy jitter: no coefficient may move faster than a blend or a lid does."""
    for seed in range(6):
        network = random.Random(seed)
        rough = deliver(
            (b for b in batches(150) if network.random() > 0.3),
            delay_us=lambda b, network=network: PATH_US + int(network.expovariate(1 / 60_000)),  # type: ignore[misc]
        )
        pictures = play(Playout(stream_header()), rough, until_us=31_000_000)
        assert largest_step(pictures) < 0.08
        assert len({s.status for _, s in pictures}) >= 3


def test_checksum_tells_states_apart() -> None:
    shown = Shown(ramp(1), Status.LIVE, Fraction(1))
    assert shown.checksum() == Shown(ramp(1), Status.LIVE, None).checksum()
    others = [
        Shown(ramp(2), Status.LIVE, Fraction(1)),
        Shown(ramp(1), Status.LOST, Fraction(1)),
        Shown(ramp(1, tracked=False), Status.LIVE, Fraction(1)),
    ]
    assert shown.checksum() not in [o.checksum() for o in others]


def test_settings_vector_and_refusals() -> None:
    data = bytes.fromhex(
        "02 00003a98 00989680 00004e20 0000ea60 00124f80 00061a80 000dbba0 0002bf20 002dc6c0"
        "0016e360 002625a0 000249f0"
    )
    assert PlayoutSettings().serialize() == data
    assert PlayoutSettings.parse(data) == PlayoutSettings()
    for size in range(len(data)):
        with pytest.raises(WireError, match="expected 49"):
            PlayoutSettings.parse(data[:size])
    with pytest.raises(WireError, match="version 3"):
        PlayoutSettings.parse(b"\x03" + data[1:])
    with pytest.raises(WireError, match="margin_us is 4294967295"):
        PlayoutSettings.parse(data[:1] + b"\xff" * 4 + data[5:])


def test_settings_of_version_1_are_read() -> None:
    data = bytes.fromhex(
        "01 00009c40 00989680 00004e20 0000ea60 00086470 00061a80 000dbba0 0002bf20 002dc6c0"
    )
    assert PlayoutSettings.parse(data) == PlayoutSettings(margin_us=40_000, bridge_us=550_000)
    with pytest.raises(WireError, match="expected 37"):
        PlayoutSettings.parse(data + bytes(12))


def test_settings_of_zero_are_survived() -> None:
    settings = PlayoutSettings(*[0] * 12)
    pictures = play(Playout(stream_header(), settings), deliver(batches(5)), until_us=3_000_000)
    assert all(np.isfinite(s.state.coefficients()).all() for _, s in pictures)


def test_conceal_is_continuous_in_age() -> None:
    ages = range(0, 60_000_000, 10_000)
    values = [conceal(ramp(5), a, hold_us=400_000, ease_us=900_000, blink=BLINK).expression[0] for a in ages]
    assert np.abs(np.diff(values)).max() < 0.06
    assert blink_closure(-1) == 0
    shut = np.array([blink_closure(a) for a in range(0, 60_000_000, 10_000)])
    assert np.count_nonzero(np.diff((shut > 0.5).astype(int)) == 1) == 12
