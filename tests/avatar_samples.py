"""Small avatars of the public-domain test portrait, signed with a key that everybody knows."""

import hashlib
from fractions import Fraction
from functools import cache
from importlib import resources
from typing import Any, Final

import cv2
import msgpack
import numpy as np
from numpy.typing import NDArray
from skimage import data

from mien.encoder.owner_key import OwnerKey
from mien.models.face_model import FaceModel
from mien.models.pictures import encode_matte, encode_picture
from mien.protocol.avatar import (
    HEAD,
    AvatarContent,
    Declaration,
    Reference,
    sign_avatar,
    sign_manifest,
)
from mien.protocol.consent import DEFAULT_USES, Consent, ConsentKind
from mien.protocol.manifest import OWNER_BYTES, Manifest
from mien.protocol.stream import TrackerId

TEST_KEY: Final = OwnerKey.from_seed(hashlib.sha256(b"mien test key").digest())
OTHER_KEY: Final = OwnerKey.from_seed(hashlib.sha256(b"another test key").digest())
CREATED: Final = 1_750_000_000
CROP: Final = (100, 0, 256)  # x, y and size of the portrait's head and shoulders


@cache
def portrait() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the head of scikit-image's astronaut, uint8 [256, 256, 3], and its landmarks, float32 [478, 3]."""
    x, y, size = CROP
    with resources.files("mien.encoder").joinpath("assets/astronaut_landmarks.npy").open("rb") as file:
        landmarks = np.load(file, allow_pickle=False).astype(np.float32)
    rgb = np.ascontiguousarray(data.astronaut()[y : y + size, x : x + size])
    return rgb, landmarks - np.array([x, y, 0], np.float32)


def reference(size_px: int, *, slot: int = 0, quality: int = 20) -> Reference:
    """Return the portrait as a reference of `size_px` square."""
    rgb, landmarks = portrait()
    scale = size_px / rgb.shape[0]
    small = np.asarray(cv2.resize(rgb, (size_px, size_px), interpolation=cv2.INTER_AREA), np.uint8)
    matte = np.zeros((size_px // 2, size_px // 2), np.uint8)
    cv2.circle(matte, (size_px // 4, size_px // 4), size_px // 5, 255, -1)
    return Reference(
        encode_picture(small, quality=quality), encode_matte(matte), landmarks * np.float32(scale), slot
    )


def declaration(**changes: Any) -> Declaration:
    """Return what the samples declare: a test fixture of the portrait."""
    fields: dict[str, Any] = {
        "name": "Test Portrait",
        "consent": Consent.test_fixture(CREATED),
        "uses": DEFAULT_USES[ConsentKind.TEST_FIXTURE],
        "created_unix_s": CREATED,
        "expires_unix_s": None,
        "model_id": b"\x01\x02\x03\x04\x05\x06\x07\x08",
        "tracker": TrackerId.FACE_LANDMARKER,
        "unit_px": Fraction(801, 16),
        "width": 256,
        "height": 256,
    }
    return Declaration(**(fields | changes))


def own(**changes: Any) -> Declaration:
    """Return a declaration of consent `self`, which may leave the machine."""
    fields = {"consent": Consent.of_self(CREATED), "uses": DEFAULT_USES[ConsentKind.SELF], "name": "Ada"}
    return declaration(**(fields | changes))


@cache
def content() -> AvatarContent:
    """Return a first layer, rings and two pictures."""
    return AvatarContent(
        neutral=FaceModel.load().mean,
        appearance=np.linspace(0, 1, 20, dtype=np.float32),
        first=reference(64),
        references=(reference(96), reference(64, slot=3)),
        rings=np.arange(12, dtype=np.float32).reshape(3, 4) / np.float32(8),
    )


@cache
def sample(*, kind: ConsentKind = ConsentKind.TEST_FIXTURE) -> bytes:
    """Return a whole `.avatar` file of about 10 kB."""
    return sign_avatar(content(), declaration() if kind is ConsentKind.TEST_FIXTURE else own(), TEST_KEY)


def split(avatar: bytes) -> tuple[bytes, list[bytes]]:
    """Return a good file's head and its layers."""
    size = HEAD.size + int.from_bytes(avatar[10:12], "big")
    head, rest, bodies = avatar[:size], avatar[size:], []
    for layer in Manifest.parse(head[HEAD.size :]).layers:
        bodies.append(rest[: layer.size])
        rest = rest[layer.size :]
    return head, bodies


def fields_of(avatar: bytes) -> dict[str, Any]:
    """Return the manifest's msgpack map."""
    head, _ = split(avatar)
    fields: dict[str, Any] = msgpack.unpackb(head[HEAD.size + OWNER_BYTES :])
    return fields


def resign(fields: dict[str, Any], bodies: list[bytes], key: OwnerKey = TEST_KEY) -> bytes:
    """Return a file with this manifest and these layers, signed anew: what a hostile owner could make."""
    return sign_manifest(key.public_key + msgpack.packb(fields), key) + b"".join(bodies)


def with_layers(bodies: list[bytes]) -> bytes:
    """Return the sample with other bytes in its layers, their sizes and hashes put right, signed anew."""
    fields = fields_of(sample())
    for row, body in zip(fields["layers"], bodies, strict=True):
        row[2:] = [len(body), hashlib.sha256(body).digest()]
    return resign(fields, bodies)
