"""Measures the appearance code: colours of skin, lips, mouth, eyes, hair, clothes and background in linear light."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.models.appearance_code import REGION_COUNT, AppearanceCode, Region, to_linear
from mien.models.topology import EYE_LOOPS, FACE_OVAL, INNER_LIPS, IRIS_CENTRES, OUTER_LIPS

MEASURE_PX: Final = 256  # longer side of the pictures that are measured
FACE_BOX_PX: Final = 160  # the face is scaled to this height before its sharpness is taken
MIN_MOUTH_GAP: Final = 0.06  # of the mouth's width: below it the inside cannot be seen
MIN_LID_GAP: Final = 0.12  # of the eye's width
BROW_LOOPS: Final = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)
LUMINANCE: Final = np.array([0.2126, 0.7152, 0.0722], np.float32)  # Rec. 709, linear light


@dataclass(frozen=True, slots=True)
class FrameQuality:
    """How usable a frame is. All are taken in the face's box.

    sharpness: variance of the Laplacian of its grey values (0 to 255) at a face height of 160 px. exposure: mean
    sRGB luma, 0 to 1. clipped: share of pixels that are black or white through and through. covered: share of skin
    that looks unlike it does in the rest of the clip (`mien.encoder.occlusion`).
    """

    sharpness: float
    exposure: float
    clipped: float
    covered: float = 0.0


def frame_quality(rgb: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> FrameQuality:
    """Measure a frame, uint8 [h, w, 3], with a face at `landmarks`, float32 [478, 3] in its pixels."""
    height, width = rgb.shape[:2]
    oval = landmarks[list(FACE_OVAL), :2]
    x0, y0 = np.clip(np.floor(oval.min(0)), 0, [width - 2, height - 2]).astype(int)
    x1, y1 = np.clip(np.ceil(oval.max(0)), [x0 + 2, y0 + 2], [width, height]).astype(int)
    face = np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY))
    scale = FACE_BOX_PX / face.shape[0]
    size = (max(8, round(face.shape[1] * scale)), FACE_BOX_PX)
    grey = cv2.resize(face, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return FrameQuality(
        sharpness=float(cv2.Laplacian(grey, cv2.CV_32F).var()),
        exposure=float(grey.mean()) / 255,
        clipped=float(((grey <= 4) | (grey >= 251)).mean()),
    )


def measure_appearance(
    pictures: Sequence[NDArray[np.uint8]],
    landmarks: Sequence[NDArray[np.float32]],
    mattes: Sequence[NDArray[np.uint8]],
    qualities: Sequence[FrameQuality],
) -> AppearanceCode:
    """Return the code of a person from some pictures of them, their landmarks (in their pixels) and their mattes.

    Each region is measured where it can be seen: the mouth's inside only in open mouths, the eyes only in open
    eyes. Raises `ValueError` without a picture.
    """
    if not pictures or not len(pictures) == len(landmarks) == len(mattes) == len(qualities):
        raise ValueError(f"{len(pictures)} pictures, {len(landmarks)} landmarks, {len(mattes)} mattes")
    mean = np.zeros((REGION_COUNT, 3), np.float32)
    spread = np.zeros((REGION_COUNT, 3), np.float32)
    share = np.zeros(REGION_COUNT, np.float32)
    measured = [_measure(*one) for one in zip(pictures, landmarks, mattes, strict=True)]
    for region in Region:
        rows = [m.regions[region] for m in measured if region in m.regions]
        if rows:
            # The median picture, so that one hand before the face or one bad matte does not colour the code.
            mean[region] = np.median([r.mean for r in rows], axis=0)
            spread[region] = np.median([r.spread for r in rows], axis=0)
            share[region] = np.median([r.share for r in rows])
    _guess_unseen(mean, share)
    return AppearanceCode(
        mean=mean,
        spread=spread,
        share=share,
        light=np.median([m.light for m in measured], axis=0).astype(np.float32),
        sharpness=float(np.median([np.log1p(q.sharpness) for q in qualities])),
        exposure=float(np.median([q.exposure for q in qualities])),
        contrast=float(np.median([m.contrast for m in measured])),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Colours:
    mean: NDArray[np.float32]  # [3] linear RGB
    spread: NDArray[np.float32]
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class _Measurement:
    regions: dict[Region, _Colours]
    light: NDArray[np.float32]  # [3]
    contrast: float


def _measure(
    rgb: NDArray[np.uint8], landmarks: NDArray[np.float32], matte: NDArray[np.uint8]
) -> _Measurement:
    shrink = min(1.0, MEASURE_PX / max(rgb.shape[:2]))
    size = (max(8, round(rgb.shape[1] * shrink)), max(8, round(rgb.shape[0] * shrink)))
    small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    person = cv2.resize(matte, size, interpolation=cv2.INTER_AREA) > 127
    linear = to_linear(small)
    points = landmarks * np.float32(shrink)
    regions: dict[Region, _Colours] = {}
    for region, mask in _masks(points, person).items():
        inside = linear[mask]
        if len(inside) >= 6:
            regions[region] = _Colours(inside.mean(0), inside.std(0), float(mask.mean()))
    skin = _skin_points(points, linear)
    luma = linear @ LUMINANCE
    face = luma[_polygon(points[list(FACE_OVAL), :2], luma.shape)]
    contrast = float(face.std() / (face.mean() + 1e-3)) if len(face) else 0.0
    return _Measurement(regions, skin, contrast)


def _masks(points: NDArray[np.float32], person: NDArray[np.bool_]) -> dict[Region, NDArray[np.bool_]]:
    """Return where each region that can be seen is, bool [h, w]."""
    shape = person.shape
    oval = _polygon(points[list(FACE_OVAL), :2], shape)
    lips, inside = (_polygon(points[list(loop), :2], shape) for loop in (OUTER_LIPS, INNER_LIPS))
    eyes = _polygon(points[list(EYE_LOOPS[0]), :2], shape) | _polygon(points[list(EYE_LOOPS[1]), :2], shape)
    brows = _polygon(points[list(BROW_LOOPS[0]), :2], shape) | _polygon(
        points[list(BROW_LOOPS[1]), :2], shape
    )
    iris = np.zeros(shape, np.uint8)
    for centre in IRIS_CENTRES:
        rim = points[centre + 1 : centre + 5, :2]
        radius = float(np.linalg.norm(rim - points[centre, :2], axis=1).mean())
        cv2.circle(
            iris, tuple(np.rint(points[centre, :2]).astype(int).tolist()), max(1, round(radius)), 1, -1
        )
    width = max(1.0, float(np.ptp(points[list(FACE_OVAL), 0])))
    grow = np.ones((2 * max(1, round(0.03 * width)) + 1,) * 2, np.uint8)
    features = cv2.dilate((lips | eyes | brows).astype(np.uint8), grow) > 0
    near = cv2.dilate(oval.astype(np.uint8), grow) > 0
    brow_y, chin_y = float(points[[105, 334], 1].mean()), float(points[152, 1])
    rows = np.arange(shape[0])[:, None]
    masks = {
        Region.SKIN: (cv2.erode(oval.astype(np.uint8), grow) > 0) & ~features,
        Region.LIPS: lips & ~inside,
        Region.BROWS: brows,
        Region.HAIR: person & ~near & (rows < brow_y),
        Region.CLOTHES: person & ~near & (rows > chin_y + 0.35 * width),
        Region.BACKGROUND: cv2.dilate(person.astype(np.uint8), grow) == 0,
    }
    if _gap(points, 13, 14, 78, 308) >= MIN_MOUTH_GAP:
        masks[Region.MOUTH] = inside
    if min(_gap(points, 159, 145, 33, 133), _gap(points, 386, 374, 263, 362)) >= MIN_LID_GAP:
        masks[Region.IRIS] = (iris > 0) & eyes
        masks[Region.SCLERA] = eyes & ~(cv2.dilate(iris, np.ones((3, 3), np.uint8)) > 0)
    return masks


def _skin_points(points: NDArray[np.float32], linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how the skin's luminance changes with x, y and z of the head, per inter-pupil distance, relative."""
    indices = np.array(
        [10, 151, 9, 117, 346, 50, 280, 205, 425, 187, 411, 123, 352, 147, 376, 199, 175, 4, 5, 195]
    )
    at = points[indices]
    x = np.clip(np.rint(at[:, 0]).astype(int), 0, linear.shape[1] - 1)
    y = np.clip(np.rint(at[:, 1]).astype(int), 0, linear.shape[0] - 1)
    luma = cv2.blur(linear @ LUMINANCE, (5, 5))[y, x]
    unit = max(1.0, float(np.linalg.norm(points[468, :2] - points[473, :2])))
    place = (at - at.mean(0)) / unit
    design = np.c_[place, np.ones(len(place))]
    # A little ridge: z is hardly independent of y in a frontal face.
    slope = np.linalg.solve(design.T @ design + 0.1 * np.eye(4), design.T @ luma)
    return np.asarray(np.clip(slope[:3] / (luma.mean() + 1e-3), -4, 4), np.float32)


def _guess_unseen(mean: NDArray[np.float32], share: NDArray[np.float32]) -> None:
    """Fill in regions that no picture shows from those that are there; their share stays 0."""
    skin = mean[Region.SKIN] if share[Region.SKIN] else np.full(3, 0.25, np.float32)
    guesses = {
        Region.SKIN: skin,
        Region.LIPS: skin * np.array([0.9, 0.6, 0.6], np.float32),
        Region.MOUTH: skin * np.array([0.3, 0.15, 0.15], np.float32),
        Region.SCLERA: np.clip(skin.max() * np.array([1.1, 1.05, 1.05], np.float32), 0, 0.8),
        Region.IRIS: np.array([0.04, 0.03, 0.02], np.float32),
        Region.BROWS: skin * np.float32(0.4),
        Region.HAIR: skin * np.float32(0.2),
        Region.CLOTHES: np.full(3, 0.1, np.float32),
        Region.BACKGROUND: np.full(3, 0.2, np.float32),
    }
    for region, guess in guesses.items():
        if share[region] == 0:
            mean[region] = guess


def _polygon(points: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.rint(np.clip(points, -4096, 4096)).astype(np.int32)], 1)
    return mask > 0


def _gap(points: NDArray[np.float32], upper: int, lower: int, left: int, right: int) -> float:
    """Return an opening's height over its width."""
    wide = float(np.linalg.norm(points[left, :2] - points[right, :2]))
    return float(np.linalg.norm(points[upper, :2] - points[lower, :2])) / max(1e-3, wide)
