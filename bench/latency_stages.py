"""Where the time goes between a frame and its picture: stamps in, stages out. No clock, no I/O; microseconds.

A picture shows a moment between two frames. It can be drawn only when the later one of them has come, so that one's
way is followed: what lies between the shown moment and the stamp of that frame is the interpolation's part. The
stages of a picture add up to its whole latency, to the microsecond.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from fractions import Fraction
from typing import Final

import numpy as np

from mien.encoder.sender import MAX_FILL_TICKS


@dataclass(frozen=True, slots=True)
class Stages:
    """One picture's latency, microseconds each, in the order in which they pass."""

    interpolation: int  # from the shown moment to the frame that is drawn towards
    tracking: int  # from that frame's stamp until its landmarks are found
    coding: int  # fitting, and the range coder's share of a message
    leaving: int  # until the message is full, or a packet of voice takes it, and is handed to the socket
    network: int  # until it has come, opened, at the other side
    playout: int  # until it is its turn
    drawing: int  # until the picture is composited

    @property
    def total(self) -> int:
        """From the shown moment before the camera to the composited picture."""
        return sum(astuple(self))


STAGES: Final = tuple(field.name for field in fields(Stages))


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """When a frame was taken, when its face was found, and when it was coded."""

    stamp_us: int
    tracked_us: int
    coded_us: int


@dataclass(frozen=True, slots=True)
class MessageTimes:
    """When the message that first brings a tick left, and when it came."""

    left_us: int
    came_us: int


class Stopwatch:
    """Collects the stamps of a call's frames and messages by tick, and tells the stages of pictures."""

    def __init__(self) -> None:
        self._frames: dict[int, FrameTimes] = {}
        self._messages: dict[int, MessageTimes] = {}

    def on_frame(self, tick: int, times: FrameTimes) -> None:
        """The frame that a tick stands for was coded."""
        self._frames[tick] = times

    def on_message(self, ticks: range, times: MessageTimes) -> None:
        """A message came. Ticks that came before are not told of again."""
        for tick in ticks:
            self._messages.setdefault(tick, times)

    def stages(self, tick: Fraction, *, render_us: int, composited_us: int) -> Stages | None:
        """Return the stages of a picture of this moment; None where a frame or a message of it is not known.

        A tick that no frame stands for was filled in by the sender, between the frames around it.
        """
        before, after = self._nearest(math.floor(tick), -1), self._nearest(math.ceil(tick), 1)
        if before is None or after is None:
            return None
        message = self._messages.get(after)
        if message is None or message.came_us > render_us:
            return None
        early, late = self._frames[before], self._frames[after]
        part = (tick - before) / (after - before) if after > before else Fraction(1)
        shown_us = early.stamp_us + round((late.stamp_us - early.stamp_us) * part)
        # A packet of voice may take a message in the moment before its frame is said to be coded.
        coded_us = min(late.coded_us, message.left_us)
        return Stages(
            interpolation=late.stamp_us - shown_us,
            tracking=late.tracked_us - late.stamp_us,
            coding=coded_us - late.tracked_us,
            leaving=message.left_us - coded_us,
            network=message.came_us - message.left_us,
            playout=render_us - message.came_us,
            drawing=composited_us - render_us,
        )

    def _nearest(self, tick: int, step: int) -> int | None:
        """Return the nearest tick from here on, going by `step`, that a frame stands for."""
        return next(
            (t for t in range(tick, tick + step * (MAX_FILL_TICKS + 1), step) if t in self._frames), None
        )


@dataclass(frozen=True, slots=True)
class StageSummary:
    """Milliseconds of one stage, or of the whole, over all pictures. Means add up; medians need not."""

    mean_ms: float
    median_ms: float
    p95_ms: float


def summarise(pictures: Sequence[Stages]) -> dict[str, StageSummary]:
    """Return the summary of each stage, and of the `total`. Raises ValueError where there is no picture."""
    if not pictures:
        raise ValueError("no pictures, expected at least one")
    table = np.array([astuple(p) for p in pictures], np.int64)
    columns = dict(zip(STAGES, table.T, strict=True)) | {"total": table.sum(1)}
    return {name: _summary(values) for name, values in columns.items()}


def _summary(values_us: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> StageSummary:
    median_us, p95_us = np.percentile(values_us, [50, 95])
    return StageSummary(
        round(float(values_us.mean()) / 1000, 2),
        round(float(median_us) / 1000, 2),
        round(float(p95_us) / 1000, 2),
    )
