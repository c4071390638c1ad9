"""The mesh that carries the references: 478 landmarks, rings around them, and a skirt beyond the frame.

Vertices are numbered landmarks first, then `mien.models.rings` anchors, then the skirt: the border ring
once more, so far from the picture's centre that no corner stays empty; last the inside of
the mouth, which has vertices of its own, so that it can be darker than the lips: the inner lips once more
(the rim) and a smaller loop within (the core); in each eye a ring around the iris, so that the iris moves as
a whole when the gaze does; and the face oval once more, for the surround, since what a reference shows within the face
it need not show beside it.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.models.rings import ANCHOR_COUNT, RAYS, RING_FRACTIONS, ring_positions
from mien.models.rotation import rotation_matrix
from mien.models.topology import EYE_LOOPS, FACE_OVAL, INNER_LIPS, IRIS_CENTRES, load_topology
from mien.protocol.state import LANDMARK_COUNT

RIM: Final = len(INNER_LIPS)
RINGS_END: Final = LANDMARK_COUNT + ANCHOR_COUNT + RAYS
MOUTH_END: Final = RINGS_END + 2 * RIM
MOUTH_RIM: Final = slice(RINGS_END, RINGS_END + RIM)
MOUTH_CORE: Final = slice(RINGS_END + RIM, MOUTH_END)
LASHES: Final = len(EYE_LOOPS[0])
IRIS_RIMS: Final = tuple(slice(MOUTH_END + LASHES * eye, MOUTH_END + LASHES * (eye + 1)) for eye in (0, 1))
OVAL_AGAIN: Final = slice(MOUTH_END + 2 * LASHES, MOUTH_END + 2 * LASHES + RAYS)
VERTEX_COUNT: Final = OVAL_AGAIN.stop
# An iris and a little of the white around it, as a share of the eye's width: so much moves as a whole.
IRIS_REACH: Final = 0.25
# From the lids and corners, a share of the eye's opening and width.
IRIS_MARGIN: Final = 0.04
SKIRT: Final = 2.0
# A tracked face oval lies on the outline: what is beside it in a reference would be stretched over the cheek of a head
# that turns. So the face ends inside: so much of the way to the next landmarks within.
SEAM_INSIDE: Final = 0.5
# What is left at least between the face oval and the rings, in inter-pupil distances.
LEAST_GAP: Final = 0.06
# Model-space depth of the rings: behind every landmark, so that the face covers hair it turns over.
RING_DEPTH: Final = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class MeshTriangles:
    """uint16 [n, 3] vertex numbers: `face` (skin, mouth, eyes) over `surround` (rings and skirt)."""

    face: NDArray[np.uint16]
    surround: NDArray[np.uint16]

    @property
    def all(self) -> NDArray[np.uint16]:
        """Surround first, then the face."""
        return np.concatenate([self.surround, self.face])


@cache
def mesh_triangles() -> MeshTriangles:
    """Return the triangles of the whole mesh."""
    loops = [np.arange(OVAL_AGAIN.start, OVAL_AGAIN.stop)]
    for ring in range(len(RING_FRACTIONS) + 1):
        loops.append(LANDMARK_COUNT + ring * RAYS + np.arange(RAYS))
    strips = []
    for inner, outer in pairwise(loops):
        after_inner, after_outer = np.roll(inner, -1), np.roll(outer, -1)
        strips += [np.stack([inner, outer, after_outer], 1), np.stack([inner, after_outer, after_inner], 1)]
    topology = load_topology()
    face = np.concatenate([topology.skin, eye_triangles(topology.eyes), mouth_triangles()])
    return MeshTriangles(face=face, surround=np.concatenate(strips).astype(np.uint16))


def mouth_triangles() -> NDArray[np.uint16]:
    """Return the triangles inside the mouth: from the rim to the core, and the core zipped up."""
    rim, core = np.arange(MOUTH_RIM.start, MOUTH_RIM.stop), np.arange(MOUTH_CORE.start, MOUTH_CORE.stop)
    after = np.roll(np.arange(RIM), -1)
    around = [np.stack([rim, rim[after], core], 1), np.stack([core, rim[after], core[after]], 1)]
    half = RIM // 2
    lower, upper = core[: half + 1], np.concatenate([core[:1], core[: half - 1 : -1]])
    across = [
        np.stack([lower[:-1], lower[1:], upper[1:]], 1)[:-1],
        np.stack([lower[:-1], upper[1:], upper[:-1]], 1)[1:],
    ]
    return np.concatenate([*around, *across])[:, [0, 2, 1]].astype(np.uint16)


def eye_triangles(fans: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the triangles of both eyes: from the iris' centre to the ring around it, from there to the lids.

    `fans` [n, 3] are triangles from the iris' centre to the lids.
    """
    out = []
    for loop, centre, rim in zip(EYE_LOOPS, IRIS_CENTRES, IRIS_RIMS, strict=True):
        ring = {lid: rim.start + place for place, lid in enumerate(loop)}
        for triangle in fans.tolist():
            if centre in triangle:
                at = triangle.index(centre)
                a, b = triangle[at - 2], triangle[at - 1]  # the order round stays
                out += [(centre, ring[a], ring[b]), (ring[a], a, b), (ring[a], b, ring[b])]
    return np.array(out, np.uint16)


def iris_rim(
    loop: NDArray[np.float64], centre: NDArray[np.float64], *, mirrored: bool
) -> NDArray[np.float64]:
    """Return the ring around an iris at `centre` [3] in the opening `loop` [16, 3]: [16, 3], a vertex for each of it.

    It is round, and carried with the iris; where lids or corners are nearer, it ends at them. `mirrored`: the loop
    (corner, lower lid, corner, upper lid) runs from right to left.
    """
    along = loop[8, :2] - loop[0, :2]
    wide = max(float(np.linalg.norm(along)), 1e-9)
    along = along / wide
    down = np.array([-along[1], along[0]]) * (-1 if mirrored else 1)
    axes = np.stack([along, down], 1)
    lids, middle = (loop[:, :2] - loop[0, :2]) @ axes, (centre[:2] - loop[0, :2]) @ axes
    angle = 2 * np.pi * np.arange(LASHES) / LASHES
    ring = middle + IRIS_REACH * wide * np.stack([-np.cos(angle), np.sin(angle)], 1)
    x = np.clip(ring[:, 0], IRIS_MARGIN * wide, (1 - IRIS_MARGIN) * wide)
    lower, upper = lids[:9], np.roll(lids[::-1], 1, 0)[:9]
    bottom, top = (np.interp(x, np.maximum.accumulate(lid[:, 0]), lid[:, 1]) for lid in (lower, upper))
    margin = IRIS_MARGIN * np.maximum(bottom - top, 0)
    open_here = bottom > top
    y = np.where(open_here, np.clip(ring[:, 1], top + margin, bottom - margin), (top + bottom) / 2)
    out = np.empty((LASHES, 3))
    out[:, :2] = np.stack([x, y], 1) @ axes.T + loop[0, :2]
    out[:, 2] = centre[2]
    return out


def to_model_space(
    landmarks: NDArray[np.floating],
    pose: NDArray[np.floating],
    *,
    unit_px: float,
    width: float,
    height: float,
) -> NDArray[np.float64]:
    """Undo the projection: landmarks [478, 3] in pixels -> vertices [478, 3] in model space."""
    centre = np.array([width / 2, height / 2, 0.0])
    placed = (landmarks - centre) / unit_px - [pose[4], pose[5], 0.0]
    return np.asarray(placed @ rotation_matrix(np.asarray(pose[:3], np.float64)) / np.exp(float(pose[3])))


def place_vertices(
    vertices: NDArray[np.floating],
    pose: NDArray[np.floating],
    rings: NDArray[np.float32],
    offset: NDArray[np.floating],
    *,
    known: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
) -> NDArray[np.float64]:
    """Return all mesh vertices [VERTEX_COUNT, 3] in units of unit_px from the picture's centre; z grows away.

    `vertices` [478, 3] in model space (expression included), `pose` [6], `rings` as in `mien.models.rings`,
    `offset` [anchors, 2] what is added to the anchors' places, `known` the range of poses that the
    references span (see `ring_positions`). The inside of the mouth is left at the lips: `mien.decoder.mouth` lays it.
    """
    scale = float(np.exp(pose[3]))
    out = np.full((VERTEX_COUNT, 3), RING_DEPTH * scale)
    face = scale * vertices @ rotation_matrix(np.asarray(pose[:3], np.float64)).T
    face[:, :2] += pose[4:6]
    for eye, (loop, centre, rim) in enumerate(zip(EYE_LOOPS, IRIS_CENTRES, IRIS_RIMS, strict=True)):
        opening = face[list(loop)]
        face[centre] = keep_inside(face[centre], opening)
        out[rim] = iris_rim(opening, face[centre], mirrored=eye == 1)
    seam = seam_of(face)
    face[list(FACE_OVAL)] = seam
    out[:LANDMARK_COUNT] = face
    out[OVAL_AGAIN] = seam
    anchors = in_order(seam[:, :2], ring_positions(rings, pose, known=known) + offset, scale)
    out[LANDMARK_COUNT : LANDMARK_COUNT + ANCHOR_COUNT, :2] = anchors
    out[LANDMARK_COUNT + ANCHOR_COUNT : RINGS_END, :2] = skirt_around(anchors[-RAYS:])
    out[MOUTH_RIM] = out[MOUTH_CORE] = face[list(INNER_LIPS)]
    return out


def seam_of(face: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the face gives way to what surrounds it, [36, 3], inside the oval of landmarks [478, 3]."""
    oval = face[list(FACE_OVAL)]
    return np.asarray(oval + SEAM_INSIDE * (beside_oval() @ face - oval))


def outline_of(positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the face's tracked oval [36, 2], which the mesh's positions [VERTEX_COUNT, >= 2] have moved inside."""
    face = np.asarray(positions[:LANDMARK_COUNT, :2], np.float64)
    seam = face[list(FACE_OVAL)]
    return np.asarray((seam - SEAM_INSIDE * (beside_oval() @ face)) / (1 - SEAM_INSIDE))


@cache
def beside_oval() -> NDArray[np.float64]:
    """Return the mean of each oval landmark's neighbours that are not on the oval: weights [36, 478]."""
    skin = load_topology().skin.astype(np.intp)
    out = np.zeros((len(FACE_OVAL), LANDMARK_COUNT))
    for row, landmark in enumerate(FACE_OVAL):
        near = np.setdiff1d(skin[(skin == landmark).any(1)], FACE_OVAL)
        out[row, near] = 1 / len(near)
    return out


def in_order(oval: NDArray[np.float64], anchors: NDArray[np.floating], scale: float) -> NDArray[np.float64]:
    """Return anchors [anchors, 2] pushed outwards where the face oval [36, 2] or a ring within has passed them.

    A head that moves far runs over places of the background. Folded, the mesh would show them over the head.
    """
    middle = oval.mean(0)
    out = oval - middle
    ray = out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)
    reached = (out * ray).sum(1)
    rings = np.array(anchors, np.float64).reshape(-1, RAYS, 2) - middle
    for ring in rings:
        far = (ring * ray).sum(1)
        ring += np.maximum(reached + LEAST_GAP * scale - far, 0)[:, None] * ray
        reached = np.maximum(far, reached + LEAST_GAP * scale)
    return np.asarray((rings + middle).reshape(-1, 2))


def skirt_around(border: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the skirt [36, 2]: in the directions of the border ring, so far out that no corner stays empty."""
    away = np.linalg.norm(border, axis=1, keepdims=True)
    return np.asarray(border / np.maximum(away, 1e-9) * SKIRT * away.max())


def keep_inside(point: NDArray[np.float64], loop: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move an iris centre [3] into its eye opening [16, 3] (corner, lower lid, corner, upper lid), if it left it.

    Lids that close on an iris push it between them; without this the fan of triangles would fold outwards.
    """
    lower, upper = loop[:9], np.roll(loop[::-1], 1, 0)[:9]
    order = np.argsort(lower[:, 0])
    x = float(np.clip(point[0], lower[order[1], 0], lower[order[-2], 0]))
    bottom = float(np.interp(x, lower[order, 0], lower[order, 1]))
    order = np.argsort(upper[:, 0])
    top = float(np.interp(x, upper[order, 0], upper[order, 1]))
    margin = 0.2 * max(bottom - top, 0.0)
    middle = (bottom + top) / 2
    y = float(np.clip(point[1], top + margin, bottom - margin)) if bottom > top else middle
    return np.array([x, y, point[2]])


# Skin seen at less than the first of these (cosine to the line of sight) counts as hidden, above the second as seen.
GRAZING: Final = (0.12, 0.45)
# A ring triangle that a reference squeezes below the first share of its usual area is hidden; above the second, seen.
SQUEEZED: Final = (0.05, 0.4)


def visibility(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how well each reference shows the neighbourhood of each vertex, [v, r], 0 to 1.

    `places` [r, v, 3] are the references' own vertices as from `place_vertices`.
    """
    triangles = mesh_triangles()
    face, surround = triangles.face.astype(np.intp), triangles.surround.astype(np.intp)
    seen = np.ones((places.shape[1], len(places)))
    areas = np.stack([normals(place, surround)[:, 2] for place in places], 1)
    usual = np.maximum(areas.max(1, keepdims=True), 1e-9)
    ratio = ramp(areas / usual, *SQUEEZED)
    for corner in surround.T:
        np.minimum.at(seen, corner, ratio)
    for index, place in enumerate(places):
        seen[:LANDMARK_COUNT, index] = ramp(vertex_normals(place, face)[:LANDMARK_COUNT, 2], *GRAZING)
    seen[OVAL_AGAIN] = seen[list(FACE_OVAL)]
    return seen


def vertex_normals(place: NDArray[np.floating], triangles: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the unit normals at vertices [v, 3], 0 where no triangle is; z is positive where they face the camera."""
    normal = np.zeros((len(place), 3))
    across = normals(np.asarray(place, np.float64), triangles)
    for corner in triangles.T:
        np.add.at(normal, corner, across)
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9))


def normals(place: NDArray[np.float64], triangles: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the triangles' normals [n, 3], twice their area long; z is positive where they face the camera."""
    a, b, c = (place[corner] for corner in triangles.T)
    return np.asarray(np.cross(b - a, c - a))


def ramp(value: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Rise smoothly from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))
