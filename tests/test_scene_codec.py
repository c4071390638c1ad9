"""The scene's pictures: made private, coded, lost, decoded; and bytes that are no pictures."""

from dataclasses import replace
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.decoder.scene_decoder import MAX_FAILURES, SceneDecoder, ScenePicture
from mien.encoder.scene_encoder import SceneEncoder, scene_size
from mien.encoder.scene_privacy import BACKDROP, Background, ScenePrivacy, oval_mask, private_picture
from mien.protocol.errors import MienError
from mien.protocol.scene import ScenePacker, SceneUnit
from tests.picture_fixtures import smooth_picture
from tests.scene_samples import SIDE, TICK_RATE, moving_frame

OPEN = ScenePrivacy(show_face=True)


def encoder(kbps: float = 12, privacy: ScenePrivacy = OPEN, tick_rate: Fraction = TICK_RATE) -> SceneEncoder:
    return SceneEncoder(width=SIDE, height=SIDE, tick_rate=tick_rate, kbps=kbps, privacy=privacy)


def units(ticks: int, coder: SceneEncoder, refresh_at: int | None = None) -> list[SceneUnit]:
    out = []
    for tick in range(ticks):
        if tick == refresh_at:
            coder.refresh()
        unit = coder.encode(tick, *moving_frame(tick))
        out += [] if unit is None else [unit]
    coder.close()
    return out


def decoded(units: list[SceneUnit], decoder: SceneDecoder) -> list[ScenePicture]:
    packer = ScenePacker(0)
    messages = [m for unit in units for m in packer.messages(unit)]
    return [picture for m in messages for picture in decoder.decode(m)]


def error_db(picture: ScenePicture) -> float:
    original = moving_frame(picture.tick)[0]
    return float(-10 * np.log10(((picture.rgb.astype(float) - original) ** 2).mean() / 255**2))


def test_every_fourth_tick_becomes_a_picture_at_once_and_at_the_rate() -> None:
    made = units(200, encoder(kbps=6))
    assert [u.tick for u in made] == list(range(0, 200, 4))
    assert [u.refresh for u in made] == [True] + [False] * 49
    later = made[10:]
    kbps = sum(len(u.data) for u in later) * 8 / (len(later) / 7.5) / 1000
    assert 4 <= kbps <= 8
    pictures = decoded(made, SceneDecoder(0))
    assert [p.tick for p in pictures] == [u.tick for u in made]  # each at once, none held back
    assert np.mean([error_db(p) for p in pictures[10:]]) > 18


def test_ticks_that_are_missing_do_not_shift_the_others() -> None:
    coder = encoder()
    frames = {tick: moving_frame(tick) for tick in (0, 1, 5, 8, 12, 40, 44)}
    made = [tick for tick, frame in frames.items() if coder.encode(tick, *frame) is not None]
    coder.close()
    assert made == [0, 5, 8, 12, 40, 44]


@pytest.mark.parametrize(
    ("width", "height", "size"), [(512, 512, (128, 128)), (1280, 720, (168, 96)), (270, 480, (96, 168))]
)
def test_sizes_keep_the_shape(width: int, height: int, size: tuple[int, int]) -> None:
    assert scene_size(width, height) == size


@pytest.mark.parametrize("kbps", [2.9, 21, float("nan")])
def test_rates_that_no_scene_has(kbps: float) -> None:
    with pytest.raises(MienError, match="expected 3 to 20"):
        encoder(kbps=kbps)


def test_a_loss_is_healed_by_a_refresh() -> None:
    made = units(90, encoder(), refresh_at=60)
    assert [u.tick for u in made if u.refresh] == [0, 60]
    decoder = SceneDecoder(0)
    packer = ScenePacker(0)
    shown, wanted = [], []
    for number, unit in enumerate(made):
        for message in packer.messages(unit):
            if number == 5:
                continue
            shown += [p.tick for p in decoder.decode(message)]
        wanted.append(decoder.wants_refresh)
    assert shown == [0, 4, 8, 12, 16, *range(60, 90, 4)]
    assert wanted.index(True) == 7 and not any(wanted[15:])
    assert decoder.lost == 1 and decoder.failures == 0


# --- Privacy ------------------------------------------------------------------------------------------------


def test_the_face_is_left_out_unless_shown() -> None:
    rgb, points = moving_frame(0)
    private = private_picture(rgb, points, ScenePrivacy())
    assert private is not None
    mask = oval_mask(points, SIDE, SIDE)
    inside, outside = mask == 255, mask == 0
    assert (private[outside] == rgb[outside]).all()
    # What is left is a plane: its second differences are no more than rounding.
    bend = np.abs(np.diff(private.astype(int), n=2, axis=1))[inside[:, 1:-1] & inside[:, 2:] & inside[:, :-2]]
    assert bend.max() <= 2
    assert np.abs(np.diff(rgb.astype(int), n=2, axis=1)).max() > 100
    assert np.abs(private[inside].mean(0) - rgb[inside].mean(0)).max() < 1
    shown = private_picture(rgb, points, OPEN)
    assert shown is not None and (shown == rgb).all()


def test_no_face_found_no_picture() -> None:
    rgb, points = moving_frame(0)
    assert private_picture(rgb, None, ScenePrivacy()) is None
    assert private_picture(rgb, None, replace(OPEN, background=Background.BLUR)) is None
    assert private_picture(rgb, None, OPEN) is not None
    coder = encoder(privacy=ScenePrivacy())
    assert coder.encode(0, rgb, None) is None and coder.withheld == 1
    unit = coder.encode(1, rgb, points)
    coder.close()
    assert unit is not None and not unit.face and unit.refresh


@pytest.mark.parametrize("x", [-4000.0, 1e6])
def test_a_face_beyond_the_picture_hides_nothing_and_breaks_nothing(x: float) -> None:
    rgb, points = moving_frame(0)
    private = private_picture(rgb, points + np.array([x, 0, 0], np.float32), ScenePrivacy())
    assert private is not None and private.shape == rgb.shape


def test_backgrounds_and_circle() -> None:
    rgb, points = smooth_picture(7, SIDE), moving_frame(0)[1]
    corner = (slice(0, 6), slice(0, 6))
    hidden = private_picture(rgb, points, ScenePrivacy(show_face=True, background=Background.HIDE))
    blurred = private_picture(rgb, points, ScenePrivacy(show_face=True, background=Background.BLUR))
    circle = private_picture(rgb, points, ScenePrivacy(show_face=True, circle=True))
    assert hidden is not None and blurred is not None and circle is not None
    assert (hidden[corner] == BACKDROP).all() and (circle[corner] == BACKDROP).all()
    assert not (blurred[corner] == rgb[corner]).all()
    nose = tuple(np.rint(points[1, 1::-1]).astype(int))
    for picture in (hidden, blurred, circle):
        assert np.abs(picture[nose].astype(int) - rgb[nose]).max() <= 1


# --- Hostile bytes ------------------------------------------------------------------------------------------


def spoiled(data: bytes, random: Random) -> bytes:
    out = bytearray(data)
    for _ in range(random.randint(1, 6)):
        out[random.randrange(len(out))] = random.randrange(256)
    return bytes(out[: random.randint(1, len(out))] if random.random() < 0.3 else out)


def test_spoiled_units_are_dropped_and_the_next_refresh_shows_again() -> None:
    random = Random(5)
    made = units(30, encoder())
    decoder = SceneDecoder(0)
    packer = ScenePacker(0)
    for _ in range(MAX_FAILURES // 4):
        for unit in (made[0], *(replace(u, data=spoiled(u.data, random)) for u in made[1:4])):
            for message in packer.messages(unit):
                for picture in decoder.decode(message):
                    assert picture.rgb.shape[0] <= 256 and picture.rgb.shape[1] <= 256
    assert 0 < decoder.failures < MAX_FAILURES
    pictures = [p for m in packer.messages(made[0]) for p in decoder.decode(m)]
    assert len(pictures) == 1


def large_picture(width: int, height: int) -> bytes:
    """Return a unit that SVT-AV1 made of a picture larger than scenes are."""
    import av

    codec = av.CodecContext.create("libsvtav1", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base = Fraction(1, 10)
    codec.options = {"preset": "10", "svtav1-params": "rc=0:pred-struct=1"}
    frame = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24").reformat(
        format="yuv420p"
    )
    frame.pts = 0
    return b"".join(bytes(p) for f in (frame, None) for p in codec.encode(f))


@pytest.mark.parametrize(("width", "height"), [(512, 64), (1024, 1024)])
def test_pictures_that_are_too_large_are_not_decoded(width: int, height: int) -> None:
    decoder = SceneDecoder(0)
    unit = SceneUnit(0, large_picture(width, height).removeprefix(b"\x12\x00"), refresh=True)
    assert decoded([unit], decoder) == []
    assert decoder.failures == 1 and decoder.wants_refresh


def test_noise_is_dropped_and_after_so_many_failures_nothing_is_tried() -> None:
    random = Random(6)
    decoder = SceneDecoder(0)
    noise = [SceneUnit(n, random.randbytes(60), refresh=True) for n in range(MAX_FAILURES + 20)]
    assert decoded(noise, decoder) == []
    assert decoder.failures == MAX_FAILURES


def test_pictures_hold_no_more_than_they_say(capfd: pytest.CaptureFixture[str]) -> None:
    made: NDArray[np.uint8] = decoded(units(4, encoder()), SceneDecoder(0))[0].rgb
    assert made.shape == (SIDE, SIDE, 3) and made.dtype == np.uint8
    assert capfd.readouterr() == ("", "")  # the codecs tell their settings to nobody
