"""The playout: batches come in when the network likes, the face's state goes out for any render time.

Between two ticks pose and expression are interpolated linearly; for the rotation vector that is an
approximation, and a good one: of heads up to 45 degrees off that turn by 10 degrees from one tick to the next,
the worst is .03 degree off midway (.3 for a turn by 30).
"""

import bisect
import struct
import zlib
from dataclasses import dataclass, fields
from enum import IntEnum
from fractions import Fraction
from typing import ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from mien.decoder.concealment import conceal, smooth
from mien.decoder.sender_clock import SECOND_US, Arrival, SenderClock
from mien.protocol.codec import Batch
from mien.protocol.errors import WireError
from mien.protocol.history import HISTORY_STRIDE
from mien.protocol.state import EXPRESSION_COUNT, FaceState
from mien.protocol.stream import StreamHeader

MAX_TICKS: Final = 256  # buffered; when nobody asks for pictures, the oldest go


class Status(IntEnum):
    """What the shown state stands on."""

    WAITING = 0  # nothing has come yet: the neutral face in the stream's rest pose
    LIVE = 1  # what the sender saw
    UNTRACKED = 2  # the sender says that it sees no face
    CONCEALED = 3  # made up over a gap
    LOST = 4  # made up, and nothing has come for seconds


@dataclass(frozen=True, slots=True)
class PlayoutSettings:
    """How the playout behaves; all in microseconds but `slew_ppm`.

    The defaults show a frame 246 ms after its stamp at the most favourable path: 200 ms until the next batch of
    6 frames at 30 Hz is complete, the margin, and half a display frame; the first frame of a batch and the
    last are equally old when they are shown.
    """

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("!B9I")
    VERSION: ClassVar[int] = 1
    MAX: ClassVar[int] = 60_000_000
    margin_us: int = 40_000  # waited beyond a batch's span, for jitter
    window_us: int = 10_000_000  # how long the fastest batch sets the clock
    slew_ppm: int = 20_000  # how fast the clock is corrected while the face moves
    jump_us: int = 60_000  # from where on it is corrected at once
    bridge_us: int = 550_000  # gaps up to this are interpolated once their end is known
    hold_us: int = 400_000  # the last state is held this long
    ease_us: int = 900_000  # then the expression goes to neutral over this
    blend_us: int = 180_000  # over which a picture finds back to what arrives
    lost_us: int = 3_000_000  # from when on the connection is called lost

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= self.MAX:
                raise WireError(f"playout setting {field.name} is {value}, expected 0 to {self.MAX}")

    def serialize(self) -> bytes:
        """Return the 37 bytes: version, then the fields in order, u32 each, big-endian."""
        return self.LAYOUT.pack(self.VERSION, *(getattr(self, field.name) for field in fields(self)))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read settings. Raises `WireError`."""
        if len(data) != cls.LAYOUT.size:
            raise WireError(f"playout settings are {len(data)} bytes, expected {cls.LAYOUT.size}")
        version, *values = cls.LAYOUT.unpack(data)
        if version != cls.VERSION:
            raise WireError(f"playout settings have version {version}, expected {cls.VERSION}")
        return cls(*values)


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The state to draw, what it stands on, and its position on the sender's ticks (None: nothing came yet)."""

    state: FaceState
    status: Status
    tick: Fraction | None

    def checksum(self) -> int:
        """Return a CRC-32 of state and status: equal for a replay exactly when it shows the same."""
        return zlib.crc32(
            bytes([self.status, self.state.tracked]) + self.state.coefficients().astype("<f4").tobytes()
        )


@dataclass(slots=True)
class PlayoutCounts:
    """What happened to the ticks that came."""

    batches: int = 0
    late_ticks: int = 0  # after their time: left out
    repeated_ticks: int = 0  # already there
    unshown_ticks: int = 0  # dropped because nobody asked for pictures
    outliers: int = 0  # batches that fit no timeline
    new_timelines: int = 0


class Playout:
    """A jitter buffer on the sender's ticks, with interpolation and concealment. No clock of its own."""

    def __init__(
        self,
        header: StreamHeader,
        settings: PlayoutSettings | None = None,
        *,
        blink: NDArray[np.float32] | None = None,
    ) -> None:
        """`blink`: the expression of shut lids, float32 [30], for concealment; None: it does not blink."""
        self.settings = settings or PlayoutSettings()
        self.counts = PlayoutCounts()
        self._tick_rate = header.tick_rate
        rest_pose = (np.array(header.rest_pose) / 1000).astype(np.float32)
        self._rest = FaceState(rest_pose, np.zeros(EXPRESSION_COUNT, np.float32), tracked=False)
        self._blink = np.zeros(EXPRESSION_COUNT, np.float32) if blink is None else blink
        self._clock = SenderClock(
            header.tick_rate,
            margin_us=self.settings.margin_us,
            window_us=self.settings.window_us,
            slew_ppm=self.settings.slew_ppm,
            jump_us=self.settings.jump_us,
        )
        self._bridge_ticks = self.settings.bridge_us * header.tick_rate / SECOND_US
        self._ticks: list[int] = []  # sorted
        self._states: dict[int, FaceState] = {}
        self._coarse: set[int] = set()  # the ticks among them that come from a repeat
        self._untracked_since: int | None = None  # the first tick of the present row without a face
        self._seen: FaceState | None = None  # the newest state at or before the position with a face
        self._render_us: int | None = None
        self._position: Fraction | None = None
        self._moving = False
        self._shown: Shown | None = None
        self._smooth_over = False  # what is buffered around the position has changed since the last picture
        self._blend = np.zeros(0, np.float32)  # added to the state at `_blend_from_us`, fading
        self._blend_from_us = 0

    def push(self, batch: Batch, *, arrival_us: int) -> None:
        """Take a batch. Late, repeated, reordered and stray ones are dealt with, and counted."""
        self.counts.batches += 1
        last_tick = batch.first_tick + len(batch.states) - 1
        # What a batch repeats is shown where its first telling was lost, so the picture must wait for it.
        oldest = min([batch.first_tick, *(tick for tick, _ in batch.history)])
        match self._clock.on_batch(last_tick, last_tick + 1 - oldest, arrival_us):
            case Arrival.OUTLIER:
                self.counts.outliers += 1
                return
            case Arrival.NEW_TIMELINE:
                self.counts.new_timelines += 1
                self._start_over()
        for tick, state in batch.history:
            if tick not in self._states and not self._is_past(tick):
                self._insert(tick, state)
                self._coarse.add(tick)
        for tick, state in enumerate(batch.states, batch.first_tick):
            if tick in self._coarse and tick in self._states:
                self._states[tick] = state
                self._smooth_over = True
            else:
                self._insert(tick, state)
            self._coarse.discard(tick)

    def state_at(self, render_us: int) -> Shown:
        """Return what to show at a time. Times that go backwards count as the latest one so far."""
        elapsed_us = 0 if self._render_us is None else max(render_us - self._render_us, 0)
        if self._shown is not None and elapsed_us == 0 and not self._smooth_over:
            return self._shown
        self._render_us = render_us if self._render_us is None else self._render_us + elapsed_us
        if not self._clock.started:
            self._shown = Shown(self._rest, Status.WAITING, None)
            return self._shown
        if self._clock.advance(elapsed_us, moving=self._moving):
            self._smooth_over = True
        self._position = self._clock.position(self._render_us)
        self._discard_before(self._position)
        target, moving = self._target(self._position)
        if moving and not self._moving:
            self._smooth_over = True
        self._moving = moving
        self._shown = Shown(self._blended(target.state), target.status, target.tick)
        return self._shown

    def _insert(self, tick: int, state: FaceState) -> None:
        if tick in self._states:
            self.counts.repeated_ticks += 1
            return
        if self._is_past(tick):
            self.counts.late_ticks += 1
            return
        if self._position is not None:
            following = bisect.bisect_right(self._ticks, self._position)
            if following == len(self._ticks) or tick < self._ticks[following]:
                self._smooth_over = True
        bisect.insort(self._ticks, tick)
        self._states[tick] = state
        if len(self._ticks) > MAX_TICKS:
            self.counts.unshown_ticks += 1
            self._drop_first()

    def _is_past(self, tick: int) -> bool:
        return self._position is not None and tick < self._position.__floor__()

    def _drop_first(self) -> None:
        """Drop the oldest tick. Over a gap that nothing bridges the picture must find its way smoothly."""
        tick = self._ticks.pop(0)
        del self._states[tick]
        self._coarse.discard(tick)
        if self._ticks and self._ticks[0] - tick > self._bridge_ticks:
            self._smooth_over = True

    def _discard_before(self, position: Fraction) -> None:
        """Drop what lies before the position, but for the newest tick of it."""
        while len(self._ticks) > 1 and self._ticks[1] <= position:
            self._note_passed(self._ticks[0])
            self._drop_first()
        if self._ticks and self._ticks[0] <= position:
            self._note_passed(self._ticks[0])

    def _note_passed(self, tick: int) -> None:
        if self._states[tick].tracked:
            self._untracked_since = None
            self._seen = self._states[tick]
        elif self._untracked_since is None:
            self._untracked_since = tick

    def _target(self, position: Fraction) -> tuple[Shown, bool]:
        """Return what the buffer says about a position, and whether that is a face in motion."""
        if not self._ticks:
            return Shown(self._rest, Status.WAITING, None), False
        first = self._ticks[0]
        if position < first:  # the timeline has only begun
            return Shown(self._states[first], self._status_of(first), position), True
        following = self._ticks[1] if len(self._ticks) > 1 else None
        left = self._states[first]
        if not left.tracked:
            # What an untracked tick itself says is only a repetition, and not one of the message before.
            seen = self._seen or left
            held = FaceState(seen.pose, seen.expression, tracked=False)
            since = first if self._untracked_since is None else self._untracked_since
            gap_us = self._age_us(position, first)
            status = self._gap_status(gap_us) if gap_us and following is None else Status.UNTRACKED
            return Shown(self._concealed(held, self._age_us(position, since)), status, position), False
        if following is not None and following - first <= self._bridge_ticks:
            right = self._states[following]
            weight = np.float32((position - first) / (following - first)) if right.tracked else np.float32(0)
            whole = following - first == 1 or position == first or self._is_repeat(first, following)
            status = Status.LIVE if whole else Status.CONCEALED
            return Shown(_interpolate(left, right, weight), status, position), True
        age_us = self._age_us(position, first)
        if age_us == 0:
            return Shown(left, Status.LIVE, position), True
        return Shown(self._concealed(left, age_us), self._gap_status(age_us), position), False

    def _is_repeat(self, first: int, following: int) -> bool:
        """Whether what lies between two ticks was left out by a repeat on purpose, to be interpolated."""
        return following - first <= HISTORY_STRIDE and bool(self._coarse & {first, following})

    def _status_of(self, tick: int) -> Status:
        return Status.LIVE if self._states[tick].tracked else Status.UNTRACKED

    def _gap_status(self, age_us: int) -> Status:
        return Status.CONCEALED if age_us < self.settings.lost_us else Status.LOST

    def _age_us(self, position: Fraction, tick: int) -> int:
        return int((position - tick) * SECOND_US / self._tick_rate)

    def _concealed(self, held: FaceState, age_us: int) -> FaceState:
        settings = self.settings
        return conceal(held, age_us, hold_us=settings.hold_us, ease_us=settings.ease_us, blink=self._blink)

    def _blended(self, state: FaceState) -> FaceState:
        """Keep the picture from jumping: whatever changed under it fades in from what was shown last."""
        assert self._render_us is not None
        if self._smooth_over:
            self._smooth_over = False
            if self._shown is not None and self._shown.status != Status.WAITING:
                self._blend = self._shown.state.coefficients() - state.coefficients()
                self._blend_from_us = self._render_us
        if not self._blend.size:
            return state
        left = np.float32(1 - smooth(self._render_us - self._blend_from_us, self.settings.blend_us))
        if left == 0:
            self._blend = np.zeros(0, np.float32)
            return state
        return FaceState.from_coefficients(state.coefficients() + self._blend * left, tracked=state.tracked)

    def _start_over(self) -> None:
        self._ticks.clear()
        self._states.clear()
        self._coarse.clear()
        self._position = None
        self._untracked_since = None
        self._smooth_over = True


def _interpolate(left: FaceState, right: FaceState, weight: np.float32) -> FaceState:
    return FaceState(
        left.pose + (right.pose - left.pose) * weight,
        left.expression + (right.expression - left.expression) * weight,
        left.tracked,
    )
