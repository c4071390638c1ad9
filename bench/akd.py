"""Picture metrics by tracking again: does the drawn face stand, move and look like the original's?

Both pictures are compared at one square size. `akd` is the mean 2-D distance of the 478 re-tracked landmarks
in percent of the distance between the original's outer eye corners; `mouth` and `eyes` the same over the lips
and over lids and irises; `blendshapes` the mean difference of the 52; `pose_deg` the angle between the head
rotations; `gaze` how far the irises stand elsewhere in their openings, in percent of the eye's width;
`jaw_corr` and `blink_corr` the correlation over time of jawOpen and eyeBlinkLeft; `edge` the ratio of gradient
energy (1: as sharp as the original); `flicker` how much more restless the sequence is than the original;
`identity` 1 less the distance of a recognition network's points (below .55 they are more likely two people).
Names that begin with `face_` look at the face's box alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from mien.bench.picture_metrics import (
    Picture,
    gradient,
    gradient_similarity,
    grey,
    ms_ssim,
    psnr,
    ssim_map,
)
from mien.models.landmark_sets import EYES, IRISES
from mien.models.topology import EYE_CORNERS, INNER_LIPS, IRIS_CENTRES, OUTER_LIPS
from mien.protocol.errors import MienError

OUTER_EYE_CORNERS: Final = (33, 263)
LIPS: Final = [*INNER_LIPS, *OUTER_LIPS]
EYE_POINTS: Final = [*EYES, *IRISES]
JAW_OPEN: Final = 25  # place in MediaPipe's list of blendshapes
EYE_BLINK_LEFT: Final = 9
FACE_MARGIN: Final = 0.06  # of the face's height, around its box
MIN_SAMPLES: Final = 9  # fewer give no correlation
MIN_MOTION: Final = 0.01  # standard deviation of a blendshape below which it does not move


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
    eyes: float = float("nan")
    pose_deg: float = float("nan")
    gaze: float = float("nan")
    jaw: tuple[float, float] = (float("nan"), float("nan"))  # original's, drawn
    blink: tuple[float, float] = (float("nan"), float("nan"))
    # Not measured on every frame, or not everywhere.
    flicker: float = float("nan")
    ssimulacra2: float = float("nan")
    identity: float = float("nan")
    lpips: float = float("nan")
    dists: float = float("nan")


MEANS: Final = (
    "found", "psnr", "face_psnr", "ssim", "face_ssim", "msssim", "gmsd", "edge", "face_edge", "akd", "mouth",
    "eyes", "blendshapes", "pose_deg", "gaze", "flicker", "ssimulacra2", "identity", "lpips", "dists",
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
        eyes=float(distance[EYE_POINTS].mean()),
        blendshapes=float(np.abs(again.blendshapes - face.blendshapes).mean()),
        pose_deg=angle_deg(again.rotation, face.rotation),
        gaze=100 * float(np.linalg.norm(gaze(again.landmarks) - gaze(face.landmarks), axis=1).mean()),
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


def gaze(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where each iris stands from the middle of its eye's corners, along and across them, in eye widths: [2, 2]."""
    out = np.empty((2, 2))
    for eye, (centre, corners) in enumerate(zip(IRIS_CENTRES, EYE_CORNERS, strict=True)):
        outer, inner = landmarks[corners[0]], landmarks[corners[1]]
        along = (inner - outer) / max(float(np.linalg.norm(inner - outer)), 1e-6)
        away = (landmarks[centre] - (outer + inner) / 2) / max(float(np.linalg.norm(inner - outer)), 1e-6)
        out[eye] = away @ along, along[0] * away[1] - along[1] * away[0]
    return out


def angle_deg(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the angle between two rotations [3, 3] in degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))))


def face_box(landmarks: NDArray[np.float64], size: int) -> tuple[slice, slice]:
    """Return rows and columns of the face's box with its margin, inside a picture of `size`."""
    low, high = landmarks.min(0), landmarks.max(0)
    margin = FACE_MARGIN * (high[1] - low[1])
    x0, y0, x1, y1 = (int(v) for v in np.clip([*(low - margin), *(high + margin)], 0, size))
    return slice(y0, y1), slice(x0, x1)
