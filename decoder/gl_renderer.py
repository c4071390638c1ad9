"""Draws a scene with OpenGL, off screen (EGL): a graphics card where there is one, else Mesa's llvmpipe."""

from typing import Any, Final

import cv2
import moderngl
import numpy as np
from numpy.typing import NDArray

from mien.decoder.draw_groups import DrawGroups, Need, plate_as_drawn
from mien.decoder.gl_correction import GlCorrection
from mien.decoder.mesh import VERTEX_COUNT, mesh_triangles
from mien.decoder.scene import Drawing, Scene
from mien.decoder.scene_layer import Blend, Corrector
from mien.decoder.shader_source import shader_source

SOFTWARE: Final = ("llvmpipe", "softpipe", "swrast")  # in the names of devices that are the processor
NEEDS: Final = tuple(Need)  # as the shader numbers them


class GlRenderer:
    """Owns one GL context; use it from the thread that made it, beside others there may be."""

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
        layers, height, width, _ = scene.textures.shape
        self._texture = context.texture_array(
            (width, height, layers), 4, scene.textures.tobytes(), alignment=1
        )
        self._texture.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self._texture.repeat_x = self._texture.repeat_y = False
        size = (scene.width, scene.height)
        plate = plate_as_drawn(scene)
        self._plate = context.texture(size, 4, plate.tobytes(), alignment=1)
        self._plate.filter = (moderngl.NEAREST, moderngl.NEAREST)
        self._empty = context.framebuffer([self._plate], context.depth_renderbuffer(size))
        self._empty.use()
        self._empty.color_mask = (False, False, False, False)
        self._empty.clear(depth=1.0)
        self._drawn, self._lent = context.texture(size, 4), context.texture(size, 4)
        self._target = context.framebuffer([self._drawn], context.depth_renderbuffer(size))
        self._latest: NDArray[np.uint8] | None = None  # what is in it
        self._correction: GlCorrection | None = None
        self._pixels = np.empty((scene.height, scene.width, 4), np.uint8)
        self._vertices = context.texture((VERTEX_COUNT, 1), 4, dtype="f4")
        self._places = context.texture((layers, VERTEX_COUNT), 2, scene.uv.tobytes(), dtype="f4")
        self._weights = context.texture((layers, VERTEX_COUNT), 1, dtype="f4")
        for texture in (self._vertices, self._places, self._weights):
            texture.filter = (moderngl.NEAREST, moderngl.NEAREST)
        self._groups = DrawGroups(scene, plate)
        self._corners = context.buffer(reserve=len(mesh_triangles().all) * 3 * 2 * 4, dynamic=True)
        self._brushes = {room: self._brush(*room) for room in dict.fromkeys(self._groups.rooms)}

    def _brush(self, need: Need, room: int) -> moderngl.VertexArray:
        scene, context = self._scene, self._context
        defined = {"REFERENCES": room, "NEED": NEEDS.index(need)}
        program = context.program(
            vertex_shader=shader_source("warp.vert.glsl", **defined),
            fragment_shader=shader_source("warp.frag.glsl", **defined),
        )
        values = {
            "u_size": (scene.width, scene.height),
            "u_depth": 4 * scene.unit_px,
            "u_references": 0,
            "u_plate": 1,
            "u_vertices": 2,
            "u_places": 3,
            "u_weights": 4,
            "u_cavity": tuple(value / 255 for value in scene.cavity_rgb),
        }
        for name, value in values.items():
            if name in program:
                program[name] = value
        array = context.vertex_array(program, [(self._corners, "1u4 1u4", "a_vertex", "a_references")])
        # A driver finishes a program when it is first used: not in the middle of a call.
        self._target.use()
        array.render(moderngl.TRIANGLES, vertices=3)
        return array

    def draw(self, drawing: Drawing) -> NDArray[np.uint8]:
        """Return the picture, RGB uint8 [height, width, 3]."""
        with self._context:
            self._draw(drawing)
            self._latest = self._read(self._target)
        return self._latest

    def _draw(self, drawing: Drawing) -> None:
        drawn = self._groups.of(drawing)
        self._vertices.write(np.column_stack([drawing.positions, drawing.cavity]))
        self._weights.write(np.ascontiguousarray(drawing.weights))
        self._corners.write(drawn.corners)
        self._context.copy_framebuffer(self._target, self._empty)
        self._target.use()
        self._context.enable_only(moderngl.DEPTH_TEST)
        self._texture.use(0)
        for unit, texture in enumerate((self._plate, self._vertices, self._places, self._weights)):
            texture.use(1 + unit)
        for group in drawn.groups:
            brush = self._brushes[group.need, group.room]
            brush.render(moderngl.TRIANGLES, first=3 * group.first, vertices=3 * group.count)

    def _read(self, target: moderngl.Framebuffer) -> NDArray[np.uint8]:
        target.read_into(self._pixels, components=4, alignment=1)
        return np.asarray(cv2.cvtColor(self._pixels, cv2.COLOR_RGBA2RGB), np.uint8)

    @property
    def corrector(self) -> Corrector | None:
        """`corrected` on a graphics card. A processor does it faster without OpenGL."""
        return None if any(name in self.device.lower() for name in SOFTWARE) else self.corrected

    def corrected(self, drawn: NDArray[np.uint8], blend: Blend) -> NDArray[np.uint8]:
        """Return a picture, RGB uint8 [height, width, 3], corrected. What was drawn last is still there."""
        with self._context:
            if self._correction is None:
                self._correction = GlCorrection(self._context, (self._scene.width, self._scene.height))
            source = self._drawn
            if drawn is not self._latest:
                source = self._lent
                source.write(np.ascontiguousarray(cv2.cvtColor(drawn, cv2.COLOR_RGB2RGBA)))
            return self._read(self._correction.draw(source, blend))

    def close(self) -> None:
        """Free the context and everything in it."""
        self._context.release()
