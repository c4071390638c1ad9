"""What is fuzzed: one parser, its samples, and what it must not do."""

from collections.abc import Callable
from dataclasses import dataclass


class Broken(Exception):
    """A parser accepted what it should not have, or does not stand behind what it accepted."""


@dataclass(frozen=True, slots=True)
class Target:
    """One parser. `check` raises `WireError` to refuse, returns to accept; anything else is a finding."""

    name: str
    about: str
    samples: Callable[[], list[bytes]]
    check: Callable[[bytes], None]
    cost: int = 1  # how many times fewer inputs than a cheap parser's

    def scaled(self, count: int) -> int:
        """Return how many mutations this target gets of `count`."""
        return -(-count // self.cost)


def same(data: bytes, again: bytes) -> None:
    """Raise `Broken` unless what was accepted is written as it was read."""
    if data != again:
        raise Broken(f"accepted, but written again it is {again[:64].hex()}")
