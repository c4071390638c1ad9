"""How long the playout waits: for carriers of any cadence, for repeats, in jitter and loss; computed, not timed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.bench.impairment import GilbertElliott, Profile, RandomLoss
from mien.decoder.heard_ticks import REMEMBERED, HeardTicks
from mien.decoder.playout import Playout, PlayoutSettings, Status
from mien.protocol.repeats import Repeats
from tests.playout_samples import (
    Pictures,
    Sent,
    age_us,
    batched,
    carried,
    largest_step,
    made_up,
    over,
    show,
)
from tests.stream_samples import stream_header

CALM = Profile()
WITH_VOICE = PlayoutSettings(most_delay_us=450_000)
OWN_STEP = 0.042  # of the sample face, from picture to picture


def ages_ms(pictures: Pictures, *, from_us: int = 2_000_000) -> list[float]:
    return [age_us(p) / 1000 for p in pictures if p[0] > from_us]


def run(
    sent: list[Sent],
    profile: Profile,
    *,
    seconds: float = 20,
    settings: PlayoutSettings = WITH_VOICE,
    seed: int = 1,
) -> Pictures:
    """Play all but the last second, and leave the first two out."""
    playout = Playout(stream_header(), settings)
    pictures = show(playout, over(sent, profile, seed=seed), until_us=round((seconds - 1) * 1e6))
    return [p for p in pictures if p[0] > 2_000_000]


def test_messages_of_six_frames_are_shown_after_230_ms() -> None:
    pictures = run(batched(20), CALM)
    assert max(ages_ms(pictures)) < 230
    assert made_up(pictures) == 0


@pytest.mark.parametrize(("cadence_us", "most_ms"), [(60_000, 116), (80_000, 130)])
@pytest.mark.parametrize("phase_us", [0, 7_000, 21_000])
def test_messages_in_voice_packets_are_shown_soon(cadence_us: int, most_ms: float, phase_us: int) -> None:
    pictures = run(carried([(20_000_000, cadence_us)], phase_us=phase_us), CALM)
    settled = ages_ms(
        pictures, from_us=15_000_000
    )  # the first message holds more: the playout remembers that
    assert max(settled) <= most_ms
    assert made_up(pictures) == 0
    assert largest_step(pictures) < 1.3 * OWN_STEP


def test_three_copies_in_voice_packets_survive_a_fifth_lost() -> None:
    sent = carried([(30_000_000, 60_000)], repeats=Repeats(2))
    shares, ages = [], []
    for seed in range(4):
        pictures = run(sent, Profile(loss=RandomLoss(0.2)), seconds=30, seed=seed)
        shares.append(made_up(pictures))
        ages += ages_ms(pictures)
    assert np.mean(shares) < 0.02
    assert np.median(ages) <= 250


def test_repeats_in_larger_messages_survive_a_fifth_lost() -> None:
    shares, ages = [], []
    for seed in range(4):
        pictures = run(batched(30, repeats=Repeats(3)), Profile(loss=RandomLoss(0.2)), seconds=30, seed=seed)
        shares.append(made_up(pictures))
        ages += ages_ms(pictures)
        assert largest_step(pictures) < 3 * OWN_STEP
    assert np.mean(shares) < 0.05
    assert np.median(ages) <= 420
    without = run(batched(30), Profile(loss=RandomLoss(0.2)), seconds=30)
    assert made_up(without) > 0.12


def test_lone_repeats_of_messages_in_a_row_bring_back_what_was_lost() -> None:
    sent = batched(20, frames=3, repeats=Repeats(1, stride=3, lag=1))
    left = [m for n, m in enumerate(sent) if n % 10 not in (5, 6)]
    pictures = run(left, CALM)
    assert made_up(pictures) == 0
    assert largest_step(pictures) < 1.2 * OWN_STEP
    assert 380 < max(ages_ms(pictures)) < 440


def test_repeats_that_lag_are_waited_for_only_where_there_is_time() -> None:
    sent, bursts = batched(40, repeats=Repeats(3, lag=5)), Profile(loss=GilbertElliott.bursts(0.2, 5))
    alone = run(sent, bursts, seconds=40, settings=PlayoutSettings())
    with_voice = run(sent, bursts, seconds=40)
    assert np.median(ages_ms(alone)) > 1_200
    assert np.median(ages_ms(with_voice)) < 240
    assert made_up(alone) < 0.7 * made_up(with_voice)


def test_no_change_of_cadence_is_seen() -> None:
    """Speech, a pause, silence, speech again, twice: what is slower is waited for at once, and remembered a while."""
    turns = [(60_000, 6), (80_000, 2), (200_000, 4), (60_000, 3), (80_000, 2), (200_000, 3), (60_000, 30)]
    until_us, cadences = 0, []
    for cadence_us, seconds in turns:
        until_us += seconds * 1_000_000
        cadences.append((until_us, cadence_us))
    pictures = run(carried(cadences), Profile(delay_us=20_000, jitter_us=8_000), seconds=50)
    assert made_up(pictures) == 0
    assert largest_step(pictures) < 1.6 * OWN_STEP
    ages = {n: np.median(ages_ms([p for p in pictures if p[0] // 1_000_000 == n])) for n in range(3, 49)}
    assert ages[7] < 160  # speech
    assert 235 < ages[11]  # silence
    assert ages[14] > 235  # speech again, and silence may come again
    assert ages[48] < 150


@pytest.mark.parametrize(
    ("lost", "status"), [(frozenset[int](), Status.LIVE), (frozenset({3}), Status.CONCEALED)]
)
def test_what_does_not_come_is_late_unless_something_was_lost_lately(
    lost: frozenset[int], status: Status
) -> None:
    sent = [s for number, s in enumerate(batched(1.6)) if number not in lost]
    pictures = show(Playout(stream_header()), sent, until_us=3_000_000)
    end_us = sent[-1][0] + 215_000
    assert {s.status for t, s in pictures if end_us < t < end_us + 130_000} == {status}
    assert {s.status for t, s in pictures if end_us + 160_000 < t} == {Status.CONCEALED}


def test_a_message_that_holds_more_than_may_be_waited_is_waited_for() -> None:
    pictures = run(batched(30, frames=16), CALM, seconds=30, settings=PlayoutSettings(most_delay_us=100_000))
    assert made_up(pictures) == 0
    assert max(ages_ms(pictures)) < 16 * 34 + 16


@given(st.lists(st.tuples(st.booleans(), st.integers(-200, 200)), max_size=60))
def test_heard_ticks_are_a_set_of_the_newest(steps: list[tuple[bool, int]]) -> None:
    heard, model, newest = HeardTicks(), set[int](), 1000
    for fill, ahead in steps:
        tick = newest + ahead
        if fill and model:
            heard.add_up_to(tick)
            model |= set(range(newest + 1, tick + 1))
        elif not fill:
            heard.add(tick)
            model.add(tick)
        newest = max(model, default=newest)
        model = {t for t in model if t > newest - REMEMBERED}
        for asked in (newest - REMEMBERED - 1, newest - REMEMBERED + 1, newest - 7, newest, newest + 3, tick):
            assert (asked in heard) == (asked in model)
            assert heard.before(asked) == max((t for t in model if t < asked), default=None)
        assert heard.whole == (not model or len(model) == newest - min(model) + 1)
