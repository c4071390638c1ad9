"""Seeded damage to bytes: what a hostile or broken sender might send."""

import random
from collections.abc import Callable, Sequence
from typing import Final

EXTREME_BYTES: Final = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)
MAX_GROWTH: Final = 2048  # bytes that one mutation may add

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def mutate(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """Return one of `samples` with 1 to 4 mutations; now and then bytes from nowhere."""
    if rng.random() < 0.02:
        return rng.randbytes(rng.choice([0, 1, 2, 3, 7, 16, 60, 200, 1100]))
    data = bytearray(rng.choice(samples))
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])):
        rng.choice(MUTATIONS)(rng, data, samples)
    return bytes(data)


def _place(rng: random.Random, data: bytearray) -> int:
    """Return an index; the first bytes, where lengths and kinds stand, come up more often."""
    return rng.randrange(min(len(data), rng.choice([8, 64, len(data)]))) if data else 0


def _flip_bit(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    if data:
        data[_place(rng, data)] ^= 1 << rng.randrange(8)


def _set_byte(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    if data:
        data[_place(rng, data)] = rng.choice([*EXTREME_BYTES, rng.randrange(256)])


def _set_number(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    size = rng.choice([2, 4, 8])
    value = rng.choice([0, 1, (1 << 8 * size) - 1, 1 << 8 * size - 1, rng.randrange(1 << 8 * size)])
    at = _place(rng, data)
    data[at : at + size] = value.to_bytes(size, "big")


def _delete(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    at = _place(rng, data)
    del data[at : at + rng.choice([1, 2, 4, rng.randrange(1, 64)])]


def _insert(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    at = _place(rng, data)
    data[at:at] = rng.randbytes(rng.choice([1, 2, 4, rng.randrange(1, 64)]))


def _repeat(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    start = _place(rng, data)
    piece = bytes(data[start : start + rng.randrange(1, 65)])
    times = rng.choice([1, 2, min(64, MAX_GROWTH // max(len(piece), 1))])
    data[start:start] = piece * times


def _cut(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    if data:
        del data[rng.randrange(len(data)) :]


def _splice(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    other = rng.choice(samples)
    at = rng.randrange(len(data) + 1)
    data[at:] = other[min(at, len(other)) :]


MUTATIONS: Final[tuple[Mutation, ...]] = (
    _flip_bit,
    _flip_bit,
    _set_byte,
    _set_byte,
    _set_number,
    _delete,
    _insert,
    _repeat,
    _cut,
    _splice,
)
