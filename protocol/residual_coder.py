"""The body of a coefficient message: quantised frames to range-coded bytes and back.

Every frame is predicted by the one before it in the same message, the first coded one by the rest pose (zero).
Repeats of earlier frames come last, and go back in time from the message's first frame.
The class of a residual follows from its coefficient and from its context: the two residuals before it in the
frame, the residual of the same coefficient in the frame before, and that frame's activity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from mien.protocol.errors import WireError
from mien.protocol.quantizer import MAX_VALUE
from mien.protocol.range_coder import TOTAL, RangeDecoder, RangeEncoder
from mien.protocol.state import COEFFICIENT_COUNT
from mien.protocol.tables import ESCAPE, FIRST_CONTEXTS, LARGEST, NEXT_CONTEXTS, Tables

# Whether a frame's `tracked` flag equals the last one's (before the first frame: true).
TRACKED_SAME: Final = (0, 32440, TOTAL)
MAX_PREFIX: Final = 12  # of the escape's Exp-Golomb code: magnitudes beyond 15 + 2^13 cannot be written

# Sum of the magnitudes of a frame's two last residuals, the nearer one twice -> neighbour context.
_NEIGHBOURS: Final = (0, 1, 1, 2, 2)
_NEIGHBOURS_MOST: Final = 3
_ACTIVITY_LIMITS: Final = (6, 18, 42)  # of a frame's summed magnitudes
_AFTER_FIRST: Final = (
    3  # "same coefficient before" of the second coded frame: its predecessor had no residual
)

Frame = Sequence[int]


def activity(residuals: Frame) -> int:
    """Return how lively a frame was, 0 to 3."""
    total = sum(map(abs, residuals))
    return sum(total >= limit for limit in _ACTIVITY_LIMITS)


def contexts(residuals: Frame, before: Frame | None, activity_before: int) -> list[int]:
    """Return the map index of each residual of a frame.

    `before` are the residuals of the coded frame before it; `None` for the first coded frame, an empty
    sequence for the second (whose predecessor was coded whole, not as a residual).
    """
    indices = []
    last = second_last = 0
    for k, residual in enumerate(residuals):
        near = neighbour_context(last, second_last)
        indices.append(context_index(k, near, before, activity_before))
        second_last = last
        last = abs(residual)
    return indices


def neighbour_context(last: int, second_last: int) -> int:
    """Return the context of the two magnitudes before in the frame, the nearer one first."""
    near = 2 * last + second_last
    return _NEIGHBOURS[near] if near < len(_NEIGHBOURS) else _NEIGHBOURS_MOST


def context_index(k: int, near: int, before: Frame | None, activity_before: int) -> int:
    """Return coefficient k's entry in the class map; `before` and `activity_before` as in `contexts`."""
    if before is None:
        return k * FIRST_CONTEXTS + near
    same = min(2, abs(before[k])) if before else _AFTER_FIRST
    return k * NEXT_CONTEXTS + near * 16 + same * 4 + activity_before


def encode_body(
    frames: Sequence[Frame],
    tracked: Sequence[bool],
    step_index: int,
    tables: Tables,
    repeats: Sequence[Frame] = (),
) -> bytes:
    """Code `frames`, each 36 integers within +-`MAX_VALUE`; those not tracked are not coded.

    `repeats`: earlier frames, the newest first; only where the first of `frames` is tracked.
    """
    coder = RangeEncoder()
    flag, prediction = True, [0] * COEFFICIENT_COUNT
    history = _History()
    for frame, is_tracked in zip(frames, tracked, strict=True):
        coder.encode(TRACKED_SAME, int(is_tracked != flag))
        flag = is_tracked
        if is_tracked:
            _encode_frame(coder, frame, prediction, history, step_index, tables)
            prediction = [int(v) for v in frame]
    if repeats:
        history, prediction = _History.after_first(), [int(v) for v in frames[0]]
    for frame in repeats:
        _encode_frame(coder, frame, prediction, history, step_index, tables)
        prediction = [int(v) for v in frame]
    return coder.finish()


def decode_body(
    body: bytes, frame_count: int, step_index: int, tables: Tables, repeat_count: int = 0
) -> tuple[list[list[int]], tuple[bool, ...], list[list[int]]]:
    """Read `frame_count` frames, then repeats: frames, whether they are tracked, repeats.

    Untracked frames repeat the frame before. Raises `WireError` for left-over bytes, and for repeats behind a first
    frame that is not tracked.
    """
    coder = RangeDecoder(body)
    flag, values = True, [0] * COEFFICIENT_COUNT
    history = _History()
    frames, tracked, repeats = [], [], []
    for _ in range(frame_count):
        flag ^= bool(coder.decode(TRACKED_SAME))
        tracked.append(flag)
        if flag:
            values = _decode_frame(coder, values, history, step_index, tables)
        frames.append(values)
    if repeat_count:
        if not tracked[0]:
            raise WireError("message repeats frames, and its first one is not tracked")
        history, values = _History.after_first(), frames[0]
        for _ in range(repeat_count):
            values = _decode_frame(coder, values, history, step_index, tables)
            repeats.append(values)
    coder.finish()
    return frames, tuple(tracked), repeats


@dataclass(slots=True)
class _History:
    """What the coded frame before tells about the next one: its residuals (see `contexts`) and its activity."""

    before: Frame | None = None
    activity: int = 0

    @classmethod
    def after_first(cls) -> Self:
        """Return the state after a message's first coded frame."""
        return cls(before=())

    def class_map(self, step_index: int, tables: Tables) -> bytes:
        """Return the map of classes for the next frame."""
        return (tables.first if self.before is None else tables.following)[step_index]

    def note(self, residuals: Frame) -> None:
        """Take in a frame that was coded."""
        first = self.before is None
        self.before, self.activity = ((), 0) if first else (residuals, activity(residuals))


def _encode_frame(
    coder: RangeEncoder, frame: Frame, prediction: Frame, history: _History, step_index: int, tables: Tables
) -> None:
    residuals = [int(v) - p for v, p in zip(frame, prediction, strict=True)]
    class_map = history.class_map(step_index, tables)
    indices = contexts(residuals, history.before, history.activity)
    for index, residual in zip(indices, residuals, strict=True):
        _encode_residual(coder, tables.classes[class_map[index]], residual)
    history.note(residuals)


def _decode_frame(
    coder: RangeDecoder, prediction: Frame, history: _History, step_index: int, tables: Tables
) -> list[int]:
    class_map = history.class_map(step_index, tables)
    residuals = _decode_residuals(coder, tables.classes, class_map, history.before, history.activity)
    history.note(residuals)
    return [
        max(-MAX_VALUE, min(MAX_VALUE, value + residual))
        for value, residual in zip(prediction, residuals, strict=True)
    ]


def _decode_residuals(
    coder: RangeDecoder,
    classes: tuple[tuple[int, ...], ...],
    class_map: bytes,
    before: Frame | None,
    activity_before: int,
) -> list[int]:
    residuals = []
    last = second_last = 0
    for k in range(COEFFICIENT_COUNT):
        near = neighbour_context(last, second_last)
        symbol = coder.decode(classes[class_map[context_index(k, near, before, activity_before)]])
        second_last = last
        if symbol == ESCAPE:
            residual = _decode_escape(coder)
            last = abs(residual)
        else:
            last = (symbol + 1) >> 1
            residual = last if symbol & 1 else -last
        residuals.append(residual)
    return residuals


def _encode_residual(coder: RangeEncoder, cumulative: Sequence[int], residual: int) -> None:
    magnitude = abs(residual)
    if magnitude <= LARGEST:
        coder.encode(cumulative, 2 * magnitude - (residual > 0))
        return
    coder.encode(cumulative, ESCAPE)
    rest = magnitude - LARGEST  # 1, 2, 3, ...: Exp-Golomb, order 0
    prefix = rest.bit_length() - 1
    if prefix > MAX_PREFIX:
        raise WireError(f"residual {residual} is too large to code")
    for _ in range(prefix):
        coder.encode_bits(1, 1)
    if prefix < MAX_PREFIX:
        coder.encode_bits(0, 1)
    coder.encode_bits(rest - (1 << prefix), prefix)
    coder.encode_bits(residual < 0, 1)


def _decode_escape(coder: RangeDecoder) -> int:
    prefix = 0
    while prefix < MAX_PREFIX and coder.decode_bits(1):
        prefix += 1
    magnitude = LARGEST + (1 << prefix) + coder.decode_bits(prefix)
    return -magnitude if coder.decode_bits(1) else magnitude
