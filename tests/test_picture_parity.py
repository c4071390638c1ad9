"""Parity rates and BD-rate: exact on curves whose answer is known."""

import numpy as np
import pytest

from mien.bench.picture_parity import Parity, bd_rate, median_parity, parity

SSIM = [(10.0, 0.80), (20.0, 0.85), (40.0, 0.90)]


def test_parity_between_points_is_on_the_logarithm() -> None:
    found = parity("ssim", 0.875, SSIM)
    assert found is not None and found.side == ""
    assert found.kbps == pytest.approx(np.sqrt(20 * 40))


def test_parity_where_lower_is_better() -> None:
    found = parity("akd", 1.5, [(10.0, 4.0), (30.0, 1.5), (50.0, 1.0)])
    assert found is not None and found.kbps == pytest.approx(30)


def test_parity_beyond_either_end() -> None:
    assert parity("ssim", 0.95, SSIM) == Parity(40, ">")
    assert parity("ssim", 0.5, SSIM) == Parity(10, "<")
    assert parity("ssim", 0.95, []) is None
    assert Parity(40, ">").text == "> 40" and Parity(12.4).text == "12"


def test_edges_are_best_where_they_equal_the_originals() -> None:
    # .9 is as good as 1.1; 1.3 is worse than both
    found = parity("edge", 1.1, [(10.0, 0.8), (20.0, 0.9)])
    assert found is not None and found.kbps == pytest.approx(20)
    assert parity("edge", 1.3, [(10.0, 0.8), (20.0, 0.9)]) == Parity(10, "<")


def test_noise_in_a_curve_is_made_monotone() -> None:
    found = parity("ssim", 0.86, [(10.0, 0.80), (20.0, 0.87), (30.0, 0.85), (60.0, 0.95)])
    assert found is not None and found.kbps == pytest.approx(20)


def test_the_median_may_be_a_bound() -> None:
    assert median_parity([Parity(10, "<"), Parity(50, ">"), Parity(50, ">")]) == Parity(50, ">")
    assert median_parity([Parity(10, "<"), Parity(22), Parity(50, ">"), None]) == Parity(22)
    assert median_parity([None]) is None


def test_bd_rate_of_half_the_rate() -> None:
    half = [(kbps / 2, value) for kbps, value in SSIM]
    assert bd_rate("ssim", SSIM, half) == pytest.approx(-50)
    assert bd_rate("ssim", half, SSIM) == pytest.approx(100)
    assert bd_rate("ssim", SSIM, SSIM) == pytest.approx(0, abs=1e-9)


def test_bd_rate_needs_a_common_range() -> None:
    assert bd_rate("ssim", SSIM, [(10.0, 0.5), (20.0, 0.6)]) is None
    assert bd_rate("ssim", SSIM, [(10.0, 0.85)]) is None


def test_bd_rate_against_an_integral_by_hand() -> None:
    """Two points each: log rates are straight lines over the score, so the mean difference is that of the ends."""
    ours = [(8.0, 0.80), (60.0, 0.90)]
    theirs = [(10.0, 0.80), (40.0, 0.90)]
    mean = (np.log(8 / 10) + np.log(60 / 40)) / 2
    assert bd_rate("ssim", theirs, ours) == pytest.approx(100 * np.expm1(mean), rel=1e-3)
