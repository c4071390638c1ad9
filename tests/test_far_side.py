"""A cheek that no reference shows is the other one, mirrored."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mien.decoder.far_side import (
    NEVER,
    TRUST,
    far_side_seen,
    find_far_side,
    mirrored,
    plain_sides,
    relit,
)
from mien.decoder.framing import Framing
from mien.decoder.mesh import VERTEX_COUNT, place_vertices, to_model_space, visibility
from mien.decoder.reference_picture import ReferencePicture
from mien.decoder.scene import MAX_REFERENCES, with_room
from mien.models.face_model import FaceModel
from mien.models.face_sides import opposite
from mien.models.rings import default_rings, ring_offset
from mien.models.rotation import rotation_matrix
from mien.models.topology import load_topology
from mien.protocol.state import LANDMARK_COUNT

SIZE = 200
UNIT = 50.0
FRAMING = Framing(UNIT, SIZE, SIZE)


def reference(yaw: float) -> ReferencePicture:
    """Return a reference of the mean face, turned by `yaw` radians; its picture is red on the left, blue on the right."""
    shape = FaceModel.load().mean.astype(np.float64)
    pose = np.array([0.0, yaw, 0.0, 0.0, 0.0, 0.0])
    landmarks = shape @ rotation_matrix(pose[:3]).T * UNIT + [SIZE / 2, SIZE / 2, 0]
    rgb = np.full((SIZE, SIZE, 3), 100, np.uint8)
    rgb[:, : SIZE // 2, 0] = 200
    rgb[:, SIZE // 2 :, 2] = 200
    return ReferencePicture(rgb, landmarks, pose, shape, matte=np.full((SIZE, SIZE), 255, np.uint8))


def seen_in(*references: ReferencePicture) -> NDArray[np.float64]:
    places = []
    for one in references:
        rings = default_rings(
            one.landmarks.astype(np.float32), one.pose, unit_px=UNIT, width=SIZE, height=SIZE
        )
        own = to_model_space(one.landmarks, one.pose, unit_px=UNIT, width=SIZE, height=SIZE)
        places.append(place_vertices(own, one.pose, rings, ring_offset(rings, 0)))
    return visibility(np.stack(places))


def test_opposite_landmarks_are_known() -> None:
    other = opposite()
    pairs = {33: 263, 61: 291, 234: 454, 468: 473, 50: 280, 10: 10, 152: 152}
    assert {a: int(other[a]) for a in pairs} == pairs
    assert (other[other] == np.arange(LANDMARK_COUNT)).mean() > 0.99


def test_a_mirrored_reference_is_turned_the_other_way() -> None:
    one = reference(0.5)
    other = mirrored(one, FRAMING)
    assert other.mirrored and not one.mirrored
    assert abs(other.pose[1] + one.pose[1]) < 0.1 and abs(other.pose[3]) < 0.05
    np.testing.assert_array_equal(other.rgb, one.rgb[:, ::-1])
    # The left eye's corner stands where the right one's mirror image does.
    assert abs(other.landmarks[33, 0] - (SIZE - one.landmarks[263, 0])) < 1e-9


def test_it_is_added_only_for_what_is_missing() -> None:
    turned = reference(0.7)
    assert find_far_side([turned], seen_in(turned), FRAMING) is not None
    both = [reference(0.7), reference(-0.7)]
    assert find_far_side(both, seen_in(*both), FRAMING) is None
    ahead = reference(0.0)
    assert find_far_side([ahead], seen_in(ahead), FRAMING) is None


def test_it_has_a_say_on_cheeks_and_temples_alone() -> None:
    share = far_side_seen(np.ones(VERTEX_COUNT))
    regions = load_topology().regions.sum(1)
    assert (share[:LANDMARK_COUNT][regions > 0.5] == NEVER).all()
    assert (share[[1, 4, 6, 152]] == NEVER).all() and (share[LANDMARK_COUNT:] == NEVER).all()
    assert (share[[234, 454]] == TRUST).all() and plain_sides()[[234, 454]].all()


def test_light_is_brought_to_that_of_the_side_that_is_seen() -> None:
    """Light that falls off across the face falls off the same way in what was mirrored."""
    one = reference(0.0)
    light = np.linspace(1.0, 0.5, SIZE)
    lit = np.rint(np.full((SIZE, SIZE, 3), 200.0) * light[None, :, None]).astype(np.uint8)
    real = ReferencePicture(lit, one.landmarks, one.pose, one.shape)
    other = mirrored(real, FRAMING)
    assert np.abs(other.rgb.astype(int) - lit).mean() > 20
    again = relit(other, real, np.flatnonzero(plain_sides()), FRAMING)
    assert np.abs(again.astype(int) - lit)[60:140, 60:140].mean() < 8
    assert relit(other, real, np.arange(3), FRAMING) is other.rgb  # too little to compare


def test_room_is_made_by_what_was_seen_and_adds_least() -> None:
    few = [reference(0.1)] * 3
    assert with_room(few) == [0, 1, 2]
    many = [reference(0.1)] * (MAX_REFERENCES - 2) + [replace(reference(0.1), made_up=True)] * 2
    assert with_room(many) == [0, 1, 2, 3, 4, 6, 7]
    made_up = [reference(0.1)] + [replace(reference(0.1), made_up=True)] * (MAX_REFERENCES - 1)
    assert with_room(made_up) == list(range(MAX_REFERENCES - 1))  # never the first
