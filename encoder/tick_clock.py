"""Which tick of a stream a frame of the source belongs to."""

import math
from fractions import Fraction
from typing import Final

MAX_RATE: Final = Fraction(30)
MIN_RATE: Final = Fraction(1)
# A source that is a little faster than the limit on average (a telephone's 30.02) is not halved.
TOLERANCE: Final = Fraction(102, 100)
# Below this a decimated stream would move visibly less smoothly than one resampled to the limit.
MIN_DECIMATED_RATE: Final = Fraction(20)
# A frame takes the tick that follows the last one if it is this close: so many ticks late, or so many of the
# source's frames early. Jitter around half a tick must not make one frame double and the next one missing.
STICKY: Final = Fraction(7, 10)


def tick_rate_for(source_rate: Fraction) -> Fraction:
    """Return the tick rate for a source of `source_rate` frames per second: 1 to 30 Hz.

    Sources up to 30 Hz keep theirs; faster ones are divided by a whole number (60 gives 30, 50 gives 25) unless
    that leaves too few, in which case the nearest frames to 30 Hz are taken. Raises `ValueError` for no rate.
    """
    if source_rate <= 0:
        raise ValueError(f"source rate is {source_rate}, expected more than 0")
    rate = source_rate.limit_denominator(1001)
    if rate > MAX_RATE:
        if rate <= MAX_RATE * TOLERANCE:
            return MAX_RATE
        divided = rate / math.ceil(rate / (MAX_RATE * TOLERANCE))
        rate = min(divided, MAX_RATE) if divided >= MIN_DECIMATED_RATE else MAX_RATE
    return max(rate, MIN_RATE)


class TickClock:
    """Gives each frame time its tick, or None to those that come too early for the next one.

    Tick 0 is the first frame's. Times are integer microseconds on the source's clock. `source_rate`: frames per
    second that come; None: as many as ticks.
    """

    def __init__(self, tick_rate: Fraction, *, source_rate: Fraction | None = None) -> None:
        self._per_us = tick_rate / 1_000_000
        self._early = STICKY * min(tick_rate / (source_rate or tick_rate), Fraction(1))
        self._zero_us: int | None = None
        self._last: int | None = None

    def tick_of(self, timestamp_us: int) -> int | None:
        """Return the tick of the frame taken at `timestamp_us`; ticks grow from call to call."""
        if self._zero_us is None or self._last is None:
            self._zero_us, self._last = timestamp_us, 0
            return 0
        position = (timestamp_us - self._zero_us) * self._per_us
        following = self._last + 1
        if position < following - self._early:
            return None
        tick = following if position <= following + STICKY else round(position)
        self._last = tick
        return tick
