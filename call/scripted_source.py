"""A source whose lens can be covered, and what a script does at which time of a call: for rehearsals and tests."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from mien.encoder.capture import Frame, Source
from mien.encoder.wrapped_source import WrappedSource
from mien.protocol.errors import MienError

ACTS: Final = ("cover", "uncover", "show", "hide", "mute", "unmute", "quit")


class CoverableSource(WrappedSource):
    """Another source's frames; black ones while `covered` is true, as with a thumb on the lens."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.covered = False  # set from any thread

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._source:
            if self.covered:
                frame = Frame(np.zeros_like(frame.rgb), frame.timestamp_us, frame.index)
            yield frame


@dataclass(frozen=True, slots=True)
class Act:
    """One line of a script: `verb` of `ACTS`, `seconds` after the connection stood."""

    seconds: float
    verb: str


def parse_script(text: str) -> tuple[Act, ...]:
    """Read "5:cover 10:uncover 12:quit". Raises `MienError`."""
    acts = []
    for word in text.split():
        time, _, verb = word.partition(":")
        try:
            seconds = float(time)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < 86_400 or verb not in ACTS:
            raise MienError(f"script says {word!r:.40}, expected SECONDS:VERB with one of {', '.join(ACTS)}")
        acts.append(Act(seconds, verb))
    return tuple(sorted(acts, key=lambda act: act.seconds))
