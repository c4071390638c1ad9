"""Tests of what training disturbs in portraits that it moves."""

import cv2
import numpy as np

from mien.bench.generator_portraits import FIELD, Disturbance, Passer, Pictures, smooth, varied_portrait

SIZE = 96


def portrait() -> np.ndarray:
    rng = np.random.default_rng(1)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE, 3)), (0, 0), 2)
    return np.asarray(np.clip(128 + 60 * noise / noise.std(), 0, 255), np.uint8)


def outside() -> np.ndarray:
    out = np.ones((FIELD, FIELD, 1), np.float32)
    out[30:60, 30:60] = 0
    return out


def test_the_same_numbers_disturb_alike() -> None:
    def frames(seed: int) -> np.ndarray:
        disturbance = Disturbance(np.random.default_rng(seed))
        return np.stack([disturbance.at(n, portrait(), outside()) for n in range(3)])

    one = frames(4)
    assert np.array_equal(one, frames(4))
    assert np.abs(one.astype(int) - frames(5)).mean() > 1


def test_a_disturbance_goes_on_smoothly_and_moves_things() -> None:
    moved = []
    for seed in range(6):
        disturbance = Disturbance(np.random.default_rng(seed))
        first, next_one, later = (
            disturbance.at(n, portrait(), outside()).astype(np.float32) for n in (0, 1, 20)
        )
        blurred = [cv2.GaussianBlur(x, (0, 0), 2) for x in (first, next_one, later)]
        moved.append((np.abs(blurred[1] - blurred[0]).mean(), np.abs(blurred[2] - blurred[0]).mean()))
    soon, late = np.mean(moved, 0)
    assert soon < 0.6 * late and late > 1


def test_what_passes_covers_some_of_the_picture() -> None:
    rng = np.random.default_rng(2)
    grey = np.full((SIZE, SIZE, 3), 128, np.float32)
    shares = []
    for _ in range(8):
        passer = Passer(rng)
        shares.append(max((np.abs(passer.before(grey, t) - grey).max(2) > 2).mean() for t in (0.0, 0.4, 0.9)))
    assert 0.005 < np.mean(shares) < 0.5


def test_a_varied_portrait_is_the_same_person() -> None:
    changes = [
        np.abs(varied_portrait(portrait(), np.random.default_rng(s)).astype(float) - portrait()).mean()
        for s in range(5)
    ]
    assert 1 < np.mean(changes) < 45


def test_smooth_fields() -> None:
    field = smooth(np.random.default_rng(3), 8, 2)
    assert field.shape == (FIELD, FIELD, 2) and abs(field.std() - 1) < 0.05
    assert np.abs(np.diff(field, axis=0)).max() < 1


def test_pictures_as_a_source() -> None:
    source = Pictures("me", [portrait()] * 3)
    frames = list(source)
    assert (source.width, source.height, len(source)) == (SIZE, SIZE, 3)
    assert [f.timestamp_us for f in frames] == [0, 40_000, 80_000] and frames[2].index == 2
