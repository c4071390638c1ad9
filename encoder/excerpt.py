"""A part of a source as a source of its own."""

from collections.abc import Iterator

from mien.encoder.capture import Frame, Source


class Excerpt:
    """The frames from `start_s` on and before `end_s`; their times and numbers count from 0."""

    def __init__(self, whole: Source, start_s: float, end_s: float) -> None:
        self._whole, self._start_us, self._end_us = whole, round(start_s * 1e6), round(end_s * 1e6)
        self.width, self.height, self.rate = whole.width, whole.height, whole.rate
        self.live, self.name = whole.live, whole.name

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        for frame in self._whole:
            if frame.timestamp_us >= self._end_us:
                return
            if frame.timestamp_us >= self._start_us:
                yield Frame(frame.rgb, frame.timestamp_us - self._start_us, index)
                index += 1

    def close(self) -> None:
        """Close the whole source."""
        self._whole.close()
