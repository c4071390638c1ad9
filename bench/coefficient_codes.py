"""Plain codes of the same coefficients, so that ours stands beside what anybody would write first.

All of them send their messages over the data channel. int8 rounds to the steps of our own quality normal; where a
coefficient moves further than 127 of them, to twice or three times as large ones (found from the whole clip, to
its favour).
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgpack
import numpy as np
from numpy.typing import NDArray

from mien.bench.rate_quality import DATACHANNEL_BYTES, CodedPart, errors
from mien.protocol.codec import frames_per_batch
from mien.protocol.quantizer import Quality, from_steps, to_steps
from mien.protocol.state import COEFFICIENT_COUNT, FaceState
from mien.protocol.stream import StreamHeader

TICK_BYTES: Final = 2  # before each int8 message: which tick its first frame has
LIMIT: Final = 127
Coded = tuple[list[bytes], list[FaceState]]  # messages, and what they decode to


@dataclass(frozen=True, slots=True)
class CodeResult:
    """One clip in one plain code."""

    clip: str
    code: str
    payload_kbps: float
    wire_kbps: float
    messages: int
    total_nme: float
    mouth_nme: float
    eyes_nme: float


def float16(header: StreamHeader, states: Sequence[FaceState], *, per_message: int) -> Coded:
    """MessagePack of the tick and the coefficients as half floats."""
    messages, decoded = [], []
    for first in range(0, len(states), per_message):
        halves = [s.coefficients().astype(np.float16).tobytes() for s in states[first : first + per_message]]
        messages.append(msgpack.packb([first, halves]))
        for row in msgpack.unpackb(messages[-1])[1]:
            decoded.append(FaceState.from_coefficients(np.frombuffer(row, np.float16).astype(np.float32)))
    return messages, decoded


def int8(header: StreamHeader, states: Sequence[FaceState], quality: Quality) -> Coded:
    """The rounded values as they are."""
    values, coarser = _rounded(header, states, quality)
    messages = [_tick(first) + rows.tobytes() for first, rows in _parts(values, header)]
    decoded = [_rows(m[TICK_BYTES:]) for m in messages]
    return messages, _states(np.concatenate(decoded), coarser, header, quality)


def int8_zlib(header: StreamHeader, states: Sequence[FaceState], quality: Quality) -> Coded:
    """Differences from frame to frame, coefficient by coefficient, each message through zlib by itself."""
    values, coarser = _rounded(header, states, quality)
    messages = [
        _tick(first) + zlib.compress(_differences(rows).T.tobytes(), 9, wbits=-15)
        for first, rows in _parts(values, header)
    ]
    decoded = [_summed(_columns(zlib.decompress(m[TICK_BYTES:], wbits=-15))) for m in messages]
    return messages, _states(np.concatenate(decoded), coarser, header, quality)


def int8_zlib_stream(header: StreamHeader, states: Sequence[FaceState], quality: Quality) -> Coded:
    """The same over the whole stream, flushed after each message: one that is lost takes the rest with it."""
    values, coarser = _rounded(header, states, quality)
    values = _differences(values)
    press, open_ = zlib.compressobj(9, wbits=-15), zlib.decompressobj(wbits=-15)
    messages = []
    for first, rows in _parts(values, header):
        data = press.compress(rows.T.tobytes()) + press.flush(zlib.Z_SYNC_FLUSH)
        messages.append(_tick(first) + data)
    decoded = [_columns(open_.decompress(m[TICK_BYTES:])) for m in messages]
    return messages, _states(_summed(np.concatenate(decoded)), coarser, header, quality)


CODES: Final[dict[str, Callable[[StreamHeader, Sequence[FaceState]], Coded]]] = {
    "float16, msgpack, each frame": lambda h, s: float16(h, s, per_message=1),
    "float16, msgpack": lambda h, s: float16(h, s, per_message=frames_per_batch(h)),
    "int8": lambda h, s: int8(h, s, Quality.NORMAL),
    "int8 + zlib": lambda h, s: int8_zlib(h, s, Quality.NORMAL),
    "int8 + zlib, whole stream": lambda h, s: int8_zlib_stream(h, s, Quality.NORMAL),
}


def rate_codes(part: CodedPart) -> Iterator[CodeResult]:
    """Give a result for each code."""
    ticks = part.tracked
    truth = part.truth(ticks)
    for name, code in CODES.items():
        messages, decoded = code(part.header, part.states)
        found = errors(part.placed([decoded[tick] for tick in ticks]), truth, truth)
        size = sum(map(len, messages))
        yield CodeResult(
            clip=part.clip.name,
            code=name,
            payload_kbps=round(part.kbps(size), 4),
            wire_kbps=round(part.kbps(size + DATACHANNEL_BYTES * len(messages)), 3),
            messages=len(messages),
            total_nme=found.total,
            mouth_nme=found.mouth,
            eyes_nme=found.eyes,
        )


def _rounded(
    header: StreamHeader, states: Sequence[FaceState], quality: Quality
) -> tuple[NDArray[np.int8], NDArray[np.int16]]:
    """Return the values int8 [n, 36], and by how much each coefficient's steps are coarser so that it fits."""
    steps = np.array([to_steps(s, header.rest_pose, quality) for s in states])
    coarser = np.maximum(1, np.ceil(np.abs(steps).max(axis=0) / LIMIT)).astype(np.int16)
    return np.rint(steps / coarser).astype(np.int8), coarser


def _states(
    values: NDArray[np.int8], coarser: NDArray[np.int16], header: StreamHeader, quality: Quality
) -> list[FaceState]:
    rows = from_steps(values * coarser, header.rest_pose, quality)
    return [FaceState.from_coefficients(row) for row in rows]


def _parts(values: NDArray[np.int8], header: StreamHeader) -> Iterator[tuple[int, NDArray[np.int8]]]:
    size = frames_per_batch(header)
    for first in range(0, len(values), size):
        yield first, values[first : first + size]


def _tick(first: int) -> bytes:
    return (first & 0xFFFF).to_bytes(TICK_BYTES, "big")


def _rows(data: bytes) -> NDArray[np.int8]:
    return np.frombuffer(data, np.int8).reshape(-1, COEFFICIENT_COUNT)


def _columns(data: bytes) -> NDArray[np.int8]:
    return np.frombuffer(data, np.int8).reshape(COEFFICIENT_COUNT, -1).T


def _differences(rows: NDArray[np.int8]) -> NDArray[np.int8]:
    """The first row, then each one less the one before, modulo 256."""
    return np.diff(rows, axis=0, prepend=np.zeros((1, COEFFICIENT_COUNT), np.int8))


def _summed(rows: NDArray[np.int8]) -> NDArray[np.int8]:
    return np.cumsum(rows, axis=0, dtype=np.int8)
