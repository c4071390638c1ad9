"""What of a camera's picture may go into a scene layer: done here, before anything is coded."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.encoder.matte import seeds
from mien.models.topology import FACE_OVAL

OVAL_GROWTH: Final = 1.04  # the outermost landmarks lie on the skin; this reaches over its edge
BLUR_SHARE: Final = 0.06  # standard deviation of a blurred background, of the picture's longer side
EDGE_SHARE: Final = 0.01  # softness of the person's outline
BACKDROP: Final = 96  # grey level of a background that is not shown


class Background(Enum):
    """What becomes of what is behind the person."""

    KEEP = "keep"
    BLUR = "blur"
    HIDE = "hide"  # replaced by grey


@dataclass(frozen=True, slots=True)
class ScenePrivacy:
    """The user's choices. By default the face is left out: the avatar has it."""

    show_face: bool = False
    background: Background = Background.KEEP
    circle: bool = False  # only the picture's inscribed circle is shown


WITHOUT_FACE: Final = ScenePrivacy()


def private_picture(
    rgb: NDArray[np.uint8], landmarks: NDArray[np.floating] | None, choice: ScenePrivacy
) -> NDArray[np.uint8] | None:
    """Return the part of a picture [h, w, 3] that may be sent, as a picture of the same size.

    `landmarks` [478, 2 or more] in its pixels, None where not one face alone was found. Then nothing may be sent
    (None) where the face or the background is to be left out: who knows where they are.
    """
    hides = choice.background is not Background.KEEP
    if landmarks is None and (hides or not choice.show_face):
        return None
    out = rgb
    if landmarks is not None:
        if hides:
            out = without_background(out, landmarks, choice.background)
        if not choice.show_face:
            out = without_face(out, landmarks)
    return within_circle(out) if choice.circle else out


def without_face(rgb: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Fill the face's oval with the plane of colour nearest to it: its light and its slope, and no feature."""
    height, width = rgb.shape[:2]
    mask = oval_mask(landmarks, width, height)
    y, x = np.nonzero(mask > 127)
    if len(y) < 8:
        return rgb

    def terms(x: NDArray[np.intp], y: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.stack([x / width - 0.5, y / height - 0.5, np.ones(len(x))], 1)

    slopes = np.linalg.lstsq(terms(x, y), rgb[y, x].astype(np.float64), rcond=None)[0]
    touched = np.nonzero(mask)
    filling = np.clip(terms(touched[1], touched[0]) @ slopes, 0, 255)
    share = mask[touched][:, None] / 255
    out = rgb.copy()
    out[touched] = np.rint(rgb[touched] * (1 - share) + filling * share)
    return out


def oval_mask(landmarks: NDArray[np.floating], width: int, height: int) -> NDArray[np.uint8]:
    """Return uint8 [height, width]: 255 on the face's oval and a little around it."""
    oval = landmarks[list(FACE_OVAL), :2].astype(np.float64)
    middle = oval.mean(0)
    oval = np.clip(middle + OVAL_GROWTH * (oval - middle), -4096, 2 * 4096)
    mask = np.zeros((height, width), np.uint8)
    # The hull: an oval seen from the side folds, and what it folds over is face as well.
    hull = cv2.convexHull(np.rint(oval * 16).astype(np.int32))
    cv2.fillPoly(mask, [hull], 255, cv2.LINE_AA, 4)
    return mask


def without_background(
    rgb: NDArray[np.uint8], landmarks: NDArray[np.floating], background: Background
) -> NDArray[np.uint8]:
    """Blur or hide what lies outside the room that a head and shoulders take around such a face."""
    height, width = rgb.shape[:2]
    longer = max(height, width)
    points = np.asarray(landmarks[:, :2], np.float32)
    room = np.isin(seeds(points, width=width, height=height), (cv2.GC_FGD, cv2.GC_PR_FGD))
    person = cv2.GaussianBlur(room.astype(np.float32), (0, 0), EDGE_SHARE * longer)[..., None]
    if background is Background.BLUR:
        behind = cv2.GaussianBlur(rgb, (0, 0), BLUR_SHARE * longer).astype(np.float32)
    else:
        behind = np.full(rgb.shape, BACKDROP, np.float32)
    return np.asarray(np.rint(rgb * person + behind * (1 - person)), np.uint8)


def within_circle(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Hide what lies outside the largest circle in the picture's middle."""
    height, width = rgb.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (width // 2, height // 2), min(height, width) // 2, 255, -1, cv2.LINE_AA)
    share = mask[..., None] / np.float32(255)
    return np.asarray(np.rint(rgb * share + BACKDROP * (1 - share)), np.uint8)
