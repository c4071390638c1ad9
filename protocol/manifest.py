"""The manifest of an avatar: whose it is, what it may be used for, and which layers belong to it."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Any, ClassVar, Final, Self

import msgpack

from mien.protocol.consent import MAX_TIME_S, Consent, ConsentKind, PermittedUse, check_text
from mien.protocol.errors import WireError
from mien.protocol.stream import MAX_PICTURE_PX, TrackerId

OWNER_BYTES: Final = 32
MAX_MANIFEST_BYTES: Final = 4096
MAX_NAME_BYTES: Final = 64
MAX_LAYERS: Final = 40
MAX_EXTRA_LAYER_BYTES: Final = 2 << 20
MAX_AVATAR_BYTES: Final = 4 << 20
MAX_USES: Final = 16
MAX_REFERENCES: Final = 16


class LayerKind(IntEnum):
    """What a layer's bytes are. A reader skips kinds that it does not know."""

    FIRST = 1  # neutral, appearance code and one small reference
    PICTURE = 2  # one reference at full size
    RINGS = 3  # how hair, neck and shoulders follow the head


MAX_LAYER_BYTES: Final = {LayerKind.FIRST: 10_000, LayerKind.PICTURE: 256 << 10, LayerKind.RINGS: 128 << 10}


@dataclass(frozen=True, slots=True)
class Layer:
    """One line of the manifest's table: `kind` (a `LayerKind`, or a number from a later version), the
    reference it belongs to (`slot`, 0 where it belongs to none), its size in bytes, its SHA-256."""

    kind: int
    slot: int
    size: int
    sha256: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.kind <= 255:
            raise WireError(f"a layer's kind is {self.kind}, expected 0 to 255")
        if not 0 <= self.slot < MAX_REFERENCES:
            raise WireError(f"a layer's slot is {self.slot}, expected 0 to {MAX_REFERENCES - 1}")
        known = self.kind in MAX_LAYER_BYTES
        limit = MAX_LAYER_BYTES[LayerKind(self.kind)] if known else MAX_EXTRA_LAYER_BYTES
        if not 1 <= self.size <= limit:
            raise WireError(f"a layer of kind {self.kind} is {self.size} bytes, expected 1 to {limit}")
        if len(self.sha256) != 32:
            raise WireError(f"a layer's hash is {len(self.sha256)} bytes, expected 32")


class MadeUp(StrEnum):
    """What a reference shows that nobody photographed: enrolment made it from another one."""

    OPEN_MOUTH = "open mouth"
    PARTED_LIPS = "parted lips"
    SHUT_LIDS = "shut lids"


MAX_MADE_UP_BYTES: Final = 32
MADE_UP: Final = "made-up"  # the key in `later`


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the owner signs: the owner's key, then a msgpack map.

     0                             32
    +-----------------------------+--------------------------------+
    | owner, Ed25519 public key   | msgpack map with the keys below |
    +-----------------------------+--------------------------------+

        schema   int 1                          model    bin 8: id of the face model
        name     str, up to 64 bytes            tracker  int: `TrackerId`
        consent  [kind, statement, unix time]   frame    [unit_px in 1/16, width, height] of the enrolment
        uses     [str, ...]                     layers   [[kind, slot, size, sha256], ...]
        created  int unix time                  expires  int unix time; absent if it never does
        later    map, absent if empty: for later versions, unknown keys skipped. Known:
                 made-up  [[slot, str], ...]: references that were not photographed, and what they show (`MadeUp`)

    The key stands in front so that the signature is checked before any msgpack is read. Every reader checks the signature over the bytes that it received, never over its own re-encoding: msgpack
    writes one value in many ways. The avatar's id is the SHA-256 of those same bytes.
    """

    SCHEMA: ClassVar[int] = 1
    owner: bytes
    name: str
    consent: Consent
    uses: tuple[str, ...]  # `PermittedUse` values; others come from later versions and grant nothing here
    created_unix_s: int
    expires_unix_s: int | None
    model_id: bytes
    tracker: TrackerId
    unit_px: Fraction
    width: int
    height: int
    layers: tuple[Layer, ...]
    made_up: tuple[tuple[int, str], ...] = ()  # by slot; texts that are no `MadeUp` come from later versions

    def __post_init__(self) -> None:
        if len(self.owner) != OWNER_BYTES:
            raise WireError(f"the owner's key is {len(self.owner)} bytes, expected {OWNER_BYTES}")
        check_text("the avatar's name", self.name, max_bytes=MAX_NAME_BYTES, empty=True)
        if len(self.uses) > MAX_USES or len(set(self.uses)) != len(self.uses):
            raise WireError(f"{len(self.uses)} permitted uses, expected at most {MAX_USES}, each once")
        for use in self.uses:
            check_text("a permitted use", use, max_bytes=32, empty=False)
        if self.consent.kind is ConsentKind.TEST_FIXTURE and self.uses != (PermittedUse.LOOPBACK,):
            raise WireError(f"a test fixture permits {list(self.uses)}, expected only 'loopback'")
        if not 0 <= self.created_unix_s <= MAX_TIME_S:
            raise WireError(f"created at {self.created_unix_s}, expected 0 to {MAX_TIME_S} seconds")
        if self.expires_unix_s is not None and not self.created_unix_s < self.expires_unix_s <= MAX_TIME_S:
            raise WireError(
                f"expires at {self.expires_unix_s}, expected after its creation at {self.created_unix_s}"
            )
        if len(self.model_id) != 8:
            raise WireError(f"model id is {len(self.model_id)} bytes, expected 8")
        if (self.unit_px * 16).denominator != 1 or not 16 <= self.unit_px * 16 < 1 << 16:
            raise WireError(f"unit_px is {self.unit_px}, expected 1 to 4095 in steps of 1/16")
        if not (1 <= self.width <= MAX_PICTURE_PX and 1 <= self.height <= MAX_PICTURE_PX):
            raise WireError(f"frame is {self.width} x {self.height}, expected 1 to {MAX_PICTURE_PX} each way")
        _check_layers(self.layers)
        _check_made_up(self.made_up)

    def permits(self, use: PermittedUse) -> bool:
        """Return whether the owner permits this use."""
        return use in self.uses

    @property
    def owner_fingerprint(self) -> str:
        """The owner's key as a person compares it: the first 16 hex digits, in groups of four."""
        return fingerprint_of(self.owner)

    def serialize(self) -> bytes:
        """Return the msgpack bytes to sign. Raises `WireError` where they would be too many."""
        fields: dict[str, Any] = {
            "schema": self.SCHEMA,
            "name": self.name,
            "consent": [str(self.consent.kind), self.consent.statement, self.consent.given_unix_s],
            "uses": [str(use) for use in self.uses],
            "created": self.created_unix_s,
            "model": self.model_id,
            "tracker": int(self.tracker),
            "frame": [int(self.unit_px * 16), self.width, self.height],
            "layers": [[int(x.kind), x.slot, x.size, x.sha256] for x in self.layers],
        }
        if self.expires_unix_s is not None:
            fields["expires"] = self.expires_unix_s
        if self.made_up:
            fields["later"] = {MADE_UP: [[slot, str(text)] for slot, text in self.made_up]}
        data: bytes = self.owner + msgpack.packb(fields)
        if len(data) > MAX_MANIFEST_BYTES:
            raise WireError(f"the manifest is {len(data)} bytes, expected at most {MAX_MANIFEST_BYTES}")
        return data

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a manifest. Raises `WireError` for anything but one well-formed manifest of this schema."""
        if not OWNER_BYTES < len(data) <= MAX_MANIFEST_BYTES:
            raise WireError(
                f"the manifest is {len(data)} bytes, expected {OWNER_BYTES + 1} to {MAX_MANIFEST_BYTES}"
            )
        fields = _unpack(data[OWNER_BYTES:])
        schema = _take(fields, "schema", int)
        if schema != cls.SCHEMA:
            raise WireError(
                f"the avatar has schema {schema}, expected {cls.SCHEMA}: update mien or enrol again"
            )
        expires = _take(fields, "expires", int) if "expires" in fields else None
        later = _take(fields, "later", dict) if "later" in fields else {}
        unit_px, width, height = _take_tuple(fields, "frame", (int, int, int))
        tracker = _take(fields, "tracker", int)
        if tracker not in TrackerId._value2member_map_:
            raise WireError(f"tracker is {tracker}, expected one of {[int(t) for t in TrackerId]}")
        manifest = cls(
            owner=data[:OWNER_BYTES],
            name=_take(fields, "name", str),
            consent=_consent(_take_tuple(fields, "consent", (str, str, int))),
            uses=tuple(_typed("a permitted use", use, str) for use in _take(fields, "uses", list)),
            created_unix_s=_take(fields, "created", int),
            expires_unix_s=expires,
            model_id=_take(fields, "model", bytes),
            tracker=TrackerId(tracker),
            unit_px=Fraction(unit_px, 16),
            width=width,
            height=height,
            layers=_layers(_take(fields, "layers", list)),
            made_up=_made_up(_take(later, MADE_UP, list) if MADE_UP in later else []),
        )
        if fields:
            raise WireError(f"the manifest has the unknown key {min(fields)!r:.40}")
        return manifest


def fingerprint_of(owner: bytes) -> str:
    """Return a key as a person compares it: its first 16 hex digits, in groups of four."""
    digits = owner.hex()[:16]
    return " ".join(digits[i : i + 4] for i in range(0, 16, 4))


def _check_layers(layers: tuple[Layer, ...]) -> None:
    if not 1 <= len(layers) <= MAX_LAYERS:
        raise WireError(f"{len(layers)} layers, expected 1 to {MAX_LAYERS}")
    if layers[0].kind != LayerKind.FIRST:
        raise WireError(f"the first layer has kind {layers[0].kind}, expected {int(LayerKind.FIRST)}")
    known = [(x.kind, x.slot) for x in layers if x.kind in MAX_LAYER_BYTES]
    if len(set(known)) != len(known):
        raise WireError("two layers have the same kind and slot, expected each once")
    if any(x.slot for x in layers if x.kind in (LayerKind.FIRST, LayerKind.RINGS)):
        raise WireError("the first layer or the rings belong to a slot other than 0")
    total = sum(x.size for x in layers)
    if total > MAX_AVATAR_BYTES:
        raise WireError(f"the layers are {total} bytes, expected at most {MAX_AVATAR_BYTES}")


def _check_made_up(made_up: tuple[tuple[int, str], ...]) -> None:
    slots = [slot for slot, _ in made_up]
    if len(set(slots)) != len(slots) or not all(0 <= slot < MAX_REFERENCES for slot in slots):
        raise WireError(f"made-up references in slots {slots}, expected each once, 0 to {MAX_REFERENCES - 1}")
    for _, text in made_up:
        check_text("what a made-up reference shows", text, max_bytes=MAX_MADE_UP_BYTES, empty=False)


def _unpack(data: bytes) -> dict[str, Any]:
    """Return the map in `data`, keys checked to be distinct strings, nothing nested deeper than msgpack allows."""
    try:
        fields = msgpack.unpackb(data, object_pairs_hook=_distinct, strict_map_key=True)
    except WireError:
        raise
    # msgpack raises its own kinds, ValueError, and TypeError or RecursionError for odd nesting
    except (
        msgpack.exceptions.UnpackException,
        ValueError,
        TypeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise WireError(f"the manifest is not msgpack: {error!s:.80}") from None
    if not isinstance(fields, dict):
        raise WireError(f"the manifest is a {type(fields).__name__}, expected a map")
    return fields


def _distinct(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise WireError("the manifest names a key twice")
    if any(not isinstance(key, str) for key in fields):
        raise WireError("the manifest has a key that is not text")
    return fields


def _typed(what: str, value: Any, kind: type) -> Any:
    if type(value) is not kind:  # exact: True is an int to isinstance
        raise WireError(f"{what} is a {type(value).__name__}, expected {kind.__name__}")
    return value


def _take(fields: dict[str, Any], key: str, kind: type) -> Any:
    if key not in fields:
        raise WireError(f"the manifest lacks {key!r}")
    return _typed(f"{key!r} of the manifest", fields.pop(key), kind)


def _tuple(what: str, values: list[Any], kinds: tuple[type, ...]) -> tuple[Any, ...]:
    if len(values) != len(kinds):
        raise WireError(f"{what} has {len(values)} entries, expected {len(kinds)}")
    return tuple(
        _typed(f"an entry of {what}", value, kind) for value, kind in zip(values, kinds, strict=True)
    )


def _take_tuple(fields: dict[str, Any], key: str, kinds: tuple[type, ...]) -> tuple[Any, ...]:
    return _tuple(f"{key!r} of the manifest", _take(fields, key, list), kinds)


def _consent(values: tuple[Any, ...]) -> Consent:
    kind, statement, given = values
    if kind not in ConsentKind._value2member_map_:
        raise WireError(f"consent is {kind!r:.40}, expected one of {[str(k) for k in ConsentKind]}")
    return Consent(ConsentKind(kind), statement, given)


def _layers(rows: list[Any]) -> tuple[Layer, ...]:
    if len(rows) > MAX_LAYERS:
        raise WireError(f"{len(rows)} layers, expected at most {MAX_LAYERS}")
    kinds = (int, int, int, bytes)
    return tuple(Layer(*_tuple("a layer", _typed("a layer", row, list), kinds)) for row in rows)


def _made_up(rows: list[Any]) -> tuple[tuple[int, str], ...]:
    if len(rows) > MAX_REFERENCES:
        raise WireError(f"{len(rows)} made-up references, expected at most {MAX_REFERENCES}")
    what = "a made-up reference"
    return tuple(
        (slot, text) for slot, text in (_tuple(what, _typed(what, r, list), (int, str)) for r in rows)
    )
