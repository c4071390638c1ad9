"""The same picture as `gl_renderer` draws, in plain NumPy: for machines without EGL, and to check the shader."""

import numpy as np
from numpy.typing import NDArray

from mien.decoder.mesh import mesh_triangles
from mien.decoder.sampling import beyond, bilinear, within, within_reach
from mien.decoder.scene import Drawing, Scene

# A face covers its picture about twice. A mesh that hostile numbers have folded over and over is cut short: it
# shows nothing anyway, and would take memory and time in proportion.
MAX_OVERDRAW = 16


class NumpyRenderer:
    """Scan-converts the mesh with array operations; a few frames a second at 512 x 512."""

    device = "NumPy"
    corrector = None

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._textures = scene.textures.astype(np.float32)
        self._plate = scene.plate.astype(np.float32)

    def draw(self, drawing: Drawing) -> NDArray[np.uint8]:
        """Return the picture, RGB uint8 [height, width, 3]."""
        scene = self._scene
        pixel, triangle, corner = visible_pixels(drawing.positions, scene.width, scene.height)
        vertices = mesh_triangles().all[triangle].astype(np.intp)
        weights = np.einsum("pc,pcr->pr", corner, drawing.weights[vertices])
        total, said = np.zeros((len(pixel), 4), np.float32), np.zeros((len(pixel), 1), np.float32)
        behind = self.behind(pixel)
        trust = behind[:, 3:] / 255
        for layer, texture in enumerate(self._textures):
            here = np.flatnonzero(weights[:, layer] > 0)
            if not len(here):
                continue
            uv = np.einsum("pc,pcd->pd", corner[here], scene.uv[vertices[here], layer])
            sample = bilinear(texture, within(uv))
            say = weights[here, layer, None] * within_reach(uv)
            said[here] += say
            person, out = sample[:, 3:] / 255, beyond(uv)
            opaque = 1 - trust[here] + (trust[here] - out) * person
            sample[:, :3] *= opaque
            sample[:, 3:] = opaque
            total[here] += say * sample
        picture = np.zeros((scene.height * scene.width, 3), np.uint8)
        total /= np.maximum(said, 1e-6)
        total = total[:, :3] + (1 - total[:, 3:]) * behind[:, :3]
        dark = np.einsum("pc,pc->p", corner, drawing.cavity[vertices])[:, None]
        picture[pixel] = np.round(total + dark * (np.array(scene.cavity_rgb, np.float32) - total))
        return picture.reshape(scene.height, scene.width, 3)

    def behind(self, pixel: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the plate at pixel numbers [n]: float32 [n, 4], RGB and trust, 0 to 255."""
        at = np.stack([pixel % self._scene.width, pixel // self._scene.width], 1) + np.float32(0.5)
        uv = np.asarray(at * self._scene.plate_scale + self._scene.plate_offset, np.float32)
        return bilinear(self._plate, within(uv))

    def close(self) -> None:
        """Nothing to free."""


def visible_pixels(
    positions: NDArray[np.float32], width: int, height: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Scan-convert the mesh: pixel numbers [n], the triangle in front there [n], its barycentric weights [n, 3]."""
    triangles = mesh_triangles().all.astype(np.intp)
    p = positions.astype(np.float64)[triangles]  # [t, 3 corners, 3]
    index, row = rows_of(p[:, :, 1], height)
    left, right = spans_of(p[index], np.asarray(row + 0.5, np.float64))
    first = np.clip(np.ceil(left - 0.5), 0, width).astype(np.intp)
    last = np.clip(np.ceil(right - 0.5), 0, width).astype(np.intp)
    length = np.maximum(last - first, 0)
    length[np.cumsum(length) > MAX_OVERDRAW * width * height] = 0
    which = np.repeat(np.arange(len(index)), length)
    x = np.arange(len(which)) - np.repeat(np.cumsum(length) - length, length) + first[which]
    y, t = row[which], index[which]
    corner = barycentric(p[t], np.asarray(x + 0.5, np.float64), np.asarray(y + 0.5, np.float64))
    depth = (corner * p[t, :, 2]).sum(1)
    pixel = y * width + x
    order = np.argsort(-depth, kind="stable")  # far first: the nearest is written last
    front = np.full(width * height, -1, np.intp)
    front[pixel[order]] = order
    shown = front[front >= 0]
    return pixel[shown], t[shown], corner[shown].astype(np.float32)


def rows_of(y: NDArray[np.float64], height: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return every pair (triangle, picture row whose centre it reaches) for corner heights [t, 3]."""
    first = np.clip(np.ceil(y.min(1) - 0.5), 0, height).astype(np.intp)
    last = np.clip(np.ceil(y.max(1) - 0.5), 0, height).astype(np.intp)
    count = np.maximum(last - first, 0)
    index = np.repeat(np.arange(len(y)), count)
    row = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count) + first[index]
    return index, row


def spans_of(
    corners: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the horizontal line at height y [n] enters and leaves triangles [n, 3, 3]."""
    left, right = np.full(len(y), np.inf), np.full(len(y), -np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        a, b = corners[:, i], corners[:, j]
        cut = (a[:, 1] <= y) != (b[:, 1] <= y)
        with np.errstate(divide="ignore", invalid="ignore"):
            x = a[:, 0] + (y - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
        left = np.where(cut, np.minimum(left, x), left)
        right = np.where(cut, np.maximum(right, x), right)
    missed = ~np.isfinite(left) | ~np.isfinite(right)
    return np.where(missed, 0.0, left), np.where(missed, 0.0, right)


def barycentric(
    corners: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the barycentric weights [n, 3] of points in triangles [n, 3, 3]."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])
    area = np.where(np.abs(area) < 1e-12, 1e-12, area)
    u = ((x - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (y - a[:, 1])) / area
    v = ((b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (x - a[:, 0]) * (b[:, 1] - a[:, 1])) / area
    return np.asarray(np.clip(np.stack([1 - u - v, u, v], 1), 0, 1))
