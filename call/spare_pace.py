"""How much of what is spare may be taken at once: a little, and nothing is saved up. No clock inside.

A budget bounds any five seconds. What is spare now may be wanted by a voice or a face in the next second, within the
same five: so a thin flow of short pieces is sent, and no lump.
"""

import math
from collections import deque
from typing import Final

WINDOW_US: Final = 5_000_000
PIECE_US: Final = 1_000_000  # a piece is at most what is spare in so much time,


class SparePace:
    """Times are integer microseconds of any clock that never runs backwards; bytes are what a piece costs on the wire."""

    def __init__(self, *, least_bytes: int) -> None:
        """`least_bytes`: shorter pieces are not worth their headers, however little is spare."""
        self._least_bytes = least_bytes
        self._taken: deque[tuple[int, int]] = deque()

    def affordable_bytes(self, spare_kbps: float, now_us: int) -> float:
        """Return what a piece may cost that is sent now; 0 where it is too early for one."""
        if spare_kbps == math.inf:
            return math.inf
        while self._taken and now_us - self._taken[0][0] > WINDOW_US:
            self._taken.popleft()
        if self._taken:
            at_us, newest = self._taken[-1]
            if spare_kbps * (now_us - at_us) / 8000 < newest:
                return 0.0
        room = spare_kbps * WINDOW_US / 8000 - sum(taken for _, taken in self._taken)
        if room < self._least_bytes:
            return 0.0
        return max(self._least_bytes, min(room, spare_kbps * PIECE_US / 8000))

    def take(self, cost: int, now_us: int) -> None:
        """A piece of so many bytes is sent."""
        self._taken.append((now_us, cost))
