"""Pictures for a person to look at: source and received frames side by side, and sheets of chosen instants."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

BACKGROUND: Final = (24, 26, 30)
INK: Final = (236, 238, 240)
FAINT: Final = (150, 156, 164)
_MARGIN_PX: Final = 8

_Picture = NDArray[np.uint8]  # [height, width, 3], RGB


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One column of a sheet: a picture for each row, of one instant. `notes` stand below the time."""

    time_s: float
    pictures: tuple[_Picture, ...]
    notes: str = ""


def spread(count: int, total: int) -> list[int]:
    """Return `count` indices spread evenly over `total`, each in the middle of its part."""
    count = min(count, total)
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]


def contact_sheet(
    moments: Sequence[Moment], row_titles: Sequence[str], *, title: str, cell_height_px: int = 220
) -> _Picture:
    """Draw a row of pictures for each title, a column for each moment, the times above.

    Raises ValueError if there is no moment, or one has not a picture for each row.
    """
    if not moments or any(len(m.pictures) != len(row_titles) for m in moments):
        raise ValueError(f"a sheet needs moments with {len(row_titles)} pictures each, one for each row")
    shape = moments[0].pictures[0].shape
    cell_width_px = max(1, round(cell_height_px * shape[1] / shape[0]))
    has_notes = any(m.notes for m in moments)
    title_px, time_px, row_px = 40, 38 if has_notes else 22, 20
    width = _MARGIN_PX + len(moments) * (cell_width_px + _MARGIN_PX)
    height = title_px + time_px + len(row_titles) * (row_px + cell_height_px) + _MARGIN_PX
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN_PX, 10), title, INK, _font(18))
    for column, moment in enumerate(moments):
        left = _MARGIN_PX + column * (cell_width_px + _MARGIN_PX)
        draw.text((left, title_px), f"{moment.time_s:.2f} s", INK, _font(14))
        if has_notes:
            draw.text((left, title_px + 18), moment.notes, FAINT, _font(12))
        for row, picture in enumerate(moment.pictures):
            top = title_px + time_px + row * (row_px + cell_height_px)
            if column == 0:
                draw.text((left, top + 2), row_titles[row], FAINT, _font(13))
            sheet.paste(_fitted(picture, cell_width_px, cell_height_px), (left, top + row_px))
    return np.asarray(sheet)


class SideBySide:
    """Composes frames of two or more pictures beside each other: titles above, a line of live text below.

    `width` and `height` are those of the composed frame, both even, as video coders want them.
    """

    _TOP_PX: Final = 30
    _BOTTOM_PX: Final = 30

    def __init__(self, titles: Sequence[str], *, picture_width: int, picture_height: int) -> None:
        self._picture_width, self._picture_height = picture_width, picture_height
        count = len(titles)
        self.width = _even(count * picture_width + (count + 1) * _MARGIN_PX)
        self.height = _even(self._TOP_PX + picture_height + self._BOTTOM_PX)
        self._lefts = [_MARGIN_PX + i * (_MARGIN_PX + picture_width) for i in range(count)]
        frame = Image.new("RGB", (self.width, self.height), BACKGROUND)
        draw = ImageDraw.Draw(frame)
        for left, title in zip(self._lefts, titles, strict=True):
            draw.text((left, 7), title, INK, _font(16))
        self._empty = np.asarray(frame)

    def compose(self, pictures: Sequence[_Picture | None], text: str) -> _Picture:
        """Return uint8 [height, width, 3]. A picture that is not there yet (None) leaves its place empty."""
        frame = self._empty.copy()
        for left, picture in zip(self._lefts, pictures, strict=True):
            if picture is not None:
                area = np.s_[
                    self._TOP_PX : self._TOP_PX + self._picture_height, left : left + self._picture_width
                ]
                frame[area] = self._scaled(picture)
        strip = _text_strip(text, self.width - 2 * _MARGIN_PX, self._BOTTOM_PX)
        bottom = self._TOP_PX + self._picture_height
        frame[bottom : bottom + self._BOTTOM_PX, _MARGIN_PX : self.width - _MARGIN_PX] = strip
        return frame

    def _scaled(self, picture: _Picture) -> _Picture:
        if picture.shape[:2] == (self._picture_height, self._picture_width):
            return picture
        return np.asarray(_fitted(picture, self._picture_width, self._picture_height))


def _fitted(picture: _Picture, width: int, height: int) -> Image.Image:
    """Scale to fit, aspect kept, centred on the background."""
    image = Image.fromarray(picture)
    scale = min(width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image.resize(size, Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BICUBIC)
    if size == (width, height):
        return image
    fitted = Image.new("RGB", (width, height), BACKGROUND)
    fitted.paste(image, ((width - size[0]) // 2, (height - size[1]) // 2))
    return fitted


@lru_cache(maxsize=8)  # the text changes a few times a second, the frame thirty times
def _text_strip(text: str, width: int, height: int) -> _Picture:
    strip = Image.new("RGB", (width, height), BACKGROUND)
    ImageDraw.Draw(strip).text((0, 7), text, INK, _font(15))
    return np.asarray(strip)


@lru_cache(maxsize=8)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def _even(number: int) -> int:
    return number + number % 2
