"""What rides in a packet of voice: a message in its padding, found in plain RTP."""

from dataclasses import dataclass
from typing import Final

from mien.call.opus_padding import take

RTP_HEADER_BYTES: Final = 12

_EXTENSION: Final = 0x10  # of RTP's first byte


@dataclass(frozen=True, slots=True)
class Rider:
    """`wire_bytes`: by how much the packet is longer than without; `payload_bytes`: the message's.

    `alone`: the packet was made for the message, and nobody's voice is in it. All of it is the rider's.
    """

    wire_bytes: int = 0
    payload_bytes: int = 0
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
    if taken.voice is None:
        return Rider(len(packet), len(taken.message), alone=True)
    return Rider(len(packet) - len(taken.voice), len(taken.message))


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
