"""The generator's player: what it opens, what it refuses, and what becomes of a scene with and without it."""

import hashlib
import logging
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.decoder import generator
from mien.decoder.generator import Generator, open_session, shipped_generator
from mien.decoder.scene_decoder import ScenePicture
from mien.decoder.scene_layer import SceneLayer, face_mask
from mien.models.generator_asset import GeneratorAsset
from mien.models.generator_fields import INPUT_PLANES, OUTPUT_PLANES
from mien.protocol.errors import MienError
from tests.picture_fixtures import SIZE
from tests.test_scene_layer import drawn_at

pytest.importorskip("onnxruntime")
# Beside the FaceMesh tracker there is an older protobuf than onnx can be imported with.
onnx = pytest.importorskip("onnx", reason="onnx cannot be imported here", exc_type=ImportError)


def tiny_network(*, bias: float = 0.0, planes: int = INPUT_PLANES) -> bytes:
    """Return an ONNX file that answers `bias` everywhere, whatever it is asked."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    kind = onnx.TensorProto.FLOAT
    shape = [1, planes, "height", "width"]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["planes", "weight", "bias"], ["fields"])],
        "tiny",
        [helper.make_tensor_value_info("planes", kind, shape)],
        [helper.make_tensor_value_info("fields", kind, [1, OUTPUT_PLANES, "height", "width"])],
        [
            numpy_helper.from_array(np.zeros((OUTPUT_PLANES, planes, 1, 1), np.float32), "weight"),
            numpy_helper.from_array(np.full(OUTPUT_PLANES, bias, np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def planes(size: int = 32) -> NDArray[np.float32]:
    return np.zeros((1, INPUT_PLANES, size, size), np.float32)


def test_a_network_runs_where_it_says() -> None:
    made = Generator(tiny_network(bias=0.25))
    assert made.provider in made._session.get_providers() and made.device in generator.PROVIDERS.values()
    assert made.run_ms > 0
    out = made(planes())
    assert out.shape == (1, OUTPUT_PLANES, 32, 32) and np.allclose(out, 0.25)


def test_the_faster_provider_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {"CUDAExecutionProvider": 5.0, "CPUExecutionProvider": 2.0}

    class Session:
        def __init__(self, provider: str) -> None:
            self.provider = provider

        def get_providers(self) -> list[str]:
            return [self.provider]

        def get_inputs(self) -> list[Any]:
            return [type("Input", (), {"name": "planes"})]

    class Runtime:
        def get_available_providers(self) -> list[str]:
            return list(speeds)

    monkeypatch.setattr(generator, "load_runtime", Runtime)
    monkeypatch.setattr(generator, "open_session", lambda runtime, model, provider: Session(provider))
    monkeypatch.setattr(generator, "measured_ms", lambda session: speeds[session.provider])
    assert Generator(b"").provider == "CPUExecutionProvider"
    speeds["CUDAExecutionProvider"] = 1.0
    assert Generator(b"").device == "CUDA"


def test_a_provider_that_leaves_its_work_to_another_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = generator.load_runtime()
    fallen_back = open_session(runtime, tiny_network(), "CPUExecutionProvider")
    monkeypatch.setattr(generator, "open_session", lambda *_: fallen_back)
    monkeypatch.setattr(runtime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(MienError, match="any of its providers"):
        Generator(tiny_network())


@pytest.mark.parametrize(
    ("model", "said"), [(b"no network", "cannot be read"), (tiny_network(planes=5), "5 planes")]
)
def test_what_is_no_generator_is_refused(model: bytes, said: str) -> None:
    with pytest.raises(MienError, match=said):
        Generator(model)


def test_a_run_that_fails_says_so() -> None:
    with pytest.raises(MienError, match="failed on"):
        Generator(tiny_network())(np.zeros((1, 3, 8, 8), np.float32))


def test_without_the_runtime_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MienError, match="pip install onnxruntime"):
        Generator(tiny_network())


def ship(monkeypatch: pytest.MonkeyPatch, folder: Path, model: bytes, sha256: str | None = None) -> None:
    assets = folder / "assets"
    assets.mkdir()
    (assets / "tiny.onnx").write_bytes(model)
    monkeypatch.setattr(resources, "files", lambda _: folder)
    asset = GeneratorAsset("tiny.onnx", sha256 or hashlib.sha256(model).hexdigest())
    monkeypatch.setattr(generator, "SHIPPED", asset)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv(generator.SWITCH, raising=False)
    generator._shipped.cache_clear()
    yield None
    generator._shipped.cache_clear()


def test_the_shipped_one_is_opened_once_and_can_be_switched_off(
    fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ship(monkeypatch, tmp_path, tiny_network())
    first = shipped_generator()
    assert first is not None and shipped_generator() is first
    monkeypatch.setenv(generator.SWITCH, "off")
    assert shipped_generator() is None


def test_a_damaged_one_is_told_and_not_used(
    fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ship(monkeypatch, tmp_path, tiny_network(), sha256="00" * 32)
    with caplog.at_level(logging.WARNING):
        assert shipped_generator() is None
    assert "damaged" in caplog.text
    monkeypatch.setattr(generator, "SHIPPED", GeneratorAsset("gone.onnx", "00"))
    with pytest.raises(MienError, match="install mien again"):
        generator.open_shipped()


# --- in the scene layer -------------------------------------------------------------------------------------


def layer(network: Any, size: int = SIZE) -> SceneLayer:
    return SceneLayer(
        width=size,
        height=size,
        stream_width=size,
        stream_height=size,
        tick_rate=Fraction(30),
        generator=network,
    )


def brighter(drawn: NDArray[np.uint8]) -> ScenePicture:
    return ScenePicture(0, np.clip(drawn.astype(int) + 20, 0, 255).astype(np.uint8), face=True)


def test_the_generator_decides_what_is_painted() -> None:
    drawn, positions = drawn_at()

    def all_of_it(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        out = np.zeros((1, OUTPUT_PLANES, *planes.shape[2:]), np.float32)
        out[:, 5] = 1  # all that is coarse comes from the picture
        return out

    scene = layer(all_of_it)
    picture = brighter(drawn)
    scene.add(picture, drawn, positions)
    shown = scene.paint(drawn, positions, 0)
    assert np.abs(shown.astype(int) - picture.rgb).mean() < 2
    plain = layer(lambda planes: np.zeros((1, OUTPUT_PLANES, *planes.shape[2:]), np.float32))
    plain.add(picture, drawn, positions)
    without = layer(None)
    without.add(picture, drawn, positions)
    outside = face_mask(positions, (SIZE, SIZE), 1.3) == 0
    for each in (plain, without):  # light of the whole picture, as slow as ever
        assert np.abs(each.paint(drawn, positions, 0).astype(int) - picture.rgb)[outside].mean() < 6


def test_measurements_do_not_depend_on_what_the_generator_made_of_those_before() -> None:
    drawn, positions = drawn_at()
    noise = np.random.default_rng(5).normal(0, 20, drawn.shape)
    seen = np.clip(drawn + cv2.GaussianBlur(noise, (0, 0), 2), 0, 255).astype(np.uint8)
    asked: list[NDArray[np.float32]] = []

    def wild(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.append(planes)
        return np.ones((1, OUTPUT_PLANES, *planes.shape[2:]), np.float32)

    with_it, without = layer(wild), layer(None)
    for tick in (0, 3, 6):
        for scene in (with_it, without):
            scene.add(ScenePicture(tick, seen, face=True), drawn, positions)
    assert with_it._plain is not None
    assert np.allclose(with_it._plain.fields(), without._corrections[-1].fields())
    assert not np.allclose(with_it._corrections[-1].fields(), without._corrections[-1].fields())
    assert [float(planes[0, -2].mean()) for planes in asked] == [0, 1, 1]  # whether there was one before


def test_a_generator_that_fails_is_not_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    drawn, positions = drawn_at()
    asked = []

    def failing(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.append(planes)
        raise MienError("no memory")

    scene, without = layer(failing), layer(None)
    for tick in (0, 3):
        for each in (scene, without):
            each.add(ScenePicture(tick, brighter(drawn).rgb, face=True), drawn, positions)
    assert len(asked) == 1 and "no memory" in caplog.text
    assert np.array_equal(scene.paint(drawn, positions, 3), without.paint(drawn, positions, 3))


@pytest.mark.parametrize("shape", [(128, 72), (72, 128), (100, 90), (128, 128)])
def test_every_shape_of_picture_gets_a_grid_that_the_generator_takes(shape: tuple[int, int]) -> None:
    width, height = shape
    scene = SceneLayer(
        width=640, height=360, stream_width=width, stream_height=height, tick_rate=Fraction(30)
    )
    seen = scene._visible(np.full((height, width, 3), 90, np.uint8))
    assert seen.shape[0] % 8 == 0 == seen.shape[1] % 8
    assert (seen == 90).all()
