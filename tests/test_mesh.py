"""The mesh around the head: rings keep their order, no corner stays empty, cut-off places are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.decoder.blend import Blender
from mien.decoder.far_side import most_ahead
from mien.decoder.mesh import (
    IRIS_MARGIN,
    IRIS_REACH,
    LEAST_GAP,
    RINGS_END,
    SKIRT,
    VERTEX_COUNT,
    eye_triangles,
    in_order,
    iris_rim,
    normals,
    outline_of,
    place_vertices,
    skirt_around,
    vertex_normals,
)
from mien.decoder.scene import inside, region_shares
from mien.models.face_model import FaceModel
from mien.models.rings import ANCHOR_COUNT, RAYS, RING_FRACTIONS, ROW_LENGTH, default_rings
from mien.models.rotation import rotation_matrix
from mien.models.topology import FACE_OVAL, load_topology
from mien.protocol.state import LANDMARK_COUNT

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
    every, outwards = np.ones((VERTEX_COUNT, 2)), np.zeros((LANDMARK_COUNT, 3))
    blender = Blender(
        np.stack([shape] * 2), np.zeros((2, 3)), every, shares, np.zeros(2, bool), outwards, outwards[:, 0]
    )
    weights, form = blender.weights(shape, np.zeros(3))
    assert form is weights
    around = shares.sum(1) == 0
    assert (weights[around, 0] > 0.85).all()
    assert weights[shares[:, 0] == 1] == pytest.approx(0.5)  # the mouth has its own choice
    turns = np.array([[0, 0.6, 0], [0, 0, 0]])
    far = Blender(np.stack([shape] * 2), turns, every, shares, np.zeros(2, bool), outwards, outwards[:, 0])
    assert (far.weights(shape, np.zeros(3))[0][around, 1] > 0.99).all()


def test_a_mirrored_reference_lends_its_colours_and_not_its_form() -> None:
    shape = FaceModel.load().mean.astype(np.float64)
    seen = np.ones((VERTEX_COUNT, 2))
    seen[234, 0], seen[:, 1] = 0, -10
    seen[234, 1] = 0.75
    turns = np.array([[0, 0.5, 0], [0, -0.9, 0]])  # however far it is turned
    outwards = vertex_normals(shape, load_topology().skin.astype(np.intp))
    mirrored = np.array([False, True])
    known = most_ahead(outwards, turns[:1])
    blender = Blender(np.stack([shape] * 2), turns, seen, region_shares(), mirrored, outwards, known)
    for turn, shows in ((turns[0], False), (np.zeros(3), True), (-turns[0], True)):
        shown, form = blender.weights(shape, turn)
        assert (shown[234, 1] > 0.9) == shows and shown[454, 0] == 1
        assert (form[:, 0] == 1).all()


def opening(height: float) -> NDArray[np.float64]:
    """Return an eye's loop, 1 wide: corner, lower lid, corner, upper lid."""
    angle = 2 * np.pi * np.arange(16) / 16
    return np.stack([-0.5 * np.cos(angle), 0.5 * height * np.sin(angle), np.zeros(16)], 1)


@pytest.mark.parametrize("mirrored", [False, True])
def test_an_iris_moves_as_a_whole(mirrored: bool) -> None:
    loop = opening(0.8) * ([-1, 1, 1] if mirrored else [1, 1, 1])
    turn = np.array([[np.cos(0.4), -np.sin(0.4), 0], [np.sin(0.4), np.cos(0.4), 0], [0, 0, 1]])
    ahead = iris_rim(loop @ turn.T, np.zeros(3), mirrored=mirrored)
    aside = iris_rim(loop @ turn.T, turn @ [0.1, 0, 0], mirrored=mirrored)
    moved = (aside - ahead) @ turn
    assert moved[:, 0] == pytest.approx(np.full(16, 0.1))
    assert np.linalg.norm(ahead, axis=1) == pytest.approx(np.full(16, IRIS_REACH))
    # Each place of the ring lies towards its place on the lids: nothing is twisted.
    assert ((ahead[:, :2] * (loop @ turn.T)[:, :2]).sum(1) > 0).all()


@pytest.mark.parametrize("height", [0.3, 0.05, 0.0, -0.1])
def test_an_iris_ends_at_lids_and_corners(height: float) -> None:
    loop = opening(height)
    ring = iris_rim(loop, np.array([0.45, 0, 0.5]), mirrored=False)
    assert np.isfinite(ring).all() and (ring[:, 2] == 0.5).all()
    assert np.abs(ring[:, 0]).max() <= 0.5 - IRIS_MARGIN + 1e-9
    assert np.abs(ring[:, 1]).max() <= abs(height) / 2 + 1e-9


def test_an_eye_is_covered_once() -> None:
    face = FaceModel.load().mean.astype(np.float64)
    state = np.zeros(6)
    landmarks = np.asarray(face * 30 + [80, 80, 0], np.float32)
    rings_of = default_rings(landmarks, state, unit_px=30.0, width=160, height=160)
    place = place_vertices(face, state, rings_of, np.zeros((RAYS * len(RING_FRACTIONS), 2)))
    fans = load_topology().eyes
    whole = normals(place, fans.astype(np.intp))[:, 2]
    parts = normals(place, eye_triangles(fans).astype(np.intp))[:, 2]
    assert len(parts) == 3 * len(fans)
    assert parts.sum() == pytest.approx(whole.sum(), rel=1e-3)
    assert -parts[parts < 0].sum() < 0.05 * whole.sum()  # near the corners, where lids have many vertices


def test_the_tracked_oval_comes_back_from_the_seam_within_it() -> None:
    model, pose = FaceModel.load(), np.array([0.1, 0.3, -0.1, 0.2, 0.4, -0.2])
    vertices = model.mean.astype(np.float64)
    anchors = np.zeros((ANCHOR_COUNT, ROW_LENGTH), np.float32)
    placed = place_vertices(vertices, pose, anchors, np.zeros((ANCHOR_COUNT, 2)))
    face = np.exp(pose[3]) * vertices @ rotation_matrix(pose[:3]).T
    face[:, :2] += pose[4:6]
    oval = list(FACE_OVAL)
    assert np.abs(placed[oval, :2] - face[oval, :2]).max() > 0.02  # the mesh ends inside
    assert outline_of(placed) == pytest.approx(face[oval, :2], abs=1e-6)
