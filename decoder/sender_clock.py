"""Which moment of the sender's ticks to show now: a mapping learned from when batches arrive.

Tick n stands for the media time n / tick_rate; the picture shows media time m at m + offset. To move on from
tick n - 1 the picture needs tick n, so a batch whose oldest wanted tick is n and that arrives at a needs

    offset >= a - media time of (n - 1) = delay + reach

where the delay, a - media time of its last tick, is the network's doing (the two clocks share no zero: only
differences of it mean something), and the reach, from its last tick back to n - 1, is how the message is made: its
new frames, and what it repeats. The offset goes to the largest need of the last seconds and a small margin. A
batch whose delay stands alone among many does not count, and what a queue lets go, each message sooner after the
one before than it was sent, is one event with one delay. A reach counts at once, because no chance makes it.

Up the offset goes at once, down slowly while the face moves. Integers throughout: a replay that feeds the same
arrivals and render times gets the same positions to the bit.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction
from typing import Final

MAX_ARRIVALS: Final = 192
SECOND_US: Final = 1_000_000
# A batch this far from the others is of another timeline: the sender was suspended, or lies.
OUTLIER_US: Final = 2_000_000
SHARE_OF_STRAYS: Final = 25  # one event in so many may be late alone
FEW_EVENTS: Final = 8  # from so many on the first of them
AGREEING_BATCHES: Final = 4  # so many in a second say how long the path is now
TOGETHER_US: Final = 100_000  # what comes within so much is one event
DRAIN_DIVISOR: Final = 3  # so is what is less late by a third of the time that has passed since,
DRAINED_US: Final = 40_000  # until one is hardly late any more
HURRY_FACTOR: Final = 5  # so much faster the offset goes down while it is far too large


class Arrival(Enum):
    """What a batch's arrival means for the ticks that are buffered."""

    IN_TIME = auto()
    OUTLIER = auto()  # does not belong to the timeline: leave its ticks out
    NEW_TIMELINE = auto()  # several outliers agree: forget what was buffered


@dataclass(frozen=True, slots=True)
class ClockSettings:
    """What a playout wants of its clock, in microseconds but for `slew_ppm`; see `PlayoutSettings`."""

    margin_us: int
    window_us: int
    slew_ppm: int
    jump_us: int
    most_delay_us: int


@dataclass(frozen=True, slots=True)
class _Sample:
    arrival_us: int
    delay_us: int
    reach_us: int


@dataclass(slots=True)
class _Event:
    """What came together, or out of one queue."""

    arrival_us: int
    delay_us: int  # the longest
    drained: bool = False

    def takes_in(self, sample: _Sample, shortest_us: int) -> bool:
        """Whether a sample belongs to it, which it then remembers. `shortest_us`: the delay without queues."""
        passed_us = sample.arrival_us - self.arrival_us
        if passed_us <= TOGETHER_US:
            self.delay_us = max(self.delay_us, sample.delay_us)
            return True
        self.drained = self.drained or sample.delay_us <= shortest_us + DRAINED_US
        return not self.drained and sample.delay_us <= self.delay_us - passed_us // DRAIN_DIVISOR


class SenderClock:
    """Maps render times to positions on the sender's ticks."""

    def __init__(self, tick_rate: Fraction, settings: ClockSettings) -> None:
        self._tick_rate = tick_rate
        self._settings = settings
        self._samples: deque[_Sample] = deque(maxlen=MAX_ARRIVALS)
        self._outliers: list[_Sample] = []
        self._events: deque[_Event] = deque(maxlen=MAX_ARRIVALS)
        self._floor_us: int | None = None
        self._target_us = 0
        self._offset_us: int | None = None  # media time m is shown at m + offset

    @property
    def started(self) -> bool:
        """Whether a batch has set the mapping."""
        return self._offset_us is not None

    @property
    def offset_us(self) -> int:
        """What is added to a media time to get the time when it is shown. Only once started."""
        assert self._offset_us is not None, "offset before the first batch"
        return self._offset_us

    def media_us(self, tick: int) -> int:
        """Return the media time of a tick, rounded down."""
        return tick * SECOND_US * self._tick_rate.denominator // self._tick_rate.numerator

    def wait_at_least(self, floor_us: int | None) -> None:
        """Let the offset be at least this, as far as `most_delay_us` allows."""
        self._floor_us = floor_us
        if self.started:
            self._aim()

    def on_batch(self, last_tick: int, reaches: Sequence[int], arrival_us: int) -> Arrival:
        """Learn from a batch that ends with `last_tick`.

        `reaches`: from `last_tick` back to what must have been shown before, in ticks. The first is that of the
        new frames; the others, of repeats, count as far as `most_delay_us` goes.
        """
        delay_us = arrival_us - self.media_us(last_tick)
        sample = _Sample(arrival_us, delay_us, self._reach_us(reaches))
        if self._samples and abs(delay_us - self._shortest_us) > OUTLIER_US:
            return self._on_outlier(sample)
        self._outliers.clear()
        self._learn(sample)
        return Arrival.IN_TIME

    def advance(self, elapsed_us: int, *, moving: bool) -> bool:
        """Let the offset go down to its target; return whether it made a jump to be smoothed.

        `moving`: the face is shown in motion, so that it must go slowly.
        """
        excess_us = self.offset_us - self._target_us
        if excess_us <= 0:
            return False
        step_us = excess_us
        if moving:
            slew_ppm = self._settings.slew_ppm * (HURRY_FACTOR if excess_us > self._settings.jump_us else 1)
            step_us = min(excess_us, elapsed_us * slew_ppm // SECOND_US)
        self._offset_us = self.offset_us - step_us
        return not moving

    def position(self, render_us: int) -> Fraction:
        """Return the position at a render time, in ticks. Only once started."""
        return (render_us - self.offset_us) * self._tick_rate / SECOND_US

    @property
    def _shortest_us(self) -> int:
        return min(s.delay_us for s in self._samples)

    @property
    def _path_us(self) -> int:
        """The path without queues, as far as is known: where it has become longer, that of the last second."""
        since_us = self._samples[-1].arrival_us - SECOND_US
        recent = [s.delay_us for s in self._samples if s.arrival_us >= since_us]
        return min(recent) if len(recent) >= AGREEING_BATCHES else self._shortest_us

    def _reach_us(self, reaches: Sequence[int]) -> int:
        new_us, *repeats_us = (self.media_us(reach) for reach in reaches)
        most_us = self._settings.most_delay_us - self._settings.margin_us
        return max([new_us, *(us for us in repeats_us if us <= most_us)])

    def _learn(self, sample: _Sample) -> None:
        oldest_us = sample.arrival_us - self._settings.window_us
        self._samples.append(sample)
        while self._samples[0].arrival_us < oldest_us:
            self._samples.popleft()
        if not self._events or not self._events[-1].takes_in(sample, self._shortest_us):
            self._events.append(_Event(sample.arrival_us, sample.delay_us))
        while len(self._events) > 1 and self._events[0].arrival_us < oldest_us:
            self._events.popleft()
        self._aim()

    def _aim(self) -> None:
        """Set the target, and the offset where it is below."""
        margin_us, believed_us = self._settings.margin_us, self._believed_delay_us()
        believed = [s for s in self._samples if s.delay_us <= believed_us] or self._samples
        need_us = max(s.delay_us + s.reach_us for s in believed) + margin_us
        longest_us = max(s.reach_us for s in self._samples) + margin_us
        most_us = self._path_us + max(self._settings.most_delay_us, longest_us)
        if self._floor_us is not None:
            need_us = max(need_us, self._floor_us)
        self._target_us = min(need_us, most_us)
        if self._offset_us is None or self._offset_us < self._target_us:
            self._offset_us = self._target_us

    def _believed_delay_us(self) -> int:
        """Return the largest delay that is no stray one: of the last seconds, or of two events in the last one."""
        delays = sorted((e.delay_us for e in self._events), reverse=True)
        strays = (len(delays) + SHARE_OF_STRAYS - FEW_EVENTS) // SHARE_OF_STRAYS
        since_us = self._samples[-1].arrival_us - SECOND_US
        recent = sorted((e.delay_us for e in self._events if e.arrival_us >= since_us), reverse=True)
        return max(delays[strays], recent[1] if len(recent) > 1 else delays[-1])

    def _on_outlier(self, sample: _Sample) -> Arrival:
        """One stray batch is left out; a row of them that agree is a new timeline."""
        late = sample.delay_us > self._shortest_us
        if self._outliers and abs(sample.delay_us - self._outliers[-1].delay_us) > OUTLIER_US // 4:
            self._outliers.clear()
        self._outliers.append(sample)
        # After an outage a queue may deliver old batches in a burst: late ones must keep coming for a second.
        lasting = sample.arrival_us - self._outliers[0].arrival_us >= SECOND_US
        if len(self._outliers) < 2 or (late and not lasting):
            del self._outliers[1:-1]
            return Arrival.OUTLIER
        self._outliers.clear()
        self._samples.clear()
        self._events.clear()
        self._offset_us = self._floor_us = None
        self._learn(sample)
        return Arrival.NEW_TIMELINE
