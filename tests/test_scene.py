"""Scene messages: vectors, hostile bytes, loss and order."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.protocol.errors import WireError
from mien.protocol.message import MAX_MESSAGE_BYTES
from mien.protocol.scene import MAX_FRAGMENTS, SceneAssembler, SceneMessage, ScenePacker, SceneUnit

VECTORS: Any = json.loads((Path(__file__).parent / "vectors" / "scene-1.json").read_text(encoding="ascii"))


def unit(number: int, *, refresh: bool = False, size: int = 20) -> SceneUnit:
    return SceneUnit(3 * number, bytes([number % 256]) * size, refresh=refresh)


def packed(units: list[SceneUnit], max_bytes: int = MAX_MESSAGE_BYTES) -> list[list[bytes]]:
    packer = ScenePacker(2)
    return [packer.messages(u, max_bytes=max_bytes) for u in units]


def test_vectors_both_ways() -> None:
    assembler = SceneAssembler(3)
    for row in VECTORS["units"]:
        given_back: list[SceneUnit] = []
        for vector in row["messages"]:
            data = bytes.fromhex(vector["hex"])
            message = SceneMessage.parse(data)
            for name in ("stream", "tick", "unit", "fragment", "last", "refresh", "face"):
                assert getattr(message, name) == vector[name]
            assert len(message.data) == vector["data"] and message.serialize() == data
            given_back += assembler.add(data)
        expected = SceneUnit(row["tick"], bytes.fromhex(row["data"]), row["refresh"], row["face"])
        assert given_back == [expected]  # ticks beyond 2^16 go on


def test_a_packer_writes_the_vectors() -> None:
    packer = ScenePacker(3)
    for row in VECTORS["units"]:
        again = SceneUnit(row["tick"], bytes.fromhex(row["data"]), row["refresh"], row["face"])
        messages = packer.messages(again, max_bytes=VECTORS["max_bytes"])
        assert [m.hex() for m in messages] == [v["hex"] for v in row["messages"]]


@given(st.binary(max_size=40))
def test_any_bytes(data: bytes) -> None:
    try:
        message = SceneMessage.parse(data)
    except WireError:
        return
    assert message.serialize() == data


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "0 bytes"),
        (bytes.fromhex("40c0000000"), "5 bytes"),
        (bytes.fromhex("10c000000001"), "kind 1"),
        (bytes.fromhex("40c800000001"), "spare"),
        (bytes.fromhex("408700000001"), "more than 8"),
        (bytes.fromhex("40c0000000") + bytes(MAX_MESSAGE_BYTES), "1105 bytes"),
    ],
)
def test_bytes_that_are_none(data: bytes, problem: str) -> None:
    with pytest.raises(WireError, match=problem):
        SceneMessage.parse(data)


def test_units_that_do_not_fit_are_refused_and_do_not_count() -> None:
    packer = ScenePacker(0)
    with pytest.raises(WireError, match="does not fit"):
        packer.messages(SceneUnit(0, bytes(MAX_FRAGMENTS * 100)), max_bytes=100)
    with pytest.raises(WireError, match="does not fit"):
        packer.messages(SceneUnit(0, b""))
    assert SceneMessage.parse(packer.messages(unit(1))[0]).unit == 0


def test_units_come_back_in_order_whatever_the_network_does_within_three() -> None:
    units = [unit(n, refresh=n == 0, size=250) for n in range(300)]
    messages = [m for parts in packed(units, 100) for m in parts]
    random = Random(3)
    order = sorted(range(len(messages)), key=lambda at: at + random.uniform(0, 4))
    assembler = SceneAssembler(2)
    out = [u for at in order for u in (*assembler.add(messages[at]), *assembler.add(messages[at]))]
    assert out == units
    assert assembler.lost == 0 and not assembler.wants_refresh


def test_after_a_loss_nothing_comes_until_a_refresh() -> None:
    units = [unit(n, refresh=n in (0, 9)) for n in range(12)]
    assembler = SceneAssembler(2)
    out: list[int] = []
    wanted = []
    for number, parts in enumerate(packed(units)):
        if number == 4:
            continue
        out += [u.tick // 3 for u in assembler.add(parts[0])]
        wanted.append(assembler.wants_refresh)
    assert out == [0, 1, 2, 3, 9, 10, 11]
    assert wanted == [False] * 5 + [True] * 3 + [False] * 3  # units 5 and 6 wait; then 4 is given up
    assert assembler.lost == 1


def test_without_a_refresh_nothing_begins() -> None:
    assembler = SceneAssembler(2)
    assert assembler.wants_refresh
    assert [u for parts in packed([unit(n) for n in range(9)]) for u in assembler.add(parts[0])] == []
    assert assembler.wants_refresh


def test_a_lost_fragment_is_a_lost_unit() -> None:
    units = [unit(n, refresh=n == 0, size=300) for n in range(8)]
    assembler = SceneAssembler(2)
    messages = [m for parts in packed(units, 100) for m in parts]
    out = [u.tick // 3 for at, m in enumerate(messages) if at != 9 for u in assembler.add(m)]
    assert out == [0, 1]


def test_a_late_beginning_is_told_the_time() -> None:
    message = SceneMessage(stream=1, tick=5, unit=0, data=b"x", refresh=True).serialize()
    assembler = SceneAssembler(1)
    assembler.note_tick((1 << 17) - 3)
    assert [u.tick for u in assembler.add(message)] == [(1 << 17) + 5]


def test_messages_of_another_stream_are_refused() -> None:
    with pytest.raises(WireError, match="stream 2"):
        SceneAssembler(1).add(packed([unit(0)])[0][0])


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 7), st.booleans(), st.booleans()), max_size=60))
def test_hostile_numbers_hold_little(numbers: list[tuple[int, int, bool, bool]]) -> None:
    assembler = SceneAssembler(0)
    for number, fragment, last, refresh in numbers:
        if last or fragment < MAX_FRAGMENTS - 1:
            assembler.add(
                SceneMessage(
                    stream=0, tick=0, unit=number, data=b"x", fragment=fragment, last=last, refresh=refresh
                ).serialize()
            )
        assert assembler.held <= 16 * MAX_FRAGMENTS
