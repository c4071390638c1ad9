"""The bench of the coefficient code's parts: how it cuts messages, and what it calls a saving."""

import numpy as np
import pytest

from mien.bench.payload_floor import batches, delta_rate


@pytest.mark.parametrize("frames", [0.6, 1.0, 1.2, 2.4, 6.0])
def test_messages_cover_every_tick_once(frames: float) -> None:
    cuts = list(batches(60, frames))
    assert [tick for start, end in cuts for tick in range(start, end)] == list(range(60))
    assert len(cuts) == pytest.approx(60 / max(1.0, frames), abs=1)


def test_a_saving_is_measured_at_equal_error() -> None:
    curve = np.array([[1.0, 0.9, 0.9, 0.9], [1.5, 0.7, 0.7, 0.7], [2.0, 0.5, 0.5, 0.5]])
    cheaper = curve * [0.8, 1.0, 1.0, 1.0]
    assert delta_rate(curve, curve, 1) == pytest.approx(0.0)
    assert delta_rate(curve, cheaper, 1) == pytest.approx(-20.0)
    moved = curve[::-1] * [1.0, 1.0, 1.2, 1.0]
    assert delta_rate(curve, moved, 1) == pytest.approx(0.0)
    assert delta_rate(curve, moved, 2) > 5
    assert np.isnan(delta_rate(curve, curve + [0, 1, 0, 0], 1))
