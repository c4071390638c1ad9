"""Faces on a time line: what a sender says when, over which network, and what a playout makes of it."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Final

import numpy as np

from mien.bench.impairment import Link, Profile
from mien.decoder.playout import Playout, Shown, Status
from mien.protocol.codec import Batch
from mien.protocol.repeats import REPEAT_STRIDE, Repeats
from mien.protocol.state import FaceState

TICK_US: Final = Fraction(1_000_000, 30)
START_US: Final = 5_000_000_000  # the receiver's clock when the sender's tick 0 happens
STEP_US: Final = 16_667  # from picture to picture
MESSAGE_BYTES: Final = 130

Sent = tuple[int, Batch]  # when it leaves, from tick 0 on
Pictures = list[tuple[int, Shown]]


def nodding(tick: int) -> FaceState:
    """A face that nods and talks: the first pose number swings once in two seconds, the expression in one."""
    pose, expression = np.zeros(6, np.float32), np.zeros(30, np.float32)
    pose[0] = 0.2 * np.sin(np.pi * tick / 30)
    expression[0] = 0.5 + 0.4 * np.sin(2 * np.pi * tick / 30)
    return FaceState(pose, expression)


def carried(
    cadences_us: Iterable[tuple[int, int]],
    *,
    repeats: Repeats | None = None,
    state: Callable[[int], FaceState] = nodding,
    phase_us: int = 7_000,
) -> list[Sent]:
    """Messages that take the frames since the last one, one after each cadence. `cadences_us`: until when, which."""
    sent: list[Sent] = []
    now_us, first = phase_us, 0
    for until_us, cadence_us in cadences_us:
        while now_us + cadence_us < until_us:
            now_us += cadence_us
            after = int(now_us / TICK_US) + 1  # frames so far
            if after == first:
                continue
            old = [first + o for o in repeats.offsets] if repeats else []
            history = tuple((tick, state(tick)) for tick in old if tick >= 0)
            new = tuple(state(t) for t in range(first, after))
            sent.append(
                (now_us, Batch(first, new, history, stride=repeats.stride if repeats else REPEAT_STRIDE))
            )
            first = after
    return sent


def batched(
    seconds: float,
    *,
    frames: int = 6,
    repeats: Repeats | None = None,
    state: Callable[[int], FaceState] = nodding,
) -> list[Sent]:
    """Messages that leave when they hold so many frames."""
    sent = []
    for first in range(0, int(seconds * 30) - frames + 1, frames):
        old = [first + o for o in repeats.offsets] if repeats else []
        history = tuple((tick, state(tick)) for tick in old if tick >= 0)
        states = tuple(state(t) for t in range(first, first + frames))
        stride = repeats.stride if repeats else REPEAT_STRIDE
        sent.append((int((first + frames - 1) * TICK_US), Batch(first, states, history, stride=stride)))
    return sent


def over(sent: Sequence[Sent], profile: Profile, *, seed: int = 1) -> list[Sent]:
    """Return when which messages arrive, from tick 0 on."""
    link = Link(profile, seed=seed)
    arrivals = [(at, batch) for left, batch in sent for at in link.send(left, MESSAGE_BYTES)]
    return sorted(arrivals, key=lambda a: a[0])


def show(playout: Playout, arrivals: Sequence[Sent], *, until_us: int, step_us: int = STEP_US) -> Pictures:
    """Draw every `step_us`; times are from tick 0 on."""
    pictures: Pictures = []
    waiting = list(arrivals)
    for now_us in range(0, until_us, step_us):
        while waiting and waiting[0][0] <= now_us:
            at, batch = waiting.pop(0)
            playout.push(batch, arrival_us=START_US + at)
        pictures.append((now_us, playout.state_at(START_US + now_us)))
    return pictures


def age_us(picture: tuple[int, Shown]) -> float:
    """How old the shown moment is."""
    now_us, shown = picture
    assert shown.tick is not None
    return float(now_us - shown.tick * TICK_US)


def made_up(pictures: Pictures) -> float:
    """The share of pictures that are."""
    return sum(s.status in (Status.CONCEALED, Status.LOST) for _, s in pictures) / len(pictures)


def largest_step(pictures: Pictures) -> float:
    """The largest change of any coefficient from one picture to the next."""
    values = np.array([s.state.coefficients() for _, s in pictures if s.status is not Status.WAITING])
    return float(np.abs(np.diff(values, axis=0)).max())


def largest_error(pictures: Pictures, state: Callable[[int], FaceState] = nodding) -> float:
    """How far any coefficient is from what the sender's face did at the shown moment, at most."""
    worst = 0.0
    for _, shown in pictures:
        assert shown.tick is not None
        tick = int(shown.tick)
        one, other = state(tick).coefficients(), state(tick + 1).coefficients()
        truth = one + (other - one) * np.float32(shown.tick - tick)
        worst = max(worst, float(np.abs(shown.state.coefficients() - truth).max()))
    return worst
