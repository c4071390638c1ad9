"""Draws a scene with OpenGL, off screen (EGL): a graphics card where there is one, else Mesa's llvmpipe."""

from pathlib import Path
from typing import Any, Final

import moderngl
import numpy as np
from numpy.typing import NDArray

from mien.decoder.mesh import VERTEX_COUNT, mesh_triangles
from mien.decoder.scene import MAX_REFERENCES, Drawing, Scene

SHADERS: Final = Path(__file__).with_name("shaders")
MOVING_FLOATS: Final = 3 + 1 + MAX_REFERENCES  # position, cavity, weights
DESKTOP_HEADER: Final = "#version 330\n"


def shader_source(name: str) -> str:
    """Return a shader file with the header of desktop GL (WebGL2 prepends its own)."""
    return DESKTOP_HEADER + (SHADERS / name).read_text(encoding="utf-8")


class GlRenderer:
    """Owns one GL context; use it from the thread that made it."""

    def __init__(self, scene: Scene) -> None:
        """Raises whatever moderngl raises where there is no EGL."""
        self._scene = scene
        settings: dict[str, Any] = {"backend": "egl"}
        self._context = moderngl.create_standalone_context(**settings)
        try:
            self._set_up()
        except BaseException:
            self._context.release()
            raise

    def _set_up(self) -> None:
        scene, context = self._scene, self._context
        self.device = str(context.info["GL_RENDERER"])
        self._program = context.program(
            vertex_shader=shader_source("warp.vert.glsl"), fragment_shader=shader_source("warp.frag.glsl")
        )
        layers, height, width, _ = scene.textures.shape
        self._texture = context.texture_array(
            (width, height, layers), 4, scene.textures.tobytes(), alignment=1
        )
        self._texture.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self._texture.repeat_x = self._texture.repeat_y = False
        self._plate = context.texture((width, height), 4, scene.plate.tobytes(), alignment=1)
        self._plate.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self._plate.repeat_x = self._plate.repeat_y = False
        uv = np.zeros((VERTEX_COUNT, 2 * MAX_REFERENCES), np.float32)
        uv[:, : 2 * layers] = scene.uv.reshape(VERTEX_COUNT, -1)
        self._moving = context.buffer(reserve=VERTEX_COUNT * MOVING_FLOATS * 4, dynamic=True)
        self._array = context.vertex_array(
            self._program,
            [
                (self._moving, "3f 1f 4f 4f", "a_position", "a_cavity", "a_weight_0", "a_weight_1"),
                (context.buffer(uv.tobytes()), "4f 4f 4f 4f", "a_uv_01", "a_uv_23", "a_uv_45", "a_uv_67"),
            ],
            index_buffer=context.buffer(mesh_triangles().all.tobytes()),
            index_element_size=2,
        )
        size = (scene.width, scene.height)
        self._target = context.framebuffer([context.renderbuffer(size, 4)], context.depth_renderbuffer(size))
        self._program["u_size"] = size
        self._program["u_references"], self._program["u_plate"] = 0, 1
        self._program["u_plate_scale"] = tuple(map(float, scene.plate_scale))
        self._program["u_plate_offset"] = tuple(map(float, scene.plate_offset))
        self._program["u_cavity"] = tuple(value / 255 for value in scene.cavity_rgb)
        self._program["u_depth"] = 4 * scene.unit_px

    def draw(self, drawing: Drawing) -> NDArray[np.uint8]:
        """Return the picture, RGB uint8 [height, width, 3]."""
        scene = self._scene
        moving = np.zeros((VERTEX_COUNT, MOVING_FLOATS), np.float32)
        moving[:, :3] = drawing.positions
        moving[:, 3] = drawing.cavity
        moving[:, 4 : 4 + drawing.weights.shape[1]] = drawing.weights
        self._moving.write(moving.tobytes())
        self._target.use()
        self._context.enable_only(moderngl.DEPTH_TEST)
        self._target.clear(0.0, 0.0, 0.0, 1.0, depth=1.0)
        self._texture.use(0)
        self._plate.use(1)
        self._array.render(moderngl.TRIANGLES)
        data = self._target.read(components=3, alignment=1)
        return np.frombuffer(data, np.uint8).reshape(scene.height, scene.width, 3)

    def close(self) -> None:
        """Free the context and everything in it."""
        self._context.release()
