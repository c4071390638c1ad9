"""Lets a voice be heard when the face that says it is seen. No I/O and no clock: time is an argument.

The sender knows when each frame and each sound was taken, on one clock, and says so in a `VoiceClock`: at which RTP
timestamp of its voice a tick was taken. The receiver knows when it shows a tick, and when it plays a timestamp; so it
knows by how much one is ahead of the other. The voice waits for the face, as far as `MOST_HELD_BACK_US` of the voice's
playout; and where the voice itself has to wait longer, for its jitter, the face waits for the voice.
"""

from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from statistics import median
from typing import Final, Protocol

import numpy as np

from mien.protocol.control import VoiceClock

RATE_HZ: Final = 48_000
SECOND_US: Final = 1_000_000
STAMPS: Final = 30  # of frames, by whose median the ticks lie on the clock
SOUNDS: Final = 5  # looks at the voice's timestamps, the same; one of them may be a packet ahead
DRIFT_US: Final = 5_000  # from where on the other side is told anew,
TOLD_EVERY_US: Final = 3_600_000_000  # and at least so often, because timestamps wrap
TOLD_MOST_EVERY_US: Final = 2_000_000
FLOOR_STEP_US: Final = 5_000  # changes of the voice's wait that the face follows
FLOOR_EVERY_US: Final = 1_000_000  # how often, downwards
SMOOTHED_PICTURES: Final = 16
MAX_SAMPLES: Final = 10_000
LONG_GAP_US: Final = 200_000  # between two pictures: nothing to learn from


class VoiceClockTeller:
    """The sender's part: when to tell the other side what."""

    def __init__(self) -> None:
        self._zeros_us: deque[int] = deque(maxlen=STAMPS)  # when tick 0 was taken, by each frame
        self._sounds_us: deque[int] = deque(maxlen=SOUNDS)
        self._newest = -1
        self._stream: int | None = None
        self._told_us = 0
        self._told_apart_us: int | None = None  # by how much tick 0 was taken after timestamp 0, as was told

    def note_frame(self, stream: int, tick: int, stamp_us: int, tick_rate: Fraction) -> None:
        """Take in that a stream's tick was taken at a time."""
        if stream != self._stream:
            self._zeros_us.clear()
            self._stream, self._told_apart_us, self._newest = stream, None, -1
        if tick > self._newest:
            self._newest = tick
            self._zeros_us.append(stamp_us - _media_us(tick, tick_rate))

    def due(self, zero_timestamp_us: int | None, tick_rate: Fraction, now_us: int) -> VoiceClock | None:
        """Return what is to be said now, if anything.

        `zero_timestamp_us`: when the sound at RTP timestamp 0 would have been made, on the clock of the stamps;
        None: it is not known, because no packet of voice has left.
        """
        if zero_timestamp_us is not None:
            self._sounds_us.append(zero_timestamp_us)
        if len(self._sounds_us) < SOUNDS or not self._zeros_us or self._stream is None:
            return None
        apart_us = round(median(self._zeros_us) - median(self._sounds_us))
        if self._told_apart_us is not None and not self._is_due(apart_us, now_us):
            return None
        self._told_us, self._told_apart_us = now_us, apart_us
        timestamp = (apart_us + _media_us(self._newest, tick_rate)) * RATE_HZ // SECOND_US
        return VoiceClock(self._stream, self._newest, timestamp % (1 << 32))

    def _is_due(self, apart_us: int, now_us: int) -> bool:
        assert self._told_apart_us is not None
        since_us = now_us - self._told_us
        drifted = abs(apart_us - self._told_apart_us) > DRIFT_US and since_us > TOLD_MOST_EVERY_US
        return drifted or since_us > TOLD_EVERY_US


class Voice(Protocol):
    """What `VoicePlayout` offers."""

    @property
    def speaking(self) -> bool:
        """Whether speech is heard, and no pause."""

    def wait_until(self, timestamp: int, heard_us: int | None) -> None:
        """Let the sound of a timestamp be heard no sooner than at a time."""

    def earliest_us(self, timestamp: int) -> int | None:
        """Return when the sound of a timestamp would be heard without any face."""

    def heard_us(self, timestamp: int) -> int | None:
        """Return when the sound of a timestamp is heard."""


@dataclass(frozen=True, slots=True)
class SeenFace:
    """A picture that was shown: the moment it shows (in ticks), for which time it was drawn, when it was finished.

    `offset_us` is what the playout adds to media times now. `live`: it shows what the sender saw.
    """

    tick: Fraction
    offset_us: int
    render_us: int
    composited_us: int
    live: bool


@dataclass(frozen=True, slots=True)
class Skew:
    """Milliseconds by which the face is seen after its voice is heard, over `samples` pictures of somebody speaking.

    `p95_ms` is of the distance, whichever comes first.
    """

    samples: int = 0
    mean_ms: float = 0.0
    p95_ms: float = 0.0

    @classmethod
    def of(cls, samples_us: list[int]) -> "Skew":
        """Summarise microseconds."""
        if not samples_us:
            return cls()
        ms = np.array(samples_us) / 1000
        return cls(len(ms), float(ms.mean()), float(np.percentile(np.abs(ms), 95)))


class LipSync:
    """The receiver's part. Give it every picture; it holds the voice back, and says how long the face must wait."""

    def __init__(self) -> None:
        self._clock: VoiceClock | None = None
        self._late_us = 0  # from the time that a picture is for until it is seen, smoothed
        self._gap_us = 33_000  # between pictures, smoothed
        self._rendered_us: int | None = None
        self._floor_us: int | None = None
        self._floor_set_us = 0
        self._skews_us: deque[int] = deque(maxlen=MAX_SAMPLES)

    @property
    def skew(self) -> Skew:
        """How well it does."""
        return Skew.of(list(self._skews_us))

    def on_clock(self, clock: VoiceClock) -> None:
        """The other side said how its voice and its face lie to one another."""
        if self._clock is not None and self._clock.stream != clock.stream:
            self._floor_us = None  # another stream's ticks begin at another time
        self._clock = clock

    def on_picture(
        self, face: SeenFace, voice: Voice, *, stream: int, tick_rate: Fraction, now_us: int
    ) -> int | None:
        """Take a picture; return what the face's `offset_us` must be at least from now on, None: as it was."""
        self._learn(face)
        if self._clock is None or self._clock.stream != stream:
            return None
        tick = int(face.tick)
        timestamp = self._timestamp(tick, tick_rate)
        seen_us = _media_us(tick, tick_rate) + face.offset_us + self._after_us
        earliest_us = voice.earliest_us(timestamp)
        voice.wait_until(timestamp, seen_us)
        heard_us = voice.heard_us(timestamp)
        if heard_us is not None and face.live and voice.speaking:
            # The moment that is shown is in the picture from now on until the next one.
            heard_us += round((face.tick - tick) / tick_rate * SECOND_US)
            self._skews_us.append(face.composited_us + self._gap_us // 2 - heard_us)
        if earliest_us is None:
            return None
        return self._new_floor(earliest_us - self._after_us - _media_us(tick, tick_rate), now_us)

    @property
    def _after_us(self) -> int:
        """How long after the time that it is for a moment is seen, on average: pictures stand for a while."""
        return self._late_us + self._gap_us // 2

    def _learn(self, face: SeenFace) -> None:
        late_us = face.composited_us - face.render_us
        if self._rendered_us is not None and 0 < face.render_us - self._rendered_us < LONG_GAP_US:
            self._gap_us += (face.render_us - self._rendered_us - self._gap_us) // SMOOTHED_PICTURES
            self._late_us += (late_us - self._late_us) // SMOOTHED_PICTURES
        self._rendered_us = face.render_us

    def _timestamp(self, tick: int, tick_rate: Fraction) -> int:
        assert self._clock is not None
        passed = round((tick - self._clock.tick) * RATE_HZ / tick_rate)
        return (self._clock.timestamp + passed) % (1 << 32)

    def _new_floor(self, floor_us: int, now_us: int) -> int | None:
        """Return a floor that is worth telling: up at once, down seldom, and not for a few milliseconds."""
        before_us, due = self._floor_us, now_us - self._floor_set_us > FLOOR_EVERY_US
        if before_us is not None:
            change_us = floor_us - before_us
            if abs(change_us) <= FLOOR_STEP_US or (change_us < 0 and not due):
                return None
        self._floor_us, self._floor_set_us = floor_us, now_us
        return floor_us


def _media_us(tick: int, tick_rate: Fraction) -> int:
    """Return the media time of a tick as `decoder.sender_clock` has it."""
    return tick * SECOND_US * tick_rate.denominator // tick_rate.numerator
