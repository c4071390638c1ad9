"""The ledger of the wire: datagrams added up by cause, over the whole time and over windows. No socket, no clock.

A datagram of several causes is divided by their weights; what the division leaves over goes to the longest share
that does not ride, and in the number of datagrams it counts once, for that share.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from mien.call.wire_cause import CAUSES, Cause, Direction, Share
from mien.call.wire_totals import Flow, PathFlow, WireTotals

_BUCKET_US: Final = 100_000  # the grain of `kbps` over a window
_HISTORY_US: Final = 60_000_000


def _zeros() -> list[int]:
    return [0] * len(CAUSES)


@dataclass(slots=True)
class _Sums:
    """Running sums of one direction, by the position in `CAUSES`."""

    datagrams: list[int] = field(default_factory=_zeros)
    wire_bytes: list[int] = field(default_factory=_zeros)
    payload_bytes: list[int] = field(default_factory=_zeros)
    ipv6_datagrams: int = 0
    relayed_datagrams: int = 0


@dataclass(frozen=True, slots=True)
class _Bucket:
    index: int  # time // _BUCKET_US
    wire_bytes: dict[Direction, list[int]]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One datagram that has been entered; its cause may be corrected while `WireLedger.assign` knows it."""

    direction: Direction
    wire_bytes: int
    bucket: _Bucket
    shares: tuple[Share, ...]


class WireLedger:
    """Adds datagrams up, over the whole time and over windows. Times are integer microseconds of any clock."""

    def __init__(self, start_us: int) -> None:
        self._start_us = start_us
        self._sums = {d: _Sums() for d in Direction}
        self._buckets: deque[_Bucket] = deque()

    def enter(self, direction: Direction, wire_bytes: int, shares: tuple[Share, ...], now_us: int) -> Entry:
        """Count one datagram of `wire_bytes` (headers included)."""
        entry = Entry(direction, wire_bytes, self._bucket(now_us), shares)
        self._book(entry, 1)
        return entry

    def note_path(self, direction: Direction, *, ipv6: bool, relayed: bool) -> None:
        """Say which way a datagram that is entered went."""
        sums = self._sums[direction]
        sums.ipv6_datagrams += ipv6
        sums.relayed_datagrams += relayed

    def assign(self, entry: Entry, shares: tuple[Share, ...]) -> Entry:
        """Replace an entry's shares, now that its inside is known. The totals stay as they are."""
        self._book(entry, -1)
        entry = Entry(entry.direction, entry.wire_bytes, entry.bucket, shares)
        self._book(entry, 1)
        return entry

    def totals(self, now_us: int) -> WireTotals:
        """Return everything since the start."""
        return WireTotals(
            now_us - self._start_us,
            self._flows(Direction.SENT),
            self._flows(Direction.RECEIVED),
            *(PathFlow(sums.ipv6_datagrams, sums.relayed_datagrams) for sums in self._sums.values()),
        )

    def kbps(self, direction: Direction, cause: Cause | None, *, window_us: int, now_us: int) -> float:
        """Return the mean rate over the last `window_us` (100 ms to 60 s, to 100 ms), all causes for None.

        While the connection is younger than the window, over its age.
        """
        window_us = min(max(window_us, _BUCKET_US), _HISTORY_US)
        newest_outside = (now_us - window_us) // _BUCKET_US
        if now_us - self._start_us < window_us:
            window_us = max(now_us - self._start_us, _BUCKET_US)
            newest_outside = self._start_us // _BUCKET_US - 1
        position = None if cause is None else CAUSES.index(cause)
        count = 0
        for bucket in reversed(self._buckets):
            if bucket.index <= newest_outside:
                break
            counted = bucket.wire_bytes[direction]
            count += sum(counted) if position is None else counted[position]
        return count * 8000 / window_us

    def _flows(self, direction: Direction) -> dict[Cause, Flow]:
        sums = self._sums[direction]
        rows = zip(CAUSES, sums.datagrams, sums.wire_bytes, sums.payload_bytes, strict=True)
        return {cause: Flow(n, wire, payload) for cause, n, wire, payload in rows if n or wire}

    def _bucket(self, now_us: int) -> _Bucket:
        index = now_us // _BUCKET_US
        if not self._buckets or self._buckets[-1].index < index:
            self._buckets.append(_Bucket(index, {d: [0] * len(CAUSES) for d in Direction}))
            while self._buckets[0].index < index - _HISTORY_US // _BUCKET_US:
                self._buckets.popleft()
        return self._buckets[-1]

    def _book(self, entry: Entry, sign: int) -> None:
        sums = self._sums[entry.direction]
        bucket = entry.bucket.wire_bytes[entry.direction]
        shares = entry.shares
        longest = max(range(len(shares)), key=lambda i: (not shares[i].rides, shares[i].weight))
        for i, part in enumerate(_split(entry.wire_bytes, entry.shares, longest)):
            share = entry.shares[i]
            position = CAUSES.index(share.cause)
            sums.datagrams[position] += sign if i == longest else 0
            sums.wire_bytes[position] += sign * part
            sums.payload_bytes[position] += sign * share.payload_bytes
            bucket[position] += sign * part


def _split(total: int, shares: tuple[Share, ...], longest: int) -> list[int]:
    weights = sum(s.weight for s in shares)
    parts = [total * s.weight // weights for s in shares] if weights else [0] * len(shares)
    parts[longest] += total - sum(parts)
    return parts
