"""What the player does with the generator's answer, once more in PyTorch, so that training sees the painted picture.

Twins of `mien.models.generator_fields.fields_of` and of `carried` and `composed` in `mien.decoder.scene_layer`;
colours are 0 to 255, planes come before places: [b, planes, h, w]. Nothing is rounded.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mien.models.generator_fields import (
    BAND_PX,
    BAND_SIGMA,
    FLOW_PX,
    LEVELS,
    LIGHT_LEVELS,
    MAX_FLOW_CHANGE,
    MAX_LIGHT,
    MEAN_LEVEL,
    RESTORED_LEVELS,
    SHARPER,
)


@dataclass(frozen=True, slots=True, eq=False)
class Situations:
    """`mien.models.generator_fields.Situation` for many at once.

    `seen`, `drawn` [b, 3, h, w]; `base` [b, 9, h, w]; `before` likewise or None; `outside` [b, 1, h, w]; `place`
    [b, 2, h, w]; `face` [b].
    """

    seen: Tensor
    drawn: Tensor
    base: Tensor
    before: Tensor | None
    outside: Tensor
    place: Tensor
    face: Tensor


def input_of(s: Situations) -> Tensor:
    """Return the network's input."""
    lit = (sampled(s.drawn, s.base[:, :2]) + s.base[:, 2:5]).clamp(0, 255)
    held = lit if s.before is None else corrected(s.drawn, s.before)
    old = torch.zeros_like(s.base) if s.before is None else s.before
    known = torch.ones_like(s.outside)
    return torch.cat(
        [
            (s.seen - MEAN_LEVEL) / LEVELS,
            (lit - MEAN_LEVEL) / LEVELS,
            (held - MEAN_LEVEL) / LEVELS,
            s.base[:, :2] / FLOW_PX,
            s.base[:, 2:5] / LIGHT_LEVELS,
            s.base[:, 5:6],
            old[:, :2] / FLOW_PX,
            old[:, 5:6],
            s.outside,
            s.place,
            known * float(s.before is not None),
            known * s.face[:, None, None, None].to(known.dtype),
        ],
        1,
    )


def fields_of(s: Situations, output: Tensor) -> Tensor:
    """Return the fields [b, 9, h, w]."""
    flow = (s.base[:, :2] + MAX_FLOW_CHANGE * output[:, 3:5].clamp(-1, 1)) * s.outside
    moved = sampled(s.drawn, flow)
    lit = (moved + s.base[:, 2:5]).clamp(0, 255)
    before = lit if s.before is None else corrected(s.drawn, s.before)
    coarse, fine = shares(output[:, 5:7]), shares(output[:, 7:9])
    change = RESTORED_LEVELS * output[:, :3]
    sharp = (s.seen + SHARPER * (s.seen - blurred(s.seen))).clamp(0, 255)
    plain = lit + s.base[:, 5:6] * s.outside * (sharp - lit)
    for number, apart in enumerate((s.seen - plain, before - plain)):
        slow = blurred(apart)
        change = change + coarse[:, number : number + 1] * slow
        change = change + fine[:, number : number + 1] * (apart - slow)
    face = s.face[:, None, None, None].to(s.outside.dtype)
    picture = (plain + change * (face + (1 - face) * s.outside)).clamp(0, 255)
    light = (picture - moved).clamp(-MAX_LIGHT, MAX_LIGHT)
    paint = output[:, 9:10].clamp(0, 1) * s.outside
    return torch.cat([flow, light, paint, picture], 1)


def shares(values: Tensor) -> Tensor:
    """Return what is asked for of two others [b, 2, h, w], together at most all."""
    values = values.clamp(0, 1)
    return values / values.sum(1, keepdim=True).clamp_min(1)


def blurred(pictures: Tensor) -> Tensor:
    """Return the coarse detail of pictures [b, 3, h, w]."""
    return along(pictures, blur_matrix(pictures.shape[2]), blur_matrix(pictures.shape[3]))


def along(pictures: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return pictures [b, c, h, w] with each column times `down` [., h] and each row times `across` [., w].

    On a processor many times faster than a convolution of one plane, or PyTorch's bicubic interpolation.
    """
    return down.to(pictures.dtype) @ pictures @ across.to(pictures.dtype).T


@lru_cache(maxsize=8)
def blur_matrix(side: int) -> Tensor:
    """Return float32 [side, side]: OpenCV's Gaussian of the bands, along one side."""
    kernel = cv2.getGaussianKernel(BAND_PX, BAND_SIGMA)
    rows = cv2.filter2D(np.eye(side), -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return torch.from_numpy(rows.astype(np.float32))


@lru_cache(maxsize=8)
def cubic_matrix(side: int, enlarged: int) -> Tensor:
    """Return float32 [enlarged, side]: PyTorch's bicubic interpolation along one side."""
    lines = torch.eye(side)[None, None]
    return F.interpolate(lines, size=(enlarged, side), mode="bicubic", align_corners=False)[0, 0]


def sampled(values: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """Return values [b, c, h, w], each place taken from itself plus its flow [b, 2, h, w] in pixels."""
    _, _, height, width = flow.shape
    rows = torch.arange(height, dtype=flow.dtype)[:, None]
    columns = torch.arange(width, dtype=flow.dtype)[None]
    x = (2 * (flow[:, 0] + columns) + 1) / width - 1
    y = (2 * (flow[:, 1] + rows) + 1) / height - 1
    return F.grid_sample(
        values, torch.stack([x, y], 3), mode=mode, padding_mode="border", align_corners=False
    )


def enlarged(values: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Return values at (height, width)."""
    return F.interpolate(values, size=size, mode=mode, align_corners=False)


def corrected(drawn: Tensor, fields: Tensor) -> Tensor:
    """Return small pictures corrected by fields of their own size."""
    paint = fields[:, 5:6]
    lit = (sampled(drawn, fields[:, :2]) + fields[:, 2:5]).clamp(0, 255)
    return lit * (1 - paint) + fields[:, 6:9] * paint


def composed(drawn: Tensor, fields: Tensor, *, cubic: bool = True) -> Tensor:
    """Return drawn pictures [b, 3, height, width] moved, lit and painted over by fields [b, 9, gh, gw]."""
    height, width = drawn.shape[2:]
    gh, gw = fields.shape[2:]
    size = (height, width)
    scale = torch.tensor([width / gw, height / gh], dtype=fields.dtype)[None, :, None, None]
    flow = enlarged(fields[:, :2] * scale, size)
    moved = sampled(drawn, flow, "bicubic" if cubic else "bilinear").clamp(0, 255)
    smooth = enlarged(fields[:, 2:6], size)
    picture = along(fields[:, 6:9], cubic_matrix(gh, height), cubic_matrix(gw, width)).clamp(0, 255)
    lit = (moved + smooth[:, :3]).clamp(0, 255)
    return lit * (1 - smooth[:, 3:]) + picture * smooth[:, 3:]


def carried(fields: Tensor, motion: Tensor) -> Tensor:
    """Return fields where the mesh now has them; `motion` [b, 2, ., .] in grid pixels, of any resolution."""
    return sampled(fields, enlarged(motion, (fields.shape[2], fields.shape[3])))
