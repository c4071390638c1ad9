"""The background that no reference shows: continued with its pattern."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.decoder.plate_fill import blurred, fill, mirrored, push_pull

SIZE = 128
WALL = np.array([200, 190, 170], np.float32)
HAIR = np.array([60, 40, 30], np.float32)


def seen_around(left: int = 44, right: int = 84) -> NDArray[np.float32]:
    seen = np.ones((SIZE, SIZE), np.float32)
    seen[30:, left:right] = 0
    return seen


def wall() -> NDArray[np.float32]:
    return np.broadcast_to(WALL, (SIZE, SIZE, 3)).copy()


def test_a_plain_wall_goes_on() -> None:
    picture = wall()
    picture[seen_around() == 0] = HAIR
    filled = fill(picture, seen_around())
    assert np.abs(filled - WALL).max() < 1


def test_a_pattern_goes_on_with_its_contrast() -> None:
    stripes = wall()
    stripes[(np.arange(SIZE) // 2) % 2 == 0] -= 40
    seen = seen_around()
    filled = fill(np.where(seen[..., None] > 0, stripes, HAIR), seen)
    inside = filled[50:110, 50:78]
    assert inside.std() > 0.6 * stripes[50:110].std()
    assert push_pull(stripes, seen)[50:110, 50:78].std() < inside.std()


def test_what_is_seen_stays() -> None:
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 255, (SIZE, SIZE, 3)).astype(np.float32)
    seen = np.ones((SIZE, SIZE), np.float32)
    assert fill(picture, seen) == pytest.approx(picture, abs=1e-3)


def test_mirrored_takes_the_nearer_side() -> None:
    detail = np.zeros((8, 16, 3), np.float32)
    detail[:, :6], detail[:, 10:] = 5, -5
    known = np.ones((8, 16), np.bool_)
    known[:, 6:10] = False
    out = mirrored(detail, known)
    assert (out[:, 6] > 3).all() and (out[:, 9] < -3).all()
    assert (out[:, :6] == 0).all()


def test_nothing_known_is_filled_with_something_finite() -> None:
    picture = wall()
    filled = fill(picture, np.zeros((SIZE, SIZE), np.float32))
    assert np.isfinite(filled).all()


def test_blurred_keeps_what_is_flat_and_the_mean() -> None:
    assert blurred(np.full((20, 30), 7, np.float32), 3) == pytest.approx(np.full((20, 30), 7), abs=1e-4)
    dot = np.zeros((41, 41), np.float32)
    dot[20, 20] = 1
    soft = blurred(dot, 3)
    assert soft.sum() == pytest.approx(1, abs=1e-3)
    assert soft[20, 20] == soft.max() < 0.05
