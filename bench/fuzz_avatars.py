"""Fuzzed: avatars as they come, and those of an owner who is hostile and signs whatever they like."""

import hashlib
import zlib
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bench.fuzz_samples import KNOWN_KEY, NOW_S, SIZE, avatar_file, make_renderer, own_declaration
from mien.bench.fuzz_target import Broken, Target
from mien.models.pictures import decode_matte, decode_picture, encode_picture
from mien.protocol.avatar import (
    AvatarAssembler,
    AvatarContent,
    Reference,
    assemble,
    parse_avatar,
    sign_avatar,
    sign_manifest,
)
from mien.protocol.errors import WireError
from mien.protocol.manifest import OWNER_BYTES, Manifest
from mien.protocol.state import FaceState
from mien.protocol.transfer import HEAD_PART, ID_BYTES, AvatarReceiver, AvatarSender, Chunk

MEAN_FACE: Final = b"mean face"
DRAW_EVERY: Final = 16  # drawing an avatar takes a hundred times as long as reading it


def check_avatar(data: bytes) -> None:
    """Nothing but the bytes that were signed may give an avatar."""
    parse_avatar(data, now_unix_s=NOW_S)
    if data != avatar_file():
        raise Broken("an avatar that nobody signed was accepted")


def check_avatar_chunks(data: bytes) -> None:
    """The same over the wire: whatever comes in chunks, only signed pictures are ever there to be drawn."""
    whole = assemble(avatar_file(), now_unix_s=NOW_S)
    receiver = AvatarReceiver(loopback=True)
    receiver.on_offer(AvatarSender(whole).offer(), None)
    at = 0
    for part, size in [
        (HEAD_PART, len(whole.head.data)),
        *enumerate(layer.size for layer in whole.manifest.layers),
    ]:
        body = data[at : at + size]
        at += size
        for offset in range(0, len(body), 700):
            chunk = Chunk(whole.avatar_id[:ID_BYTES], part, offset, body[offset : offset + 700])
            receiver.receive(chunk, now_unix_s=NOW_S)
    avatar = receiver.assembler.avatar if receiver.assembler else None
    if avatar is None:
        raise WireError(receiver.refused or "not complete")
    signed = {r.picture for r in (whole.avatar.references if whole.avatar else ())}
    signed.add(avatar_layers()[0])
    if any(r.picture not in signed and r.picture not in avatar_file() for r in avatar.references):
        raise Broken("a picture that nobody signed is there to be drawn")


@cache
def avatar_layers() -> tuple[bytes, ...]:
    bodies = assemble(avatar_file(), now_unix_s=NOW_S).bodies
    return tuple(bodies[i] for i in sorted(bodies))


def manifest_samples() -> list[bytes]:
    return [assemble(avatar_file(), now_unix_s=NOW_S).head.data[-len_of_manifest() :]]


@cache
def len_of_manifest() -> int:
    return len(assemble(avatar_file(), now_unix_s=NOW_S).manifest.serialize())


def check_manifest_resigned(data: bytes) -> None:
    """An owner who is hostile signs whatever they like."""
    head = sign_manifest(KNOWN_KEY.public_key + data[OWNER_BYTES:], KNOWN_KEY)
    parsed = AvatarAssembler(head, now_unix_s=NOW_S).manifest
    again = Manifest.parse(parsed.serialize())
    if again != parsed:
        raise Broken("a manifest that was accepted reads differently when written again")
    check_drawn(head + b"".join(avatar_layers()), data)


def layer_samples() -> list[bytes]:
    """Each layer, with its index before it."""
    return [bytes([i]) + body for i, body in enumerate(avatar_layers())]


def check_layer_resigned(data: bytes) -> None:
    """A hostile owner's layers, each with the hash and signature that fit."""
    if not data:
        raise WireError("no layer")
    index, body = data[0] % len(avatar_layers()), data[1:]
    layers = [*avatar_layers()]
    layers[index] = body
    manifest = assemble(avatar_file(), now_unix_s=NOW_S).manifest
    table = [
        replace(layer, size=len(b), sha256=hashlib.sha256(b).digest())
        for layer, b in zip(manifest.layers, layers, strict=True)
    ]
    head = sign_manifest(replace(manifest, layers=tuple(table)).serialize(), KNOWN_KEY)
    check_drawn(head + b"".join(layers), data)


def check_drawn(file: bytes, data: bytes) -> None:
    """Read the avatar, decode its pictures and, now and then, draw it."""
    avatar = parse_avatar(file, now_unix_s=NOW_S)
    if not np.isfinite(avatar.neutral).all() or not np.isfinite(avatar.appearance).all():
        raise Broken("an avatar with numbers that are not finite was accepted")
    for reference in avatar.references:
        decode_picture(reference.picture)
        if reference.matte:
            decode_matte(reference.matte)
    if zlib.crc32(data) % DRAW_EVERY == 0:
        renderer = make_renderer(avatar)
        renderer.render(FaceState.neutral())
        renderer.close()


def check_values_drawn(data: bytes) -> None:
    """A hostile owner's numbers: faces that are none, drawn or refused."""
    rng = np.random.default_rng([*data, 0])
    whole = parse_avatar(avatar_file(), now_unix_s=NOW_S)
    if data == MEAN_FACE:
        return
    width, height = (
        (int(rng.choice([1, 2, 63, 64, 500, 8192])) for _ in range(2)) if rng.random() < 0.3 else (SIZE, SIZE)
    )
    landmarks = hostile_points(rng, whole.references[0].landmarks, SIZE)
    picture = encode_picture(hostile_picture(rng, width, height), quality=20, effort=0)
    first = Reference(picture, b"", landmarks, 0)
    rings = whole.rings if whole.rings is not None and rng.random() < 0.5 else None
    if rings is not None and rng.random() < 0.5:
        rings = hostile_points(rng, rings, 1)
    content = AvatarContent(
        neutral=hostile_points(rng, whole.neutral, 1),
        appearance=hostile_points(rng, whole.appearance, 1),
        first=first,
        references=(replace(first, slot=1, landmarks=hostile_points(rng, landmarks, SIZE)),),
        rings=rings,
    )
    declaration = replace(
        own_declaration(),
        unit_px=Fraction(int(rng.choice([16, 17, 256, 65535])), 16),
        width=width,
        height=height,
    )
    avatar = parse_avatar(sign_avatar(content, declaration, KNOWN_KEY), now_unix_s=NOW_S)
    with np.errstate(all="ignore"):
        renderer = make_renderer(avatar)
    wild = rng.normal(0, 1, 36).astype(np.float32)
    for state in (FaceState.neutral(), FaceState.from_coefficients(wild)):
        if renderer.render(state).shape != (SIZE, SIZE, 3):
            raise Broken("drawn in another shape")
    renderer.close()


def hostile_points(
    rng: np.random.Generator, values: NDArray[np.float32], scale: float
) -> NDArray[np.float32]:
    """Return `values`, or as many of them collapsed, blown up, scattered, mirrored, or with single ones far off."""
    out: NDArray[np.floating]
    match rng.integers(12):
        case 0:
            out = np.zeros_like(values)
        case 1:
            out = np.full_like(values, rng.choice([-4, 4, 1e-3]) * scale)
        case 2:
            out = values * np.float32(rng.choice([1e-3, 0.1, 3.0, -1.0]))
        case 3:
            out = rng.normal(0, scale, values.shape)
        case 4:
            out = values.copy()
            out[rng.integers(len(out))] = rng.choice([-3, 3, 0]) * scale
        case 5:
            out = np.where(np.arange(values.shape[-1]) == 0, values, 0)  # a line
        case _:
            out = values
    return np.asarray(out, np.float32)


def hostile_picture(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """Return noise of the frame's shape, at most 64 px."""
    scale = SIZE / max(width, height)
    shape = (max(1, round(height * scale)), max(1, round(width * scale)), 3)
    return rng.integers(0, 256, shape, dtype=np.uint8)


TARGETS: Final[tuple[Target, ...]] = (
    Target("avatar", "avatars as they come", lambda: [avatar_file()], check_avatar),
    Target("avatar-chunks", "avatars as chunks", lambda: [avatar_file()], check_avatar_chunks, 4),
    Target("avatar-manifest", "manifests, signed again", manifest_samples, check_manifest_resigned, 4),
    Target("avatar-layer", "layers, hashed and signed again", layer_samples, check_layer_resigned, 4),
    Target(
        "avatar-values",
        "signed faces that are none, drawn",
        lambda: [MEAN_FACE],
        check_values_drawn,
        20,
    ),
)
