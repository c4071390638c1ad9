"""Tier S: a small coded picture of the person moves and lights what the references show, and is painted where they fail.

Hair, shoulders, hands, light and background are in no coefficient. Seven or eight times a second a picture of 128 x
128 pixels or so says where they are. Shown by itself it would be a smear, so what is drawn from the references stays,
and

1. is moved: dense optical flow (DIS: Kroeger et al., 2016) from what was drawn at the picture's tick towards the
   picture, outside the face's oval, because within it the face model knows better;
2. is lit: the slow part of what still differs is added, in the face as a plane of colour;
3. gives way to the picture where the two still differ: hands, hair let down, somebody walking by.

The generator, where there is one, then decides anew how far each of the three goes (`mien.models.generator_fields`).
The three together are a `Correction`. It is measured at the picture's own tick, smoothed over time, and carried to
any other instant by the mesh: each place of it sticks to the skin, hair or wall that it was measured on. Between
two corrections both are carried and mixed, so nothing jumps with each picture.
"""

import logging
import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.decoder.mesh import mesh_triangles, outline_of
from mien.decoder.numpy_renderer import visible_pixels
from mien.decoder.scene_decoder import ScenePicture
from mien.models.generator_fields import DIVISOR, Network, Situation, fits, refined
from mien.protocol.errors import MienError

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]

# What follows is in pixels of the grid (about 128 x 128), colours in 8-bit steps. Found on four clips (SSIM, GMSD and
# edge energy against flicker); none of it is steep.
OVAL_GROWTH: Final = 1.08  # the oval and its blurred rim in the picture
OVAL_FEATHER: Final = 1.5
FLOW_SIGMA: Final = 1.5
LIGHT_SIGMA: Final = 12.0
ERROR_SIGMA: Final = 2.0
# Fall of the error around a place up to which flow is not believed there; from which on it is.
GAIN: Final = (-2.0, 0.5)
PAINTED: Final = (3.0, 9.0)  # difference from which on the picture shows; shows alone
DETAIL_SIGMA: Final = 1.2  # what is finer counts for no difference
PAINTED_SIGMA: Final = 1.0
SHARPER: Final = 0.3  # of a picture's detail is added where it is painted: its coder has left some out
SHARPER_SIGMA: Final = 1.0
FRESH: Final = 0.3  # share of a new correction, the rest being what was there before, where that still fits
STALE: Final = (0.5, 2.5)  # by so much less wrong than what was there before: begins to count alone; does
MAX_LIGHT: Final = 60.0
LIGHT_ZERO: Final = 128  # what no light is, in 8 bits
LEAST_PAINT: Final = 1 / 512  # less of it is not seen
MAX_FLOW: Final = 24.0
MESH_SHARE: Final = 4  # the mesh's motion is measured on a grid so many times coarser
KEPT: Final = 4  # corrections
MAX_PICTURES_PER_S: Final = 15
# A picture that old (ticks) begins to be forgotten; is forgotten.
FORGOTTEN_S: Final = (0.6, 1.6)


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What a picture says, on the grid [gh, gw], at its tick.

    `flow` [gh, gw, 2]: a place shows what was drawn so far from it, grid pixels; `light` [gh, gw, 3] is added to
    it; `paint` [gh, gw] is the share of `picture` [gh, gw, 3] in its stead. `positions` [v, 3] are the mesh's
    vertices at that tick in grid pixels.
    """

    tick: int
    positions: Floats
    flow: Floats
    light: Floats
    paint: Floats
    picture: Floats

    def fields(self) -> Floats:
        """Return flow, light, paint and picture in one array, float32 [gh, gw, 9]."""
        return np.concatenate([self.flow, self.light, self.paint[..., None], self.picture], 2)

    def parts(self) -> "Parts":
        """Return the same as OpenCV likes it."""
        moving = np.dstack([self.flow, self.paint])
        return moving, np.ascontiguousarray(self.light), np.ascontiguousarray(self.picture)


# Flow and paint, light, picture: float32 [gh, gw, 3] each.
Parts = tuple[Floats, Floats, Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """A correction, where the mesh was at its tick, and how much it says: of all of a blend together 1."""

    positions: Floats
    parts: Parts
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """How one picture is to be corrected: by the correction before it and the one after, or by one of them.

    `positions` [v, 3] is the mesh now, grid pixels; flow and paint count by `outside` [gh, gw, 1], all by `strength`.
    """

    positions: Floats
    shares: tuple[Share, ...]
    outside: Floats
    strength: np.float32

    @property
    def grid(self) -> tuple[int, int]:
        """Width and height of the fields."""
        return self.outside.shape[1], self.outside.shape[0]


# Does as `corrected`, somewhere else.
Corrector = Callable[[NDArray[np.uint8], Blend], NDArray[np.uint8]]


class SceneLayer:
    """The corrections of one stream, drawn at one size. Give it pictures in order of their ticks."""

    def __init__(
        self,
        *,
        width: int,
        height: int,
        stream_width: int,
        stream_height: int,
        tick_rate: Fraction,
        generator: Network | None = None,
    ) -> None:
        """`width` x `height` is the picture that is drawn, which covers the stream's in its middle.

        `generator`: improves each correction; one that raises `MienError` is not asked again.
        """
        self._size = (width, height)
        self._tick_rate = tick_rate
        self._least_gap = max(1, math.ceil(tick_rate / MAX_PICTURES_PER_S))
        zoom = max(width / stream_width, height / stream_height)
        # The part of the stream's picture that is drawn: share of its width and height, around the middle.
        self._shown = (width / zoom / stream_width, height / zoom / stream_height)
        self._grid: tuple[int, int] | None = None
        self._corrections: list[Correction] = []
        self._parts: dict[int, Parts] = {}  # of each of them, by tick
        self._plain: Correction | None = None  # the newest as it was without the generator
        self._generator = generator
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    @property
    def known_from(self) -> int:
        """The tick from which on all corrections are still here; 0: no one is gone."""
        return self._corrections[0].tick if len(self._corrections) == KEPT else 0

    @property
    def newest_tick(self) -> int | None:
        """The tick of the newest picture."""
        return self._corrections[-1].tick if self._corrections else None

    @property
    def newest(self) -> Correction | None:
        """What the newest picture says."""
        return self._corrections[-1] if self._corrections else None

    def add(self, picture: ScenePicture, drawn: NDArray[np.uint8], positions: NDArray[np.floating]) -> None:
        """Take a picture. `drawn` [h, w, 3] and the mesh's `positions` [v, 3] are what is drawn at its tick."""
        newest = self.newest_tick
        if newest is not None and picture.tick < newest + self._least_gap:
            return  # out of order, or more of them than make sense: each costs two drawings
        seen = self._visible(picture.rgb)
        if self._grid is None or self._grid != (seen.shape[1], seen.shape[0]):
            self._corrections.clear()
            self._grid = (seen.shape[1], seen.shape[0])
        small = np.asarray(cv2.resize(drawn, self._grid, interpolation=cv2.INTER_AREA), np.uint8)
        placed = self._on_grid(positions)
        before = plain_before = None
        if self._corrections and self._plain is not None:
            under = MeshNow(placed, self._grid)
            before = carried(self._corrections[-1], under)
            plain_before = before if self._plain is self._corrections[-1] else carried(self._plain, under)
        plain = self._measured(picture.tick, seen, small, placed, plain_before, face=picture.face)
        self._plain = plain
        correction = self._refined(plain, seen, small, before, face=picture.face)
        self._corrections = [*self._corrections[1 - KEPT :], correction]
        # A generator restores the detail by itself.
        shown = sharpened(plain) if correction is plain else correction
        self._parts = {c.tick: self._parts[c.tick] for c in self._corrections[:-1]}
        self._parts[correction.tick] = shown.parts()

    def paint(
        self, drawn: NDArray[np.uint8], positions: NDArray[np.floating], position: Fraction | int
    ) -> NDArray[np.uint8]:
        """Return what is drawn at a position (ticks), corrected: RGB uint8 [height, width, 3]."""
        blend = self.blend(positions, position)
        return drawn if blend is None else corrected(drawn, blend)

    def blend(self, positions: NDArray[np.floating], position: Fraction | int) -> "Blend | None":
        """Return how what is drawn at a position (ticks) is to be corrected; None: not at all."""
        around = self._around(position)
        if not around or self._grid is None:
            return None
        placed = self._on_grid(positions)
        return Blend(
            placed,
            tuple(Share(c.positions, self._parts[c.tick], share) for c, share in around),
            outside_face(placed, self._grid),
            self._strength(position),
        )

    def _around(self, position: Fraction | int) -> list[tuple[Correction, float]]:
        """Return the corrections before and after a position with their shares; those of no share are left out."""
        ticks = [c.tick for c in self._corrections]
        after = bisect_right(ticks, position)
        if after == 0:
            return [(self._corrections[0], 1.0)] if ticks else []
        left = self._corrections[after - 1]
        if after == len(ticks) or position == left.tick:
            return [(left, 1.0)]
        right = self._corrections[after]
        share = float((position - left.tick) / (right.tick - left.tick))
        return [(left, 1 - share), (right, share)]

    def _strength(self, position: Fraction | int) -> np.float32:
        """Return how much of an old picture still holds."""
        age_s = float((position - (self.newest_tick or 0)) / self._tick_rate)
        low, high = FORGOTTEN_S
        return np.float32(np.clip((high - age_s) / (high - low), 0, 1))

    def _visible(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the part of a picture that is drawn."""
        height, width = rgb.shape[:2]
        across, down = self._shown
        if min(across, down) > 0.999 and fits(width, height):
            return rgb
        size = grid_side(across * width), grid_side(down * height)
        scale = np.array([across * width / size[0], down * height / size[1]])
        offset = (np.array([width, height]) - scale * size) / 2 + scale / 2 - 0.5
        matrix = np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(rgb, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
        )

    def _on_grid(self, positions: NDArray[np.floating]) -> Floats:
        grid = self._grid or (1, 1)
        scale = grid[0] / self._size[0], grid[1] / self._size[1], 1.0
        return np.asarray(positions * np.array(scale), np.float32)

    def _measured(
        self,
        tick: int,
        seen: NDArray[np.uint8],
        drawn: NDArray[np.uint8],
        positions: Floats,
        before: Floats | None,
        *,
        face: bool,
    ) -> Correction:
        assert self._grid is not None
        outside = outside_face(positions, self._grid)
        here, there = seen.astype(np.float32), drawn.astype(np.float32)
        flow = self._flow(seen, drawn, outside, None if before is None else before[..., :2])
        if before is not None:
            flow = self._steadied(flow, before[..., :2], here, there)
        moved = shifted(there, flow)
        light = slow_light(here - moved, outside, positions, self._grid, face=face)
        if before is not None:
            light = before[..., 2:5] + FRESH * (light - before[..., 2:5])
        # Blurred first: detail that the coder left out is no sign of anything else being there.
        apart = blurred(here - moved - light, DETAIL_SIGMA)
        rest = blurred(np.abs(apart).mean(2), PAINTED_SIGMA)
        paint = smoothstep(rest, *PAINTED) * outside[..., 0]
        if before is not None:  # comes at once and goes slowly
            paint = np.maximum(paint, before[..., 5] + FRESH * (paint - before[..., 5]))
        return Correction(tick, positions, flow, light, np.asarray(paint, np.float32), here)

    def _refined(
        self,
        plain: Correction,
        seen: NDArray[np.uint8],
        drawn: NDArray[np.uint8],
        before: Floats | None,
        *,
        face: bool,
    ) -> Correction:
        """Return what the generator makes of a correction; the correction itself without one."""
        if self._generator is None or self._grid is None or not fits(*self._grid):
            return plain
        outside = outside_face(plain.positions, self._grid)
        situation = Situation(seen, drawn, plain.fields(), before, outside, plain.positions, face)
        try:
            fields = refined(situation, self._generator)
        except MienError as error:
            logger.warning("%s; scenes are painted without it from here on", error)
            self._generator = None
            return plain
        return Correction(
            plain.tick,
            plain.positions,
            flow=np.ascontiguousarray(fields[..., :2]),
            light=np.ascontiguousarray(fields[..., 2:5]),
            paint=np.ascontiguousarray(fields[..., 5]),
            picture=np.ascontiguousarray(fields[..., 6:]),
        )

    def _steadied(self, flow: Floats, before: Floats, here: Floats, there: Floats) -> Floats:
        """Return a flow drawn to the one before it, except where that one has become wrong."""
        wrong = blurred(np.abs(here - shifted(there, before)).mean(2), ERROR_SIGMA)
        right = blurred(np.abs(here - shifted(there, flow)).mean(2), ERROR_SIGMA)
        fresh = FRESH + (1 - FRESH) * smoothstep(wrong - right, *STALE)[..., None]
        return np.asarray(before + fresh * (flow - before), np.float32)

    def _flow(
        self, seen: NDArray[np.uint8], drawn: NDArray[np.uint8], outside: Floats, guess: Floats | None
    ) -> Floats:
        """Return from where in `drawn` each place of `seen` comes, 0 in the face and where that is no better."""
        a, b = grey(seen), grey(drawn)
        # The same face in both: a filled one must not draw hair into it.
        share = outside[..., 0]
        a = np.asarray(np.rint(a * share + b * (1 - share)), np.uint8)
        start = np.zeros((*a.shape, 2), np.float32) if guess is None else np.ascontiguousarray(guess)
        flow = np.asarray(self._dis.calc(a, b, start), np.float32)
        flow = blurred(np.clip(flow, -MAX_FLOW, MAX_FLOW), FLOW_SIGMA)
        here, there = seen.astype(np.float32), drawn.astype(np.float32)
        held = blurred(np.abs(here - there).mean(2), ERROR_SIGMA)
        moved = blurred(np.abs(here - shifted(there, flow)).mean(2), ERROR_SIGMA)
        return np.asarray(flow * smoothstep(held - moved, *GAIN)[..., None] * outside, np.float32)


def sharpened(correction: Correction) -> Correction:
    """Return a correction whose picture has a little more of the detail that it has."""
    picture = correction.picture
    detail = picture - blurred(picture, SHARPER_SIGMA)
    return replace(correction, picture=np.clip(picture + np.float32(SHARPER) * detail, 0, 255))


def grid_side(places: float) -> int:
    """Return the nearest length of a grid that a generator can look at."""
    return DIVISOR * max(2, round(places / DIVISOR))


def corrected(drawn: NDArray[np.uint8], blend: Blend) -> NDArray[np.uint8]:
    """Return a drawn picture, RGB uint8 [height, width, 3], corrected."""
    under = MeshNow(blend.positions, blend.grid)
    mixed: list[Floats] = []
    for share in blend.shares:
        at = under.was_at(share.positions)
        there: list[Floats] = [remapped(part, at) for part in share.parts]
        if mixed:
            there = [a + np.float32(share.share) * (b - a) for a, b in zip(mixed, there, strict=True)]
        mixed = there
    moving, light, picture = mixed
    return painted(drawn, moving * (blend.strength * blend.outside), light * blend.strength, picture)


def composed(drawn: NDArray[np.uint8], fields: Floats) -> NDArray[np.uint8]:
    """Return a drawn picture moved, lit and painted over by fields [gh, gw, 9] (see `Correction.fields`)."""
    return painted(drawn, fields[..., [0, 1, 5]], fields[..., 2:5], fields[..., 6:])


def painted(drawn: NDArray[np.uint8], moving: Floats, light: Floats, picture: Floats) -> NDArray[np.uint8]:
    """Return a drawn picture, RGB uint8 [height, width, 3], corrected by `Parts`."""
    height, width = drawn.shape[:2]
    gh, gw = moving.shape[:2]
    size = width, height
    scale = np.array([width / gw, height / gh, 1], np.float32)
    x, y, share = cv2.split(cv2.resize(moving * scale, size))
    columns, rows = columns_and_rows(width, height)
    # Cubic, because linear sampling would soften what was sharp.
    x, y = cv2.add(x, columns, dst=x), cv2.add(y, rows, dst=y)
    moved = cv2.remap(drawn, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    grey = np.clip(np.rint(light + LIGHT_ZERO), 0, 255).astype(np.uint8)
    lit = cv2.addWeighted(moved, 1, cv2.resize(grey, size), 1, -LIGHT_ZERO, dst=moved)
    shown = np.flatnonzero(moving[..., 2].max(1) > LEAST_PAINT)
    if len(shown):  # only the rows where there is any
        first, last = (max(0, shown[0] - 1) * height) // gh, min(height, -(-(shown[-1] + 2) * height // gh))
        small = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
        large = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)[first:last]
        part = share[first:last]
        lit[first:last] = cv2.blendLinear(lit[first:last], large, 1 - part, part)
    return np.asarray(lit, np.uint8)


def slow_light(
    difference: Floats, outside: Floats, positions: Floats, grid: tuple[int, int], *, face: bool
) -> Floats:
    """Return the slow part [gh, gw, 3] of a difference; in a face that the picture does not show, a plane of colour."""
    weight = np.ones_like(outside) if face else outside
    mass = np.maximum(blurred(weight[..., 0], LIGHT_SIGMA), 0.02)
    light = blurred(difference * weight, LIGHT_SIGMA) / mass[..., None]
    if not face:
        inside = face_mask(positions, grid, 1.0) > 0.5
        light = light * outside + plane(difference, inside) * (1 - outside)
    return np.asarray(np.clip(light, -MAX_LIGHT, MAX_LIGHT), np.float32)


def plane(values: Floats, where: NDArray[np.bool_]) -> Floats:
    """Return the plane [h, w, c] nearest to values [h, w, c] at the places marked; 0 where they are too few."""
    y, x = np.nonzero(where)
    if len(y) < 8:
        return np.zeros_like(values)
    height, width = where.shape
    terms = np.stack([x / width - 0.5, y / height - 0.5, np.ones(len(x))], 1)
    slopes = np.linalg.lstsq(terms, values[y, x].astype(np.float64), rcond=None)[0]
    rows, columns = np.mgrid[:height, :width]
    everywhere = np.stack([columns / width - 0.5, rows / height - 0.5, np.ones((height, width))], 2)
    return np.asarray(everywhere @ slopes, np.float32)


def outside_face(positions: Floats, grid: tuple[int, int]) -> Floats:
    """Return float32 [gh, gw, 1]: 0 in the face's oval and its rim, 1 outside, soft between."""
    inside = blurred(face_mask(positions, grid, OVAL_GROWTH), OVAL_FEATHER)
    return np.asarray(1 - inside[..., None], np.float32)


def face_mask(positions: Floats, grid: tuple[int, int], growth: float) -> Floats:
    """Return float32 [gh, gw]: 1 in the face's tracked oval, which the sender has filled, made larger by `growth`."""
    oval = outline_of(positions)
    middle = oval.mean(0)
    oval = np.clip(middle + growth * (oval - middle), -4096, 4096)
    mask = np.zeros((grid[1], grid[0]), np.uint8)
    hull = cv2.convexHull(np.rint(oval * 16).astype(np.int32))
    cv2.fillPoly(mask, [hull], 255, cv2.LINE_AA, 4)
    return np.asarray(mask, np.float32) / np.float32(255)


class MeshNow:
    """Which triangle of the mesh each place of the grid lies in now; found once, asked for several instants."""

    def __init__(self, positions: Floats, grid: tuple[int, int]) -> None:
        self._grid = grid
        self._size = max(2, grid[0] // MESH_SHARE), max(2, grid[1] // MESH_SHARE)
        scale = np.array([self._size[0] / grid[0], self._size[1] / grid[1], 1.0])
        self._positions = positions
        pixel, triangle, corner = visible_pixels((positions * scale).astype(np.float32), *self._size)
        self._pixel, self._corner = pixel, corner
        self._vertices = mesh_triangles().all[triangle].astype(np.intp)

    def was_at(self, then: Floats) -> Floats:
        """Return where each place was when the mesh was `then`: float32 [gh, gw, 2], array indices."""
        apart = (then - self._positions)[self._vertices, :2]
        width, height = self._size
        motion = np.zeros((width * height, 2), np.float32)
        motion[self._pixel] = np.einsum("pc,pcd->pd", self._corner, apart)
        large = cv2.resize(motion.reshape(height, width, 2), self._grid)
        return np.asarray(indices(*self._grid) + large, np.float32)


def carried(correction: Correction, now: MeshNow) -> Floats:
    """Return a correction's fields where the mesh now has them."""
    return remapped(correction.fields(), now.was_at(correction.positions))


def remapped(values: NDArray[np.generic], at: Floats, how: int = cv2.INTER_LINEAR) -> NDArray[np.float32]:
    """Sample values [h, w, c] at array indices [h, w, 2]; beyond the border they stay as at it."""
    if values.ndim == 3 and values.shape[2] > 4:  # OpenCV's limit
        parts = [remapped(values[..., c : c + 3], at, how) for c in range(0, values.shape[2], 3)]
        return np.concatenate(parts, 2)
    out = cv2.remap(
        np.ascontiguousarray(values), at[..., 0], at[..., 1], how, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(out, np.float32)


def shifted(values: NDArray[np.generic], flow: Floats, how: int = cv2.INTER_LINEAR) -> NDArray[np.float32]:
    """Return values [h, w, c] at each place plus its flow [h, w, 2]."""
    height, width = flow.shape[:2]
    return remapped(values, np.asarray(indices(width, height) + flow, np.float32), how)


@lru_cache(maxsize=4)
def columns_and_rows(width: int, height: int) -> tuple[Floats, Floats]:
    """Return the column and the row of each place, float32 [height, width] each."""
    both = indices(width, height)
    return np.ascontiguousarray(both[..., 0]), np.ascontiguousarray(both[..., 1])


@lru_cache(maxsize=8)
def indices(width: int, height: int) -> Floats:
    """Return float32 [height, width, 2]: column and row of each place."""
    rows, columns = np.mgrid[:height, :width]
    out = np.stack([columns, rows], 2).astype(np.float32)
    out.setflags(write=False)
    return out


def grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return luma, uint8 [h, w]."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def blurred(values: NDArray[np.floating], sigma: float) -> Floats:
    """Return values [h, w] or [h, w, c], blurred."""
    return np.asarray(cv2.GaussianBlur(np.asarray(values, np.float32), (0, 0), sigma), np.float32)


def smoothstep(values: NDArray[np.floating], low: float, high: float) -> Floats:
    """Rise smoothly from 0 at `low` to 1 at `high`."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
