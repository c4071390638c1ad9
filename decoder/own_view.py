"""What the other side sees of one's own avatar, small: for the sender to compare with the camera."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.decoder.framing import Framing
from mien.decoder.renderer import Backend, Renderer
from mien.models.face_model import FaceModel
from mien.protocol.avatar import Avatar
from mien.protocol.state import LANDMARK_COUNT, FaceState
from mien.protocol.stream import StreamHeader


@dataclass(frozen=True, slots=True, eq=False)
class OwnPicture:
    """RGB uint8 [h, w, 3], not to be written to, and where its landmarks are, float32 [478, 2] pixels of it."""

    rgb: NDArray[np.uint8]
    landmarks: NDArray[np.float32]


class OwnAvatarView:
    """Draws an avatar in states of a stream. To be used on the thread that made it."""

    def __init__(
        self, avatar: Avatar, header: StreamHeader, size: tuple[int, int], *, backend: Backend = "auto"
    ) -> None:
        """`size`: width and height of the pictures, in the shape of the stream's."""
        self.size = size
        self._renderer = Renderer(
            avatar,
            FaceModel.load(),
            width=size[0],
            height=size[1],
            stream=Framing(float(header.unit_px), header.width, header.height),
            backend=backend,
        )

    def draw(self, state: FaceState) -> OwnPicture:
        """Return the picture of a state."""
        drawing = self._renderer.pose(state)
        return OwnPicture(self._renderer.paint(drawing), drawing.positions[:LANDMARK_COUNT, :2])

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()


def open_own_view(avatar: Avatar, header: StreamHeader, size: tuple[int, int]) -> OwnAvatarView:
    """Return a view. Raises `MienError` as the renderer does."""
    return OwnAvatarView(avatar, header, size)
