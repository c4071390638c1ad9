"""A coefficient message inside the padding of an Opus packet (RFC 6716 section 3.2.5): put in, and taken out.

A decoder skips padding, so that a packet sounds the same with a message and without. The layout is in
`protocol/SPEC-carriers.md`. Nothing here knows a socket, a clock or RTP.
"""

from dataclasses import dataclass
from typing import Final

from mien.call.opus import packet_samples
from mien.protocol.errors import WireError

MAGIC: Final = 0xD0  # the high four bits of the byte before a message
VERSION: Final = 1  # bits 3 to 1
NO_VOICE: Final = 1  # bit 0: this packet was made for its message alone, and nobody's voice is in it
MIN_GUARD_BYTES: Final = 2  # ffmpeg's decoder reads beyond a frame's end, and has to find zeros there
MAX_CARRIER_BYTES: Final = 1200  # of a packet with a message: it goes into one datagram anywhere
MAX_OVERHEAD_BYTES: Final = 9  # by which such a packet is longer than the one of voice and the message
MAX_FRAME_BYTES: Final = 1275

_LONG_LENGTH: Final = 252  # from here on a frame's length takes two bytes
_VBR: Final = 0x80
_PADDED: Final = 0x40
_FULL: Final = 255  # a byte of the padding's length that stands for 254, and for another byte


@dataclass(frozen=True, slots=True)
class Taken:
    """What was in a packet: its sound in a packet of its own (None: no voice in it), and the message."""

    voice: bytes | None
    message: bytes


@dataclass(frozen=True, slots=True)
class OpusFrames:
    """An Opus packet taken apart: the TOC byte without its two low bits, the frames, what is behind them."""

    toc: int
    frames: tuple[bytes, ...]
    padding: bytes = b""

    @classmethod
    def parse(cls, packet: bytes) -> "OpusFrames":
        """Take a packet apart. Raises `WireError` for what RFC 6716 section 3.4 forbids."""
        packet_samples(packet)  # its length and its duration
        frames, padding = _parse_body(packet[0] & 3, packet[1:])
        if any(len(frame) > MAX_FRAME_BYTES for frame in frames):
            raise WireError(f"an Opus frame of more than {MAX_FRAME_BYTES} bytes")
        return cls(packet[0] & ~3, frames, padding)

    def shortest(self) -> bytes:
        """Return the shortest packet with these frames, without the padding."""
        frames = self.frames
        if len(frames) == 1:
            return bytes([self.toc]) + frames[0]
        if len(frames) > 2:
            return self.padded(None)
        if len(frames[0]) == len(frames[1]):
            return bytes([self.toc | 1]) + frames[0] + frames[1]
        return bytes([self.toc | 2]) + _length(len(frames[0])) + frames[0] + frames[1]

    def padded(self, padding: bytes | None) -> bytes:
        """Return a packet of code 3 with these frames and this padding (None: not even the length of one)."""
        variable = len({len(frame) for frame in self.frames}) > 1
        flags = (_VBR if variable else 0) | (0 if padding is None else _PADDED)
        head = bytearray([self.toc | 3, flags | len(self.frames)])
        if padding is not None:
            full = max(0, len(padding) - 1) // (_FULL - 1)
            head += bytes([_FULL] * full) + bytes([len(padding) - full * (_FULL - 1)])
        if variable:
            for frame in self.frames[:-1]:
                head += _length(len(frame))
        return bytes(head) + b"".join(self.frames) + (padding or b"")


def put(packet: bytes, message: bytes, *, voice: bool = True) -> bytes:
    """Return the packet with a message in it. What was in its own padding, which is no sound, is left out.

    `voice`: whether its sound is somebody's voice, and to be played. Raises `WireError` for bytes that are no Opus
    packet, and for more than `MAX_CARRIER_BYTES` in all.
    """
    flag = MAGIC | VERSION << 1 | (0 if voice else NO_VOICE)
    padding = bytes(MIN_GUARD_BYTES) + bytes([flag]) + message
    padded = OpusFrames.parse(packet).padded(padding)
    if len(padded) > MAX_CARRIER_BYTES:
        raise WireError(f"{len(padded)} bytes with the message, expected at most {MAX_CARRIER_BYTES}")
    return padded


def take(packet: bytes) -> Taken | None:
    """Return what is in a packet with a message; None where there is none, whatever the bytes are."""
    if len(packet) < 2 or packet[0] & 3 != 3 or not packet[1] & _PADDED:
        return None  # most packets
    try:
        opened = OpusFrames.parse(packet)
    except WireError:
        return None
    content = opened.padding.lstrip(b"\0")
    guard = len(opened.padding) - len(content)
    if guard < MIN_GUARD_BYTES or not content or content[0] & ~NO_VOICE != MAGIC | VERSION << 1:
        return None
    return Taken(None if content[0] & NO_VOICE else opened.shortest(), content[1:])


def overhead_bytes(packet: bytes, message: bytes) -> int:
    """Return how much longer a packet of voice becomes by a message. Raises `WireError`."""
    return len(put(packet, message)) - len(packet)


def _parse_body(code: int, body: bytes) -> tuple[tuple[bytes, ...], bytes]:
    if code == 0:
        return (body,), b""
    if code == 1:
        return _equal(body, 2), b""
    if code == 2:
        length, start = _read_length(body, 0)
        return _split(body[start:], (length,)), b""
    return _parse_code_3(body)


def _parse_code_3(body: bytes) -> tuple[tuple[bytes, ...], bytes]:
    if not body:
        raise WireError("an Opus packet ends before its number of frames")
    count, position = body[0] & 63, 1
    padding_bytes = 0
    if body[0] & _PADDED:
        padding_bytes, position = _read_padding_length(body, position)
    lengths = []
    if body[0] & _VBR:
        for _ in range(count - 1):
            length, position = _read_length(body, position)
            lengths.append(length)
    end = len(body) - padding_bytes
    if end < position:
        raise WireError(f"an Opus packet's padding of {padding_bytes} bytes is longer than the packet")
    sound = body[position:end]
    frames = _split(sound, tuple(lengths)) if body[0] & _VBR else _equal(sound, count)
    return frames, body[end:]


def _read_padding_length(body: bytes, position: int) -> tuple[int, int]:
    total = 0
    while True:
        if position == len(body):
            raise WireError("an Opus packet ends inside its padding's length")
        value = body[position]
        position += 1
        total += min(value, _FULL - 1)
        if value != _FULL:
            return total, position


def _read_length(body: bytes, position: int) -> tuple[int, int]:
    """Read a frame's length: one byte up to 251, else two."""
    if position < len(body) and body[position] < _LONG_LENGTH:
        return body[position], position + 1
    if position + 1 < len(body):
        return body[position] + 4 * body[position + 1], position + 2
    raise WireError("an Opus packet ends inside a frame's length")


def _length(count: int) -> bytes:
    if count < _LONG_LENGTH:
        return bytes([count])
    low = _LONG_LENGTH + (count & 3)
    return bytes([low, (count - low) >> 2])


def _equal(sound: bytes, count: int) -> tuple[bytes, ...]:
    if len(sound) % count:
        raise WireError(f"{len(sound)} bytes are not {count} Opus frames of one length")
    size = len(sound) // count
    return tuple(sound[i * size : (i + 1) * size] for i in range(count))


def _split(sound: bytes, lengths: tuple[int, ...]) -> tuple[bytes, ...]:
    """Return frames of these lengths, and one of what is left."""
    frames, position = [], 0
    for length in lengths:
        if position + length > len(sound):
            raise WireError(f"an Opus frame of {length} bytes is longer than the packet")
        frames.append(sound[position : position + length])
        position += length
    return (*frames, sound[position:])
