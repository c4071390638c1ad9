"""A face that was tracked before, played as if it were before a camera: so that a call costs no tracking.

What crosses the wire is the same as with a live tracker. Two trackers and two renderers in real time would be more
than two cores can do.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.encoder.capture import Frame, Source
from mien.encoder.scene_encoder import scene_size
from mien.encoder.tracker import Tracker, Tracking
from mien.protocol.errors import MienError
from mien.protocol.stream import TrackerId


@dataclass(frozen=True, slots=True, eq=False)
class Take:
    """What a tracker found in each frame of a clip. Played forwards, then backwards, and so on: without a jump.

    `pictures`: the frames, as small as a scene layer has them, RGB uint8 [h, w, 3] each.
    """

    trackings: tuple[Tracking, ...]
    pictures: tuple[NDArray[np.uint8], ...]
    width: int
    height: int
    rate: Fraction
    tracker_id: TrackerId

    @classmethod
    def of(cls, source: Source, tracker: Tracker, *, max_frames: int) -> "Take":
        """Track a source to its end, as fast as it goes. Raises `MienError` where there is hardly a face in it."""
        size = scene_size(source.width, source.height)
        pictures, trackings = [], []
        for frame in islice(source, max_frames):
            trackings.append(tracker.track(frame.rgb, frame.timestamp_us))
            small = cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA)
            pictures.append(np.asarray(small, np.uint8))
        faces = sum(len(t.faces) == 1 for t in trackings)
        if faces < 2 or faces < len(trackings) / 2:
            raise MienError(
                f"{source.name}: one face in {faces} of {len(trackings)} frames, too few for a call"
            )
        return cls(
            tuple(trackings), tuple(pictures), source.width, source.height, source.rate, tracker.tracker_id
        )

    def at(self, number: int) -> Tracking:
        """Return what was found in the frame that is played at a position, counted without end."""
        return self.trackings[self._place(number)]

    def picture_at(self, number: int) -> NDArray[np.uint8]:
        """Return that frame, RGB uint8 [height, width, 3], coarse."""
        size = self.width, self.height
        large = cv2.resize(self.pictures[self._place(number)], size, interpolation=cv2.INTER_NEAREST)
        return np.asarray(large, np.uint8)

    def _place(self, number: int) -> int:
        last = len(self.trackings) - 1
        place = number % (2 * last)
        return min(place, 2 * last - place)

    def number_at(self, timestamp_us: int) -> int:
        """Return which position is played at a time."""
        return round(timestamp_us * self.rate / 1_000_000)


class PlayedSource:
    """A `Source` at the take's rate and of its size. Its pictures are empty, unless they are to be seen.

    `seen_from` is the position of the take's picture that it begins with.
    """

    live = False

    def __init__(
        self, take: Take, *, seconds: float, seen_from: int | None = None, name: str = "a tracked face"
    ) -> None:
        self._take = take
        self._seen_from = seen_from
        self._count = round(seconds * take.rate)
        self._closed = threading.Event()
        self.name = name

    @property
    def width(self) -> int:
        """Pixels."""
        return self._take.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self._take.height

    @property
    def rate(self) -> Fraction:
        """Frames per second."""
        return self._take.rate

    def __iter__(self) -> Iterator[Frame]:
        empty = np.zeros((self.height, self.width, 3), np.uint8)
        for index in range(self._count):
            if self._closed.is_set():
                return
            rgb = empty if self._seen_from is None else self._take.picture_at(self._seen_from + index)
            yield Frame(rgb, round(index * 1_000_000 / self.rate), index)

    def close(self) -> None:
        """End a running iteration."""
        self._closed.set()


class PlayedTracker:
    """A `Tracker` that looks at the time only. `first` is the position that it begins at."""

    def __init__(self, take: Take, *, first: int = 0) -> None:
        self._take = take
        self._first = first
        self.tracker_id = take.tracker_id

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        """Return what was found in the frame of this time."""
        return self._take.at(self._first + self._take.number_at(timestamp_us))

    def close(self) -> None:
        """Nothing to free."""
