"""The side of a face that no reference shows: the other one, mirrored.

Somebody who was enrolled looking to one side only has a cheek that was never seen. Where it turns up, stretched
pixels of the outline would be drawn, or background. Faces are alike on both sides, so one reference is added, mirrored,
for skin that none shows; its light is brought to that of the side which is seen.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.decoder.framing import Framing
from mien.decoder.reference_picture import ReferencePicture
from mien.models.alignment import align
from mien.models.face_model import FaceModel
from mien.models.face_sides import opposite, sideways
from mien.models.rotation import rotation_matrix, rotation_vector
from mien.models.topology import load_topology
from mien.protocol.state import LANDMARK_COUNT

# Seen by no reference, by the mirrored one well; and from how many landmarks on that is worth a texture.
HIDDEN: Final = 0.35
SHOWN: Final = 0.5
LEAST_GAIN: Final = 15
LEAST_COMMON: Final = 12  # landmarks that light is compared at
# How well a mirrored place counts as seen: a real one that is seen well is better.
TRUST: Final = 0.75
NEVER: Final = -10.0
# How much of a landmark may belong to mouth, eye or brow: these are not alike on both sides at any instant.
FEATURE: Final = 0.05
SIDE: Final = 0.55  # from here on outwards, inter-pupil distances from the middle: beside the nose
MOST_LIGHT: Final = 0.5  # log of the gain that light is corrected by
# Difference of cosines to the line of sight: so much more ahead a place must be to be shown by it.
REVEALED: Final = (0.04, 0.14)
NO_SLOT: Final = 1 << 16  # no ring offsets were measured for it


@cache
def all_skin() -> NDArray[np.bool_]:
    """Return which landmarks are skin, bool [478]."""
    return np.asarray(load_topology().regions.sum(1) < FEATURE)


@cache
def plain_sides() -> NDArray[np.bool_]:
    """Return which landmarks are skin of cheeks and temples, bool [478]."""
    return np.asarray(all_skin() & (np.abs(sideways()[1]) > SIDE))


def mirrored(reference: ReferencePicture, framing: Framing) -> ReferencePicture:
    """Return a reference as a mirror shows it, with the expression that it has."""
    landmarks = np.array(reference.landmarks, np.float64)[opposite()]
    landmarks[:, 0] = framing.width - landmarks[:, 0]
    rigid = FaceModel.load().rigid
    placed = align(reference.shape[rigid].astype(np.float64), landmarks[None, rigid])
    pose = np.empty(6)
    pose[:3] = rotation_vector(placed.rotation[0])
    pose[3] = np.log(float(placed.scale[0]) / framing.unit_px)
    pose[4:] = (placed.translation[0, :2] - [framing.width / 2, framing.height / 2]) / framing.unit_px
    return replace(
        reference,
        rgb=np.ascontiguousarray(reference.rgb[:, ::-1]),
        matte=None if reference.matte is None else np.ascontiguousarray(reference.matte[:, ::-1]),
        landmarks=landmarks,
        pose=pose,
        slot=NO_SLOT,
        mirrored=True,
    )


def find_far_side(
    references: Sequence[ReferencePicture], seen: NDArray[np.floating], framing: Framing
) -> ReferencePicture | None:
    """Return a mirrored reference that shows skin which none of `references` shows; None where it is not worth it.

    `seen` [v, r] says how well references show each vertex. Of several that would do, the one that shows most of it.
    """
    skin = plain_sides()
    face = seen[:LANDMARK_COUNT] * [not one.made_up for one in references]
    missing = skin & (face.max(1) < HIDDEN)
    gains = (missing[:, None] & (face[opposite()] > SHOWN)).sum(0)
    best = int(np.argmax(gains))
    if gains[best] < LEAST_GAIN:
        return None
    real = references[best]
    other = mirrored(real, framing)
    both = all_skin() & (face[:, best] > SHOWN) & (face[opposite(), best] > SHOWN)
    return replace(other, rgb=relit(other, real, np.flatnonzero(both), framing))


def far_side_seen(seen: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how much say a mirrored reference has at each vertex, from how well it shows them, [v]."""
    out = np.full(len(seen), NEVER)
    out[:LANDMARK_COUNT] = np.where(plain_sides(), TRUST * seen[:LANDMARK_COUNT], NEVER)
    return out


def most_ahead(outwards: NDArray[np.float64], turns: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return how far each landmark faces the camera at best with heads turned like `turns` [r, 3]: cosines [478].

    `outwards` [478, 3] are the face's normals in model space.
    """
    ahead = [outwards @ rotation_matrix(np.asarray(turn, np.float64))[2] for turn in turns]
    return np.asarray(np.max(ahead, axis=0))


def revealed(
    outwards: NDArray[np.float64], known: NDArray[np.float64], turn: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return which landmarks a head turned so, [3], shows better than is `known` (`most_ahead`): [478], 0 to 1."""
    low, high = REVEALED
    t = np.clip((most_ahead(outwards, turn[None]) - known - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def relit(
    picture: ReferencePicture, real: ReferencePicture, common: NDArray[np.intp], framing: Framing
) -> NDArray[np.uint8]:
    """Return a mirrored picture in the light of the real one: a gain for each colour, its log a plane.

    `common` are numbers of landmarks that both show.
    """
    if len(common) < LEAST_COMMON:
        return picture.rgb
    size = np.array([framing.width, framing.height])
    here, there = (p.landmarks[common, :2] / size for p in (picture, real))
    ratio = np.log((colours(real.rgb, there) + 8) / (colours(picture.rgb, here) + 8))
    design = np.c_[np.ones(len(here)), here]
    keep = np.eye(3) * [1e-3, 1e-1, 1e-1]
    plane = np.linalg.solve(design.T @ design + keep, design.T @ ratio)
    height, width = picture.rgb.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    places = np.stack([np.ones_like(x, np.float32), (x + 0.5) / width, (y + 0.5) / height], 2)
    gain = np.exp(np.clip(places.astype(np.float32) @ plane.astype(np.float32), -MOST_LIGHT, MOST_LIGHT))
    return np.asarray(np.clip(np.rint(picture.rgb * gain), 0, 255), np.uint8)


def colours(rgb: NDArray[np.uint8], at: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the colours [n, 3] of a picture at places [n, 2], shares of it."""
    height, width = rgb.shape[:2]
    x = np.clip(at[:, 0] * width, 0, width - 1).astype(np.intp)
    y = np.clip(at[:, 1] * height, 0, height - 1).astype(np.intp)
    return np.asarray(rgb[y, x], np.float64)
