"""Reads the size of a WebP still from its header, so that nobody decodes a picture of unknown dimensions."""

from typing import Final

from mien.protocol.errors import WireError

_LOSSY_START: Final = b"\x9d\x01\x2a"


def webp_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) in pixels of a plain WebP file: one VP8 or VP8L chunk.

    The extended form (VP8X) is refused: it is there for alpha, animation and metadata such as a photograph's
    place and time, which no avatar should carry. Raises `WireError` for anything else too.
    """
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise WireError("the picture is not WebP")
    if int.from_bytes(data[4:8], "little") != len(data) - 8 or len(data) % 2:
        raise WireError("the picture's length is not what its header says")
    chunk, size = data[12:16], int.from_bytes(data[16:20], "little")
    if chunk not in (b"VP8 ", b"VP8L"):
        raise WireError(f"the picture has the WebP chunk {chunk!r}, expected VP8 or VP8L")
    if size + size % 2 != len(data) - 20:
        raise WireError("the picture holds more than one chunk or is cut short")
    body = data[20:]
    if chunk == b"VP8 ":  # RFC 6386, 9.1: frame tag, start code, 14-bit sizes
        if body[0] & 1 or body[3:6] != _LOSSY_START:
            raise WireError("the picture is not a WebP key frame")
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    if body[0] != 0x2F:  # RFC 9649, 3.4: signature byte, then 14-bit sizes less one
        raise WireError("the picture is not lossless WebP")
    bits = int.from_bytes(body[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
