"""Fuzzed: what two ends, and an end and the signalling server, say to each other."""

from typing import Final

from mien.bench.fuzz_samples import NOW_S, avatar_file, stream_header
from mien.bench.fuzz_target import Broken, Target, same
from mien.call.signal_messages import (
    Joined,
    Left,
    Refused,
    Signal,
    SignalMessage,
    Welcome,
    parse_signal_message,
)
from mien.protocol import control
from mien.protocol.avatar import assemble
from mien.protocol.control import Rung, UnknownControl, parse_control
from mien.protocol.errors import WireError
from mien.protocol.transfer import (
    HEAD_PART,
    ID_BYTES,
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


def control_messages() -> list[bytes]:
    identity = bytes(range(32))
    kinds: list[control.ControlMessage] = [
        control.Hello(1, "mien 0.1.0", identity, (0, 1), (0, 2, 3), (1,), (0,), 20_000),
        control.StreamStart.of(stream_header()),
        control.OwnerProof(identity, identity, identity * 2),
        control.AvatarVerdict(identity, 1),
        control.RungSwitch(Rung.VIDEO, 1, True),
        control.RecordingNotice(True),
        control.ReceiverReport(**{name: 7 << i for i, name in enumerate(control.ReceiverReport.CHECKS)}),
        control.Bye(0),
    ]
    return [m.serialize() for m in kinds]


def transfer_messages() -> list[bytes]:
    whole = assemble(avatar_file(), now_unix_s=NOW_S)
    sender = AvatarSender(whole)
    transfer = whole.avatar_id[:ID_BYTES]
    want = Want(transfer, ((HEAD_PART, 0), (0, 10), (1, 0)))
    sender.receive(want)
    chunks = [c for c in (sender.next_chunk(300) for _ in range(3)) if c is not None]
    kinds: list[TransferMessage] = [sender.offer(), want, *chunks, Done(transfer)]
    return [m.serialize() for m in [*kinds, Refuse(transfer, RefusalReason.DAMAGED)]]


def signal_messages() -> list[bytes]:
    peer = "0123456789abcdef"
    kinds: list[SignalMessage] = [
        Signal(peer, {"kind": "offer", "sdp": "v=0\r\n"}),
        Welcome(peer, (peer[::-1],)),
        Joined(peer),
        Left(peer),
        Refused("the room is full"),
    ]
    return [m.serialize().encode() for m in kinds]


def check_control(data: bytes) -> None:
    message = parse_control(data)
    if not isinstance(message, UnknownControl):
        same(data, message.serialize())


def check_transfer(data: bytes) -> None:
    message = parse_transfer(data)
    same(data, message.serialize())
    whole = assemble(avatar_file(), now_unix_s=NOW_S)
    sender, receiver = AvatarSender(whole), AvatarReceiver(loopback=True)
    receiver.on_offer(sender.offer(), None)
    if isinstance(message, Chunk):
        receiver.receive(message, now_unix_s=NOW_S)
    elif isinstance(message, Offer):
        receiver.on_offer(message, whole)
    else:
        sender.receive(message)
        sender.next_chunk()


def check_signal(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise WireError("not UTF-8, which the websocket refuses") from None
    message = parse_signal_message(text)
    if parse_signal_message(message.serialize()) != message:
        raise Broken("accepted, but written and read again it is another")


TARGETS: Final[tuple[Target, ...]] = (
    Target("control", "control messages", control_messages, check_control),
    Target("transfer", "avatar transfer messages", transfer_messages, check_transfer),
    Target("signal", "signalling messages", signal_messages, check_signal),
)
