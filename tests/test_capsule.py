"""Capsules: messages in one, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.protocol.capsule import MAX_MESSAGES, pack, unpack
from mien.protocol.errors import WireError
from mien.protocol.message import MAX_MESSAGE_BYTES

FACE, SCENE = bytes.fromhex("13a0"), bytes.fromhex("43c0000501ff")


def test_vector() -> None:
    data = bytes.fromhex("53 02 13a0 00 43c0000501ff")
    assert pack([FACE, SCENE]) == data and unpack(data) == [FACE, SCENE]


def test_one_message_needs_no_capsule() -> None:
    assert pack([FACE]) == FACE and unpack(FACE) == [FACE] and unpack(b"") == [b""]


@given(st.binary(min_size=1, max_size=60).map(lambda b: bytes([0x53]) + b))
def test_any_bytes(data: bytes) -> None:
    try:
        messages = unpack(data)
    except WireError:
        return
    assert pack(messages) == data


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("53", "before its last"),
        ("5300", "empty"),
        ("53 02 13", "ends at byte 4"),
        ("53 00 13", "holds 1 messages"),
        ("53 01 13 00 53", "within a capsule"),
        ("53 01 13 00 14", "stream 4"),
        ("53" + "0113" * MAX_MESSAGES + "0013", "holds 9"),
        ("53 01 13 00" + "13" * MAX_MESSAGE_BYTES, "1104 bytes"),
    ],
)
def test_capsules_that_are_none(data: str, problem: str) -> None:
    with pytest.raises(WireError, match=problem):
        unpack(bytes.fromhex(data))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [FACE, b""],
        [b"", FACE],
        [FACE + bytes(254), FACE],
        [FACE, b"\x14"],
        [FACE, b"\x53\x00"],
        [FACE] * (MAX_MESSAGES + 1),
        [FACE, FACE + bytes(MAX_MESSAGE_BYTES - 4)],
    ],
)
def test_what_does_not_fit_is_refused(messages: list[bytes]) -> None:
    with pytest.raises(WireError):
        pack(messages)
