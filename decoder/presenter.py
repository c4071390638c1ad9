"""From what a receiver shows to the picture that a person sees; live and in a replay the same object.

Everything that changes the picture comes in as a call with a time, and each such call is noted in the
receiver's log, if it has one. A replay that repeats the calls makes the same pictures, to the bit on the same
machine (and with the same painter).
"""

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.decoder.compositor import Compositor, Layer
from mien.decoder.framing import Framing
from mien.decoder.playout import Shown, Status
from mien.decoder.receiver import Receiver
from mien.decoder.renderer import Backend, Renderer
from mien.models.face_model import FaceModel
from mien.protocol.avatar import Avatar
from mien.protocol.log import EventKind
from mien.protocol.log_events import AvatarEvent, LayerEvent, Painter, ShownLayer, StatusEvent, ViewEvent
from mien.protocol.stream import StreamHeader

logger = logging.getLogger(__name__)

LAYERS: Final = {
    Layer.STILL: ShownLayer.STILL,
    Layer.AVATAR: ShownLayer.AVATAR,
    Layer.VIDEO: ShownLayer.VIDEO,
}
PAINTERS: Final[dict[str, Painter]] = {"numpy": Painter.NUMPY, "gl": Painter.GL}
STATUS_TEXT: Final = {
    Status.WAITING: "waiting",
    Status.LIVE: "",
    Status.UNTRACKED: "face not seen",
    Status.CONCEALED: "",  # too short to say, or it becomes LOST
    Status.LOST: "connection lost",
}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """RGB uint8 [height, width, 3], and the state that it shows."""

    shown: Shown
    rgb: NDArray[np.uint8]


def framing_of(stream: StreamHeader) -> Framing:
    """Return the framing that a stream's states are relative to."""
    return Framing(float(stream.unit_px), stream.width, stream.height)


class Presenter:
    """Draws one peer: state, avatar, badge, fades and the line of status text. One thread at a time."""

    def __init__(
        self, receiver: Receiver, *, width: int, height: int, test_fixture: bool, backend: Backend = "auto"
    ) -> None:
        """`test_fixture` is `Avatar.is_test_fixture` of the avatars to come: it decides what the badge reads."""
        self.receiver = receiver
        self.width, self.height = width, height
        self._backend: Backend = backend
        self._compositor = Compositor(width, height, test_fixture=test_fixture)
        self._renderer: Renderer | None = None
        self._avatar: Avatar | None = None
        self._stream = receiver.header
        self._latest: NDArray[np.uint8] | None = None  # of the avatar, in its last state that was live
        self._status: str | None = None

    @property
    def layer(self) -> Layer:
        """What is shown, or being faded to."""
        return self._compositor.layer

    def make_renderer(self, avatar: Avatar) -> Renderer:
        """Prepare an avatar for `use_avatar`; slow (tenths of a second), and free to run beside the pictures."""
        return Renderer(
            avatar,
            FaceModel.load(),
            width=self.width,
            height=self.height,
            stream=framing_of(self.receiver.header),
            backend=self._backend,
        )

    def use_avatar(
        self, avatar: Avatar, layers: tuple[int, ...], *, now_us: int, renderer: Renderer | None = None
    ) -> None:
        """Draw `avatar` from the next picture on.

        `layers` are the indices, in its manifest, of the layers that are there. `renderer` is one that
        `make_renderer` made for it; the presenter closes it.
        """
        if renderer is None:
            renderer = self.make_renderer(avatar)
        self._close_renderer()
        self._avatar, self._renderer, self._stream = avatar, renderer, self.receiver.header
        event = AvatarEvent(avatar.avatar_id, tuple(sorted(layers)))
        self.receiver.note(EventKind.AVATAR, event.serialize(), now_us=now_us)
        view = ViewEvent(self.width, self.height, PAINTERS[renderer.backend])
        self.receiver.note(EventKind.VIEW, view.serialize(), now_us=now_us)

    def show_layer(self, layer: Layer, *, now_us: int) -> None:
        """Start a fade to a layer."""
        if layer is not self._compositor.layer:
            self.receiver.note(EventKind.LAYER, LayerEvent(LAYERS[layer]).serialize(), now_us=now_us)
            self._compositor.show(layer, now_us=now_us)

    def set_status(self, text: str | None, *, now_us: int) -> None:
        """Set the line of text; None leaves it to the presenter, which says what the state stands on."""
        if text != self._status:
            # Only texts of the caller's can change the picture; "no text" and "the usual text" are both noted.
            event = StatusEvent(USUAL_STATUS if text is None else text)
            self.receiver.note(EventKind.STATUS, event.serialize(), now_us=now_us)
            self._status = text

    def picture(self, render_us: int, *, video: NDArray[np.uint8] | None = None) -> Picture:
        """Make the picture for a time. `video` is the peer's latest camera picture, if there is one."""
        shown = self.receiver.show(render_us)
        pictures = self._avatar_pictures(shown)
        fading = self._compositor.mix(render_us) < 1
        if video is not None and (fading or self._compositor.layer is Layer.VIDEO):
            pictures[Layer.VIDEO] = video
        status = STATUS_TEXT[shown.status] if self._status is None else self._status
        rgb = self._compositor.compose(pictures, now_us=render_us, status=status)
        if Layer.VIDEO not in pictures:  # a log holds no camera pictures, so no replay can repeat one
            self.receiver.on_picture(rgb, now_us=render_us)
        return Picture(shown, rgb)

    def close(self) -> None:
        """Free the renderer."""
        self._close_renderer()

    def _avatar_pictures(self, shown: Shown) -> dict[Layer, NDArray[np.uint8]]:
        if self._avatar is None:
            return {}
        if self._renderer is None or self._stream != self.receiver.header:  # another framing
            self._close_renderer()
            self._renderer, self._stream = self.make_renderer(self._avatar), self.receiver.header
        rgb = self._renderer.render(shown.state)
        if shown.status is Status.LIVE or self._latest is None:
            self._latest = rgb
        return {Layer.AVATAR: rgb, Layer.STILL: self._latest}

    def _close_renderer(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


USUAL_STATUS: Final = "*"
