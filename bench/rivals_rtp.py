"""What a coded picture costs on the wire when a call carries it: RTP packets of at most 1200 bytes.

Each packet bears 28 bytes of UDP and IPv4, 12 of RTP, the 10 of SRTP's tag and the codec's payload descriptor.
Not counted, to the rivals' favour: RTP header extensions (8 bytes a packet where transport-wide congestion
control is used), and RTCP, which `RTCP_KBPS` states.
"""

from typing import Final

UDP_IPV4_BYTES: Final = 28
RTP_BYTES: Final = 12
SRTP_TAG_BYTES: Final = 10
PACKET_BYTES: Final = UDP_IPV4_BYTES + RTP_BYTES + SRTP_TAG_BYTES
MAX_PAYLOAD_BYTES: Final = 1200 - RTP_BYTES - SRTP_TAG_BYTES  # of one RTP packet, descriptor included
# A sender report with source description (52 bytes), SRTCP's 14, UDP and IPv4: once a second.
RTCP_KBPS: Final = 8 * (52 + 14 + UDP_IPV4_BYTES) / 1000

VP8_DESCRIPTOR_BYTES: Final = 4  # RFC 7741 with a picture id of 15 bits
VP9_DESCRIPTOR_BYTES: Final = 3  # RFC 9628, not flexible, with a picture id of 15 bits
AV1_AGGREGATION_BYTES: Final = 1
_AV1_TEMPORAL_DELIMITER: Final = 2


def wire_bytes(codec: str, packet: bytes) -> int:
    """Return what the network carries for one coded picture. `codec` is FFmpeg's name of the encoder.

    Start codes (H.264, H.265), temporal delimiters and OBU sizes (AV1) do not travel.
    """
    if codec in ("libvpx", "libvpx-vp9"):
        descriptor = VP8_DESCRIPTOR_BYTES if codec == "libvpx" else VP9_DESCRIPTOR_BYTES
        return _split(len(packet), descriptor)
    if codec == "libx264":
        return sum(_nal_bytes(size, header=1, fragment=2) for size in nal_sizes(packet))
    if codec == "libx265":
        return sum(_nal_bytes(size, header=2, fragment=3) for size in nal_sizes(packet))
    if codec == "libsvtav1":
        return _split(sum(_elements(obu_sizes(packet))), AV1_AGGREGATION_BYTES)
    raise ValueError(f"no RTP payload format known for {codec}")


def nal_sizes(packet: bytes) -> list[int]:
    """Return the sizes of a byte stream's NAL units (Annex B), start codes left out."""
    starts = []
    at = packet.find(b"\0\0\1")
    while at >= 0:
        starts.append(at)
        at = packet.find(b"\0\0\1", at + 3)
    ends = [*starts[1:], len(packet)]
    # A fourth byte of the next start code, and padding, are zeros; a unit never ends with one.
    return [len(packet[start + 3 : end].rstrip(b"\0")) for start, end in zip(starts, ends, strict=True)]


def obu_sizes(packet: bytes) -> list[int]:
    """Return the sizes of a temporal unit's OBUs as RTP carries them: no size field, no temporal delimiter."""
    sizes, at = [], 0
    while at < len(packet):
        head = packet[at]
        header = 2 if head & 4 else 1
        if not head & 2:  # no size: to the end
            size, field = len(packet) - at - header, 0
        else:
            size, field = _leb128(packet, at + header)
        if head >> 3 & 15 != _AV1_TEMPORAL_DELIMITER:
            sizes.append(header + size)
        at += header + field + size
    return sizes


def _split(payload: int, descriptor: int) -> int:
    """A payload over as many packets as it needs."""
    packets = max(1, -(-payload // (MAX_PAYLOAD_BYTES - descriptor)))
    return payload + packets * (PACKET_BYTES + descriptor)


def _nal_bytes(size: int, *, header: int, fragment: int) -> int:
    """One packet where the unit fits; else fragments, each of which bears `fragment` bytes for its header."""
    if size <= MAX_PAYLOAD_BYTES:
        return size + PACKET_BYTES
    return _split(size - header, fragment)


def _elements(sizes: list[int]) -> list[int]:
    """Sizes of OBU elements with their lengths; the last one needs none where there are at most three."""
    bare = 1 if 1 <= len(sizes) <= 3 else 0
    return [
        size + (0 if number >= len(sizes) - bare else 1 if size < 128 else 2)
        for number, size in enumerate(sizes)
    ]


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """Return a number and how many bytes it took."""
    value = 0
    for length in range(8):
        byte = data[at + length]
        value |= (byte & 0x7F) << 7 * length
        if not byte & 0x80:
            return value, length + 1
    raise ValueError("an OBU's size is longer than 8 bytes")
