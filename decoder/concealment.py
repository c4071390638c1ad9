"""What to show of a face that nothing is known about: hold it, then let it rest and blink.

The pose stays as it was; the expression is held, then eased to the neutral one, which blinks now and then so
that a connection that is gone does not look like a frozen picture. All of it follows from the age alone.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.protocol.state import FaceState

SECOND_US: Final = 1_000_000
BLINK_SLOT_US: Final = 5_000_000  # one blink in each
BLINK_CLOSE_US: Final = 80_000
BLINK_SHUT_US: Final = 50_000
BLINK_OPEN_US: Final = 140_000


def conceal(
    held: FaceState, age_us: int, *, hold_us: int, ease_us: int, blink: NDArray[np.float32]
) -> FaceState:
    """Return what to show `age_us` after the last that is known, `held`. `blink`: float32 [30], lids shut."""
    if age_us <= hold_us:
        return held
    rest_us = age_us - hold_us
    amount = np.float32(1 - smooth(rest_us, ease_us))
    lids = np.float32(blink_closure(rest_us - ease_us))
    return FaceState(held.pose, held.expression * amount + blink * lids, held.tracked)


def smooth(elapsed_us: int, length_us: int) -> float:
    """Rise from 0 to 1 over `length_us`, flat at both ends."""
    if elapsed_us >= length_us:
        return 1.0
    u = max(elapsed_us, 0) / length_us
    return u * u * (3.0 - 2.0 * u)


def blink_closure(resting_us: int) -> float:
    """Return how far the lids are shut, 0 to 1, after `resting_us` of rest (negative: not resting yet)."""
    slot = resting_us // BLINK_SLOT_US
    since_us = resting_us - _blink_start_us(slot)
    if resting_us < 0 or since_us < 0:
        return 0.0
    if since_us < BLINK_CLOSE_US:
        return smooth(since_us, BLINK_CLOSE_US)
    return 1.0 - smooth(since_us - BLINK_CLOSE_US - BLINK_SHUT_US, BLINK_OPEN_US)


def _blink_start_us(slot: int) -> int:
    """Blinks come one in five seconds, not like clockwork: slot n has its own by a hash of n (Knuth's)."""
    scattered = (slot + 1) * 2_654_435_761 % (1 << 32)
    return slot * BLINK_SLOT_US + SECOND_US + scattered * 3 * SECOND_US // (1 << 32)
