"""The header and the records of a coefficient log (`.mien`), each with its bytes."""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import ClassVar, Final, Self

from mien.protocol.errors import WireError
from mien.protocol.stream import MAX_PICTURE_PX, StreamHeader

MAGIC: Final = b"\x89MLOG\r\n\x1a"  # a transfer in text mode breaks it, as with PNG's
FORMAT_VERSION: Final = 1
MAX_TIME_US: Final = 1 << 53  # 285 years; also exact in a JavaScript number
MAX_TICK: Final = 1 << 40
MAX_PAYLOAD_BYTES: Final = 4096
MAX_EVENT_BYTES: Final = 1024
MAX_FRAMES_PER_RECORD: Final = 255
_U32: Final = 1 << 32


class Origin(IntEnum):
    """Whose clock the times of a log are on."""

    SOURCE = 0  # made by `mien encode`: times are the source's, from its first frame
    RECEIVED = 1  # made by a receiver: arrival and render times of its own clock


class RecordKind(IntEnum):
    """First byte of a record. A reader skips kinds that it does not know, and counts them."""

    MESSAGE = 1
    FRAMES = 2
    RENDER = 3
    EVENT = 4


class EventKind(IntEnum):
    """What an event record tells. A reader skips kinds that it does not know."""

    STREAM = 1  # a new stream header (its bytes) holds from here on
    SETTINGS = 2  # the playout's settings (their bytes) from here on
    AVATAR = 3  # which layers of which avatar the picture is made of from here on
    RUNG = 4  # what the picture shows from here on
    VIEW = 5  # size and renderer of the picture from here on
    GAP = 6  # u32: records that the recorder had to leave out here
    END = 7  # the recorder finished; nothing follows
    PICTURE = 8  # u32: CRC-32 of the RGB bytes that were shown for the latest render record
    CARRIER = 9  # u8: the carrier that the messages from here on came by, a number of `control.Carrier`
    FLOOR = 10  # i64: media times are shown no sooner than so many microseconds later; nothing: as they come


def owner_digest(public_key: bytes) -> bytes:
    """Return what a log's header holds of an avatar owner's key: its SHA-256."""
    return hashlib.sha256(public_key).digest()


@dataclass(frozen=True, slots=True)
class LogHeader:
    """The head of a log: everything that must be known before the first record means something.

     0       8         9        10       12            66         70         74      76       78
    +-------+---------+--------+--------+-------------+----------+----------+-------+--------+----
    | magic | version | origin | spare  | stream      | source   | source   | width | height | ...
    | 8     | = 1     |        | u16 =0 | header (54) | rate num | rate den | u16   | u16    |
    +-------+---------+--------+--------+-------------+----------+----------+-------+--------+----
     78          110         142        150       151
    +-----------+-----------+----------+---------+------------------+---------+
    | avatar id | owner     | created  | length  | mien version     | crc-32  |   big-endian
    | 32        | 32        | u64, s   | u8      | ASCII, 1 to 32   | of all  |
    +-----------+-----------+----------+---------+------------------+---------+

    `source_rate` is the source's own frame rate (frames per second), which may be above the tick rate;
    `width` and `height` are the source's picture in pixels. `avatar_id` is the whole SHA-256 of the avatar's
    signed manifest (its first 8 bytes stand in the stream header too), `owner` the `owner_digest` of the
    owner's public key: a log moves only faces of the owner that it was made by. `created_unix_s` is None (0 in the
    file) unless the user asks for it: when somebody talked is personal data and nothing needs it.
    """

    FIXED: ClassVar[struct.Struct] = struct.Struct(f"!8sBBH{StreamHeader.LAYOUT.size}sIIHH32s32sQB")
    MAX_BYTES: ClassVar[int] = FIXED.size + 32 + 4
    stream: StreamHeader
    origin: Origin
    source_rate: Fraction
    width: int
    height: int
    avatar_id: bytes
    owner: bytes
    writer: str  # the mien version that wrote the file
    created_unix_s: int | None = None

    def __post_init__(self) -> None:
        rate = self.source_rate
        if rate <= 0 or rate.numerator >= _U32 or rate.denominator >= _U32:
            raise WireError(f"source rate is {rate}, expected more than 0, as a fraction of 32-bit numbers")
        if not (1 <= self.width <= MAX_PICTURE_PX and 1 <= self.height <= MAX_PICTURE_PX):
            raise WireError(
                f"source is {self.width} x {self.height}, expected 1 to {MAX_PICTURE_PX} each way"
            )
        if len(self.avatar_id) != 32 or len(self.owner) != 32:
            raise WireError(
                f"avatar id and owner are {len(self.avatar_id)} and {len(self.owner)} bytes, expected 32"
            )
        if self.avatar_id[:8] != self.stream.avatar_id:
            raise WireError(
                f"log is for avatar {self.avatar_id[:8].hex()}, its stream {self.stream.avatar_id.hex()}"
            )
        if not (1 <= len(self.writer) <= 32 and self.writer.isascii() and self.writer.isprintable()):
            raise WireError(
                f"writer's version is {self.writer!r}, expected 1 to 32 printable ASCII characters"
            )
        if self.created_unix_s is not None and not 0 < self.created_unix_s < MAX_TIME_US:
            raise WireError(f"creation time is {self.created_unix_s}, expected seconds since 1970")

    def serialize(self) -> bytes:
        """Return the header's bytes, 156 to 187."""
        body = self.FIXED.pack(
            MAGIC,
            FORMAT_VERSION,
            self.origin,
            0,
            self.stream.serialize(),
            self.source_rate.numerator,
            self.source_rate.denominator,
            self.width,
            self.height,
            self.avatar_id,
            self.owner,
            self.created_unix_s or 0,
            len(self.writer),
        )
        return _with_crc(body + self.writer.encode("ascii"))

    @classmethod
    def size_in(cls, data: bytes) -> int:
        """Return how many bytes the header at the start of `data` has. Raises `WireError`."""
        if not data.startswith(MAGIC):
            raise WireError("this is not a mien log: it does not begin with the mark of one")
        if len(data) > len(MAGIC) and data[len(MAGIC)] != FORMAT_VERSION:
            raise WireError(
                f"log has format version {data[len(MAGIC)]}, expected {FORMAT_VERSION}: update mien"
            )
        if len(data) < cls.FIXED.size:
            raise WireError(f"log ends after {len(data)} bytes, inside its header")
        return cls.FIXED.size + data[cls.FIXED.size - 1] + 4

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a header. Raises `WireError` for anything that `serialize` would not have written."""
        size = cls.size_in(data)
        if len(data) != size:
            raise WireError(f"log header is {len(data)} bytes, expected {size}")
        body = _without_crc(data, "log header")
        fields = cls.FIXED.unpack_from(body)
        _, _, origin, spare, stream, num, den, width, height, avatar_id, owner, created, _ = fields
        if spare != 0:
            raise WireError(f"spare bytes of the log header are {spare}, expected 0")
        if origin not in Origin._value2member_map_:
            raise WireError(f"log has origin {origin}, expected one of {[int(o) for o in Origin]}")
        if den == 0 or Fraction(num, den).denominator != den:
            raise WireError(f"source rate is {num}/{den}, expected a fraction in lowest terms")
        return cls(
            stream=StreamHeader.parse(stream),
            origin=Origin(origin),
            source_rate=Fraction(num, den),
            width=width,
            height=height,
            avatar_id=avatar_id,
            owner=owner,
            writer=body[cls.FIXED.size :].decode("ascii", errors="replace"),
            created_unix_s=created or None,
        )


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A coefficient message, byte for byte as on the wire, and when it came (or, from a source, was complete)."""

    KIND: ClassVar[RecordKind] = RecordKind.MESSAGE
    time_us: int
    data: bytes

    def payload(self) -> bytes:
        return self.data

    @classmethod
    def parse_payload(cls, time_us: int, payload: bytes) -> Self:
        if not payload:
            raise WireError("message record is empty")
        return cls(time_us, payload)


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One frame of the source: its time, and the tick that carries its state (None: it was not coded)."""

    time_us: int
    tick: int | None


@dataclass(frozen=True, slots=True)
class FramesRecord:
    """Frames of the source, in order; the record's time is the first one's.

    +-------+--------------------+--------------+--------------------+--------------+ ...
    | count | time delta: varint | tick: varint | time delta: varint | tick: varint |
    +-------+--------------------+--------------+--------------------+--------------+ ...

    Time deltas are microseconds since the frame before (0 for the first). A tick is 0 for a frame that was not
    coded, else 1 + zigzag(tick - expected), where expected is 0 at first, then one more than the tick before.
    """

    KIND: ClassVar[RecordKind] = RecordKind.FRAMES
    frames: tuple[SourceFrame, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.frames) <= MAX_FRAMES_PER_RECORD:
            raise WireError(f"frames record holds {len(self.frames)}, expected 1 to {MAX_FRAMES_PER_RECORD}")
        times = [f.time_us for f in self.frames]
        if times != sorted(times) or not 0 <= times[0] <= times[-1] < MAX_TIME_US:
            raise WireError("frames record's times go backwards or out of range")
        if any(f.tick is not None and not 0 <= f.tick < MAX_TICK for f in self.frames):
            raise WireError("frames record's ticks are out of range")

    @property
    def time_us(self) -> int:
        return self.frames[0].time_us

    def payload(self) -> bytes:
        out = bytearray([len(self.frames)])
        time_us, expected = self.time_us, 0
        for frame in self.frames:
            out += _varint(frame.time_us - time_us)
            time_us = frame.time_us
            if frame.tick is None:
                out += _varint(0)
            else:
                out += _varint(1 + _zigzag(frame.tick - expected))
                expected = frame.tick + 1
        return bytes(out)

    @classmethod
    def parse_payload(cls, time_us: int, payload: bytes) -> Self:
        if not payload:
            raise WireError("frames record is empty")
        frames: list[SourceFrame] = []
        position, expected = 1, 0
        for _ in range(payload[0]):
            delta, position = _read_varint(payload, position)
            code, position = _read_varint(payload, position)
            time_us += delta
            tick = None if code == 0 else expected + _unzigzag(code - 1)
            frames.append(SourceFrame(time_us, tick))
            if tick is not None:
                expected = tick + 1
        if position != len(payload):
            raise WireError(f"frames record has {len(payload) - position} bytes too many")
        if frames and payload[1] != 0:
            raise WireError("the first frame of a frames record has a time of its own")
        return cls(tuple(frames))


@dataclass(frozen=True, slots=True)
class RenderRecord:
    """A state was asked for at this time; the playout's state changes only at these and at messages.

    +-----------+
    | state crc |   u32, or nothing
    +-----------+

    `state_crc` is `Shown.checksum()`: a replay compares it and so knows that it repeats what was shown.
    """

    KIND: ClassVar[RecordKind] = RecordKind.RENDER
    time_us: int
    state_crc: int | None = None

    def __post_init__(self) -> None:
        if self.state_crc is not None and not 0 <= self.state_crc < _U32:
            raise WireError(f"render record's checksum is {self.state_crc}, expected 32 bits")

    def payload(self) -> bytes:
        return b"" if self.state_crc is None else self.state_crc.to_bytes(4, "big")

    @classmethod
    def parse_payload(cls, time_us: int, payload: bytes) -> Self:
        if len(payload) not in (0, 4):
            raise WireError(f"render record is {len(payload)} bytes, expected 0 or 4")
        return cls(time_us, int.from_bytes(payload, "big") if payload else None)


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something else that changed what was shown.

    +------+----------------+
    | kind | data, <= 1024  |   kind is an `EventKind`, or one that a later version made up
    +------+----------------+
    """

    KIND: ClassVar[RecordKind] = RecordKind.EVENT
    time_us: int
    event: int
    data: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.event <= 255 or len(self.data) > MAX_EVENT_BYTES:
            raise WireError(
                f"event {self.event} has {len(self.data)} bytes, expected at most {MAX_EVENT_BYTES}"
            )

    def payload(self) -> bytes:
        return bytes([self.event]) + self.data

    @classmethod
    def parse_payload(cls, time_us: int, payload: bytes) -> Self:
        if not payload:
            raise WireError("event record is empty")
        return cls(time_us, payload[0], payload[1:])


@dataclass(frozen=True, slots=True)
class UnknownRecord:
    """A record of a later version. Readers skip it."""

    kind: int
    time_us: int


Record = MessageRecord | FramesRecord | RenderRecord | EventRecord
_KINDS: Final[dict[int, type[Record]]] = {
    int(kind.KIND): kind for kind in (MessageRecord, FramesRecord, RenderRecord, EventRecord)
}

# The frame of every record; big-endian:
#
#  0      1        3         11        11 + length
# +------+--------+---------+---------+--------+
# | kind | length | time us | payload | crc-32 |   length and crc-32: of the payload; of all before it
# +------+--------+---------+---------+--------+
FRAME: Final = struct.Struct("!BHQ")
CRC_BYTES: Final = 4


def serialize_record(record: Record) -> bytes:
    """Return a record's bytes. Raises `WireError` for what the format cannot hold."""
    payload = record.payload()
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise WireError(f"record holds {len(payload)} bytes, expected at most {MAX_PAYLOAD_BYTES}")
    if not 0 <= record.time_us < MAX_TIME_US:
        raise WireError(f"record's time is {record.time_us} us, expected 0 to {MAX_TIME_US}")
    return _with_crc(FRAME.pack(record.KIND, len(payload), record.time_us) + payload)


def payload_size(frame: bytes) -> int:
    """Return the length of the payload that follows the 11 bytes `frame`. Raises `WireError`."""
    _, length, time_us = FRAME.unpack(frame)
    if length > MAX_PAYLOAD_BYTES:
        raise WireError(f"record says that it holds {length} bytes, expected at most {MAX_PAYLOAD_BYTES}")
    if time_us >= MAX_TIME_US:
        raise WireError(f"record's time is {time_us} us, expected less than {MAX_TIME_US}")
    return int(length)


def parse_record(data: bytes) -> Record | UnknownRecord:
    """Read one whole record. Raises `WireError`."""
    if (
        len(data) < FRAME.size + CRC_BYTES
        or len(data) != FRAME.size + payload_size(data[: FRAME.size]) + CRC_BYTES
    ):
        raise WireError(f"record is {len(data)} bytes, and says otherwise itself")
    body = _without_crc(data, "record")
    kind, _, time_us = FRAME.unpack_from(body)
    known = _KINDS.get(kind)
    if known is None:
        return UnknownRecord(kind, time_us)
    return known.parse_payload(time_us, body[FRAME.size :])


def _with_crc(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(CRC_BYTES, "big")


def _without_crc(data: bytes, what: str) -> bytes:
    body, crc = data[:-CRC_BYTES], int.from_bytes(data[-CRC_BYTES:], "big")
    if zlib.crc32(body) != crc:
        raise WireError(f"{what} is damaged: its checksum does not fit")
    return body


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _unzigzag(code: int) -> int:
    return code >> 1 if code & 1 == 0 else -((code + 1) >> 1)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, the high bit set on all but the last."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a value below 2^56 and where the next one begins."""
    value = 0
    for shift in range(0, 56, 7):
        if position >= len(data):
            raise WireError("frames record ends inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise WireError("frames record has a number that is longer than it need be")
            return value, position
    raise WireError("frames record has a number of more than 8 bytes")
