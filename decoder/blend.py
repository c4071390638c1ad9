"""Which reference shows through where: weights per vertex from the distance of pose and expression.

A pure function of the present shape and pose: the same state gives the same weights, whatever came before,
so a replay that starts in the middle shows what was shown. Weights fall off steeply, so one reference (two
at a border between them) paints a region: averaging many would blur it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.decoder.far_side import revealed
from mien.models.rotation import rotation_matrix
from mien.models.topology import (
    EYE_A,
    EYE_B,
    INNER_LIPS,
    LIDS,
    OUTER_LIPS,
    REGION_NAMES,
    load_topology,
)
from mien.protocol.state import LANDMARK_COUNT

# What one unit of (squared) distance is, per measure: a turn of the head in radians, a mean displacement of
# a region's vertices in model units.
TURN_RAD: Final = 0.10
ROLL_SHARE: Final = 0.25
REGION_UNIT: Final = 0.03
# How much the turn of the head counts for a region beside its own shape.
REGION_TURN: Final = 0.35
# And how much the rest of the face: little, so that regions agree where their own shape leaves it open.
REGION_WHOLE: Final = 0.1
SKIN_SHAPE: Final = 0.15
# A reference whose opening (mouth, eye) is narrower than the present one cannot show what is inside.
LACK_PENALTY: Final = 1.0
STRETCH: Final = 1.25  # so much wider it may be: what is inside is there, a little larger
# What a place costs that a reference does not show, because it is turned away there.
HIDDEN_PENALTY: Final = 6.0
# And what it costs a mirrored reference where the head is not turned farther than others show.
NOT_TURNED_UP: Final = 20.0
# The inside of the mouth is painted fully where references open less than the first share of the present gap, not
# at all from the second on; nor where the mouth is as good as closed.
LACK_RAMP: Final = (0.3, 0.7)
LEAST_OPENING: Final = 0.03
SHARPNESS: Final = 2.0
# The larger a face is drawn, the more pixels apart are two pictures of one skin that a mean lays over each other, and
# the more of its detail is lost: skin and surround are chosen more sharply then. By the drawn picture's longer side.
SKIN_SHARPNESS: Final = (2.0, 4.0)
SKIN_SIZES_PX: Final = (256, 512)
# Skin and surround come from the first reference where others are hardly nearer: two pictures of clothes, hair or
# a hand laid over each other look worse than one that is a little farther.
SECOND_BEST: Final = 1.0
FLOOR: Final = 0.02

_TOPOLOGY = load_topology()
_REGION_VERTICES: Final = (
    np.array([*INNER_LIPS, *OUTER_LIPS]),
    np.array([*EYE_A, *range(468, 473)]),
    np.array([*EYE_B, *range(473, 478)]),
    np.flatnonzero(_TOPOLOGY.regions[:, 3] > 0.5),
)
_OPENINGS: Final = ((13, 14), *LIDS, None)


@dataclass(frozen=True, slots=True, eq=False)
class Blender:
    """The references' shapes [r, 478, 3] (model space, expression included) and rotation vectors [r, 3].

    `visibility` [v, r] says how well each reference shows the skin around each mesh vertex, 0 to 1, `shares`
    [v, regions] how much of each vertex belongs to each of `REGION_NAMES` (the rest is skin, or surround).
    `mirrored` [r] are there for what no other shows (`mien.decoder.far_side`), so it does not matter how they are
    turned, but how far the head is: `outwards` [478, 3] are its normals in model space, `known` [478] how far ahead
    the others show each landmark at best (`most_ahead`). `skin_sharpness` as from `skin_sharpness_at`.
    """

    shapes: NDArray[np.float64]
    turns: NDArray[np.float64]
    visibility: NDArray[np.float64]
    shares: NDArray[np.floating]
    mirrored: NDArray[np.bool_]
    outwards: NDArray[np.float64]
    known: NDArray[np.float64]
    skin_sharpness: float = SHARPNESS

    def weights(
        self, shape: NDArray[np.floating], turn: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return two float32 [v, r], rows summing to 1, for a present shape [478, 3] and rotation [3].

        The first says whose colours show, the second whose form: that of a mirrored face is not the person's.
        """
        turned = self.turn_distance(turn)
        turned[self.mirrored] = turned[~self.mirrored].min()
        regions = np.stack([self.region_distance(i, shape) for i in range(len(REGION_NAMES))])
        whole = regions.mean(0)
        skin = turned + SKIN_SHAPE * whole
        regions = regions + REGION_TURN * turned + REGION_WHOLE * whole
        skin[1:] += SECOND_BEST
        plain = 1 - self.shares.sum(1, keepdims=True)
        distance = self.shares @ regions + plain * skin
        distance += HIDDEN_PENALTY * (1 - self.visibility)
        sharpness = SHARPNESS + (self.skin_sharpness - SHARPNESS) * plain
        if not self.mirrored.any():
            shown = soft_choice(distance, sharpness).astype(np.float32)
            return shown, shown
        turned_up = revealed(self.outwards, self.known, np.asarray(turn, np.float64))
        distance[:LANDMARK_COUNT, self.mirrored] += NOT_TURNED_UP * (1 - turned_up[:, None])
        shown = soft_choice(distance, sharpness).astype(np.float32)
        formed = shown.copy()
        lent = np.flatnonzero((shown[:, self.mirrored] > 0).any(1))
        formed[lent] = 0
        formed[np.ix_(lent, np.flatnonzero(~self.mirrored))] = soft_choice(
            distance[lent][:, ~self.mirrored], sharpness[lent]
        )
        return shown, formed

    def turn_distance(self, turn: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the squared distance [r] between head rotations, in `TURN_RAD`; roll counts little."""
        present = rotation_matrix(np.asarray(turn, np.float64))
        out = np.empty(len(self.turns))
        for i, other in enumerate(self.turns):
            between = rotation_matrix(np.asarray(other, np.float64)) @ present.T
            facing = np.arccos(np.clip(between[2, 2], -1, 1))
            roll = np.arctan2(between[1, 0] - between[0, 1], between[0, 0] + between[1, 1])
            out[i] = (facing**2 + ROLL_SHARE * roll**2) / TURN_RAD**2
        return out

    def region_distance(self, region: int, shape: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the squared distance [r] of a region's shape, in `REGION_UNIT`."""
        vertices = _REGION_VERTICES[region]
        apart = self.shapes[:, vertices, :2] - shape[vertices, :2]
        out = (apart**2).sum(2).mean(1)
        if (opening := _OPENINGS[region]) is not None:
            top, bottom = opening
            now = shape[bottom, 1] - shape[top, 1]
            then = self.shapes[:, bottom, 1] - self.shapes[:, top, 1]
            out = out + LACK_PENALTY * np.maximum(now - STRETCH * then, 0) ** 2
        return np.asarray(out / REGION_UNIT**2)


def mouth_lack(now: float, shown: float) -> float:
    """Return how much of an open mouth's inside must be painted, 0 to 1, where the references show `shown` of it.

    Both are gaps between the inner lips in model units.
    """
    low, high = LACK_RAMP
    if now < LEAST_OPENING:
        return 0.0
    return float(np.clip((high - shown / now) / (high - low), 0, 1)) * min(1.0, now / LEAST_OPENING - 1)


def skin_sharpness_at(longer_px: int) -> float:
    """Return how sharply references of skin and surround give way to each other in a picture of this longer side."""
    return float(np.interp(longer_px, SKIN_SIZES_PX, SKIN_SHARPNESS))


def soft_choice(distance: NDArray[np.float64], sharpness: NDArray[np.floating]) -> NDArray[np.float64]:
    """Turn squared distances [v, r] into weights [v, r], rows summing to 1; what is far from the best gets 0.

    `sharpness` [v, 1] says how soon.
    """
    weight = np.exp(-sharpness * (distance - distance.min(1, keepdims=True)))
    weight = np.maximum(weight - FLOOR, 0)
    return np.asarray(weight / weight.sum(1, keepdims=True))
