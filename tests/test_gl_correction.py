"""The scene layer in OpenGL against its twin on the processor."""

from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.decoder.gl_renderer import GlRenderer
from mien.decoder.renderer import Renderer
from mien.decoder.scene_decoder import ScenePicture
from mien.decoder.scene_layer import SceneLayer, corrected
from mien.decoder.scene_painter import SceneReplay
from mien.models.face_model import FaceModel
from mien.protocol.errors import MienError
from tests.picture_fixtures import SIZE, made_up_avatar, state
from tests.test_scene_painter import face_at, header, messages

WIDE = (160, 96)


@pytest.fixture(scope="module")
def shader() -> Iterator[Renderer]:
    try:
        made = Renderer(made_up_avatar(), FaceModel.load(), width=WIDE[0], height=WIDE[1], backend="gl")
    except MienError as error:
        pytest.skip(str(error))
    yield made
    made.close()


def painter_of(made: Renderer) -> GlRenderer:
    assert isinstance(made._painter, GlRenderer)
    return made._painter


def speckled(seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0, 1, (SIZE, SIZE, 3)).astype(np.float32)
    return np.clip(128 + 200 * cv2.GaussianBlur(noise, (0, 0), 2.5), 0, 255).astype(np.uint8)


def scene_of(made: Renderer) -> SceneLayer:
    """Return a scene of two pictures that are unlike what is drawn: all fields have something to say."""
    scene = SceneLayer(
        width=WIDE[0], height=WIDE[1], stream_width=SIZE, stream_height=SIZE, tick_rate=Fraction(30)
    )
    for tick, x in ((0, 0.0), (4, 0.3)):
        drawing = made.pose(state(x=x))
        scene.add(ScenePicture(tick, speckled(tick), face=tick == 0), made.paint(drawing), drawing.positions)
    return scene


@pytest.mark.parametrize("position", [Fraction(0), Fraction(2), Fraction(3), Fraction(4), Fraction(30)])
def test_shader_equals_its_twin(shader: Renderer, position: Fraction) -> None:
    scene = scene_of(shader)
    drawing = shader.pose(state(x=0.1, yaw=0.15))
    drawn = shader.paint(drawing)
    blend = scene.blend(drawing.positions, position)
    assert blend is not None
    wanted = corrected(drawn, blend).astype(int)
    apart = np.abs(painter_of(shader).corrected(drawn, blend) - wanted).max(2)
    assert np.abs(wanted - drawn).mean() > 8  # there is something to compare
    # OpenCV knows 32 places between two pixels; where the mesh folds, either triangle may be in front
    assert np.percentile(apart, 97) <= 6 and apart.mean() < 1.5


def test_a_picture_drawn_before_is_corrected_as_well_as_the_last(shader: Renderer) -> None:
    scene = scene_of(shader)
    drawing = shader.pose(state(x=0.1))
    drawn = shader.paint(drawing)
    blend = scene.blend(drawing.positions, 2)
    assert blend is not None
    first = painter_of(shader).corrected(drawn, blend)
    shader.render(state(yaw=-0.4))  # something else is in the frame buffer now
    assert np.array_equal(painter_of(shader).corrected(drawn, blend), first)
    assert not np.array_equal(painter_of(shader).corrected(shader.render(state(yaw=-0.4)), blend), first)


def test_textures_of_corrections_that_are_gone_go_too(shader: Renderer) -> None:
    scene = scene_of(shader)
    drawing = shader.pose(state())
    drawn = shader.paint(drawing)
    sizes = []
    for position in (2, 3, 0, 2):
        blend = scene.blend(drawing.positions, position)
        assert blend is not None
        painter_of(shader).corrected(drawn, blend)
        correction = painter_of(shader)._correction
        assert correction is not None
        sizes.append(len(correction._fields))
    assert sizes == [2, 2, 1, 2]


def test_a_processor_that_plays_graphics_card_is_spared(
    shader: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    painter = painter_of(shader)
    monkeypatch.setattr(painter, "device", "llvmpipe (LLVM 15.0.6, 256 bits)")
    assert shader.corrector is None
    monkeypatch.setattr(painter, "device", "NVIDIA H200")
    assert shader.corrector == painter.corrected


def test_a_talk_is_drawn_with_it_where_there_is_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    sent, pictures = messages(0, 12), {}
    for device in ("llvmpipe", "card"):
        try:
            made = Renderer(made_up_avatar(), FaceModel.load(), width=SIZE, height=SIZE, backend="gl")
        except MienError as error:
            pytest.skip(str(error))
        monkeypatch.setattr(painter_of(made), "device", device)
        replay = SceneReplay(sent, made, header())
        pictures[device] = np.stack([replay.render(face_at, Fraction(tick)) for tick in range(12)]).astype(
            int
        )
        assert (painter_of(made)._correction is None) == (device == "llvmpipe")
        made.close()
    apart = np.abs(pictures["card"] - pictures["llvmpipe"]).max(3)
    assert np.percentile(apart, 97) <= 6
