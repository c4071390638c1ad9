"""States to messages and back. Sans I/O: nothing here reads a clock or a socket."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from mien.protocol.errors import WireError
from mien.protocol.history import MAX_HISTORY_BYTES, History, repeat_coarsely
from mien.protocol.message import MAX_FRAMES_PER_MESSAGE, CoefficientMessage, Extension, ExtensionType
from mien.protocol.quantizer import Quality, from_steps, to_steps
from mien.protocol.rate_distortion import FrameChooser
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader
from mien.protocol.tables import Tables

BATCH_SECONDS: Final = 0.2  # a message's share of time: 6 frames at 30 Hz, 5 at 25 Hz
TICK_MODULUS: Final = 1 << 16


def frames_per_batch(header: StreamHeader) -> int:
    """Return how many frames a message of this stream holds unless the caller wants another number."""
    return max(1, min(MAX_FRAMES_PER_MESSAGE, round(float(header.tick_rate) * BATCH_SECONDS)))


class MessageEncoder:
    """Collects states of consecutive ticks into messages."""

    def __init__(
        self,
        header: StreamHeader,
        *,
        quality: Quality = Quality.NORMAL,
        frames_per_message: int | None = None,
    ) -> None:
        self._header = header
        self._step_index = int(quality)
        self._size = frames_per_message or frames_per_batch(header)
        if not 1 <= self._size <= MAX_FRAMES_PER_MESSAGE:
            raise ValueError(f"{self._size} frames a message, expected 1 to {MAX_FRAMES_PER_MESSAGE}")
        self._tables = Tables.load()
        self._first_tick = 0
        self._next_tick: int | None = None
        self._chooser = FrameChooser(self._tables, self._step_index)
        self.repeat_history = False  # switched on where the other side reports loss
        self._values: list[list[int]] = []
        self._states: list[FaceState] = []
        self._batch_before: tuple[int, list[FaceState]] = (0, [])  # the tick after its last one, its states
        self._tracked: list[bool] = []

    def push(self, tick: int, state: FaceState) -> bytes | None:
        """Add the state of `tick`; return the message that it completes, if it does.

        Ticks must follow one another: `ValueError` otherwise (call `flush` before a gap).
        """
        if self._values and tick != self._next_tick:
            raise ValueError(f"tick {tick} after {self._next_tick}: flush before a gap")
        if not self._values:
            self._first_tick = tick
        self._next_tick = tick + 1
        if state.tracked:
            self._chooser.choose(to_steps(state, self._header.rest_pose, self._step_index))
        self._values.append(self._chooser.values)
        self._states.append(state)
        self._tracked.append(state.tracked)
        return self.flush() if len(self._values) == self._size else None

    def flush(self) -> bytes | None:
        """Return the message of the states that wait, `None` if there are none."""
        if not self._values:
            return None
        message = CoefficientMessage(
            stream=self._header.stream,
            first_tick=self._first_tick % TICK_MODULUS,
            step_index=self._step_index,
            values=np.array(self._values, np.int16),
            tracked=tuple(self._tracked),
            extensions=self._history(),
        )
        self._batch_before = self._first_tick + len(self._states), self._states
        self._values, self._tracked, self._states = [], [], []
        self._chooser = FrameChooser(self._tables, self._step_index)
        return message.serialize(self._tables)

    def _history(self) -> tuple[Extension, ...]:
        """Return the extension that repeats the batch before, if it is wanted and that batch is there."""
        next_tick, states = self._batch_before
        if not self.repeat_history or next_tick != self._first_tick:
            return ()
        history = repeat_coarsely(states, self._header.rest_pose, self._tables)
        data = b"" if history is None else history.serialize(self._tables)
        return (Extension(ExtensionType.HISTORY, data),) if 0 < len(data) <= MAX_HISTORY_BYTES else ()


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one message says: the states of consecutive ticks from `first_tick` on.

    `history` holds earlier ticks and their states again, coarsely. `still`: the only state holds from its tick
    on, until a later message says otherwise.
    """

    first_tick: int
    states: tuple[FaceState, ...]
    history: tuple[tuple[int, FaceState], ...] = ()
    still: bool = False


class MessageDecoder:
    """Turns one stream's messages into batches. Every message decodes alone; only the tick's high bits
    are carried from message to message."""

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
        first = self._extend(message.first_tick)
        self._newest_tick = max(first, self._newest_tick or 0)
        coefficients = from_steps(message.values, self._header.rest_pose, message.step_index)
        states = tuple(
            FaceState.from_coefficients(row, tracked=tracked)
            for row, tracked in zip(coefficients, message.tracked, strict=True)
        )
        return Batch(first, states, self._history(message, first))

    def _history(self, message: CoefficientMessage, first_tick: int) -> tuple[tuple[int, FaceState], ...]:
        """Return the ticks that the message repeats. A damaged history raises, as any damaged message does."""
        found: list[tuple[int, FaceState]] = []
        for extension in message.extensions:
            if extension.type == ExtensionType.HISTORY:
                history = History.parse(extension.data, self._tables)
                rows = from_steps(history.values, self._header.rest_pose, history.step_index)
                ticks = (first_tick + offset for offset in history.offsets)
                states = map(FaceState.from_coefficients, rows)
                found += [(tick, state) for tick, state in zip(ticks, states, strict=True) if tick >= 0]
        return tuple(found)

    def _extend(self, low: int) -> int:
        """Return the tick nearest to the newest one whose low 16 bits are `low`; never negative."""
        if self._newest_tick is None:
            return low
        offset = (low - self._newest_tick) % TICK_MODULUS
        if offset > TICK_MODULUS // 2 and self._newest_tick + offset >= TICK_MODULUS:
            offset -= TICK_MODULUS
        return self._newest_tick + offset
