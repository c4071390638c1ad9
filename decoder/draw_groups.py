"""Which triangle needs how much work: most show one or two references, and no background.

A software rasteriser pays for every reference that a shader could sample, also where its weight is 0. So triangles are
sorted anew for each picture: by the references that show in them, and by what else can happen there. What is left of
the background when nobody is near it is not drawn at all: there the plate shows as it is.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.decoder.mesh import mesh_triangles
from mien.decoder.sampling import EDGE, STRIP, within
from mien.decoder.scene import MAX_REFERENCES, Drawing, Scene


class Need(Enum):
    """What a triangle's pixels can be made of, besides references."""

    SOLID = "solid"  # nothing: all that shows is the person
    EDGE = "edge"  # the plate
    ALL = "all"  # the plate, what lies beyond a reference's border, an open mouth's dark


# A program for each of these; a triangle takes the first that has room for its references.
ROOMS: Final = ((Need.SOLID, 1), (Need.SOLID, 2), (Need.SOLID, 3), (Need.SOLID, MAX_REFERENCES),
                (Need.EDGE, 1), (Need.EDGE, 2), (Need.EDGE, 3),
                (Need.ALL, 2), (Need.ALL, MAX_REFERENCES))  # fmt: skip
WHOLE: Final = 255


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Triangles that one draw call paints: float32 [3 n, 4 + 4 room], a row for each corner.

    A row is the position (3), the cavity's share, then for each of `room` references u, v, its layer and weight.
    """

    need: Need
    room: int
    corners: NDArray[np.float32]


class DrawGroups:
    """Sorts the triangles of one scene's drawings."""

    def __init__(self, scene: Scene, plate: NDArray[np.uint8]) -> None:
        """`plate` uint8 [height, width, 4] is the scene's at the drawn size."""
        self._triangles = mesh_triangles().all.astype(np.intp)
        layers, height, width, _ = scene.textures.shape
        self.rooms = tuple(dict.fromkeys((need, min(room, layers)) for need, room in ROOMS))
        uv = scene.uv[self._triangles]  # [t, 3, r, 2]
        self._uv = np.ascontiguousarray(uv.transpose(0, 2, 1, 3))
        low, high = uv.min(1), uv.max(1)
        inside = ((low >= EDGE) & (high <= 1 - EDGE)).all(2)
        low, high = mirrored(low, high)
        size = np.array([width, height])
        person = scene.textures[..., 3]
        full = np.stack([Sums(person[i] < WHOLE).none_in(low[:, i] * size, high[:, i] * size)
                         for i in range(layers)], 1)  # fmt: skip
        none = np.stack([Sums(person[i] > 0).none_in(low[:, i] * size, high[:, i] * size)
                         for i in range(layers)], 1)  # fmt: skip
        self._inside, self._solid, self._empty = packed(inside), packed(full & inside), packed(none)
        self._size = np.array([scene.width, scene.height])
        self._trusted = Sums(plate[..., 3] < WHOLE)
        self._order, self._count = orders(layers)

    def of(self, drawing: Drawing) -> list[Group]:
        """Return what is to be drawn, in no order."""
        triangles = self._triangles
        shown = packed(drawing.weights > 0)[triangles]
        used = shown[:, 0] | shown[:, 1] | shown[:, 2]
        dark = (drawing.cavity > 0)[triangles].any(1)
        count = self._count[used]
        solid = ((used & ~self._solid) == 0) & ~dark
        inside = ((used & ~self._inside) == 0) & ~dark
        places = drawing.positions[triangles, :2]
        low, high = places.min(1), places.max(1)
        left = ((high > 0) & (low < self._size)).all(1)  # not out of the picture
        background = left & ((used & ~self._empty) == 0) & ~dark
        some = np.flatnonzero(background)
        left[some[self._trusted.none_in(low[some], high[some])]] = False
        out = []
        for need, fits in ((Need.SOLID, solid), (Need.EDGE, inside), (Need.ALL, None)):
            for room in (room for each, room in self.rooms if each is need):
                chosen = left & (count <= room)
                if fits is not None:
                    chosen &= fits
                left &= ~chosen
                if (index := np.flatnonzero(chosen)).size:
                    out.append(Group(need, room, self._corners(drawing, index, used[index], room)))
        return out

    def _corners(
        self, drawing: Drawing, index: NDArray[np.intp], used: NDArray[np.uint8], room: int
    ) -> NDArray[np.float32]:
        references = self._order[used, :room]  # [n, room]: those of no weight last
        vertices = self._triangles[index]
        out = np.empty((len(index), 3, 4 + 4 * room), np.float32)
        out[..., :3] = drawing.positions[vertices]
        out[..., 3] = drawing.cavity[vertices]
        each = out[..., 4:].reshape(len(index), 3, room, 4)
        each[..., :2] = self._uv[index[:, None], references].transpose(0, 2, 1, 3)
        each[..., 2] = references[:, None]
        each[..., 3] = drawing.weights[vertices[:, :, None], references[:, None]]
        return out.reshape(-1, 4 + 4 * room)


class Sums:
    """Says whether rectangles of a mask [h, w] hold any marked place."""

    def __init__(self, marked: NDArray[np.bool_]) -> None:
        self._size = np.array(marked.shape[::-1])
        self._sums = np.zeros((marked.shape[0] + 1, marked.shape[1] + 1), np.int32)
        self._sums[1:, 1:] = marked.cumsum(0, np.int32).cumsum(1, np.int32)

    def none_in(self, low: NDArray[np.floating], high: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return [n]: nothing is marked from `low` [n, 2] to `high`, pixels, nor where bilinear sampling reaches from there."""
        first = np.clip(np.floor(low - 0.5), 0, self._size - 1).astype(np.intp)
        last = np.clip(np.floor(high - 0.5) + 2, first + 1, self._size).astype(np.intp)
        (x0, y0), (x1, y1), sums = first.T, last.T, self._sums
        return np.asarray(sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0] == 0)


def mirrored(
    low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what of a reference shows between corners of rectangles: beyond its border, a strip within it."""
    return (
        np.clip(np.minimum(low, np.where(high > 1, 1 - STRIP, 1)), 0, 1).astype(np.float32),
        np.clip(np.maximum(high, np.where(low < 0, STRIP, 0)), 0, 1).astype(np.float32),
    )


def plate_as_drawn(scene: Scene) -> NDArray[np.uint8]:
    """Return a scene's plate at the drawn size, uint8 [height, width, 4]."""
    out = scene.plate.astype(np.float32)
    for axis, pixels in ((0, scene.height), (1, scene.width)):
        scale, offset = scene.plate_scale[1 - axis], scene.plate_offset[1 - axis]
        uv = (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) * scale + offset
        at = within(uv) * out.shape[axis] - 0.5
        low = np.floor(at).astype(np.intp)
        share = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        first, second = (np.clip(low + step, 0, out.shape[axis] - 1) for step in (0, 1))
        out = out.take(first, axis) * (1 - share) + out.take(second, axis) * share
    return np.rint(out).astype(np.uint8)


def packed(flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return flags [n, up to 8] as bits, uint8 [n]."""
    return np.packbits(flags, axis=1, bitorder="little")[:, 0]


def orders(layers: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return for each byte of flags: the references [256, layers], flagged ones first, and how many are flagged [256]."""
    flags = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")[:, :layers]
    return np.argsort(1 - flags, axis=1, kind="stable").astype(np.uint8), flags.sum(1).astype(np.uint8)
