"""Landmarks to pose, expression and identity, in closed form.

The pose starts from the rigid points alone, so that it stays free of jaw motion; then one linear
least-squares step moves pose and expression together towards the smallest 2-D error.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.models.alignment import align
from mien.models.face_model import FaceModel
from mien.models.landmark_sets import LEFT_IRIS, RIGHT_IRIS, Z_WEIGHT, vertex_weights
from mien.models.rotation import rotation_matrix, rotation_vector
from mien.protocol.state import EXPRESSION_COUNT, LANDMARK_COUNT, FaceState

Floats = NDArray[np.float64]

# The share of a depth error in the joint step: enough to keep the solution from wandering in depth.
FIT_DEPTH_WEIGHT: Final = 0.2
# Variance of the landmark noise in a coefficient, squared inter-pupil distances (0.2 % of it in 478 vertices).
FIT_RIDGE: Final = 3e-8
MIN_SCALE_PX: Final = 1.0


class Fitter:
    """Fits one person's tracks: `neutral` float32 [478, 3] of model space, and the stream's framing."""

    def __init__(
        self, model: FaceModel, neutral: NDArray[np.float32], *, unit_px: float, width: int, height: int
    ) -> None:
        self._neutral = neutral.astype(np.float64)
        self._basis = model.basis.astype(np.float64)
        self._rigid = model.rigid
        self._unit_px = unit_px
        self._centre = np.array([width / 2, height / 2])
        self._ridge = FIT_RIDGE / np.maximum(model.deviation.astype(np.float64), 1e-3) ** 2
        weights = np.sqrt(vertex_weights())[:, None] * np.array([1.0, 1.0, FIT_DEPTH_WEIGHT])
        self._weights = weights / np.sqrt(LANDMARK_COUNT)
        closed = np.sqrt(vertex_weights())[:, None] * np.array([1.0, 1.0, Z_WEIGHT]) / np.sqrt(LANDMARK_COUNT)
        design = (self._basis * closed).reshape(EXPRESSION_COUNT, -1)
        self._start = np.linalg.solve(design @ design.T + np.diag(self._ridge), design) * closed.ravel()

    def fit(self, landmarks: NDArray[np.float32]) -> FaceState:
        """Return the state whose vertices lie nearest to `landmarks`, float32 [478, 3] of image space.

        Raises `ValueError` where the landmarks are not finite or lie within one pixel.
        """
        points = landmarks.astype(np.float64)
        if points.shape != (LANDMARK_COUNT, 3) or not np.isfinite(points).all():
            raise ValueError("landmarks must be 478 finite points")
        if np.ptp(points[self._rigid, :2], axis=0).max() < 1.0:
            raise ValueError("the face is smaller than a pixel")
        start = align(self._neutral[self._rigid], points[None, self._rigid])
        expression = self._start @ (start.undo(points[None])[0] - self._neutral).ravel()
        rotation, scale, shift = (
            start.rotation[0],
            max(MIN_SCALE_PX, float(start.scale[0])),
            start.translation[0],
        )
        step = self._joint_step(points, expression, rotation, scale, shift)
        expression = expression + step[:EXPRESSION_COUNT]
        turn, grow, move = step[EXPRESSION_COUNT:-3], step[-3], step[-2:]
        pose = np.empty(6)
        pose[:3] = rotation_vector(rotation_matrix(turn) @ rotation)
        pose[3] = np.log(scale / self._unit_px) + grow
        pose[4:] = (shift[:2] + scale * move - self._centre) / self._unit_px
        return FaceState(pose.astype(np.float32), expression.astype(np.float32))

    def _joint_step(
        self, points: Floats, expression: Floats, rotation: Floats, scale: float, shift: Floats
    ) -> Floats:
        """One Gauss-Newton step [30 expression, 3 rotation about the camera's axes, log scale, x, y]."""
        turned = (self._neutral + np.tensordot(expression, self._basis, 1)) @ rotation.T
        residual = (points - shift) / scale - turned
        x, y, z = turned.T
        zero, one = np.zeros_like(x), np.ones_like(x)
        rigid = np.array(
            [[zero, -z, y], [z, zero, -x], [-y, x, zero], [x, y, z], [one, zero, zero], [zero, one, zero]]
        )
        columns = np.concatenate([self._basis @ rotation.T, rigid.transpose(0, 2, 1)])
        design = (columns * self._weights).reshape(len(columns), -1)
        normal = design @ design.T
        normal[np.diag_indices(EXPRESSION_COUNT)] += self._ridge
        target = design @ (residual * self._weights).ravel()
        target[:EXPRESSION_COUNT] -= self._ridge * expression
        solution: Floats = np.linalg.solve(normal, target)
        return solution


def estimate_neutral(tracks: NDArray[np.float32], model: FaceModel) -> NDArray[np.float32]:
    """Return a person's neutral face, float32 [478, 3] of model space, from `tracks` [T, 478, 3] of image space.

    Over a clip: the median of the frames brought to one pose, which is the face at rest. From few frames
    (a photo) the part that the expression basis explains better than the identity basis is taken off, so
    that a smiling portrait gives a neutral that can also stop smiling. Raises `ValueError` for no frame.
    """
    frames = tracks[np.isfinite(tracks).all(axis=(1, 2))].astype(np.float64)
    if len(frames) == 0:
        raise ValueError("no tracked frame to estimate a face from")
    neutral = model.mean.astype(np.float64)
    for _ in range(3):
        posed = align(neutral[model.rigid], frames[:, model.rigid]).undo(frames)
        neutral = _to_model_space(np.median(posed, axis=0), model)
    if len(frames) < FEW_FRAMES:
        neutral = _to_model_space(neutral - _expression_part(neutral, model), model)
    return neutral.astype(np.float32)


FEW_FRAMES: Final = 5


def reference_scale(tracks: NDArray[np.float32], neutral: NDArray[np.float32], model: FaceModel) -> Fraction:
    """Return `unit_px`, the typical pixels per model unit of `tracks` [T, 478, 3], in sixteenths (at least 1)."""
    frames = tracks[np.isfinite(tracks).all(axis=(1, 2))].astype(np.float64)
    scales = align(neutral[model.rigid].astype(np.float64), frames[:, model.rigid]).scale
    sixteenths = min(65535, max(16, round(16 * float(np.median(scales)))))
    return Fraction(sixteenths, 16)


def rest_pose(states: Sequence[FaceState]) -> tuple[int, ...]:
    """Return the median pose of `states` in thousandths: a stream header's rest pose."""
    median = np.median([state.pose for state in states], axis=0)
    return tuple(int(v) for v in np.clip(np.round(1000 * median), -32768, 32767))


def _to_model_space(points: Floats, model: FaceModel) -> Floats:
    """Centre on the rigid points and scale to an inter-pupil distance of 1."""
    centred = points - points[model.rigid].mean(axis=0)
    unit: Floats = centred / np.linalg.norm(centred[RIGHT_IRIS, :2] - centred[LEFT_IRIS, :2])
    return unit


def _expression_part(face: Floats, model: FaceModel) -> Floats:
    """Return what of `face` [478, 3] is more likely expression than identity (ridge regression on both)."""
    weights = (np.sqrt(vertex_weights())[:, None] * np.array([1.0, 1.0, Z_WEIGHT])).ravel()
    expression = model.basis.reshape(EXPRESSION_COUNT, -1) * model.deviation[:, None]
    identity = model.identity.reshape(len(model.identity), -1)
    design = np.concatenate([expression, identity]).astype(np.float64) * weights
    target = (face - model.mean).ravel() * weights
    noise = 1e-3 * len(target)  # what neither basis explains: about 3 % of the inter-pupil distance
    solution = np.linalg.solve(design @ design.T + noise * np.eye(len(design)), design @ target)
    part: Floats = (solution[:EXPRESSION_COUNT] @ expression).reshape(face.shape)
    return part
