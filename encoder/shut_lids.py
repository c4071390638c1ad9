"""Paints shut eyes over open ones: skin where the eye was, and a line of lashes where the lids meet.

Stretching the upper lid over the eye would stretch its lashes and its fold, too. So the eye is painted over with the
skin around it, and the lashes are drawn anew, in the colour that they have.
"""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.models.topology import EYE_CORNERS, EYE_LOOPS, LIDS

Floats = NDArray[np.float64]

FINER: Final = 4  # lashes are drawn so many times finer
RISE: Final = 0.15  # how far the lower lid comes up, a share of the opening
# Shares of the eye's width.
LASHES_ABOVE: Final = 0.15  # so far above the opening lashes and liner are painted over
BELOW: Final = 0.08  # and below
BESIDE: Final = 0.11  # and beside: liner ends in a wing
REACH: Final = 0.16  # over which the skin around is averaged
SOFT: Final = 0.05
LINE: Final = 0.065  # the line of lashes
SHADOW: Final = 0.10  # what it shades below
LINE_SHARE: Final = 0.8
SHADOW_SHARE: Final = 0.25
DARK_SKIN: Final = 0.6  # of the usual brightness around the eye: what is darker is no skin
MOST_GRAIN: Final = 4.0  # 8-bit steps
LASHES: Final = np.array([1.02, 0.9, 0.82])  # their colour against their brightness
LID_LIGHT: Final = -0.04  # lids are a little darker than the skin around eyes: rims, veins
DARKEST: Final = 0.04  # quantile of the eye's brightness that lashes have
IRIS_LEFT: Final = 0.1  # of the irises' height, behind the lids


def lid_gaps(landmarks: NDArray[np.floating]) -> tuple[float, float]:
    """Return how far both eyes are open, shares of their widths (landmarks [478, 3]): .3 is usual, .1 shut."""
    out = []
    for (upper, lower), (outer, inner) in zip(LIDS, EYE_CORNERS, strict=True):
        wide = max(float(np.linalg.norm(landmarks[outer] - landmarks[inner])), 1e-6)
        out.append(float(np.linalg.norm(landmarks[upper] - landmarks[lower])) / wide)
    return out[0], out[1]


def shut(landmarks: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return landmarks [478, 3] with the lids of both eyes together, a little above the lower ones."""
    out = landmarks.astype(np.float32).copy()
    for loop, iris in zip(EYE_LOOPS, (range(468, 473), range(473, 478)), strict=True):
        lower, upper = list(loop[1:8]), list(loop[:8:-1])
        meet = landmarks[lower] + RISE * (landmarks[upper] - landmarks[lower])
        out[lower], out[upper] = meet, meet
        middle = out[[loop[4], loop[12]], 1].mean()
        rows = list(iris)
        out[rows, 1] = middle + IRIS_LEFT * (landmarks[rows, 1] - landmarks[rows[0], 1])
    return out


def paint_shut(rgb: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the picture, uint8 [h, w, 3], whose open eyes at `landmarks` [478, 3] are painted shut, as `shut` says."""
    shut_points = shut(landmarks)
    out = rgb
    for loop, corners in zip(EYE_LOOPS, EYE_CORNERS, strict=True):
        outer, inner = (landmarks[i, :2].astype(np.float64) for i in corners)
        wide = float(np.linalg.norm(outer - inner))
        if wide >= 4:
            out = _paint_eye(
                out,
                landmarks[list(loop), :2].astype(np.float64),
                shut_points[list(loop[:9]), :2].astype(np.float64),
                wide,
            )
    return out


def _paint_eye(rgb: NDArray[np.uint8], loop: Floats, line: Floats, wide: float) -> NDArray[np.uint8]:
    """Paint one eye: `loop` [16, 2] its opening, `line` [9, 2] where the lids meet, `wide` its width; pixels."""
    height, width = rgb.shape[:2]
    low = np.clip(np.floor(loop.min(0) - 0.6 * wide), 0, [width, height]).astype(int)
    high = np.clip(np.ceil(loop.max(0) + 0.5 * wide), 0, [width, height]).astype(int)
    if (high - low < 8).any():
        return rgb
    crop = rgb[low[1] : high[1], low[0] : high[0]]
    eye = loop - low
    mask = _filled(eye, crop.shape[:2])
    hidden = _reach(mask, LASHES_ABOVE * wide, BELOW * wide, BESIDE * wide)
    smooth = _skin_over(crop, hidden, wide)
    soft = _soft(hidden, SOFT * wide)
    out = crop + soft[..., None] * (smooth - crop)
    lid = _soft(mask, 0.12 * wide)
    out *= 1 + LID_LIGHT * lid[..., None]
    lashes = _lash_colour(crop, hidden)
    stroke = _stroke(line - low, LINE * wide, crop.shape[:2])
    shade = cv2.GaussianBlur(
        np.roll(stroke, max(1, round(0.04 * wide)), axis=0), (0, 0), max(0.8, SHADOW * wide / 2)
    )
    out += SHADOW_SHARE * np.clip(2.5 * shade, 0, 1)[..., None] * (0.5 * out - out)
    out += LINE_SHARE * stroke[..., None] * (lashes - out)
    whole = rgb.copy()
    whole[low[1] : high[1], low[0] : high[0]] = np.rint(np.clip(out, 0, 255)).astype(np.uint8)
    return whole


def _skin_over(crop: NDArray[np.uint8], hidden: NDArray[np.uint8], wide: float) -> Floats:
    """Return skin for what is hidden, [h, w, 3]: as it is around, lashes and brows left out, with its grain."""
    grey = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY).astype(np.float64)
    near = cv2.dilate(hidden, np.ones((2 * max(2, round(0.2 * wide)) + 1,) * 2, np.uint8)) > hidden
    usual = float(np.median(grey[near])) if near.any() else float(grey.mean())
    say = np.where((hidden == 0) & (grey > DARK_SKIN * usual), 1.0, 1e-4)
    sigma = max(1.0, REACH * wide)
    amount = cv2.GaussianBlur(say, (0, 0), sigma)[..., None]
    smooth = cv2.GaussianBlur(crop * say[..., None], (0, 0), sigma) / amount
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 1.2)
    clean = near & (grey > DARK_SKIN * usual)
    grain = min(MOST_GRAIN, float(np.median(np.abs(fine[clean])))) if clean.any() else 0.0
    noise = np.random.default_rng(0).normal(0, 1.5 * grain, grey.shape)
    return np.asarray(
        smooth + cv2.GaussianBlur(np.asarray(noise, np.float64), (0, 0), 0.7)[..., None], np.float64
    )


def _filled(polygon: Floats, shape: Sequence[int]) -> NDArray[np.uint8]:
    mask = np.zeros(tuple(shape), np.uint8)
    cv2.fillPoly(mask, [np.rint(polygon).astype(np.int32)], 255)
    return mask


def _reach(mask: NDArray[np.uint8], up_px: float, down_px: float, side_px: float) -> NDArray[np.uint8]:
    """Return the mask grown upwards, downwards and sideways."""
    side = max(1, round(side_px))
    up, down = max(1, round(up_px)), max(1, round(down_px))
    kernel = np.zeros((2 * up + 1, 2 * side + 1), np.uint8)
    # The anchor is the kernel's middle: set the rows that look below (grow up) and some that look above.
    kernel[up - down :, :] = 1
    return np.asarray(cv2.dilate(mask, kernel), np.uint8)


def _soft(mask: NDArray[np.uint8], sigma_px: float) -> Floats:
    """Return the mask, 0 to 1, with a soft rim that lies outside of it."""
    grown = cv2.dilate(mask, np.ones((2 * max(1, round(sigma_px)) + 1,) * 2, np.uint8))
    return np.asarray(cv2.GaussianBlur(grown, (0, 0), max(0.6, sigma_px)), np.float64) / 255


def _lash_colour(crop: NDArray[np.uint8], hidden: NDArray[np.uint8]) -> Floats:
    """Return the colour [3] of the darkest parts of an eye: lashes, liner, the pupil."""
    pixels = crop[hidden > 0].astype(np.float64)
    grey = pixels.mean(1)
    dark = pixels[grey <= np.quantile(grey, DARKEST)].mean(0)
    return np.asarray((dark + LASHES * dark.mean()) / 2, np.float64)  # irises are dark, too, and may be blue


def _stroke(line: Floats, thick_px: float, shape: Sequence[int]) -> Floats:
    """Return how much lashes cover, [h, w]: thickest two thirds of the way out, thin at the corners."""
    height, width = shape
    fine = np.zeros((height * FINER, width * FINER), np.uint8)
    along = np.linspace(0, 1, 65)
    place = np.stack([np.interp(along, np.linspace(0, 1, len(line)), line[:, c]) for c in (0, 1)], 1)
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    for _ in range(4):  # nine points make corners
        inner = np.stack([np.convolve(place[:, c], kernel, "valid") for c in (0, 1)], 1)
        place[2:-2] = inner
    # `line` runs from the outer corner to the inner one.
    thick = thick_px * np.clip(1.15 - 0.9 * along, 0.35, 1) * np.clip(8 * along + 0.5, 0, 1)
    for a, b, wide in zip(place[:-1], place[1:], thick, strict=False):
        cv2.line(
            fine,
            tuple(np.rint(a * FINER).astype(int).tolist()),
            tuple(np.rint(b * FINER).astype(int).tolist()),
            255,
            max(1, round(wide * FINER)),
        )
    small = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 0.6), np.float64) / 255
