"""What a renderer draws: an avatar's references laid out as textures, and the posed mesh of one instant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.decoder.blend import Blender, mouth_lack, skin_sharpness_at
from mien.decoder.far_side import far_side_seen, find_far_side, most_ahead
from mien.decoder.framing import Framing, reframe
from mien.decoder.mesh import (
    IRIS_RIMS,
    MOUTH_CORE,
    MOUTH_END,
    MOUTH_RIM,
    RINGS_END,
    VERTEX_COUNT,
    place_vertices,
    ramp,
    to_model_space,
    vertex_normals,
    visibility,
)
from mien.decoder.mouth import MouthSheet, see_teeth
from mien.decoder.plate import make_plate, with_head
from mien.decoder.reference_picture import ReferencePicture
from mien.models.rings import ANCHOR_COUNT, RAYS, default_rings, ring_offset
from mien.models.topology import INNER_LIPS, load_topology
from mien.protocol.state import LANDMARK_COUNT

DEFAULT_CAVITY: Final = (58, 24, 24)  # sRGB, inside a mouth that no reference shows open
MAX_REFERENCES: Final = 8  # what the shader has room for
# Textures up to this many times the drawn size keep the picture sharp; beyond that they would alias.
TEXTURE_SHARE: Final = 2.0
# Textures that are less than twice as fine as the drawn picture are made so many times finer, by a filter better than
# the bilinear one that samples them.
FINER: Final = 2
SOFT_FROM: Final = 0.55
# What can be drawn: a turn of the head, log of its scale, its way from the centre, a vertex's from the origin.
# What was measured between the references' turns of the head is carried on beyond them by as much again, and this.
KNOWN_MARGIN: Final = 0.1  # radians
CAVITY_RIM: Final = 0.55  # how dark the mouth's rim is where its core is all dark
LIPS: Final = list(INNER_LIPS)
INNER_LIPS_MIDDLE: Final = (13, 14)
# Shares of the picture beyond a reference's border at which a place begins to be cut off, and is for good.
CUT_OFF: Final = (-0.02, 0.02)
HAIR: Final = (0.4, 0.7)  # share of the head's motion from which on a place is the head's
WAY_LEFT: Final = (0.0, 0.15)  # from the outermost ring to a reference's border
MAX_TURN_RAD: Final = 1.4
MAX_LOG_SCALE: Final = 1.5
MAX_SHIFT: Final = 12.0
SHAPE_REACH: Final = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """One instant, ready to draw.

    `positions` float32 [v, 3] are pixels of the output (z grows away from the camera), `weights` float32
    [v, r] say how much each reference paints at each vertex, `cavity` float32 [v] how much of it the dark of an
    open mouth covers.
    """

    positions: NDArray[np.float32]
    weights: NDArray[np.float32]
    cavity: NDArray[np.float32]


class Scene:
    """The avatar's side of every drawing: textures, where each vertex lies in them, how the mesh is posed."""

    def __init__(
        self,
        references: Sequence[ReferencePicture],
        *,
        framing: Framing,
        rings: NDArray[np.float32] | None,
        stream: Framing,
        width: int,
        height: int,
        cavity_rgb: tuple[int, int, int] = DEFAULT_CAVITY,
    ) -> None:
        if not references:
            raise ValueError("an avatar without reference pictures cannot be drawn")
        references = references[:MAX_REFERENCES]
        self.cavity_rgb = cavity_rgb
        self.framing, self.stream, self.width, self.height = framing, stream, width, height
        first = references[0]
        self.rings = rings if rings is not None else default_rings(
            first.landmarks.astype(np.float32), first.pose,
            unit_px=framing.unit_px, width=framing.width, height=framing.height,
        )  # fmt: skip
        zoom = max(width / stream.width, height / stream.height) / stream.fitted_into(framing)
        self.unit_px = framing.unit_px * zoom
        poses = np.stack([r.pose for r in references])
        # Only turns: shoulders really go along when the whole person moves.
        margin = np.where(np.arange(6) < 3, KNOWN_MARGIN + np.ptp(poses, axis=0), np.inf)
        self.known = poses.min(0) - margin, poses.max(0) + margin
        places = np.stack([self.places_of(r) for r in references])
        found = find_far_side(references, visibility(places), framing)
        if found is not None:
            kept = with_room(references)
            references = [*(references[i] for i in kept), found]
            places = np.concatenate([places[kept], self.places_of(found)[None]])
            poses = np.concatenate([poses[kept], found.pose[None]])
        self._lay_out_pictures(references, zoom)
        self.residuals = np.stack([self.own_shape(r) - r.shape for r in references])
        self.offsets = np.stack([ring_offset(self.rings, r.slot) for r in references], 1)  # [anchors, r, 2]
        scales = np.exp(poses[:, 3])
        teeth = [see_teeth(r.rgb, r.landmarks[LIPS] * (r.rgb.shape[1] / framing.width)) for r in references]
        self.mouth = MouthSheet.of(places[:, LIPS], scales.tolist(), teeth)
        for i, one in enumerate(np.eye(len(references))):
            places[i, MOUTH_RIM.start : MOUTH_END] = self.mouth.lay(places[i, LIPS], float(scales[i]), one)
        self.uv = np.stack([self.reference_uv(place) for place in places], 1)
        shapes = np.stack([r.shape for r in references])
        seen = visibility(places) * inside(self.uv, self.rings[-RAYS:, 3])
        borrowed = np.array([r.mirrored for r in references])
        for i in np.flatnonzero(borrowed).tolist():
            seen[:, i] = far_side_seen(seen[:, i])
        outwards = vertex_normals(shapes[0], load_topology().skin.astype(np.intp))
        known = most_ahead(outwards, poses[~borrowed, :3])
        self.blender = Blender(
            shapes, poses[:, :3], seen, region_shares(), borrowed, outwards, known,
            skin_sharpness_at(max(width, height)),
        )  # fmt: skip
        self.openings = mouth_gap(shapes)

    def _lay_out_pictures(self, references: Sequence[ReferencePicture], zoom: float) -> None:
        """Make the textures of all references and the plate behind them, which no mirrored one shows."""
        pictures = lay_out([r.rgb for r in references], self.framing, zoom)
        size = pictures.shape[2], pictures.shape[1]
        real = [i for i, r in enumerate(references) if not r.mirrored]
        plate = make_plate(pictures[real], [self.matte_of(references[i], size) for i in real])
        masks = np.zeros(pictures.shape[:3], np.uint8)
        masks[real] = plate.masks
        if plate.masks.any():  # of a mirrored one only the face is shown
            masks[[i for i, r in enumerate(references) if r.mirrored]] = 255
        finer = finer_by(self.framing.width * zoom / size[0])
        fine = finer * size[0], finer * size[1]
        both = zip(pictures, masks, strict=True)
        # RGB, where the person is
        self.textures = np.stack([np.dstack([resized(p, fine), resized(m, fine)]) for p, m in both])
        self.plate = np.concatenate([plate.rgb, plate.trust[..., None]], 2)
        # Where a pixel of the drawn picture lies in the plate: uv = scale * pixel + offset.
        across = np.array([self.framing.width, self.framing.height]) * zoom
        self.plate_scale = np.asarray(1 / across, np.float32)
        self.plate_offset = np.asarray(0.5 - np.array([self.width, self.height]) / 2 / across, np.float32)

    def own_shape(self, reference: ReferencePicture) -> NDArray[np.float64]:
        """Return a reference's landmarks in model space, [478, 3]."""
        framing = self.framing
        return to_model_space(
            reference.landmarks,
            reference.pose,
            unit_px=framing.unit_px,
            width=framing.width,
            height=framing.height,
        )

    def places_of(self, reference: ReferencePicture) -> NDArray[np.float64]:
        """Return where all vertices are in a reference, as `place_vertices` does."""
        offset = ring_offset(self.rings, reference.slot)
        return place_vertices(self.own_shape(reference), reference.pose, self.rings, offset, known=self.known)

    def matte_of(self, reference: ReferencePicture, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        """Return a reference's matte at (width, height), its head complete; None where it has none."""
        if reference.matte is None:
            return None
        return with_head(resized(reference.matte, size), reference.landmarks * (size[0] / self.framing.width))

    def reference_uv(self, place: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return where vertices [v, 3] lie in a reference: float32 [v, 2], 0 to 1 across the picture."""
        size = np.array([self.framing.width, self.framing.height])
        return np.asarray(place[:, :2] * self.framing.unit_px / size + 0.5, np.float32)

    def draw(self, shape: NDArray[np.floating], pose: NDArray[np.floating]) -> Drawing:
        """Pose the mesh: `shape` [478, 3] in model space (expression included), `pose` [6] of the stream."""
        pose = reframe(within_reach(pose), self.stream, self.framing)
        shape = np.clip(np.nan_to_num(shape), -SHAPE_REACH, SHAPE_REACH)
        weights, form = self.blender.weights(shape, pose[:3])
        kept = np.einsum("vr,rvd->vd", form[:LANDMARK_COUNT], self.residuals)
        astray = np.einsum("vr,vrd->vd", form[LANDMARK_COUNT : LANDMARK_COUNT + ANCHOR_COUNT], self.offsets)
        place = place_vertices(shape + kept, pose, self.rings, astray, known=self.known)
        inside_mouth = weights[MOUTH_CORE].mean(0).astype(np.float64)
        place[MOUTH_RIM.start : MOUTH_END] = self.mouth.lay(place[LIPS], float(np.exp(pose[3])), inside_mouth)
        place *= self.unit_px
        place[:, :2] += [self.width / 2, self.height / 2]
        cavity = np.zeros(VERTEX_COUNT, np.float32)
        lack = mouth_lack(float(mouth_gap(shape)), float(weights[MOUTH_CORE].mean(0) @ self.openings))
        cavity[MOUTH_RIM], cavity[MOUTH_CORE] = CAVITY_RIM * lack, lack
        return Drawing(place.astype(np.float32), weights, cavity)


def with_room(references: Sequence[ReferencePicture]) -> list[int]:
    """Return the numbers of the references that stay where one more is to be added: all, or all but the least useful.

    They stand in the order of what they add, but for those that were made up because nothing else shows what they do.
    """
    numbers = list(range(len(references)))
    if len(numbers) >= MAX_REFERENCES:
        numbers.pop(max((i for i in numbers if not references[i].made_up), default=-1) or -1)
    return numbers


def inside(uv: NDArray[np.float32], belongs: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how well references show what lies at uv [v, r, 2] of their pictures: [v, r], 0 where it is cut off.

    The skirt lies outside of all; there it is who shows most of the way, where the border ring goes along with the
    head (`belongs` [36], 0 to 1): elsewhere somebody else's head may be what is shown.
    """
    beyond = np.asarray(np.maximum(-uv, uv - 1).max(2), np.float64)
    seen = 1 - ramp(beyond, *CUT_OFF)
    border = beyond[RINGS_END - 2 * RAYS : RINGS_END - RAYS]
    seen[RINGS_END - RAYS : RINGS_END] = (
        ramp(-border, *WAY_LEFT) * ramp(np.asarray(belongs, np.float64), *HAIR)[:, None]
    )
    return seen


def region_shares() -> NDArray[np.float32]:
    """Return how much each mesh vertex belongs to each region, float32 [v, regions]."""
    regions = load_topology().regions
    out = np.zeros((VERTEX_COUNT, regions.shape[1]), np.float32)
    out[:LANDMARK_COUNT] = regions
    out[MOUTH_RIM.start : MOUTH_END, 0] = 1
    for region, rim in enumerate(IRIS_RIMS, start=1):  # eye_a, eye_b
        out[rim, region] = 1
    return out


def mouth_gap(shape: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the gap between the inner lips of shapes [..., 478, 3], model units."""
    upper, lower = INNER_LIPS_MIDDLE
    return np.asarray(np.maximum(shape[..., lower, 1] - shape[..., upper, 1], 0.0), np.float64)


def within_reach(pose: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the nearest pose [6] that can be drawn: whatever a peer sends, numbers stay sane."""
    out = np.nan_to_num(np.array(pose, np.float64))
    angle = float(np.linalg.norm(out[:3]))
    out[:3] *= min(1.0, MAX_TURN_RAD / max(angle, 1e-9))
    out[3] = np.clip(out[3], -MAX_LOG_SCALE, MAX_LOG_SCALE)
    out[4:] = np.clip(out[4:], -MAX_SHIFT, MAX_SHIFT)
    return out


def lay_out(pictures: Sequence[NDArray[np.uint8]], framing: Framing, zoom: float) -> NDArray[np.uint8]:
    """Return the references at one size, uint8 [r, h, w, 3]: the largest there is, but not above the drawn size."""
    wanted = min(
        max(p.shape[1] for p in pictures) / framing.width,
        max(zoom * TEXTURE_SHARE, 16 / framing.width),
    )
    size = max(2, round(framing.width * wanted)), max(2, round(framing.height * wanted))
    return np.stack([resized(p, size) for p in pictures])


def finer_by(stretch: float) -> int:
    """Return how many times finer textures are laid out that are drawn `stretch` times as large.

    Bilinear sampling between pixels that are about as large as those of the drawn picture softens it.
    """
    return FINER if stretch > SOFT_FROM else 1


def resized(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an RGB or grey picture at (width, height)."""
    if (rgb.shape[1], rgb.shape[0]) == size:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS), np.uint8)
