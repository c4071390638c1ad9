"""The compositor: the badge is there whatever is asked, fades are exact, video never stands in."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.decoder.badge import Badge, draw_badge, letter_height, text_plate
from mien.decoder.compositor import FADE_US, Compositor, Layer

GREY = {Layer.AVATAR: 60, Layer.VIDEO: 200, Layer.STILL: 120}


def plain(level: int, width: int = 256, height: int = 256) -> NDArray[np.uint8]:
    return np.full((height, width, 3), level, np.uint8)


def pictures(*layers: Layer) -> dict[Layer, NDArray[np.uint8]]:
    return {layer: plain(GREY[layer]) for layer in layers}


@pytest.mark.parametrize("fixture", [False, True])
@pytest.mark.parametrize("size", [(256, 256), (512, 288), (128, 96)])
def test_the_badge_is_in_every_picture(fixture: bool, size: tuple[int, int]) -> None:
    everything = list(Layer)
    for count in range(4):
        for present in itertools.combinations(everything, count):
            for start, wanted, now_us in itertools.product(
                everything, everything, (0, FADE_US // 2, FADE_US)
            ):
                compositor = Compositor(*size, test_fixture=fixture, layer=start)
                compositor.show(wanted, now_us=0)
                for status in ("", "connection lost", "x" * 500):
                    out = compositor.compose(pictures(*present), now_us=now_us, status=status)
                    assert out.shape == (size[1], size[0], 3)
                    low = out[out.shape[0] // 2 :]
                    assert low.max() > 240, "white letters"
                    assert low.min() < 100, "on a dark plate"


def test_the_badge_says_what_is_seen() -> None:
    def badge(compositor: Compositor, now_us: int, *present: Layer) -> Badge:
        out = compositor.compose(pictures(*present), now_us=now_us)
        for candidate in Badge:
            expected = np.full_like(out, out[100, 100])
            draw_badge(expected, candidate)
            if np.array_equal(out, expected):
                return candidate
        raise AssertionError("no badge")

    own = Compositor(256, 256, test_fixture=False)
    assert badge(own, 0, Layer.AVATAR) is Badge.AVATAR
    own.show(Layer.VIDEO, now_us=0)
    assert badge(own, FADE_US // 2, Layer.AVATAR, Layer.VIDEO) is Badge.AVATAR  # part of it still shows
    assert badge(own, FADE_US, Layer.AVATAR, Layer.VIDEO) is Badge.VIDEO
    assert badge(own, FADE_US, Layer.AVATAR) is Badge.AVATAR  # no video has come: the avatar stands in
    fixture = Compositor(256, 256, test_fixture=True)
    fixture.show(Layer.VIDEO, now_us=0)
    assert badge(fixture, FADE_US, Layer.VIDEO) is Badge.TEST_PICTURE


def test_fades_start_at_one_picture_and_end_at_the_other() -> None:
    compositor = Compositor(256, 256, test_fixture=False)
    compositor.show(Layer.VIDEO, now_us=1_000_000)
    levels = [
        int(compositor.compose(pictures(*Layer), now_us=1_000_000 + part * FADE_US // 4)[100, 100, 0])
        for part in range(5)
    ]
    assert levels[0] == 60 and levels[4] == 200
    assert levels == sorted(levels) and levels[2] == 130


def test_video_never_stands_in_for_a_missing_layer() -> None:
    for layer in (Layer.AVATAR, Layer.STILL):
        out = Compositor(256, 256, test_fixture=False, layer=layer).compose(pictures(Layer.VIDEO), now_us=0)
        assert out[100, 100, 0] < 60


def test_the_given_picture_is_not_written_to() -> None:
    given = plain(60)
    given.flags.writeable = False
    Compositor(256, 256, test_fixture=False).compose({Layer.AVATAR: given}, now_us=0, status="hello")
    assert (given == 60).all()


def test_letters_can_be_read_at_256() -> None:
    plate = text_plate("AVATAR", letter_height(256, 256), 256)
    rows = np.flatnonzero((plate[:, :, :3].min(2) > 200).any(1))
    assert rows[-1] - rows[0] + 1 >= 7  # pixels of capital height
    assert plate[:, :, 3].max() > 245


@pytest.mark.parametrize("side", [128, 256, 512])
@pytest.mark.parametrize("behind", [0, 90, 255])
def test_the_badge_can_be_read_on_any_background_and_covers_little(side: int, behind: int) -> None:
    picture = np.full((side, side, 3), behind, np.uint8)
    draw_badge(picture, Badge.AVATAR)
    plate = text_plate("AVATAR", letter_height(side, side), side)
    height, width, _ = plate.shape
    part = picture[side - height :, :width, 0]
    letters, ground = int(part.max()), int(part[:, width // 2][0])  # above the letters
    assert contrast(letters, ground) >= 4.5
    changed = (picture != behind).any(2)
    assert not changed[: side - height].any() and not changed[:, width:].any()
    assert height * width <= 0.012 * max(side, 256) ** 2


def contrast(one: int, other: int) -> float:
    """Return the contrast ratio of two greys (WCAG 2, relative luminance of sRGB)."""

    def luminance(level: int) -> float:
        value = level / 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
