"""One small interface over the face trackers, and what they share. `tracker_choice` opens one."""

import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.protocol.stream import TrackerId

logger = logging.getLogger(__name__)

MAX_FACES: Final = 2  # two are enough to know that there are several
CROWD_CHECK_US: Final = 500_000


@dataclass(frozen=True, slots=True, eq=False)
class Tracking:
    """The faces of one frame.

    Each is float32 [478, 3] in image space (see `mien.protocol`), the largest face first. At most
    `MAX_FACES` are looked for.
    """

    faces: tuple[NDArray[np.float32], ...]


class Tracker(Protocol):
    """What every tracker offers. Not safe to share between threads; any one thread may own it."""

    @property
    def tracker_id(self) -> TrackerId:
        """Which models measured the face."""

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        """Find the faces in `rgb`, uint8 [height, width, 3].

        `timestamp_us` says how much time has passed between calls; a step backwards (another clip) is
        taken as one frame. A still tracker ignores it.
        """

    def close(self) -> None:
        """Free the tracker's memory. It cannot be used afterwards."""


class CrowdWatch:
    """Decides when to look for a second face, which costs more than following the first.

    Alone, every `CROWD_CHECK_US`; while several faces are there, on every frame. Time is an argument.
    """

    def __init__(self) -> None:
        self._next_us: int | None = None
        self._last_us = 0
        self._crowd = False

    def due(self, timestamp_us: int) -> bool:
        """Say whether this frame should be searched for several faces."""
        backwards = timestamp_us < self._last_us
        self._last_us = timestamp_us
        return self._crowd or self._next_us is None or backwards or timestamp_us >= self._next_us

    def saw(self, count: int, timestamp_us: int) -> None:
        """Take in how many faces a search found."""
        self._crowd = count > 1
        self._next_us = timestamp_us + CROWD_CHECK_US


def largest_first(faces: list[NDArray[np.float32]]) -> tuple[NDArray[np.float32], ...]:
    """Sort faces, float32 [478, 3] each, by the area of their bounding boxes."""
    return tuple(sorted(faces, key=lambda face: -float(np.prod(np.ptp(face[:, :2], axis=0)))))


_STDERR: Final = 2
_stderr_lock = threading.RLock()


@contextmanager
def native_stderr_to_log() -> Iterator[None]:
    """Send what native code writes to standard error meanwhile to the log, at DEBUG.

    MediaPipe prints a dozen lines when it starts, around every logging setting. For moments only: the
    file descriptor belongs to the whole process.
    """
    with _stderr_lock, tempfile.TemporaryFile() as caught:
        try:
            kept = os.dup(_STDERR)
        except OSError:  # standard error is closed
            yield
            return
        os.dup2(caught.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            caught.seek(0)
            for line in caught.read().decode(errors="replace").splitlines():
                logger.debug("mediapipe: %s", line)
