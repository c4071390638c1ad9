"""Which moment of the sender's ticks to show now: a mapping learned from when batches arrive.

Tick n stands for the media time n / tick_rate. A batch whose last tick has media time m and that arrives at a
came over a path of delay a - m (the two clocks share no zero, so only differences of it mean something). The
smallest delay of the last seconds is the path without queues; the picture shows media time m at

    m + smallest delay + the span of a batch + a margin

because the ticks right after m arrive only when the next batch is complete. Integers throughout: a replay
that feeds the same arrivals and render times gets the same positions to the bit.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction
from typing import Final

MAX_ARRIVALS: Final = 128
SECOND_US: Final = 1_000_000
# A batch this far from the others is of another timeline: the sender was suspended, or lies.
OUTLIER_US: Final = 2_000_000
# How many batches must say that the path's delay changed before it is believed.
AGREEING_BATCHES: Final = 4


class Arrival(Enum):
    """What a batch's arrival means for the ticks that are buffered."""

    IN_TIME = auto()
    OUTLIER = auto()  # does not belong to the timeline: leave its ticks out
    NEW_TIMELINE = auto()  # several outliers agree: forget what was buffered


@dataclass(frozen=True, slots=True)
class _Sample:
    arrival_us: int
    delay_us: int
    ticks: int


class SenderClock:
    """Maps render times to positions on the sender's ticks."""

    def __init__(
        self, tick_rate: Fraction, *, margin_us: int, window_us: int, slew_ppm: int, jump_us: int
    ) -> None:
        """Take the playout's settings.

        `window_us`: how long the smallest delay is remembered. `slew_ppm`: how fast the mapping may move while
        the face moves. `jump_us`: from where on it moves at once (the caller smooths the picture).
        """
        self._tick_rate = tick_rate
        self._margin_us = margin_us
        self._window_us = window_us
        self._slew_ppm = slew_ppm
        self._jump_us = jump_us
        self._samples: deque[_Sample] = deque(maxlen=MAX_ARRIVALS)
        self._outliers: list[_Sample] = []
        self._offset_us: int | None = None  # media time m is shown at m + offset

    @property
    def started(self) -> bool:
        """Whether a batch has set the mapping."""
        return self._offset_us is not None

    @property
    def target_us(self) -> int:
        """Where the offset goes: the smallest delay, a batch's span, the margin. Only once started."""
        smallest = min(s.delay_us for s in self._samples)
        span = max(s.ticks for s in self._samples)
        return smallest + self.media_us(span) + self._margin_us

    def media_us(self, tick: int) -> int:
        """Return the media time of a tick, rounded down."""
        return tick * SECOND_US * self._tick_rate.denominator // self._tick_rate.numerator

    def on_batch(self, last_tick: int, ticks: int, arrival_us: int) -> Arrival:
        """Learn from a batch of `ticks` ticks that ends with `last_tick`."""
        sample = _Sample(arrival_us, arrival_us - self.media_us(last_tick), ticks)
        if self._offset_us is None:
            self._samples.append(sample)
            self._offset_us = self.target_us
            return Arrival.IN_TIME
        distance = sample.delay_us - min(s.delay_us for s in self._samples)
        if abs(distance) > OUTLIER_US:
            return self._on_outlier(sample, late=distance > 0)
        self._outliers.clear()
        self._samples.append(sample)
        self._forget(lambda s: s.arrival_us >= arrival_us - self._window_us)
        self._believe_longer_path(arrival_us)
        return Arrival.IN_TIME

    def advance(self, elapsed_us: int, *, moving: bool) -> bool:
        """Let the offset follow its target; return whether it made a jump to be smoothed.

        `moving`: the face is shown in motion, so that small corrections must be slow.
        """
        assert self._offset_us is not None, "advance before the first batch"
        error = self.target_us - self._offset_us
        if abs(error) > self._jump_us or not moving:
            self._offset_us += error
            return abs(error) > self._jump_us
        step = elapsed_us * self._slew_ppm // 1_000_000
        self._offset_us += max(-step, min(step, error))
        return False

    def position(self, render_us: int) -> Fraction:
        """Return the position at a render time, in ticks. Only once started."""
        assert self._offset_us is not None, "position before the first batch"
        return (render_us - self._offset_us) * self._tick_rate / SECOND_US

    def _on_outlier(self, sample: _Sample, *, late: bool) -> Arrival:
        """One stray batch is left out; a row of them that agree is a new timeline."""
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
        self._samples.append(sample)
        self._offset_us = self.target_us
        return Arrival.NEW_TIMELINE

    def _believe_longer_path(self, now_us: int) -> None:
        """When every batch of the last second came later than the margin allows, the path has changed."""
        recent = [s for s in self._samples if s.arrival_us >= now_us - SECOND_US]
        if len(recent) < AGREEING_BATCHES:
            return
        if min(s.delay_us for s in recent) > min(s.delay_us for s in self._samples) + self._margin_us:
            self._forget(lambda s: s.arrival_us >= now_us - SECOND_US)

    def _forget(self, keep: Callable[[_Sample], bool]) -> None:
        kept = [s for s in self._samples if keep(s)]
        self._samples = deque(kept, maxlen=MAX_ARRIVALS)
