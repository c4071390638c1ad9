"""The scene layer's painting in OpenGL, for graphics cards: a twin of `mien.decoder.scene_layer.corrected`.

Three passes, and nothing is read back between them: how the mesh has moved since each correction; the corrections'
fields carried along and mixed; the drawn picture moved, lit and painted over.
"""

from typing import Any, Final

import moderngl
import numpy as np
from numpy.typing import NDArray

from mien.decoder.mesh import VERTEX_COUNT, mesh_triangles
from mien.decoder.scene_layer import MESH_SHARE, Blend, Share
from mien.decoder.shader_source import shader_source

CORNER: Final = "3f 4f"  # where a vertex is, where it was at two ticks
CORNER_BYTES: Final = 28


class GlCorrection:
    """Corrects pictures of one size in a context that its owner has made current."""

    def __init__(self, context: moderngl.Context, size: tuple[int, int]) -> None:
        self._context, self._size = context, size
        self._carry = context.program(
            vertex_shader=shader_source("carry.vert.glsl"), fragment_shader=shader_source("carry.frag.glsl")
        )
        self._mix = _covering(context, "mix.frag.glsl")
        self._correct = _covering(context, "correct.frag.glsl")
        self._corners = context.buffer(reserve=VERTEX_COUNT * CORNER_BYTES, dynamic=True)
        self._mesh = context.vertex_array(
            self._carry,
            [(self._corners, CORNER, "a_now", "a_then")],
            index_buffer=context.buffer(mesh_triangles().all.tobytes()),
            index_element_size=2,
        )
        self._target = context.framebuffer([context.texture(size, 4)])
        self._grid: tuple[int, int] | None = None
        self._fields: dict[int, tuple[Share, moderngl.TextureArray]] = {}  # by the identity of the parts

    def draw(self, drawn: moderngl.Texture, blend: Blend) -> moderngl.Framebuffer:
        """Return a frame buffer that holds the picture `drawn`, corrected."""
        if blend.grid != self._grid:
            self._prepare(blend.grid)
        context, first, last = self._context, blend.shares[0], blend.shares[-1]
        before, after = self._uploaded(blend)
        self._carry_mesh(blend, first, last)
        context.enable_only(moderngl.NOTHING)
        self._outside.write(np.ascontiguousarray(blend.outside, np.float32))
        self._mixed.use()
        for unit, texture in enumerate((self._apart, before, after, self._outside)):
            texture.use(unit)
        _set(self._mix, u_apart=0, u_before=1, u_after=2, u_outside=3, u_grid=blend.grid)
        _set(
            self._mix, u_share=last.share if len(blend.shares) > 1 else 0.0, u_strength=float(blend.strength)
        )
        self._mix.render(moderngl.TRIANGLES, vertices=3)
        self._target.use()
        for unit, texture in enumerate((drawn, *self._parts)):
            texture.use(unit)
        _set(
            self._correct, u_drawn=0, u_moving=1, u_light=2, u_picture=3, u_size=self._size, u_grid=blend.grid
        )
        self._correct.render(moderngl.TRIANGLES, vertices=3)
        return self._target

    def _carry_mesh(self, blend: Blend, first: Share, last: Share) -> None:
        corners = np.column_stack([blend.positions, first.positions[:, :2], last.positions[:, :2]])
        self._corners.write(np.ascontiguousarray(corners, np.float32))
        self._moved.use()
        self._context.enable_only(moderngl.DEPTH_TEST)
        self._moved.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        deepest = 1.0 + float(np.abs(blend.positions[:, 2]).max())
        self._carry["u_grid"], self._carry["u_depth"] = blend.grid, deepest
        self._mesh.render(moderngl.TRIANGLES)

    def _prepare(self, grid: tuple[int, int]) -> None:
        """Make what has the grid's size."""
        context = self._context
        coarse = max(2, grid[0] // MESH_SHARE), max(2, grid[1] // MESH_SHARE)
        self._apart = _smooth(context.texture(coarse, 4, dtype="f4"))
        self._moved = context.framebuffer([self._apart], context.depth_renderbuffer(coarse))
        self._parts: list[moderngl.Texture] = [
            _smooth(context.texture(grid, 4, dtype="f4")) for _ in range(3)
        ]
        self._mixed = context.framebuffer(self._parts)
        self._outside = _smooth(context.texture(grid, 1, dtype="f4"))
        self._fields.clear()
        self._grid = grid

    def _uploaded(self, blend: Blend) -> tuple[moderngl.TextureArray, moderngl.TextureArray]:
        """Return the fields of the first and the last correction as textures."""
        known = self._fields
        self._fields = {}
        for share in blend.shares:
            key = id(share.parts)  # kept here, so that it stays what it is
            self._fields[key] = known.pop(key) if key in known else (share, self._upload(share))
        for _, texture in known.values():
            texture.release()
        textures = [self._fields[id(share.parts)][1] for share in blend.shares]
        return textures[0], textures[-1]

    def _upload(self, share: Share) -> moderngl.TextureArray:
        parts: NDArray[np.float32] = np.stack(share.parts)
        layers, height, width, planes = parts.shape
        texture: moderngl.TextureArray = _smooth(
            self._context.texture_array((width, height, layers), planes, parts.tobytes(), dtype="f4")
        )
        return texture


def _covering(context: moderngl.Context, name: str) -> moderngl.VertexArray:
    """Return a program that is run for every pixel of a frame buffer."""
    program = context.program(
        vertex_shader=shader_source("cover.vert.glsl"), fragment_shader=shader_source(name)
    )
    return context.vertex_array(program, [])


def _set(covering: moderngl.VertexArray, **values: Any) -> None:
    for name, value in values.items():
        covering.program[name] = value


def _smooth(texture: Any) -> Any:
    """Sample it linearly, and as at the border beyond it."""
    texture.filter = (moderngl.LINEAR, moderngl.LINEAR)
    texture.repeat_x = texture.repeat_y = False
    return texture
