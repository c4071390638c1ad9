"""The user's own small picture over the other side's, with the indicator that the camera is live."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.decoder.badge import draw_status

SHARE: Final = 0.25  # of the picture's width
LIVE_RED: Final = (220, 30, 30)
LIVE_TEXT: Final = "CAMERA LIVE"


def with_self_view(
    picture: NDArray[np.uint8], own: NDArray[np.uint8] | None, *, live: bool
) -> NDArray[np.uint8]:
    """Return `picture`, RGB uint8 [h, w, 3], with the newest camera frame in a corner, mirrored.

    While camera pictures are being sent a red frame and a line of text say so; that shows also without a frame.
    """
    out = picture.copy()
    if own is not None:
        width = max(2, round(picture.shape[1] * SHARE))
        height = max(2, min(round(width * own.shape[0] / own.shape[1]), picture.shape[0]))
        small = cv2.resize(own, (width, height), interpolation=cv2.INTER_AREA)[:, ::-1]
        out[:height, out.shape[1] - width :] = small
        if live:
            cv2.rectangle(out, (out.shape[1] - width, 0), (out.shape[1] - 1, height - 1), LIVE_RED, 4)
    if live:
        cv2.rectangle(out, (0, 0), (out.shape[1] - 1, out.shape[0] - 1), LIVE_RED, 3)
        draw_status(out, LIVE_TEXT)
    return out
