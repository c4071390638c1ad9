"""Named sets of MediaPipe's 478 landmarks (indices of its documented face mesh), and their weights in the model."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.protocol.state import LANDMARK_COUNT

RIGHT_IRIS: Final = (
    468  # the subject's; centres of the two irises, whose distance is the inter-pupil distance
)
LEFT_IRIS: Final = 473
OUTER_EYE_CORNERS: Final = (33, 263)
IRISES: Final = tuple(range(468, 478))
# fmt: off
LIPS: Final = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415,
)
EYES: Final = (
    33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246,
    263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466,
)
BROWS: Final = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46, 300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
# fmt: on

Z_WEIGHT: Final = 0.5  # MediaPipe's depth is a guess; it steers the pose but should not steer the expression


def vertex_weights() -> NDArray[np.float64]:
    """Return how much each vertex matters, float64 [478]: what people look at counts double."""
    weights = np.ones(LANDMARK_COUNT)
    weights[list(LIPS)] = 2.0
    weights[list(EYES)] = 2.0
    weights[list(IRISES)] = 3.0
    weights[list(BROWS)] = 1.3
    return weights


def inter_pupil_px(landmarks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the 2-D distance of the iris centres, [...], of landmarks [..., 478, 3]."""
    distance: NDArray[np.float64] = np.linalg.norm(
        landmarks[..., RIGHT_IRIS, :2] - landmarks[..., LEFT_IRIS, :2], axis=-1
    )
    return distance
