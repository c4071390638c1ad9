"""Tells a pause from an end: also a side with nothing to say answers a STUN check every few seconds.

No I/O and no clock: time is an argument, in microseconds.
"""

from enum import Enum
from typing import Final

SILENT_US: Final = 4_000_000  # without anything from the other side: say so
VANISHED_US: Final = 15_000_000  # without a single datagram: end the call
CHECK_US: Final = 7_000_000  # an answer to a STUN check comes at least this often
LEFT_US: Final = 3_000_000  # the same, where signalling says that the other side left


class Silence(Enum):
    """What a look at the time has found."""

    NONE = 0
    BEGUN = 1  # told once for each pause
    VANISHED = 2


class Liveness:
    """Knows when the other side last said anything, and when its last datagram came."""

    def __init__(self, now_us: int) -> None:
        self._heard_us = now_us
        self._datagrams = 0
        self._datagram_us = now_us
        self._left_us: int | None = None
        self._silent = False

    def start(self, now_us: int) -> None:
        """The connection stands."""
        self._datagram_us = now_us

    def heard(self, now_us: int) -> bool:
        """Take in that a message, sound or picture came; return whether that ends a pause."""
        self._heard_us = now_us
        was_silent, self._silent = self._silent, False
        return was_silent

    def left(self, now_us: int) -> None:
        """Take in that signalling says the other side left."""
        self._left_us = now_us

    def look(self, now_us: int, *, datagrams: int, expects_messages: bool) -> Silence:
        """Judge. `datagrams`: received so far; `expects_messages`: more than reports has come so far.

        A side without face, voice and video has a right to be silent between its reports.
        """
        if datagrams != self._datagrams:
            self._datagrams, self._datagram_us = datagrams, now_us
        silent_us, dead_us = now_us - self._heard_us, now_us - self._datagram_us
        left = self._left_us is not None and now_us - self._left_us > LEFT_US
        if dead_us > VANISHED_US or (left and dead_us > LEFT_US and (dead_us > CHECK_US or expects_messages)):
            return Silence.VANISHED
        if silent_us > SILENT_US and not self._silent and expects_messages:
            self._silent = True
            return Silence.BEGUN
        return Silence.NONE
