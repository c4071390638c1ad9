"""Measures at enrolment how hair, neck and shoulders follow the head."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.models.rings import (
    RAYS,
    RING_FRACTIONS,
    ROW_LENGTH,
    assemble,
    default_rings,
    ring_positions,
)
from mien.models.topology import FACE_OVAL
from mien.protocol.state import POSE_COUNT

MAX_PAIRS: Final = 32  # frames that are compared with the base frame
FLOW_PX: Final = 256  # optical flow is computed at this size (longer side)
# A flow vector counts by how well the way there and back closes: half weight at this error, pixels.
CLOSURE_PX: Final = 1.5
# And by how alike the places look, softened so much, half weight at this difference of grey levels.
LOOK_SIGMA_PX: Final = 1.5
UNLIKE: Final = 40.0
# Measured motion that is this far from what is fitted counts half, units of unit_px.
ASTRAY: Final = 0.6
ROUNDS: Final = 4
# How firmly the measured motion is drawn to the prior, in variance of pose that would balance it.
SHARE_RIDGE: Final = 0.02
BEND_RIDGE: Final = 0.01
MAX_OFFSET: Final = 0.5  # inter-pupil distances; flow that says more is mistaken


def calibrate_rings(
    frames: Sequence[NDArray[np.uint8]],
    landmarks: NDArray[np.float32],
    poses: NDArray[np.float32],
    *,
    unit_px: float,
    references: Sequence[int] = (),
) -> NDArray[np.float32]:
    """Return `Avatar.rings` as `mien.models.rings` describes it: float32, every value finite and within +-64.

    `frames` are n RGB pictures uint8 [h, w, 3] of one size with the enrolment framing (whole clip or a few
    dozen frames spread over it, in any order), `landmarks` [n, 478, 3] their tracked landmarks in pixels,
    `poses` [n, 6] their fitted poses (`FaceState.pose`) with `unit_px` pixels per unit at that size.
    `references` are the numbers of those frames that become the avatar's references, in the order of their
    slots: for them it is also measured where the anchors really are. One frame is enough: then the motion is
    by prior alone. Half precision is enough to store the result.
    """
    if len(frames) != len(landmarks) or len(frames) != len(poses) or not frames:
        raise ValueError(
            f"{len(frames)} frames, {len(landmarks)} landmarks, {len(poses)} poses: expected as many"
        )
    height, width = frames[0].shape[:2]
    spread = poses.std(0) + 1e-3
    base = int(np.argmin((((poses - np.median(poses, 0)) / spread) ** 2).sum(1)))
    rings = default_rings(landmarks[base], poses[base], unit_px=unit_px, width=width, height=height)
    others = choose_frames(poses, base)
    if not others:
        return rings
    place = ring_positions(rings, poses[base]).astype(np.float64)
    pixels = place * unit_px + [width / 2, height / 2]
    moved, trust = measure_motion(frames, landmarks, base, others, pixels, rings[:, 3])
    rings = fit_motion(rings, poses[base], poses[others], moved / unit_px, trust)
    if len(references) < 2:
        return rings
    offsets = measure_offsets(frames, landmarks, poses, references, rings, unit_px)
    return np.concatenate([rings, offsets], 1)


def choose_frames(poses: NDArray[np.float32], base: int) -> list[int]:
    """Return up to `MAX_PAIRS` frames spread over the range of poses (farthest point first), base left out."""
    spread = poses / (poses.std(0) + 1e-3)
    gap = ((spread - spread[base]) ** 2).sum(1)
    chosen: list[int] = []
    while len(chosen) < min(MAX_PAIRS, len(poses) - 1):
        far = int(np.argmax(gap))
        if gap[far] <= 0:
            break
        chosen.append(far)
        gap = np.minimum(gap, ((spread - spread[far]) ** 2).sum(1))
    return chosen


def measure_motion(
    frames: Sequence[NDArray[np.uint8]],
    landmarks: NDArray[np.float32],
    base: int,
    others: Sequence[int],
    pixels: NDArray[np.float64],
    belongs: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how the points `pixels` [a, 2] of the base frame moved: [n, a, 2] pixels, and trust [n, a], 0 to 1.

    Flow is measured twice: as it is, which finds what stands still or moves little, and after the other frame is
    brought onto the base by the head's own motion, which finds what goes along however far the head went. The one
    that closes and looks alike is taken; where both do, `belongs` [a], 0 to 1, says which is likelier.
    """
    height, width = frames[base].shape[:2]
    shrink = min(1.0, FLOW_PX / max(height, width))
    size = (max(16, round(width * shrink)), max(16, round(height * shrink)))

    def grey(index: int) -> NDArray[np.uint8]:
        small = cv2.resize(frames[index], size, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)

    first = grey(base)
    at = np.clip(pixels * shrink, 3, np.array(size) - 4).astype(np.float32)
    stay, along = 1 - 0.5 * belongs, 0.5 + 0.5 * belongs
    moved, trust = [], []
    for index in others:
        second = grey(index)
        carry = head_motion(landmarks[base], landmarks[index], shrink)
        still = np.array([[1, 0, 0], [0, 1, 0]], np.float64)
        (step, plain), (far, carried) = (follow(first, second, at, m) for m in (still, carry))
        better = along * carried > stay * plain
        moved.append(np.where(better[:, None], far, step) / shrink)
        trust.append(np.where(better, carried, plain))
    return np.array(moved, np.float64), np.array(trust, np.float64)


def head_motion(base: NDArray[np.float32], other: NDArray[np.float32], shrink: float) -> NDArray[np.float64]:
    """Return the similarity [2, 3] that carries one frame's face oval onto the other's, in shrunk pixels."""
    p, q = (points[list(FACE_OVAL), :2].astype(np.float64) * shrink for points in (base, other))
    a, b = p - p.mean(0), q - q.mean(0)
    turn = complex((a * b).sum(), (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / max((a**2).sum(), 1e-9)
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.concatenate([linear, (q.mean(0) - linear @ p.mean(0))[:, None]], 1)


def follow(
    first: NDArray[np.uint8], second: NDArray[np.uint8], at: NDArray[np.float32], carry: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how points `at` [a, 2] move from one grey picture to another, [a, 2], and trust [a], 0 to 1.

    `carry` [2, 3] is where they are expected; flow looks around there.
    """
    height, width = first.shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    there = cv2.warpAffine(second, carry, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    dis, empty = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM), np.empty(0, np.float32)
    forth = np.asarray(cv2.medianBlur(dis.calc(first, there, empty), 5), np.float32)
    back = np.asarray(dis.calc(there, first, empty), np.float32)
    step = sample(forth, at)
    closure = np.linalg.norm(step + sample(back, at + step), axis=1)
    looks = [np.asarray(cv2.GaussianBlur(x, (0, 0), LOOK_SIGMA_PX), np.float32) for x in (first, there)]
    unlike = np.abs(sample(looks[0], at)[:, 0] - sample(looks[1], at + step)[:, 0])
    target = (at + step).astype(np.float64) @ carry[:, :2].T + carry[:, 2]
    seen = ((target > 1) & (target < [width - 2, height - 2])).all(1)  # else it went out of the picture
    trust = seen / (1 + (closure / CLOSURE_PX) ** 2) / (1 + (unlike / UNLIKE) ** 2)
    return target - at, np.asarray(trust, np.float64)


def measure_offsets(
    frames: Sequence[NDArray[np.uint8]],
    landmarks: NDArray[np.float32],
    poses: NDArray[np.float32],
    references: Sequence[int],
    rings: NDArray[np.float32],
    unit_px: float,
) -> NDArray[np.float32]:
    """Return the references' offsets, float32 [anchors, 2 * references], in units of unit_px.

    Measured by flow from the first reference, and centred: what all have in common is nobody's offset. Where
    the flow does not close, an anchor stays where its pose says.
    """
    height, width = frames[references[0]].shape[:2]
    said = np.stack([ring_positions(rings, poses[r]) for r in references]).astype(np.float64)
    pixels = said[0] * unit_px + [width / 2, height / 2]
    moved, trust = measure_motion(frames, landmarks, references[0], references[1:], pixels, rings[:, 3])
    apart = said[0] + moved / unit_px - said[1:]
    apart *= np.clip(1.5 * trust - 0.5, 0, 1)[:, :, None]
    apart *= np.minimum(1, MAX_OFFSET / np.maximum(np.linalg.norm(apart, axis=2, keepdims=True), 1e-6))
    offsets = np.stack([np.zeros_like(said[0]), *(around(a) for a in apart)])
    offsets -= offsets.mean(0)
    return np.asarray(offsets.transpose(1, 0, 2).reshape(len(rings), -1), np.float32)


def with_offsets_of_first(rings: NDArray[np.float32], references: int, more: int) -> NDArray[np.float32]:
    """Return rings in which `more` references after the first `references` have the offsets of the first one."""
    if rings.shape[1] <= ROW_LENGTH or not more:
        return rings
    known = rings[:, : ROW_LENGTH + 2 * references]
    return np.concatenate([known, np.tile(known[:, ROW_LENGTH : ROW_LENGTH + 2], more)], 1)


def sample(flow: NDArray[np.float32], at: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a flow [h, w, 2] or a picture [h, w] at points [a, 2], bilinear: [a, channels]."""
    x, y = at[:, 0].astype(np.float32)[None] - 0.5, at[:, 1].astype(np.float32)[None] - 0.5
    out = np.asarray(cv2.remap(flow, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)
    return out.reshape(len(at), -1)


def fit_motion(
    rings: NDArray[np.float32],
    base_pose: NDArray[np.float32],
    poses: NDArray[np.float32],
    moved: NDArray[np.float64],
    trust: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return rings whose share w and bend J explain the measured motion.

    `moved` [n, a, 2] in units of unit_px from the base pose to each of `poses` [n, 6]. What the frames do not
    tell (a pose axis that never moved, a point without texture) stays with the prior.
    """
    start = ring_positions(rings, base_pose).astype(np.float64)
    whole = rings.copy()
    whole[:, 3], whole[:, 4:] = 1, 0
    carried = np.stack([ring_positions(whole, p) for p in poses]) - ring_positions(whole, base_pose)
    turn = (poses - base_pose).astype(np.float64)
    prior, strength = rings[:, 3].astype(np.float64), SHARE_RIDGE * len(poses)
    ridge = BEND_RIDGE * len(poses) * np.eye(POSE_COUNT)
    believed = trust
    for _ in range(ROUNDS):  # flow that took a wrong turn must not bend what the other frames agree on
        weight = believed[:, :, None]
        share = ((weight * carried * moved).sum((0, 2)) + strength * prior) / (
            (weight * carried**2).sum((0, 2)) + strength
        )
        share = around(np.clip(share, 0, 1)[:, None])[:, 0]
        rest = moved - share[None, :, None] * carried
        bend = np.zeros((len(rings), 2, POSE_COUNT))
        for a in range(len(rings)):
            weighted = turn * believed[:, a : a + 1]
            bend[a] = np.linalg.solve(weighted.T @ turn + ridge, weighted.T @ rest[:, a]).T
        bend = around(bend.reshape(len(rings), -1)).reshape(bend.shape)
        astray = np.linalg.norm(rest - np.einsum("adp,np->nad", bend, turn), axis=2)
        believed = trust / (1 + (astray / ASTRAY) ** 2)
    out = assemble(start, rings[:, 2], share, base_pose).astype(np.float64)
    out[:, 4:6] -= bend @ base_pose
    out[:, 6:] = bend.reshape(len(rings), ROW_LENGTH - 6)
    return np.asarray(np.clip(out, -64, 64), np.float32)


def around(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth [anchors, n] along each ring: neighbours on one ring move alike."""
    ring = values.reshape(len(RING_FRACTIONS), RAYS, -1)
    smooth = (np.roll(ring, 1, 1) + 2 * ring + np.roll(ring, -1, 1)) / 4
    return np.asarray(smooth.reshape(values.shape))
