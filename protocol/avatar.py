"""The avatar: a signed container of a neutral face, an appearance code and reference pictures, in layers.

File, and what is transferred (the head first, then layers in the manifest's order):

     0       8         9       10         12          76         76 + n
    +-------+---------+-------+----------+-----------+----------+---------+---------+----
    | magic | version | spare | manifest | signature | manifest | layer 0 | layer 1 | ...
    | 8 B   | = 1     | = 0   | size n   | 64 bytes  | n bytes  |         |         |
    +-------+---------+-------+----------+-----------+----------+---------+---------+----
    |<---------------------- head ---------------------------->|            big-endian

The signature is Ed25519 over `SIGNATURE_CONTEXT` followed by the manifest's bytes as they stand. The manifest
holds the SHA-256 of every layer, so the head vouches for all that follows. Nothing is shown, kept or
returned before the head is verified, and no layer before its hash is. See SPEC-avatar.md.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Final, Protocol, Self

import numpy as np
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from mien.protocol.compact import (
    NEUTRAL_STEPS,
    ByteReader,
    deflate_mesh,
    deflate_planes,
    dequantise_neutral,
    inflate_mesh,
    inflate_planes,
    predict_landmarks,
    prediction_for,
    quantise_neutral,
    row_differences,
    sum_rows,
)
from mien.protocol.consent import Consent, ConsentKind
from mien.protocol.errors import WireError
from mien.protocol.manifest import (
    MAX_AVATAR_BYTES,
    MAX_LAYER_BYTES,
    MAX_MANIFEST_BYTES,
    OWNER_BYTES,
    Layer,
    LayerKind,
    Manifest,
)
from mien.protocol.stream import TrackerId
from mien.protocol.webp import webp_size

__all__ = ["Consent", "ConsentKind", "Layer", "LayerKind", "Manifest"]  # re-exported: one import for readers

MAGIC: Final = b"\x89MIEN\r\n\x1a"  # like PNG's: not text, and a line-ending conversion breaks it
VERSION: Final = 1
HEAD: Final = struct.Struct("!8sBBH64s")
SIGNATURE_CONTEXT: Final = b"mien avatar manifest 1\0"  # the owner's key signs other things too
MAX_HEAD_BYTES: Final = HEAD.size + MAX_MANIFEST_BYTES
MAX_FIRST_BYTES: Final = 10_000  # head and first layer together
MAX_FIRST_PX: Final = 256
MAX_REFERENCE_PX: Final = 1024
MAX_APPEARANCE: Final = 512
MAX_RING_VALUES: Final = 32_000
PUPILS: Final = (468, 473)


class ExpiredError(WireError):
    """The avatar is in order, but its owner limited it to a time that has passed."""


class Signer(Protocol):
    """Whatever holds an Ed25519 private key."""

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the public key."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """One picture of the person, and where the face is in it.

    `picture` is a plain WebP file (sRGB) of the whole source frame, scaled; `matte` a grey WebP of the same
    framing, often smaller, white where the person is, b"" if there is none; `landmarks` float32 [478, 3] in
    image space of `picture`, in its pixels. `slot` numbers an avatar's references; 0 is the most central one.
    """

    picture: bytes
    matte: bytes
    landmarks: NDArray[np.float32]
    slot: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the picture in pixels, from its header."""
        return webp_size(self.picture)


@dataclass(frozen=True, slots=True, eq=False)
class Avatar:
    """A verified avatar, as far as its layers are here.

    `avatar_id` is the SHA-256 of the signed manifest (the stream header names its first 8 bytes); `neutral`
    is float32 [478, 3] in model space; `appearance` float32 [n], see `mien.encoder.appearance`; `references`
    in the order of their slots, at least one; `rings` a float32 array or None; `unit_px`, `width` and
    `height` are the framing of the enrolment. `complete` says that no known layer is missing.
    """

    avatar_id: bytes
    manifest: Manifest
    neutral: NDArray[np.float32]
    appearance: NDArray[np.float32]
    references: tuple[Reference, ...]
    rings: NDArray[np.float32] | None
    complete: bool

    @property
    def unit_px(self) -> Fraction:
        """Pixels per model unit at scale 1 in the enrolment's framing."""
        return self.manifest.unit_px

    @property
    def width(self) -> int:
        """Width of the enrolment's frames in pixels."""
        return self.manifest.width

    @property
    def height(self) -> int:
        """Height of the enrolment's frames in pixels."""
        return self.manifest.height

    @property
    def is_test_fixture(self) -> bool:
        """Whether this is a test picture, which may be shown on one machine only and needs its own badge."""
        return self.manifest.consent.kind is ConsentKind.TEST_FIXTURE


@dataclass(frozen=True, slots=True, eq=False)
class FirstLayer:
    """What a face can be shown from: neutral, appearance code, one small reference.

     0        2                 2 + n   4 + n                  4 + n + 2 c
    +--------+-----------------+-------+----------------------+-----------+
    | size n | neutral,        | count | appearance,          | reference |
    | u16    | n bytes of zlib | c u16 | c x float16          |           |
    +--------+-----------------+-------+----------------------+-----------+
    """

    neutral: NDArray[np.int64]  # [478, 3], model space in 1/1024
    appearance: NDArray[np.float32]
    reference: Reference

    def serialize(self) -> bytes:
        """Return the layer's bytes. Raises `WireError` for an appearance code that is too long or not finite."""
        with np.errstate(over="ignore"):  # what overflows is refused below
            code = self.appearance.astype(">f2")
        if code.ndim != 1 or code.size > MAX_APPEARANCE or not np.isfinite(code).all():
            raise WireError(
                f"appearance code of shape {code.shape}, expected at most {MAX_APPEARANCE} finite values"
            )
        neutral = deflate_mesh(self.neutral)
        return b"".join(
            [
                struct.pack("!H", len(neutral)),
                neutral,
                struct.pack("!H", code.size),
                code.tobytes(),
                serialize_reference(self.reference, self.neutral),
            ]
        )

    @classmethod
    def parse(cls, data: bytes, *, frame: tuple[int, int]) -> Self:
        """Read the layer; `frame` is (width, height) of the enrolment's frames. Raises `WireError`."""
        reader = ByteReader(data, "the first layer")
        neutral = inflate_mesh(reader.take(reader.u16()), "the neutral face")
        if np.abs(neutral).max() > 4 * 1024:
            raise WireError("a neutral vertex is more than 4 units from the origin")
        pupils = neutral[PUPILS[1], :2] - neutral[PUPILS[0], :2]
        if not NEUTRAL_STEPS**2 // 4 <= int(pupils @ pupils) <= NEUTRAL_STEPS**2 * 4:
            raise WireError("the neutral face's pupils are not about 1 unit apart")
        count = reader.u16()
        if count > MAX_APPEARANCE:
            raise WireError(f"appearance code of {count} values, expected at most {MAX_APPEARANCE}")
        appearance = np.frombuffer(reader.take(2 * count), ">f2").astype(np.float32)
        if not np.isfinite(appearance).all():
            raise WireError("the appearance code holds values that are not finite")
        reference = parse_reference(reader, neutral, slot=0, frame=frame, max_px=MAX_FIRST_PX)
        reader.finish()
        return cls(neutral, appearance, reference)


def serialize_reference(reference: Reference, neutral: NDArray[np.int64]) -> bytes:
    """Return a reference's bytes, alone in a PICTURE layer or last in the FIRST layer.

     0                48       50                50 + n  54 + n             54 + n + p   56 + n + p
    +----------------+--------+-----------------+-------+------------------+------------+-------+
    | prediction,    | size n | landmark rests, | size  | picture, p bytes | size m u16 | matte |
    | 12 x int32     | u16    | n bytes of zlib | p u32 | of WebP          | (0: none)  |       |
    +----------------+--------+-----------------+-------+------------------+------------+-------+

    `neutral` is int [478, 3] in 1/1024 unit; landmarks are coded in 1/8 px as their difference from an affine
    image of the neutral face.
    """
    prediction = prediction_for(reference.landmarks, neutral)
    rest = np.rint(reference.landmarks.astype(np.float64) * 8).astype(np.int64)
    rest -= predict_landmarks(prediction, neutral)
    packed = deflate_mesh(rest)
    return b"".join(
        [
            prediction.astype(">i4").tobytes(),
            struct.pack("!H", len(packed)),
            packed,
            struct.pack("!I", len(reference.picture)),
            reference.picture,
            struct.pack("!H", len(reference.matte)),
            reference.matte,
        ]
    )


def parse_reference(
    reader: ByteReader, neutral: NDArray[np.int64], *, slot: int, frame: tuple[int, int], max_px: int
) -> Reference:
    """Read a reference; its picture must show the whole frame, at most `max_px` on either side."""
    prediction = np.frombuffer(reader.take(48), ">i4").astype(np.int64).reshape(3, 4)
    if np.abs(prediction).max() > 1 << 24:
        raise WireError("the prediction of the landmarks leaves its range")
    landmarks = inflate_mesh(reader.take(reader.u16()), "the landmarks") + predict_landmarks(
        prediction, neutral
    )
    if np.abs(landmarks).max() > 8 * 4 * MAX_REFERENCE_PX:
        raise WireError("a landmark lies far outside its picture")
    picture = bytes(reader.take(reader.u32()))
    _check_picture("the reference", picture, frame=frame, max_px=max_px)
    matte = bytes(reader.take(reader.u16()))
    if matte:
        _check_picture("the matte", matte, frame=frame, max_px=max_px)
    return Reference(picture, matte, (landmarks / 8).astype(np.float32), slot)


def _check_picture(what: str, data: bytes, *, frame: tuple[int, int], max_px: int) -> None:
    (width, height), (frame_width, frame_height) = webp_size(data), frame
    if not (1 <= width <= max_px and 1 <= height <= max_px):
        raise WireError(f"{what} is {width} x {height}, expected at most {max_px} each way")
    # Both sides were rounded to whole pixels, by half a pixel at most each.
    if 2 * abs(width * frame_height - height * frame_width) > frame_width + frame_height:
        raise WireError(
            f"{what} is {width} x {height}, not the shape of a {frame_width} x {frame_height} frame"
        )


@dataclass(frozen=True, slots=True, eq=False)
class RingsLayer:
    """How hair, neck and shoulders follow the head: a float32 table, kept in steps of 1/512 (see `mien.models.rings`).

     0       2          4
    +-------+----------+--------------------------------+
    | rows  | columns  | zlib of the rows' differences  |
    | u16   | u16      |                                |
    +-------+----------+--------------------------------+
    """

    STEPS: ClassVar[int] = 512  # per unit; the table is within +-63.998
    values: NDArray[np.float32]  # [rows, columns]

    def serialize(self) -> bytes:
        """Return the layer's bytes. Raises `WireError` for a table that is empty, too big or out of bounds."""
        if self.values.ndim != 2:
            raise WireError(f"the rings have the shape {self.values.shape}, expected a table")
        self._check(*self.values.shape)
        scaled = np.rint(self.values.astype(np.float64) * self.STEPS)
        if not np.isfinite(scaled).all() or np.abs(scaled).max() > 32767:
            raise WireError("the rings hold values that are not finite, or not within 64 units")
        return struct.pack("!HH", *scaled.shape) + deflate_planes(row_differences(scaled.astype(np.int64)))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the layer. Raises `WireError`."""
        reader = ByteReader(data, "the rings")
        rows, columns = reader.u16(), reader.u16()
        cls._check(rows, columns)
        steps = inflate_planes(reader.rest(), "the rings", rows=rows, columns=columns)
        return cls((sum_rows(steps) / cls.STEPS).astype(np.float32))

    @staticmethod
    def _check(rows: int, columns: int) -> None:
        if not 1 <= rows * columns <= MAX_RING_VALUES:
            raise WireError(f"the rings have {rows} x {columns} values, expected 1 to {MAX_RING_VALUES}")


# --- Writing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class AvatarContent:
    """What an enrolment found, ready to be signed.

    `first` is the small reference of the first layer (at most 256 px); `references` the full-size ones in the
    order in which they should arrive, each with its own slot; `extra` further layers as (kind, bytes), for
    readers that know them.
    """

    neutral: NDArray[np.float32]  # [478, 3], model space
    appearance: NDArray[np.float32]
    first: Reference
    references: tuple[Reference, ...] = ()
    rings: NDArray[np.float32] | None = None
    extra: tuple[tuple[int, bytes], ...] = ()

    def layers(self) -> list[tuple[int, int, bytes]]:
        """Return (kind, slot, bytes) of every layer, in the order of transfer."""
        neutral = quantise_neutral(self.neutral)
        first = FirstLayer(neutral, self.appearance, self.first).serialize()
        layers: list[tuple[int, int, bytes]] = [(LayerKind.FIRST, 0, first)]
        if self.rings is not None:
            layers.append((LayerKind.RINGS, 0, RingsLayer(self.rings).serialize()))
        layers += [(LayerKind.PICTURE, r.slot, serialize_reference(r, neutral)) for r in self.references]
        return layers + [(kind, 0, data) for kind, data in self.extra]


@dataclass(frozen=True, slots=True)
class Declaration:
    """What the owner states about the avatar; the rest of the manifest follows from the content."""

    name: str
    consent: Consent
    uses: tuple[str, ...]
    created_unix_s: int
    expires_unix_s: int | None
    model_id: bytes
    tracker: TrackerId
    unit_px: Fraction
    width: int
    height: int
    made_up: tuple[
        tuple[int, str], ...
    ] = ()  # slots of references that were not photographed, what they show


def sign_avatar(content: AvatarContent, declaration: Declaration, signer: Signer) -> bytes:
    """Return the bytes of a complete `.avatar` file. Raises `WireError` for whatever a reader would refuse."""
    layers = content.layers()
    manifest = _declare(declaration, signer.public_key, layers).serialize()
    data = sign_manifest(manifest, signer) + b"".join(body for _, _, body in layers)
    parse_avatar(data, now_unix_s=declaration.created_unix_s)  # refuse on the way out too
    return data


def first_bytes(content: AvatarContent, declaration: Declaration) -> int:
    """Return how many bytes head and first layer would have; more than `MAX_FIRST_BYTES` cannot be signed."""
    first, *others = content.layers()
    # The first layer's own size stands in its manifest: as long a number as it can be, whatever it is.
    table = [(first[0], first[1], b"\0" * 9_000), *others]
    return HEAD.size + len(_declare(declaration, bytes(OWNER_BYTES), table).serialize()) + len(first[2])


def _declare(declaration: Declaration, owner: bytes, layers: list[tuple[int, int, bytes]]) -> Manifest:
    d = declaration
    return Manifest(
        owner=owner,
        name=d.name,
        consent=d.consent,
        uses=tuple(str(use) for use in d.uses),
        created_unix_s=d.created_unix_s,
        expires_unix_s=d.expires_unix_s,
        model_id=d.model_id,
        tracker=d.tracker,
        unit_px=d.unit_px,
        width=d.width,
        height=d.height,
        layers=tuple(
            Layer(kind, slot, len(body), hashlib.sha256(body).digest()) for kind, slot, body in layers
        ),
        made_up=d.made_up,
    )


def sign_manifest(manifest: bytes, signer: Signer) -> bytes:
    """Return the head of a file: header, signature and the manifest's bytes."""
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise WireError(f"the manifest is {len(manifest)} bytes, expected at most {MAX_MANIFEST_BYTES}")
    signature = signer.sign(SIGNATURE_CONTEXT + manifest)
    return HEAD.pack(MAGIC, VERSION, 0, len(manifest), signature) + manifest


# --- Reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """The verified head of an avatar: its exact bytes, its id, and the manifest that they hold."""

    data: bytes
    avatar_id: bytes
    manifest: Manifest

    @staticmethod
    def size_of(start: bytes | bytearray) -> int:
        """Return how many bytes the head has, from the first 12 or more of them. Raises `WireError`."""
        if len(start) < 12:
            raise WireError(f"an avatar begins with at least {HEAD.size} bytes, got {len(start)}")
        if start[:8] != MAGIC:
            raise WireError("this is not an avatar file (its first bytes are others)")
        if start[8] != VERSION:
            raise WireError(f"the avatar file has version {start[8]}, expected {VERSION}: update mien")
        if start[9] != 0:
            raise WireError(f"the spare byte of the avatar is {start[9]}, expected 0")
        size = int.from_bytes(start[10:12], "big")
        if not OWNER_BYTES < size <= MAX_MANIFEST_BYTES:
            raise WireError(
                f"the manifest is {size} bytes, expected {OWNER_BYTES + 1} to {MAX_MANIFEST_BYTES}"
            )
        return HEAD.size + size

    @classmethod
    def parse(cls, data: bytes, *, now_unix_s: int) -> Self:
        """Verify a head: signature first, then its fields, then that it has not expired. Raises `WireError`."""
        size = cls.size_of(data)
        if len(data) != size:
            raise WireError(f"the avatar's head is {len(data)} bytes, expected {size}")
        signature, signed = HEAD.unpack_from(data)[4], data[HEAD.size :]
        try:
            Ed25519PublicKey.from_public_bytes(signed[:OWNER_BYTES]).verify(
                signature, SIGNATURE_CONTEXT + signed
            )
        except (InvalidSignature, UnsupportedAlgorithm, ValueError):
            raise WireError(
                "the avatar's signature does not verify: it was changed after its owner signed it"
            ) from None
        manifest = Manifest.parse(signed)
        if manifest.expires_unix_s is not None and now_unix_s >= manifest.expires_unix_s:
            raise ExpiredError("the avatar has expired: its owner has to enrol again")
        first = len(data) + manifest.layers[0].size
        if first > MAX_FIRST_BYTES:
            raise WireError(f"head and first layer are {first} bytes, expected at most {MAX_FIRST_BYTES}")
        return cls(data, hashlib.sha256(signed).digest(), manifest)


class AvatarAssembler:
    """Puts an avatar together from its head and its layers, in any order, each verified against the head.

    No I/O and no clock. `avatar` is None until the first layer is here; then it is the best avatar that the
    layers make, a new object after each one. Memory is bounded by the sizes in the verified manifest.
    """

    def __init__(self, head: bytes, *, now_unix_s: int) -> None:
        """Verify the head. Raises `WireError`."""
        self._head = Head.parse(head, now_unix_s=now_unix_s)
        self._bodies: dict[int, bytes] = {}
        self._partial: dict[int, bytearray] = {}
        self._first: FirstLayer | None = None
        self._references: dict[int, Reference] = {}
        self._rings: NDArray[np.float32] | None = None
        self._avatar: Avatar | None = None

    @property
    def head(self) -> Head:
        """The verified head."""
        return self._head

    @property
    def manifest(self) -> Manifest:
        """The verified manifest."""
        return self._head.manifest

    @property
    def avatar_id(self) -> bytes:
        """SHA-256 of the manifest, 32 bytes."""
        return self._head.avatar_id

    @property
    def avatar(self) -> Avatar | None:
        """The avatar from the layers that are here, or None before the first layer is."""
        return self._avatar

    @property
    def complete(self) -> bool:
        """Whether every layer of a kind that this version knows is here."""
        return not self.missing()

    @property
    def bodies(self) -> Mapping[int, bytes]:
        """The verified layers that are here, by their index in the manifest."""
        return self._bodies

    def missing(self) -> tuple[tuple[int, int], ...]:
        """Return (layer index, offset to go on from) of each known layer that is not here yet, in order."""
        return tuple(
            (index, len(self._partial.get(index, b"")))
            for index, layer in enumerate(self.manifest.layers)
            if index not in self._bodies and layer.kind in MAX_LAYER_BYTES
        )

    def add_chunk(self, index: int, offset: int, data: bytes) -> bool:
        """Take the next bytes of a layer; return whether they completed it.

        Raises `WireError` for bytes that do not continue what is here, run over the layer's end, or complete
        it to something with another hash; what was collected of that layer is then dropped.
        """
        layer = self._layer(index)
        if index in self._bodies:
            return False
        partial = self._partial.setdefault(index, bytearray())
        if offset != len(partial):
            raise WireError(f"layer {index} goes on at byte {offset}, expected {len(partial)}")
        if not data or offset + len(data) > layer.size:
            raise WireError(f"{len(data)} bytes at {offset} of layer {index}, which has {layer.size}")
        partial += data
        if len(partial) < layer.size:
            return False
        del self._partial[index]
        self.add_layer(index, bytes(partial))
        return True

    def add_layer(self, index: int, body: bytes) -> None:
        """Take a whole layer. Raises `WireError` unless it is what the manifest says; the avatar then stays as it was."""
        layer = self._layer(index)
        if len(body) != layer.size:
            raise WireError(f"layer {index} is {len(body)} bytes, expected {layer.size}")
        if hashlib.sha256(body).digest() != layer.sha256:
            raise WireError(
                f"layer {index} of the avatar is damaged: its hash is not the one that was signed"
            )
        if index in self._bodies:
            return
        if layer.kind == LayerKind.FIRST:
            self._add_first(index, body)
        elif layer.kind == LayerKind.RINGS:
            self._rings = RingsLayer.parse(body).values
        elif layer.kind == LayerKind.PICTURE and self._first is not None:
            self._references[layer.slot] = self._parse_picture(layer.slot, body, self._first)
        self._bodies[index] = body
        self._rebuild()

    def serialize(self) -> bytes:
        """Return the whole file. Raises `WireError` while a layer is missing, also one of an unknown kind."""
        absent = [i for i in range(len(self.manifest.layers)) if i not in self._bodies]
        if absent:
            raise WireError(f"the avatar is not complete: layers {absent} are missing")
        return self._head.data + b"".join(self._bodies[i] for i in range(len(self.manifest.layers)))

    def _layer(self, index: int) -> Layer:
        if not 0 <= index < len(self.manifest.layers):
            raise WireError(f"layer {index}, but the avatar has {len(self.manifest.layers)}")
        return self.manifest.layers[index]

    def _parse_picture(self, slot: int, body: bytes, first: FirstLayer) -> Reference:
        reader = ByteReader(body, "a picture layer")
        frame = (self.manifest.width, self.manifest.height)
        reference = parse_reference(reader, first.neutral, slot=slot, frame=frame, max_px=MAX_REFERENCE_PX)
        reader.finish()
        return reference

    def _add_first(self, index: int, body: bytes) -> None:
        first = FirstLayer.parse(body, frame=(self.manifest.width, self.manifest.height))
        waiting = {
            self.manifest.layers[i].slot: self._parse_picture(self.manifest.layers[i].slot, data, first)
            for i, data in self._bodies.items()
            if self.manifest.layers[i].kind == LayerKind.PICTURE
        }
        self._first, self._references = first, waiting

    def _rebuild(self) -> None:
        if self._first is None:
            return
        references = {0: self._first.reference} | self._references
        self._avatar = Avatar(
            avatar_id=self.avatar_id,
            manifest=self.manifest,
            neutral=dequantise_neutral(self._first.neutral),
            appearance=self._first.appearance,
            references=tuple(references[slot] for slot in sorted(references)),
            rings=self._rings,
            complete=self.complete,
        )


def assemble(data: bytes, *, now_unix_s: int) -> AvatarAssembler:
    """Verify a whole `.avatar` file and return the assembler that holds it all. Raises `WireError`."""
    if len(data) > MAX_HEAD_BYTES + MAX_AVATAR_BYTES:
        raise WireError(
            f"the file is {len(data)} bytes, expected at most {MAX_HEAD_BYTES + MAX_AVATAR_BYTES}"
        )
    head_size = Head.size_of(data)
    if len(data) < head_size:
        raise WireError(f"the avatar is cut short: {len(data)} bytes, its head alone has {head_size}")
    assembler = AvatarAssembler(data[:head_size], now_unix_s=now_unix_s)
    expected = head_size + sum(layer.size for layer in assembler.manifest.layers)
    if len(data) != expected:
        raise WireError(
            f"the avatar is {len(data)} bytes, expected {expected}: it is cut short or has a tail"
        )
    offset = head_size
    for index, layer in enumerate(assembler.manifest.layers):
        assembler.add_layer(index, data[offset : offset + layer.size])
        offset += layer.size
    return assembler


def parse_avatar(data: bytes, *, now_unix_s: int) -> Avatar:
    """Read a whole `.avatar` file: signature, schema, expiry (against `now_unix_s`), sizes, hashes, layers.

    Raises `WireError` for anything that is not wholly in order; an unverified avatar is never returned.
    """
    avatar = assemble(data, now_unix_s=now_unix_s).avatar
    if avatar is None:  # the manifest's table begins with the first layer, so it was added
        raise WireError("the avatar has no first layer")
    return avatar
