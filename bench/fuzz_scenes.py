"""Fuzzed: the scene layer's messages and pictures, and the capsules that they share with a face's."""

from fractions import Fraction
from functools import cache
from typing import Final

import numpy as np
from PIL import Image

from mien.bench.fuzz_target import Broken, Target, same
from mien.decoder.scene_decoder import MAX_SIDE, SceneDecoder, ScenePicture
from mien.encoder.scene_encoder import SceneEncoder
from mien.encoder.scene_privacy import ScenePrivacy
from mien.protocol import capsule
from mien.protocol.errors import WireError
from mien.protocol.scene import SceneAssembler, SceneMessage, ScenePacker, SceneUnit

OPEN_SCENE: Final = ScenePrivacy(show_face=True)


@cache
def scene_units() -> tuple[SceneUnit, ...]:
    """Return some pictures of a scene, as SVT-AV1 codes them."""
    encoder = SceneEncoder(width=128, height=128, tick_rate=Fraction(10), kbps=5, privacy=OPEN_SCENE)
    rng = np.random.default_rng(2)
    small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    units = []
    for tick in range(4):
        picture = Image.fromarray(np.roll(small, tick, 1)).resize((128, 128))
        units.append(encoder.encode(tick, np.asarray(picture, np.uint8), None))
    encoder.close()
    return tuple(unit for unit in units if unit is not None)


def scene_messages() -> list[bytes]:
    packer = ScenePacker(0)
    return [m for unit in scene_units() for m in packer.messages(unit)]


def check_scene(data: bytes) -> None:
    same(data, SceneMessage.parse(data).serialize())
    SceneAssembler(data[0] & 15).add(data)


def check_scene_decoded(data: bytes) -> None:
    """Decode bytes as a picture that begins a scene, and as one within it."""
    if not data:
        raise WireError("no unit")
    decoder, packer = SceneDecoder(0), ScenePacker(0)
    pictures: list[ScenePicture] = []
    for unit in (SceneUnit(0, data, refresh=True), scene_units()[0], SceneUnit(1, data, refresh=True)):
        for message in packer.messages(unit):
            pictures += decoder.decode(message)
    if any(max(p.rgb.shape[:2]) > MAX_SIDE for p in pictures):
        raise Broken("a picture above the largest size was decoded")
    if decoder.failures:
        raise WireError("no picture")


def check_capsule(data: bytes) -> None:
    same(data, capsule.pack(capsule.unpack(data)))


TARGETS: Final[tuple[Target, ...]] = (
    Target("scene", "scene messages", scene_messages, check_scene),
    Target(
        "scene-decoded",
        "scene pictures, decoded",
        lambda: [scene_units()[0].data],
        check_scene_decoded,
        4,
    ),
    Target("capsule", "messages in one", lambda: [capsule.pack(scene_messages()[1:3])], check_capsule),
)
