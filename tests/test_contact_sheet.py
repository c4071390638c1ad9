"""Sheets and side-by-side frames: the right picture in the right place."""

import numpy as np
import pytest

from mien.bench.contact_sheet import BACKGROUND, Moment, SideBySide, contact_sheet, spread

RED, GREEN, BLUE, WHITE = (200, 0, 0), (0, 200, 0), (0, 0, 200), (255, 255, 255)


def plain(colour: tuple[int, int, int], *, width: int = 40, height: int = 30) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def colours(row: np.ndarray) -> list[tuple[int, ...]]:
    """The runs of full colours along a row of pixels, background left out."""
    found: list[tuple[int, ...]] = []
    for pixel in map(tuple, row.tolist()):
        if pixel in (RED, GREEN, BLUE, WHITE) and (not found or found[-1] != pixel):
            found.append(pixel)
    return found


def test_spread() -> None:
    assert spread(4, 8) == [1, 3, 5, 7]
    assert spread(3, 2) == [0, 1]
    assert spread(1, 9) == [4]
    assert spread(5, 0) == []


def test_sheet_has_rows_and_columns_in_order() -> None:
    moments = [Moment(0.5, (plain(RED), plain(GREEN))), Moment(1.5, (plain(BLUE), plain(WHITE)), "jaw 1")]
    sheet = contact_sheet(moments, ["source", "received"], title="two", cell_height_px=60)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    middles = [row for row in range(len(sheet)) if len(colours(sheet[row])) == 2]
    assert colours(sheet[middles[0]]) == [RED, BLUE]
    assert colours(sheet[middles[-1]]) == [GREEN, WHITE]
    assert (sheet == RED).all(2).sum() == 60 * 80  # scaled, aspect kept


def test_sheet_has_text() -> None:
    pictures = (plain(BACKGROUND),)
    sheet, other = (contact_sheet([Moment(t, pictures)], ["row"], title="title") for t in (1.0, 2.0))
    assert (sheet > 200).any()
    assert sheet.shape == other.shape and (sheet != other).any()


def test_sheet_refuses_holes() -> None:
    with pytest.raises(ValueError, match="2 pictures"):
        contact_sheet([Moment(0, (plain(RED),))], ["a", "b"], title="")
    with pytest.raises(ValueError, match="moments"):
        contact_sheet([], ["a"], title="")


def test_side_by_side() -> None:
    view = SideBySide(("camera", "avatar"), picture_width=41, picture_height=33)
    assert view.width % 2 == 0 and view.height % 2 == 0
    frame = view.compose((plain(RED, width=41, height=33), plain(GREEN, width=82, height=66)), "5.2 kbps")
    assert frame.shape == (view.height, view.width, 3)
    assert colours(frame[view.height // 2]) == [RED, GREEN]
    assert (frame == RED).all(2).sum() == (frame == GREEN).all(2).sum() == 41 * 33
    assert (frame[-30:] != view.compose((None, None), "")[-30:]).any()


def test_side_by_side_waits_for_a_picture() -> None:
    view = SideBySide(("camera", "avatar"), picture_width=40, picture_height=30)
    frame = view.compose((plain(RED), None), "connecting")
    assert colours(frame[view.height // 2]) == [RED]


def test_three_side_by_side() -> None:
    view = SideBySide(("a", "b", "c"), picture_width=40, picture_height=30)
    frame = view.compose((plain(RED), plain(GREEN), plain(RED)), "")
    assert colours(frame[view.height // 2]) == [RED, GREEN, RED]
    assert (frame == RED).all(2).sum() == 2 * (frame == GREEN).all(2).sum() == 2 * 40 * 30


def test_other_shapes_are_letterboxed() -> None:
    view = SideBySide(("a", "b"), picture_width=60, picture_height=60)
    frame = view.compose((plain(RED, width=60, height=30), plain(GREEN, width=60, height=60)), "")
    assert (frame == RED).all(2).sum() == 60 * 30
