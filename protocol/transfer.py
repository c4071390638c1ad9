"""Carries an avatar over a reliable channel: offered by hash, asked for from any offset, sent in small chunks.

Every message names the transfer by the first 8 bytes of the avatar's id. One transfer at a time goes each way:

    owner    Offer ------------------------------>  looks into its cache
             <------- Want (head, byte 0) | Done (has it) | Refuse
             Chunk, Chunk, ... ------------------->  verifies the head
             <------- Want (first layer, ...) | Refuse (signature, consent, expiry, ...)
             Chunk, Chunk, ... ------------------->  verifies each layer; the first one makes a face
             <------- Done

The two state machines here do no I/O and pace nothing: the caller takes chunks as fast as its link allows, so
that they never stand in the way of a control message or of voice.
"""

import struct
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Self

from mien.protocol.avatar import HEAD, MAX_HEAD_BYTES, AvatarAssembler, ExpiredError, Head
from mien.protocol.consent import PermittedUse
from mien.protocol.errors import WireError
from mien.protocol.manifest import MAX_AVATAR_BYTES, MAX_LAYERS

ID_BYTES: Final = 8
MAX_CHUNK_BYTES: Final = 1024
HEAD_PART: Final = 255  # in place of a layer's index: the signed head
MAX_WANTS: Final = MAX_LAYERS


class RefusalReason(IntEnum):
    """Why a receiver does not take an avatar, or stops taking it."""

    DECLINED = 0  # the person, or the settings, said no
    DAMAGED = 1  # the signature or a hash does not verify, or the format is not kept
    EXPIRED = 2
    NOT_PERMITTED = 3  # the consent or the permitted uses do not cover this call
    TOO_MUCH = 4  # more bytes than this receiver keeps


@dataclass(frozen=True, slots=True)
class Offer:
    """The owner has this avatar; `total_bytes` is the size of the whole file.

     0      1           33            37
    +------+-----------+-------------+
    | 0x41 | avatar_id | total bytes |     big-endian
    |      | 32 bytes  | u32         |
    +------+-----------+-------------+
    """

    KIND: ClassVar[int] = 0x41
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("!B32sI")
    avatar_id: bytes
    total_bytes: int

    def __post_init__(self) -> None:
        if len(self.avatar_id) != 32:
            raise WireError(f"an offered avatar's id is {len(self.avatar_id)} bytes, expected 32")
        if not 1 <= self.total_bytes <= MAX_HEAD_BYTES + MAX_AVATAR_BYTES:
            raise WireError(f"an avatar of {self.total_bytes} bytes is offered, more than there may be")

    def serialize(self) -> bytes:
        """Return the 37 bytes."""
        return self.LAYOUT.pack(self.KIND, self.avatar_id, self.total_bytes)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read an offer. Raises `WireError`."""
        _check(data, cls.KIND, cls.LAYOUT.size, cls.LAYOUT.size)
        return cls(*cls.LAYOUT.unpack(data)[1:])


@dataclass(frozen=True, slots=True)
class Want:
    """The receiver wants these parts, each from an offset to its end, in this order; replaces what it wanted before.

     0      1      9       10      11       15
    +------+------+-------+-------+--------+---
    | 0x42 | id   | count | part  | offset | ...
    |      | 8 B  | u8    | u8    | u32    |
    +------+------+-------+-------+--------+---
    """

    KIND: ClassVar[int] = 0x42
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("!B8sB")
    PART: ClassVar[struct.Struct] = struct.Struct("!BI")
    transfer: bytes
    parts: tuple[tuple[int, int], ...]  # (layer index or HEAD_PART, offset in bytes)

    def __post_init__(self) -> None:
        _check_transfer(self.transfer)
        if not 1 <= len(self.parts) <= MAX_WANTS:
            raise WireError(f"{len(self.parts)} parts wanted, expected 1 to {MAX_WANTS}")
        for part, offset in self.parts:
            _check_part(part, offset)
        if len({part for part, _ in self.parts}) != len(self.parts):
            raise WireError("a part is wanted twice")

    def serialize(self) -> bytes:
        """Return 10 bytes, and 5 for each part."""
        parts = b"".join(self.PART.pack(*part) for part in self.parts)
        return self.LAYOUT.pack(self.KIND, self.transfer, len(self.parts)) + parts

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a wish. Raises `WireError`."""
        _check(data, cls.KIND, cls.LAYOUT.size, cls.LAYOUT.size + cls.PART.size * MAX_WANTS)
        _, transfer, count = cls.LAYOUT.unpack_from(data)
        if len(data) != cls.LAYOUT.size + cls.PART.size * count:
            raise WireError(f"a wish for {count} parts is {len(data)} bytes long")
        return cls(transfer, tuple(cls.PART.iter_unpack(data[cls.LAYOUT.size :])))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Up to `MAX_CHUNK_BYTES` of one part.

     0      1      9      10       14
    +------+------+------+--------+------+
    | 0x43 | id   | part | offset | data |
    |      | 8 B  | u8   | u32    |      |
    +------+------+------+--------+------+
    """

    KIND: ClassVar[int] = 0x43
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("!B8sBI")
    transfer: bytes
    part: int
    offset: int
    data: bytes

    def __post_init__(self) -> None:
        _check_transfer(self.transfer)
        _check_part(self.part, self.offset)
        if not 1 <= len(self.data) <= MAX_CHUNK_BYTES:
            raise WireError(f"a chunk of {len(self.data)} bytes, expected 1 to {MAX_CHUNK_BYTES}")

    def serialize(self) -> bytes:
        """Return 14 bytes and the data."""
        return self.LAYOUT.pack(self.KIND, self.transfer, self.part, self.offset) + self.data

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a chunk. Raises `WireError`."""
        _check(data, cls.KIND, cls.LAYOUT.size + 1, cls.LAYOUT.size + MAX_CHUNK_BYTES)
        _, transfer, part, offset = cls.LAYOUT.unpack_from(data)
        return cls(transfer, part, offset, data[cls.LAYOUT.size :])


@dataclass(frozen=True, slots=True)
class Done:
    """The receiver has the whole avatar.

     0      1      9
    +------+------+
    | 0x44 | id   |
    +------+------+
    """

    KIND: ClassVar[int] = 0x44
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("!B8s")
    transfer: bytes

    def __post_init__(self) -> None:
        _check_transfer(self.transfer)

    def serialize(self) -> bytes:
        """Return the 9 bytes."""
        return self.LAYOUT.pack(self.KIND, self.transfer)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read it. Raises `WireError`."""
        _check(data, cls.KIND, cls.LAYOUT.size, cls.LAYOUT.size)
        return cls(cls.LAYOUT.unpack(data)[1])


@dataclass(frozen=True, slots=True)
class Refuse:
    """The receiver will not show this avatar; the owner stops sending.

     0      1      9        10
    +------+------+--------+
    | 0x45 | id   | reason |
    +------+------+--------+
    """

    KIND: ClassVar[int] = 0x45
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("!B8sB")
    transfer: bytes
    reason: RefusalReason

    def __post_init__(self) -> None:
        _check_transfer(self.transfer)

    def serialize(self) -> bytes:
        """Return the 10 bytes."""
        return self.LAYOUT.pack(self.KIND, self.transfer, self.reason)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a refusal. Raises `WireError`."""
        _check(data, cls.KIND, cls.LAYOUT.size, cls.LAYOUT.size)
        _, transfer, reason = cls.LAYOUT.unpack(data)
        if reason not in RefusalReason._value2member_map_:
            raise WireError(f"refused for reason {reason}, expected one of {[int(r) for r in RefusalReason]}")
        return cls(transfer, RefusalReason(reason))


TransferMessage = Offer | Want | Chunk | Done | Refuse
_KINDS: Final[dict[int, type[TransferMessage]]] = {x.KIND: x for x in (Offer, Want, Chunk, Done, Refuse)}
MAX_TRANSFER_BYTES: Final = Chunk.LAYOUT.size + MAX_CHUNK_BYTES


def parse_transfer(data: bytes) -> TransferMessage:
    """Read any message of a transfer. Raises `WireError`."""
    if not data or len(data) > MAX_TRANSFER_BYTES:
        raise WireError(f"a transfer message is {len(data)} bytes, expected 1 to {MAX_TRANSFER_BYTES}")
    kind = _KINDS.get(data[0])
    if kind is None:
        raise WireError(f"a transfer message has kind {data[0]:#04x}, expected 0x41 to 0x45")
    return kind.parse(data)


def _check(data: bytes, kind: int, shortest: int, longest: int) -> None:
    if not shortest <= len(data) <= longest:
        raise WireError(
            f"transfer message {kind:#04x} is {len(data)} bytes, expected {shortest} to {longest}"
        )
    if data[0] != kind:
        raise WireError(f"transfer message has kind {data[0]:#04x}, expected {kind:#04x}")


def _check_transfer(transfer: bytes) -> None:
    if len(transfer) != ID_BYTES:
        raise WireError(f"a transfer is named by {len(transfer)} bytes, expected {ID_BYTES}")


def _check_part(part: int, offset: int) -> None:
    if not (0 <= part < MAX_LAYERS or part == HEAD_PART):
        raise WireError(f"part {part}, expected a layer below {MAX_LAYERS} or {HEAD_PART}")
    if not 0 <= offset < MAX_AVATAR_BYTES:
        raise WireError(f"offset {offset}, expected 0 to {MAX_AVATAR_BYTES - 1}")


class AvatarSender:
    """The owner's side of a transfer. Give it what arrives; take chunks from it as the link allows."""

    def __init__(self, avatar: AvatarAssembler) -> None:
        """`avatar` holds the whole file (`mien.protocol.avatar.assemble`)."""
        self._parts = {HEAD_PART: avatar.head.data} | dict(avatar.bodies)
        self._id = avatar.avatar_id
        self._queue: deque[tuple[int, int]] = deque()
        self.done = False
        self.refused: RefusalReason | None = None

    def offer(self) -> Offer:
        """Return the message that opens the transfer."""
        return Offer(self._id, sum(len(part) for part in self._parts.values()))

    def receive(self, message: TransferMessage) -> None:
        """Take a message of the receiver. Raises `WireError` for one that fits no state; drop it and count it."""
        if isinstance(message, Offer | Chunk):
            raise WireError(f"a receiver sent {type(message).__name__}, expected Want, Done or Refuse")
        if message.transfer != self._id[:ID_BYTES]:
            return  # an answer to an earlier offer that was under way
        if isinstance(message, Want):
            for part, offset in message.parts:
                if offset >= len(self._parts.get(part, b"")):
                    raise WireError(f"part {part} from byte {offset} is wanted, which does not exist")
            self._queue = deque(message.parts)
            return
        self._queue.clear()
        if isinstance(message, Done):
            self.done = True
        else:
            self.refused = message.reason

    @property
    def pending_bytes(self) -> int:
        """How many bytes are wanted and not taken yet."""
        return sum(len(self._parts[part]) - offset for part, offset in self._queue)

    def next_chunk(self, size: int = MAX_CHUNK_BYTES) -> Chunk | None:
        """Return the next chunk, of at most `size` bytes, or None when nothing is wanted."""
        if not self._queue:
            return None
        part, offset = self._queue.popleft()
        data = self._parts[part][offset : offset + min(size, MAX_CHUNK_BYTES)]
        if offset + len(data) < len(self._parts[part]):
            self._queue.appendleft((part, offset + len(data)))
        return Chunk(self._id[:ID_BYTES], part, offset, data)


class AvatarReceiver:
    """The other side. `avatar` of its `assembler` is what may be shown; nothing unverified ever is.

    `loopback` says that both ends are one machine: only there a test fixture is taken. `max_bytes` bounds what
    is kept in memory for one avatar.
    """

    def __init__(self, *, loopback: bool, max_bytes: int = MAX_HEAD_BYTES + MAX_AVATAR_BYTES) -> None:
        self._loopback = loopback
        self._max_bytes = max_bytes
        self._offer: Offer | None = None
        self._head = bytearray()
        self.assembler: AvatarAssembler | None = None
        self.refused: str | None = None  # why, for a person

    @property
    def offer(self) -> Offer | None:
        """The offer that is being taken."""
        return self._offer

    def on_offer(self, offer: Offer, cached: AvatarAssembler | None) -> list[TransferMessage]:
        """Take an offer, which replaces any earlier one; `cached` is what the cache holds of it, all or in part."""
        self._offer, self._head, self.assembler, self.refused = offer, bytearray(), None, None
        if offer.total_bytes > self._max_bytes:
            return self._refuse(
                RefusalReason.TOO_MUCH, f"the avatar is {offer.total_bytes} bytes, too many to keep"
            )
        if cached is None or cached.avatar_id != offer.avatar_id:
            return [Want(offer.avatar_id[:ID_BYTES], ((HEAD_PART, 0),))]
        return self._begin(cached)

    def decline(self) -> list[TransferMessage]:
        """Refuse what is offered because the person, or the settings, said so."""
        return self._refuse(RefusalReason.DECLINED, "declined here") if self._offer else []

    def receive(self, chunk: Chunk, *, now_unix_s: int) -> list[TransferMessage]:
        """Take a chunk and return what to answer. Bytes that break a promise end the transfer with a `Refuse`."""
        if self._offer is None or self.refused or chunk.transfer != self._offer.avatar_id[:ID_BYTES]:
            return []
        try:
            if chunk.part == HEAD_PART:
                return self._take_head(chunk, self._offer, now_unix_s=now_unix_s)
            if self.assembler is None:
                raise WireError("a layer arrived before the head")
            if self.assembler.add_chunk(chunk.part, chunk.offset, chunk.data) and self.assembler.complete:
                return [Done(chunk.transfer)]
        except ExpiredError as error:
            return self._refuse(RefusalReason.EXPIRED, str(error))
        except WireError as error:
            return self._refuse(RefusalReason.DAMAGED, str(error))
        return []

    def _take_head(self, chunk: Chunk, offer: Offer, *, now_unix_s: int) -> list[TransferMessage]:
        if self.assembler is not None:
            return []
        if chunk.offset != len(self._head) or len(self._head) + len(chunk.data) > MAX_HEAD_BYTES:
            raise WireError(f"the head goes on at byte {chunk.offset}, expected {len(self._head)}")
        self._head += chunk.data
        if len(self._head) < HEAD.size or len(self._head) < Head.size_of(self._head):
            return []
        assembler = AvatarAssembler(bytes(self._head), now_unix_s=now_unix_s)
        if assembler.avatar_id != offer.avatar_id:
            raise WireError("the avatar is not the one that was offered")
        return self._begin(assembler)

    def _begin(self, assembler: AvatarAssembler) -> list[TransferMessage]:
        manifest = assembler.manifest
        if sum(layer.size for layer in manifest.layers) > self._max_bytes:
            return self._refuse(RefusalReason.TOO_MUCH, "the avatar is too many bytes to keep")
        if not (
            manifest.permits(PermittedUse.CALL)
            or (self._loopback and manifest.permits(PermittedUse.LOOPBACK))
        ):
            return self._refuse(
                RefusalReason.NOT_PERMITTED, "its consent does not cover a call between machines"
            )
        self.assembler = assembler
        missing = assembler.missing()
        transfer = assembler.avatar_id[:ID_BYTES]
        return [Want(transfer, missing)] if missing else [Done(transfer)]

    def _refuse(self, reason: RefusalReason, text: str) -> list[TransferMessage]:
        if self._offer is None:
            return []
        self.assembler, self.refused = None, text
        self._head.clear()
        return [Refuse(self._offer.avatar_id[:ID_BYTES], reason)]
