"""The entropy coder's static tables: a versioned, hashed asset of integers."""

import hashlib
import struct
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from mien.protocol.errors import MienError
from mien.protocol.quantizer import STEPS
from mien.protocol.range_coder import TOTAL
from mien.protocol.state import COEFFICIENT_COUNT

Integers = NDArray[np.int64]

ASSET: Final = "tables_2.bin"

LARGEST: Final = 14  # errors of this magnitude and below have symbols of their own
SYMBOL_COUNT: Final = 2 * LARGEST + 2  # 0, +1, -1, +2, -2, ..., +14, -14, escape
ESCAPE: Final = SYMBOL_COUNT - 1

WEIGHT_BITS: Final = 8  # of a mean or spread, behind the binary point
SPREAD_SHIFT: Final = 6  # a spread is counted in quarters of an octave
SPREADS: Final = 36
FRACTIONS: Final = 3  # of the half step by which a mean may miss an integer
CLASS_COUNT: Final = SPREADS * FRACTIONS

# What a mean or spread is a sum over: the differences before it in a message's first frame, or in a later one;
# those of the frames before.
FIRST, WITHIN, BEFORE = range(3)
SOURCES: Final = 3
# Which frames share their biases: a message's first, its second, those after it; and repeats.
PHASES: Final = 4
REPEAT_PHASE: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Distributions (classes), and how the means and spreads follow that choose among them.

    `classes`: cumulative frequencies, `SYMBOL_COUNT + 1` rising integers from 0 to 2^15 each; the class of spread s
    and fraction f is number `FRACTIONS` * s + f. `means` and `spreads`: int64 [SOURCES, 36 sources, 36 targets],
    weights in 1/256. `biases`: int64 [steps, PHASES, 36] of the spreads, in 1/256. `tables_id`: the first 8
    bytes of the asset's SHA-256.

    The asset is big-endian: magic "MTB2", u8 spreads, u8 fractions, u8 steps, u8 phases, then u16 [classes]
    [SYMBOL_COUNT - 1] inner cumulative frequencies, then i16 means, spreads and biases.
    """

    MAGIC: ClassVar[bytes] = b"MTB2"
    HEAD: ClassVar[bytes] = MAGIC + bytes([SPREADS, FRACTIONS, len(STEPS), PHASES])
    classes: tuple[tuple[int, ...], ...]
    means: Integers
    spreads: Integers
    biases: Integers
    tables_id: bytes

    @staticmethod
    def load() -> "Tables":
        """Return the packaged tables (read once)."""
        return _load_packaged()

    @classmethod
    def parse(cls, data: bytes) -> "Tables":
        """Read an asset. Raises `MienError` when the bytes are not one."""
        damaged = MienError("the codec's tables are damaged: install mien again")
        inner = SYMBOL_COUNT - 1
        weights_at = len(cls.HEAD) + 2 * inner * CLASS_COUNT
        weight_count = SOURCES * COEFFICIENT_COUNT**2
        bias_count = len(STEPS) * PHASES * COEFFICIENT_COUNT
        if not data.startswith(cls.HEAD) or len(data) != weights_at + 2 * (2 * weight_count + bias_count):
            raise damaged
        layout = struct.Struct(f"!{inner}H")
        classes = tuple((0, *row, TOTAL) for row in layout.iter_unpack(data[len(cls.HEAD) : weights_at]))
        if not all(a < b for row in classes for a, b in pairwise(row)):
            raise damaged
        weights = np.frombuffer(data, ">i2", offset=weights_at).astype(np.int64)
        means, spreads, biases = np.split(weights, [weight_count, 2 * weight_count])
        matrices = (SOURCES, COEFFICIENT_COUNT, COEFFICIENT_COUNT)
        return cls(
            classes,
            means.reshape(matrices),
            spreads.reshape(matrices),
            biases.reshape(len(STEPS), PHASES, COEFFICIENT_COUNT),
            hashlib.sha256(data).digest()[:8],
        )

    def serialize(self) -> bytes:
        """Return the asset's bytes. Weights that 16 bits do not hold raise `ValueError`."""
        inner = b"".join(struct.pack(f"!{SYMBOL_COUNT - 1}H", *row[1:-1]) for row in self.classes)
        weights = np.concatenate([a.ravel() for a in (self.means, self.spreads, self.biases)])
        if np.abs(weights).max() > 32767:
            raise ValueError("a weight is beyond 16 bits")
        return self.HEAD + inner + weights.astype(">i2").tobytes()


@cache
def _load_packaged() -> Tables:
    return Tables.parse((resources.files("mien.protocol") / "assets" / ASSET).read_bytes())
