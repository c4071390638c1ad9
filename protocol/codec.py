"""States to messages and back. Sans I/O: nothing here reads a clock or a socket."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.protocol.errors import WireError
from mien.protocol.message import (
    MAX_FRAMES_PER_MESSAGE,
    SHORT_TICK_MODULUS,
    TICK_MODULUS,
    CoefficientMessage,
)
from mien.protocol.quantizer import Quality, from_steps, to_steps
from mien.protocol.rate_distortion import FrameChooser
from mien.protocol.repeats import MAX_STRIDE, REPEAT_STRIDE, Repeats
from mien.protocol.state import COEFFICIENT_COUNT, FaceState
from mien.protocol.stream import StreamHeader
from mien.protocol.tables import Tables

BATCH_SECONDS: Final = 0.2  # a message's share of time: 6 frames at 30 Hz, 5 at 25 Hz
KEEP_ALIVE_SECONDS: Final = 1.0  # between two messages that say that a face is still
STILL_STEPS: Final = 1.5  # a face is still while no coefficient is further from what was sent
STILL_TOLD_AT_ONCE: Final = 2  # messages: the first of them may get lost
# From one message with a long head to the next: so long at most a receiver that comes late must wait, or one that
# missed half the range of short ticks (8.5 s) is in doubt. A call's first face waits for its avatar, not for a head.
LONG_HEAD_SECONDS: Final = 1.0
OPENING_SECONDS: Final = 4.0  # of a stream, in which all heads are long
_MOST_SILENT_TICKS: Final = (
    SHORT_TICK_MODULUS // 4
)  # after more, long heads for a while: some of them may get lost
_HISTORY_TICKS: Final = 64  # more than repeats can reach back


def frames_per_batch(header: StreamHeader) -> int:
    """Return how many frames a message of this stream holds unless the caller wants another number."""
    return max(1, min(MAX_FRAMES_PER_MESSAGE, round(float(header.tick_rate) * BATCH_SECONDS)))


class MessageEncoder:
    """Collects states of consecutive ticks into messages.

    While the face does not move, only keep-alives come out. `quality`, `frames_per_message` and `repeats` may be
    set at any time; a quality holds from the next message on. `repeats_apart`: ticks from one message with repeats to
    the next, at least.
    """

    def __init__(
        self,
        header: StreamHeader,
        *,
        quality: Quality = Quality.NORMAL,
        frames_per_message: int | None = None,
    ) -> None:
        self._header = header
        self._tables = Tables.load()
        self.quality = quality
        self.repeats: Repeats | None = None  # switched on where the other side reports loss
        self.frames_per_message = frames_per_message or frames_per_batch(header)
        self.repeats_apart = 1
        self._past: deque[tuple[int, FaceState]] = deque(maxlen=_HISTORY_TICKS)
        self._repeated_at: int | None = None  # first tick of the newest message with repeats
        self._heads = _Heads(float(header.tick_rate))
        self._stillness = _Stillness(round(float(header.tick_rate) * KEEP_ALIVE_SECONDS))
        self._sent: CoefficientMessage | None = None
        self._states: list[FaceState] = []
        self._begin(0)
        self._next_tick: int | None = None

    @property
    def frames_per_message(self) -> int:
        """How many new frames complete a message."""
        return self._size

    @frames_per_message.setter
    def frames_per_message(self, size: int) -> None:
        if not 1 <= size <= MAX_FRAMES_PER_MESSAGE:
            raise ValueError(f"{size} frames a message, expected 1 to {MAX_FRAMES_PER_MESSAGE}")
        self._size = size

    def push(self, tick: int, state: FaceState) -> bytes | None:
        """Add the state of `tick`; return the message that it completes, if it does.

        Ticks must follow one another: `ValueError` otherwise (call `flush` before a gap).
        """
        if self._states and tick != self._next_tick:
            raise ValueError(f"tick {tick} after {self._next_tick}: flush before a gap")
        if not self._states:
            self._begin(tick)
        self._next_tick = tick + 1
        if state.tracked:
            target = to_steps(state, self._header.rest_pose, self._step_index)
            self._targets.append(target)
            self._chooser.choose(target)
        self._states.append(state)
        return self.flush() if len(self._states) >= self._size else None

    def flush(self, *, last: bool = False) -> bytes | None:
        """Return the message of the states that wait; `None` if there are none, or where nothing needs saying.

        `last`: a stream that ends says how, also where the face is still.
        """
        if not self._states:
            return None
        states, self._states = self._states, []
        self._past.extend(enumerate(states, self._first_tick))
        tracked = tuple(state.tracked for state in states)
        held = self._stillness.held(self._step_index, self._targets, tracked)
        if held is not None:
            due = self._stillness.is_due(self._first_tick) or last
            return self._keep_alive(held) if due else None
        values = _held_where_lost(self._chooser.together(), tracked)
        repeats = self._due_repeats() if tracked[0] else None
        repeated = self._repeated(repeats, values[0])
        short = self._heads.may_be_short(self._first_tick, len(states))
        message = CoefficientMessage(
            stream=self._header.stream,
            first_tick=self._first_tick % (SHORT_TICK_MODULUS if short else TICK_MODULUS),
            step_index=self._step_index,
            values=np.array(values, np.int16),
            tracked=tracked,
            repeats=repeats if repeated else None,
            repeated=np.array(repeated, np.int16).reshape(-1, COEFFICIENT_COUNT),
            short=short,
        )
        self._stillness.moved(self._step_index, values[-1], tracked=tracked[-1])
        return self._serialized(message)

    def _begin(self, tick: int) -> None:
        self._first_tick = tick
        self._step_index = int(self.quality)
        self._chooser = FrameChooser(self._tables, self._step_index)
        self._states = []
        self._targets: list[NDArray[np.float64]] = []

    def _due_repeats(self) -> Repeats | None:
        """Return what this message repeats, if it does.

        Where not every message does, its repeats reach the newest of the last ones, also where a message was longer
        than others: the same frames are told over and over, and not their neighbours.
        """
        if self.repeats is None or self._repeated_at is None or self.repeats_apart == 1:
            return self.repeats
        since = self._first_tick - self._repeated_at
        if 0 <= since < self.repeats_apart:
            return None
        return replace(self.repeats, stride=since) if 0 < since <= MAX_STRIDE else self.repeats

    def _repeated(self, repeats: Repeats | None, first: list[int]) -> list[list[int]]:
        """Return the values to repeat; none where one of them is not known, or shows no face."""
        if repeats is None:
            return []
        past = dict(self._past)
        states = [past.get(self._first_tick + offset) for offset in repeats.offsets]
        if not all(state is not None and state.tracked for state in states):
            return []
        self._repeated_at = self._first_tick
        chooser = FrameChooser.of_repeats(self._tables, self._step_index, first)
        rest = self._header.rest_pose
        return [chooser.choose(to_steps(s, rest, self._step_index)) for s in states if s is not None]

    def _keep_alive(self, values: list[int]) -> bytes:
        message = CoefficientMessage(
            stream=self._header.stream,
            first_tick=self._first_tick % TICK_MODULUS,
            step_index=self._step_index,
            values=np.array([values], np.int16),
            tracked=(self._stillness.tracked,),
            still=True,
        )
        return self._serialized(message)

    @property
    def sent(self) -> "Batch | None":
        """What the other side is to read in the latest message: for a bench that compares both sides."""
        return None if self._sent is None else _batch_of(self._sent, self._header, self._first_tick)

    def _serialized(self, message: CoefficientMessage) -> bytes:
        self._sent = message
        return message.serialize(self._tables)


def _held_where_lost(chosen: list[list[int]], tracked: Sequence[bool]) -> list[list[int]]:
    """Give frames without a face the integers of the one before; zeros before the first."""
    values, rest = [[0] * COEFFICIENT_COUNT], iter(chosen)
    for is_tracked in tracked:
        values.append(next(rest) if is_tracked else values[-1])
    return values[1:]


class _Heads:
    """Knows which messages need long heads: some of them, so that a receiver can tell the ticks after an outage."""

    def __init__(self, ticks_per_s: float) -> None:
        self._period = round(LONG_HEAD_SECONDS * ticks_per_s)
        self._opening = round(OPENING_SECONDS * ticks_per_s)
        self._long_tick = 0  # of the latest long head
        self._long_until = 0
        self._after: int | None = None  # the tick behind the latest message

    def may_be_short(self, tick: int, count: int) -> bool:
        """Return whether the message whose `count` frames begin with `tick` may have a short head."""
        after, self._after = self._after, tick + count
        if after is None:
            self._long_until = tick + self._opening
        elif not 0 <= tick - after <= _MOST_SILENT_TICKS:
            self._long_until = tick + self._period
        if tick >= self._long_until and tick - self._long_tick < self._period:
            return True
        self._long_tick = tick
        return False


class _Stillness:
    """Knows what the other side shows, and whether new frames need to be told."""

    def __init__(self, period_ticks: int) -> None:
        self._period = period_ticks
        self._step_index: int | None = None
        self._shown = [0] * COEFFICIENT_COUNT
        self.tracked = False
        self._told = 0  # keep-alives since the face stopped
        self._told_tick = 0

    def moved(self, step_index: int, shown: list[int], *, tracked: bool) -> None:
        """Note the last frame of a message that was sent."""
        self._step_index, self._shown, self.tracked, self._told = step_index, shown, tracked, 0

    def held(
        self, step_index: int, targets: Sequence[NDArray[np.float64]], tracked: Sequence[bool]
    ) -> list[int] | None:
        """Return the values that the other side is to hold, where these frames say nothing else; else `None`."""
        if step_index != self._step_index or any(t != self.tracked for t in tracked):
            return None
        if not self.tracked:
            return [0] * COEFFICIENT_COUNT
        distance = float(np.abs(np.array(targets) - np.array(self._shown)).max())
        return self._shown if distance <= STILL_STEPS else None

    def is_due(self, tick: int) -> bool:
        """Return whether the other side is to be told now, at a batch that begins with `tick`."""
        if self._told >= STILL_TOLD_AT_ONCE and tick - self._told_tick < self._period:
            return False
        self._told += 1
        self._told_tick = tick
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one message says: the states of consecutive ticks from `first_tick` on.

    `history` holds earlier ticks and their states again, coarsely; what lies between two of them, told by one
    message or by several, is interpolated up to `stride` ticks. `still`: the only state holds from its tick on,
    until a later message says otherwise.
    """

    first_tick: int
    states: tuple[FaceState, ...]
    history: tuple[tuple[int, FaceState], ...] = ()
    still: bool = False
    stride: int = REPEAT_STRIDE


class MessageDecoder:
    """Turns one stream's messages into batches. Every message decodes alone; only the tick's high bits
    are carried from message to message. A message with a short head needs an earlier one with a long head."""

    def __init__(self, header: StreamHeader) -> None:
        self._header = header
        self._tables = Tables.load()
        if header.tables_id != self._tables.tables_id:
            raise WireError(
                f"stream uses codec tables {header.tables_id.hex()}, this version of mien has "
                f"{self._tables.tables_id.hex()}: update the older side"
            )
        self._newest_tick: int | None = None

    def decode(self, data: bytes) -> Batch:
        """Return the message's batch. Raises `WireError` for bytes that are no message of this stream."""
        message = CoefficientMessage.parse(data, self._tables)
        if message.stream != self._header.stream:
            raise WireError(f"message belongs to stream {message.stream}, expected {self._header.stream}")
        first = self._extend(message.first_tick, SHORT_TICK_MODULUS if message.short else TICK_MODULUS)
        self._newest_tick = max(first, self._newest_tick or 0)
        return _batch_of(message, self._header, first)

    def _extend(self, low: int, modulus: int) -> int:
        """Return the tick nearest to the newest one whose remainder by `modulus` is `low`; never negative."""
        if self._newest_tick is None:
            if modulus < TICK_MODULUS:
                raise WireError("message has a short head, and no long one came before it")
            return low
        offset = (low - self._newest_tick) % modulus
        if offset > modulus // 2 and self._newest_tick + offset >= modulus:
            offset -= modulus
        return self._newest_tick + offset


def _batch_of(message: CoefficientMessage, header: StreamHeader, first: int) -> Batch:
    """Return what a message says whose first frame is at tick `first`."""
    coefficients = from_steps(message.values, header.rest_pose, message.step_index)
    states = tuple(
        FaceState.from_coefficients(row, tracked=tracked)
        for row, tracked in zip(coefficients, message.tracked, strict=True)
    )
    if message.repeats is None:
        return Batch(first, states, still=message.still)
    rows = from_steps(message.repeated, header.rest_pose, message.step_index)
    ticks = (first + offset for offset in message.repeats.offsets)
    history = ((t, FaceState.from_coefficients(r)) for t, r in zip(ticks, rows, strict=True) if t >= 0)
    return Batch(first, states, tuple(history), stride=message.repeats.stride)
