"""A face at rest: one word a second, and what the playout makes of it."""

import numpy as np
import pytest

from mien.bench.impairment import Profile
from mien.decoder.playout import Playout, Status
from mien.protocol.codec import Batch
from mien.protocol.state import FaceState
from tests.playout_samples import (
    TICK_US,
    Pictures,
    Sent,
    age_us,
    batched,
    largest_step,
    made_up,
    nodding,
    over,
    show,
)
from tests.stream_samples import stream_header

STILL_FROM, STILL_TO = 90, 240  # ticks
PATH = Profile(delay_us=30_000, jitter_us=5_000)


def pausing(tick: int) -> FaceState:
    """A face that nods, rests for five seconds, and goes on from where it was."""
    return nodding(min(tick, STILL_FROM - 1) if tick < STILL_TO else tick - (STILL_TO - STILL_FROM))


def with_rest(*, keep_alives: bool = True, tracked: bool = True) -> list[Sent]:
    """Batches of six; at rest one message at once, and one a second."""
    sent = [s for s in batched(16, state=pausing) if not STILL_FROM <= s[1].first_tick < STILL_TO]
    state = pausing(STILL_FROM)
    rest = FaceState(state.pose, state.expression, tracked)
    ticks = [STILL_FROM, STILL_FROM + 6, *(range(STILL_FROM + 36, STILL_TO, 30) if keep_alives else ())]
    sent += [(int((tick + 5) * TICK_US), Batch(tick, (rest,), still=True)) for tick in ticks]
    return sorted(sent, key=lambda s: s[0])


def play(sent: list[Sent], *, seed: int = 1) -> Pictures:
    pictures = show(Playout(stream_header()), over(sent, PATH, seed=seed), until_us=15_000_000)
    return [p for p in pictures if p[0] > 1_000_000]


@pytest.mark.parametrize("seed", range(5))
def test_a_face_at_rest_is_live_and_moves_again_without_a_pop(seed: int) -> None:
    pictures = play(with_rest(), seed=seed)
    assert made_up(pictures) == 0
    assert {s.status for _, s in pictures} == {Status.LIVE}
    assert largest_step(pictures) < 0.06
    for _, shown in pictures:
        if shown.tick is not None and STILL_FROM < shown.tick < STILL_TO - 1:
            assert (shown.state.coefficients() == pausing(STILL_FROM).coefficients()).all()
    moving = [(t, s) for t, s in pictures if s.tick is not None and s.tick > STILL_TO + 12]
    for _, shown in moving:
        before = pausing(int(shown.tick or 0)).coefficients()
        assert np.abs(shown.state.coefficients() - before).max() < 0.12  # of its own speed
    assert age_us(moving[-1]) < 290_000


def test_motion_is_not_spread_over_the_rest() -> None:
    """The first tick after the rest is far away, because the first messages about it got lost."""
    lost = [s for s in with_rest() if not STILL_TO <= s[1].first_tick < STILL_TO + 12]
    pictures = play(lost)
    waited = [s for _, s in pictures if s.tick is not None and STILL_FROM < s.tick < STILL_TO + 12 - 6]
    assert all((s.state.coefficients() == pausing(STILL_FROM).coefficients()).all() for s in waited)
    assert largest_step(pictures) < 0.1  # the way is .4: a pop would be most of it
    assert pictures[-1][1].status is Status.LIVE


def test_one_lost_keep_alive_is_survived_and_no_more() -> None:
    one = [s for s in with_rest() if s[1].first_tick != STILL_FROM + 66]
    assert made_up(play(one)) == 0
    pictures = play([s for s in with_rest(keep_alives=False) if s[1].first_tick < STILL_TO])
    told_us = int((STILL_FROM + 6) * TICK_US)
    live = [t for t, s in pictures if s.status is Status.LIVE]
    assert 2_500_000 < max(live) - told_us < 2_500_000 + 300_000
    lost = next(t for t, s in pictures if s.status is Status.LOST)
    assert 3_000_000 < lost - told_us < 3_300_000
    rested = [s for t, s in pictures if t > told_us + 5_000_000]
    assert all(abs(s.state.expression[0]) < 0.01 for s in rested[:30])  # it has eased to neutral


def test_a_message_about_rest_that_comes_late_is_believed() -> None:
    late = [
        (at + (400_000 if batch.still and batch.first_tick < STILL_FROM + 7 else 0), batch)
        for at, batch in with_rest()
    ]
    pictures = play(sorted(late, key=lambda s: s[0]))
    made = [t for t, s in pictures if s.status is Status.CONCEALED]
    assert made and max(made) - min(made) < 400_000
    assert largest_step(pictures) < 0.06


def test_a_face_that_is_away_is_away_at_rest_too() -> None:
    pictures = play(with_rest(tracked=False))
    away = [s for _, s in pictures if s.tick is not None and STILL_FROM < s.tick < STILL_TO - 1]
    assert {s.status for s in away} == {Status.UNTRACKED}
    assert largest_step(pictures) < 0.12
