"""Streams and avatars to be damaged: whole, small and made up, signed with a key that everybody knows."""

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mien.decoder.framing import Framing
from mien.decoder.renderer import Renderer
from mien.encoder.owner_key import OwnerKey
from mien.models.face_model import FaceModel, project
from mien.models.pictures import encode_matte, encode_picture
from mien.models.rings import default_rings
from mien.protocol.avatar import Avatar, AvatarContent, Declaration, Reference, assemble, sign_avatar
from mien.protocol.codec import MessageEncoder
from mien.protocol.consent import DEFAULT_USES, Consent, ConsentKind
from mien.protocol.quantizer import Quality
from mien.protocol.repeats import Repeats
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader, TrackerId
from mien.protocol.tables import Tables

NOW_S: Final = 1_800_000_000
SIZE: Final = 64
KNOWN_KEY: Final = OwnerKey.from_seed(hashlib.sha256(b"mien fuzz").digest())  # everybody has it


@cache
def stream_header() -> StreamHeader:
    return StreamHeader(
        stream=1,
        tracker=TrackerId.FACE_LANDMARKER,
        model_id=FaceModel.load().model_id,
        tables_id=Tables.load().tables_id,
        avatar_id=assemble(avatar_file(), now_unix_s=NOW_S).avatar_id[:8],
        tick_rate=Fraction(30000, 1001),
        unit_px=Fraction(SIZE, 4),
        width=SIZE,
        height=SIZE,
        rest_pose=(10, -20, 30, 0, 5, -5),
    )


@cache
def messages() -> tuple[bytes, ...]:
    """Messages of each quality: a wandering face, a wild one, one that is lost on the way."""
    out = []
    for quality in Quality:
        for sigma in (0.003, 0.2):
            rng = np.random.default_rng(int(quality))
            encoder = MessageEncoder(stream_header(), quality=quality, frames_per_message=6)
            for tick in range(65533, 65539):
                values = rng.normal(0, sigma, 36).astype(np.float32)
                message = encoder.push(tick, FaceState.from_coefficients(values, tracked=tick % 5 > 0))
                out += [] if message is None else [message]
    return (*out, *overlapping_messages(), *still_messages())


def overlapping_messages() -> Iterator[bytes]:
    """Messages that repeat frames of earlier ones."""
    for sigma in (0.003, 0.2):
        rng = np.random.default_rng(5)
        encoder = MessageEncoder(stream_header(), frames_per_message=6)
        encoder.repeats = Repeats(3)
        for tick in range(18):
            message = encoder.push(
                tick, FaceState.from_coefficients(rng.normal(0, sigma, 36).astype(np.float32))
            )
            if message is not None and tick > 6:
                yield message


def still_messages() -> Iterator[bytes]:
    """What is sent of a face that does not move."""
    encoder = MessageEncoder(stream_header(), frames_per_message=2)
    for tick in range(6):
        message = encoder.push(tick, FaceState.from_coefficients(np.full(36, 0.02, np.float32)))
        if message is not None and tick > 2:
            yield message


@cache
def avatar_file() -> bytes:
    """A small avatar: three made-up pictures of the mean face, a matte, rings."""
    model = FaceModel.load()
    pose = np.zeros(6, np.float32)
    landmarks = project(model.mean, pose, unit_px=SIZE / 4, width=SIZE, height=SIZE)
    references = [
        Reference(encode_picture(made_up_face(landmarks, seed), quality=40), matte(), landmarks, slot)
        for slot, seed in enumerate((1, 2))
    ]
    content = AvatarContent(
        neutral=model.mean,
        appearance=np.linspace(-1, 1, 71).astype(np.float32),
        first=references[0],
        references=tuple(references),
        rings=default_rings(landmarks, pose, unit_px=SIZE / 4, width=SIZE, height=SIZE),
    )
    return sign_avatar(content, own_declaration(), KNOWN_KEY)


def own_declaration() -> Declaration:
    return Declaration(
        name="fuzz",
        consent=Consent.of_self(NOW_S),
        uses=DEFAULT_USES[ConsentKind.SELF],
        created_unix_s=NOW_S,
        expires_unix_s=NOW_S + 1000,
        model_id=FaceModel.load().model_id,
        tracker=TrackerId.FACE_LANDMARKER,
        unit_px=Fraction(SIZE, 4),
        width=SIZE,
        height=SIZE,
    )


def made_up_face(landmarks: NDArray[np.float32], seed: int) -> NDArray[np.uint8]:
    """Return colour noise with an oval in the middle, uint8 [64, 64, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    (x0, y0), (x1, y1) = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    ImageDraw.Draw(image).ellipse((float(x0), float(y0), float(x1), float(y1)), fill=(200, 160, 140))
    return np.asarray(image, np.uint8)


@cache
def matte() -> bytes:
    return encode_matte(np.full((SIZE, SIZE), 255, np.uint8))


def make_renderer(avatar: Avatar) -> Renderer:
    header = stream_header()
    framing = Framing(float(header.unit_px), header.width, header.height)
    return Renderer(avatar, FaceModel.load(), width=SIZE, height=SIZE, stream=framing, backend="numpy")
