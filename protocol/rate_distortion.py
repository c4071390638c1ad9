"""Which integers a sender writes: those that cost least in bits and error together.

A decoder never needs this. Rate-distortion optimised quantisation as video encoders do it, in two steps. First
frame by frame, greedily (Karczewicz, Ye, Chong: "Rate distortion optimized quantization", VCEG-AH21, 2008): each
integer is, of the nearest one and the next ones towards the likely one, that which minimises
(error in steps)^2 + price * bits. Then, when all frames of a message are known, each coefficient takes the best
path through all of them (a trellis: Viterbi's algorithm), under the distributions that the first step met: a small
motion that the next frame takes back is then not sent at all.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from mien.protocol.expectation import Expectation
from mien.protocol.quantizer import MAX_VALUE
from mien.protocol.range_coder import PROBABILITY_BITS
from mien.protocol.state import COEFFICIENT_COUNT
from mien.protocol.tables import ESCAPE, LARGEST, Tables

Floats = NDArray[np.float64]

# Squared steps for a bit. In the first coded frame less: all the others of its message are predicted from it.
LAMBDA: Final = 0.14
LAMBDA_FIRST: Final = 0.07
LAMBDA_PATH: Final = 0.18  # of a message's frames together
# Repeats of earlier frames may be coarse: nothing is predicted from them, and most are never needed.
LAMBDA_REPEAT: Final = 1.0
FURTHEST: Final = 2  # steps from the nearest integer to the one that is chosen
_WIDEST: Final = 64  # errors beyond cost as much


class FrameChooser:
    """Chooses the integers of a message's tracked frames, one after the other; make one for each message."""

    def __init__(self, tables: Tables, step_index: int) -> None:
        self._tables = tables
        self._bits = _class_bits(tables)
        self._expectation = Expectation(tables, step_index)
        self._price = LAMBDA_FIRST
        self._targets: list[Floats] = []
        self._chosen: list[list[int]] = []
        self._met: list[list[tuple[int, int, bool]]] = []  # difference expected, class, mirrored

    @classmethod
    def of_repeats(cls, tables: Tables, step_index: int, first: list[int]) -> Self:
        """Return a chooser for the repeats of a message, from the integers [36] of its first frame."""
        chooser = cls(tables, step_index)
        chooser._expectation.go_back(first)
        chooser._price = LAMBDA_REPEAT
        return chooser

    def choose(self, target: Floats) -> list[int]:
        """Return the integers [36] to code for `target`, float64 [36] in steps, as far as one frame can tell."""
        expectation, price, before = self._expectation, self._price, self._expectation.values
        met = []
        for k, wanted in enumerate(target.tolist()):
            likely, number, mirrored = expectation.expect(k)
            expectation.take(k, _cheapest(wanted, likely, self._bits[number], price, mirrored=mirrored))
            met.append((likely - before[k], number, mirrored))
        expectation.end_frame()
        if price == LAMBDA_FIRST:
            self._price = LAMBDA
        self._targets.append(target)
        self._chosen.append(expectation.values)
        self._met.append(met)
        return expectation.values

    def together(self) -> list[list[int]]:
        """Return the integers [36] of all frames so far, each chosen with a view to the others."""
        if len(self._chosen) < 2:
            return self._chosen
        targets = np.array(self._targets)
        paths = _candidates(targets)
        distance = (targets[..., None] - paths) ** 2
        expected, number, mirrored = np.array(self._met, np.int64).transpose(2, 0, 1)
        sign, bits = 1 - 2 * mirrored, _error_bits(self._tables)
        cost = np.zeros((COEFFICIENT_COUNT, 1))
        before = np.zeros((COEFFICIENT_COUNT, 1), np.int64)
        came_from = []
        for f, path in enumerate(paths):
            error = path[:, :, None] - before[:, None, :] - expected[f, :, None, None]
            index = np.clip(sign[f, :, None, None] * error, -_WIDEST, _WIDEST) + _WIDEST
            total = cost[:, None, :] + LAMBDA_PATH * bits[number[f, :, None, None], index]
            came_from.append(total.argmin(axis=2))
            cost, before = total.min(axis=2) + distance[f], path
        return _walk_back(paths, came_from, cost.argmin(axis=1))


def _candidates(targets: Floats) -> NDArray[np.int64]:
    """Return the integers around `targets` [n, 36], int64 [n, 36, 5]."""
    nearest = np.floor(targets + 0.5).astype(np.int64)[..., None]
    around: NDArray[np.int64] = np.clip(nearest + np.arange(-FURTHEST, FURTHEST + 1), -MAX_VALUE, MAX_VALUE)
    return around


def _walk_back(
    paths: NDArray[np.int64], came_from: list[NDArray[np.int64]], last: NDArray[np.int64]
) -> list[list[int]]:
    """Return the integers of the best path that ends with candidate `last` [36]."""
    place, every, values = last, np.arange(COEFFICIENT_COUNT), []
    for path, origin in zip(paths[::-1], reversed(came_from), strict=True):
        values.append(path[every, place].tolist())
        place = origin[every, place]
    return values[::-1]


def _cheapest(wanted: float, likely: int, bits: Sequence[float], price: float, *, mirrored: bool) -> int:
    """Return the integer of least cost; `bits[e]` is what missing the likely one by e costs (e may be negative)."""
    nearest = math.floor(max(-MAX_VALUE, min(MAX_VALUE, wanted)) + 0.5)
    missing = nearest - likely
    if missing == 0 or abs(missing) > LARGEST:
        return nearest
    back = -1 if missing > 0 else 1
    sign = -1 if mirrored else 1
    best, least = nearest, math.inf
    for value in range(nearest, nearest + back * (1 + min(FURTHEST, abs(missing))), back):
        cost = (wanted - value) ** 2 + price * bits[sign * (value - likely)]
        if cost < least:
            best, least = value, cost
    return best


def _price(row: tuple[int, ...], symbol: int) -> float:
    return PROBABILITY_BITS - math.log2(row[symbol + 1] - row[symbol])


@cache
def _class_bits(tables: Tables) -> tuple[tuple[float, ...], ...]:
    """Return for each class the bits of the errors 0, 1, ..., 14, -14, ..., -1: indexed by the error itself."""
    errors = (*range(LARGEST + 1), *range(-LARGEST, 0))
    return tuple(tuple(_price(row, 2 * abs(e) - (e > 0)) for e in errors) for row in tables.classes)


@cache
def _error_bits(tables: Tables) -> Floats:
    """Return the bits of the errors -64 to 64 under each class, float64 [classes, 129]."""

    def cost(row: tuple[int, ...], error: int) -> float:
        size = abs(error)
        if size <= LARGEST:
            return _price(row, 2 * size - (error > 0))
        return _price(row, ESCAPE) + 2 * (size - LARGEST).bit_length()

    return np.array([[cost(row, e) for e in range(-_WIDEST, _WIDEST + 1)] for row in tables.classes])
