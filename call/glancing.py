"""Compares one's own avatar with the camera on a thread of its own, so that no frame waits for it."""

import logging
import queue
import threading
import time
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.encoder.alignment import AligningFitter, Fitted, Glances
from mien.protocol.errors import MienError

logger = logging.getLogger(__name__)

STOP_S: Final = 3.0


class Glancer:
    """Lets a fitter learn from some frames. At most one waits; what comes while it is busy is left out."""

    def __init__(self, aligning: AligningFitter, size: tuple[int, int]) -> None:
        """`size`: width and height of the fitter's view."""
        self._aligning, self._size = aligning, size
        self._glances = Glances()
        self._waiting: queue.Queue[tuple[NDArray[np.uint8], Fitted] | None] = queue.Queue(1)
        self._thread = threading.Thread(target=self._run, name="mien glance", daemon=True)
        self._thread.start()

    def offer(self, rgb: NDArray[np.uint8], timestamp_us: int) -> None:
        """Take a frame, RGB uint8 [h, w, 3], right after its landmarks were fitted."""
        fitted = self._aligning.last
        if fitted is None or self._waiting.full() or not self._glances.due(timestamp_us):
            return
        small = np.asarray(cv2.resize(rgb, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        self._waiting.put((small, fitted))

    def stop(self) -> None:
        """Compare no more, and free the view. What is being compared is waited for, not long."""
        try:
            self._waiting.get_nowait()
        except queue.Empty:
            pass
        self._waiting.put(None)
        self._thread.join(STOP_S)

    def _run(self) -> None:
        try:
            while (waiting := self._waiting.get()) is not None:
                before = time.monotonic_ns()
                self._aligning.compare(*waiting)
                self._glances.took((time.monotonic_ns() - before) // 1000)
        except MienError as error:
            logger.warning("the avatar is not laid over the camera's picture any more: %s", error)
            while self._waiting.get() is not None:
                pass  # the tracker is believed
        finally:
            self._aligning.close()
