"""The one clock of a call: never jumps, in microseconds, the same for all processes of a machine."""

import time


def now_us() -> int:
    """Return the monotonic time in microseconds."""
    return time.monotonic_ns() // 1000
