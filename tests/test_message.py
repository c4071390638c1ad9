"""Coefficient messages and the stream header: vectors both ways, every truncation, any bytes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mien.protocol.errors import WireError
from mien.protocol.message import FACE_KINDS, CoefficientMessage, Extension, Kind, MessageHead, message_kind
from mien.protocol.quantizer import MAX_VALUE
from mien.protocol.repeats import REPEAT_STRIDE, Repeats
from mien.protocol.stream import StreamHeader
from mien.protocol.tables import Tables
from tests.stream_samples import vector_stream_header

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "coefficients-1.json").read_text())


def described(entry: dict[str, Any]) -> CoefficientMessage:
    """Return the message that a vector describes."""
    return CoefficientMessage(
        stream=entry["stream"],
        first_tick=entry["first_tick"],
        step_index=entry["step_index"],
        values=np.array(entry["values"], np.int16),
        tracked=tuple(bool(t) for t in entry["tracked"]),
        extensions=tuple(Extension(t, bytes.fromhex(d)) for t, d in entry["extensions"]),
        repeats=repeats_at(entry["repeated_ticks"]),
        repeated=np.array(entry["repeated"], np.int16).reshape(-1, 36),
        still=entry["still"],
        short=entry["short"],
    )


def repeats_at(ticks: list[int]) -> Repeats | None:
    if not ticks:
        return None
    stride = ticks[0] - ticks[1] if len(ticks) > 1 else REPEAT_STRIDE
    return Repeats(len(ticks), stride, (-ticks[0] - 1) // 6)


def same(a: CoefficientMessage, b: CoefficientMessage) -> bool:
    fields = ("stream", "first_tick", "step_index", "tracked", "extensions", "repeats", "still", "short")
    return all(getattr(a, f) == getattr(b, f) for f in fields) and bool(
        (a.values == b.values).all() and (a.repeated == b.repeated).all()
    )


def test_vectors_are_of_these_tables() -> None:
    assert VECTORS["tables_id"] == Tables.load().tables_id.hex()


@pytest.mark.parametrize("entry", VECTORS["canonical"], ids=lambda e: e["name"])
def test_vector_both_ways(entry: dict[str, Any]) -> None:
    data = bytes.fromhex(entry["hex"])
    assert described(entry).serialize() == data
    assert same(CoefficientMessage.parse(data), described(entry))


@pytest.mark.parametrize("entry", VECTORS["damaged"], ids=lambda e: e["name"])
def test_damaged_bodies_read_the_same_everywhere(entry: dict[str, Any]) -> None:
    data = bytes.fromhex(entry["hex"])
    if entry.get("refused"):
        with pytest.raises(WireError):
            CoefficientMessage.parse(data)
    else:
        assert same(CoefficientMessage.parse(data), described(entry))


@pytest.mark.parametrize("entry", VECTORS["refused"], ids=lambda e: e["name"])
def test_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        CoefficientMessage.parse(bytes.fromhex(entry["hex"]))


@st.composite
def messages(draw: st.DrawFn) -> CoefficientMessage:
    repeats = draw(st.none() | st.builds(Repeats, st.integers(1, 3), st.integers(1, 4), st.integers(0, 7)))
    still = repeats is None and draw(st.booleans())
    count = 1 if still else draw(st.integers(1, 4))
    values, repeated = (
        draw(hnp.arrays(np.int16, (n, 36), elements=st.integers(-MAX_VALUE, MAX_VALUE), fill=st.just(0)))
        for n in (count, repeats.count if repeats else 0)
    )
    tracked = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    tracked[0] = tracked[0] or repeats is not None
    for i, flag in enumerate(tracked):
        if not flag:
            values[i] = values[i - 1] if i else 0
    entries = st.builds(Extension, st.integers(0, 255), st.binary(max_size=20))
    extensions = tuple(draw(st.lists(entries, max_size=4)))
    short = not still and not extensions and draw(st.booleans())
    return CoefficientMessage(
        stream=draw(st.integers(0, 15)),
        first_tick=draw(st.integers(0, 0x1FF if short else 0xFFFF)),
        step_index=draw(st.integers(0, 7)),
        values=values,
        tracked=tuple(tracked),
        extensions=extensions,
        repeats=repeats,
        repeated=repeated,
        still=still,
        short=short,
    )


@settings(deadline=None)  # a busy machine is no bug
@given(messages())
def test_round_trip(message: CoefficientMessage) -> None:
    data = message.serialize()
    assert same(CoefficientMessage.parse(data), message)
    assert message_kind(data) == message.kind


@settings(deadline=None)
@given(messages(), st.data())
def test_truncations_and_mutations_never_escape_as_anything_but_a_wire_error(
    message: CoefficientMessage, data: st.DataObject
) -> None:
    whole = message.serialize()
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    position = data.draw(st.integers(0, max(0, len(cut) - 1)))
    changed = cut[:position] + bytes([data.draw(st.integers(0, 255))]) + cut[position + 1 :]
    for candidate in (cut, changed):
        try:
            parsed = CoefficientMessage.parse(candidate)
        except WireError:
            continue
        assert np.abs(parsed.values.astype(int)).max() <= MAX_VALUE


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        CoefficientMessage.parse(data)
    except WireError:
        return
    assert data[0] >> 4 in FACE_KINDS


def test_what_cannot_be_said_is_refused_on_the_way_out() -> None:
    values = np.zeros((2, 36), np.int16)
    values[1, 0] = 5
    with pytest.raises(WireError, match="repeat"):
        CoefficientMessage(0, 0, 1, values, (True, False)).serialize()
    with pytest.raises(WireError, match="beyond"):
        CoefficientMessage(0, 0, 1, np.full((1, 36), MAX_VALUE + 1, np.int16), (True,))
    with pytest.raises(WireError, match="step index"):
        CoefficientMessage(0, 0, 8, values, (True, True))
    with pytest.raises(WireError, match="extensions are"):
        CoefficientMessage(0, 0, 1, values, (True, True), (Extension(1, bytes(254)),)).serialize()


def test_short_heads_hold_neither_extensions_nor_large_ticks() -> None:
    values = np.zeros((1, 36), np.int16)
    with pytest.raises(WireError, match="first tick 512"):
        CoefficientMessage(0, 512, 1, values, (True,), short=True)
    with pytest.raises(WireError, match="no short head"):
        CoefficientMessage(0, 0, 1, values, (True,), (Extension(1, b""),), short=True)
    with pytest.raises(WireError, match="no short head"):
        CoefficientMessage(0, 0, 1, values, (True,), still=True, short=True)


def test_heads() -> None:
    long = MessageHead(Kind.COEFFICIENTS, 3, 5, 6, 0x1234, extended=True)
    assert long.serialize() == bytes.fromhex("13d51234")
    short = MessageHead(Kind.SHORT, 3, 5, 6, 0x134)
    assert short.serialize() == bytes.fromhex("635b34")  # 0101 101 100110100
    for head in (long, short):
        assert MessageHead.parse(head.serialize() + b"body") == head
        for size in range(head.size):
            with pytest.raises(WireError):
                MessageHead.parse(head.serialize()[:size])


def test_stream_header_vector() -> None:
    data = bytes.fromhex(VECTORS["stream_header"])
    assert vector_stream_header().serialize() == data
    assert StreamHeader.parse(data) == vector_stream_header()


def test_stream_header_truncations() -> None:
    data = vector_stream_header().serialize()
    for size in range(len(data)):
        with pytest.raises(WireError, match=f"is {size} bytes, expected 54"):
            StreamHeader.parse(data[:size])


@given(st.integers(0, 53), st.integers(0, 255))
def test_stream_header_has_one_encoding(position: int, value: int) -> None:
    data = bytearray(vector_stream_header().serialize())
    data[position] = value
    try:
        parsed = StreamHeader.parse(bytes(data))
    except WireError:
        return
    assert parsed.serialize() == bytes(data)
