"""The expression of shut lids, for a face that must blink although nothing is known about it."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.models.face_model import FaceModel
from mien.models.landmark_sets import IRISES
from mien.protocol.state import EXPRESSION_COUNT

# Upper lid and the point of the lower lid that it meets, outer corner to inner; the subject's right eye, then left.
# fmt: off
UPPER_LIDS: Final = (246, 161, 160, 159, 158, 157, 173, 466, 388, 387, 386, 385, 384, 398)
LOWER_LIDS: Final = (7, 163, 144, 145, 153, 154, 155, 249, 390, 373, 374, 380, 381, 382)
# fmt: on
LID_WEIGHT: Final = 6.0  # against the rest of the face, which must stay where it is
STEPS: Final = 1024
NOISE: Final = 2e-3  # what is not worth an unusual coefficient, squared inter-pupil distances


def shut_lids(model: FaceModel) -> NDArray[np.float32]:
    """Return the expression, float32 [30], that brings the lids nearest together and moves little else."""
    wanted = np.zeros_like(model.mean, dtype=np.float64)
    upper, lower = list(UPPER_LIDS), list(LOWER_LIDS)
    wanted[upper] = model.mean[lower] - model.mean[upper]
    weights = np.ones(wanted.shape)
    weights[upper] = weights[lower] = LID_WEIGHT
    weights[list(IRISES)] = 0.0  # hidden behind the lids
    weights[:, 2] = 0.0
    basis = model.basis.reshape(EXPRESSION_COUNT, -1).astype(np.float64)
    design = basis * weights.ravel()
    ridge = np.diag(NOISE / model.deviation.astype(np.float64) ** 2)
    expression = np.linalg.solve(design @ basis.T + ridge, design @ wanted.ravel())
    # In steps that no machine's rounding reaches, so that a log replays to the same bits everywhere.
    return (np.round(expression * STEPS) / STEPS).astype(np.float32)
