"""A source around another one: what it does not change is the other's."""

from collections.abc import Iterator
from fractions import Fraction

from mien.encoder.capture import Frame, Source


class WrappedSource:
    """Another source's frames and figures; subclass it and change what is to differ."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def width(self) -> int:
        """Pixels."""
        return self._source.width

    @property
    def height(self) -> int:
        """Pixels."""
        return self._source.height

    @property
    def rate(self) -> Fraction:
        """Frames per second."""
        return self._source.rate

    @property
    def live(self) -> bool:
        """Whether frames come at their own time."""
        return self._source.live

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self._source.name

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._source)

    def close(self) -> None:
        """Close the other source."""
        self._source.close()
