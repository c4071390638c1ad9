"""Which residuals a sender writes: those that cost least in bits and error together.

A decoder never needs this. Scalar rate-distortion optimised quantisation as video encoders do it (Karczewicz,
Ye, Chong: "Rate distortion optimized quantization", VCEG-AH21, 2008), greedy over the coefficients in coding
order: each residual takes, of the nearest integer, the next one towards zero and zero, that which minimises
(error in steps)^2 + LAMBDA * bits.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from mien.protocol.quantizer import MAX_VALUE
from mien.protocol.range_coder import PROBABILITY_BITS
from mien.protocol.residual_coder import Frame, activity, context_index, neighbour_context
from mien.protocol.state import COEFFICIENT_COUNT
from mien.protocol.tables import ESCAPE, LARGEST, Tables

# Squared steps for a bit. In the first coded frame less: all the others of its message are predicted from it.
LAMBDA: Final = 0.14
LAMBDA_FIRST: Final = 0.07
# Repeats of earlier frames may be coarse: nothing is predicted from them, and most are never needed.
LAMBDA_REPEAT: Final = 1.0


class FrameChooser:
    """Chooses the integers of a message's tracked frames, one after the other; make one for each message."""

    def __init__(self, tables: Tables, step_index: int) -> None:
        self._bits = _class_bits(tables)
        self._tables = tables
        self._step_index = step_index
        self._values = [0] * COEFFICIENT_COUNT
        self._before: Frame | None = None
        self._activity_before = 0
        self._price: float | None = None  # where it does not follow from the frame's place

    @classmethod
    def of_repeats(cls, tables: Tables, step_index: int, first: list[int]) -> Self:
        """Return a chooser for the repeats of a message, from the integers [36] of its first frame."""
        chooser = cls(tables, step_index)
        chooser._values, chooser._before, chooser._price = first, (), LAMBDA_REPEAT
        return chooser

    @property
    def values(self) -> list[int]:
        """The integers [36] of the latest frame; zeros before the first."""
        return self._values

    def choose(self, target: NDArray[np.float64]) -> list[int]:
        """Return the integers [36] to code for `target`, float64 [36] in steps."""
        first = self._before is None
        class_map = (self._tables.first if first else self._tables.following)[self._step_index]
        price = self._price or (LAMBDA_FIRST if first else LAMBDA)
        values, residuals = [], []
        last = second_last = 0
        for k, (wanted, predicted) in enumerate(zip(target.tolist(), self._values, strict=True)):
            near = neighbour_context(last, second_last)
            index = context_index(k, near, self._before, self._activity_before)
            residual = _cheapest(wanted - predicted, self._bits[class_map[index]], price)
            value = max(-MAX_VALUE, min(MAX_VALUE, predicted + residual))
            values.append(value)
            residuals.append(value - predicted)
            second_last = last
            last = abs(value - predicted)
        self._values = values
        self._activity_before = 0 if first else activity(residuals)
        self._before = () if first else residuals
        return values


def _cheapest(wanted: float, bits: Sequence[float], price: float) -> int:
    """Return the residual of least cost; `bits[m]` is what magnitude m costs."""
    size = abs(wanted)
    nearest = math.floor(min(size, 2.0 * MAX_VALUE) + 0.5)
    if nearest == 0:
        return 0
    if nearest > LARGEST:
        return nearest if wanted > 0 else -nearest
    best = min(
        (nearest, nearest - 1) if nearest > 2 else range(nearest, -1, -1),
        key=lambda m: (size - m) ** 2 + price * bits[m],
    )
    return best if wanted > 0 else -best


@cache
def _class_bits(tables: Tables) -> tuple[tuple[float, ...], ...]:
    """Return for each class the bits of the magnitudes 0 to 14, the sign included."""

    def price(row: tuple[int, ...], symbol: int) -> float:
        return PROBABILITY_BITS - math.log2(row[symbol + 1] - row[symbol])

    symbols = [0, *range(1, ESCAPE, 2)]  # of a magnitude's positive sign: the negative one costs the same
    return tuple(tuple(price(row, s) for s in symbols) for row in tables.classes)
