"""Tests of what the generator is asked and answers."""

import cv2
import numpy as np
import pytest

from mien.models.generator_asset import SHIPPED
from mien.models.generator_fields import (
    FINE_PLANES,
    INPUT_PLANES,
    INPUTS,
    MAX_LIGHT,
    OUTPUT_PLANES,
    RESTORED_LEVELS,
    SHARPER,
    Situation,
    blurred,
    corrected,
    fields_of,
    fits,
    input_of,
    lit_picture,
    refined,
    shares,
)


def situation(*, width: int = 48, height: int = 32, face: bool = False, before: bool = False) -> Situation:
    rng = np.random.default_rng(5)
    angle = np.linspace(0, 2 * np.pi, 500)
    positions = np.stack(
        [width / 2 + 8 * np.cos(angle), height / 2 + 9 * np.sin(angle), 0 * angle], 1
    ).astype(np.float32)
    outside = np.ones((height, width, 1), np.float32)
    outside[10:20, 20:30] = 0
    base = rng.normal(0, 1, (height, width, 9)).astype(np.float32)
    base[..., 5] = rng.uniform(0, 1, (height, width))
    base[..., 6:] = rng.uniform(0, 255, (height, width, 3))
    return Situation(
        seen=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        drawn=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        base=base,
        before=base[::-1].copy() if before else None,
        outside=outside,
        positions=positions,
        face=face,
    )


def output(value: float, *, width: int = 48, height: int = 32) -> np.ndarray:
    return np.full((1, OUTPUT_PLANES, height, width), value, np.float32)


def test_planes() -> None:
    assert sum(list(INPUTS.values())[:3]) == FINE_PLANES
    planes = input_of(situation())
    assert planes.shape == (1, INPUT_PLANES, 32, 48) and planes.dtype == np.float32
    assert np.isfinite(planes).all() and np.abs(planes).max() < 8
    assert planes[0, -2].max() == 0 and planes[0, -1].max() == 0  # nothing before, no face
    assert input_of(situation(face=True, before=True))[0, -2:].min() == 1


def test_the_one_before_is_seen() -> None:
    plain, held = input_of(situation()), input_of(situation(before=True))
    assert np.array_equal(plain[:, :6], held[:, :6])
    assert not np.array_equal(plain[:, 6:9], held[:, 6:9])


@pytest.mark.parametrize("painted", [0, 1])
def test_zero_shows_what_is_shown_without_weights(painted: int) -> None:
    s = situation(face=True)
    s.base[..., 5] = painted
    fields = fields_of(s, output(0))
    assert np.allclose(fields[..., :2], s.base[..., :2] * s.outside)
    assert fields[..., 5].max() == 0
    wanted = lit_picture(s.drawn, fields[..., :2], s.base[..., 2:5])
    if painted:
        seen = s.seen.astype(np.float32)
        sharp = np.clip(seen + SHARPER * (seen - blurred(seen)), 0, 255)
        wanted += s.outside * (sharp - wanted)  # nothing is painted in the face
    assert np.allclose(fields[..., 6:], wanted, atol=1e-3)


def test_all_from_the_picture() -> None:
    s = situation(face=True)
    answer = output(0)
    answer[:, [5, 7]] = 1
    answer[:, :3] = 0.25
    fields = fields_of(s, answer)
    wanted = np.clip(s.seen + 0.25 * RESTORED_LEVELS, 0, 255)
    assert np.allclose(fields[..., 6:], wanted, atol=1e-3)
    near = np.abs(fields[..., 2:5]).max(2) < MAX_LIGHT  # where the light reaches
    assert near.mean() > 0.3
    assert np.allclose(corrected(s.drawn, fields)[near], wanted[near], atol=1e-3)


def test_coarse_and_fine_detail_are_weighed_apart() -> None:
    s = situation(face=True, before=True)
    assert s.before is not None
    answer = output(0)
    answer[:, 5] = answer[:, 8] = 1  # coarse: the scene's picture; fine: what was shown before
    seen, before = (x.astype(np.float64) for x in (s.seen, corrected(s.drawn, s.before)))
    fields = fields_of(s, answer)
    apart = fields[..., 6:] - np.clip(before, 0, 255)
    blurred = cv2.GaussianBlur(seen - before, (9, 9), 1.5, borderType=cv2.BORDER_REFLECT_101)
    inside = (fields[..., 6:] > 0) & (fields[..., 6:] < 255)
    assert inside.mean() > 0.9 and np.allclose(apart[inside], blurred[inside], atol=1e-3)


def test_shares_are_at_most_all() -> None:
    asked = np.array([[[0.25, 0.5], [2.0, 1.0], [-1.0, 0.5]]], np.float32)
    assert np.allclose(shares(asked), [[[0.25, 0.5], [0.5, 0.5], [0.0, 0.5]]])


def test_a_filled_face_gives_nothing() -> None:
    s = situation(face=False)
    inside = s.outside[..., 0] == 0
    fields = fields_of(s, output(1))
    assert np.allclose(fields[inside][:, :2], 0) and np.allclose(fields[inside][:, 5], 0)
    lit = np.clip(s.drawn + s.base[..., 2:5], 0, 255)
    assert np.allclose(corrected(s.drawn, fields)[inside], lit[inside], atol=1e-3)
    shown = fields_of(situation(face=True), output(1))
    assert not np.allclose(corrected(s.drawn, shown)[inside], lit[inside], atol=1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_any_answer_is_in_range(value: float) -> None:
    fields = fields_of(situation(), output(value))
    assert np.isfinite(fields).all()
    assert np.abs(fields[..., :2]).max() < 12 and np.abs(fields[..., 2:5]).max() <= MAX_LIGHT
    assert 0 <= fields[..., 5].min() and fields[..., 5].max() <= 1
    assert 0 <= fields[..., 6:].min() and fields[..., 6:].max() <= 255


def test_sizes() -> None:
    assert fits(128, 128) and fits(168, 96) and not fits(100, 96) and not fits(8, 64)
    with pytest.raises(ValueError, match="multiples of 8"):
        input_of(situation(width=44))
    with pytest.raises(ValueError, match="expected"):
        refined(situation(), lambda x: x)


def test_the_shipped_generator_answers() -> None:
    runtime = pytest.importorskip("onnxruntime")
    assert SHIPPED is not None
    data = SHIPPED.read()
    assert len(data) < 8_000_000
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    fields = refined(situation(before=True), lambda x: session.run(None, {"situation": x})[0])
    assert fields.shape == (32, 48, 9) and np.isfinite(fields).all()
    assert np.abs(fields[..., 6:] - situation().seen).mean() > 0.5  # it restores
