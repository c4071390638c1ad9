"""The range coder: what goes in comes out, in as few bytes as the probabilities promise."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.protocol.errors import WireError
from mien.protocol.range_coder import TOTAL, RangeDecoder, RangeEncoder

Step = tuple[
    list[int] | None, int, int
]  # cumulative frequencies or None for bits, symbol or value, bit count


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    """A program for the coder: symbols under arbitrary distributions, and raw bits."""
    program: list[Step] = []
    for _ in range(draw(st.integers(0, 60))):
        if draw(st.booleans()):
            count = draw(st.integers(0, 15))
            program.append((None, draw(st.integers(0, (1 << count) - 1)), count))
        else:
            cuts = sorted(draw(st.sets(st.integers(1, TOTAL - 1), max_size=20)))
            cumulative = [0, *cuts, TOTAL]
            program.append((cumulative, draw(st.integers(0, len(cumulative) - 2)), 0))
    return program


def encode(program: list[Step]) -> bytes:
    coder = RangeEncoder()
    for cumulative, value, count in program:
        if cumulative is None:
            coder.encode_bits(value, count)
        else:
            coder.encode(cumulative, value)
    return coder.finish()


@given(steps())
def test_round_trip(program: list[Step]) -> None:
    decoder = RangeDecoder(encode(program))
    for cumulative, value, count in program:
        assert (decoder.decode_bits(count) if cumulative is None else decoder.decode(cumulative)) == value
    decoder.finish()


@given(steps())
def test_length_is_the_information(program: list[Step]) -> None:
    bits = 0.0
    for cumulative, value, count in program:
        bits += (
            count if cumulative is None else -math.log2((cumulative[value + 1] - cumulative[value]) / TOTAL)
        )
    # Rounding the range costs at most 2^-8 of a symbol's interval; the end at most one byte.
    assert len(encode(program)) <= bits / 8 + 1 + 0.01 * len(program)


def test_carry_passes_through_held_back_bytes() -> None:
    nearly_one, rare = [0, 1, TOTAL], [0, TOTAL - 1, TOTAL]
    program: list[Step] = [(nearly_one, 1, 0)] * 3 + [(rare, 1, 0)] * 5 + [(None, 0x7FFF, 15)] * 4
    decoder = RangeDecoder(encode(program))
    assert [decoder.decode_bits(c) if t is None else decoder.decode(t) for t, _, c in program] == [
        v for _, v, _ in program
    ]


def test_vector() -> None:
    coder = RangeEncoder()
    for symbol in (0, 1, 2, 1):
        coder.encode([0, 16384, 24576, TOTAL], symbol)
    coder.encode_bits(5, 3)
    # 1/2, 1/4, 1/4, 1/4 and 3 bits: 0 10 11 10 101
    assert coder.finish() == bytes([0b01011101, 0b01000000])


def test_left_over_bytes_are_refused() -> None:
    decoder = RangeDecoder(b"\x12\x34\x56\x78\x9a\xbc")
    decoder.decode([0, 100, TOTAL])
    with pytest.raises(WireError, match="body is 6 bytes"):
        decoder.finish()
    with pytest.raises(WireError, match="zero byte"):
        RangeDecoder(b"\x01\0").finish()


@given(st.binary(max_size=40), st.integers(0, 15))
def test_any_bytes_decode_to_some_symbol(data: bytes, count: int) -> None:
    decoder = RangeDecoder(data)
    for _ in range(50):
        assert 0 <= decoder.decode([0, 5, 30000, TOTAL]) <= 2
        assert 0 <= decoder.decode_bits(count) < 1 << count
