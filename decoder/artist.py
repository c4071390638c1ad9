"""Draws the pictures of a replay."""

import numpy as np
from numpy.typing import NDArray

from mien.decoder.compositor import Compositor, Layer
from mien.decoder.framing import Framing
from mien.decoder.generator import Generator, shipped_generator
from mien.decoder.recording import Segment
from mien.decoder.renderer import Backend, Renderer
from mien.decoder.replay_schedule import Due
from mien.decoder.scene_painter import SceneReplay
from mien.models.face_model import FaceModel
from mien.protocol.avatar import Avatar


class Artist:
    """Draws states, with the badge. Makes a renderer for each framing as it comes.

    The badge says what the avatar is; `test_fixture` says otherwise (the bench measures pictures of test
    avatars with the badge that a person's own would wear). `scene`: whether a log's scene layer is drawn, too,
    `generator`: whether with the generator, where there is one, or with which.
    """

    def __init__(
        self,
        avatar: Avatar,
        *,
        width: int,
        height: int,
        backend: Backend = "auto",
        test_fixture: bool | None = None,
        scene: bool = True,
        generator: bool | Generator = True,
    ) -> None:
        self._avatar = avatar
        self._size = (width, height)
        self._wanted: Backend = backend
        is_test = avatar.is_test_fixture if test_fixture is None else test_fixture
        self._compositor = Compositor(width, height, test_fixture=is_test)
        self._framing: Framing | None = None
        self._renderer: Renderer | None = None
        self._wants_scene = scene
        self._wants_generator = generator
        self.generator: Generator | None = None  # what improved the scene
        self._scene: SceneReplay | None = None
        self._scene_of: Segment | None = None
        self.backend = self.device = "none"

    def draw(self, due: Due) -> NDArray[np.uint8]:
        """Return RGB uint8 [height, width, 3]."""
        return self.finish(self.paint(due), due)

    def finish(self, painted: NDArray[np.uint8], due: Due) -> NDArray[np.uint8]:
        """Return what `paint` gave as a viewer may see it, with the badge."""
        return self._compositor.compose({Layer.AVATAR: painted}, now_us=due.time_us)

    def paint(self, due: Due) -> NDArray[np.uint8]:
        """Return the picture before the badge, to be measured and not to be shown."""
        stream = due.segment.stream
        renderer = self._renderer_for(Framing(float(stream.unit_px), stream.width, stream.height))
        scene = self._scene_for(due.segment, renderer)
        state_at = due.segment.track.state_at
        return scene.render(state_at, due.position) if scene else renderer.render(state_at(due.position))

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = self._scene = self._scene_of = None

    def _scene_for(self, segment: Segment, renderer: Renderer) -> SceneReplay | None:
        if segment is not self._scene_of:
            self._scene_of, self._scene = segment, None
            if self._wants_scene and segment.scene:
                wanted = self._wants_generator
                self.generator = (
                    wanted if isinstance(wanted, Generator) else shipped_generator() if wanted else None
                )
                self._scene = SceneReplay(segment.scene, renderer, segment.stream, generator=self.generator)
        return self._scene

    def _renderer_for(self, framing: Framing) -> Renderer:
        if self._renderer is None or framing != self._framing:
            self.close()
            width, height = self._size
            self._renderer = Renderer(
                self._avatar,
                FaceModel.load(),
                width=width,
                height=height,
                stream=framing,
                backend=self._wanted,
            )
            self._framing = framing
            self.backend, self.device = self._renderer.backend, self._renderer.device
        return self._renderer
