"""The background plate: exact where it was seen, not trusted where it was not, and a person only where the mattes say."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.decoder.plate import CLEAR, RIM, Plate, grown, make_plate, with_head
from mien.decoder.plate_fill import push_pull
from mien.decoder.renderer import Renderer
from mien.models.face_model import FaceModel, project
from mien.models.pictures import decode_matte, decode_picture, encode_matte, encode_picture
from mien.protocol.avatar import Avatar
from mien.protocol.errors import MienError
from mien.protocol.state import FaceState
from tests.picture_fixtures import REFERENCE_STATES, SIZE, UNIT_PX, made_up_avatar, smooth_picture, state

SIDE = 200
PERSON = 50  # pixels each way
RED = (255, 0, 0)


def person_before(background: NDArray[np.uint8], left: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a picture with a red square before a background, and its matte."""
    picture, matte = background.copy(), np.zeros((SIDE, SIDE), np.uint8)
    square = slice(SIDE - PERSON, SIDE), slice(left, left + PERSON)
    picture[square], matte[square] = RED, 255
    return picture, matte


def plate_of(*people: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> Plate:
    return make_plate(np.stack([picture for picture, _ in people]), [matte for _, matte in people])


def test_the_plate_is_exact_where_any_reference_shows_the_background() -> None:
    background = smooth_picture(5, SIDE)
    plate = plate_of(person_before(background, 20), person_before(background, 120))
    apart = np.abs(plate.rgb.astype(int) - background).max(2)
    assert apart.max() <= 1  # the two people never stand at the same place
    assert plate.trust.min() == 255


def test_what_always_stood_behind_the_person_is_filled_and_stands_still() -> None:
    background = np.full((SIDE, SIDE, 3), 90, np.uint8)
    picture, matte = person_before(background, 80)
    plate = plate_of((picture, matte), (picture, matte))
    assert (plate.trust[matte > 0] == 255).all()
    far = grown(matte, 4 * CLEAR * SIDE) == 0
    assert plate.trust[far].min() == 255
    assert np.abs(plate.rgb.astype(int) - 90).max() <= 1  # no red came through


def test_backgrounds_that_moved_are_not_trusted() -> None:
    people = [person_before(smooth_picture(seed, SIDE), 80) for seed in (1, 2, 3)]
    plate = plate_of(*people)
    assert not plate.trust.any()
    assert plate.masks.any()  # still known: a person is not to be continued beyond the border


def test_something_that_moves_in_a_standing_background_is_not_trusted_there() -> None:
    background = np.full((SIDE, SIDE, 3), 90, np.uint8)
    people = [person_before(background, 80) for _ in range(3)]
    for number, (picture, _) in enumerate(people):
        picture[:40, :40] = 60 * number  # a passer-by
    plate = plate_of(*people)
    assert plate.trust[15:25, 15:25].max() == 0
    assert plate.trust[:80, 80:].min() == 255


@pytest.mark.parametrize("mattes", [[None, None], [255, None], [255, 255]])
def test_without_mattes_or_without_background_nothing_is_trusted_or_masked(mattes: list[int | None]) -> None:
    pictures = np.stack([smooth_picture(seed, SIDE) for seed in range(2)])
    made = make_plate(pictures, [None if m is None else np.full((SIDE, SIDE), m, np.uint8) for m in mattes])
    assert not made.trust.any() and not made.masks.any()


def test_masks_keep_a_rim_and_no_more() -> None:
    plate = plate_of(person_before(smooth_picture(0, SIDE), 80))
    matte = person_before(smooth_picture(0, SIDE), 80)[1]
    assert plate.masks[0][matte > 0].min() > 240
    assert plate.masks[0][grown(matte, 1) > 0].min() > 200
    assert plate.masks[0][grown(matte, 4 * RIM * SIDE) == 0].max() == 0


def test_growing_reaches_as_far_as_it_says() -> None:
    dot = np.zeros((11, 15), np.uint8)
    dot[2, 9] = 200
    wanted = np.zeros_like(dot)
    wanted[0:6, 6:13] = 200
    assert np.array_equal(grown(dot, 3.2), wanted)
    assert np.array_equal(grown(dot, 0.0), dot)


def test_filling_keeps_what_is_known() -> None:
    known = np.random.default_rng(0).uniform(0, 255, (37, 22, 3)).astype(np.float32)
    weight = np.zeros((37, 22), np.float32)
    weight[:, :5] = 1
    filled = push_pull(known, weight)
    assert np.allclose(filled[:, :5], known[:, :5], atol=1e-3)
    assert known[:, :5].min() - 1e-2 <= filled.min() and filled.max() <= known[:, :5].max() + 1e-2


def test_wild_landmarks_fill_a_matte_without_harm() -> None:
    wild = np.random.default_rng(1).uniform(-1e30, 1e30, (478, 3))
    assert with_head(np.zeros((16, 24), np.uint8), wild).shape == (16, 24)


def avatar_before(grey: int, *, person: bool = True) -> Avatar:
    """Return the made-up avatar with mattes that are the head; `grey` is what the pictures show around it."""
    model, references = FaceModel.load(), []
    for reference, posed in zip(made_up_avatar().references, REFERENCE_STATES, strict=True):
        shape = model.vertices(model.mean, posed.expression)
        landmarks = project(shape, posed.pose, unit_px=float(UNIT_PX), width=SIZE, height=SIZE)
        matte = with_head(np.zeros((SIZE, SIZE), np.uint8), landmarks)
        picture = np.where(matte[..., None] > 0, RED, grey).astype(np.uint8)
        coded = encode_matte(matte, quality=95) if person else b""
        references.append(replace(reference, picture=encode_picture(picture, quality=95), matte=coded))
    return replace(made_up_avatar(), references=tuple(references))


def test_a_person_stays_within_the_matte_and_before_the_plate() -> None:
    made = Renderer(avatar_before(128), FaceModel.load(), width=SIZE, height=SIZE, backend="numpy")
    drawn = made.render(state(x=0.5)).astype(int)
    assert np.abs(drawn[SIZE // 2, SIZE // 2 + 15] - RED).max() < 20
    background = np.abs(drawn - 128).max(2) < 12
    assert background[:, :10].all() and background[0].all()


def cut_at_the_forehead(avatar: Avatar, *, person: bool) -> Avatar:
    """Return an avatar whose references show everything higher up, the head's top beyond the border."""
    shift = 48
    references = []
    for reference in avatar.references:
        picture = np.full((SIZE, SIZE, 3), 128, np.uint8)
        picture[:-shift] = decode_picture(reference.picture)[shift:]
        matte = np.zeros((SIZE, SIZE), np.uint8)
        matte[:-shift] = decode_matte(reference.matte)[shift:]
        references.append(
            replace(
                reference,
                picture=encode_picture(picture, quality=95),
                matte=encode_matte(matte, quality=95) if person else b"",
                landmarks=reference.landmarks - np.array([0, shift, 0], np.float32),
            )
        )
    return replace(avatar, references=tuple(references))


def red_at_the_top(avatar: Avatar) -> int:
    made = Renderer(avatar, FaceModel.load(), width=SIZE, height=SIZE, backend="numpy")
    drawn = made.render(state()).astype(int)
    return int((drawn[0, :, 0] - drawn[0, :, 1] > 60).sum())


def test_no_mirrored_head_comes_in_over_the_border() -> None:
    whole = avatar_before(128)
    assert red_at_the_top(cut_at_the_forehead(whole, person=False)) > 5  # nobody said what is the person
    assert red_at_the_top(cut_at_the_forehead(whole, person=True)) == 0


def test_avatars_without_mattes_are_drawn_from_the_references_alone() -> None:
    made = Renderer(
        avatar_before(128, person=False), FaceModel.load(), width=SIZE, height=SIZE, backend="numpy"
    )
    shown = state(yaw=0.1, x=0.3)
    before = made.render(shown)
    made._scene.plate[..., :3] = 0
    painter = made._painter
    painter._plate[..., :3] = 0  # type: ignore[attr-defined]
    assert np.array_equal(made.render(shown), before)


@pytest.mark.parametrize("shown", [state(), state(yaw=-0.3, x=0.4), state(yaw=0.2, pitch=0.25)])
def test_shader_equals_its_numpy_twin_with_a_plate(shown: FaceState) -> None:
    avatar = cut_at_the_forehead(avatar_before(128), person=True)
    try:
        shader = Renderer(avatar, FaceModel.load(), width=SIZE, height=96, backend="gl")
    except MienError as error:
        pytest.skip(str(error))
    twin = Renderer(avatar, FaceModel.load(), width=SIZE, height=96, backend="numpy")
    assert twin._scene.plate[..., 3].any()
    apart = np.abs(shader.render(shown).astype(float) - twin.render(shown)).max(2)
    shader.close()
    assert (
        np.percentile(apart, 98) <= 4
    )  # the head's edge is a step of colour: pixels may fall to either side
    assert apart.mean() < 0.8
