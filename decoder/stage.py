"""What is seen of the other side, in a call and when the call's log is replayed: one code for both.

A `Stage` draws a picture from what the playout shows. Three things change what it draws besides the face's state:
the avatar (more of its layers have come), the rung (avatar, still or video), and the view (size and backend).
Each has an event for the log, so that a replay that applies the same events at the same places draws the same.
Video itself is never in a log: a replay shows the still where the call showed video.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from mien.decoder.compositor import Compositor, Layer
from mien.decoder.framing import Framing
from mien.decoder.playout import Shown, Status
from mien.decoder.renderer import Backend, Renderer
from mien.decoder.scene_decoder import ScenePicture
from mien.decoder.scene_painter import ScenePainter
from mien.decoder.tuned_generator import generator_for
from mien.models.face_model import FaceModel
from mien.protocol.avatar import Avatar, AvatarAssembler
from mien.protocol.control import Rung
from mien.protocol.errors import WireError
from mien.protocol.log import EventKind
from mien.protocol.state import FaceState
from mien.protocol.stream import MAX_PICTURE_PX, StreamHeader
from mien.protocol.tuning import Tuning

LAYER_OF_RUNG: Final = {
    Rung.STILL: Layer.STILL,
    Rung.AUDIO: Layer.AVATAR,
    Rung.AVATAR: Layer.AVATAR,
    Rung.VIDEO: Layer.VIDEO,
}
STATUS_TEXT: Final = {
    Status.WAITING: "waiting for the face",
    Status.LIVE: "",
    Status.UNTRACKED: "",
    Status.CONCEALED: "",
    Status.LOST: "connection lost",
}
LAYER_MASK_BYTES: Final = 5  # 40 layers, as many as a manifest may name
BACKENDS: Final[tuple[Backend, ...]] = ("numpy", "gl")
REMEMBERED: Final = 32  # states that were drawn, for a scene's picture that comes late
NEAR_TICKS: Final = 2
MOST_SCENES: Final = 3  # pictures of a scene that one drawing takes in


@dataclass(frozen=True, slots=True)
class AvatarEvent:
    """The data of an AVATAR event: which layers of which avatar the picture is made of from here on.

     0            32
    +-----------+--------+
    | avatar id | layers |   layers: 5 bytes big-endian, bit i set for the manifest's layer i
    | 32 bytes  | u40    |
    +-----------+--------+
    """

    KIND: ClassVar[EventKind] = EventKind.AVATAR
    avatar_id: bytes
    layers: frozenset[int]

    @classmethod
    def of(cls, assembler: AvatarAssembler) -> Self:
        """Return the event for what an assembler holds now."""
        return cls(assembler.avatar_id, frozenset(assembler.bodies))

    def serialize(self) -> bytes:
        """Return the 37 bytes."""
        mask = sum(1 << index for index in self.layers)
        return self.avatar_id + mask.to_bytes(LAYER_MASK_BYTES, "big")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read it. Raises `WireError`."""
        if len(data) != 32 + LAYER_MASK_BYTES:
            raise WireError(f"avatar event is {len(data)} bytes, expected {32 + LAYER_MASK_BYTES}")
        mask = int.from_bytes(data[32:], "big")
        return cls(data[:32], frozenset(i for i in range(8 * LAYER_MASK_BYTES) if mask >> i & 1))

    def avatar_from(self, whole: AvatarAssembler, *, now_unix_s: int) -> Avatar | None:
        """Return the avatar as it was then, from the whole file. None for another avatar, or before its first layer."""
        if whole.avatar_id != self.avatar_id:
            return None
        part = AvatarAssembler(whole.head.data, now_unix_s=now_unix_s)
        for index in sorted(self.layers):
            if index in whole.bodies:
                part.add_layer(index, whole.bodies[index])
        return part.avatar


@dataclass(frozen=True, slots=True)
class RungEvent:
    """The data of a RUNG event: one byte, the rung (`mien.protocol.control.Rung`)."""

    KIND: ClassVar[EventKind] = EventKind.RUNG
    rung: Rung

    def serialize(self) -> bytes:
        """Return the byte."""
        return bytes([self.rung])

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read it. Raises `WireError`."""
        if len(data) != 1 or data[0] not in Rung._value2member_map_:
            raise WireError(f"rung event is {data.hex()!r:.20}, expected one byte, 0 to 3")
        return cls(Rung(data[0]))


@dataclass(frozen=True, slots=True)
class ViewEvent:
    """The data of a VIEW event: size of the picture in pixels, u16 each, and the renderer (0: NumPy, 1: OpenGL)."""

    KIND: ClassVar[EventKind] = EventKind.VIEW
    width: int
    height: int
    backend: Backend

    def serialize(self) -> bytes:
        """Return the 5 bytes."""
        return (
            self.width.to_bytes(2, "big")
            + self.height.to_bytes(2, "big")
            + bytes([BACKENDS.index(self.backend)])
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read it. Raises `WireError`."""
        if len(data) != 5 or data[4] >= len(BACKENDS):
            raise WireError(f"view event is {data.hex()!r:.20}, expected 5 bytes")
        width, height = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        if not (1 <= width <= MAX_PICTURE_PX and 1 <= height <= MAX_PICTURE_PX):
            raise WireError(f"view event says {width} x {height}, expected 1 to {MAX_PICTURE_PX} each way")
        return cls(width, height, BACKENDS[data[4]])


StageEvent = AvatarEvent | RungEvent | ViewEvent


class Stage:
    """Draws what is to be seen, always with its badge. Use it from one thread; it may own an OpenGL context."""

    def __init__(self, *, width: int, height: int, backend: Backend = "auto") -> None:
        self.width, self.height = width, height
        self._wanted = backend
        self._renderer: Renderer | None = None
        self._compositor = Compositor(width, height, test_fixture=False, layer=Layer.STILL)
        self._still: NDArray[np.uint8] | None = None
        self._rung = Rung.STILL
        self._stream: StreamHeader | None = None
        self._avatar: Avatar | None = None
        self._tuning: Tuning | None = None
        self._scene: ScenePainter | None = None
        self._drawn: deque[tuple[Fraction, FaceState]] = deque(maxlen=REMEMBERED)

    @property
    def backend(self) -> Backend:
        """What draws: "gl" or "numpy"; before the first avatar, what was asked for."""
        return self._renderer.backend if self._renderer else self._wanted

    @property
    def has_avatar(self) -> bool:
        """Whether there is anything to draw."""
        return self._renderer is not None

    def set_avatar(self, avatar: Avatar, stream: StreamHeader, tuning: Tuning | None = None) -> None:
        """Draw this avatar from now on, scenes with its owner's tuning; the still of another one is forgotten."""
        framing = Framing(float(stream.unit_px), stream.width, stream.height)
        renderer = Renderer(
            avatar,
            FaceModel.load(),
            width=self.width,
            height=self.height,
            stream=framing,
            backend=self._wanted,
        )
        self.close()
        self._renderer, self._stream = renderer, stream
        self._avatar, self._tuning = avatar, tuning
        self._still = None
        self._compositor = Compositor(
            self.width, self.height, test_fixture=avatar.is_test_fixture, layer=self._compositor.layer
        )

    def clear(self) -> None:
        """Show no avatar any more."""
        self.close()
        self._still = None

    def set_rung(self, rung: Rung, *, now_us: int) -> None:
        """Fade to this rung."""
        self._rung = rung
        self._compositor.show(LAYER_OF_RUNG[rung], now_us=now_us)

    def add_scene(self, picture: ScenePicture) -> None:
        """Take a picture of the stream's scene layer, for when its time comes."""
        if self._scene is None and self._renderer and self._stream and self._avatar:
            generator = generator_for(self._avatar, [self._tuning] if self._tuning else [])
            self._scene = ScenePainter(
                self._renderer, self._stream, most_at_once=MOST_SCENES, generator=generator
            )
            self._drawn.clear()
        if self._scene is not None:
            self._scene.add(picture)

    def draw(
        self,
        shown: Shown,
        *,
        now_us: int,
        video: NDArray[np.uint8] | None = None,
        known: Callable[[int], FaceState | None] = lambda tick: None,
    ) -> NDArray[np.uint8]:
        """Return RGB uint8 [height, width, 3].

        `video`: the newest frame of the other side's camera, any size. `known`: the face at a tick that is still to
        be shown, for scenes (`Receiver.known`).
        """
        pictures: dict[Layer, NDArray[np.uint8]] = {}
        if self._renderer is not None:
            plain, pictures[Layer.AVATAR] = self._faces(self._renderer, shown, known)
            # The last good picture: one of a face that was seen, on the rung that shows it. No camera is in it.
            if self._still is None or (shown.status is Status.LIVE and self._rung is Rung.AVATAR):
                self._still = plain  # nobody writes to what a renderer gave
            pictures[Layer.STILL] = self._still
        if video is not None:
            pictures[Layer.VIDEO] = video
        status = STATUS_TEXT[shown.status] if self._renderer is not None else "no picture"
        return self._compositor.compose(pictures, now_us=now_us, status=status)

    def close(self) -> None:
        """Free the renderer."""
        self._scene = None
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _faces(
        self, renderer: Renderer, shown: Shown, known: Callable[[int], FaceState | None]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the avatar's picture without and with its scene."""
        if self._scene is None or shown.tick is None or self._rung is not Rung.AVATAR:
            plain = renderer.render(shown.state)
            return plain, plain
        self._drawn.append((shown.tick, shown.state))

        def state_at(position: Fraction) -> FaceState | None:
            state = known(int(position))
            if state is not None and state.tracked:
                return state
            near = min(self._drawn, key=lambda drawn: abs(drawn[0] - position))
            return near[1] if abs(near[0] - position) <= NEAR_TICKS else None

        rgb = self._scene.render(state_at, shown.tick, shown.state)
        assert self._scene.plain is not None
        return self._scene.plain, rgb
