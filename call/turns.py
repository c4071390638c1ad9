"""Short turns for the threads of a call."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Final

SWITCH_INTERVAL_S: Final = 0.0005


@contextlib.contextmanager
def short_turns() -> Iterator[None]:
    """Let threads take turns in Python every half millisecond meanwhile.

    Loop, tracker, renderer and film share one interpreter. By default a thread that comes back from native code
    waits up to 5 ms for its turn, many times a frame: on a busy machine that halves the frame rate.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
