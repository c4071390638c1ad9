"""From a source's frames to scene messages: the one path for files and calls."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.encoder.scene_encoder import SceneEncoder
from mien.encoder.scene_privacy import WITHOUT_FACE, ScenePrivacy
from mien.encoder.tracker import Tracking
from mien.protocol.consent import ConsentKind
from mien.protocol.errors import MienError, WireError
from mien.protocol.manifest import Manifest
from mien.protocol.message import MAX_MESSAGE_BYTES
from mien.protocol.scene import ScenePacker
from mien.protocol.stream import StreamHeader


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """That a scene layer is wanted, of so many kbps of payload, and what of the picture it may show."""

    kbps: float
    privacy: ScenePrivacy = WITHOUT_FACE


def check_own_likeness(manifest: Manifest) -> None:
    """Raise `MienError` unless the avatar is one of its owner: a scene shows the person who sends it."""
    if manifest.consent.kind is not ConsentKind.SELF:
        raise MienError(
            f"a scene layer shows who is before the camera; this avatar ({manifest.consent.kind}) is nobody's own "
            "likeness: use one made by `mien enroll --consent self`"
        )


class SceneSender:
    """Gives a stream's scene messages. Frames are shrunk at once, so that whoever keeps them keeps little."""

    def __init__(self, header: StreamHeader, settings: SceneSettings, *, width: int, height: int) -> None:
        """`width` and `height` are the source's. Raises `MienError` where no scene can be made."""
        self._encoder = SceneEncoder(
            width=width,
            height=height,
            tick_rate=header.tick_rate,
            kbps=settings.kbps,
            privacy=settings.privacy,
        )
        self._packer = ScenePacker(header.stream)
        self.max_message_bytes = MAX_MESSAGE_BYTES
        self.stopped = False
        self.too_large = 0  # units that no carrier takes: the next one begins anew

    @property
    def withheld(self) -> int:
        """How many pictures were due and could not be made private."""
        return self._encoder.withheld

    def refresh(self) -> None:
        """Let the next picture decode alone."""
        self._encoder.refresh()

    def stop(self) -> None:
        """Make no more messages: it is not the avatar's owner who is seen, or nobody may see."""
        self.stopped = True

    def on_frame(self, tick: int | None, rgb: NDArray[np.uint8], tracking: Tracking) -> list[bytes]:
        """Take a frame, RGB uint8 [h, w, 3], its faces in its pixels, and the tick that carries it, if one does."""
        if self.stopped or tick is None:
            return []
        landmarks = tracking.faces[0] if len(tracking.faces) == 1 else None
        unit = self._encoder.encode(tick, rgb, landmarks)
        if unit is None:
            return []
        try:
            return self._packer.messages(unit, max_bytes=self.max_message_bytes)
        except WireError:
            self.too_large += 1
            self._encoder.refresh()
            return []

    def close(self) -> None:
        """Free the codec."""
        self.stopped = True
        self._encoder.close()


def shrunk(
    rgb: NDArray[np.uint8], tracking: Tracking, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], Tracking]:
    """Return a frame at (width, height), and its faces in the pixels of that."""
    small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    scale = np.array([size[0] / rgb.shape[1], size[1] / rgb.shape[0], 1.0], np.float32)
    return small, Tracking(tuple(np.asarray(face * scale, np.float32) for face in tracking.faces))
