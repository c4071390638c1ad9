"""The inside of the mouth: teeth keep their size and place behind the upper lip."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.decoder.mouth import LOWER, RIM, UPPER, MouthSheet, Teeth, columns_of, see_teeth

WIDTH = 0.6


def lips(gap: float) -> NDArray[np.float64]:
    """Return inner lips [20, 3] of a mouth that is open so far in its middle; the corners meet."""
    out = np.zeros((RIM, 3))
    x = np.linspace(-WIDTH / 2, WIDTH / 2, len(LOWER))
    arch = gap * (1 - (2 * x / WIDTH) ** 2)
    out[LOWER, 0], out[UPPER, 0] = x, x
    out[LOWER, 1] = arch
    return out


def sheet(gap: float, teeth: Teeth) -> MouthSheet:
    return MouthSheet.of(lips(gap)[None], [1.0], [teeth])


def middle(laid: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return how far below the upper lip teeth end, the stretched part ends, and the sheet ends, in the middle."""
    rim, core = laid[:RIM], laid[RIM:]
    return float(core[15, 1]), float(core[5, 1]), float(rim[5, 1])


UPPER_TEETH = Teeth(end=0.5, dark_below=1.0, floor=0.8)
BOTH = Teeth(end=0.4, dark_below=1.0, floor=0.7, lower=1.0)
ONE = np.ones(1)


@pytest.mark.parametrize("teeth", [UPPER_TEETH, BOTH, Teeth()])
def test_its_own_mouth_is_shown_as_it_is(teeth: Teeth) -> None:
    laid = sheet(0.2, teeth).lay(lips(0.2), 1.0, ONE)
    assert middle(laid) == pytest.approx((teeth.end * 0.2, teeth.floor * 0.2, 0.2), abs=2e-4)
    np.testing.assert_allclose(laid[:RIM, :2], lips(0.2)[:, :2], atol=1e-3)


def test_a_mouth_that_closes_covers_what_is_below_the_teeth() -> None:
    end, _, bottom = middle(sheet(0.2, UPPER_TEETH).lay(lips(0.1), 1.0, ONE))
    assert end == pytest.approx(0.1, abs=2e-3)  # as long as before: the lower lip meets their end
    assert bottom == pytest.approx(0.2, abs=2e-3)  # under the lip
    # ... and behind it.
    laid = sheet(0.2, UPPER_TEETH).lay(lips(0.1), 1.0, ONE)
    assert (laid[1:10, 2] > 0.2).all()


def test_a_mouth_that_opens_does_not_stretch_its_teeth() -> None:
    end, floor, bottom = middle(sheet(0.2, UPPER_TEETH).lay(lips(0.4), 1.0, ONE))
    assert bottom == pytest.approx(0.4, abs=2e-3)
    assert 0.1 <= end < 0.13 and 0.34 < floor < 0.37
    even, _, _ = middle(sheet(0.2, Teeth(end=0.5)).lay(lips(0.4), 1.0, ONE))
    assert even == pytest.approx(0.2, abs=2e-3)  # nothing dark below: all is stretched alike


def test_lower_teeth_go_with_the_lower_lip() -> None:
    end, floor, bottom = middle(sheet(0.4, BOTH).lay(lips(0.32), 1.0, ONE))
    assert (end, bottom) == pytest.approx((0.16, 0.32), abs=3e-3)
    assert bottom - floor == pytest.approx(0.12, abs=2e-3)


def test_size_and_direction_follow_the_head() -> None:
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    upright = sheet(0.2, UPPER_TEETH).lay(lips(0.1), 1.0, ONE)
    turned = sheet(0.2, UPPER_TEETH).lay(2 * lips(0.1) @ turn.T, 2.0, ONE)
    np.testing.assert_allclose(turned, 2 * upright @ turn.T, atol=1e-9)


def test_lips_that_meet_and_lips_that_cross_give_finite_places() -> None:
    for gap in (0.0, -0.05):
        laid = sheet(0.2, UPPER_TEETH).lay(lips(gap), 1.0, ONE)
        assert np.isfinite(laid).all() and np.abs(laid).max() < 1
    assert (columns_of(lips(-0.05), 1.0)[1] == 0).all()
    assert np.isfinite(sheet(0.0, Teeth()).lay(np.zeros((RIM, 3)), 1.0, ONE)).all()


def picture(rows: dict[range, int]) -> NDArray[np.uint8]:
    """Return a grey mouth [100, 200, 3] whose rows between the lips, 20 to 80, are so bright."""
    out = np.full((100, 200, 3), 120, np.uint8)
    for where, bright in rows.items():
        out[where.start : where.stop] = bright
    return out


def in_pixels() -> NDArray[np.float64]:
    out = lips(1.0)[:, :2] * [250, 60] + [100, 20]
    out[LOWER, 1], out[UPPER, 1] = 80, 20
    return np.asarray(out, np.float64)


def test_teeth_are_found_where_something_dark_follows() -> None:
    found = see_teeth(picture({range(20, 44): 220, range(44, 80): 30}), in_pixels())
    assert found.end == pytest.approx(0.4, abs=0.05) and found.dark_below == 1 and found.lower == 0
    found = see_teeth(picture({range(20, 44): 220, range(44, 68): 30, range(68, 80): 210}), in_pixels())
    assert found.end == pytest.approx(0.4, abs=0.05) and found.lower == 1
    assert found.floor == pytest.approx(0.8, abs=0.05)


def test_without_a_contrast_nothing_is_taken_for_the_end_of_teeth() -> None:
    assert see_teeth(picture({range(20, 80): 200}), in_pixels()).dark_below == 0
    assert see_teeth(picture({range(20, 80): 30}), in_pixels()).dark_below == 0
    shut = in_pixels()
    shut[:, 1] = 50
    assert see_teeth(picture({}), shut) == Teeth()
    outside = in_pixels() + 1e4
    assert see_teeth(picture({}), outside).dark_below == 0
