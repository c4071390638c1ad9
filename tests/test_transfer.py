"""Avatar transfer: bytes of every message, and both state machines against each other and against liars."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.protocol.avatar import AvatarAssembler, assemble, sign_avatar
from mien.protocol.consent import ConsentKind
from mien.protocol.errors import WireError
from mien.protocol.transfer import (
    HEAD_PART,
    MAX_CHUNK_BYTES,
    MAX_TRANSFER_BYTES,
    AvatarReceiver,
    AvatarSender,
    Chunk,
    Done,
    Offer,
    RefusalReason,
    Refuse,
    TransferMessage,
    Want,
    parse_transfer,
)
from tests.avatar_samples import CREATED, OTHER_KEY, TEST_KEY, content, fields_of, own, resign, sample, split

NOW = CREATED + 100
ID = bytes(range(8))
VECTORS: list[tuple[str, TransferMessage]] = [
    ("41" + bytes(range(32)).hex() + "0001e240", Offer(bytes(range(32)), 123456)),
    ("42 0001020304050607 02 ff00000000 0300000400", Want(ID, ((HEAD_PART, 0), (3, 1024)))),
    ("43 0001020304050607 03 00000400 616263", Chunk(ID, 3, 1024, b"abc")),
    ("44 0001020304050607", Done(ID)),
    ("45 0001020304050607 03", Refuse(ID, RefusalReason.NOT_PERMITTED)),
]


@pytest.mark.parametrize(("text", "message"), VECTORS)
def test_vectors(text: str, message: TransferMessage) -> None:
    data = bytes.fromhex(text)
    assert parse_transfer(data) == message
    assert message.serialize() == data


@pytest.mark.parametrize(("text", "message"), VECTORS)
def test_every_truncation_and_a_tail(text: str, message: TransferMessage) -> None:
    data = bytes.fromhex(text)
    for size in range(len(data)):
        if isinstance(message, Chunk) and size > 14:
            continue  # a shorter chunk is a chunk
        with pytest.raises(WireError):
            parse_transfer(data[:size])
    if not isinstance(message, Chunk):
        with pytest.raises(WireError):
            parse_transfer(data + b"\0")


def test_any_bytes() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        data = rng.randbytes(rng.randrange(60))
        if data and rng.random() < 0.7:
            data = bytes([rng.randrange(0x40, 0x47)]) + data[1:]
        try:
            message = parse_transfer(data)
        except WireError:
            continue
        assert message.serialize() == data


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([bytes.fromhex(text) for text, _ in VECTORS]), st.integers(0, 60), st.integers(0, 255))
def test_mutations(data: bytes, at: int, value: int) -> None:
    damaged = bytearray(data)
    damaged[at % len(data)] = value
    try:
        assert parse_transfer(bytes(damaged)).serialize() == bytes(damaged)
    except WireError:
        pass


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("40", "kind 0x40"),
        ("", "0 bytes"),
        ("42 0001020304050607 00", "0 parts"),
        ("42 0001020304050607 02 0300000000 0300000001", "twice"),
        ("42 0001020304050607 01 2800000000", "part 40"),
        ("43 0001020304050607 03 7fffffff 61", "offset"),
        ("45 0001020304050607 09", "reason 9"),
        ("41" + "00" * 32 + "00000000", "0 bytes is offered"),
        ("41" + "00" * 32 + "ffffffff", "more than there may be"),
    ],
)
def test_what_is_refused(text: str, error: str) -> None:
    with pytest.raises(WireError, match=error):
        parse_transfer(bytes.fromhex(text))


def test_sizes_are_bounded() -> None:
    with pytest.raises(WireError, match="1025 bytes"):
        Chunk(ID, 0, 0, bytes(MAX_CHUNK_BYTES + 1))
    with pytest.raises(WireError, match="expected 1 to"):
        parse_transfer(b"\x43" + bytes(MAX_TRANSFER_BYTES))


# --- both sides -----------------------------------------------------------------------------------------------


def wire(message: TransferMessage) -> TransferMessage:
    """Send a message through its bytes."""
    return parse_transfer(message.serialize())


def run(
    sender: AvatarSender,
    receiver: AvatarReceiver,
    cached: AvatarAssembler | None = None,
    *,
    chunks: int = 10_000,
) -> int:
    """Talk until nobody has anything to say, or so many chunks went; return how many bytes of chunks did."""
    offer = wire(sender.offer())
    assert isinstance(offer, Offer)
    answers, sent = receiver.on_offer(offer, cached), 0
    for _ in range(chunks):
        for answer in answers:
            sender.receive(wire(answer))
        chunk = sender.next_chunk()
        if chunk is None:
            break
        sent += len(chunk.data)
        arrived = wire(chunk)
        assert isinstance(arrived, Chunk)
        answers = receiver.receive(arrived, now_unix_s=NOW)
    return sent


def person() -> bytes:
    return sample(kind=ConsentKind.SELF)


def test_a_whole_transfer() -> None:
    sender, receiver = AvatarSender(assemble(person(), now_unix_s=NOW)), AvatarReceiver(loopback=False)
    assert run(sender, receiver) == len(person())
    assert sender.done
    assert receiver.assembler is not None
    assert receiver.assembler.complete
    assert receiver.assembler.serialize() == person()


def test_the_face_comes_first() -> None:
    sender, receiver = AvatarSender(assemble(person(), now_unix_s=NOW)), AvatarReceiver(loopback=False)
    run(sender, receiver, chunks=1 + 4)  # the head, and 3.7 kB of the first layer
    assert receiver.assembler is not None
    assert receiver.assembler.avatar is not None
    assert not receiver.assembler.complete
    assert sender.pending_bytes == sum(len(body) for body in split(person())[1][1:])


def test_what_is_cached_is_not_sent() -> None:
    sender, receiver = AvatarSender(assemble(person(), now_unix_s=NOW)), AvatarReceiver(loopback=False)
    assert run(sender, receiver, assemble(person(), now_unix_s=NOW)) == 0
    assert sender.done
    assert receiver.assembler is not None
    assert receiver.assembler.avatar is not None


def test_a_broken_transfer_goes_on_where_it_was() -> None:
    first = AvatarReceiver(loopback=False)
    got = run(AvatarSender(assemble(person(), now_unix_s=NOW)), first, chunks=6)
    assert first.assembler is not None
    again = AvatarReceiver(loopback=False)
    rest = run(AvatarSender(assemble(person(), now_unix_s=NOW)), again, first.assembler)
    assert again.assembler is not None
    assert again.assembler.complete
    assert rest == len(person()) - got


def test_a_cached_avatar_of_another_id_is_not_taken() -> None:
    other = sign_avatar(content(), own(name="Eve"), OTHER_KEY)
    sender, receiver = AvatarSender(assemble(person(), now_unix_s=NOW)), AvatarReceiver(loopback=False)
    run(sender, receiver, assemble(other, now_unix_s=NOW))
    assert receiver.assembler is not None
    assert receiver.assembler.manifest.owner == TEST_KEY.public_key


def test_fixtures_stay_on_the_machine() -> None:
    sender, receiver = AvatarSender(assemble(sample(), now_unix_s=NOW)), AvatarReceiver(loopback=False)
    run(sender, receiver)
    assert sender.refused is RefusalReason.NOT_PERMITTED
    assert receiver.assembler is None
    assert sender.next_chunk() is None
    sender, receiver = AvatarSender(assemble(sample(), now_unix_s=NOW)), AvatarReceiver(loopback=True)
    run(sender, receiver)
    assert sender.done


def test_uses_that_exclude_calls() -> None:
    data = sign_avatar(content(), own(uses=("record",)), TEST_KEY)
    sender, receiver = AvatarSender(assemble(data, now_unix_s=NOW)), AvatarReceiver(loopback=True)
    run(sender, receiver)
    assert sender.refused is RefusalReason.NOT_PERMITTED


def test_expired() -> None:
    data = sign_avatar(content(), own(expires_unix_s=NOW), TEST_KEY)
    sender, receiver = AvatarSender(assemble(data, now_unix_s=CREATED)), AvatarReceiver(loopback=False)
    run(sender, receiver)
    assert sender.refused is RefusalReason.EXPIRED
    assert receiver.refused is not None
    assert "expired" in receiver.refused


def test_a_forged_head() -> None:
    head, _ = split(person())
    forged = head[:20] + bytes([head[20] ^ 1]) + head[21:]
    receiver = AvatarReceiver(loopback=False)
    receiver.on_offer(Offer(assemble(person(), now_unix_s=NOW).avatar_id, len(person())), None)
    transfer = assemble(person(), now_unix_s=NOW).avatar_id[:8]
    assert receiver.receive(Chunk(transfer, HEAD_PART, 0, forged), now_unix_s=NOW) == [
        Refuse(transfer, RefusalReason.DAMAGED)
    ]
    assert receiver.refused is not None
    assert "signature" in receiver.refused
    assert receiver.receive(Chunk(transfer, HEAD_PART, 0, head), now_unix_s=NOW) == []  # it is over


def test_another_avatar_than_offered() -> None:
    other = assemble(sign_avatar(content(), own(name="Eve"), OTHER_KEY), now_unix_s=NOW)
    offered = assemble(person(), now_unix_s=NOW).avatar_id
    receiver = AvatarReceiver(loopback=False)
    receiver.on_offer(Offer(offered, 5000), None)
    answer = receiver.receive(Chunk(offered[:8], HEAD_PART, 0, other.head.data), now_unix_s=NOW)
    assert answer == [Refuse(offered[:8], RefusalReason.DAMAGED)]


def test_a_damaged_layer() -> None:
    whole = assemble(person(), now_unix_s=NOW)
    head, bodies = split(person())
    receiver = AvatarReceiver(loopback=False)
    receiver.on_offer(Offer(whole.avatar_id, len(person())), None)
    transfer = whole.avatar_id[:8]
    receiver.receive(Chunk(transfer, HEAD_PART, 0, head), now_unix_s=NOW)
    body = bytes([bodies[0][0] ^ 1]) + bodies[0][1:]
    answers: list[TransferMessage] = []
    for at in range(0, len(body), 1000):
        answers += receiver.receive(Chunk(transfer, 0, at, body[at : at + 1000]), now_unix_s=NOW)
    assert answers == [Refuse(transfer, RefusalReason.DAMAGED)]
    assert receiver.assembler is None


@pytest.mark.parametrize("chunk", [Chunk(ID, 0, 0, b"x"), Chunk(ID, HEAD_PART, 5, b"x")])
def test_chunks_out_of_order(chunk: Chunk) -> None:
    receiver = AvatarReceiver(loopback=False)
    assert receiver.receive(chunk, now_unix_s=NOW) == []  # nothing was offered
    receiver.on_offer(Offer(ID + bytes(24), 5000), None)
    assert receiver.receive(chunk, now_unix_s=NOW) == [Refuse(ID, RefusalReason.DAMAGED)]


def test_a_head_that_never_ends() -> None:
    receiver = AvatarReceiver(loopback=False)
    receiver.on_offer(Offer(ID + bytes(24), 5000), None)
    head = split(person())[0][:10] + b"\x0f\xff" + bytes(8000)
    answers: list[TransferMessage] = []
    for at in range(0, len(head), 1000):
        answers += receiver.receive(Chunk(ID, HEAD_PART, at, head[at : at + 1000]), now_unix_s=NOW)
    assert answers == [Refuse(ID, RefusalReason.DAMAGED)]


def test_too_much() -> None:
    receiver = AvatarReceiver(loopback=False, max_bytes=5000)
    whole = assemble(person(), now_unix_s=NOW)
    refusal = [Refuse(whole.avatar_id[:8], RefusalReason.TOO_MUCH)]
    assert receiver.on_offer(Offer(whole.avatar_id, len(person())), None) == refusal
    receiver.on_offer(Offer(whole.avatar_id, 5000), None)  # a lie, found out by the head
    chunk = Chunk(whole.avatar_id[:8], HEAD_PART, 0, whole.head.data)
    assert receiver.receive(chunk, now_unix_s=NOW) == refusal


def test_declined() -> None:
    sender, receiver = AvatarSender(assemble(person(), now_unix_s=NOW)), AvatarReceiver(loopback=False)
    assert receiver.decline() == []
    receiver.on_offer(sender.offer(), None)
    for answer in receiver.decline():
        sender.receive(answer)
    assert sender.refused is RefusalReason.DECLINED


def test_senders_refuse_nonsense() -> None:
    sender = AvatarSender(assemble(person(), now_unix_s=NOW))
    transfer = assemble(person(), now_unix_s=NOW).avatar_id[:8]
    with pytest.raises(WireError, match="does not exist"):
        sender.receive(Want(transfer, ((30, 0),)))
    with pytest.raises(WireError, match="does not exist"):
        sender.receive(Want(transfer, ((0, 1 << 20),)))
    with pytest.raises(WireError, match="expected Want"):
        sender.receive(Chunk(transfer, 0, 0, b"x"))
    sender.receive(Want(ID, ((0, 0),)))  # for another transfer
    assert sender.next_chunk() is None
    assert sender.pending_bytes == 0


def test_a_new_want_replaces_the_old() -> None:
    sender = AvatarSender(assemble(person(), now_unix_s=NOW))
    transfer = assemble(person(), now_unix_s=NOW).avatar_id[:8]
    sender.receive(Want(transfer, ((0, 0), (1, 0))))
    assert sender.next_chunk(10) == Chunk(transfer, 0, 0, split(person())[1][0][:10])
    sender.receive(Want(transfer, ((1, 5),)))
    assert sender.next_chunk() == Chunk(transfer, 1, 5, split(person())[1][1][5:])
    assert sender.next_chunk() is None


def test_a_hostile_owner_does_not_crash_a_receiver() -> None:
    rng = random.Random(8)
    for _ in range(300):
        fields = fields_of(person())
        fields["layers"][rng.randrange(4)][rng.randrange(4)] = rng.choice(
            [0, 1, 2, 99, 5000, b"\0" * 32, None]
        )
        head = split(person())[0]
        try:
            data = resign(fields, split(person())[1])
            head = data[: 76 + int.from_bytes(data[10:12], "big")]
            offered = AvatarAssembler(head, now_unix_s=NOW).avatar_id
        except WireError:
            offered = bytes(32)
        receiver = AvatarReceiver(loopback=False)
        receiver.on_offer(Offer(offered, 9000), None)
        receiver.receive(Chunk(offered[:8], HEAD_PART, 0, head[:1024]), now_unix_s=NOW)
        for part, body in enumerate(split(person())[1]):
            for at in range(0, len(body), 1024):
                receiver.receive(Chunk(offered[:8], part, at, body[at : at + 1024]), now_unix_s=NOW)
        if receiver.assembler is not None and receiver.assembler.avatar is not None:
            assert receiver.refused is None
