"""Metrics of pixels: a drawn or decoded picture against the original, and how restless a sequence is.

All compare RGB pictures of one size; those of structure and edges look at luma, 0 to 255. Higher is better for
`psnr`, `ssim_map`, `ms_ssim` and `ssimulacra2`, lower for GMSD; edges and flicker are best where they equal the
original's.
"""

import importlib.util
import io
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]  # [h, w, 3], RGB

MSSIM_WEIGHTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Stabilisers of SSIM ((.01 * 255)^2, (.03 * 255)^2) and of the gradient similarity.
SSIM_LUMA: Final = 6.5025
SSIM_CONTRAST: Final = 58.5225
GRADIENT_STABILISER: Final = 170.0
LEAST_ERROR: Final = 1e-3  # squared: equal pictures have 78 dB, not infinity


def compared(picture: Picture, size: int) -> Picture:
    """Bring a picture to the square size at which it is compared (its aspect gives way, on both sides alike)."""
    if picture.shape[:2] == (size, size):
        return picture
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def grey(picture: Picture) -> Floats:
    """Return luma, float32 [h, w], 0 to 255."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)


def psnr(squared: Floats) -> float:
    """Return the peak signal to noise ratio in dB of squared errors."""
    return 10 * float(np.log10(255**2 / max(float(squared.mean()), LEAST_ERROR)))


def ssim_map(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return the structural similarity of two grey pictures at each pixel, and its contrast part (Wang 2004)."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a, var_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    shared = _blurred(a * b) - mean_a * mean_b
    contrast = (2 * shared + SSIM_CONTRAST) / (var_a + var_b + SSIM_CONTRAST)
    luma = (2 * mean_a * mean_b + SSIM_LUMA) / (mean_a**2 + mean_b**2 + SSIM_LUMA)
    return np.asarray(luma * contrast, np.float32), np.asarray(contrast, np.float32)


def ms_ssim(a: Floats, b: Floats) -> float:
    """Return SSIM over five scales (Wang 2003)."""
    out = 1.0
    for level, weight in enumerate(MSSIM_WEIGHTS):
        whole, contrast = ssim_map(a, b)
        last = level == len(MSSIM_WEIGHTS) - 1
        out *= max(float((whole if last else contrast).mean()), 1e-3) ** weight
        a, b = _halved(a), _halved(b)
    return out


def gradient_similarity(a: Floats, b: Floats) -> Floats:
    """Return the similarity of gradient magnitudes at half size (Xue 2014); GMSD is its standard deviation."""
    kernel = np.array([[1, 0, -1]] * 3, np.float32) / 3

    def magnitude(x: Floats) -> Floats:
        small = _halved(x)
        return np.hypot(cv2.filter2D(small, -1, kernel), cv2.filter2D(small, -1, kernel.T))

    one, two = magnitude(a), magnitude(b)
    return (2 * one * two + GRADIENT_STABILISER) / (one**2 + two**2 + GRADIENT_STABILISER)


def gradient(a: Floats) -> Floats:
    """Return the gradient's magnitude (Sobel)."""
    return np.hypot(cv2.Sobel(a, cv2.CV_32F, 1, 0), cv2.Sobel(a, cv2.CV_32F, 0, 1))


def restlessness(pictures: Sequence[Picture]) -> float:
    """Return the mean absolute second difference over time of three successive pictures' luma, 8-bit steps."""
    before, now, after = (grey(picture) for picture in pictures)
    return float(np.abs(before - 2 * now + after).mean())


def flicker(originals: Sequence[Picture], drawn: Sequence[Picture]) -> float:
    """Return how much more restless three drawn pictures are than the originals; below 0: too calm."""
    return restlessness(drawn) - restlessness(originals)


@cache
def open_ssimulacra2() -> Callable[[Picture, Picture], float] | None:
    """Return SSIMULACRA2 (100: equal; 70: hard to tell apart; 30: poor), None where its package is missing."""
    if importlib.util.find_spec("ssimulacra2") is None:
        return None
    from ssimulacra2 import compute_ssimulacra2

    def measure(original: Picture, drawn: Picture) -> float:
        return float(compute_ssimulacra2(_file_of(original), _file_of(drawn)))

    return measure


def _file_of(picture: Picture) -> io.BytesIO:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "BMP")
    out.seek(0)
    return out


def _blurred(a: Floats) -> Floats:
    return np.asarray(cv2.GaussianBlur(a, (11, 11), 1.5), np.float32)


def _halved(a: Floats) -> Floats:
    return np.asarray(cv2.resize(a, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)
