"""The renderer: shader against NumPy twin, identity warp, determinism, sizes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import moderngl
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.decoder.blend import skin_sharpness_at, soft_choice
from mien.decoder.framing import Framing, reframe
from mien.decoder.mesh import MOUTH_CORE
from mien.decoder.numpy_renderer import visible_pixels
from mien.decoder.renderer import Renderer
from mien.decoder.scene import finer_by
from mien.models.face_model import FaceModel
from mien.models.pictures import decode_picture
from mien.protocol.state import LANDMARK_COUNT
from tests.picture_fixtures import REFERENCE_STATES, SIZE, made_up_avatar, state


def renderer(backend: str, size: int = SIZE) -> Renderer:
    return Renderer(made_up_avatar(), FaceModel.load(), width=size, height=size, backend=backend)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def twin() -> Iterator[Renderer]:
    made = renderer("numpy")
    yield made
    made.close()


@pytest.fixture(scope="module")
def shader() -> Iterator[Renderer]:
    settings: dict[str, Any] = {"backend": "egl"}
    try:
        moderngl.create_standalone_context(**settings).release()
    except Exception as error:  # noqa: BLE001 - moderngl raises bare Exception
        pytest.skip(f"no EGL: {error}")
    made = renderer("gl")
    yield made
    made.close()


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    worst: NDArray[np.float64] = np.abs(a.astype(np.float64) - b).max(2)
    return worst


@pytest.mark.parametrize(
    "shown",
    [*REFERENCE_STATES, state(yaw=-0.3, x=0.4), state(yaw=0.2, pitch=0.25, expression={0: -0.1, 3: 0.1})],
)
def test_shader_equals_its_numpy_twin(shader: Renderer, twin: Renderer, shown) -> None:  # type: ignore[no-untyped-def]
    apart = difference(shader.render(shown), twin.render(shown))
    # llvmpipe keeps 8 bits of a texel's fraction; pixels on an edge may fall to either triangle
    assert np.percentile(apart, 99) <= 3
    assert apart.mean() < 0.8


def test_two_renderers_of_one_thread_do_not_disturb_each_other(shader: Renderer) -> None:
    before = shader.render(state(yaw=0.1))
    other = renderer("gl", SIZE // 2)
    try:
        assert np.array_equal(shader.render(state(yaw=0.1)), before)
        assert other.render(state()).shape == (SIZE // 2, SIZE // 2, 3)
        assert np.array_equal(shader.render(state(yaw=0.1)), before)
    finally:
        other.close()
    assert np.array_equal(shader.render(state(yaw=0.1)), before)


@pytest.mark.parametrize("number", range(3))
def test_a_reference_in_its_own_state_is_reproduced(twin: Renderer, number: int) -> None:
    wanted = decode_picture(made_up_avatar().references[number].picture)
    apart = difference(twin.render(REFERENCE_STATES[number]), wanted)
    assert np.percentile(apart, 95) <= 6
    assert apart.mean() < 2


def test_the_head_moves_the_picture(twin: Renderer) -> None:
    still, moved = twin.render(state()), twin.render(state(x=0.5))
    middle = slice(SIZE // 3, 2 * SIZE // 3)
    assert difference(still[middle, middle], moved[middle, middle]).mean() > 5
    corners = difference(still, moved)[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.max() < 20  # the border of the frame hardly moves


def test_the_same_state_gives_the_same_picture_whatever_came_before(twin: Renderer) -> None:
    first = twin.render(state(yaw=0.1))
    twin.render(state(yaw=-0.4, expression={0: 0.3}))
    assert np.array_equal(first, twin.render(state(yaw=0.1)))


def test_no_pixel_is_left_empty(twin: Renderer) -> None:
    for shown in (state(yaw=0.6, x=0.8), state(pitch=-0.5, x=-0.8)):
        drawing = twin._scene.draw(FaceModel.load().mean, shown.pose)
        pixel, _, _ = visible_pixels(drawing.positions, SIZE, SIZE)
        assert len(pixel) == SIZE * SIZE


def test_any_size_shows_the_same_picture(twin: Renderer) -> None:
    large = renderer("numpy", 2 * SIZE)
    shown = state(yaw=0.15)
    halved = large.render(shown).reshape(SIZE, 2, SIZE, 2, 3).mean((1, 3)).round().astype(np.uint8)
    assert difference(halved, twin.render(shown)).mean() < 3


def test_a_stream_of_another_framing_shows_the_same_face() -> None:
    own, half = Framing(30.0, SIZE, SIZE), Framing(15.0, SIZE // 2, SIZE // 2)
    pose = np.array([0.1, 0.2, 0.0, 0.3, 0.5, -0.2])
    assert np.allclose(reframe(pose, half, own), pose)
    assert np.allclose(reframe(pose, Framing(15.0, SIZE, SIZE), own)[3:], [0.3 - np.log(2), 0.25, -0.1])


def test_a_mouth_that_no_reference_shows_open_is_painted_dark() -> None:
    model = FaceModel.load()
    spread = model.deviation * (model.basis[:, 14, 1] - model.basis[:, 13, 1])  # lower minus upper lip
    opener = int(np.argmax(np.abs(spread)))
    wide = 4 * float(np.sign(spread[opener]) * model.deviation[opener])
    photo = replace(made_up_avatar(), references=made_up_avatar().references[:1])
    made = Renderer(photo, model, width=SIZE, height=SIZE, backend="numpy")
    opened = state(expression={opener: wide})
    drawing = made._scene.draw(model.vertices(model.mean, opened.expression), opened.pose)
    assert drawing.cavity[MOUTH_CORE].min() > 0.9 and drawing.cavity[:LANDMARK_COUNT].max() == 0
    x, y = drawing.positions[MOUTH_CORE, :2].mean(0).astype(int)
    assert np.abs(made.render(opened)[y, x].astype(int) - made._scene.cavity_rgb).max() < 40
    assert not made._scene.draw(model.mean, state().pose).cavity.any()


def test_wild_states_are_drawn_without_failing(twin: Renderer) -> None:
    for value in (-100.0, 100.0):
        wild = state()
        wild.pose[:] = value
        wild.expression[:] = value
        assert twin.render(wild).shape == (SIZE, SIZE, 3)


def test_far_references_get_no_weight() -> None:
    soft, sharp = soft_choice(np.array([[0.0, 0.1, 50.0]] * 2), np.array([[2.0], [4.0]]))
    assert soft.sum() == pytest.approx(1) and soft[0] > soft[1] > 0 and soft[2] == 0
    assert sharp.sum() == pytest.approx(1) and sharp[0] > soft[0]


def test_the_larger_a_face_is_drawn_the_less_are_pictures_of_skin_mixed() -> None:
    assert skin_sharpness_at(128) == skin_sharpness_at(256) == 2.0
    assert 2.0 < skin_sharpness_at(400) < skin_sharpness_at(1280) == skin_sharpness_at(512)


def test_textures_are_finer_than_what_is_drawn_of_them(twin: Renderer) -> None:
    assert twin._scene.textures.shape[2] >= 1.8 * SIZE
    assert finer_by(0.5) == 1 and finer_by(1.0) == 2


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="backend"):
        renderer("vulkan")
