"""What the generator's training calls wrong: the bench's measures of pictures, as far as one can go down them.

Pictures are [b, 3, h, w], 0 to 255.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

SSIM_LUMA: Final = 6.5025
SSIM_CONTRAST: Final = 58.5225
GRADIENT_STABILISER: Final = 170.0
LUMA: Final = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class Weights:
    """Of each part."""

    colour: float = 2.0
    structure: float = 4.0
    gradients: float = 3.0  # 1 less their mean similarity
    uneven: float = 5.0  # its deviation: GMSD
    edges: float = 0.5  # at each place, and
    energy: float = 2.0  # in all: too soft is worse than too sharp
    restless: float = 0.025
    restored: float = 2.0
    flow: float = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The parts of a loss, weighed already."""

    named: dict[str, Tensor]

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return torch.stack(list(self.named.values())).sum()


def picture_parts(
    drawn: Tensor, truth: Tensor, weights: Weights, *, small: bool = False
) -> dict[str, Tensor]:
    """Return what is wrong with single pictures; `small`: of the size at which gradients are compared."""
    a, b = luma(drawn), luma(truth)
    similar = gradient_similarity(a, b, small=small)
    edges_a, edges_b = edge_energy(a), edge_energy(b)
    energy = edges_a.mean((1, 2, 3)) / edges_b.mean((1, 2, 3)).clamp_min(4.0)
    return {
        "colour": weights.colour * (drawn - truth).abs().mean() / 32,
        "structure": weights.structure * (1 - ssim(a, b)).mean(),
        "gradients": weights.gradients * (1 - similar).mean(),
        "uneven": weights.uneven * similar.flatten(1).std(1).mean(),
        "edges": weights.edges * (edges_a - edges_b).abs().mean() / 255,
        "energy": weights.energy * (F.relu(0.90 - energy) + 0.3 * F.relu(energy - 1.02)).mean(),
    }


def restless_part(drawn: Tensor, truth: Tensor, weights: Weights) -> Tensor:
    """Return how much more restless three successive pictures are than the originals: [3, b, 3, h, w] each."""
    a, b = (luma(x[0]) - 2 * luma(x[1]) + luma(x[2]) for x in (drawn, truth))
    more = F.relu(a.abs().mean((1, 2, 3)) - b.abs().mean((1, 2, 3)))
    return weights.restless * (0.5 * (a - b).abs().mean() + more.mean())


def luma(pictures: Tensor) -> Tensor:
    """Return [b, 1, h, w]."""
    red, green, blue = LUMA
    return red * pictures[:, :1] + green * pictures[:, 1:2] + blue * pictures[:, 2:3]


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return structural similarity at each place of grey pictures (Wang 2004), but for a border of 5."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a, var_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    shared = _blurred(a * b) - mean_a * mean_b
    contrast = (2 * shared + SSIM_CONTRAST) / (var_a + var_b + SSIM_CONTRAST)
    return (2 * mean_a * mean_b + SSIM_LUMA) / (mean_a**2 + mean_b**2 + SSIM_LUMA) * contrast


def gradient_similarity(a: Tensor, b: Tensor, *, small: bool = False) -> Tensor:
    """Return the similarity of gradients at half size (Xue 2014); GMSD is its standard deviation."""

    def squared(x: Tensor) -> Tensor:
        x = F.pad(x if small else F.avg_pool2d(x, 2), (1, 1, 1, 1), mode="reflect")
        across = x[..., :-2] - x[..., 2:]
        down = x[..., :-2, :] - x[..., 2:, :]
        across = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]
        down = down[..., :-2] + down[..., 1:-1] + down[..., 2:]
        return (across**2 + down**2) / 9

    one, two = squared(a), squared(b)
    both = torch.sqrt(one * two + 1e-3)
    return (2 * both + GRADIENT_STABILISER) / (one + two + GRADIENT_STABILISER)


def edge_energy(a: Tensor) -> Tensor:
    """Return the gradient's magnitude (Sobel)."""
    across, down = a[..., 2:] - a[..., :-2], a[..., 2:, :] - a[..., :-2, :]
    across = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return torch.sqrt(across**2 + down**2 + 1e-2)


def _blurred(a: Tensor) -> Tensor:
    # As products of matrices: on a processor several times faster than a convolution of one plane.
    return _window(a.shape[2]).to(a.dtype) @ a @ _window(a.shape[3]).to(a.dtype).T


@lru_cache(maxsize=8)
def _window(side: int) -> Tensor:
    """Return float32 [side - 10, side]: SSIM's Gaussian along one side."""
    at = torch.arange(11, dtype=torch.float32) - 5
    line = torch.exp(-(at**2) / (2 * 1.5**2))
    rows = torch.zeros(side - 10, side)
    for row in range(side - 10):
        rows[row, row : row + 11] = line / line.sum()
    return rows
