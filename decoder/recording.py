"""A whole log in memory, for looking up the face at any of the source's frames."""

import bisect
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import numpy as np

from mien.protocol.codec import Batch, MessageDecoder
from mien.protocol.errors import WireError
from mien.protocol.log import (
    Damage,
    EventKind,
    EventRecord,
    FramesRecord,
    LogHeader,
    LogReader,
    MessageRecord,
    SourceFrame,
)
from mien.protocol.message import Kind, message_kind
from mien.protocol.scene import SceneMessage
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader

logger = logging.getLogger(__name__)

SECOND_US: Final = 1_000_000
# Between two ticks that are further apart the face is held: a straight line over half a second shows nothing.
MAX_BRIDGE_TICKS: Final = 16
# A pause in a received stream is shown up to this long, so that no log can ask for a video of hours.
MAX_PAUSE_TICKS: Final = 90
MAX_FRAMES_PER_SOURCE_FRAME: Final = 1000


class Track:
    """The states of one stream by tick."""

    def __init__(self) -> None:
        self._ticks: list[int] = []
        self._tracked: list[int] = []  # those of them where a face was seen
        self._states: dict[int, FaceState] = {}
        self._still: set[int] = set()  # the ticks among them whose state holds until the next one

    def __len__(self) -> int:
        return len(self._ticks)

    @property
    def ticks(self) -> list[int]:
        """The ticks that there are, in order."""
        return self._ticks

    def held(self, end_tick: int) -> list[tuple[int, int]]:
        """Return the still ticks, each with how many after it hold its state; the last one's before `end_tick`."""
        following = dict(zip(self._ticks, [*self._ticks[1:], end_tick], strict=True))
        return [(tick, max(0, following[tick] - tick - 1)) for tick in sorted(self._still)]

    def is_tracked(self, tick: int) -> bool:
        """Return whether a face was seen at a tick that there is."""
        return self._states[tick].tracked

    @property
    def untracked(self) -> int:
        """How many ticks say themselves that no face was seen."""
        return len(self._ticks) - len(self._tracked)

    def add(self, batch: Batch) -> None:
        """Take a batch; what is there already stays."""
        for tick, state in enumerate(batch.states, batch.first_tick):
            if tick not in self._states:
                bisect.insort(self._ticks, tick)
                self._states[tick] = state
                if state.tracked:
                    bisect.insort(self._tracked, tick)
                if batch.still:
                    self._still.add(tick)

    def state_at(self, position: Fraction | int) -> FaceState:
        """Return the state at a position in ticks: interpolated between neighbours.

        Over long gaps, from a still face on, and where no face was seen, the last that was seen is held.
        Raises `ValueError` when there is no tick at all.
        """
        if not self._ticks:
            raise ValueError("the track is empty")
        after = bisect.bisect_right(self._ticks, position)
        left_tick = self._ticks[max(after - 1, 0)]
        left = self._states[left_tick]
        if not left.tracked:
            return self._held(left_tick)
        if position <= left_tick or after == len(self._ticks):
            return left
        right_tick = self._ticks[after]
        right = self._states[right_tick]
        if right_tick - left_tick > MAX_BRIDGE_TICKS or not right.tracked or left_tick in self._still:
            return left
        weight = np.float32((position - left_tick) / (right_tick - left_tick))
        between = left.coefficients() + (right.coefficients() - left.coefficients()) * weight
        return FaceState.from_coefficients(between)

    def _held(self, tick: int) -> FaceState:
        """Return the newest state before an untracked tick where a face was seen (its own if there is none)."""
        before = bisect.bisect_left(self._tracked, tick)
        state = self._states[self._tracked[before - 1]] if before else self._states[tick]
        return FaceState(state.pose, state.expression, tracked=False)


@dataclass(slots=True, eq=False)
class Segment:
    """One stream of a log: from a stream header to the next."""

    stream: StreamHeader
    track: Track = field(default_factory=Track)
    frames: list[SourceFrame] = field(default_factory=list)
    messages: int = 0
    message_bytes: int = 0
    bad_messages: int = 0
    # Its scene layer's messages (`mien.protocol.scene`), each with the newest tick that was known before it.
    scene: list[tuple[int, bytes]] = field(default_factory=list)
    problem: str | None = None  # why none of its messages can be read

    def ticks(self) -> tuple[int, int]:
        """Return how many ticks the messages speak of, and how many of them without a face."""
        coded = [f.tick for f in self.frames if f.tick is not None]
        end = max([*coded[-1:], *self.track.ticks[-1:], -1]) + 1
        held = self.track.held(end)
        without = sum(count for tick, count in held if not self.track.is_tracked(tick))
        return len(self.track) + sum(count for _, count in held), self.track.untracked + without

    def source_frames(self) -> list[tuple[int, Fraction]]:
        """Return (time in us from the segment's start, position in ticks) of every frame of the source.

        A frame that was coded is at its tick; one that was not lies between its neighbours as its time does.
        Without the source's times (a received log) every tick is a frame, and long pauses are cut short.
        """
        if not self.frames:
            return self._ticks_as_frames()
        known = [(f.time_us, Fraction(f.tick)) for f in self.frames if f.tick is not None]
        start_us = self.frames[0].time_us
        return [
            (
                f.time_us - start_us,
                self._position_at(known, f.time_us) if f.tick is None else Fraction(f.tick),
            )
            for f in self.frames
        ]

    def resampled(self, rate: Fraction) -> list[tuple[int, Fraction]]:
        """Return (time, position) as `source_frames` does, but at `rate` frames per second.

        Raises `WireError` for frames that are so far apart that no source has them.
        """
        known = self.source_frames()
        if not known:
            return []
        end_us = known[-1][0] + int(SECOND_US / self.stream.tick_rate)
        if end_us * rate / SECOND_US > MAX_FRAMES_PER_SOURCE_FRAME * len(known):
            raise WireError(
                f"{len(known)} frames of the source are spread over {end_us // SECOND_US} seconds"
            )
        times = (int(n * SECOND_US / rate) for n in range(int(end_us * rate / SECOND_US)))
        return [(time_us, self._position_at(known, time_us)) for time_us in times]

    def _position_at(self, known: list[tuple[int, Fraction]], time_us: int) -> Fraction:
        """Return the position at a time, from (time, position) of frames before and after."""
        after = bisect.bisect_right(known, time_us, key=lambda k: k[0])
        if after == 0:
            return known[0][1] if known else Fraction(0)
        left_us, left = known[after - 1]
        if after == len(known):
            return left + (time_us - left_us) * self.stream.tick_rate / SECOND_US
        right_us, right = known[after]
        return left + (right - left) * (time_us - left_us) / (right_us - left_us)

    def _ticks_as_frames(self) -> list[tuple[int, Fraction]]:
        out: list[tuple[int, Fraction]] = []
        time_us = Fraction(0)
        for at, tick in enumerate(self.track.ticks):
            following = self.track.ticks[at + 1] if at + 1 < len(self.track) else tick + 1
            for n in range(min(following - tick, MAX_PAUSE_TICKS)):
                out.append((int(time_us), Fraction(tick + n)))
                time_us += SECOND_US / self.stream.tick_rate
        return out


@dataclass(slots=True)
class CarrierUse:
    """What came by one carrier, coefficients and scene."""

    messages: int = 0
    message_bytes: int = 0


@dataclass(slots=True, eq=False)
class Recording:
    """What a log holds."""

    header: LogHeader
    segments: list[Segment]
    damage: Damage | None
    ended: bool  # the recorder finished
    carriers: dict[int, CarrierUse] = field(default_factory=dict)  # by the number; only where the log says so


def read_recording(reader: LogReader) -> Recording:
    """Read a log up to its end or damage. Messages that do not decode are counted in their segment."""
    segments: list[Segment] = []
    decoder = _begin(segments, reader.header.stream)
    ended = False
    carriers: dict[int, CarrierUse] = {}
    carrier: CarrierUse | None = None
    for record in reader.records():
        segment = segments[-1]
        if carrier is not None and isinstance(record, MessageRecord):
            carrier.messages += 1
            carrier.message_bytes += len(record.data)
        match record:
            case MessageRecord() if message_kind(record.data) == Kind.SCENE:
                _add_scene(segment, record.data)
            case MessageRecord():
                segment.messages += 1
                segment.message_bytes += len(record.data)
                try:
                    if decoder is not None:
                        segment.track.add(decoder.decode(record.data))
                except WireError:
                    segment.bad_messages += 1
            case FramesRecord():
                segment.frames += _growing(segment.frames, record.frames)
            case EventRecord(event=EventKind.STREAM):
                try:
                    decoder = _begin(segments, StreamHeader.parse(record.data))
                except WireError as error:
                    logger.warning("a stream of the log cannot be read: %s", error)
            case EventRecord(event=EventKind.CARRIER) if len(record.data) == 1:
                carrier = carriers.setdefault(record.data[0], CarrierUse())
            case EventRecord(event=EventKind.END):
                ended = True
    return Recording(reader.header, segments, reader.damage, ended, carriers)


def _begin(segments: list[Segment], stream: StreamHeader) -> MessageDecoder | None:
    """Append a segment; return its decoder, or None (the segment says why) for codec tables of another version."""
    try:
        decoder, problem = MessageDecoder(stream), None
    except WireError as error:
        decoder, problem = None, str(error)
    segments.append(Segment(stream, problem=problem))
    return decoder


def _add_scene(segment: Segment, message: bytes) -> None:
    """Keep a scene message; they are decoded when they are drawn."""
    try:
        if SceneMessage.parse(message).stream == segment.stream.stream:
            segment.scene.append((segment.track.ticks[-1] if len(segment.track) else 0, message))
            return
    except WireError:
        pass
    segment.bad_messages += 1


def _growing(so_far: list[SourceFrame], frames: tuple[SourceFrame, ...]) -> Iterator[SourceFrame]:
    """Give the frames whose times and ticks go forward; a log that says otherwise is not believed."""
    last_us = so_far[-1].time_us if so_far else -1
    last_tick = next((f.tick for f in reversed(so_far) if f.tick is not None), -1)
    for frame in frames:
        if frame.time_us <= last_us or (frame.tick is not None and frame.tick <= last_tick):
            continue
        last_us = frame.time_us
        last_tick = last_tick if frame.tick is None else frame.tick
        yield frame
