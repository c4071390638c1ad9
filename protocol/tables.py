"""The entropy coder's static tables: a versioned, hashed asset of integers."""

import hashlib
import struct
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import ClassVar, Final

from mien.protocol.errors import MienError
from mien.protocol.quantizer import STEPS
from mien.protocol.range_coder import TOTAL
from mien.protocol.state import COEFFICIENT_COUNT

ASSET: Final = "tables_1.bin"

LARGEST: Final = 14  # residuals of this magnitude and below have symbols of their own
SYMBOL_COUNT: Final = 2 * LARGEST + 2  # 0, +1, -1, +2, -2, ..., +14, -14, escape
ESCAPE: Final = SYMBOL_COUNT - 1
FIRST_CONTEXTS: Final = 4  # neighbours
NEXT_CONTEXTS: Final = 4 * 4 * 4  # neighbours x same coefficient of the frame before x that frame's activity


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Distributions (classes), and which class codes which coefficient in which context.

    `classes`: cumulative frequencies, `SYMBOL_COUNT + 1` rising integers from 0 to 2^15 each. `first[s]` and
    `following[s]` map, for step index s, coefficient * contexts + context to a class, for the first coded frame
    of a message and for those after it. `tables_id`: the first 8 bytes of the asset's SHA-256.

    The asset is big-endian: magic "MTB1", u8 classes, u8 steps, then u16 [classes][SYMBOL_COUNT - 1] inner
    cumulative frequencies, then for each step u8 [36][4] and u8 [36][64].
    """

    MAGIC: ClassVar[bytes] = b"MTB1"
    classes: tuple[tuple[int, ...], ...]
    first: tuple[bytes, ...]
    following: tuple[bytes, ...]
    tables_id: bytes

    @staticmethod
    def load() -> "Tables":
        """Return the packaged tables (read once)."""
        return _load_packaged()

    @classmethod
    def parse(cls, data: bytes) -> "Tables":
        """Read an asset. Raises `MienError` when the bytes are not one."""
        damaged = MienError("the codec's tables are damaged: install mien again")
        if len(data) < 6 or data[:4] != cls.MAGIC or data[5] != len(STEPS):
            raise damaged
        count, inner = data[4], SYMBOL_COUNT - 1
        maps_at = 6 + 2 * inner * count
        first_size, next_size = COEFFICIENT_COUNT * FIRST_CONTEXTS, COEFFICIENT_COUNT * NEXT_CONTEXTS
        if len(data) != maps_at + len(STEPS) * (first_size + next_size):
            raise damaged
        layout = struct.Struct(f"!{inner}H")
        classes = tuple((0, *row, TOTAL) for row in layout.iter_unpack(data[6:maps_at]))
        first, following = [], []
        for offset in range(maps_at, len(data), first_size + next_size):
            first.append(data[offset : offset + first_size])
            following.append(data[offset + first_size : offset + first_size + next_size])
        rising = all(a < b for row in classes for a, b in pairwise(row))
        if not rising or max(data[maps_at:]) >= count:
            raise damaged
        return cls(classes, tuple(first), tuple(following), hashlib.sha256(data).digest()[:8])

    def serialize(self) -> bytes:
        """Return the asset's bytes."""
        inner = b"".join(struct.pack(f"!{SYMBOL_COUNT - 1}H", *row[1:-1]) for row in self.classes)
        maps = b"".join(a + b for a, b in zip(self.first, self.following, strict=True))
        return self.MAGIC + bytes([len(self.classes), len(self.first)]) + inner + maps


@cache
def _load_packaged() -> Tables:
    return Tables.parse((resources.files("mien.protocol") / "assets" / ASSET).read_bytes())
