"""The living portrait: always the same pixels, moves where it should, and a tracker finds what was scripted."""

import time
from dataclasses import fields, replace
from fractions import Fraction

import numpy as np
import pytest

from mien.encoder.synthetic_source import LivingPortrait, Motion, SyntheticSource, motion_at
from mien.encoder.tracker import Tracker
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.errors import MienError

SIZE = 256


@pytest.fixture(scope="module")
def portrait() -> LivingPortrait:
    return LivingPortrait(SIZE)


def changed(portrait: LivingPortrait, motion: Motion) -> np.ndarray:
    """Where the picture differs visibly from the still: bool [SIZE, SIZE]."""
    difference = portrait.picture(motion).astype(int) - portrait.picture(Motion()).astype(int)
    mask: np.ndarray = np.abs(difference).max(2) > 12
    return mask


def test_no_motion_is_the_portrait(portrait: LivingPortrait) -> None:
    difference = portrait.picture(Motion()).astype(int) - portrait.still
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("motion", "rows"),
    [  # of the crop's 256: brows at 80-90, eyes at 95-105, mouth at 138-150, chin at 178
        (Motion(blink=1), (80, 112)),
        (Motion(gaze_x=1), (92, 112)),
        (Motion(brow=1), (60, 104)),
        (Motion(jaw=1), (130, 225)),
        (Motion(jaw=-1), (125, 190)),
        (Motion(mouth_width=1), (110, 180)),
    ],
)
def test_each_motion_changes_its_own_part(
    portrait: LivingPortrait, motion: Motion, rows: tuple[int, int]
) -> None:
    found = np.nonzero(changed(portrait, motion).any(1))[0]
    assert len(found) > 3
    assert rows[0] <= found.min() and found.max() < rows[1]


def test_the_border_of_shoulders_stays(portrait: LivingPortrait) -> None:
    mask = changed(portrait, Motion(yaw_deg=8, pitch_deg=4, roll_deg=4, shift_x=0.1, shift_y=0.1, jaw=1))
    assert mask.sum() > SIZE * SIZE / 20
    assert (
        not mask[-SIZE // 16 :].any() and not mask[:, : SIZE // 32].any() and not mask[:, -SIZE // 32 :].any()
    )


def test_nothing_tears(portrait: LivingPortrait) -> None:
    """A still's steepest step between neighbours is 200 or so; a tear would add many such steps."""

    def steep(motion: Motion) -> int:
        return int((np.abs(np.diff(portrait.picture(motion).astype(int), axis=0)).max(2) > 60).sum())

    still = steep(Motion())
    extreme = steep(Motion(yaw_deg=9, pitch_deg=5, roll_deg=4, shift_x=0.1, brow=1, blink=1))
    assert extreme < 1.25 * still + 20


def test_script_is_a_function_of_time_within_its_ranges() -> None:
    for time_s in np.arange(0, 60, 0.05):
        motion = motion_at(float(time_s))
        assert motion == motion_at(float(time_s))
        assert abs(motion.yaw_deg) < 9 and abs(motion.pitch_deg) < 5 and abs(motion.roll_deg) < 4
        for name in ("jaw", "mouth_width", "gaze_x", "gaze_y"):
            assert -1 <= getattr(motion, name) <= 1
        assert 0 <= motion.blink <= 1 and 0 <= motion.brow <= 1.4
    shown = {
        f.name: [getattr(motion_at(float(t)), f.name) for t in np.arange(0, 10, 1 / 30)]
        for f in fields(Motion)
    }
    assert all(np.ptp(values) > 0.05 for values in shown.values())  # every part moves within ten seconds
    assert max(shown["blink"]) == 1 and max(shown["jaw"]) > 0.6 and min(shown["jaw"]) < -0.3


def test_source_is_deterministic() -> None:
    first, again = (list(SyntheticSource(0.2, start_s=1.3, size_px=128)) for _ in range(2))
    assert [f.index for f in first] == list(range(6))
    assert [f.timestamp_us for f in first] == [0, 33333, 66667, 100000, 133333, 166667]
    for one, two in zip(first, again, strict=True):
        assert one.rgb.dtype == np.uint8 and one.rgb.shape == (128, 128, 3)
        assert np.array_equal(one.rgb, two.rgb)
    assert not np.array_equal(first[0].rgb, first[-1].rgb)


def test_source_says_what_it_is() -> None:
    source = SyntheticSource(2, rate=Fraction(25), size_px=128)
    assert (source.name, source.live, source.rate) == ("synthetic source", False, Fraction(25))
    assert (source.width, source.height, source.frame_count) == (128, 128, 50)


def test_live_frames_come_at_their_time_and_are_not_kept() -> None:
    source = SyntheticSource(0.6, rate=Fraction(20), size_px=128, live=True)
    begin_s = time.monotonic()
    frames, delays_s = [], []
    for frame in source:
        frames.append(frame)
        delays_s.append(time.monotonic() - begin_s - frame.timestamp_us / 1e6)
        if len(frames) == 3:
            time.sleep(0.22)  # four frames' time
    assert min(delays_s) > 0
    assert source.missed >= 3 and len(frames) + source.missed == source.frame_count == 12
    assert [f.index for f in frames] == list(range(len(frames)))
    assert frames[3].timestamp_us - frames[2].timestamp_us >= 200_000
    still = list(SyntheticSource(0.6, rate=Fraction(20), size_px=128))
    assert np.array_equal(frames[3].rgb, still[frames[3].timestamp_us // 50_000].rgb)


def test_closing_ends_a_running_iteration() -> None:
    source = SyntheticSource(60, size_px=128, live=True)
    begin_s = time.monotonic()
    for frame in source:
        if frame.index == 2:
            source.close()
    assert time.monotonic() - begin_s < 10


def test_size_is_bounded() -> None:
    for size_px in (64, 258, 2048):
        with pytest.raises(ValueError, match=f"size_px is {size_px}"):
            LivingPortrait(size_px)


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    try:
        return open_tracker(still=True)
    except MienError as error:
        pytest.skip(f"no face tracker: {error}")


def test_a_tracker_finds_what_was_scripted(tracker: Tracker) -> None:
    """The landmarks come from the pixels alone."""
    portrait = LivingPortrait(384)
    base = Motion()

    def landmarks(motion: Motion, step: int) -> np.ndarray:
        tracking = tracker.track(portrait.picture(motion), 33_000 * step)
        assert len(tracking.faces) == 1
        return tracking.faces[0]

    def distance(points: np.ndarray, one: int, two: int) -> float:
        return float(np.linalg.norm(points[one, :2] - points[two, :2]))

    rest, opened, closed, blinked, turned = (
        landmarks(replace(base, **change), step)
        for step, change in enumerate(({}, {"jaw": 1.0}, {"jaw": -1.0}, {"blink": 1.0}, {"yaw_deg": 8.0}), 1)
    )
    unit = distance(rest, 468, 473)
    # FaceMesh sees .17 of an opening of which FaceLandmarker sees .26.
    assert 0.12 < (distance(opened, 13, 14) - distance(rest, 13, 14)) / unit < 0.45
    assert distance(closed, 13, 14) < 0.6 * distance(rest, 13, 14)
    assert distance(blinked, 159, 145) < 0.6 * distance(rest, 159, 145)
    nose_moves = (turned[1, 0] - turned[[33, 263], 0].mean()) - (rest[1, 0] - rest[[33, 263], 0].mean())
    assert nose_moves / unit > 0.03  # the nose leads when the head turns: it has depth
