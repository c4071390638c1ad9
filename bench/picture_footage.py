"""A clip as the picture bench uses it: its first part is enrolled, of the rest a part is drawn and compared."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import av

from mien.bench.contact_sheet import spread
from mien.bench.picture_metrics import Picture, compared
from mien.encoder.capture import Frame, Source, open_source
from mien.protocol.errors import MienError

ENROLMENT_SHARE: Final = 0.6
LEAST_FRAMES: Final = 3  # each that is compared has one before and one after it
# A source smaller than this share of a size has not the detail that is compared there.
DETAIL_SHARE: Final = 0.9


@dataclass(frozen=True, slots=True)
class Sampling:
    """How much of a clip is looked at.

    Enrolment sees its first 60 %, at most `enrol_s` seconds of it; at most `test_s` seconds of the rest are
    coded. Pictures are compared at every `step`th frame, at most at `moments` of them, evenly spread; those
    metrics that take long at every `deep`th of these.
    """

    enrol_s: float
    test_s: float
    step: int
    moments: int
    deep: int

    def chosen(self, frames: int) -> list[int]:
        """Return the numbers of the frames that are compared; each has a frame before and after it."""
        inner = range(1, frames - 1)[:: self.step]
        return [inner[i] for i in spread(self.moments, len(inner))]

    @property
    def text(self) -> str:
        """All of it in one string, for telling rows of different runs apart."""
        return ",".join(f"{name}={value:g}" for name, value in asdict(self).items())


QUICK: Final = Sampling(enrol_s=12, test_s=4, step=1, moments=16, deep=8)
FULL: Final = Sampling(enrol_s=600, test_s=30, step=3, moments=300, deep=10)


class Part:
    """Some frames of a source, as a source."""

    live = False

    def __init__(self, source: Source, frames: range) -> None:
        self.width, self.height, self.rate, self.name = source.width, source.height, source.rate, source.name
        self._source, self._frames = source, frames

    def __iter__(self) -> Iterator[Frame]:
        return islice(iter(self._source), self._frames.start, self._frames.stop)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class Footage:
    """The part of a clip that is coded, in memory: a source that can be looked at again and again."""

    live = False

    def __init__(self, part: Part) -> None:
        """Decode it. Raises `MienError` where there are too few frames."""
        self.width, self.height, self.rate, self.name = part.width, part.height, part.rate, part.name
        self._frames = list(part)
        if len(self._frames) < LEAST_FRAMES:
            raise MienError(f"{self.name} is too short")

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)

    def close(self) -> None:
        """Nothing is open."""

    def has_detail(self, size_px: int) -> bool:
        """Return whether pictures of this size can be compared with it."""
        return max(self.width, self.height) >= DETAIL_SHARE * size_px

    def at(self, size_px: int) -> list[Picture]:
        """Return the frames at the square size at which pictures are compared."""
        return [compared(frame.rgb, size_px) for frame in self._frames]


def divide(clip: Path, sampling: Sampling) -> tuple[Part, Footage]:
    """Return the part of a clip that is enrolled, and the part that is coded. Raises `MienError`."""
    total, source = count_frames(clip), open_source(str(clip))
    cut = int(ENROLMENT_SHARE * total + 1e-9)
    enrolled = range(min(cut, max(1, round(sampling.enrol_s * source.rate))))
    coded = range(cut, min(total, cut + max(LEAST_FRAMES, round(sampling.test_s * source.rate))))
    with closing(open_source(str(clip))) as again:
        return Part(source, enrolled), Footage(Part(again, coded))


def count_frames(clip: Path) -> int:
    """Return how many frames a clip has: as its header says, else counted."""
    try:
        with av.open(str(clip)) as container:
            if count := container.streams.video[0].frames:
                return int(count)
    except (OSError, IndexError):
        pass  # whoever opens it next says what is wrong
    with closing(open_source(str(clip))) as source:
        return sum(1 for _ in source)


def shown_moments(chosen: Sequence[int], count: int) -> list[int]:
    """Return which of the compared frames are kept as pictures."""
    return [chosen[i] for i in spread(count, len(chosen))]
