"""Bends a picture so that the face in it takes other landmarks: how enrolment makes up expressions.

A ring around the face stays where it is; the skin between it and the face gives way. Inside lips and between lids
nothing is bent: whoever opens a mouth paints what is in it.
"""

from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.models.topology import FACE_OVAL, load_topology
from mien.protocol.state import LANDMARK_COUNT

STILL_REACH: Final = 1.6  # where nothing moves any more: so many times as far out as the face oval


@cache
def skin_triangles() -> NDArray[np.intp]:
    """Return the triangles of skin, eyes and the strip to the ring that stays, [n, 3]; the ring is numbered last."""
    topology = load_topology()
    inner, outer = np.array(FACE_OVAL), LANDMARK_COUNT + np.arange(len(FACE_OVAL))
    after_inner, after_outer = np.roll(inner, -1), np.roll(outer, -1)
    strip = [np.stack([inner, outer, after_outer], 1), np.stack([inner, after_outer, after_inner], 1)]
    return np.concatenate([*strip, topology.skin, topology.eyes]).astype(np.intp)


def with_still_ring(landmarks: NDArray[np.floating], around: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return landmarks [478, 2 or more] in x and y, then the ring around the face of landmarks `around`."""
    oval = around[list(FACE_OVAL), :2].astype(np.float64)
    ring = oval.mean(0) + STILL_REACH * (oval - oval.mean(0))
    return np.concatenate([landmarks[:, :2].astype(np.float64), ring])


def bend(
    rgb: NDArray[np.uint8], landmarks: NDArray[np.floating], wanted: NDArray[np.floating]
) -> NDArray[np.uint8]:
    """Return the picture, uint8 [h, w, 3] or [h, w], with the face at `landmarks` [478, 3] brought to `wanted`."""
    height, width = rgb.shape[:2]
    x, y = backward_map(
        with_still_ring(wanted, landmarks), with_still_ring(landmarks, landmarks), width, height
    )
    return np.asarray(cv2.remap(rgb, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def backward_map(
    target: NDArray[np.float64], source: NDArray[np.float64], width: int, height: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return where each pixel [height, width] of the bent picture comes from, as `cv2.remap` wants it.

    `target`, `source` [v, 2] are the mesh after and before, pixels. Outside of the mesh every pixel stays.
    """
    y_out, x_out = (a.astype(np.float32) for a in np.mgrid[0:height, 0:width])
    moved = np.abs(target - source).max(1) > 1e-3
    for triangle in skin_triangles():
        if not moved[triangle].any():
            continue
        corners = target[triangle]
        low = np.maximum(np.floor(corners.min(0) - 0.5), 0).astype(int)
        high = np.minimum(np.ceil(corners.max(0) + 0.5), [width, height]).astype(int)
        edges = corners[1:] - corners[0]
        area = edges[0, 0] * edges[1, 1] - edges[0, 1] * edges[1, 0]
        if (high <= low).any() or abs(area) < 1e-6:
            continue
        y, x = np.mgrid[low[1] : high[1], low[0] : high[0]]
        dx, dy = x + 0.5 - corners[0, 0], y + 0.5 - corners[0, 1]
        u = (dx * edges[1, 1] - dy * edges[1, 0]) / area
        v = (dy * edges[0, 0] - dx * edges[0, 1]) / area
        inside = (u >= -1e-6) & (v >= -1e-6) & (u + v <= 1 + 1e-6)
        if not inside.any():
            continue
        a, b, c = source[triangle]
        at = a + u[inside, None] * (b - a) + v[inside, None] * (c - a) - 0.5
        x_out[y[inside], x[inside]], y_out[y[inside], x[inside]] = at[:, 0], at[:, 1]
    return x_out, y_out
