"""What a frame's integers are expected to be, from all that was coded before them: integers only.

Each integer gets a mean, relative to the same one of the frame before, and a spread: sums over what is known,
with the tables' weights. They choose the distribution that it is coded under.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.protocol.quantizer import MAX_VALUE
from mien.protocol.state import COEFFICIENT_COUNT
from mien.protocol.tables import (
    BEFORE,
    FIRST,
    FRACTIONS,
    REPEAT_PHASE,
    SPREAD_SHIFT,
    SPREADS,
    WEIGHT_BITS,
    WITHIN,
    Tables,
)

MOST: Final = 63  # of an integer that a mean is a sum over: one outlier must not decide everything
_ONE: Final = 1 << WEIGHT_BITS
_HALF: Final = _ONE // 2

Integers = NDArray[np.int64]


class Expectation:
    """Follows one message. For each tracked frame: `expect` and `take` integer by integer, then `end_frame`.

    Repeats come last, after `go_back`.
    """

    def __init__(self, tables: Tables, step_index: int) -> None:
        self._tables = tables
        self._biases = tables.biases[step_index]
        self._frames = 0  # that were coded
        self._repeats = False
        self.values = [0] * COEFFICIENT_COUNT  # of the frame before
        self._now = self.values.copy()
        self._motion = np.zeros(COEFFICIENT_COUNT, np.int64)  # the differences of the frame before
        self._recent = self._motion  # how much each coefficient moved of late
        self._begin_frame()

    def expect(self, k: int) -> tuple[int, int, bool]:
        """Return what integer k is most likely, its class, and whether the class is mirrored.

        A symbol stands for what is missing from the likely integer; for the negative of it where mirrored.
        """
        mean = int(self._mean[k])
        whole = (mean + _HALF) >> WEIGHT_BITS
        part = mean - (whole << WEIGHT_BITS)
        spread = int(self._spread[k]) >> SPREAD_SHIFT
        spread = 0 if spread < 0 else spread if spread < SPREADS else SPREADS - 1
        likely = max(-MAX_VALUE, min(MAX_VALUE, self.values[k] + whole))
        return likely, FRACTIONS * spread + abs(part) * FRACTIONS // (_HALF + 1), part < 0

    def take(self, k: int, value: int) -> None:
        """Integer k of the frame is `value`."""
        self._now[k] = value
        difference = value - self.values[k]
        if difference:
            self._mean += self._mean_weights[k] * max(-MOST, min(MOST, difference))
            self._spread += self._spread_weights[k] * difference.bit_length()

    def end_frame(self) -> None:
        """All integers of the frame were taken; the next one may begin."""
        difference = np.array(self._now, np.int64) - self.values
        if self._frames or self._repeats:
            self._motion = difference
            self._recent = (self._recent >> 1) + 2 * np.abs(difference)
        self.values, self._now = self._now, self._now.copy()
        self._frames += 1
        self._begin_frame()

    def go_back(self, first: Sequence[int]) -> None:
        """Repeats follow; the nearest one before the message's first frame, `first`, comes first."""
        self._repeats = True
        self.values = list(first)
        self._motion = self._recent = np.zeros(COEFFICIENT_COUNT, np.int64)
        self._begin_frame()

    def _begin_frame(self) -> None:
        means, spreads = self._tables.means, self._tables.spreads
        phase = REPEAT_PHASE if self._repeats else min(2, self._frames)
        within = WITHIN if phase else FIRST
        self._mean_weights, self._spread_weights = means[within], spreads[within]
        if not phase:
            self._mean, self._spread = np.zeros(COEFFICIENT_COUNT, np.int64), self._biases[0].copy()
            return
        self._mean = np.clip(self._motion, -MOST, MOST) @ means[BEFORE]
        self._spread = self._biases[phase] + bit_lengths(self._recent) @ spreads[BEFORE]


def bit_lengths(integers: Integers) -> Integers:
    """Return how many bits the magnitudes of `integers` have: 0 for 0, 1 for 1, 2 for 2 and 3, ..."""
    return np.frexp(np.abs(integers).astype(np.float64))[1].astype(np.int64)
