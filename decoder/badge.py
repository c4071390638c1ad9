"""The disclosure badge and status text: small pieces of text as pixels, drawn over everything else."""

from enum import Enum
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# As small as one reads without looking for it: what it covers is missing from the picture. Of 256 x 256 it covers a
# two-hundredth, which adds .009 to the deviation of gradients (GMSD; eight clips, mean).
BADGE_SHARE: Final = 0.038  # of the picture's shorter side
BADGE_MIN_PX: Final = 10  # letters smaller than this cannot be read
PAD_SHARE: Final = (0.1, 0.1)  # of the letters' height: beside them, above and below
LEAST_PAD_PX: Final = (1, 1)
NARROW: Final = 0.75  # of the letters' own width, which costs readers less than lower letters would
BOLD: Final = 1.3  # so much more of a pixel counts as the letter's: narrow strokes stay white
FINER: Final = 8  # letters are drawn so many times larger, and made small
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
        letters = _letters(text, letter_px)
        x, y = (max(n, round(share * letter_px)) for n, share in zip(LEAST_PAD_PX, PAD_SHARE, strict=True))
        if letters.shape[1] + 2 * x <= max_width_px or letter_px <= 6:
            break
        letter_px -= 1
    share = np.pad(letters, ((y, y), (x, x)))
    height, width = share.shape
    plate = Image.new("L", (width, height), 0)
    ImageDraw.Draw(plate).rounded_rectangle(
        (0, 0, width - 1, height - 1), radius=height // 4, fill=PLATE_ALPHA
    )
    alpha = share + (1 - share) * np.asarray(plate, np.float32) / 255
    white = share / np.maximum(alpha, 1 / 255)
    out = np.rint(255 * np.dstack([white, white, white, alpha])).astype(np.uint8)
    out.flags.writeable = False
    return out


def _letters(text: str, letter_px: int) -> NDArray[np.float32]:
    """Return how much of each pixel is a letter's, 0 to 1: [h, w], no larger than the letters are."""
    font = ImageFont.load_default(FINER * letter_px)
    left, top, right, bottom = (int(side) for side in font.getbbox(text))
    large = Image.new("L", (max(1, right - left), max(1, bottom - top)), 0)
    ImageDraw.Draw(large).text((-left, -top), text, font=font, fill=255)
    size = (max(1, round(NARROW * large.width / FINER)), max(1, round(large.height / FINER)))
    small = np.asarray(large.resize(size, Image.Resampling.BOX), np.float32)
    return np.minimum(BOLD * small / 255, 1).astype(np.float32)


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
