"""A reference picture of an avatar, decoded and fitted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class ReferencePicture:
    """A decoded reference: RGB uint8 [h, w, 3] of the enrolment framing at any size, its landmarks and its fit.

    `landmarks` [478, 3] are pixels of the enrolment framing, `pose` [6] their fitted pose there, `shape`
    [478, 3] the model's own shape at the fitted expression, in model space, `slot` as in `Reference`, `matte`
    uint8 of any size: 255 where the person is, or None where that is not known. `made_up`: painted at
    enrolment; `mirrored`: painted here, see `mien.decoder.far_side`.
    """

    rgb: NDArray[np.uint8]
    landmarks: NDArray[np.floating]
    pose: NDArray[np.floating]
    shape: NDArray[np.floating]
    slot: int = 0
    matte: NDArray[np.uint8] | None = None
    made_up: bool = False
    mirrored: bool = False
