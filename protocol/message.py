"""The coefficient message: a batch of frames that decodes alone."""

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from mien.protocol.errors import WireError
from mien.protocol.quantizer import MAX_VALUE, STEPS
from mien.protocol.repeats import Repeats
from mien.protocol.residual_coder import decode_body, encode_body
from mien.protocol.state import COEFFICIENT_COUNT
from mien.protocol.tables import Tables

MAX_FRAMES_PER_MESSAGE: Final = 16
MAX_MESSAGE_BYTES: Final = 1100  # fits one datagram of any carrier; the largest real one is far below
MAX_EXTENSION_BYTES: Final = 255
TICK_MODULUS: Final = 1 << 16
SHORT_TICK_MODULUS: Final = 1 << 9  # of a message with a short head


class Kind(IntEnum):
    """The high four bits of a message's first byte. Receivers drop kinds that they do not know."""

    COEFFICIENTS = 1
    OVERLAP = 2  # coefficients that begin with repeats of earlier frames
    STILL = 3  # one frame, which holds until a later message says otherwise
    SCENE = 4  # see `mien.protocol.scene`
    CAPSULE = 5  # several messages in one, see `mien.protocol.capsule`
    SHORT = 6  # coefficients under a short head
    SHORT_OVERLAP = 7  # the same, with repeats


FACE_KINDS: Final = frozenset({Kind.COEFFICIENTS, Kind.OVERLAP, Kind.STILL, Kind.SHORT, Kind.SHORT_OVERLAP})
_SHORT_KINDS: Final = frozenset({Kind.SHORT, Kind.SHORT_OVERLAP})
_OVERLAP_KINDS: Final = frozenset({Kind.OVERLAP, Kind.SHORT_OVERLAP})


class ExtensionType(IntEnum):
    """Types of the extension field, all reserved. Receivers skip types that they do not know."""

    AUTHENTICATION = 1
    RUNG = 2
    CAPTURE_TIME = 3
    MICROPHONE_LEVEL = 4


@dataclass(frozen=True, slots=True)
class Extension:
    """One entry of the extension field: a type, 0 to 255, and up to 253 bytes."""

    type: int
    data: bytes


def nothing_repeated() -> NDArray[np.int16]:
    """Return no repeats, int16 [0, 36]."""
    return np.zeros((0, COEFFICIENT_COUNT), np.int16)


@dataclass(frozen=True, slots=True)
class MessageHead:
    """What stands first in a coefficient message, and can be read without any tables.

     0             1                    2      4
    +------+------+---+------+--------+------+
    | kind |stream| e | step | frames | first|    kinds 1 to 3
    |      |      |   |      |  - 1   | tick |
    +------+------+---+------+--------+------+
      4 bit  4 bit 1    3      4        u16
     0             1                          3
    +------+------+--------+------+----------+
    | kind |stream| frames | step | first    |    kinds 6 and 7
    |      |      |  - 1   |      | tick     |
    +------+------+--------+------+----------+
      4 bit  4 bit  4        3      9                big-endian

    `first_tick` is the first frame's tick modulo `tick_modulus`, 2^16 or 2^9. `extended`: an extension follows.
    """

    LONG: ClassVar[struct.Struct] = struct.Struct("!BBH")
    SHORT: ClassVar[struct.Struct] = struct.Struct("!BH")
    kind: Kind
    stream: int
    step_index: int
    frame_count: int
    first_tick: int
    extended: bool = False

    @property
    def is_short(self) -> bool:
        """Whether it is one of three bytes."""
        return self.kind in _SHORT_KINDS

    @property
    def size(self) -> int:
        """Bytes."""
        return (self.SHORT if self.is_short else self.LONG).size

    @property
    def tick_modulus(self) -> int:
        """What `first_tick` is a remainder of."""
        return SHORT_TICK_MODULUS if self.is_short else TICK_MODULUS

    def serialize(self) -> bytes:
        """Return the bytes."""
        first, count = self.kind << 4 | self.stream, self.frame_count - 1
        if self.is_short:
            return self.SHORT.pack(first, count << 12 | self.step_index << 9 | self.first_tick)
        return self.LONG.pack(first, self.extended << 7 | self.step_index << 4 | count, self.first_tick)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the head of a message. Raises `WireError` for bytes that begin with none."""
        kind = data[0] >> 4 if data else 0
        if kind not in FACE_KINDS:
            raise WireError(f"message has kind {kind}, expected {', '.join(map(str, sorted(FACE_KINDS)))}")
        layout = cls.SHORT if kind in _SHORT_KINDS else cls.LONG
        if len(data) < layout.size:
            raise WireError(f"message is {len(data)} bytes, expected {layout.size} to {MAX_MESSAGE_BYTES}")
        if kind in _SHORT_KINDS:
            first, word = cls.SHORT.unpack_from(data)
            return cls(Kind(kind), first & 15, word >> 9 & 7, (word >> 12) + 1, word & SHORT_TICK_MODULUS - 1)
        first, second, tick = cls.LONG.unpack_from(data)
        return cls(Kind(kind), first & 15, second >> 4 & 7, (second & 15) + 1, tick, bool(second & 0x80))


@dataclass(frozen=True, slots=True, eq=False)
class CoefficientMessage:
    """Up to 16 frames on consecutive ticks, and up to 8 earlier ones again; or one that holds.

    +------+----------+---------------------------+------------------+
    | head | repeats, | extension, if the head's  | range-coded body |
    |      | if kind  | e: u8 length, then entries| to the end       |
    |      | 2 or 7   |                           |                  |
    +------+----------+---------------------------+------------------+
     3 or 4  u8         entry: u8 type, u8 length, bytes

    `first_tick` is the first frame's tick modulo the head's `tick_modulus`. `values` are int16 [n, 36], within +-4095, each frame's
    quantised coefficients relative to the rest pose (see `protocol.quantizer`). A frame that is not tracked
    repeats the values of the one before it; the first one's are then 0. `repeated` int16 [r, 36] are the frames
    that `repeats` speaks of, the newest first; the message's first frame is then tracked. `still`: the only frame
    holds until a later message. `short`: it has a short head, which a still one and extensions cannot have.
    """

    stream: int
    first_tick: int
    step_index: int
    values: NDArray[np.int16]
    tracked: tuple[bool, ...]
    extensions: tuple[Extension, ...] = ()
    repeats: Repeats | None = None
    repeated: NDArray[np.int16] = field(default_factory=nothing_repeated)
    still: bool = False
    short: bool = False

    def __post_init__(self) -> None:
        count, repeat_count = len(self.tracked), self.repeats.count if self.repeats else 0
        if not 1 <= count <= MAX_FRAMES_PER_MESSAGE:
            raise WireError(f"message holds {count} frames, expected 1 to {MAX_FRAMES_PER_MESSAGE}")
        if self.still and (count != 1 or repeat_count):
            raise WireError(f"message of a still face holds {count + repeat_count} frames, expected 1")
        _check_values(self.values, count)
        _check_values(self.repeated, repeat_count)
        if repeat_count and not self.tracked[0]:
            raise WireError("message repeats frames, and its first one is not tracked")
        if self.short and (self.still or self.extensions):
            raise WireError("message of a still face or with extensions has no short head")
        modulus = SHORT_TICK_MODULUS if self.short else TICK_MODULUS
        if not 0 <= self.stream <= 15 or not 0 <= self.first_tick < modulus:
            raise WireError(f"stream {self.stream} or first tick {self.first_tick} is out of range")
        if not 0 <= self.step_index < len(STEPS):
            raise WireError(f"step index is {self.step_index}, expected 0 to {len(STEPS) - 1}")

    @property
    def kind(self) -> Kind:
        """The kind, which follows from what the message holds."""
        if self.still:
            return Kind.STILL
        if self.short:
            return Kind.SHORT_OVERLAP if self.repeats else Kind.SHORT
        return Kind.OVERLAP if self.repeats else Kind.COEFFICIENTS

    def serialize(self, tables: Tables | None = None) -> bytes:
        """Return the message's bytes. Raises `WireError` where an untracked frame has values of its own."""
        repeated = np.vstack([np.zeros((1, COEFFICIENT_COUNT), np.int16), self.values[:-1]])
        lost = ~np.array(self.tracked)
        if (self.values[lost] != repeated[lost]).any():
            raise WireError("an untracked frame must repeat the frame before it")
        extension = _serialize_extensions(self.extensions)
        count, tick = len(self.tracked), self.first_tick
        head = MessageHead(self.kind, self.stream, self.step_index, count, tick, bool(extension)).serialize()
        head += bytes([self.repeats.pack()]) if self.repeats else b""
        tables = tables or Tables.load()
        frames, repeated = self.values.tolist(), self.repeated.tolist()
        body = encode_body(frames, self.tracked, self.step_index, tables, repeated)
        data = head + extension + body
        if len(data) > MAX_MESSAGE_BYTES:
            raise WireError(f"message is {len(data)} bytes, at most {MAX_MESSAGE_BYTES} can be sent")
        return data

    @classmethod
    def parse(cls, data: bytes, tables: Tables | None = None) -> Self:
        """Read a message. Raises `WireError` for bytes that are none."""
        if len(data) > MAX_MESSAGE_BYTES:
            raise WireError(f"message is {len(data)} bytes, expected at most {MAX_MESSAGE_BYTES}")
        head = MessageHead.parse(data)
        offset = head.size
        repeats = None
        if head.kind in _OVERLAP_KINDS:
            if len(data) == offset:
                raise WireError("message ends before it says what it repeats")
            repeats = Repeats.unpack(data[offset])
            offset += 1
        extensions: tuple[Extension, ...] = ()
        if head.extended:
            extensions, offset = _parse_extensions(data, offset)
        frames, tracked, repeated = decode_body(
            data[offset:],
            head.frame_count,
            head.step_index,
            tables or Tables.load(),
            repeats.count if repeats else 0,
        )
        return cls(
            stream=head.stream,
            first_tick=head.first_tick,
            step_index=head.step_index,
            values=np.array(frames, np.int16),
            tracked=tracked,
            extensions=extensions,
            repeats=repeats,
            repeated=np.array(repeated, np.int16).reshape(-1, COEFFICIENT_COUNT),
            still=head.kind == Kind.STILL,
            short=head.is_short,
        )


def message_kind(data: bytes) -> int | None:
    """Return the kind of a message without reading it, `None` for no bytes."""
    return data[0] >> 4 if data else None


def _check_values(values: NDArray[np.int16], count: int) -> None:
    if values.shape != (count, COEFFICIENT_COUNT) or values.dtype != np.int16:
        raise WireError(f"values are {values.dtype} {values.shape}, expected int16 [{count}, 36]")
    if count and np.abs(values.astype(np.int32)).max() > MAX_VALUE:
        raise WireError(f"a value is beyond +-{MAX_VALUE}")


def _serialize_extensions(extensions: tuple[Extension, ...]) -> bytes:
    if not extensions:
        return b""
    for entry in extensions:
        if not 0 <= entry.type <= 255:
            raise WireError(f"extension type is {entry.type}, expected 0 to 255")
    length = sum(2 + len(entry.data) for entry in extensions)
    if length > MAX_EXTENSION_BYTES:
        raise WireError(f"extensions are {length} bytes, at most {MAX_EXTENSION_BYTES} fit")
    return bytes([length]) + b"".join(bytes([e.type, len(e.data)]) + e.data for e in extensions)


def _parse_extensions(data: bytes, offset: int) -> tuple[tuple[Extension, ...], int]:
    """Return the entries and where the body starts."""
    if offset >= len(data):
        raise WireError("message ends before its extension's length")
    end = offset + 1 + data[offset]
    offset += 1
    if end > len(data):
        raise WireError(f"extension ends at byte {end}, the message has {len(data)}")
    if end == offset:
        raise WireError("message announces an extension and has none")
    entries = []
    while offset < end:
        if offset + 2 > end or offset + 2 + data[offset + 1] > end:
            raise WireError("entry of the extension is longer than the extension")
        size = data[offset + 1]
        entries.append(Extension(data[offset], data[offset + 2 : offset + 2 + size]))
        offset += 2 + size
    return tuple(entries), end
