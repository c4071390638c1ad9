"""An avatar and a face's state in, a picture out."""

import logging
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.decoder.framing import Framing
from mien.decoder.numpy_renderer import NumpyRenderer
from mien.decoder.reference_picture import ReferencePicture
from mien.decoder.scene import DEFAULT_CAVITY, MAX_REFERENCES, Drawing, Scene
from mien.decoder.scene_layer import Corrector
from mien.models.appearance_code import AppearanceCode, Region, to_srgb
from mien.models.face_model import FaceModel
from mien.models.fit import Fitter
from mien.models.pictures import decode_matte, decode_picture
from mien.models.rings import check_rings
from mien.protocol.avatar import Avatar
from mien.protocol.errors import MienError, WireError
from mien.protocol.state import FaceState

logger = logging.getLogger(__name__)

# Deep in the mouth there is less light than on what its mean colour is mostly from: teeth and tongue.
CAVITY_LIGHT: Final = 0.35

Backend = Literal["auto", "gl", "numpy"]
BACKENDS: Final = ("auto", "gl", "numpy")


class Painter(Protocol):
    """Draws a posed scene."""

    device: str

    @property
    def corrector(self) -> Corrector | None:
        """What does as `mien.decoder.scene_layer.corrected`, where the painter does it faster."""

    def draw(self, drawing: Drawing) -> NDArray[np.uint8]:
        """Return RGB uint8 [height, width, 3]."""

    def close(self) -> None:
        """Free what it holds."""


class Renderer:
    """Draws an avatar in any state, everything but the badge (`mien.decoder.compositor`). One thread at a time.

    The picture is a pure function of avatar, size and state. A state that is not tracked repeats the last one
    the sender saw, so it simply holds.
    """

    def __init__(
        self,
        avatar: Avatar,
        model: FaceModel,
        *,
        width: int,
        height: int,
        stream: Framing | None = None,
        backend: Backend = "auto",
    ) -> None:
        """Prepare the references. `width` x `height` is the picture to draw.

        `stream` is the framing that the states are relative to (`StreamHeader`'s unit_px, width, height);
        without it, the avatar's own. Raises `MienError` where `backend="gl"` finds no EGL.
        """
        framing = Framing(float(avatar.unit_px), avatar.width, avatar.height)
        rings = avatar.rings
        if rings is not None:
            check_rings(rings)
        self.width, self.height = width, height
        self._model, self._neutral = model, avatar.neutral
        self._scene = Scene(
            read_references(avatar, model, framing),
            framing=framing,
            rings=rings,
            stream=stream or framing,
            width=width,
            height=height,
            cavity_rgb=cavity_of(avatar),
        )
        self.backend, self._painter = open_painter(self._scene, backend)

    @property
    def device(self) -> str:
        """What draws: the OpenGL device's name, or NumPy."""
        return self._painter.device

    @property
    def corrector(self) -> Corrector | None:
        """What corrects pictures of this renderer by a scene faster than `mien.decoder.scene_layer.corrected`."""
        return self._painter.corrector

    def render(self, state: FaceState) -> NDArray[np.uint8]:
        """Return the picture of a state: RGB uint8 [height, width, 3], not to be written to."""
        return self.paint(self.pose(state))

    def pose(self, state: FaceState) -> Drawing:
        """Return the mesh of a state."""
        return self._scene.draw(self._model.vertices(self._neutral, state.expression), state.pose)

    def paint(self, drawing: Drawing) -> NDArray[np.uint8]:
        """Return the picture of a mesh: RGB uint8 [height, width, 3], not to be written to."""
        return self._painter.draw(drawing)

    def close(self) -> None:
        """Free the GL context."""
        self._painter.close()


def read_references(avatar: Avatar, model: FaceModel, framing: Framing) -> list[ReferencePicture]:
    """Decode an avatar's references and fit each one's state."""
    fitter = Fitter(
        model, avatar.neutral, unit_px=framing.unit_px, width=framing.width, height=framing.height
    )
    out = []
    for reference in avatar.references[:MAX_REFERENCES]:
        rgb = decode_picture(reference.picture)
        matte = decode_matte(reference.matte) if reference.matte else None
        landmarks = reference.landmarks * (framing.width / rgb.shape[1])
        try:
            state = fitter.fit(landmarks.astype(np.float32))
        except ValueError as error:  # a hostile owner can sign any numbers
            raise WireError(f"reference {reference.slot} of the avatar shows no face: {error}") from error
        if not np.isfinite(state.coefficients()).all():
            raise WireError(f"reference {reference.slot} of the avatar shows no face that can be drawn")
        shape = model.vertices(avatar.neutral, state.expression)
        made_up = reference.slot in dict(avatar.manifest.made_up)
        out.append(ReferencePicture(rgb, landmarks, state.pose, shape, reference.slot, matte, made_up))
    return out


def cavity_of(avatar: Avatar) -> tuple[int, int, int]:
    """Return the colour deep in the avatar's open mouth, sRGB: its mouth's mean, made darker."""
    try:
        code = AppearanceCode.from_vector(avatar.appearance)
    except WireError:
        return DEFAULT_CAVITY  # an avatar need not say
    if not code.mean[Region.MOUTH].any():
        return DEFAULT_CAVITY
    red, green, blue = (round(255 * float(v)) for v in to_srgb(CAVITY_LIGHT * code.mean[Region.MOUTH]))
    return red, green, blue


def open_painter(scene: Scene, backend: Backend) -> tuple[Literal["gl", "numpy"], Painter]:
    """Return the painter that was asked for; "auto" falls back to NumPy, and says so."""
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}, expected one of {BACKENDS}")
    if backend == "numpy":
        return "numpy", NumpyRenderer(scene)
    try:
        from mien.decoder.gl_renderer import GlRenderer

        return "gl", GlRenderer(scene)
    except Exception as error:  # moderngl raises bare Exception where there is no EGL
        if backend == "gl":
            raise MienError(
                f"no OpenGL here ({error}): on Debian install libegl1 libgl1 libegl-mesa0 libgl1-mesa-dri"
            ) from error
        logger.warning("no OpenGL here (%s): drawing with NumPy, a few frames a second", error)
        return "numpy", NumpyRenderer(scene)
