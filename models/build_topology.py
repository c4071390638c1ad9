"""Computes the mesh that `mien.models.topology` ships: our own triangulation of the 478 landmarks.

The landmarks come without edges. Two shapes of the mean face are unwrapped onto a plane, and a Delaunay
triangulation is taken of the one with open mouth and open eyes, so that no edge crosses an opening; the
openings are then filled on purpose: mouth by a strip between the lips, eyes by fans around the iris.

    python -m mien.models.build_topology          # writes models/assets/topology.npz
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.models.topology import (
    ASSET,
    BROWS,
    EYE_LOOPS,
    FACE_OVAL,
    INNER_LIPS,
    IRIS_CENTRES,
    OUTER_LIPS,
    REGION_NAMES,
)

MESH_COUNT = 468  # the last ten landmarks are the irises
# The nose's underside is seen from a point between the eyes, behind the face: nothing folds there.
UNWRAP_CENTRE = np.array([0.0, 0.15, 1.1])


def unwrap(vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project [n, 3] onto the plane from inside the head: [n, 2] angles, radians."""
    ray = vertices - UNWRAP_CENTRE
    flat = np.hypot(ray[:, 0], ray[:, 2])
    return np.stack([np.arctan2(ray[:, 0], -ray[:, 2]), np.arctan2(ray[:, 1], flat)], 1)


def inside(point: NDArray[np.float64], loop: NDArray[np.float64]) -> bool:
    """Say whether a point [2] lies inside a closed polygon [n, 2] (even-odd rule)."""
    (x, y), a, b = point, loop, np.roll(loop, -1, 0)
    spans = (a[:, 1] > y) != (b[:, 1] > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = a[:, 0] + (y - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
    return bool(np.count_nonzero(spans & (x < crossing)) % 2)


def skin_triangles(plane: NDArray[np.float64]) -> list[tuple[int, int, int]]:
    """Triangulate the face between its oval, the lips' inner edge and the lids. `plane` is [468+, 2]."""
    from scipy.spatial import Delaunay

    triangles = {tuple(sorted(map(int, t))) for t in Delaunay(plane[:MESH_COUNT]).simplices}
    for loop in (FACE_OVAL, INNER_LIPS, *EYE_LOOPS):
        for a, b in zip(loop, (*loop[1:], loop[0]), strict=True):
            enforce_edge(triangles, plane, a, b)
    oval = plane[list(FACE_OVAL)]
    holes = [plane[list(loop)] for loop in (INNER_LIPS, *EYE_LOOPS)]
    kept = []
    for t in sorted(triangles):
        centre = plane[list(t)].mean(0)
        if inside(centre, oval) and not any(inside(centre, hole) for hole in holes):
            kept.append((t[0], t[1], t[2]))
    return kept


def enforce_edge(triangles: set[tuple[int, ...]], plane: NDArray[np.float64], a: int, b: int) -> None:
    """Flip the edges that cross a-b until a-b is an edge itself."""
    for _ in range(200):
        if any(a in t and b in t for t in triangles):
            return
        crossed = crossing_edges(triangles, plane, a, b)
        for edge in crossed:
            left, right = (t for t in triangles if edge[0] in t and edge[1] in t)
            (c,), (d,) = set(left) - set(edge), set(right) - set(edge)
            if crosses(plane, edge[0], edge[1], c, d):  # the quadrilateral is convex: it may be flipped
                triangles -= {left, right}
                triangles |= {tuple(sorted((c, d, edge[0]))), tuple(sorted((c, d, edge[1])))}
                if not crosses(plane, a, b, c, d):
                    break
    raise ValueError(f"edge {a}-{b} cannot be forced into the triangulation")


def crossing_edges(
    triangles: set[tuple[int, ...]], plane: NDArray[np.float64], a: int, b: int
) -> list[tuple[int, int]]:
    """Return the edges that cross the segment a-b."""
    edges = {(t[i], t[j]) for t in triangles for i, j in ((0, 1), (0, 2), (1, 2))}
    return sorted(e for e in edges if crosses(plane, a, b, *e))


def crosses(plane: NDArray[np.float64], a: int, b: int, c: int, d: int) -> bool:
    """Say whether the open segments a-b and c-d cross."""
    if {a, b} & {c, d}:
        return False

    def side(p: int, q: int, r: int) -> float:
        u, v = plane[q] - plane[p], plane[r] - plane[p]
        return float(u[0] * v[1] - u[1] * v[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def mouth_triangles() -> list[tuple[int, int, int]]:
    """Fill the mouth by a strip that zips the lower inner lip to the upper one."""
    half = len(INNER_LIPS) // 2
    lower, upper = INNER_LIPS[: half + 1], (INNER_LIPS[0], *INNER_LIPS[: half - 1 : -1])
    triangles = []
    for i in range(half):
        for t in ((lower[i], lower[i + 1], upper[i + 1]), (lower[i], upper[i + 1], upper[i])):
            if len(set(t)) == 3:
                triangles.append(t)
    return triangles


def eye_triangles() -> list[tuple[int, int, int]]:
    """Fill each eye by a fan around the iris's centre."""
    return [
        (a, b, centre)
        for loop, centre in zip(EYE_LOOPS, IRIS_CENTRES, strict=True)
        for a, b in zip(loop, (*loop[1:], loop[0]), strict=True)
    ]


def oriented(triangles: list[tuple[int, int, int]], plane: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Turn every triangle the same way round (clockwise on screen), uint16 [n, 3]."""
    out = np.array(triangles)
    a, b, c = plane[out[:, 0]], plane[out[:, 1]], plane[out[:, 2]]
    u, v = b - a, c - a
    wrong = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0] < 0
    out[wrong] = out[wrong][:, [0, 2, 1]]
    return out.astype(np.uint16)


def region_masks(mean: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Say how much of each vertex belongs to each region: uint8 [478, 4], of 255; the rest is the skin's.

    A region is full near its own landmarks and fades over the skin around them, in units of the distance
    between the outer eye corners.
    """
    seeds = {
        "mouth": [*INNER_LIPS, *OUTER_LIPS],
        "eye_a": list(EYE_LOOPS[0]),
        "eye_b": list(EYE_LOOPS[1]),
        "brows": list(BROWS),
    }
    reach = {"mouth": (0.10, 0.32), "eye_a": (0.05, 0.16), "eye_b": (0.05, 0.16), "brows": (0.04, 0.16)}
    masks = np.zeros((len(mean), len(REGION_NAMES)))
    for column, name in enumerate(REGION_NAMES):
        gap = np.linalg.norm(mean[:, None] - mean[None, seeds[name]], axis=2).min(1)
        full, end = reach[name]
        t = np.clip((end - gap) / (end - full), 0, 1)
        masks[:, column] = t * t * (3 - 2 * t)
    masks[MESH_COUNT:] = 0
    for column, first in ((1, IRIS_CENTRES[0]), (2, IRIS_CENTRES[1])):
        masks[first : first + 5, column] = 1
    masks[:, 3] *= 1 - masks[:, 1:3].max(1)  # lids belong to the eye, whatever the brow says
    total = masks.sum(1, keepdims=True)
    return np.asarray(np.round(255 * masks / np.maximum(total, 1)), np.uint8)


def build(mean: NDArray[np.float64], opened: NDArray[np.float64]) -> dict[str, NDArray[np.generic]]:
    """Return the asset's arrays for a mean face and the same face with open mouth and eyes, both [478, 3].

    Both are centred between the outer eye corners and scaled to their distance.
    """
    plane = unwrap(opened)
    return {
        "skin": oriented(skin_triangles(plane), plane),
        "mouth": oriented(mouth_triangles(), plane),
        "eyes": oriented(eye_triangles(), plane),
        "regions": region_masks(mean),
    }


def upright(face: NDArray[np.float64], vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn `vertices` [n, 3] as `face` must be turned to look straight ahead, centre and scale them.

    The origin is between the outer eye corners, the unit their distance, x runs from one to the other.
    """
    across, down = face[263] - face[33], face[152] - face[10]
    unit = float(np.linalg.norm(across))
    x = across / unit
    y = down - x * (x @ down)
    y /= np.linalg.norm(y)
    axes = np.stack([x, y, np.cross(x, y)])
    return np.asarray((vertices - (face[33] + face[263]) / 2) @ axes.T / unit)


def opened_mean() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the face model's mean, and the mean with the jaw dropped and lids raised: the likeliest such face."""
    from mien.models.face_model import FaceModel

    model = FaceModel.load()
    mean, basis = model.mean.astype(np.float64), model.basis.astype(np.float64)
    gaps = [(13, 14, 0.45), (159, 145, 0.19), (386, 374, 0.19)]
    rows = np.stack([basis[:, low, 1] - basis[:, high, 1] for high, low, _ in gaps])
    wanted = np.array([gap - (mean[low, 1] - mean[high, 1]) for high, low, gap in gaps])
    spread = (model.deviation.astype(np.float64) ** 2)[:, None] * rows.T
    expression = spread @ np.linalg.solve(rows @ spread, wanted)
    opened = mean + np.einsum("k,kvd->vd", expression, basis)
    return upright(mean, mean), upright(mean, opened)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the asset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ASSET)
    options = parser.parse_args(argv)
    arrays = build(*opened_mean())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
