"""What the shader is spared: triangles sorted by what shows in them, nothing lost, and the background not drawn."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.decoder.draw_groups import (
    CODE_BITS,
    DrawGroups,
    Group,
    Groups,
    Need,
    Sums,
    mirrored,
    plate_as_drawn,
)
from mien.decoder.mesh import MOUTH_CORE, mesh_triangles
from mien.decoder.numpy_renderer import NumpyRenderer, visible_pixels
from mien.decoder.renderer import Renderer
from mien.models.face_model import FaceModel
from mien.protocol.avatar import Avatar
from mien.protocol.state import FaceState
from tests.picture_fixtures import SIZE, made_up_avatar, state
from tests.test_plate import avatar_before

STATES = [state(), state(yaw=-0.3, x=0.4), state(yaw=0.2, pitch=0.25, expression={0: -0.1, 3: 0.1})]


def twin_of(avatar: Avatar, width: int = SIZE, height: int = SIZE) -> Renderer:
    return Renderer(avatar, FaceModel.load(), width=width, height=height, backend="numpy")


def groups_of(made: Renderer, shown: FaceState) -> Groups:
    scene = made._scene
    return DrawGroups(scene, plate_as_drawn(scene)).of(made.pose(shown))


def triangle_numbers(drawn: Groups, *needs: Need) -> list[int]:
    """Return which triangles of the mesh are drawn (with one of these needs), by their corners."""
    known = {
        corners.tobytes(): number for number, corners in enumerate(mesh_triangles().all.astype(np.uint32))
    }
    rows = [
        n for g in drawn.groups if not needs or g.need in needs for n in range(g.first, g.first + g.count)
    ]
    return [known[np.ascontiguousarray(drawn.corners[row, :, 0]).tobytes()] for row in rows]


def references(drawn: Groups, group: Group) -> NDArray[np.intp]:
    """Return the references that a group's shader is told to sample, [triangles, room]."""
    codes = drawn.corners[group.first : group.first + group.count, :, 1]
    assert (codes == codes[:, :1]).all()
    return np.asarray((codes[:, :1] >> (CODE_BITS * np.arange(group.room))) & 15, np.intp)


@pytest.mark.parametrize("shown", STATES)
def test_every_triangle_in_the_picture_is_drawn_once_with_all_its_references(shown: FaceState) -> None:
    made = twin_of(made_up_avatar())  # without mattes: there is no plate to show instead
    drawing, drawn = made.pose(shown), groups_of(made, shown)
    numbers = triangle_numbers(drawn)
    assert len(numbers) == len(set(numbers)) == len(drawn.corners)
    assert set(visible_pixels(drawing.positions, SIZE, SIZE)[1].tolist()) <= set(numbers)
    for group in drawn.groups:
        which = references(drawn, group)
        assert all(len(set(row)) == group.room for row in which.tolist())
        vertices = drawn.corners[group.first : group.first + group.count, :, 0].astype(np.intp)
        shares = drawing.weights[vertices[:, :, None], which[:, None]]
        assert np.allclose(shares.sum(2), 1, atol=1e-5)


@pytest.mark.parametrize("shown", STATES)
def test_what_is_not_drawn_is_the_plate(shown: FaceState) -> None:
    made = twin_of(avatar_before(128))
    drawing = made.pose(shown)
    drawn = triangle_numbers(groups_of(made, shown))
    pixel, triangle, _ = visible_pixels(drawing.positions, SIZE, SIZE)
    left_out = pixel[~np.isin(triangle, drawn)]
    assert len(left_out) > 0.05 * SIZE**2
    painted = NumpyRenderer(made._scene).draw(drawing).reshape(-1, 3)[left_out]
    plate = plate_as_drawn(made._scene).reshape(-1, 4)[left_out]
    assert np.abs(painted.astype(int) - plate[:, :3]).max() <= 1


def test_solid_triangles_show_nothing_but_the_person() -> None:
    made, shown = twin_of(avatar_before(128)), state(yaw=0.1)
    drawn = groups_of(made, shown)
    solid = triangle_numbers(drawn, Need.SOLID)
    assert solid and triangle_numbers(drawn, Need.EDGE, Need.ALL)
    picture = made.render(shown).reshape(-1, 3).astype(int)
    pixel, triangle, _ = visible_pixels(made.pose(shown).positions, SIZE, SIZE)
    away = np.abs(picture[pixel[np.isin(triangle, solid)]] - (255, 0, 0))
    assert away.max() < 60  # of the grey behind it would be 125


def test_an_open_mouths_dark_goes_with_its_triangles() -> None:
    made = twin_of(made_up_avatar())
    drawing = made.pose(state())
    core = mesh_triangles().all[:, 0] == MOUTH_CORE.start
    drawing.cavity[MOUTH_CORE] = 0.5
    drawn = DrawGroups(made._scene, plate_as_drawn(made._scene)).of(drawing)
    assert core.any() and set(np.flatnonzero(core)) <= set(triangle_numbers(drawn, Need.ALL))
    assert not set(np.flatnonzero(core)) & set(triangle_numbers(groups_of(made, state()), Need.ALL))


def test_sums_find_any_marked_place_within_reach_of_a_rectangle() -> None:
    rng = np.random.default_rng(2)
    marked = rng.random((23, 31)) < 0.01
    low = rng.uniform(-3, 31, (400, 2))
    high = low + rng.uniform(0, 6, (400, 2))
    found = Sums(marked).none_in(low, high)
    assert 0.2 < found.mean() < 0.95
    for (x0, y0), (x1, y1), none in zip(low, high, found, strict=True):
        if none and x1 > 0 and y1 > 0:
            rows = np.clip(np.arange(np.floor(y0 - 0.5), np.floor(y1 - 0.5) + 2), 0, 22).astype(int)
            columns = np.clip(np.arange(np.floor(x0 - 0.5), np.floor(x1 - 0.5) + 2), 0, 30).astype(int)
            assert not marked[np.ix_(rows, columns)].any()


def test_a_rectangle_beyond_the_border_may_show_a_strip_within() -> None:
    low, high = (
        np.array([[-0.5, 0.2], [0.3, 0.9]], np.float32),
        np.array([[-0.1, 0.3], [0.4, 1.7]], np.float32),
    )
    first, last = mirrored(low, high)
    assert np.allclose(first, [[0, 0.2], [0.3, 0.9]]) and np.allclose(last, [[0.05, 0.3], [0.4, 1]])


def test_the_plate_at_the_drawn_size_is_what_the_twin_samples() -> None:
    made = twin_of(avatar_before(40), 96, 80)
    made._scene.plate[::3, ::2] = 250  # something to see
    twin = NumpyRenderer(made._scene)
    behind = twin.behind(np.arange(96 * 80)).reshape(80, 96, 4)
    assert np.abs(plate_as_drawn(made._scene) - behind).max() <= 0.51
