"""A made-up avatar for the picture tests: model faces projected onto smooth random colour, signed by a test key."""

from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.models.face_model import FaceModel, project
from mien.models.pictures import encode_picture
from mien.protocol.avatar import Avatar, AvatarContent, Declaration, Reference, parse_avatar, sign_avatar
from mien.protocol.consent import Consent, ConsentKind
from mien.protocol.state import FaceState
from mien.protocol.stream import TrackerId
from tests.avatar_samples import TEST_KEY

SIZE = 128
UNIT_PX = Fraction(30)
NOW_S = 1_800_000_000


def smooth_picture(seed: int, size: int = SIZE) -> NDArray[np.uint8]:
    """Return random colour that bends slowly: uint8 [size, size, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC), np.uint8)


def state(
    *, yaw: float = 0.0, pitch: float = 0.0, x: float = 0.0, expression: dict[int, float] | None = None
) -> FaceState:
    """Return a state from a few numbers: radians, model units, expression coefficients by index."""
    values = np.zeros(30, np.float32)
    for index, value in (expression or {}).items():
        values[index] = value
    return FaceState(np.array([pitch, yaw, 0, 0, x, 0], np.float32), values)


REFERENCE_STATES = (state(), state(yaw=0.35), state(expression={0: 0.25}))


@cache
def made_up_avatar() -> Avatar:
    """Return an avatar with three references of the mean face."""
    model = FaceModel.load()
    references = []
    for slot, posed in enumerate(REFERENCE_STATES):
        landmarks = project(
            model.vertices(model.mean, posed.expression),
            posed.pose,
            unit_px=float(UNIT_PX),
            width=SIZE,
            height=SIZE,
        )
        references.append(Reference(encode_picture(smooth_picture(slot), quality=95), b"", landmarks, slot))
    content = AvatarContent(
        neutral=model.mean,
        appearance=np.zeros(71, np.float32),
        first=references[0],
        references=tuple(references),
    )
    declaration = Declaration(
        name="made up",
        consent=Consent(ConsentKind.TEST_FIXTURE, "made up", NOW_S),
        uses=("loopback",),
        created_unix_s=NOW_S,
        expires_unix_s=None,
        model_id=model.model_id,
        tracker=TrackerId.UNKNOWN,
        unit_px=UNIT_PX,
        width=SIZE,
        height=SIZE,
    )
    return parse_avatar(sign_avatar(content, declaration, TEST_KEY), now_unix_s=NOW_S)
