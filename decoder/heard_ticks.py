"""Which of the newest ticks have been heard of, in their own message or repeated in another. Integers only."""

from typing import Final

REMEMBERED: Final = 128  # ticks, four seconds at 30 Hz
_ALL: Final = (1 << REMEMBERED) - 1


class HeardTicks:
    """Remembers the newest ticks as bits of one number."""

    def __init__(self) -> None:
        self._newest: int | None = None
        self._bits = 0  # bit n: the tick n before the newest one

    def __contains__(self, tick: int) -> bool:
        """Whether a tick is known to have been heard of. Of one that is too long ago nothing is known."""
        return (
            self._newest is not None and tick <= self._newest and self._bits >> self._newest - tick & 1 == 1
        )

    def add(self, tick: int) -> None:
        """Take a tick."""
        if self._newest is None:
            self._newest = tick
        ahead = tick - self._newest
        if ahead > 0:
            self._bits = (self._bits << min(ahead, REMEMBERED)) & _ALL
            self._newest, ahead = tick, 0
        if -ahead < REMEMBERED:
            self._bits |= 1 << -ahead

    def add_up_to(self, tick: int) -> None:
        """Take all ticks after the newest one, as far as this one: nothing was to be said about them."""
        if self._newest is not None and tick > self._newest:
            ahead = min(tick - self._newest, REMEMBERED)
            self._bits = ((self._bits + 1 << ahead) - 1) & _ALL
            self._newest = tick

    def before(self, tick: int) -> int | None:
        """Return the newest tick before this one that was heard of; None where that is too long ago."""
        if self._newest is None:
            return None
        skipped = max(self._newest - tick + 1, 0)
        older = self._bits >> skipped
        return None if not older else self._newest - skipped - ((older & -older).bit_length() - 1)

    @property
    def whole(self) -> bool:
        """Whether nothing is missing between the ticks that are remembered."""
        return self._bits & (self._bits + 1) == 0
