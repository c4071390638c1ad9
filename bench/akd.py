"""Picture metrics: does the drawn face stand, move and look like the original's, judged by tracking it again.

Both pictures are compared at one square size. `akd` is the mean 2-D distance of the 478 re-tracked landmarks
in percent of the distance between the original's outer eye corners; `mouth` the same over the lips;
`blendshapes` the mean difference of the 52; `pose_deg` the angle between the head rotations; `jaw_corr` and
`blink_corr` the correlation over time of jawOpen and eyeBlinkLeft; `edge` the ratio of gradient energy (1: as
sharp as the original). Names that begin with `face_` look at the face's box alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.models.topology import INNER_LIPS, OUTER_LIPS
from mien.protocol.errors import MienError

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

COMPARED_PX: Final = 256
OUTER_EYE_CORNERS: Final = (33, 263)
LIPS: Final = [*INNER_LIPS, *OUTER_LIPS]
JAW_OPEN: Final = 25  # place in MediaPipe's list of blendshapes
EYE_BLINK_LEFT: Final = 9
FACE_MARGIN: Final = 0.06  # of the face's height, around its box
MIN_SAMPLES: Final = 9  # fewer give no correlation
MIN_MOTION: Final = 0.01  # standard deviation of a blendshape below which it does not move
MSSIM_WEIGHTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Stabilisers of SSIM ((.01 * 255)^2, (.03 * 255)^2) and of the gradient similarity.
SSIM_LUMA: Final = 6.5025
SSIM_CONTRAST: Final = 58.5225
GRADIENT_STABILISER: Final = 170.0


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """What the tracker sees: landmarks [478, 2] in pixels, blendshapes [52], the head's rotation [3, 3]."""

    landmarks: NDArray[np.float64]
    blendshapes: NDArray[np.float64]
    rotation: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FrameScore:
    """One frame's figures; those that need a face in the drawn picture are nan where none was found."""

    found: bool
    psnr: float
    face_psnr: float
    ssim: float
    face_ssim: float
    msssim: float
    gmsd: float
    edge: float
    face_edge: float
    akd: float = float("nan")
    mouth: float = float("nan")
    blendshapes: float = float("nan")
    pose_deg: float = float("nan")
    jaw: tuple[float, float] = (float("nan"), float("nan"))  # original's, drawn
    blink: tuple[float, float] = (float("nan"), float("nan"))


MEANS: Final = (
    "found", "psnr", "face_psnr", "ssim", "face_ssim", "msssim", "gmsd", "edge", "face_edge", "akd", "mouth",
    "blendshapes", "pose_deg",
)  # fmt: skip


class Retracker:
    """MediaPipe's FaceLandmarker, each picture by itself. A context manager."""

    def __init__(self, bundle: Path) -> None:
        """Raises `MienError` where mediapipe's Tasks API or the bundle is missing."""
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=bundle.read_bytes()),
                running_mode=vision.RunningMode.IMAGE,
                output_face_blendshapes=True,
                output_facial_transformation_matrixes=True,
            )
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            raise MienError(f"pictures cannot be tracked again: {error}; see `mien doctor`") from error
        self._mediapipe: Any = mediapipe

    def face(self, picture: Picture) -> Face | None:
        """Return the face in a square RGB picture."""
        image = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture)
        )
        result = self._landmarker.detect(image)
        if not result.face_landmarks:
            return None
        height, width = picture.shape[:2]
        return Face(
            np.array([(p.x * width, p.y * height) for p in result.face_landmarks[0]]),
            np.array([b.score for b in result.face_blendshapes[0]]),
            np.array(result.facial_transformation_matrixes[0])[:3, :3],
        )

    def close(self) -> None:
        """Free the model."""
        self._landmarker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def compared(picture: Picture, size: int = COMPARED_PX) -> Picture:
    """Bring a picture to the square size at which it is compared (its aspect gives way, on both sides alike)."""
    if picture.shape[:2] == (size, size):
        return picture
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def score(original: Picture, drawn: Picture, face: Face, again: Face | None) -> FrameScore:
    """Compare two RGB pictures of one square size; `face` is the original's, `again` the drawn one's."""
    a, b = grey(original), grey(drawn)
    box = face_box(face.landmarks, original.shape[0])
    error = (original.astype(np.float32) - drawn) ** 2
    similar, _ = ssim_map(a, b)
    sharp_a, sharp_b = gradient(a), gradient(b)
    common: dict[str, Any] = {
        "psnr": psnr(error),
        "face_psnr": psnr(error[box]),
        "ssim": float(similar.mean()),
        "face_ssim": float(similar[box].mean()),
        "msssim": ms_ssim(a, b),
        "gmsd": float(gradient_similarity(a, b).std()),
        "edge": float(sharp_b.mean() / sharp_a.mean()),
        "face_edge": float(sharp_b[box].mean() / sharp_a[box].mean()),
    }
    if again is None:
        return FrameScore(found=False, **common)
    left, right = OUTER_EYE_CORNERS
    eyes = float(np.linalg.norm(face.landmarks[left] - face.landmarks[right]))
    distance = np.linalg.norm(again.landmarks - face.landmarks, axis=1) / eyes * 100
    return FrameScore(
        found=True,
        **common,
        akd=float(distance.mean()),
        mouth=float(distance[LIPS].mean()),
        blendshapes=float(np.abs(again.blendshapes - face.blendshapes).mean()),
        pose_deg=angle_deg(again.rotation, face.rotation),
        jaw=(float(face.blendshapes[JAW_OPEN]), float(again.blendshapes[JAW_OPEN])),
        blink=(float(face.blendshapes[EYE_BLINK_LEFT]), float(again.blendshapes[EYE_BLINK_LEFT])),
    )


def summarise(scores: Sequence[FrameScore]) -> dict[str, float]:
    """Return the mean of every figure over frames, and the two correlations over time where they mean something."""
    out: dict[str, float] = {}
    for name in MEANS:
        values = np.array([getattr(s, name) for s in scores], np.float64)
        if np.isfinite(values).any():
            out[name] = round(float(np.nanmean(values)), 4)
    for name in ("jaw", "blink"):
        pairs = np.array([getattr(s, name) for s in scores if s.found], np.float64).reshape(-1, 2)
        if (value := correlation(pairs)) is not None:
            out[f"{name}_corr"] = value
    return out


def correlation(pairs: NDArray[np.float64]) -> float | None:
    """Return the correlation of two columns [n, 2]; None where there are too few, or nothing moves."""
    if len(pairs) < MIN_SAMPLES or pairs[:, 0].std() <= MIN_MOTION or pairs[:, 1].std() <= 1e-6:
        return None
    return round(float(np.corrcoef(pairs[:, 0], pairs[:, 1])[0, 1]), 4)


def angle_deg(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the angle between two rotations [3, 3] in degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))))


def face_box(landmarks: NDArray[np.float64], size: int) -> tuple[slice, slice]:
    """Return rows and columns of the face's box with its margin, inside a picture of `size`."""
    low, high = landmarks.min(0), landmarks.max(0)
    margin = FACE_MARGIN * (high[1] - low[1])
    x0, y0, x1, y1 = (int(v) for v in np.clip([*(low - margin), *(high + margin)], 0, size))
    return slice(y0, y1), slice(x0, x1)


# --- Pixels -------------------------------------------------------------------------------------------------


def grey(picture: Picture) -> Floats:
    """Return luma, float32 [h, w], 0 to 255."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)


def psnr(squared: Floats) -> float:
    """Return the peak signal to noise ratio in dB of squared errors."""
    return 10 * float(np.log10(255**2 / max(float(squared.mean()), 1e-3)))


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


def _blurred(a: Floats) -> Floats:
    return np.asarray(cv2.GaussianBlur(a, (11, 11), 1.5), np.float32)


def _halved(a: Floats) -> Floats:
    return np.asarray(cv2.resize(a, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)
