"""What a datagram was sent for, read from its bytes: the shares of its causes.

The first byte tells (RFC 7983), and RTP from RTCP the second (RFC 5761). DTLS application data is encrypted, so it
is looked at before it is encrypted or after it was decrypted: it is an SCTP packet, and the whole datagram, headers
included, is shared among its chunks in proportion to their padded lengths. A packet of voice is looked at before it
is sealed, too: what rides in its padding is the rider's, all the rest, headers and seal included, is voice; and as a
datagram it counts for voice, which would have been sent anyway. One that was made for its rider is all the rider's.
What the face and the scene share in one message is divided by their bytes.
"""

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mien.call.riders import Rider, scene_bytes
from mien.call.wire_cause import Cause, Share

# type, version, epoch, sequence number, length (RFC 6347 4.1)
_DTLS_RECORD: Final = struct.Struct("!B2s2s6sH")
_DTLS_APPLICATION_DATA: Final = 23
_SCTP_HEADER_BYTES: Final = 12
_SCTP_CHUNK: Final = struct.Struct("!BBH")  # type, flags, length (RFC 9260 section 3.2)
_SCTP_DATA_HEADER_BYTES: Final = 16
_SCTP_DATA: Final = 0
_SCTP_SACK: Final = 3
_DCEP: Final = 50  # payload protocol of the messages that open a data channel (RFC 8832)


def is_rtcp(data: bytes) -> bool:
    """Tell RTCP from RTP where both share a port: RFC 5761 section 4."""
    return len(data) >= 2 and 192 <= data[1] <= 223


def classify(data: bytes, kind_of_payload_type: Callable[[int], Cause]) -> Cause | None:
    """Return the cause of one datagram by its first bytes; None for DTLS application data (look inside)."""
    first = data[0] if data else 255
    if first <= 3:
        return Cause.STUN
    if 20 <= first <= 63:
        return None if has_application_data(data) else Cause.DTLS
    if 128 <= first <= 191 and len(data) >= 2:
        return Cause.RTCP if is_rtcp(data) else kind_of_payload_type(data[1] & 0x7F)
    return Cause.OTHER


def has_application_data(data: bytes) -> bool:
    """Return whether any DTLS 1.2 record of a datagram is application data."""
    position = 0
    while position + _DTLS_RECORD.size <= len(data):
        kind, _, _, _, length = _DTLS_RECORD.unpack_from(data, position)
        if kind == _DTLS_APPLICATION_DATA:
            return True
        position += _DTLS_RECORD.size + length
    return False


def sctp_shares(packet: bytes, cause_of_stream: Callable[[int], Cause]) -> tuple[Share, ...]:
    """Return a share for each chunk of a plain SCTP packet. Bytes that are no chunk end the walk."""
    shares: list[Share] = []
    position = _SCTP_HEADER_BYTES
    while position + _SCTP_CHUNK.size <= len(packet):
        kind, _, length = _SCTP_CHUNK.unpack_from(packet, position)
        if length < _SCTP_CHUNK.size or position + length > len(packet):
            break
        padded = min(length + -length % 4, len(packet) - position)
        if kind == _SCTP_DATA and length >= _SCTP_DATA_HEADER_BYTES:
            stream = int.from_bytes(packet[position + 8 : position + 10], "big")
            protocol = int.from_bytes(packet[position + 12 : position + 16], "big")
            cause = Cause.CONTROL if protocol == _DCEP else cause_of_stream(stream)
            data = packet[position + _SCTP_DATA_HEADER_BYTES : position + length]
            scene = scene_bytes(data) if cause is Cause.COEFFICIENTS else 0
            shares += _with_scene(Share(cause, padded, len(data)), scene)
        else:
            shares.append(Share(Cause.SACK if kind == _SCTP_SACK else Cause.SCTP, padded))
        position += padded
    return tuple(shares) or (Share(Cause.SCTP, 1),)


def voice_shares(wire_bytes: int, rider: Rider) -> tuple[Share, ...]:
    """Return the shares of a datagram of voice, `wire_bytes` with its headers, and of what rides in it."""
    if rider.alone:
        return _with_scene(Share(Cause.COEFFICIENTS, wire_bytes, rider.payload_bytes), rider.scene_bytes)
    voice = Share(Cause.AUDIO, max(1, wire_bytes - rider.wire_bytes))
    if not rider.wire_bytes:
        return (voice,)
    riding = Share(Cause.COEFFICIENTS, rider.wire_bytes, rider.payload_bytes, rides=True)
    return voice, *_with_scene(riding, rider.scene_bytes)


def _with_scene(share: Share, scene: int) -> tuple[Share, ...]:
    """Divide a message's share between the face and the scene, which has `scene` bytes of the payload."""
    if not scene:
        return (share,)
    if scene == share.payload_bytes:
        return (replace(share, cause=Cause.SCENE),)
    weight = share.weight * scene // share.payload_bytes
    face = replace(share, weight=share.weight - weight, payload_bytes=share.payload_bytes - scene)
    return face, replace(share, cause=Cause.SCENE, weight=weight, payload_bytes=scene)
