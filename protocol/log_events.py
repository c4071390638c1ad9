"""What the event records of a received log hold, so that a replay makes the pictures that were shown.

A stream header and the playout's settings have their own bytes (`StreamHeader`, `PlayoutSettings`).
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from mien.protocol.errors import WireError
from mien.protocol.stream import MAX_PICTURE_PX

MAX_STATUS_BYTES = 128
MAX_LAYERS = 64


class Painter(IntEnum):
    """What drew the picture; the two agree to the eye, not to the bit."""

    NUMPY = 0
    GL = 1


class ShownLayer(IntEnum):
    """What the picture shows, or fades to."""

    STILL = 0
    AVATAR = 2
    VIDEO = 3


@dataclass(frozen=True, slots=True)
class ViewEvent:
    """The picture that is made from here on.

     0       2        4         5
    +-------+--------+---------+
    | width | height | painter |   u16, u16, u8; big-endian
    +-------+--------+---------+
    """

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("!HHB")
    width: int
    height: int
    painter: Painter

    def __post_init__(self) -> None:
        if not (1 <= self.width <= MAX_PICTURE_PX and 1 <= self.height <= MAX_PICTURE_PX):
            raise WireError(f"view is {self.width} x {self.height}, expected 1 to {MAX_PICTURE_PX} each way")

    def serialize(self) -> bytes:
        return self.LAYOUT.pack(self.width, self.height, self.painter)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        if len(data) != cls.LAYOUT.size:
            raise WireError(f"view event is {len(data)} bytes, expected {cls.LAYOUT.size}")
        width, height, painter = cls.LAYOUT.unpack(data)
        if painter not in Painter._value2member_map_:
            raise WireError(f"view event has painter {painter}, expected 0 or 1")
        return cls(width, height, Painter(painter))


@dataclass(frozen=True, slots=True)
class AvatarEvent:
    """The avatar that is drawn from here on, and which of its layers are there.

     0      32
    +------+---------------------------+
    | id   | layer indices, u8 each... |   ascending, at most 64
    +------+---------------------------+
    """

    avatar_id: bytes
    layers: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.avatar_id) != 32:
            raise WireError(f"avatar id is {len(self.avatar_id)} bytes, expected 32")
        if list(self.layers) != sorted(set(self.layers)) or not all(0 <= i < MAX_LAYERS for i in self.layers):
            raise WireError(f"avatar layers are {self.layers}, expected ascending numbers below {MAX_LAYERS}")

    def serialize(self) -> bytes:
        return self.avatar_id + bytes(self.layers)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        return cls(data[:32], tuple(data[32:]))


@dataclass(frozen=True, slots=True)
class LayerEvent:
    """The picture starts to fade to another layer: one byte, a `ShownLayer`."""

    layer: ShownLayer

    def serialize(self) -> bytes:
        return bytes([self.layer])

    @classmethod
    def parse(cls, data: bytes) -> Self:
        if len(data) != 1 or data[0] not in ShownLayer._value2member_map_:
            raise WireError(f"layer event is {data[:8].hex()}, expected one byte: 0, 2 or 3")
        return cls(ShownLayer(data[0]))


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """The line of text in the picture from here on: UTF-8, at most 128 bytes, empty for none."""

    text: str

    def __post_init__(self) -> None:
        if len(self.text.encode()) > MAX_STATUS_BYTES or not (self.text.isprintable() or not self.text):
            raise WireError(
                f"status text has {len(self.text)} characters, expected printable ones, at most 128 bytes"
            )

    def serialize(self) -> bytes:
        return self.text.encode()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        if len(data) > MAX_STATUS_BYTES:
            raise WireError(f"status text is {len(data)} bytes, expected at most {MAX_STATUS_BYTES}")
        try:
            return cls(data.decode())
        except UnicodeDecodeError:
            raise WireError("status text is not UTF-8") from None
