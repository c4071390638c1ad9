"""Pixel metrics: known values on made-up pictures."""

import sys
from contextlib import nullcontext
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.bench import learned_metrics
from mien.bench.picture_metrics import (
    compared,
    flicker,
    gradient_similarity,
    grey,
    ms_ssim,
    open_ssimulacra2,
    psnr,
    restlessness,
    ssim_map,
)
from tests.picture_fixtures import smooth_picture


def noisy(seed: int, spread: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(-spread, spread + 1, (256, 256, 3))
    return np.clip(smooth_picture(1, 256).astype(int) + noise, 0, 255).astype(np.uint8)


def test_psnr_of_a_known_error() -> None:
    assert psnr(np.full((4, 4), 25.5**2, np.float32)) == pytest.approx(20)
    assert psnr(np.zeros((4, 4), np.float32)) > 75


def test_ssim_agrees_with_skimage() -> None:
    """An independent implementation of the same definition: Gaussian window of 1.5 pixels."""
    from skimage.metrics import structural_similarity

    a, b = grey(smooth_picture(1, 256)), grey(noisy(2, 30))
    wanted = structural_similarity(
        a, b, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )[1]
    ours, _ = ssim_map(a, b)
    assert ours[8:-8, 8:-8].mean() == pytest.approx(wanted[8:-8, 8:-8].mean(), abs=2e-3)


def test_more_noise_is_worse_everywhere() -> None:
    original = smooth_picture(1, 256)
    a = grey(original)
    few, many = grey(noisy(2, 10)), grey(noisy(2, 60))
    assert 1 > ms_ssim(a, few) > ms_ssim(a, many)
    assert gradient_similarity(a, few).std() < gradient_similarity(a, many).std()
    assert gradient_similarity(a, a).std() == pytest.approx(0, abs=1e-6)


def test_even_motion_is_calm_and_a_flash_is_not() -> None:
    grey_levels = [np.full((8, 8, 3), v, np.uint8) for v in (10, 20, 30, 40)]
    assert restlessness(grey_levels[:3]) == pytest.approx(0, abs=1e-4)
    flash = [grey_levels[0], grey_levels[3], grey_levels[0]]
    assert restlessness(flash) == pytest.approx(60, abs=0.1)
    assert flicker(grey_levels[:3], flash) == pytest.approx(60, abs=0.1)
    assert flicker(flash, grey_levels[:3]) == pytest.approx(-60, abs=0.1)


def test_pictures_are_compared_at_one_square_size() -> None:
    picture = smooth_picture(3, 256)
    assert compared(picture, 256) is picture
    assert compared(picture[:128], 64).shape == (64, 64, 3)


def test_ssimulacra2_where_it_is_installed() -> None:
    measure = open_ssimulacra2()
    if measure is None:
        pytest.skip("needs the package ssimulacra2 (pip install 'mien[bench]')")
    original = smooth_picture(1, 256)
    assert measure(original, original) == pytest.approx(100, abs=0.01)
    assert measure(original, noisy(2, 10)) > measure(original, noisy(2, 60))


def test_learned_metrics_are_used_only_where_their_weights_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-ins for torch and lpips: the values that reach the network, and that nothing is fetched."""

    class Network:
        def eval(self) -> "Network":
            return self

        def __call__(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
            assert a.shape == (1, 3, 256, 256) and a.min() >= -1 and a.min() < 0
            return float(np.abs(a - b).mean())

    torch: Any = ModuleType("torch")
    torch.hub = SimpleNamespace(get_dir=lambda: str(tmp_path))
    torch.from_numpy, torch.no_grad = (lambda values: values), nullcontext
    lpips: Any = ModuleType("lpips")
    lpips.LPIPS = lambda net, verbose: Network()
    for name, module in (("torch", torch), ("lpips", lpips)):
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    learned_metrics.open_learned.cache_clear()
    assert learned_metrics.open_learned() == {}  # no weights
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / learned_metrics.NEEDS["lpips"][1]).write_bytes(b"weights")
    learned_metrics.open_learned.cache_clear()
    found = learned_metrics.open_learned()
    assert set(found) == {"lpips"}
    black, white = np.zeros((256, 256, 3), np.uint8), np.full((256, 256, 3), 255, np.uint8)
    assert found["lpips"](black, white) == 2
    learned_metrics.open_learned.cache_clear()
