"""The tuning: what makes the generator draw one person better, signed by that person. It travels outside calls.

A file holds small changes to weights of the generator that comes with mien, by name. It holds no graph, no code and no
weights of its own: a reader takes the generator that it has and adds the changes to arrays of the same name and shape.

     0       8         9       10       14          78      110         142         174       182     184
    +-------+---------+-------+--------+-----------+-------+-----------+-----------+---------+-------+---------+--------+
    | magic | version | spare | size n | signature | owner | generator | avatar id | created | count | changes | steps  |
    | 8 B   | = 1     | = 0   | u32    | 64 B      | 32 B  | 32 B      | 32 B      | u64 s   | u16   |         | zlib   |
    +-------+---------+-------+--------+-----------+-------+-----------+-----------+---------+-------+---------+--------+
                                                   |<------------------- body, n bytes, signed ------------------------>|

    change: +--------+------+------------+-------------+---------------------------+
            | length | name | dimensions | lengths     | scales                    |     big-endian
            | u8     |      | u8         | u16 of each | float32, one for each row |
            +--------+------+------------+-------------+---------------------------+

The signature is Ed25519 over `SIGNATURE_CONTEXT` followed by the body as it stands. `generator` is the SHA-256 of the
generator that the changes are for. See SPEC-tuning.md.
"""

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Final, Self

import numpy as np
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from mien.protocol.avatar import Signer
from mien.protocol.compact import ByteReader
from mien.protocol.consent import MAX_TIME_S
from mien.protocol.errors import WireError
from mien.protocol.manifest import Manifest

MAGIC: Final = b"\x89MTUN\r\n\x1a"
VERSION: Final = 1
HEAD: Final = struct.Struct("!8sBBI64s")
SIGNATURE_CONTEXT: Final = b"mien generator tuning 1\0"
MAX_TUNING_BYTES: Final = 500_000
MAX_CHANGES: Final = 256
MAX_DIMENSIONS: Final = 4
MAX_VALUES: Final = 2 << 20
MAX_STEPS: Final = 127
MAX_SCALE: Final = 1.0
NAME: Final = re.compile(rb"[0-9A-Za-z_.:/-]{1,128}")
_BODY: Final = struct.Struct("!32s32s32sQH")

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What is added to one array of weights: `steps` int8 of its shape, `scales` float32 [rows], a step of each row."""

    name: str
    steps: NDArray[np.int8]
    scales: Floats

    def __post_init__(self) -> None:
        if NAME.fullmatch(self.name.encode("utf-8", "replace")) is None:
            raise WireError(f"a changed array has the name {self.name!r:.40}, expected plain letters")
        _check_shape(self.name, self.steps.shape)
        if self.steps.dtype != np.int8 or (self.steps == -128).any():
            raise WireError(f"the changes of {self.name} leave -{MAX_STEPS} to {MAX_STEPS}")
        if self.scales.shape != self.steps.shape[:1]:
            raise WireError(f"{self.name} has {self.scales.shape} scales, expected {self.steps.shape[:1]}")
        if not np.isfinite(self.scales).all() or (self.scales < 0).any() or (self.scales > MAX_SCALE).any():
            raise WireError(f"a scale of {self.name} is not within 0 to {MAX_SCALE:g}")

    @property
    def values(self) -> Floats:
        """What is added, float32 of the array's shape."""
        rows = self.scales.reshape(-1, *[1] * (self.steps.ndim - 1))
        return np.asarray(self.steps * rows, np.float32)

    @classmethod
    def of(cls, name: str, values: Floats, *, steps: int = MAX_STEPS) -> Self:
        """Round values to at most so many steps either way in each row. Raises `WireError` for what none can hold."""
        _check_shape(name, values.shape)
        if not np.isfinite(values).all():
            raise WireError(f"the changes of {name} are not finite")
        rows = np.abs(values).reshape(len(values), -1).max(1)
        scales = np.asarray(rows / steps, np.float32)
        safe = np.where(scales > 0, scales, 1).reshape(-1, *[1] * (values.ndim - 1))
        rounded = np.clip(np.rint(values / safe), -steps, steps).astype(np.int8)
        return cls(name, rounded, scales)


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """A tuning whose signature holds, or one about to be signed.

    `generator` is the SHA-256 of the generator's file, `avatar_id` that of the avatar it belongs to, `owner` the
    public key of that avatar's owner.
    """

    owner: bytes
    generator: bytes
    avatar_id: bytes
    created_unix_s: int
    changes: tuple[Change, ...]

    def __post_init__(self) -> None:
        for what, value in (
            ("owner", self.owner),
            ("generator", self.generator),
            ("avatar", self.avatar_id),
        ):
            if len(value) != 32:
                raise WireError(f"the tuning's {what} is {len(value)} bytes, expected 32")
        if not 0 <= self.created_unix_s <= MAX_TIME_S:
            raise WireError(f"created at {self.created_unix_s}, expected 0 to {MAX_TIME_S} seconds")
        if not 1 <= len(self.changes) <= MAX_CHANGES:
            raise WireError(f"{len(self.changes)} changes, expected 1 to {MAX_CHANGES}")
        if len({change.name for change in self.changes}) != len(self.changes):
            raise WireError("the tuning changes one array twice")
        _check_total(sum(change.steps.size for change in self.changes))

    def serialize(self, signer: Signer) -> bytes:
        """Return the signed file. Raises `WireError` for more than `MAX_TUNING_BYTES`, and for another one's key."""
        if signer.public_key != self.owner:
            raise WireError("a tuning is signed by the owner of its avatar, and this is another key")
        parts = [
            _BODY.pack(self.owner, self.generator, self.avatar_id, self.created_unix_s, len(self.changes))
        ]
        for change in self.changes:
            name, shape = change.name.encode("ascii"), change.steps.shape
            parts += [
                bytes([len(name)]),
                name,
                struct.pack(f"!B{len(shape)}H", len(shape), *shape),
                change.scales.astype(">f4").tobytes(),
            ]
        parts.append(zlib.compress(b"".join(change.steps.tobytes() for change in self.changes), 9))
        body = b"".join(parts)
        size = HEAD.size + len(body)
        if size > MAX_TUNING_BYTES:
            raise WireError(f"the tuning is {size} bytes, expected at most {MAX_TUNING_BYTES}")
        return HEAD.pack(MAGIC, VERSION, 0, len(body), signer.sign(SIGNATURE_CONTEXT + body)) + body

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a file: sizes, then its signature, then what it holds. Raises `WireError`; nothing unsigned comes out."""
        body = _signed_body(data)
        reader = ByteReader(body, "the tuning")
        owner, generator, avatar_id, created, count = _BODY.unpack(reader.take(_BODY.size))
        if not 1 <= count <= MAX_CHANGES:
            raise WireError(f"{count} changes, expected 1 to {MAX_CHANGES}")
        heads = [_change_head(reader) for _ in range(count)]
        total = sum(prod(shape) for _, shape, _ in heads)
        _check_total(total)
        steps = np.frombuffer(_inflated(reader.rest(), total), np.int8)
        ends = np.cumsum([prod(shape) for _, shape, _ in heads])
        changes = tuple(
            Change(name, steps[end - prod(shape) : end].reshape(shape), scales)
            for (name, shape, scales), end in zip(heads, ends, strict=True)
        )
        return cls(owner, generator, avatar_id, created, changes)

    def check_belongs(self, manifest: Manifest, avatar_id: bytes) -> None:
        """Raise `WireError` unless it is the owner of this avatar who made it, for this very avatar."""
        if self.owner != manifest.owner:
            raise WireError("the tuning is not signed by the avatar's owner")
        if self.avatar_id != avatar_id:
            raise WireError(
                f"the tuning belongs to the avatar {self.avatar_id.hex()[:16]}, this one is {avatar_id.hex()[:16]}: "
                "each enrolment has its own"
            )


def fitted(
    changes: Mapping[str, Floats], *, owner: bytes, generator: bytes, avatar_id: bytes, created_unix_s: int
) -> Tuning:
    """Return a tuning with changes as finely rounded as a file may be large. Raises `WireError` where none is.

    Half as many steps save a bit of each value.
    """
    steps = MAX_STEPS
    while True:
        made = tuple(Change.of(name, values, steps=steps) for name, values in changes.items())
        tuning = Tuning(owner, generator, avatar_id, created_unix_s, made)
        packed = zlib.compress(b"".join(change.steps.tobytes() for change in made), 9)
        around = sum(2 + len(c.name) + 2 * c.steps.ndim + 4 * len(c.scales) for c in made)
        if HEAD.size + _BODY.size + around + len(packed) <= MAX_TUNING_BYTES:
            return tuning
        steps //= 2
        if not steps:
            raise WireError(f"these changes do not fit into {MAX_TUNING_BYTES} bytes")


def _signed_body(data: bytes) -> bytes:
    if len(data) > MAX_TUNING_BYTES:
        raise WireError(f"the tuning is {len(data)} bytes, expected at most {MAX_TUNING_BYTES}")
    if len(data) < HEAD.size + _BODY.size:
        raise WireError(f"the tuning is {len(data)} bytes, expected {HEAD.size + _BODY.size} or more")
    magic, version, spare, size, signature = HEAD.unpack_from(data)
    if magic != MAGIC:
        raise WireError("this is no tuning (its first bytes are others)")
    if version != VERSION:
        raise WireError(f"the tuning has version {version}, expected {VERSION}: update mien")
    if spare != 0:
        raise WireError(f"the spare byte of the tuning is {spare}, expected 0")
    body = data[HEAD.size :]
    if len(body) != size:
        raise WireError(
            f"the tuning's body is {len(body)} bytes, expected {size}: it is cut short or has a tail"
        )
    try:
        Ed25519PublicKey.from_public_bytes(body[:32]).verify(signature, SIGNATURE_CONTEXT + body)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise WireError(
            "the tuning's signature does not verify: it was changed after its owner signed it"
        ) from None
    return body


def _change_head(reader: ByteReader) -> tuple[str, tuple[int, ...], Floats]:
    name = bytes(reader.take(reader.u8()))
    if NAME.fullmatch(name) is None:
        raise WireError(f"a changed array has the name {name!r:.40}, expected plain letters")
    shape = tuple(reader.u16() for _ in range(_dimensions(reader.u8())))
    _check_shape(name.decode(), shape)
    scales = np.frombuffer(reader.take(4 * shape[0]), ">f4").astype(np.float32)
    return name.decode(), shape, scales


def _dimensions(count: int) -> int:
    if not 1 <= count <= MAX_DIMENSIONS:
        raise WireError(f"a changed array has {count} dimensions, expected 1 to {MAX_DIMENSIONS}")
    return count


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    _dimensions(len(shape))
    if not all(1 <= length <= 0xFFFF for length in shape) or prod(shape) > MAX_VALUES:
        raise WireError(f"{name:.40} has the shape {shape}, expected at most {MAX_VALUES} values")


def _check_total(values: int) -> None:
    if values > MAX_VALUES:
        raise WireError(f"the tuning changes {values} values, expected at most {MAX_VALUES}")


def _inflated(data: bytes | memoryview, size: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise WireError(f"the tuning cannot be decompressed: {error!s:.60}") from None
    if len(raw) != size or not inflater.eof or inflater.unused_data:
        raise WireError(f"the tuning does not decompress to {size} bytes")
    return raw
