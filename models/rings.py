"""Anchors around the face (hair, neck, shoulders, frame border): where they are, and how each follows the head.

An anchor's place in the picture is a function of the head's pose alone,

    p(pose) = w * head(pose, v) + c + J @ pose        in units of unit_px from the picture's centre

where head() carries a point v of model space rigidly with the head (`mien.protocol`'s conventions), w in
[0, 1] says how much the anchor belongs to the head, and c, J are a constant and a linear correction that
enrolment measures. The same function gives an anchor's place in a reference picture (from the reference's
pose) and in the picture to be drawn, so the warp is the identity where the poses agree. Pose does not tell
everything, so each reference may have an offset for each anchor: where it really is there.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.models.face_model import FaceModel
from mien.models.rotation import rotation_matrix
from mien.models.topology import FACE_OVAL
from mien.protocol.errors import WireError
from mien.protocol.state import POSE_COUNT

RAYS: Final = len(FACE_OVAL)
# Where the rings lie between the face oval (0) and the frame's border (1).
RING_FRACTIONS: Final = (0.14, 0.36, 0.66, 1.0)
ANCHOR_COUNT: Final = RAYS * len(RING_FRACTIONS)
# A row: v (3), w (1), c (2), J (2 x 6, row by row).
ROW_LENGTH: Final = 6 + 2 * POSE_COUNT
# The prior; gaps are in radii of the face oval. The head goes on where the face ends: at its oval it is as deep as that
# (1.1 at the ears, 0 at forehead and chin), and farther out it comes up to the first number, within the second.
# One photo's head, turned by 8 to 32 degrees and compared with the real one (four people), has SSIM +.008 and +.5 dB
# against one depth all around with depths about this one (1.9 and 2.4); with 1.5 or 3.0 it is less.
HEAD_DEPTH: Final = (2.1, 0.4)
# How much goes along with the head: almost all within the first number of radii, then ever less, this steeply.
HEAD_SHARE: Final = (1.0, 2.5)
SHOULDERS: Final = 0.3  # of the first number, less below the face
BORDER: Final = 0.25
# After the row: an offset (2) for each of the avatar's references, in the order of their slots.
MAX_OFFSETS: Final = 16
RINGS_BOUND: Final = 64.0


def check_rings(rings: NDArray[np.float32]) -> None:
    """Raise `WireError` unless `rings` is finite, of the right shape and within its bounds."""
    lengths = range(ROW_LENGTH, ROW_LENGTH + 2 * MAX_OFFSETS + 1, 2)
    if rings.ndim != 2 or len(rings) != ANCHOR_COUNT or rings.shape[1] not in lengths:
        raise WireError(
            f"ring anchors have shape {rings.shape}, expected ({ANCHOR_COUNT}, {ROW_LENGTH} + 2 n)"
        )
    if not np.isfinite(rings).all() or np.abs(rings).max() > RINGS_BOUND:
        raise WireError(f"ring anchors are not all finite and within {RINGS_BOUND:g}")
    if rings[:, 3].min() < 0 or rings[:, 3].max() > 1:
        raise WireError("ring anchors have a share of head motion outside 0 to 1")


def ring_positions(
    rings: NDArray[np.float32],
    pose: NDArray[np.floating],
    *,
    known: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
) -> NDArray[np.float32]:
    """Return where the anchors are at `pose`: float32 [anchors, 2], units of unit_px from the picture's centre.

    `known` is the range of poses, least and greatest [6], within which J was measured: it is not carried
    further, because a line through measurements means nothing far from them.
    """
    head = (
        np.exp(float(pose[3])) * rings[:, :3] @ rotation_matrix(np.asarray(pose[:3], np.float64))[:2].T
        + pose[4:6]
    )
    bent = pose if known is None else np.clip(pose, *known)
    bend = rings[:, 6:ROW_LENGTH].reshape(-1, 2, POSE_COUNT) @ bent
    return np.asarray(rings[:, 3:4] * head + rings[:, 4:6] + bend, np.float32)


def ring_offset(rings: NDArray[np.float32], slot: int) -> NDArray[np.float32]:
    """Return how far the anchors of a reference stand from `ring_positions`, float32 [anchors, 2], same units."""
    at = ROW_LENGTH + 2 * slot
    if at + 2 > rings.shape[1]:
        return np.zeros((len(rings), 2), np.float32)
    return rings[:, at : at + 2]


def default_rings(
    landmarks: NDArray[np.float32],
    pose: NDArray[np.floating],
    *,
    unit_px: float,
    width: int,
    height: int,
) -> NDArray[np.float32]:
    """Return the anchors of one picture with motion by prior: float32 [anchors, ROW_LENGTH].

    `landmarks` [478, 3] in pixels of a picture of `width` x `height`, `pose` its fitted pose. Hair follows
    the head, shoulders hardly, the border not at all.
    """
    oval = (landmarks[list(FACE_OVAL), :2].astype(np.float64) - [width / 2, height / 2]) / unit_px
    half = np.array([width / 2, height / 2]) / unit_px
    centre = oval.mean(0)
    ray = oval - centre
    face = float(np.linalg.norm(ray, axis=1).mean())
    # How many times longer than to the oval is the way to the border (never shorter than a small margin)?
    edge = np.where(ray > 0, half, -half)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.nanmin(np.where(np.abs(ray) > 1e-9, (edge - centre) / ray, np.inf), axis=1)
    reach = np.maximum(reach, 1.12)
    fractions = np.array(RING_FRACTIONS)[:, None]
    place = centre + ray * (1 + (reach[None] - 1) * fractions)[:, :, None]  # [rings, rays, 2]
    gap = np.linalg.norm(place - oval, axis=2) / face
    down = np.clip(ray[:, 1] / np.linalg.norm(ray, axis=1), 0, 1)
    reach, fall = HEAD_SHARE
    share = np.exp(-((gap / (reach - SHOULDERS * down)) ** fall))
    share[-1] *= BORDER
    farthest, within = HEAD_DEPTH
    at_oval = FaceModel.load().mean[list(FACE_OVAL), 2].astype(np.float64)
    depth = at_oval + (farthest - at_oval) * (1 - np.exp(-gap / within))
    return assemble(place.reshape(-1, 2), depth.ravel(), share.ravel(), pose)


def assemble(
    place: NDArray[np.floating],
    depth: NDArray[np.floating],
    share: NDArray[np.floating],
    pose: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Return rows whose anchors stand at `place` [anchors, 2] at `pose`, with J = 0.

    `depth` [anchors] is the model-space z that turns with the head, `share` [anchors] is w.
    """
    rotation, scale = rotation_matrix(np.asarray(pose[:3], np.float64)), float(np.exp(pose[3]))
    flat = (place - pose[4:6]) / scale
    # Solve (R v)[:2] = flat with v_z = depth.
    v_xy = np.linalg.solve(rotation[:2, :2], (flat - depth[:, None] * rotation[:2, 2]).T).T
    rows = np.zeros((len(place), ROW_LENGTH))
    rows[:, :2], rows[:, 2], rows[:, 3] = v_xy, depth, share
    rows[:, 4:6] = (1 - share[:, None]) * place
    return np.asarray(np.clip(rows, -RINGS_BOUND, RINGS_BOUND), np.float32)
