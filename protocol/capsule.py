"""The capsule: several messages of one stream in one, so that they share a packet and its headers."""

from collections.abc import Iterator, Sequence
from typing import Final

from mien.protocol.errors import WireError
from mien.protocol.message import MAX_MESSAGE_BYTES, Kind, message_kind

MAX_MESSAGES: Final = 8


def pack(messages: Sequence[bytes]) -> bytes:
    """Return the messages as one: a single one as it is, several in a capsule.

     0             1
    +------+------+--------+---------+--------+---------+-- ... --+---+--------------+
    | kind |stream| length | message | length | message |         | 0 | last message |   length: u8, 1 to 255
    | = 5  |      |        |         |        |         |         |   | to the end   |
    +------+------+--------+---------+--------+---------+-- ... --+---+--------------+

    All belong to one stream; none is a capsule. Raises `WireError` for those that do not fit.
    """
    if len(messages) == 1:
        return messages[0]
    if not 2 <= len(messages) <= MAX_MESSAGES:
        raise WireError(f"capsule of {len(messages)} messages, expected 2 to {MAX_MESSAGES}")
    *others, last = messages
    streams = {message[0] & 15 for message in messages if message}
    if not last or any(not 1 <= len(m) <= 255 for m in others) or len(streams) != 1:
        raise WireError("messages of a capsule must be of one stream, all but the last of 1 to 255 bytes")
    if Kind.CAPSULE in {message_kind(m) for m in messages}:
        raise WireError("capsule within a capsule")
    data = bytes([Kind.CAPSULE << 4 | streams.pop()])
    data += b"".join(bytes([len(m)]) + m for m in others) + b"\0" + last
    if len(data) > MAX_MESSAGE_BYTES:
        raise WireError(f"capsule is {len(data)} bytes, at most {MAX_MESSAGE_BYTES} can be sent")
    return data


def unpack(data: bytes) -> list[bytes]:
    """Return the messages in a message: those of a capsule, else itself. Raises `WireError` for a broken capsule."""
    if message_kind(data) != Kind.CAPSULE:
        return [data]
    if len(data) > MAX_MESSAGE_BYTES:
        raise WireError(f"capsule is {len(data)} bytes, at most {MAX_MESSAGE_BYTES} can be sent")
    messages = list(_contents(data))
    if not 2 <= len(messages) <= MAX_MESSAGES:
        raise WireError(f"capsule holds {len(messages)} messages, expected 2 to {MAX_MESSAGES}")
    for message in messages:
        if message_kind(message) == Kind.CAPSULE:
            raise WireError("capsule within a capsule")
        if message[0] & 15 != data[0] & 15:
            raise WireError(f"capsule of stream {data[0] & 15} holds a message of stream {message[0] & 15}")
    return messages


def _contents(data: bytes) -> Iterator[bytes]:
    at = 1
    while True:
        if at >= len(data):
            raise WireError("capsule ends before its last message")
        length = data[at]
        at += 1
        if length == 0:  # the last one
            if at == len(data):
                raise WireError("capsule's last message is empty")
            yield data[at:]
            return
        if at + length > len(data):
            raise WireError(f"message of a capsule ends at byte {at + length}, the capsule has {len(data)}")
        yield data[at : at + length]
        at += length
