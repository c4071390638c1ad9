"""The person cut out of a frame: MediaPipe's selfie segmentation where its model is present, else GrabCut.

No weights are fetched for this. The selfie model is a part of the mediapipe 0.10.21 wheel only. The classical
way knows where the face is and what stands around faces (hair above, shoulders below) and lets the colours
decide the rest. Both are refined along the picture's edges by a guided filter.
"""

import importlib.util
import logging
from collections.abc import Sequence
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.encoder.tracker import native_stderr_to_log
from mien.models.topology import FACE_OVAL

log = logging.getLogger(__name__)

MATTE_PX: Final = 256  # longer side that mattes are made and kept at
GRABCUT_ROUNDS: Final = 4
BODY_BELOW: Final = 0.08  # of the face's height
BODY_HALF: Final = 0.8  # of the face's width
GUIDE_RADIUS_PX: Final = 4
GUIDE_SOFTNESS: Final = 1e-3  # squared luminance (0 to 1) below which an edge of the picture is noise


class Matter(Protocol):
    """Cuts a person out of a frame."""

    @property
    def name(self) -> str:
        """How it is done, for a person to read."""

    def mattes(
        self, pictures: Sequence[NDArray[np.uint8]], landmarks: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.uint8]]:
        """Return uint8 [h, w] for each picture: 255 where the person is, softly graded at the edge.

        Pictures are uint8 [h, w, 3] of one person in one place and of one size, landmarks float32 [478, 3] in their
        pixels.
        """

    def close(self) -> None:
        """Free what it holds."""


class SelfieMatter:
    """MediaPipe's selfie segmentation through the legacy interface."""

    name: Final = "selfie segmentation"

    def __init__(self, solution: Any) -> None:
        self._segmenter = solution

    def mattes(
        self, pictures: Sequence[NDArray[np.uint8]], landmarks: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.uint8]]:
        """See `Matter.mattes`; the landmarks are not needed."""
        masks = [self._segmenter.process(np.ascontiguousarray(rgb)).segmentation_mask for rgb in pictures]
        return [refine(rgb, np.asarray(mask, np.float32)) for rgb, mask in zip(pictures, masks, strict=True)]

    def close(self) -> None:
        """Free the graph."""
        self._segmenter.close()


class GrabCutMatter:
    """Colour models of person and surroundings, seeded by the face (Rother et al., "GrabCut", 2004)."""

    name: Final = "GrabCut seeded by the face"

    def mattes(
        self, pictures: Sequence[NDArray[np.uint8]], landmarks: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.uint8]]:
        """See `Matter.mattes`. All pictures are cut together: what is hair in one of them is hair in the others."""
        height, width = pictures[0].shape[:2]
        shrink = min(1.0, MATTE_PX / max(height, width))
        size = (max(8, round(width * shrink)), max(8, round(height * shrink)))
        small = [
            np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8) for rgb in pictures
        ]
        mask = np.concatenate([seeds(p[:, :2] * shrink, width=size[0], height=size[1]) for p in landmarks])
        strip = cv2.cvtColor(np.concatenate(small), cv2.COLOR_RGB2BGR)
        cv2.setRNGSeed(0)  # the same frames give the same mattes
        try:
            models = np.zeros((1, 65)), np.zeros((1, 65))
            cv2.grabCut(strip, mask, (0, 0, 0, 0), *models, GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
        except cv2.error as error:  # frames of one colour, or a face that fills them: the prior has to do
            log.info("GrabCut gave up, the matte is the prior alone: %s", str(error).strip()[:120])
        parts = np.split(mask, len(pictures))
        return [_finish(rgb, little, part) for rgb, little, part in zip(pictures, small, parts, strict=True)]

    def close(self) -> None:
        """Nothing is held."""


def _finish(rgb: NDArray[np.uint8], small: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the soft matte of a picture from GrabCut's mask of its small copy."""
    person = keep_connected(np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)), mask == cv2.GC_FGD)
    soft = np.asarray(cv2.GaussianBlur(person.astype(np.float32), (0, 0), 1.0), np.float32)
    edge = refine(small, soft)
    height, width = rgb.shape[:2]
    return refine(rgb, np.asarray(cv2.resize(edge, (width, height)), np.float32) / np.float32(255))


def open_matter() -> Matter:
    """Return the best matter that is present."""
    if importlib.util.find_spec("mediapipe") and importlib.util.find_spec("mediapipe.python"):
        try:
            with native_stderr_to_log():
                from mediapipe.python.solutions import selfie_segmentation

                segmenter = selfie_segmentation.SelfieSegmentation(model_selection=0)
                segmenter.process(np.zeros((64, 64, 3), np.uint8))  # the first inference prints
                return SelfieMatter(segmenter)
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            log.info("no selfie segmentation here (%s)", error)
    return GrabCutMatter()


def seeds(points: NDArray[np.float32], *, width: int, height: int) -> NDArray[np.uint8]:
    """Return GrabCut's starting mask, uint8 [height, width], from landmarks [478, 2] in its pixels.

    Surely person: the face, neck and chest below it. Perhaps: hair around, shoulders. Surely not:
    the frame's upper border away from the head. The rest: perhaps not.
    """
    oval = points[list(FACE_OVAL)]
    top, chin = points[10], points[152]
    up = top - chin
    tall = max(1.0, float(np.linalg.norm(up)))
    middle = oval.mean(0)
    wide = max(
        0.75 * tall, float(np.ptp(oval[:, 0]))
    )  # a face seen from the side has as much hair and shoulders
    mask = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
    head = middle + up * 0.12 + (oval - middle) * 1.4
    shoulders = np.array(
        [
            chin + (-0.45 * wide, -0.1 * tall),
            chin + (0.45 * wide, -0.1 * tall),
            chin + (0.5 * wide, 0.1 * tall),
            chin + (1.7 * wide, 0.3 * tall),
            (chin[0] + 2.2 * wide, height + tall),
            (chin[0] - 2.2 * wide, height + tall),
            chin + (-1.7 * wide, 0.3 * tall),
            chin + (-0.5 * wide, 0.1 * tall),
        ]
    )
    border = max(2, round(0.02 * max(width, height)))
    far = np.abs(np.arange(width) - middle[0]) > 1.1 * wide
    above = max(border, round(float(head[:, 1].min()) * 0.6))
    mask[:above, far] = cv2.GC_BGD
    for polygon in (shoulders, head):
        cv2.fillPoly(mask, [np.rint(polygon).astype(np.int32)], cv2.GC_PR_FGD)
    # Neck and chest: without a sure sample of the clothes their colour would count as surroundings.
    chest = np.array(
        [
            chin + (-0.22 * wide, -0.2 * tall),
            chin + (0.22 * wide, -0.2 * tall),
            chin + (0.25 * wide, 0.3 * tall),
            chin + (0.7 * wide, 0.7 * tall),
            (chin[0] + 0.9 * wide, height + tall),
            (chin[0] - 0.9 * wide, height + tall),
            chin + (-0.7 * wide, 0.7 * tall),
            chin + (-0.25 * wide, 0.3 * tall),
        ]
    )
    # The skull reaches above the forehead's landmarks; without its hair, hair would count as surroundings.
    crown = middle + up * 0.13 + (oval - middle) * (0.9, 1.1)
    sure = [middle + (oval - middle) * 0.95, crown, chest]
    for polygon in sure:
        cv2.fillPoly(mask, [np.rint(polygon).astype(np.int32)], cv2.GC_FGD)
    # Where the frame ends below the chin there are clothes, also where a big head leaves them little room.
    first = max(round(height * 0.96), round(float(chin[1]) + BODY_BELOW * tall))
    near = np.abs(np.arange(width) - chin[0]) < BODY_HALF * wide
    mask[first:, near] = cv2.GC_FGD
    return mask


def keep_connected(person: NDArray[np.bool_], sure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep what hangs together with the face, and fill the holes in it."""
    count, labels = cv2.connectedComponents(person.astype(np.uint8))
    keep = np.zeros(count, bool)
    keep[np.unique(labels[person & sure])] = True
    body = keep[labels] & person
    holes, labels, stats, _ = cv2.connectedComponentsWithStats((~body).astype(np.uint8), connectivity=4)
    limit = 0.01 * body.size
    for hole in range(1, holes):
        x, y, w, h, area = stats[hole]
        inside = x > 0 and y > 0 and x + w < body.shape[1] and y + h < body.shape[0]
        if inside and area < limit:
            body |= labels == hole
    return np.asarray(body)


def refine(rgb: NDArray[np.uint8], mask: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw a mask's edge (float32 [h, w], 0 to 1) to the picture's; returns uint8 [h, w]."""
    guide = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32) / np.float32(255)
    radius = max(1, round(GUIDE_RADIUS_PX * max(rgb.shape[:2]) / MATTE_PX))
    return np.rint(255 * np.clip(guided_filter(guide, mask, radius), 0, 1)).astype(np.uint8)


def guided_filter(guide: NDArray[np.float32], mask: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """He, Sun and Tang, "Guided image filtering", 2010: the mask as a locally linear function of the guide."""

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(values, (2 * radius + 1, 2 * radius + 1)), np.float32)

    guide_mean, mask_mean = mean(guide), mean(mask)
    variance = mean(np.asarray(guide * guide, np.float32)) - guide_mean * guide_mean
    covariance = mean(np.asarray(guide * mask, np.float32)) - guide_mean * mask_mean
    slope = np.asarray(covariance / (variance + GUIDE_SOFTNESS), np.float32)
    offset = np.asarray(mask_mean - slope * guide_mean, np.float32)
    return np.asarray(mean(slope) * guide + mean(offset), np.float32)
