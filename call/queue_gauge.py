"""How long messages wait on their way: how much longer they take now than the fastest did of late.

A queue that builds up in the network shows here before anything is lost. Only differences are looked at, so the
two clocks need not agree. No clock inside.
"""

from collections import deque
from typing import Final

BUCKET_US: Final = 1_000_000
MEMORY_BUCKETS: Final = 30  # after which a longer way counts as the way
RECENT_BUCKETS: Final = 2
RESTART_US: Final = 10_000_000  # a larger step is another stream, or another clock


class QueueGauge:
    """Takes when things were made and when they came, gives the queue."""

    def __init__(self) -> None:
        self._least: deque[tuple[int, int]] = deque(maxlen=MEMORY_BUCKETS)  # bucket, least transit in it

    def note(self, made_us: int, arrival_us: int) -> None:
        """Take in that something made at a time (on any clock) came now."""
        transit_us, bucket = arrival_us - made_us, arrival_us // BUCKET_US
        if self._least and abs(transit_us - self._least[-1][1]) > RESTART_US:
            self._least.clear()
        if self._least and self._least[-1][0] == bucket:
            transit_us = min(transit_us, self._least.pop()[1])
        self._least.append((bucket, transit_us))

    def is_fresh(self, now_us: int) -> bool:
        """Return whether anything came lately."""
        return bool(self._least) and now_us // BUCKET_US - self._least[-1][0] < RECENT_BUCKETS

    def queue_us(self, now_us: int) -> int:
        """Return how much longer things take now; 0 where nothing came lately."""
        newest = now_us // BUCKET_US
        recent = [least for bucket, least in self._least if newest - bucket < RECENT_BUCKETS]
        known = [least for bucket, least in self._least if newest - bucket < MEMORY_BUCKETS]
        return max(0, min(recent) - min(known)) if recent else 0
