"""From source frames to ticks and messages."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.encoder.sender import MAX_FILL_TICKS, FaceSender
from mien.encoder.tick_clock import TickClock, tick_rate_for
from mien.encoder.tracker import Tracking
from mien.protocol.codec import MessageDecoder
from mien.protocol.repeats import Repeats
from mien.protocol.state import FaceState
from tests.stream_samples import stream_header


class FirstLandmarkFitter:
    """The pose's first number is the first landmark's x; no fitting at all."""

    def fit(self, landmarks: NDArray[np.float32]) -> FaceState:
        if not np.isfinite(landmarks).all():
            raise ValueError("not finite")
        pose = np.zeros(6, np.float32)
        pose[2] = landmarks[0, 0]
        return FaceState(pose, np.zeros(30, np.float32))


def seen(value: float) -> Tracking:
    return Tracking((np.full((478, 3), value, np.float32),))


NOBODY = Tracking(())
TWO = Tracking((np.zeros((478, 3), np.float32), np.zeros((478, 3), np.float32)))


def make_sender(rate: Fraction = Fraction(30), *, source_rate: Fraction | None = None) -> FaceSender:
    return FaceSender(stream_header(stream=2, tick_rate=rate), FirstLandmarkFitter(), source_rate=source_rate)


def states_of(messages: list[bytes], rate: Fraction = Fraction(30)) -> dict[int, FaceState]:
    decoder = MessageDecoder(stream_header(stream=2, tick_rate=rate))
    batches = [decoder.decode(m) for m in messages]
    return {b.first_tick + i: s for b in batches for i, s in enumerate(b.states)}


@pytest.mark.parametrize(
    ("source", "ticks"),
    [
        ("30", "30"),
        ("25", "25"),
        ("24000/1001", "24000/1001"),
        ("15", "15"),
        ("1/2", "1"),
        ("60", "30"),
        ("60000/1001", "30000/1001"),
        ("50", "25"),
        ("48", "24"),
        ("100", "25"),
        ("120", "30"),
        ("240", "30"),
        ("3002/100", "30"),
        ("6004/100", "30"),
        ("35", "30"),
        ("40", "20"),
    ],
)
def test_tick_rates(source: str, ticks: str) -> None:
    assert tick_rate_for(Fraction(source)) == Fraction(ticks)


def test_no_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="expected more than 0"):
        tick_rate_for(Fraction(0))


@pytest.mark.parametrize(
    "rate", [Fraction(15), Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(30)]
)
def test_frame_i_is_tick_i(rate: Fraction) -> None:
    clock = TickClock(rate, source_rate=rate)
    assert [clock.tick_of(1_000_003 + int(i / rate * 1_000_000)) for i in range(3000)] == list(range(3000))


def test_every_second_frame_of_60_has_a_tick_also_with_jitter() -> None:
    jitter = np.random.default_rng(1).integers(-3000, 3000, 600)
    clock = TickClock(Fraction(30), source_rate=Fraction(60))
    ticks = [clock.tick_of(int(i * 1_000_000 / 60) + int(jitter[i]) * (i > 0)) for i in range(600)]
    assert [i for i, tick in enumerate(ticks) if tick is not None] == list(range(0, 600, 2))
    assert ticks[::2] == list(range(300))


def test_a_jittering_camera_loses_no_frame_at_any_phase() -> None:
    """30.3 frames a second by its own account 30, jitter of 8 ms: at most the surplus frames go."""
    jitter = np.random.default_rng(2).integers(-8000, 8000, 3000)
    clock = TickClock(Fraction(30))
    times = [int(i * 1_000_000 / 30.3) + int(jitter[i]) for i in range(3000)]
    ticks = [clock.tick_of(t) for t in times]
    used = [t for t in ticks if t is not None]
    assert 3000 - len(used) <= 34  # 3000 frames are 2970 ticks
    assert max(np.diff(used)) <= 2
    assert np.count_nonzero(np.diff(used) == 2) <= 2
    error = [
        abs((time - times[0]) * 30e-6 - tick)
        for time, tick in zip(times, ticks, strict=True)
        if tick is not None
    ]
    assert max(error) <= 1.2


def test_messages_carry_the_states_of_their_ticks() -> None:
    sender = make_sender()
    messages = [m for i in range(20) for m in sender.on_tracking(500_000 + round(i * 1e6 / 30), seen(i / 50))]
    assert len(messages) == 3
    messages += sender.finish()
    assert sender.finish() == []
    states = states_of(messages)
    assert list(states) == list(range(20))
    for tick, state in states.items():
        assert state.tracked and state.pose[2] == pytest.approx(tick / 50, abs=0.004)
    assert sender.counts.tracked == sender.counts.frames == 20
    assert sender.frame_tick == 19


def test_no_face_and_several_faces_are_not_tracked() -> None:
    sender = make_sender()
    faces = [NOBODY, seen(0.5), TWO, NOBODY, seen(0.7), seen(np.nan)]
    states = states_of([m for i, f in enumerate(faces) for m in sender.on_tracking(round(i * 1e6 / 30), f)])
    assert [s.tracked for s in states.values()] == [False, True, False, False, True, False]
    assert [round(float(s.pose[2]), 1) for s in states.values()] == [0, 0.5, 0.5, 0.5, 0.7, 0.7]
    counts = sender.counts
    assert (counts.without_face, counts.several_faces, counts.unfit, counts.tracked) == (2, 1, 1, 2)


def test_a_short_gap_is_filled_on_the_straight_line() -> None:
    sender = make_sender()
    messages = sender.on_tracking(0, seen(0)) + sender.on_tracking(133_333, seen(0.8)) + sender.finish()
    states = states_of(messages)
    assert list(states) == [0, 1, 2, 3, 4]
    assert [float(s.pose[2]) for s in states.values()] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=0.004)
    assert sender.counts.filled_ticks == 3


def test_a_gap_beside_an_untracked_frame_is_held() -> None:
    sender = make_sender()
    messages = sender.on_tracking(0, seen(0.5)) + sender.on_tracking(100_000, NOBODY) + sender.finish()
    states = states_of(messages)
    assert [s.tracked for s in states.values()] == [True, True, True, False]
    assert [float(s.pose[2]) for s in states.values()] == pytest.approx([0.5] * 4, abs=0.004)


def test_a_long_gap_ends_the_message_and_goes_on_later() -> None:
    sender = make_sender()
    later = MAX_FILL_TICKS + 2
    messages = sender.on_tracking(0, seen(0.1)) + sender.on_tracking(round(later * 1e6 / 30), seen(0.2))
    assert len(messages) == 1
    assert list(states_of(messages + sender.finish())) == [0, later]


def test_surplus_frames_have_no_tick() -> None:
    sender = make_sender(source_rate=Fraction(60))
    ticks = []
    for i in range(12):
        sender.on_tracking(round(i * 1e6 / 60), seen(0))
        ticks.append(sender.frame_tick)
    assert ticks == [0, None, 1, None, 2, None, 3, None, 4, None, 5, None]
    assert sender.counts.surplus == 6


def test_a_message_lasts_a_fifth_of_a_second() -> None:
    for rate, frames in ((Fraction(30), 6), (Fraction(25), 5), (Fraction(15), 3)):
        sender = make_sender(rate)
        sizes = [len(sender.on_tracking(round(i * 1e6 / rate), seen(0))) for i in range(frames)]
        assert sizes == [0] * (frames - 1) + [1]


def test_repeats_follow_from_copies_and_the_length_of_messages() -> None:
    for frames, copies, stride, expected, apart in (
        (6, 1, 2, Repeats(3), 1),
        (2, 2, 2, Repeats(2), 1),
        (1, 2, 2, Repeats(2), 2),
        (2, 3, 4, Repeats(3, 4), 4),
        (1, 3, 4, Repeats(3, 4), 4),
    ):
        sender = make_sender()
        sender.set_repeats(copies, span=frames, stride=stride)
        assert (sender._encoder.repeats, sender._encoder.repeats_apart) == (expected, apart)
    for rate, frames, stride in ((Fraction(30), 3, 3), (Fraction(25), 2, 2)):
        sender = make_sender(rate)
        sender.set_frames_per_message(frames)
        sender.set_repeats(1, 1, stride=3)
        assert sender._encoder.repeats == Repeats(1, stride, 1)
    sender = make_sender()
    sender.set_repeats(1, 1, span=1, stride=2)
    assert (sender._encoder.repeats, sender._encoder.repeats_apart) == (Repeats(1, 2, 1), 2)
