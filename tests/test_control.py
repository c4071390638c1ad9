"""Control messages: known bytes, every truncation, mutations, and what must be refused."""

import dataclasses
import random
from fractions import Fraction

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.protocol import control
from mien.protocol.control import (
    MAX_CONTROL_BYTES,
    AvatarVerdict,
    Bye,
    CarrierHeard,
    ControlMessage,
    Hello,
    OwnerProof,
    ReceiverReport,
    RecordingNotice,
    Rung,
    RungSwitch,
    SceneStart,
    SceneWanted,
    StreamStart,
    UnknownControl,
    VoiceClock,
    parse_control,
    proof_transcript,
)
from mien.protocol.errors import WireError
from tests.stream_samples import stream_header

HEADER = stream_header(stream=1, unit_px=Fraction(100), width=640, height=480)
HELLO = Hello(1, "mien 0.1.0", bytes(range(32)), (0,), (0, 2, 3), (1,), (0,), 16_000)
EXAMPLES: list[ControlMessage] = [
    HELLO,
    StreamStart.of(HEADER),
    OwnerProof(bytes(32), bytes(32), bytes(64)),
    AvatarVerdict(bytes(32), 6),
    RungSwitch(Rung.VIDEO, 1, True),
    RecordingNotice(True),
    ReceiverReport(
        1 << 50, 0, 0, 70_000, 3, 2, 1, 1, 900, 40_000, 250_000, 60_000, 99_000, 80_000, 1 << 40, 16_000
    ),
    Bye(0),
    CarrierHeard(1, 70_000, 2_600),
    VoiceClock(15, 1 << 40, (1 << 32) - 1),
    SceneStart(3, True),
    SceneWanted(15),
]


def test_vectors() -> None:
    assert RungSwitch(Rung.VIDEO, 1, True).serialize() == bytes.fromhex(
        "92 05 83 a4 72756e67 03 a6 726561736f6e 01 ab 63616d6572615f6c697665 c3"
    )
    assert Bye(0).serialize() == bytes.fromhex("92 08 81 a6 726561736f6e 00")
    assert CarrierHeard(1, 300, 0).serialize() == bytes.fromhex(
        "92 09 83 a7 63617272696572 01 a8 6d65737361676573 cd 012c a9 73696c656e745f6d73 00"
    )
    assert HELLO.serialize() == bytes.fromhex(
        "92 01 88 a8 70726f746f636f6c 01 a8 736f667477617265 aa 6d69656e20302e312e30"
        "a9 6368616c6c656e6765 c4 20 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        "a8 6361727269657273 91 00 a5 72756e6773 93 00 02 03 a6 636f64656373 91 01 a5 617564696f 91 00"
        "aa 6275646765745f627073 cd 3e80"
    )


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_round_trip_and_every_truncation(message: ControlMessage) -> None:
    data = message.serialize()
    assert parse_control(data) == message
    for end in range(len(data)):
        with pytest.raises(WireError):
            parse_control(data[:end])
    with pytest.raises(WireError):
        parse_control(data + b"\0")


def test_every_kind_has_an_example() -> None:
    assert {type(m) for m in EXAMPLES} == set(control._KINDS.values())


def test_stream_start_carries_a_parsed_header() -> None:
    assert StreamStart.of(HEADER).stream() == HEADER
    with pytest.raises(WireError, match="version 2"):
        StreamStart(b"\2" + HEADER.serialize()[1:])


def test_mutations_give_the_same_bytes_back_or_a_clean_error() -> None:
    rng = random.Random(1)
    survivors = 0
    for _ in range(4000):
        data = bytearray(rng.choice(EXAMPLES).serialize())
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            action = rng.randrange(3)
            if action == 0:
                data[at] = rng.randrange(256)
            elif action == 1:
                data.insert(at, rng.randrange(256))
            elif len(data) > 1:
                del data[at]
        try:
            message = parse_control(bytes(data))
        except WireError:
            continue
        survivors += 1
        if not isinstance(message, UnknownControl):
            assert message.serialize() == bytes(data)
    assert survivors > 100  # a mutated hash is still a hash


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        message = parse_control(data)
    except WireError:
        return
    assert isinstance(message, UnknownControl) or message.serialize() == data


names = st.text("abc\u00e9", max_size=8)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.binary(max_size=40)
    | names
)
json_like = leaves | st.lists(leaves, max_size=4) | st.dictionaries(names, leaves, max_size=2)


@given(
    st.integers(0, 130),
    st.dictionaries(st.sampled_from(["reason", "rung", "active", "verdict", "x"]), json_like),
)
def test_any_msgpack(kind: int, values: dict[str, object]) -> None:
    data = msgpack.packb([kind, values])
    try:
        message = parse_control(data)
    except WireError:
        return
    assert isinstance(message, UnknownControl) or message.serialize() == data


def test_unknown_kind_is_skippable() -> None:
    assert parse_control(msgpack.packb([99, {"anything": [1, 2.5, "x"]}])) == UnknownControl(99)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not msgpack"),
        (bytes(MAX_CONTROL_BYTES + 1), "at most 1024"),
        (b"\x91" * 1000 + b"\0", "control message is"),  # deep nesting
        (b"\xdd\xff\xff\xff\xff", "not msgpack"),  # an array of 4 billion
        (msgpack.packb(7), "expected an array"),
        (msgpack.packb([8, [0]]), "expected a map"),
        (msgpack.packb([-1, {}]), "kind of a control message is -1"),
        (msgpack.packb([True, {}]), "kind of a control message is True"),
        (msgpack.packb([128, {}]), "expected 0 to 127"),
        (msgpack.packb([8, {}]), "'reason' is missing"),
        (msgpack.packb([8, {"reason": 0, "more": 1}]), "'more' is missing or unknown"),
        (msgpack.packb([8, {"reason": True}]), "expected an integer"),
        (msgpack.packb([8, {"reason": 1.0}]), "expected an integer"),
        (msgpack.packb([8, {"reason": 256}]), "expected 0 to 255"),
        (msgpack.packb([8, {"reason": {"a": 1}}]), "no map inside"),
        (msgpack.packb([8, {1: 0}]), "not msgpack"),
        (msgpack.packb([8, {b"reason": 0}]), "not named by text"),
        (b"\x92\x08\x82\xa6reason\0\xa6reason\0", "stands twice"),
        (b"\x92\x08\x81\xa6reason\xcc\0", "shortest form"),
        (msgpack.packb([5, {"rung": 9, "reason": 0, "camera_live": False}]), "expected one of"),
        (msgpack.packb([5, {"reason": 0, "rung": 2, "camera_live": False}]), "shortest form"),  # order
        (msgpack.packb([6, {"active": 1}]), "expected true or false"),
        (msgpack.packb([4, {"avatar_id": b"short", "verdict": 0}]), "5 bytes, expected 32"),
        (msgpack.packb([4, {"avatar_id": "text", "verdict": 0}]), "expected bytes"),
    ],
)
def test_refused(data: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        parse_control(data)


def test_refused_on_the_way_out_too() -> None:
    for change in (
        {"software": "x" * 41},
        {"software": "two\nlines"},
        {"carriers": (1, 0)},
        {"rungs": (2, 2)},
        {"codecs": tuple(range(17))},
        {"challenge": bytes(31)},
        {"protocol": 256},
    ):
        with pytest.raises(WireError):
            dataclasses.replace(HELLO, **change)


def test_transcripts_differ_for_every_part() -> None:
    parts = {
        "challenge": b"c" * 32,
        "prover_fingerprint": b"p" * 32,
        "verifier_fingerprint": b"v" * 32,
        "avatar_id": b"a" * 32,
    }
    seen = {proof_transcript(**parts)}
    for name in parts:
        seen.add(proof_transcript(**{**parts, name: b"x" * 32}))
    swapped = {**parts, "prover_fingerprint": b"v" * 32, "verifier_fingerprint": b"p" * 32}
    seen.add(proof_transcript(**swapped))  # a proof cannot be sent back to the one who gave it
    assert len(seen) == 6
    with pytest.raises(ValueError, match="expected 32 each"):
        proof_transcript(**{**parts, "challenge": b""})
