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
ROOMS: Final = (
    *((Need.SOLID, room) for room in (1, 2, 3, 4, MAX_REFERENCES)),
    *((Need.EDGE, room) for room in (1, 2, 3, 4)),
    *((Need.ALL, room) for room in (2, 3, MAX_REFERENCES)),
)
NOT_DRAWN: Final = len(ROOMS)
WHOLE: Final = 255
CODE_BITS: Final = 4  # a reference's number in a corner's second word


@dataclass(frozen=True, slots=True)
class Group:
    """Triangles that one draw call paints: `count` from number `first` on, each of at most `room` references."""

    need: Need
    room: int
    first: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """What is to be drawn. `corners` uint32 [n, 3, 2] has, for each corner of each triangle, the vertex' number and
    those of the references that show: four bits each, the first in the lowest, then others as far as there is room.
    """

    corners: NDArray[np.uint32]
    groups: tuple[Group, ...]


class DrawGroups:
    """Sorts the triangles of one scene's drawings."""

    def __init__(self, scene: Scene, plate: NDArray[np.uint8]) -> None:
        """`plate` uint8 [height, width, 4] is the scene's at the drawn size."""
        self._triangles = mesh_triangles().all.astype(np.intp)
        layers, height, width, _ = scene.textures.shape
        self.rooms = tuple((need, min(room, layers)) for need, room in ROOMS)
        uv = scene.uv[self._triangles]  # [t, 3, r, 2]
        low, high = uv.min(1), uv.max(1)
        inside = ((low >= EDGE) & (high <= 1 - EDGE)).all(2)
        low, high = (edge * np.array([width, height]) for edge in mirrored(low, high))
        person = scene.textures[..., 3]
        each = range(layers)
        full = np.stack([Sums(person[i] < WHOLE).none_in(low[:, i], high[:, i]) for i in each], 1)
        none = np.stack([Sums(person[i] > 0).none_in(low[:, i], high[:, i]) for i in each], 1)
        # As bits, those references for which something is not so.
        self._not_inside, self._not_solid, self._not_empty = (
            packed(~inside),
            packed(~(full & inside)),
            packed(~none),
        )
        self._size = np.array([scene.width, scene.height])
        self._trusted = Sums(plate[..., 3] < WHOLE)
        self._codes, count = reference_codes(layers)
        self._room_of = {need: first_room(need, count) for need in Need}

    def of(self, drawing: Drawing) -> Groups:
        """Return what is to be drawn."""
        a, b, c = self._triangles.T
        shown = packed(drawing.weights > 0)
        used = shown[a] | shown[b] | shown[c]
        group = np.where(
            used & self._not_solid, self._room_of[Need.EDGE][used], self._room_of[Need.SOLID][used]
        )
        special = np.flatnonzero(used & self._not_inside)
        group[special] = self._room_of[Need.ALL][used[special]]
        if drawing.cavity.any():
            dark = drawing.cavity > 0
            special = np.flatnonzero(dark[a] | dark[b] | dark[c])
            group[special] = self._room_of[Need.ALL][used[special]]
        places = np.ascontiguousarray(drawing.positions[:, :2])
        corners = places[a], places[b], places[c]
        low, high = (
            np.minimum(np.minimum(*corners[:2]), corners[2]),
            np.maximum(np.maximum(*corners[:2]), corners[2]),
        )
        group[((high <= 0) | (low >= self._size)).any(1)] = NOT_DRAWN
        empty = np.flatnonzero((used & self._not_empty) == 0)
        group[empty[self._trusted.none_in(low[empty], high[empty])]] = NOT_DRAWN
        return self._collected(group, used)

    def _collected(self, group: NDArray[np.uint8], used: NDArray[np.uint8]) -> Groups:
        ends = np.cumsum(np.bincount(group, minlength=NOT_DRAWN + 1))
        order = np.argsort(group, kind="stable")[: ends[NOT_DRAWN - 1]]
        corners = np.empty((len(order), 3, 2), np.uint32)
        corners[..., 0] = self._triangles[order]
        corners[..., 1] = self._codes[used[order], None]
        firsts = [0, *ends.tolist()]
        return Groups(
            corners,
            tuple(
                Group(need, room, firsts[i], firsts[i + 1] - firsts[i])
                for i, (need, room) in enumerate(self.rooms)
                if firsts[i + 1] > firsts[i]
            ),
        )


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


def reference_codes(layers: int) -> tuple[NDArray[np.uint32], NDArray[np.intp]]:
    """Return for each byte of flags: the references' numbers as a corner has them, flagged ones first, and how many."""
    flags = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")[:, :layers]
    order = np.argsort(1 - flags.astype(np.int8), axis=1, kind="stable").astype(np.uint32)
    codes = (order << (CODE_BITS * np.arange(layers, dtype=np.uint32))).sum(1, dtype=np.uint32)
    return codes, flags.sum(1, dtype=np.intp)


def first_room(need: Need, count: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Return the first of `ROOMS` with room for so many references [n] and at least this need."""
    later = {Need.SOLID: [*Need], Need.EDGE: [Need.EDGE, Need.ALL], Need.ALL: [Need.ALL]}[need]
    fits = np.array([[n in later and room >= c for n, room in ROOMS] for c in count.tolist()])
    return np.asarray(fits.argmax(1), np.uint8)
