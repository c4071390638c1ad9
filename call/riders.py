"""What rides in a packet of voice: a message in its padding, found in plain RTP. And whose a message is."""

from dataclasses import dataclass
from typing import Final

from mien.call.opus_padding import take
from mien.protocol.capsule import unpack
from mien.protocol.errors import WireError
from mien.protocol.message import Kind, message_kind

RTP_HEADER_BYTES: Final = 12

_EXTENSION: Final = 0x10  # of RTP's first byte


@dataclass(frozen=True, slots=True)
class Rider:
    """`wire_bytes`: by how much the packet is longer than without; `payload_bytes`: the message's.

    `scene_bytes`: how much of the message is the scene's, not the face's. `alone`: the packet was made for the
    message, and nobody's voice is in it. All of it is the rider's.
    """

    wire_bytes: int = 0
    payload_bytes: int = 0
    scene_bytes: int = 0
    alone: bool = False


NOBODY: Final = Rider()


def rider_of(packet: bytes) -> Rider:
    """Return what rides in an RTP packet of voice, before it is sealed. Any bytes are taken; most hold nobody."""
    return rider_of_opus(packet[rtp_header_bytes(packet) :])


def rider_of_opus(packet: bytes) -> Rider:
    """Return what rides in an Opus packet."""
    taken = take(packet)
    if taken is None:
        return NOBODY
    size, scene = len(taken.message), scene_bytes(taken.message)
    if taken.voice is None:
        return Rider(len(packet), size, scene, alone=True)
    return Rider(len(packet) - len(taken.voice), size, scene)


def scene_bytes(message: bytes) -> int:
    """Return how many bytes of a message, or of a capsule of several, are messages of the scene layer."""
    kind = message_kind(message)
    if kind == Kind.SCENE:
        return len(message)
    if kind != Kind.CAPSULE:
        return 0
    try:
        return sum(len(m) for m in unpack(message) if message_kind(m) == Kind.SCENE)
    except WireError:
        return 0


def rtp_header_bytes(packet: bytes) -> int:
    """Return where the payload of an RTP packet begins (RFC 3550 section 5.1); its length where there is none."""
    if len(packet) < RTP_HEADER_BYTES:
        return len(packet)
    end = RTP_HEADER_BYTES + 4 * (packet[0] & 0x0F)
    if packet[0] & _EXTENSION:
        if len(packet) < end + 4:
            return len(packet)
        end += 4 + 4 * int.from_bytes(packet[end + 2 : end + 4], "big")
    return min(end, len(packet))
