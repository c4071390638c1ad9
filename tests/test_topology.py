"""The mesh: it is a clean surface with the right openings, and the asset is what the script builds."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.decoder.mesh import RINGS_END, VERTEX_COUNT, mesh_triangles, mouth_triangles, place_vertices
from mien.models.face_model import FaceModel
from mien.models.rings import ANCHOR_COUNT, RAYS, default_rings
from mien.models.topology import EYE_LOOPS, FACE_OVAL, INNER_LIPS, IRIS_CENTRES, load_topology


def edges(triangles: NDArray[np.integer]) -> Counter[tuple[int, int]]:
    pairs: Counter[tuple[int, int]] = Counter()
    for t in triangles.tolist():
        for a, b in ((0, 1), (1, 2), (2, 0)):
            pairs[(min(t[a], t[b]), max(t[a], t[b]))] += 1
    return pairs


def loop_edges(loop: tuple[int, ...]) -> set[tuple[int, int]]:
    return {(min(a, b), max(a, b)) for a, b in zip(loop, (*loop[1:], loop[0]), strict=True)}


def test_the_face_is_one_surface_whose_only_border_is_the_oval() -> None:
    count = edges(load_topology().triangles)
    assert set(count.values()) == {1, 2}
    assert {edge for edge, n in count.items() if n == 1} == loop_edges(FACE_OVAL)


def test_mouth_and_eyes_are_openings_of_the_skin() -> None:
    border = {edge for edge, n in edges(load_topology().skin).items() if n == 1}
    wanted = loop_edges(FACE_OVAL) | loop_edges(INNER_LIPS)
    for loop in EYE_LOOPS:
        wanted |= loop_edges(loop)
    assert border == wanted


def test_every_mesh_landmark_is_used_and_eyes_are_fans_around_the_iris() -> None:
    topology = load_topology()
    assert set(range(468)) <= set(topology.triangles.ravel().tolist())
    assert set(topology.eyes.ravel().tolist()) == {*EYE_LOOPS[0], *EYE_LOOPS[1], *IRIS_CENTRES}


def test_regions_share_a_vertex_between_them() -> None:
    regions = load_topology().regions
    assert regions.min() >= 0 and regions.sum(1).max() <= 1.02
    assert regions[13, 0] == 1 and regions[468, 1] == 1 and regions[473, 2] == 1
    assert regions[1, 3] == 0 and regions[10].sum() < 0.2


def test_the_posed_mean_face_has_no_folds() -> None:
    model = FaceModel.load()
    rings = default_rings(pixels(model), np.zeros(6), unit_px=40, width=256, height=256)
    place = place_vertices(model.mean, np.zeros(6), rings, np.zeros((ANCHOR_COUNT, 2)))
    assert place.shape == (VERTEX_COUNT, 3)
    skin, surround = load_topology().skin.astype(int), mesh_triangles().surround.astype(int)
    assert (areas(place, skin) < -2e-4).sum() <= 12  # closed lips and the nose's underside lie on edge
    assert (areas(place, surround) > 0).all()


def areas(place: NDArray[np.float64], triangles: NDArray[np.int64]) -> NDArray[np.float64]:
    """Twice the areas [n] on screen, negative where a triangle shows its back."""
    a, b, c = (place[corner, :2] for corner in triangles.T)
    return np.asarray((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def test_the_skirt_covers_the_frame() -> None:
    model = FaceModel.load()
    rings = default_rings(pixels(model), np.zeros(6), unit_px=40, width=256, height=192)
    place = place_vertices(model.mean, np.zeros(6), rings, np.zeros((ANCHOR_COUNT, 2)))
    reach = np.abs(place[RINGS_END - RAYS : RINGS_END, :2] * 40)
    assert reach[:, 0].max() > 128 and reach[:, 1].max() > 96


def pixels(model: FaceModel) -> NDArray[np.float32]:
    return np.asarray(model.mean * 40 + np.array([128, 128, 0]), np.float32)


def test_the_script_builds_such_a_mesh_from_the_face_model() -> None:
    pytest.importorskip("scipy")
    from mien.models.build_topology import build, opened_mean

    built = build(*opened_mean())
    triangles = np.concatenate([built["skin"], built["mouth"], built["eyes"]])
    count = edges(triangles)
    assert {edge for edge, n in count.items() if n == 1} == loop_edges(FACE_OVAL)
    assert len(triangles) == len(load_topology().triangles)


def test_the_inside_of_the_mouth_fills_the_lips_and_has_no_gap() -> None:
    model = FaceModel.load()
    rings = default_rings(pixels(model), np.zeros(6), unit_px=40, width=256, height=256)
    shape = model.mean.copy()
    for index, (x, y) in zip(INNER_LIPS, ellipse(len(INNER_LIPS)), strict=True):
        shape[index, :2] = x, y
    place = place_vertices(shape, np.zeros(6), rings, np.zeros((ANCHOR_COUNT, 2)))
    filled = areas(place, mouth_triangles().astype(int))
    assert (filled >= -1e-9).all()
    assert filled.sum() / 2 == pytest.approx(np.pi * 0.3 * 0.2, rel=0.05)


def ellipse(count: int) -> NDArray[np.float64]:
    """Points from the left corner along the lower lip and back along the upper lip, y down."""
    angle = np.pi - 2 * np.pi * np.arange(count) / count
    return np.stack([0.3 * np.cos(angle), 0.2 * np.sin(angle)], 1)
