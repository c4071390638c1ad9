"""The mesh around the head: rings keep their order, no corner stays empty, cut-off places are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.decoder.blend import Blender
from mien.decoder.mesh import LEAST_GAP, RINGS_END, SKIRT, VERTEX_COUNT, in_order, skirt_around
from mien.decoder.scene import inside, region_shares
from mien.models.face_model import FaceModel
from mien.models.rings import RAYS, RING_FRACTIONS

ANGLES = np.linspace(0, 2 * np.pi, RAYS, endpoint=False)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)


def rings(*radii: float) -> NDArray[np.float64]:
    return np.concatenate([r * CIRCLE for r in radii])


def test_rings_in_order_are_left_alone() -> None:
    anchors = rings(1.2, 1.6, 2.2, 3.0)
    assert in_order(CIRCLE, anchors, 1.0) == pytest.approx(anchors)


def test_a_head_pushes_what_it_runs_over() -> None:
    """The face oval and the first ring have gone to the right, over places that stand still."""
    shift = np.array([1.5, 0])
    anchors = np.concatenate([rings(1.2) + shift, rings(1.6, 2.2, 3.0)])
    out = in_order(CIRCLE + shift, anchors, 1.0).reshape(len(RING_FRACTIONS), RAYS, 2) - shift
    reach = np.concatenate([[CIRCLE], out])
    far = (reach * CIRCLE).sum(2)
    assert (np.diff(far, axis=0) >= LEAST_GAP - 1e-9).all()
    left = np.argmin(CIRCLE[:, 0])  # behind the head nothing is in its way
    assert out[:, left] + shift == pytest.approx(anchors.reshape(-1, RAYS, 2)[:, left])


def test_the_skirt_covers_corners_that_the_border_ring_left() -> None:
    border = 4 * CIRCLE
    border[:8] *= 0.2  # the head drew a part of it inwards
    skirt = skirt_around(border)
    assert np.linalg.norm(skirt, axis=1) == pytest.approx(SKIRT * 4)


def test_places_beyond_a_reference_are_cut_off() -> None:
    uv = np.full((VERTEX_COUNT, 2, 2), 0.5, np.float32)
    uv[3, 0], uv[4, 0], uv[5, 1] = (0.5, -0.1), (1.2, 0.5), (0.01, 0.5)
    border = slice(RINGS_END - 2 * RAYS, RINGS_END - RAYS)
    uv[border, 1] = (0.5, 0.02)  # little is left to the second one's upper border
    belongs = np.r_[np.ones(18), np.zeros(18)]
    seen = inside(uv, belongs)
    assert seen[3].tolist() == [0, 1] and seen[4].tolist() == [0, 1]
    assert seen[5, 0] == 1 and 0 < seen[5, 1] < 1
    skirt = seen[RINGS_END - RAYS : RINGS_END]
    assert (skirt[:18, 0] == 1).all() and (skirt[:18, 1] < 0.1).all()
    assert (skirt[18:] == 0).all()  # the background there is nobody's


def test_near_ties_show_the_first_reference_around_the_face_only() -> None:
    """Two references of one pose and expression: hair and clothes of both would be laid over each other."""
    shape = FaceModel.load().mean.astype(np.float64)
    shares = region_shares()
    blender = Blender(np.stack([shape] * 2), np.zeros((2, 3)), np.ones((VERTEX_COUNT, 2)), shares)
    weights = blender.weights(shape, np.zeros(3))
    around = shares.sum(1) == 0
    assert (weights[around, 0] > 0.85).all()
    assert weights[shares[:, 0] == 1] == pytest.approx(0.5)  # the mouth has its own choice
    far = Blender(
        np.stack([shape] * 2), np.array([[0, 0.6, 0], [0, 0, 0]]), np.ones((VERTEX_COUNT, 2)), shares
    )
    assert (far.weights(shape, np.zeros(3))[around, 1] > 0.99).all()
