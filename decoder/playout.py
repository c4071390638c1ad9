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
from mien.decoder.heard_ticks import HeardTicks
from mien.decoder.sender_clock import SECOND_US, Arrival, ClockSettings, SenderClock
from mien.protocol.codec import Batch
from mien.protocol.errors import WireError
from mien.protocol.state import EXPRESSION_COUNT, FaceState
from mien.protocol.stream import StreamHeader

UNSEEN_US: Final = 10_000  # a picture that is so much older than it should be only moves more slowly
FAST_PER_TICK: Final = 0.15  # of a coefficient: three times what a lively face does
MAX_WAY_TICKS: Final = 6
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

    With the defaults a frame is shown 215 ms after its stamp where messages hold 6 frames at 30 Hz and the path takes
    no time: 200 ms until the next batch is complete, and the margin. Messages every 80 ms, which hold two or three
    frames as the ticks fall, make 129 ms of it. Jitter comes on top, and so does what repeats reach back.
    """

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("!B12I")
    LAYOUT_1: ClassVar[struct.Struct] = struct.Struct("!B9I")
    VERSION: ClassVar[int] = 2
    MAX: ClassVar[int] = 60_000_000
    margin_us: int = 15_000  # waited beyond what the batches of the last seconds needed
    window_us: int = 10_000_000  # how long they are remembered
    slew_ppm: int = 20_000  # how fast the wait becomes shorter while the face moves
    jump_us: int = 60_000  # what is too long by more becomes shorter five times as fast
    bridge_us: int = 1_200_000  # gaps up to this are interpolated once their end is known
    hold_us: int = 400_000  # the last state is held this long
    ease_us: int = 900_000  # then the expression goes to neutral over this
    blend_us: int = 180_000  # over which a picture finds back to what arrives
    lost_us: int = 3_000_000  # from when on the connection is called lost
    most_delay_us: int = (
        1_500_000  # waited at most, for jitter and for repeats; new frames are waited for anyway
    )
    still_us: int = 2_500_000  # how long a face that is said to be at rest is, without another word
    late_us: int = 150_000  # so long a batch is late, and not lost, where all that was sent lately has come

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= self.MAX:
                raise WireError(f"playout setting {field.name} is {value}, expected 0 to {self.MAX}")

    def serialize(self) -> bytes:
        """Return the 49 bytes: version, then the fields in order, u32 each, big-endian."""
        return self.LAYOUT.pack(self.VERSION, *(getattr(self, field.name) for field in fields(self)))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read settings. Those of version 1 end with `lost_us`, and meant another clock. Raises `WireError`."""
        layout = cls.LAYOUT_1 if data[:1] == b"\x01" else cls.LAYOUT
        if len(data) != layout.size:
            raise WireError(f"playout settings are {len(data)} bytes, expected {layout.size}")
        version, *values = layout.unpack(data)
        if version not in (1, cls.VERSION):
            raise WireError(f"playout settings have version {version}, expected {cls.VERSION}")
        return cls(*values)

    @property
    def clock(self) -> ClockSettings:
        """What the clock is to know of them."""
        return ClockSettings(
            margin_us=self.margin_us,
            window_us=self.window_us,
            slew_ppm=self.slew_ppm,
            jump_us=self.jump_us,
            most_delay_us=self.most_delay_us,
        )


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
        self._clock = SenderClock(header.tick_rate, self.settings.clock)
        self._heard = HeardTicks()
        self._bridge_ticks = self.settings.bridge_us * header.tick_rate / SECOND_US
        self._ticks: list[int] = []  # sorted
        self._states: dict[int, FaceState] = {}
        self._coarse: set[int] = set()  # those of them that are known from a repeat only
        self._strides: dict[int, int] = {}  # of those that were repeated: how many ticks from one to the next
        self._still: set[int] = set()  # those of them that hold until something else is said
        self._at_rest = False  # whether the newest batch says that the face is at rest
        self._untracked_since: int | None = None  # the first tick of the present row without a face
        self._seen: FaceState | None = None  # the newest state at or before the position with a face
        self._render_us: int | None = None
        self._position: Fraction | None = None
        self._moving = False
        self._shown: Shown | None = None
        self._smooth_over = False  # what is buffered around the position has changed since the last picture
        self._blend = np.zeros(0, np.float32)  # added to the state at `_blend_from_us`, fading
        self._blend_from_us = 0

    @property
    def offset_us(self) -> int | None:
        """What is added to a tick's media time, tick / rate, to get the time when it is shown; None: not known."""
        return self._clock.offset_us if self._clock.started else None

    def wait_at_least(self, floor_us: int | None) -> None:
        """Let `offset_us` be at least this, for something that is to be heard with the face; None: as it comes."""
        offset_us = self.offset_us
        self._clock.wait_at_least(floor_us)
        if offset_us is not None:
            self._step_back(self._clock.offset_us - offset_us)

    def push(self, batch: Batch, *, arrival_us: int) -> None:
        """Take a batch. Late, repeated, reordered and stray ones are dealt with, and counted."""
        self.counts.batches += 1
        offset_us = self.offset_us
        match self._time(batch, arrival_us):
            case Arrival.OUTLIER:
                self.counts.outliers += 1
                return
            case Arrival.NEW_TIMELINE:
                self.counts.new_timelines += 1
                self._start_over()
        if offset_us is not None:
            self._step_back(self._clock.offset_us - offset_us)
        if self._at_rest:
            self._heard.add_up_to(batch.first_tick - 1)
        self._take_repeats(batch)
        last_tick = batch.first_tick + len(batch.states) - 1
        for tick, state in enumerate(batch.states, batch.first_tick):
            self._take_new(tick, state, newest=tick == last_tick, still=batch.still)
        self._at_rest = batch.still

    def _time(self, batch: Batch, arrival_us: int) -> Arrival:
        """Tell the clock about a batch, unless that says nothing new: when a copy comes means nothing."""
        last_tick = batch.first_tick + len(batch.states) - 1
        if all(tick in self._heard for tick in range(batch.first_tick, last_tick + 1)):
            return Arrival.IN_TIME
        reaches = [len(batch.states), *self._reaches_of_repeats(batch, last_tick)]
        return self._clock.on_batch(last_tick, reaches, arrival_us)

    def _reaches_of_repeats(self, batch: Batch, last_tick: int) -> list[int]:
        """Return for each repeat how far before `last_tick` the picture must wait for it, to move on to it.

        That is the tick before it; where that one is lost too, because of the stride of the repeats, the last one
        that is there. A lone repeat is one of a row that messages tell one after the other: the picture is then on
        the one before it.
        """
        reaches = []
        alone = len(batch.history) == 1
        for tick, _ in batch.history:
            known = None if tick in self._heard else self._heard.before(tick)
            moved_from = tick - batch.stride if alone else tick - 1
            if known is not None and tick - known <= batch.stride:
                moved_from = min(moved_from, known)
            reaches.append(last_tick - moved_from)
        return reaches

    def _take_repeats(self, batch: Batch) -> None:
        for tick, state in batch.history:
            self._heard.add(tick)
            if tick not in self._states and not self._is_past(tick):
                self._insert(tick, state)
                self._coarse.add(tick)
            if tick in self._states:
                self._strides[tick] = batch.stride

    def _take_new(self, tick: int, state: FaceState, *, newest: bool, still: bool) -> None:
        self._heard.add(tick)
        if tick in self._coarse and tick in self._states:
            self._states[tick] = state
            self._smooth_over = self._smooth_over or self._is_around(tick)
        elif self._is_past(tick) and tick not in self._states:
            self.counts.late_ticks += not still
            if newest and self._is_news(tick):
                self._insert(tick, state)  # late, but nothing newer is known to be held, and blended to
        else:
            self._insert(tick, state)
        self._coarse.discard(tick)
        if still and tick in self._states:
            self._still.add(tick)

    def _step_back(self, longer_us: int) -> None:
        """The wait has perhaps become longer: then show the same moment for longer, from where the picture is now."""
        if longer_us > 0 and self._render_us is not None and self._position is not None:
            self._position = self._clock.position(self._render_us)
        if longer_us > UNSEEN_US:
            self._smooth_over = True

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

    def known(self, tick: int) -> FaceState | None:
        """Return what is buffered for a tick, if anything is; changes nothing."""
        return self._states.get(tick)

    def _insert(self, tick: int, state: FaceState) -> None:
        if tick in self._states:
            self.counts.repeated_ticks += 1
            return
        bisect.insort(self._ticks, tick)
        self._smooth_over = self._smooth_over or self._is_around(tick)
        self._states[tick] = state
        if len(self._ticks) > MAX_TICKS:
            self.counts.unshown_ticks += 1
            self._drop_first()

    def _is_around(self, tick: int) -> bool:
        """Whether a tick that is buffered has a part in what is shown now."""
        if self._position is None:
            return False
        following = bisect.bisect_right(self._ticks, self._position)
        return tick in self._ticks[max(0, following - 1) : following + 1]

    def _is_past(self, tick: int) -> bool:
        return self._position is not None and tick < self._position.__floor__()

    def _is_news(self, tick: int) -> bool:
        """Whether nothing that is known between a tick and the position says otherwise since."""
        if self._position is None:
            return True
        following = bisect.bisect_right(self._ticks, self._position)
        return following == 0 or self._ticks[following - 1] < tick

    def _drop_first(self) -> None:
        """Drop the oldest tick. Over a gap that nothing bridges the picture must find its way smoothly."""
        tick = self._ticks.pop(0)
        del self._states[tick]
        self._coarse.discard(tick)
        self._strides.pop(tick, None)
        if self._ticks and self._ticks[0] - tick > self._bridge_ticks and tick not in self._still:
            self._smooth_over = True
        self._still.discard(tick)

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
        if position < first:  # the timeline has only begun, or was set back
            return Shown(self._states[first], self._status_of(first), Fraction(first)), True
        following = self._ticks[1] if len(self._ticks) > 1 else None
        if not self._states[first].tracked:
            return self._untracked(position, first, following), False
        if first in self._still:
            return self._at_rest_since(position, first, following), following is not None
        if following is not None and following - first <= self._bridge_ticks:
            return self._between(position, first, following), True
        return self._after(position, first, following)

    def _untracked(self, position: Fraction, first: int, following: int | None) -> Shown:
        # What an untracked tick itself says is only a repetition, and not one of the message before.
        seen = self._seen or self._states[first]
        held = FaceState(seen.pose, seen.expression, tracked=False)
        since = first if self._untracked_since is None else self._untracked_since
        gap_us = self._silence_us(position, first)
        status = self._gap_status(gap_us) if gap_us and following is None else Status.UNTRACKED
        return Shown(self._concealed(held, self._age_us(position, since)), status, position)

    def _at_rest_since(self, position: Fraction, first: int, following: int | None) -> Shown:
        """Show what holds until something else is said, and the way from there to that."""
        silence_us = self._silence_us(position, first)
        held = self._concealed(self._states[first], silence_us)
        status = self._gap_status(self._age_us(position, first)) if silence_us else Status.LIVE
        if following is not None and self._states[following].tracked:
            way_ticks = min(_way_ticks(held, self._states[following]), following - first)
            weight = (position - following) / way_ticks + 1
            if weight > 0:
                held = _interpolate(held, self._states[following], np.float32(weight))
        return Shown(held, status, position)

    def _between(self, position: Fraction, first: int, following: int) -> Shown:
        left, right = self._states[first], self._states[following]
        weight = np.float32((position - first) / (following - first)) if right.tracked else np.float32(0)
        whole = following - first == 1 or position == first or self._is_repeat(first, following)
        status = Status.LIVE if whole else Status.CONCEALED
        return Shown(_interpolate(left, right, weight), status, position)

    def _after(self, position: Fraction, first: int, following: int | None) -> tuple[Shown, bool]:
        """Show what comes after the last tick that is known, or before a gap that nothing bridges."""
        age_us = self._age_us(position, first)
        held = self._concealed(self._states[first], age_us)
        late = following is None and age_us <= self.settings.late_us and self._heard.whole
        if age_us == 0 or late:
            return Shown(held, Status.LIVE, Fraction(first)), True
        return Shown(held, self._gap_status(age_us), position), age_us <= self.settings.hold_us

    def _is_repeat(self, first: int, following: int) -> bool:
        """Whether what lies between two ticks was left out by a repeat on purpose, to be interpolated."""
        return following - first <= max(self._strides.get(first, 0), self._strides.get(following, 0))

    def _status_of(self, tick: int) -> Status:
        return Status.LIVE if self._states[tick].tracked else Status.UNTRACKED

    def _gap_status(self, age_us: int) -> Status:
        return Status.CONCEALED if age_us < self.settings.lost_us else Status.LOST

    def _age_us(self, position: Fraction, tick: int) -> int:
        return int((position - tick) * SECOND_US / self._tick_rate)

    def _silence_us(self, position: Fraction, tick: int) -> int:
        """Return how long nothing is known after a tick; a face at rest is known for a while."""
        age_us = self._age_us(position, tick)
        return max(0, age_us - self.settings.still_us) if tick in self._still else age_us

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
        self._strides.clear()
        self._still.clear()
        self._heard = HeardTicks()
        self._at_rest = False
        self._position = None
        self._untracked_since = None
        self._smooth_over = True


def _interpolate(left: FaceState, right: FaceState, weight: np.float32) -> FaceState:
    return FaceState(
        left.pose + (right.pose - left.pose) * weight,
        left.expression + (right.expression - left.expression) * weight,
        left.tracked,
    )


def _way_ticks(rest: FaceState, moving: FaceState) -> int:
    """Return over how many ticks to go from rest to the first state that is known after it.

    One, where nothing was lost between them; more where that would be faster than a face moves.
    """
    distance = float(np.abs(moving.coefficients() - rest.coefficients()).max())
    return min(MAX_WAY_TICKS, 1 + int(distance / FAST_PER_TICK))
