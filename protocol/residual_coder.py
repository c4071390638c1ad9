"""The body of a coefficient message: quantised frames to range-coded bytes and back.

Every integer is coded as what is missing from its expectation (`mien.protocol.expectation`), under the
distribution that the expectation names. Repeats of earlier frames come last, and go back in time from the
message's first frame.
"""

from collections.abc import Sequence
from typing import Final

from mien.protocol.errors import WireError
from mien.protocol.expectation import Expectation
from mien.protocol.quantizer import MAX_VALUE
from mien.protocol.range_coder import TOTAL, RangeDecoder, RangeEncoder
from mien.protocol.state import COEFFICIENT_COUNT
from mien.protocol.tables import ESCAPE, LARGEST, Tables

# Whether a frame's `tracked` flag equals the last one's (before the first frame: true).
TRACKED_SAME: Final = (0, 32440, TOTAL)
MAX_PREFIX: Final = 12  # of the escape's Exp-Golomb code: magnitudes beyond 14 + 2^13 cannot be written

Frame = Sequence[int]


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
    flag, expectation = True, Expectation(tables, step_index)
    for frame, is_tracked in zip(frames, tracked, strict=True):
        coder.encode(TRACKED_SAME, int(is_tracked != flag))
        flag = is_tracked
        if is_tracked:
            _encode_frame(coder, frame, expectation, tables)
    if repeats:
        expectation.go_back([int(v) for v in frames[0]])
    for frame in repeats:
        _encode_frame(coder, frame, expectation, tables)
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
    expectation = Expectation(tables, step_index)
    frames, tracked, repeats = [], [], []
    for _ in range(frame_count):
        flag ^= bool(coder.decode(TRACKED_SAME))
        tracked.append(flag)
        if flag:
            values = _decode_frame(coder, expectation, tables)
        frames.append(values)
    if repeat_count:
        if not tracked[0]:
            raise WireError("message repeats frames, and its first one is not tracked")
        expectation.go_back(frames[0])
        repeats = [_decode_frame(coder, expectation, tables) for _ in range(repeat_count)]
    coder.finish()
    return frames, tuple(tracked), repeats


def _encode_frame(coder: RangeEncoder, frame: Frame, expectation: Expectation, tables: Tables) -> None:
    for k, value in enumerate(map(int, frame)):
        likely, number, mirrored = expectation.expect(k)
        missing = likely - value if mirrored else value - likely
        _encode_error(coder, tables.classes[number], missing)
        expectation.take(k, value)
    expectation.end_frame()


def _decode_frame(coder: RangeDecoder, expectation: Expectation, tables: Tables) -> list[int]:
    for k in range(COEFFICIENT_COUNT):
        likely, number, mirrored = expectation.expect(k)
        missing = _decode_error(coder, tables.classes[number])
        value = likely - missing if mirrored else likely + missing
        expectation.take(k, max(-MAX_VALUE, min(MAX_VALUE, value)))
    expectation.end_frame()
    return expectation.values


def _encode_error(coder: RangeEncoder, cumulative: Sequence[int], missing: int) -> None:
    magnitude = abs(missing)
    if magnitude <= LARGEST:
        coder.encode(cumulative, 2 * magnitude - (missing > 0))
        return
    coder.encode(cumulative, ESCAPE)
    rest = magnitude - LARGEST  # 1, 2, 3, ...: Exp-Golomb, order 0
    prefix = rest.bit_length() - 1
    if prefix > MAX_PREFIX:
        raise WireError(f"difference {missing} is too large to code")
    for _ in range(prefix):
        coder.encode_bits(1, 1)
    if prefix < MAX_PREFIX:
        coder.encode_bits(0, 1)
    coder.encode_bits(rest - (1 << prefix), prefix)
    coder.encode_bits(missing < 0, 1)


def _decode_error(coder: RangeDecoder, cumulative: Sequence[int]) -> int:
    symbol = coder.decode(cumulative)
    if symbol != ESCAPE:
        magnitude = (symbol + 1) >> 1
        return magnitude if symbol & 1 else -magnitude
    prefix = 0
    while prefix < MAX_PREFIX and coder.decode_bits(1):
        prefix += 1
    magnitude = LARGEST + (1 << prefix) + coder.decode_bits(prefix)
    return -magnitude if coder.decode_bits(1) else magnitude
