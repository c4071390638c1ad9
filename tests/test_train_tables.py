"""Learning the entropy coder's tables: the slope is the slope, and motion that was seen costs fewer bits."""

import numpy as np
import pytest

from mien.models import train_tables
from mien.models.train_tables import (
    Samples,
    StateTrack,
    count_classes,
    fit,
    gradient,
    loss_gradient,
    make_tables,
    sample,
    sample_message,
    start_weights,
)
from mien.protocol.expectation import Expectation
from mien.protocol.quantizer import STEPS
from mien.protocol.residual_coder import encode_body
from mien.protocol.state import FaceState
from mien.protocol.tables import CLASS_COUNT, LARGEST, SYMBOL_COUNT, Tables


def followed(frames: int, seed: int) -> np.ndarray:
    """Return motion whose second half follows from its first half, float64 [frames, 36]."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.laplace(0, 0.01, (frames, 18)), axis=0)
    return np.concatenate([walk, walk], axis=1)


def test_slope_of_the_bits() -> None:
    rng = np.random.default_rng(0)
    mean, spread, difference = rng.normal(0, 1, 50), rng.uniform(-2, 3, 50), np.round(rng.normal(0, 3, 50))
    _, by_mean, by_spread = loss_gradient(mean, spread, difference)
    small = 1e-5
    ahead, behind = (loss_gradient(mean + s, spread, difference)[0] for s in (small, -small))
    assert np.allclose(by_mean, (ahead - behind) / (2 * small), atol=1e-4)
    ahead, behind = (loss_gradient(mean, spread + s, difference)[0] for s in (small, -small))
    assert np.allclose(by_spread, (ahead - behind) / (2 * small), atol=1e-4)


def test_no_weight_looks_ahead() -> None:
    values = np.round(followed(6, 1) * 300).astype(int).tolist()
    samples = sample_message(values, 1, 1.0, after=None)
    weights = start_weights(samples)
    for phases in (samples.phases == 0, samples.phases > 0):
        slope = gradient(weights, samples[phases])
        for part in (slope.means[:2], slope.spreads[:2]):
            assert np.abs(np.tril(part)).max() == 0
            assert np.isfinite(part).all()


def test_what_is_counted_is_what_the_coder_meets() -> None:
    values = np.round(followed(9, 2) * 300).astype(int).tolist()
    parts = [
        sample_message(values[:6], 4, 1.0, after=None),
        sample_message(values[6:], 4, 1.0, after=values[0]),
    ]
    tables = Tables.load()
    expected = np.zeros((CLASS_COUNT, SYMBOL_COUNT))
    expectation = Expectation(tables, 4)
    for number, frame in enumerate(values):
        if number == 6:
            expectation.go_back(values[0])
        for k, value in enumerate(frame):
            likely, which, mirrored = expectation.expect(k)
            missing = likely - value if mirrored else value - likely
            size = abs(missing)
            expected[which, SYMBOL_COUNT - 1 if size > LARGEST else 2 * size - (missing > 0)] += 1
            expectation.take(k, value)
        expectation.end_frame()
    assert (count_classes(Samples.joined(parts), tables) == expected).all()


def test_motion_that_was_seen_costs_fewer_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_tables, "BATCH", 200)
    states = tuple(FaceState.from_coefficients(row) for row in followed(600, 3).astype(np.float32))
    samples = sample([StateTrack(states, (0,) * 6, 6)], 1, None)
    start = start_weights(samples)
    blank = make_tables(samples, start)
    learned = make_tables(samples, fit(samples, start, rounds=150, rate=0.05))
    frames = np.round(followed(300, 4)[-6:] / (STEPS[1] / 10000)).astype(int).tolist()
    sizes = [len(encode_body(frames, (True,) * 6, 1, tables)) for tables in (learned, blank)]
    assert sizes[0] < 0.85 * sizes[1]
