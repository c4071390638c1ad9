"""A range coder with carry: 32-bit range, 15-bit probabilities, bytes out. Integers only.

After G. N. N. Martin, "Range encoding: an algorithm for removing redundancy from a digitised message", 1979,
with Subbotin's and Pavlov's handling of the carry: bytes of 0xff wait until it is known whether a carry
passes through them.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from mien.protocol.errors import WireError

PROBABILITY_BITS: Final = 15
TOTAL: Final = 1 << PROBABILITY_BITS
_TOP: Final = 1 << 24
_MASK: Final = (1 << 32) - 1


class RangeEncoder:
    """Codes symbols by cumulative frequencies that add up to `TOTAL`."""

    def __init__(self) -> None:
        self._low = 0
        self._range = _MASK
        self._pending = 0  # bytes held back: the first as `_cache`, the rest 0xff
        self._cache = 0
        self._started = False
        self._out = bytearray()

    def encode(self, cumulative: Sequence[int], symbol: int) -> None:
        """Code `symbol` under `cumulative`: rising integers from 0 to `TOTAL`, one more than there are symbols."""
        start = cumulative[symbol]
        step = self._range >> PROBABILITY_BITS
        self._low += step * start
        self._range = step * (cumulative[symbol + 1] - start)
        while self._range < _TOP:
            self._range <<= 8
            self._shift()

    def encode_bits(self, value: int, count: int) -> None:
        """Code the `count` (0 to 15) low bits of `value`, each as likely 0 as 1."""
        step = self._range >> count
        self._low += step * value
        self._range = step
        while self._range < _TOP:
            self._range <<= 8
            self._shift()

    def finish(self) -> bytes:
        """Return the bytes: the shortest string whose every continuation decodes to what was coded.

        Zero bytes at the end are dropped, since the decoder reads zeros behind the end.
        """
        # Of all values in [low, low + range), the one with the most zero bits at its end.
        last = self._low + self._range - 1
        for bits in range(32, -1, -1):
            value = (last >> bits) << bits
            if value >= self._low:
                break
        self._low = value
        for _ in range(5):
            self._shift()
        return bytes(self._out).rstrip(b"\0")

    def _shift(self) -> None:
        """Move the top byte of `low` out, or hold it back while a carry may still change it."""
        if self._low < 0xFF000000 or self._low > _MASK:
            carry = self._low >> 32
            if self._started:
                self._out.append((self._cache + carry) & 0xFF)
            self._started = True
            if self._pending:
                self._out.extend(bytes([(0xFF + carry) & 0xFF]) * self._pending)
                self._pending = 0
            self._cache = (self._low >> 24) & 0xFF
        else:
            self._pending += 1
        self._low = (self._low << 8) & _MASK


class RangeDecoder:
    """Reads what `RangeEncoder` wrote. Behind the end it reads zeros; `finish` tells whether all was needed."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 4
        self._range = _MASK
        self._code = int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def decode(self, cumulative: Sequence[int]) -> int:
        """Return the next symbol under `cumulative` (see `RangeEncoder.encode`)."""
        step = self._range >> PROBABILITY_BITS
        target = self._code // step
        # A code that no encoder writes can point behind the last symbol: the last one then stands.
        symbol = bisect_right(cumulative, target if target < TOTAL else TOTAL - 1) - 1
        start = cumulative[symbol]
        self._code -= step * start
        self._range = step * (cumulative[symbol + 1] - start)
        if self._range < _TOP:
            self._fill()
        return symbol

    def decode_bits(self, count: int) -> int:
        """Return the next `count` (0 to 15) bits."""
        step = self._range >> count
        value = min(self._code // step, (1 << count) - 1)
        self._code -= step * value
        self._range = step
        if self._range < _TOP:
            self._fill()
        return value

    def finish(self) -> None:
        """Check that the data ends where the coded symbols end. Raises `WireError` otherwise."""
        if len(self._data) > self._position:
            raise WireError(
                f"range-coded body is {len(self._data)} bytes, its symbols end by {self._position}"
            )
        if self._data.endswith(b"\0"):
            raise WireError("range-coded body ends with a zero byte, which the encoder drops")

    def _fill(self) -> None:
        data, position = self._data, self._position
        while self._range < _TOP:
            byte = data[position] if position < len(data) else 0
            self._code = ((self._code << 8) | byte) & _MASK
            self._range = (self._range << 8) & _MASK
            position += 1
        self._position = position
