"""What a guided enrolment asks for next: a state machine that is told the time and what the face shows.

First the face at rest, then everything else in an order that nobody can foresee. An item is answered once it was held
for a moment; one that is not answered in time is put back once, then given up. What was shown unasked is not asked for
again, but for the challenges: these are always asked, and how they are answered tells a living person from a photo or
a clip that is played to the camera, which shows what it shows and not what was asked for.
"""

import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mien.encoder.enrolment_coverage import Item

CHALLENGES: Final = (Item.TURN_LEFT, Item.TURN_RIGHT, Item.MOUTH_OPEN, Item.EYES_CLOSED)
MIN_ANSWERED: Final = 3  # of the challenges: somebody may wear dark glasses, or have a stiff neck
MAX_STRAYS: Final = 1  # left and right are mistaken by the best of us

HOLD_US: Final = 300_000  # longer than a blink
HOLD_REST_US: Final = 1_200_000
GAP_US: Final = 150_000  # a tracker may miss four frames
REACTION_US: Final = 200_000  # nobody reads and moves faster: what was there before is no answer
GRACE_US: Final = 1_000_000  # time to leave what was asked for before
PATIENCE_US: Final = 6_000_000
TRIES: Final = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request. `strays`: how many other challenges were shown instead of it, or before it."""

    item: Item
    asked_us: int
    ended_us: int
    answered: bool
    strays: int


@dataclass(frozen=True, slots=True)
class _Run:
    """Since when an item is shown without a gap, and when it was seen last."""

    since_us: int
    last_us: int


def random_order(chance: random.Random | None = None) -> tuple[Item, ...]:
    """Return all items, rest first, the others in an order from the system's randomness (or from `chance`)."""
    others = [item for item in Item if item is not Item.REST]
    (chance or random.SystemRandom()).shuffle(others)
    return Item.REST, *others


class Script:
    """Asks for `order`, one item at a time, for at most `limit_us` from the first observation on."""

    def __init__(self, order: Iterable[Item], *, limit_us: int) -> None:
        self._waiting: deque[Item] = deque(order)
        if not self._waiting or limit_us <= 0:
            raise ValueError(f"{len(self._waiting)} items in {limit_us} us: expected some of both")
        self._limit_us = limit_us
        self._start_us: int | None = None
        self._now_us = 0
        self._asked: Item | None = None
        self._asked_us = 0
        self._runs: dict[Item, _Run] = {}
        self._strays: set[Item] = set()
        self._tries: dict[Item, int] = {}
        self._held: set[Item] = set()
        self._answers: list[Answer] = []

    @property
    def asked(self) -> Item | None:
        """What is asked for now; None before the first observation and after the end."""
        return self._asked

    @property
    def done(self) -> bool:
        """Whether nothing is left to ask, or the time is over."""
        return self._start_us is not None and self._asked is None

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Every request so far that has ended."""
        return tuple(self._answers)

    @property
    def held(self) -> frozenset[Item]:
        """What was shown long enough, asked or not."""
        return frozenset(self._held)

    @property
    def shown_too_early(self) -> bool:
        """Whether what is asked for was there before the request: it must go and come again to be an answer."""
        run = None if self._asked is None else self._runs.get(self._asked)
        if run is None or self._asked not in CHALLENGES or self._now_us - run.last_us > GAP_US:
            return False
        return run.since_us < self._asked_us + REACTION_US

    @property
    def remaining_us(self) -> int:
        """How much time is left."""
        return self._limit_us - (self._now_us - (self._start_us or 0))

    def observe(self, now_us: int, shown: Mapping[Item, float] | None) -> Answer | None:
        """Take what a frame shows, amounts by item, None without a face. Return the answer that it completes, if any.

        `now_us` must not go backwards; after the end nothing happens.
        """
        if self._start_us is None:
            self._start_us = self._now_us = now_us
            self._ask_next()
        if self._asked is None:
            return None
        if now_us < self._now_us:
            raise ValueError(f"time went back from {self._now_us} to {now_us} us")
        self._now_us = now_us
        for item in self._follow(shown or {}):
            self._held.add(item)
            if item is not self._asked:
                self._note_stray(item)
        return self._judge()

    def _follow(self, shown: Mapping[Item, float]) -> list[Item]:
        """Return the items that have been shown for long enough by now."""
        long: list[Item] = []
        for item, amount in shown.items():
            if amount < 1:
                continue
            run = self._runs.get(item)
            begin_us = self._now_us if run is None or self._now_us - run.last_us > GAP_US else run.since_us
            self._runs[item] = _Run(begin_us, self._now_us)
            if self._now_us - begin_us >= (HOLD_REST_US if item is Item.REST else HOLD_US):
                long.append(item)
        return long

    def _note_stray(self, item: Item) -> None:
        late = self._runs[item].since_us - self._asked_us >= GRACE_US
        if item in CHALLENGES and self._asked is not Item.REST and late:
            self._strays.add(item)

    def _judge(self) -> Answer | None:
        assert self._asked is not None
        out_of_time = self._now_us - self._asked_us >= PATIENCE_US
        if self._answered(self._asked):
            return self._end(answered=True)
        if out_of_time or self.remaining_us <= 0:
            return self._end(answered=False)
        return None

    def _answered(self, item: Item) -> bool:
        run = self._runs.get(item)
        if item not in self._held or run is None:
            return False
        if item not in CHALLENGES:
            return True
        return run.since_us >= self._asked_us + REACTION_US and run.last_us - run.since_us >= HOLD_US

    def _end(self, *, answered: bool) -> Answer:
        assert self._asked is not None
        answer = Answer(self._asked, self._asked_us, self._now_us, answered, len(self._strays))
        self._answers.append(answer)
        self._tries[answer.item] = self._tries.get(answer.item, 0) + 1
        if not answered and self._tries[answer.item] < TRIES:
            self._waiting.append(answer.item)
        self._ask_next()
        return answer

    def _ask_next(self) -> None:
        self._asked, self._asked_us = None, self._now_us
        self._strays.clear()
        while self._waiting and self.remaining_us > 0:
            item = self._waiting.popleft()
            if item in CHALLENGES or item not in self._held:
                self._asked = item
                return


def followed(answers: Iterable[Answer]) -> bool:
    """Return whether the answers are a living person's: the challenges met when asked for, nothing else instead."""
    requests = list(answers)
    met = {answer.item for answer in requests if answer.answered and answer.item in CHALLENGES}
    return len(met) >= MIN_ANSWERED and sum(answer.strays for answer in requests) <= MAX_STRAYS
