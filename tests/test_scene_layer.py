"""The scene layer: what was drawn is moved, lit and painted over towards the picture, and the face is left alone."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.decoder.renderer import Renderer
from mien.decoder.scene_decoder import ScenePicture
from mien.decoder.scene_layer import FORGOTTEN_S, Correction, SceneLayer, face_mask, sharpened
from mien.models.face_model import FaceModel
from tests.picture_fixtures import SIZE, made_up_avatar, smooth_picture, state

RATE = Fraction(30)
Positions = NDArray[np.float32]


def layer(width: int = SIZE, height: int = SIZE) -> SceneLayer:
    return SceneLayer(width=width, height=height, stream_width=SIZE, stream_height=SIZE, tick_rate=RATE)


def drawn_at(x: float = 0.0) -> tuple[NDArray[np.uint8], Positions]:
    """Return a made-up avatar's picture and mesh."""
    renderer = Renderer(made_up_avatar(), FaceModel.load(), width=SIZE, height=SIZE, backend="numpy")
    drawing = renderer.pose(state(x=x))
    return renderer.paint(drawing), drawing.positions


def speckled(seed: int = 3) -> NDArray[np.uint8]:
    """Return something that flow can follow: uint8 [SIZE, SIZE, 3]."""
    noise = np.random.default_rng(seed).normal(0, 1, (SIZE, SIZE, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.clip(128 + 200 * smooth, 0, 255).astype(np.uint8)


def outside(positions: Positions) -> NDArray[np.bool_]:
    return np.asarray(face_mask(positions, (SIZE, SIZE), 1.3) == 0)


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8], where: NDArray[np.bool_]) -> float:
    return float(np.abs(a.astype(float) - b).mean(2)[where].mean())


def test_a_picture_of_what_is_drawn_changes_nothing() -> None:
    drawn, positions = drawn_at()
    scene = layer()
    scene.add(ScenePicture(0, drawn, face=True), drawn, positions)
    assert np.abs(scene.paint(drawn, positions, 0).astype(int) - drawn).max() <= 1


def test_without_a_picture_nothing_changes() -> None:
    drawn, positions = drawn_at()
    assert scene_paints_nothing(layer(), drawn, positions)


def scene_paints_nothing(scene: SceneLayer, drawn: NDArray[np.uint8], positions: Positions) -> bool:
    return bool((scene.paint(drawn, positions, 5) == drawn).all())


def test_what_stands_elsewhere_is_moved_and_stays_sharp() -> None:
    _, positions = drawn_at()
    drawn = speckled()
    moved = np.roll(drawn, (2, 3), (0, 1))
    seen = cv2.GaussianBlur(moved, (0, 0), 1.0)  # a scene is never as sharp
    scene = layer()
    for tick in (0, 3, 6, 9):
        scene.add(ScenePicture(tick, np.asarray(seen, np.uint8), face=True), drawn, positions)
    shown = scene.paint(drawn, positions, 9)
    where = outside(positions)
    assert difference(shown, moved, where) < 0.35 * difference(drawn, moved, where)
    assert difference(shown, moved, where) < difference(np.asarray(seen, np.uint8), moved, where) + 3
    inside = face_mask(positions, (SIZE, SIZE), 0.95) == 1
    assert difference(shown, drawn, inside) < 4  # a face is moved by its coefficients alone


def test_light_is_transferred_and_a_filled_face_tells_its_own() -> None:
    drawn, positions = drawn_at()
    brighter = np.clip(drawn.astype(int) + 6, 0, 255).astype(np.uint8)
    for face in (True, False):
        scene = layer()
        for tick in range(0, 30, 3):
            scene.add(ScenePicture(tick, brighter, face=face), drawn, positions)
        gained = scene.paint(drawn, positions, 27).astype(int) - drawn
        middle = (drawn > 20) & (drawn < 230)
        assert abs(float(gained[middle].mean()) - 6) < 1.2


def test_what_no_reference_has_is_painted() -> None:
    drawn, positions = drawn_at()
    seen = drawn.copy()
    hand = (slice(SIZE - 30, SIZE - 6), slice(6, 30))
    seen[hand] = (250, 10, 10)
    scene = layer()
    for tick in range(0, 18, 3):
        scene.add(ScenePicture(tick, seen, face=True), drawn, positions)
    shown = scene.paint(drawn, positions, 15)
    assert difference(shown, seen, np.ones((SIZE, SIZE), bool)) < 1.5
    assert np.abs(shown[SIZE - 20, 15].astype(int) - (250, 10, 10)).max() < 20


def test_corrections_go_along_with_the_head() -> None:
    drawn, positions = drawn_at()
    later, moved = drawn_at(x=0.5)
    seen = drawn.copy()
    x, y = (int(v) for v in positions[10, :2])  # above the forehead: a flower
    cv2.circle(seen, (x, y - 14), 5, (250, 0, 250), -1)
    scene = layer()
    for tick in range(0, 18, 3):
        scene.add(ScenePicture(tick, seen, face=True), drawn, positions)
    shown = scene.paint(later, moved, 16)
    pink = (shown[..., 0] > 180) & (shown[..., 1] < 80)
    before = (seen[..., 0] > 240) & (seen[..., 1] < 5) & (seen[..., 2] > 240)
    gone = np.argwhere(pink).mean(0)[1] - np.argwhere(before).mean(0)[1]
    head = float(moved[10, 0] - positions[10, 0])
    assert pink.any() and 0.3 * head < gone < 1.1 * head  # hair goes along in part


def test_between_two_pictures_nothing_jumps() -> None:
    drawn, positions = drawn_at()
    scene = layer()
    for tick, step in ((0, 0), (3, 12)):
        seen = np.clip(drawn.astype(int) + step, 0, 255).astype(np.uint8)
        scene.add(ScenePicture(tick, seen, face=True), drawn, positions)
    levels = [float(scene.paint(drawn, positions, Fraction(t, 2)).mean()) for t in range(9)]
    steps = np.diff(levels)
    assert steps[:6].min() >= 0 and steps[:6].max() < 2.5 and steps[:6].sum() > 3  # evenly it would be 2
    assert np.abs(steps[6:]).max() == 0  # the newest holds


def test_an_old_picture_is_forgotten() -> None:
    drawn, positions = drawn_at()
    scene = layer()
    scene.add(ScenePicture(0, smooth_picture(9), face=True), drawn, positions)
    changed = [
        difference(scene.paint(drawn, positions, tick), drawn, np.ones((SIZE, SIZE), bool))
        for tick in (0, round(FORGOTTEN_S[0] * 30), 33, round(FORGOTTEN_S[1] * 30) + 1, 10**6)
    ]
    assert changed[0] == changed[1] > changed[2] > changed[3] == changed[4] == 0


def test_pictures_out_of_order_are_ignored_and_few_are_kept() -> None:
    drawn, positions = drawn_at()
    scene = layer()
    for tick in (*range(0, 60, 3), 4):
        scene.add(ScenePicture(tick, drawn, face=True), drawn, positions)
    assert scene.newest_tick == 57
    scene.add(ScenePicture(58, drawn, face=True), drawn, positions)
    assert scene.newest_tick == 57  # more often than that makes no sense
    scene.add(ScenePicture(59, drawn, face=True), drawn, positions)
    assert scene.newest_tick == 59


def test_a_part_of_the_stream_is_drawn() -> None:
    """A wide stream in a square picture: only its middle counts."""
    _, positions = drawn_at()
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, 32:96] = 200  # the part that is drawn
    scene = SceneLayer(width=SIZE, height=SIZE, stream_width=256, stream_height=128, tick_rate=RATE)
    drawn = np.full((SIZE, SIZE, 3), 190, np.uint8)
    scene.add(ScenePicture(0, wide, face=True), drawn, positions)
    assert np.abs(scene.paint(drawn, positions, 0).astype(int) - 200).max() <= 2


@pytest.mark.parametrize("value", [np.inf, -1e30, 1e30, 0.0])
def test_any_mesh_gives_a_picture(value: float) -> None:
    drawn, positions = drawn_at()
    scene = layer()
    scene.add(ScenePicture(0, smooth_picture(2), face=False), drawn, positions)
    wild = positions.copy()
    wild[::3, :2] = np.clip(value, -1e4, 1e4)  # `mien.decoder.scene.within_reach` bounds what is drawn
    assert scene.paint(drawn, wild, 1).shape == drawn.shape


def test_a_painted_picture_is_a_little_sharper_than_the_one_that_a_generator_is_shown() -> None:
    drawn, positions = drawn_at()
    seen = np.full_like(drawn, 60)
    seen[:, ::16] = 180  # lines that the coder has left soft
    seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), 1.0), np.uint8)
    correction = kept(seen, drawn, positions)
    twice = sharpened(correction)
    assert np.ptp(twice.picture) > 1.05 * np.ptp(correction.picture)
    assert twice.picture.min() >= 0 and twice.picture.max() <= 255
    assert np.array_equal(twice.fields()[..., :6], correction.fields()[..., :6])
    assert np.array_equal(correction.picture, seen)


def kept(seen: NDArray[np.uint8], drawn: NDArray[np.uint8], positions: NDArray[np.floating]) -> Correction:
    scene = layer()
    scene.add(ScenePicture(0, seen, face=True), drawn, positions)
    return scene._corrections[-1]
