"""What rides in a packet of voice: the padding of an Opus packet (RFC 6716 section 3.2.5), found in plain RTP."""

from dataclasses import dataclass
from typing import Final

RTP_HEADER_BYTES: Final = 12

_EXTENSION: Final = 0x10  # of RTP's first byte
_CODE_3: Final = 0x03  # of Opus's first byte: the number of frames follows
_PADDED: Final = 0x40  # of Opus's second byte
_FRAMES: Final = 0x3F
_MORE: Final = 255  # of a length of padding: 254, and another length follows


@dataclass(frozen=True, slots=True)
class Rider:
    """`wire_bytes`: by how much the packet is longer than without; `payload_bytes`: what of it is no filling."""

    wire_bytes: int = 0
    payload_bytes: int = 0


NOBODY: Final = Rider()


def rider_of(packet: bytes) -> Rider:
    """Return what rides in an RTP packet of voice, before it is sealed. Any bytes are taken; most hold nobody."""
    return rider_of_opus(packet[rtp_header_bytes(packet) :])


def rider_of_opus(packet: bytes) -> Rider:
    """Return what rides in an Opus packet.

    To its padding come the bytes that say how long that is and, where there is one frame only, the byte that
    says so: without a rider such a packet would not need it.
    """
    if len(packet) < 2 or packet[0] & _CODE_3 != _CODE_3 or not packet[1] & _PADDED:
        return NOBODY
    at, padding = 2, 0
    while at < len(packet):
        length = packet[at]
        at += 1
        padding += min(length, _MORE - 1)
        if length != _MORE:
            break
    if padding > len(packet) - at:
        return NOBODY
    filled = packet[len(packet) - padding :].lstrip(b"\0")
    return Rider(at - 2 + padding + (packet[1] & _FRAMES == 1), len(filled))


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
