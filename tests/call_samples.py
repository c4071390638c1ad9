"""What calls in tests are made of: a small portrait, a source of it, a tracker that needs no model."""

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.encoder.capture import Frame
from mien.encoder.tracker import Tracking
from mien.models.face_model import FaceModel
from mien.models.fit import estimate_neutral, reference_scale
from mien.protocol.avatar import AvatarContent, sign_avatar
from mien.protocol.consent import DEFAULT_USES, Consent, ConsentKind
from mien.protocol.stream import TrackerId
from tests.avatar_samples import CREATED, TEST_KEY, declaration, portrait, reference

SIZE: Final = 128


class PortraitSource:
    """The portrait swaying by a few pixels, `seconds` long, as a file would be."""

    live = False
    name = "portrait"
    width = height = SIZE
    rate = Fraction(30)

    def __init__(self, seconds: float, *, faces: int = 1) -> None:
        self._count = round(seconds * 30)
        self._faces = faces
        self.closed = False

    def __iter__(self) -> Iterator[Frame]:
        rgb = np.ascontiguousarray(portrait()[0][::2, ::2])
        for index in range(self._count):
            picture = np.roll(rgb, sway(index * 33_333), axis=1)
            picture[0, 0] = self._faces  # what the tracker below is told
            yield Frame(picture, round(index * 1e6 / 30), index)

    def close(self) -> None:
        self.closed = True


def sway(timestamp_us: int) -> int:
    return round(4 * math.sin(timestamp_us / 4e5))


class PortraitTracker:
    """Finds the portrait where the picture is not black: in as many copies as the first pixel says."""

    tracker_id = TrackerId.UNKNOWN

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        if rgb.mean() < 20:
            return Tracking(())
        face = portrait()[1] / 2 + np.array([sway(timestamp_us), 0, 0], np.float32)
        return Tracking((face.astype(np.float32),) * int(rgb[0, 0, 0]))

    def close(self) -> None:
        pass


@cache
def avatar_file(
    *, kind: ConsentKind = ConsentKind.SELF, expires_unix_s: int | None = None, drawable: bool = True
) -> bytes:
    """Return a signed avatar of the portrait, about 5 kB. Not drawable: its rings have a shape that none has."""
    landmarks = portrait()[1][None]
    model = FaceModel.load()
    neutral = estimate_neutral(landmarks, model)
    consent = Consent.of_self(CREATED) if kind is ConsentKind.SELF else Consent.test_fixture(CREATED)
    return sign_avatar(
        AvatarContent(
            neutral=neutral,
            appearance=np.zeros(4, np.float32),
            first=reference(64),
            references=(reference(128, slot=1),),
            rings=None if drawable else np.ones((2, 3), np.float32),
        ),
        declaration(
            name="Ada",
            consent=consent,
            uses=DEFAULT_USES[kind],
            model_id=model.model_id,
            unit_px=reference_scale(landmarks, neutral, model),
            expires_unix_s=expires_unix_s,
        ),
        TEST_KEY,
    )
