"""Two seconds without a network: what is shown meanwhile, how the picture finds back, and what the clock makes of it."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.bench.impairment import Link, Profile
from mien.decoder.playout import Playout, PlayoutSettings, Status
from mien.protocol.repeats import Repeats
from tests.playout_samples import (
    MESSAGE_BYTES,
    TICK_US,
    Pictures,
    Sent,
    age_us,
    batched,
    carried,
    largest_error,
    largest_step,
    made_up,
    over,
    show,
)
from tests.stream_samples import stream_header

BLINK = np.zeros(30, np.float32)
BLINK[7] = 1.0  # a number that the sample face does not use
FROM_US, TO_US = 8_000_000, 10_000_000
END_US = 20_000_000
BLEND_US = 180_000

CARRIERS: dict[str, Callable[[], list[Sent]]] = {
    "data": lambda: batched(20),
    "data, repeated": lambda: batched(20, repeats=Repeats(3)),
    "data, repeated late": lambda: batched(20, repeats=Repeats(3, lag=2)),
    "voice 60": lambda: carried([(END_US, 60_000)]),
    "voice 80, three copies": lambda: carried([(END_US, 80_000)], repeats=Repeats(2)),
}


def cut(sent: list[Sent], seed: int) -> list[Sent]:
    """The link is gone, and so is what was sent meanwhile."""
    profile = Profile(delay_us=30_000, jitter_us=10_000, outages=((FROM_US, TO_US),))
    return over([(0, sent[0][1]), *sent[1:]], profile, seed=seed)


def held_back(sent: list[Sent], seed: int) -> list[Sent]:
    """What was sent meanwhile comes at once at the end, in its order."""
    arrivals = over(sent, Profile(delay_us=30_000, jitter_us=10_000), seed=seed)
    return [(max(at, TO_US) if at > FROM_US else at, batch) for at, batch in arrivals]


def drained(sent: list[Sent], seed: int) -> list[Sent]:
    """A queue was full, and empties at 40 kbps, while new messages join its end."""
    link = Link(Profile(delay_us=30_000, rate_kbps=40), seed=seed)
    waiting = [(TO_US if FROM_US <= left < TO_US else left, batch) for left, batch in sent]
    return [(at, batch) for left, batch in waiting for at in link.send(left, MESSAGE_BYTES)]


def disordered(sent: list[Sent], seed: int) -> list[Sent]:
    """The same at once and in any order."""
    arrivals = held_back(sent, seed)
    order: NDArray[np.float64] = np.random.default_rng(seed).random(len(arrivals))
    late = [(at + int(order[n] * 50_000) if at == TO_US else at, b) for n, (at, b) in enumerate(arrivals)]
    return sorted(late, key=lambda s: s[0])


OUTAGES = {"cut": cut, "held back": held_back, "drained": drained, "disordered": disordered}


def pictures_over(carrier: str, outage: str, seed: int, most_delay_us: int) -> tuple[Pictures, list[Sent]]:
    playout = Playout(stream_header(), PlayoutSettings(most_delay_us=most_delay_us), blink=BLINK)
    arrivals = OUTAGES[outage](CARRIERS[carrier](), seed)
    pictures = [p for p in show(playout, arrivals, until_us=END_US - 1_000_000) if p[0] > 1_000_000]
    assert playout.counts.new_timelines == 0
    return pictures, arrivals


def in_time(arrivals: list[Sent], wait_us: float) -> int:
    """When the first message after the outage arrives whose frames can still be shown."""
    return next(at for at, b in arrivals if at >= TO_US and at - (b.first_tick - 1) * TICK_US <= wait_us)


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("most_delay_us", [450_000, 1_500_000])
def test_an_outage(carrier: str, outage: str, most_delay_us: int) -> None:
    for seed in range(2):
        pictures, arrivals = pictures_over(carrier, outage, seed, most_delay_us)
        before = [p for p in pictures if p[0] < FROM_US]
        meanwhile = [p for p in pictures if FROM_US + 1_300_000 < p[0] < TO_US]
        wait_us = max(age_us(p) for p in before)
        back_us = max(t for t, s in pictures if s.status is not Status.LIVE)
        after = [p for p in pictures if p[0] > back_us + BLEND_US + 180_000]

        assert made_up(before) < 0.01
        assert {s.status for _, s in meanwhile} == {Status.CONCEALED}
        assert back_us < in_time(arrivals, wait_us) + (300_000 if carrier.endswith("late") else 80_000)
        assert largest_error(after) < 0.01
        assert np.median([age_us(p) for p in after if p[0] > 13_000_000]) < wait_us + 40_000
        assert largest_step(pictures) < 0.13  # its own motion makes .042; a blend over 1.0 makes .14


def test_an_outage_is_no_frozen_picture() -> None:
    """The face comes to rest, and blinks."""
    arrivals = [s for s in over(batched(20), Profile(delay_us=30_000)) if s[0] < FROM_US]
    pictures = show(Playout(stream_header(), blink=BLINK), arrivals, until_us=END_US)
    gone = [(t, s) for t, s in pictures if t > FROM_US + 300_000]
    expression = np.array([s.state.expression for _, s in gone])
    assert abs(expression[0, 0]) > 0.05
    assert not expression[-1, 0]
    blinks = np.count_nonzero(np.diff((expression[:, 7] > 0.5).astype(int)) == 1)
    assert blinks in (2, 3)
    assert gone[-1][1].status is Status.LOST
    lids = np.abs(np.diff(expression[:, 7])).max()
    assert lids < 0.35  # they shut in 80 ms
    assert largest_step([p for p in pictures if p[1].status is Status.CONCEALED]) < 0.35


def test_outages_again_and_again_do_not_poison_the_clock() -> None:
    def choked(left_us: int) -> int:
        second = left_us // 1_000_000
        return (second // 5 * 5 + 1) * 1_000_000 if second % 5 == 0 else left_us

    sent = [(choked(left), batch) for left, batch in carried([(40_000_000, 60_000)])]
    playout = Playout(stream_header(), PlayoutSettings(most_delay_us=450_000))
    pictures = show(playout, over(sent, Profile(delay_us=30_000)), until_us=39_000_000)
    calm = [age_us(p) for p in pictures if p[0] > 3_000_000 and p[0] // 1_000_000 % 5 == 4]
    assert np.median(calm) < 200_000
    assert {s.status for t, s in pictures if t > 3_000_000 and t // 1_000_000 % 5 == 4} == {Status.LIVE}
