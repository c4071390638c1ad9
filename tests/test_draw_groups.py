"""What the shader is spared: triangles sorted by what shows in them, nothing lost, and the background not drawn."""

import numpy as np
import pytest

from mien.decoder.draw_groups import DrawGroups, Group, Need, Sums, mirrored, plate_as_drawn
from mien.decoder.mesh import VERTEX_COUNT, mesh_triangles
from mien.decoder.numpy_renderer import NumpyRenderer, visible_pixels
from mien.decoder.renderer import Renderer
from mien.decoder.scene import Drawing
from mien.models.face_model import FaceModel
from mien.protocol.avatar import Avatar
from mien.protocol.state import FaceState
from tests.picture_fixtures import SIZE, made_up_avatar, state
from tests.test_plate import avatar_before

STATES = [state(), state(yaw=-0.3, x=0.4), state(yaw=0.2, pitch=0.25, expression={0: -0.1, 3: 0.1})]


def twin_of(avatar: Avatar, width: int = SIZE, height: int = SIZE) -> Renderer:
    return Renderer(avatar, FaceModel.load(), width=width, height=height, backend="numpy")


def groups_of(made: Renderer, shown: FaceState) -> list[Group]:
    scene = made._scene
    return DrawGroups(scene, plate_as_drawn(scene)).of(drawing_of(made, shown))


def drawing_of(made: Renderer, shown: FaceState) -> Drawing:
    """Return a drawing in which no two vertices lie at the same place."""
    drawing = made.pose(shown)
    drawing.positions[:, 2] += np.float32(0.01) * np.arange(VERTEX_COUNT, dtype=np.float32)
    return drawing


def triangle_numbers(made: Renderer, shown: FaceState, group: Group) -> list[int]:
    """Return which triangles of the mesh a group holds, by their corners."""
    corners = drawing_of(made, shown).positions[mesh_triangles().all.astype(int)]
    known = {corner.tobytes(): number for number, corner in enumerate(corners)}
    return [known[c.tobytes()] for c in np.ascontiguousarray(group.corners[:, :3]).reshape(-1, 3, 3)]


@pytest.mark.parametrize("shown", STATES)
def test_every_triangle_in_the_picture_is_in_one_group_with_all_its_weights(shown: FaceState) -> None:
    made = twin_of(made_up_avatar())  # without mattes: there is no plate to show instead
    groups = groups_of(made, shown)
    numbers = [n for group in groups for n in triangle_numbers(made, shown, group)]
    assert len(numbers) == len(set(numbers))
    seen = np.unique(visible_pixels(made.pose(shown).positions, SIZE, SIZE)[1])
    assert set(seen.tolist()) <= set(numbers)
    for group in groups:
        sources = group.corners[:, 4:].reshape(len(group.corners), group.room, 4)
        assert np.allclose(sources[..., 3].sum(1), 1, atol=1e-5)
        assert all(len(set(layers)) == group.room for layers in sources[..., 2].tolist())


def test_sources_say_where_a_corner_lies_in_a_reference() -> None:
    made, shown = twin_of(made_up_avatar()), STATES[1]
    triangles = mesh_triangles().all.astype(int)
    for group in groups_of(made, shown):
        vertices = triangles[triangle_numbers(made, shown, group)].reshape(-1)
        sources = group.corners[:, 4:].reshape(len(group.corners), group.room, 4)
        layers = sources[..., 2].astype(int)
        assert np.array_equal(sources[..., :2], made._scene.uv[vertices[:, None], layers])
        assert np.array_equal(sources[..., 3], made.pose(shown).weights[vertices[:, None], layers])


@pytest.mark.parametrize("shown", STATES)
def test_what_is_not_drawn_is_the_plate(shown: FaceState) -> None:
    made = twin_of(avatar_before(128))
    drawing = made.pose(shown)
    groups = groups_of(made, shown)
    drawn = {n for group in groups for n in triangle_numbers(made, shown, group)}
    pixel, triangle, _ = visible_pixels(drawing.positions, SIZE, SIZE)
    left_out = pixel[~np.isin(triangle, list(drawn))]
    assert len(left_out) > 0.05 * SIZE**2
    painted = NumpyRenderer(made._scene).draw(drawing).reshape(-1, 3)[left_out]
    plate = plate_as_drawn(made._scene).reshape(-1, 4)[left_out]
    assert np.abs(painted.astype(int) - plate[:, :3]).max() <= 1


def test_solid_triangles_show_nothing_but_the_person() -> None:
    made, shown = twin_of(avatar_before(128)), state(yaw=0.1)
    groups = groups_of(made, shown)
    solid = [n for g in groups if g.need is Need.SOLID for n in triangle_numbers(made, shown, g)]
    other = [n for g in groups if g.need is not Need.SOLID for n in triangle_numbers(made, shown, g)]
    assert solid and other
    picture = made.render(shown).reshape(-1, 3).astype(int)
    pixel, triangle, _ = visible_pixels(made.pose(shown).positions, SIZE, SIZE)
    assert np.abs(picture[pixel[np.isin(triangle, solid)]] - (255, 0, 0)).max() < 25


def test_an_open_mouths_dark_goes_with_its_triangles() -> None:
    made = twin_of(made_up_avatar())
    drawing = made.pose(state())
    drawing.cavity[:] = 0.5
    groups = DrawGroups(made._scene, plate_as_drawn(made._scene)).of(drawing)
    assert {group.need for group in groups} == {Need.ALL}
    assert all((group.corners[:, 3] == 0.5).all() for group in groups)


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
