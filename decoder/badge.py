"""The disclosure badge and status text: small pieces of text as pixels, drawn over everything else."""

from enum import Enum
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# As small as one reads without looking for it: what it covers is missing from the picture. At 256 x 256 it adds .006
# to the deviation of gradients (GMSD), as it stands in the corner; with more around it, a little away from there, .010.
BADGE_SHARE: Final = 0.038  # of the picture's shorter side
BADGE_MIN_PX: Final = 10  # letters smaller than this cannot be read
PAD_SHARE: Final = (0.2, 0.1)  # of the letters' height: beside them, above and below
LEAST_PAD_PX: Final = (2, 1)
# As light as white letters can be read on it whatever is behind: 4.7 : 1 over white (WCAG asks for 4.5).
PLATE_ALPHA: Final = 140
STATUS_MARGIN_SHARE: Final = 0.5  # of the letters' height, to the picture's edge
MAX_STATUS_LETTERS: Final = 80


class Badge(Enum):
    """What a viewer is told about the picture in front of them."""

    AVATAR = "AVATAR"
    TEST_PICTURE = "TEST PICTURE"
    VIDEO = "VIDEO"


@lru_cache(maxsize=64)
def text_plate(text: str, letter_px: int, max_width_px: int) -> NDArray[np.uint8]:
    """Return a dark plate with white letters: uint8 [h, w, 4] RGBA, at most `max_width_px` wide.

    Letters shrink until the text fits (never below 6 px).
    """
    while True:
        font = ImageFont.load_default(letter_px)
        left, top, right, bottom = font.getbbox(text)
        x, y = (max(n, round(share * letter_px)) for n, share in zip(LEAST_PAD_PX, PAD_SHARE, strict=True))
        size = (int(right - left) + 2 * x, int(bottom - top) + 2 * y)
        if size[0] <= max_width_px or letter_px <= 6:
            break
        letter_px -= 1
    plate = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(plate)
    pen.rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), radius=size[1] // 4, fill=(0, 0, 0, PLATE_ALPHA))
    pen.text((x - left, y - top), text, font=font, fill=(255, 255, 255, 255))
    out = np.asarray(plate).copy()
    out.flags.writeable = False
    return out


def letter_height(width: int, height: int) -> int:
    """Return the letters' nominal size in pixels for a picture of this size."""
    return max(BADGE_MIN_PX, round(BADGE_SHARE * min(width, height)))


def draw_badge(picture: NDArray[np.uint8], badge: Badge) -> None:
    """Draw the badge into the lower left corner of RGB uint8 [h, w, 3], in place."""
    height, width, _ = picture.shape
    letter = letter_height(width, height)
    plate = text_plate(badge.value, letter, width)
    paste(picture, plate, 0, height - plate.shape[0])


def draw_status(picture: NDArray[np.uint8], text: str) -> None:
    """Draw a line of status ("connection lost") at the top, centred, in place; nothing for an empty text."""
    text = " ".join(text.split())[:MAX_STATUS_LETTERS]
    if not text:
        return
    height, width, _ = picture.shape
    letter = letter_height(width, height)
    plate = text_plate(text, letter, width)
    paste(picture, plate, (width - plate.shape[1]) // 2, round(STATUS_MARGIN_SHARE * letter))


def paste(picture: NDArray[np.uint8], plate: NDArray[np.uint8], x: int, y: int) -> None:
    """Lay an RGBA plate over an RGB picture at (x, y), in place, cropped to the picture."""
    x, y = max(x, 0), max(y, 0)
    under = picture[y : y + plate.shape[0], x : x + plate.shape[1]]
    over = plate[: under.shape[0], : under.shape[1]].astype(np.uint16)
    alpha = over[:, :, 3:]
    under[:] = (over[:, :, :3] * alpha + under * (255 - alpha) + 127) // 255
