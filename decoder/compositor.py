"""The last step before the eye: fades between avatar, video and still, status text, and the badge over all.

Sans I/O: pictures and the time go in, one picture comes out.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.decoder.badge import Badge, draw_badge, draw_status

FADE_US: Final = 300_000
BACKDROP: Final = 24  # grey level where there is no picture at all


class Layer(Enum):
    """Where a picture comes from."""

    AVATAR = "avatar"
    VIDEO = "video"
    STILL = "still"


class Compositor:
    """Composes pictures of one size. Says by a badge what they are; no option takes the badge away.

    `test_fixture` is `Avatar.is_test_fixture`: the badge then reads TEST PICTURE. A still is taken to be the
    avatar's. While any part of an avatar shows, the badge says so; over pure video it reads VIDEO.
    """

    def __init__(self, width: int, height: int, *, test_fixture: bool, layer: Layer = Layer.AVATAR) -> None:
        self.width, self.height, self.test_fixture = width, height, test_fixture
        self._layer = layer
        self._from = layer
        self._since_us: int | None = None

    @property
    def layer(self) -> Layer:
        """What is shown, or being faded to."""
        return self._layer

    def show(self, layer: Layer, *, now_us: int) -> None:
        """Start a fade to `layer`; a fade under way continues from whichever layer dominates."""
        if layer is self._layer:
            return
        dominant = self._layer if self.mix(now_us) >= 0.5 else self._from
        self._from, self._layer, self._since_us = dominant, layer, now_us

    def mix(self, now_us: int) -> float:
        """Return the share of the present layer, 0 to 1; the rest is the one before it."""
        if self._since_us is None:
            return 1.0
        t = min(max((now_us - self._since_us) / FADE_US, 0.0), 1.0)
        return t * t * (3 - 2 * t)

    def compose(
        self, pictures: Mapping[Layer, NDArray[np.uint8]], *, now_us: int, status: str = ""
    ) -> NDArray[np.uint8]:
        """Return RGB uint8 [height, width, 3], a new array.

        `pictures` are RGB uint8 of any size (scaled to cover); a layer that is missing while it should show
        is replaced by the still, the avatar, or plain grey, never by video.
        """
        mix = self.mix(now_us)
        parts = [(self._layer, mix)]
        if mix < 1:
            parts.append((self._from, 1 - mix))
        chosen = [(self._available(layer, pictures), share) for layer, share in parts]
        out = self._blend([(pictures.get(layer) if layer else None, share) for layer, share in chosen])
        if status:
            draw_status(out, status)
        draw_badge(out, self._badge({layer for layer, _ in chosen}))
        return out

    def _available(self, layer: Layer, pictures: Mapping[Layer, NDArray[np.uint8]]) -> Layer | None:
        for candidate in (layer, Layer.STILL, Layer.AVATAR):
            if candidate in pictures:
                return candidate
        return None

    def _badge(self, layers: set[Layer | None]) -> Badge:
        if self.test_fixture:
            return Badge.TEST_PICTURE
        return Badge.VIDEO if layers == {Layer.VIDEO} else Badge.AVATAR

    def _blend(self, parts: list[tuple[NDArray[np.uint8] | None, float]]) -> NDArray[np.uint8]:
        if len(parts) == 1 or parts[0][0] is parts[1][0]:
            return self._fitted(parts[0][0]).copy()
        mixed = sum(share * self._fitted(picture).astype(np.float32) for picture, share in parts)
        return np.asarray(np.round(mixed), np.uint8)

    def _fitted(self, picture: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        if picture is None:
            return np.full((self.height, self.width, 3), BACKDROP, np.uint8)
        return cover(picture, self.width, self.height)


def cover(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Scale RGB [h, w, 3] to cover width x height and cut what juts out."""
    h, w, _ = picture.shape
    if (w, h) == (width, height):
        return picture
    scale = max(width / w, height / h)
    crop_w, crop_h = width / scale, height / scale
    box = ((w - crop_w) / 2, (h - crop_h) / 2, (w + crop_w) / 2, (h + crop_h) / 2)
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image, np.uint8)
