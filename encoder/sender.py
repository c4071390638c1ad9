"""From tracked faces to coefficient messages: the one path for files, calls and benches. Sans I/O."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.encoder.tick_clock import TickClock
from mien.encoder.tracker import Tracking
from mien.protocol.codec import MessageEncoder, frames_per_batch
from mien.protocol.quantizer import Quality
from mien.protocol.repeats import LAG_TICKS, MAX_LAG, MAX_REPEATS, REPEAT_STRIDE, Repeats
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader

# Gaps up to this are filled, so that a camera that drops a frame costs no message of its own; after a longer
# one the stream goes on at a later tick, since a burst about the past would help nobody.
MAX_FILL_TICKS: Final = 8


class LandmarkFitter(Protocol):
    """What `mien.models.fit.Fitter` offers."""

    def fit(self, landmarks: NDArray[np.float32]) -> FaceState:
        """Return the state of landmarks, float32 [478, 3], image space. `ValueError` where they are not finite."""


@dataclass(slots=True)
class SenderCounts:
    """What became of the frames."""

    frames: int = 0
    tracked: int = 0
    without_face: int = 0
    several_faces: int = 0
    unfit: int = 0  # a face with landmarks that are not finite
    surplus: int = 0  # more frames than ticks: not coded
    filled_ticks: int = 0  # between frames that came late


class FaceSender:
    """Gives messages for the frames of one stream.

    Where no face is found, or several (whose would it be?), the last state is repeated with `tracked` false;
    before the first face that is the neutral one.
    """

    def __init__(
        self,
        header: StreamHeader,
        fitter: LandmarkFitter,
        *,
        quality: Quality = Quality.NORMAL,
        frames_per_message: int | None = None,
        source_rate: Fraction | None = None,
    ) -> None:
        """`source_rate`: the source's frames per second where they are more than the header's ticks.

        `frames_per_message`: None takes a fifth of a second.
        """
        self.header = header
        self.counts = SenderCounts()
        self._fitter = fitter
        self._clock = TickClock(header.tick_rate, source_rate=source_rate)
        self._encoder = MessageEncoder(header, quality=quality, frames_per_message=frames_per_message)
        self._lag_ticks = frames_per_batch(header)
        self._last_tick: int | None = None
        self._last_state = FaceState.neutral()
        self._frame_tick: int | None = None
        self._next_tick: int | None = None

    @property
    def frame_tick(self) -> int | None:
        """The tick that carries the latest frame; None: that frame was not coded."""
        return self._frame_tick

    @property
    def state(self) -> FaceState:
        """The latest state, as it was before quantising."""
        return self._last_state

    def set_quality(self, quality: Quality) -> None:
        """Code from the next message on with another step."""
        self._encoder.quality = quality

    def set_frames_per_message(self, frames: int) -> None:
        """Let messages be complete with so many frames. Raises `ValueError` where no message holds them."""
        self._encoder.frames_per_message = frames

    def set_repeats(
        self, copies: int, lag: int = 0, *, span: int | None = None, stride: int = REPEAT_STRIDE
    ) -> None:
        """Repeat in each message what some before it said, coarsely: worth its bits where packets get lost.

        `copies`: over how many messages before it a message's repeats reach; 0: none. Messages that are short beside
        the stride have no repeats but one in each stride, whose copies are counted in strides: what one of them
        repeats the next one does, too, and none what lies between. `lag`: so many fifths of a second are passed over,
        for losses in bursts. `span`: the frames of a message where a carrier cuts them; None: as many as complete one.
        `stride`: ticks from one repeat to the next; where each message has one, these lie no further apart than
        messages do. What the other side shows is delayed by as much as the repeats reach back.
        """
        if copies == 0:
            self._encoder.repeats = None
            return
        frames = span or self._encoder.frames_per_message
        apart = stride if 2 * frames <= stride else 1
        count = max(1, min(math.ceil(copies * max(frames, apart) / stride), MAX_REPEATS))
        lag_units = min(round(lag * self._lag_ticks / LAG_TICKS), MAX_LAG)
        self._encoder.repeats_apart = apart
        self._encoder.repeats = Repeats(
            count, min(stride, max(frames, apart)) if count == 1 else stride, lag_units
        )

    def cut(self) -> bytes | None:
        """Finish the message that was begun, for a carrier that decides when one leaves.

        `None` where there is nothing new, or nothing that needs saying because the face is still.
        """
        return self._encoder.flush()

    def on_tracking(self, timestamp_us: int, tracking: Tracking) -> list[bytes]:
        """Take the faces of one frame; return the messages that are complete. Times must not go backwards."""
        return self.code(self.look_at(timestamp_us, tracking))

    def look_at(self, timestamp_us: int, tracking: Tracking) -> FaceState | None:
        """Return what `code` is to be given for a frame. It takes the longer time, and may run beside a `cut`."""
        self.counts.frames += 1
        self._frame_tick = self._clock.tick_of(timestamp_us)
        if self._frame_tick is None:
            self.counts.surplus += 1
            return None
        return self._state_of(tracking)

    def code(self, state: FaceState | None) -> list[bytes]:
        """Take what `look_at` has returned; return the messages that are complete."""
        if state is None or self._frame_tick is None:
            return []
        messages = [m for tick, s in self._ticks_to(self._frame_tick, state) for m in self._push(tick, s)]
        self._last_tick, self._last_state = self._frame_tick, state
        return messages

    def finish(self) -> list[bytes]:
        """Return the message that was begun, if any."""
        last = self._encoder.flush(last=True)
        return [] if last is None else [last]

    def _push(self, tick: int, state: FaceState) -> list[bytes]:
        begun = None if self._next_tick in (None, tick) else self._encoder.flush()
        self._next_tick = tick + 1
        return [m for m in (begun, self._encoder.push(tick, state)) if m is not None]

    def _state_of(self, tracking: Tracking) -> FaceState:
        if len(tracking.faces) == 1:
            try:
                state = self._fitter.fit(tracking.faces[0])
            except ValueError:
                self.counts.unfit += 1
            else:
                self.counts.tracked += 1
                return state
        elif tracking.faces:
            self.counts.several_faces += 1
        else:
            self.counts.without_face += 1
        return FaceState(self._last_state.pose, self._last_state.expression, tracked=False)

    def _ticks_to(self, tick: int, state: FaceState) -> Iterator[tuple[int, FaceState]]:
        """Give the ticks after the last one up to `tick`, those between on the straight line."""
        if self._last_tick is not None and 1 < tick - self._last_tick <= MAX_FILL_TICKS + 1:
            before, gap = self._last_state, tick - self._last_tick
            both = before.tracked and state.tracked
            for step in range(1, gap):
                self.counts.filled_ticks += 1
                weight = np.float32(step / gap) if both else np.float32(0)
                between = before.coefficients() + (state.coefficients() - before.coefficients()) * weight
                yield self._last_tick + step, FaceState.from_coefficients(between, tracked=before.tracked)
        yield tick, state
