"""Which earlier frames a message repeats behind its own, for links that lose packets.

A lost message takes its share of time with it. Where the receiver reports loss, each message ends with a few
frames of earlier ones, chosen coarsely and told as differences from its first frame: they are close to it, so a
repeat costs little. With a lag the repeats reach back over several messages: what a burst of losses took
comes again when the burst is over. The idea is that of redundant audio (RFC 2198; Bolot, Fosse-Parisis, Towsley:
"Adaptive FEC-based error control for Internet telephony", 1999).
"""

from dataclasses import dataclass
from typing import Final, Self

from mien.protocol.errors import WireError

REPEAT_STRIDE: Final = 2  # ticks from one repeat to the next: what lies between is interpolated
LAG_TICKS: Final = 6  # a lag is counted in so many ticks
MAX_REPEATS: Final = 8
MAX_STRIDE: Final = 4
MAX_LAG: Final = 7


@dataclass(frozen=True, slots=True)
class Repeats:
    """`count` frames, `stride` ticks apart; the first told lies 1 + 6 `lag` ticks before the message's own, the others
    before it.

    On the wire one byte: count - 1 in the high three bits, stride - 1 in the next two, lag in the low three.
    """

    count: int
    stride: int = REPEAT_STRIDE
    lag: int = 0

    def __post_init__(self) -> None:
        if not (
            1 <= self.count <= MAX_REPEATS and 1 <= self.stride <= MAX_STRIDE and 0 <= self.lag <= MAX_LAG
        ):
            raise WireError(
                f"{self.count} repeats in strides of {self.stride} with lag {self.lag}, expected 1 to "
                f"{MAX_REPEATS} in strides of 1 to {MAX_STRIDE} with lag 0 to {MAX_LAG}"
            )

    @property
    def reach(self) -> int:
        """How many ticks before the first new frame the oldest repeat lies."""
        return 1 + LAG_TICKS * self.lag + (self.count - 1) * self.stride

    @property
    def offsets(self) -> range:
        """The repeats' ticks relative to the first new frame's: negative, the newest first, as they are told."""
        newest = -1 - LAG_TICKS * self.lag
        return range(newest, newest - self.count * self.stride, -self.stride)

    def pack(self) -> int:
        """Return the byte."""
        return (self.count - 1) << 5 | (self.stride - 1) << 3 | self.lag

    @classmethod
    def unpack(cls, byte: int) -> Self:
        """Read the byte; every one means something."""
        return cls((byte >> 5) + 1, (byte >> 3 & 3) + 1, byte & 7)
