"""What integers are expected to be: sums that a plain loop gives too, and bounds that no input breaks."""

import numpy as np
import pytest

from mien.protocol.errors import MienError
from mien.protocol.expectation import MOST, Expectation, bit_lengths
from mien.protocol.quantizer import MAX_VALUE
from mien.protocol.tables import CLASS_COUNT, Tables


def take_frame(expectation: Expectation, frame: list[int]) -> list[tuple[int, int, bool]]:
    met = []
    for k, value in enumerate(frame):
        met.append(expectation.expect(k))
        expectation.take(k, value)
    expectation.end_frame()
    return met


def plain(
    tables: Tables, step: int, frames: list[list[int]], *, repeats: int = 0
) -> list[list[tuple[int, int, bool]]]:
    """The same by SPEC.md section 2, one number at a time; the last `repeats` frames are repeats."""
    values, motion, recent = [0] * 36, [0] * 36, [0] * 36
    result = []
    for number, frame in enumerate(frames):
        repeated = number - (len(frames) - repeats)
        if repeated == 0:
            values, motion, recent = frames[0], [0] * 36, [0] * 36
        phase = 3 if repeated >= 0 else min(2, number)
        row = []
        for k in range(36):
            mean, spread = 0, int(tables.biases[step, phase, k])
            for j in range(k):
                d = frame[j] - values[j]
                source = 1 if phase else 0
                mean += int(tables.means[source, j, k]) * max(-MOST, min(MOST, d))
                spread += int(tables.spreads[source, j, k]) * abs(d).bit_length()
            for j in range(36 if phase else 0):
                mean += int(tables.means[2, j, k]) * max(-MOST, min(MOST, motion[j]))
                spread += int(tables.spreads[2, j, k]) * recent[j].bit_length()
            whole = (mean + 128) // 256
            part = mean - 256 * whole
            number_of = 3 * max(0, min(35, spread // 64)) + abs(part) * 3 // 129
            row.append((max(-4095, min(4095, values[k] + whole)), number_of, part < 0))
        result.append(row)
        if phase:
            motion = [v - w for v, w in zip(frame, values, strict=True)]
            recent = [r // 2 + 2 * abs(m) for r, m in zip(recent, motion, strict=True)]
        values = frame
    return result


@pytest.mark.parametrize("spread", [1, 30, 3000])
def test_expectations_are_those_of_the_specification(spread: int) -> None:
    rng = np.random.default_rng(spread)
    frames = np.clip(np.cumsum(rng.laplace(0, spread, (7, 36)), axis=0), -4095, 4095).astype(int).tolist()
    tables = Tables.load()
    expectation = Expectation(tables, 2)
    met = [take_frame(expectation, frame) for frame in frames[:5]]
    expectation.go_back(frames[0])
    met += [take_frame(expectation, frame) for frame in frames[5:]]
    assert met == plain(tables, 2, frames, repeats=2)


def test_the_next_integer_is_expected_where_the_last_one_was() -> None:
    expectation = Expectation(Tables.load(), 1)
    frame = [(-1) ** k * k for k in range(36)]
    for _ in range(3):
        take_frame(expectation, frame)
    assert [expectation.expect(k)[0] for k in range(36)] == frame


def test_nothing_leaves_its_bounds() -> None:
    expectation = Expectation(Tables.load(), 0)
    for sign in (1, -1, 1, -1):
        for likely, number, _ in take_frame(expectation, [sign * MAX_VALUE] * 36):
            assert abs(likely) <= MAX_VALUE and 0 <= number < CLASS_COUNT


def test_bit_lengths() -> None:
    integers = np.array([0, 1, -1, 2, 3, -4, 7, 8, 32767, -32768])
    assert bit_lengths(integers).tolist() == [int(v).bit_length() for v in integers]


def test_tables_have_one_form() -> None:
    data = Tables.load().serialize()
    assert Tables.parse(data).serialize() == data
    assert Tables.parse(data).tables_id == Tables.load().tables_id
    wrong_size, wrong_order = bytearray(data), bytearray(data)
    wrong_size[4] += 1
    wrong_order[8:10] = b"\xff\xff"
    for broken in (
        b"",
        data[:7],
        data[:-1],
        data + b"\0",
        bytes(wrong_size),
        bytes(wrong_order),
        b"MTB1" + data[4:],
    ):
        with pytest.raises(MienError, match="damaged"):
            Tables.parse(broken)
