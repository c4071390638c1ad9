"""A whole log in memory: which state belongs to which frame of the source."""

import io
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from mien.decoder.recording import MAX_PAUSE_TICKS, Recording, Segment, Track, read_recording
from mien.protocol.codec import Batch, MessageEncoder
from mien.protocol.errors import WireError
from mien.protocol.log import EventKind, LogReader, LogWriter, Origin, SourceFrame
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader
from tests.log_samples import open_memory_log
from tests.stream_samples import stream_header

STREAM = stream_header(tick_rate=Fraction(25))


def state(value: float, *, tracked: bool = True) -> FaceState:
    pose = np.zeros(6, np.float32)
    pose[0] = value
    return FaceState(pose, np.zeros(30, np.float32), tracked)


def track(*batches: tuple[int, list[FaceState]]) -> Track:
    out = Track()
    for first, states in batches:
        out.add(Batch(first, tuple(states)))
    return out


def pose_at(t: Track, position: Fraction | float) -> float:
    return float(t.state_at(Fraction(position)).pose[0])


def test_ticks_are_exact_and_between_them_is_the_straight_line() -> None:
    t = track((3, [state(0.3), state(0.5)]), (0, [state(0.0), state(0.1), state(0.2)]))
    assert [pose_at(t, n) for n in range(5)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.5])
    assert pose_at(t, 3.25) == pytest.approx(0.35)
    assert (pose_at(t, -4), pose_at(t, 99)) == pytest.approx((0, 0.5))


def test_what_came_first_stays() -> None:
    t = track((0, [state(0.1)]), (0, [state(0.9), state(0.2)]))
    assert (pose_at(t, 0), pose_at(t, 1)) == pytest.approx((0.1, 0.2))
    assert len(t) == 2


def test_untracked_ticks_hold_the_last_face_whatever_they_say() -> None:
    lost = state(0.0, tracked=False)
    t = track((0, [lost, state(0.4), lost, lost]), (4, [lost, state(0.8)]))
    assert [pose_at(t, n) for n in range(6)] == pytest.approx([0, 0.4, 0.4, 0.4, 0.4, 0.8])
    assert pose_at(t, 1.5) == pytest.approx(0.4)
    assert pose_at(t, 4.5) == pytest.approx(0.4)
    assert [t.state_at(n).tracked for n in range(6)] == [False, True, False, False, False, True]
    assert t.untracked == 4


def test_short_gaps_are_bridged_and_long_ones_held() -> None:
    t = track((0, [state(0.0)]), (10, [state(1.0)]), (100, [state(2.0)]))
    assert pose_at(t, 5) == pytest.approx(0.5)
    assert pose_at(t, 99) == pytest.approx(1.0)


def test_an_empty_track_has_no_state() -> None:
    with pytest.raises(ValueError, match="empty"):
        Track().state_at(0)


def test_frame_i_is_frame_i_also_where_times_jitter() -> None:
    """A coded frame is at its tick whatever its time; one that was not lies between its neighbours."""
    frames = [SourceFrame(1000, 0), SourceFrame(24_000, None), SourceFrame(48_000, 1), SourceFrame(75_000, 2)]
    segment = Segment(STREAM, frames=frames)
    assert segment.source_frames() == [
        (0, Fraction(0)),
        (23_000, Fraction(23_000, 47_000)),
        (47_000, Fraction(1)),
        (74_000, Fraction(2)),
    ]


def test_resampling_follows_the_times() -> None:
    segment = Segment(STREAM, frames=[SourceFrame(40_000 * n, n) for n in range(50)])
    due = segment.resampled(Fraction(50))
    assert len(due) == 100
    assert due[3] == (60_000, Fraction(3, 2))
    assert due[-1] == (1_980_000, Fraction(99, 2))
    with pytest.raises(WireError, match="spread over"):
        Segment(STREAM, frames=[SourceFrame(0, 0), SourceFrame(1 << 50, 1)]).resampled(Fraction(30))


def test_without_source_times_ticks_are_frames_and_pauses_are_cut() -> None:
    segment = Segment(STREAM, track=track((5, [state(0), state(1)]), (8, [state(2)]), (100_000, [state(3)])))
    frames = segment.source_frames()
    assert [p for _, p in frames[:4]] == [5, 6, 7, 8]
    assert len(frames) == 3 + MAX_PAUSE_TICKS + 1
    assert frames[-1] == ((len(frames) - 1) * 40_000, Fraction(100_000))
    assert Segment(STREAM).source_frames() == []
    assert Segment(STREAM).resampled(Fraction(30)) == []


def make_log() -> tuple[io.BytesIO, LogWriter]:
    return open_memory_log(STREAM, origin=Origin.SOURCE, source_rate=Fraction(25))


def message(stream: StreamHeader, first: int, values: list[float]) -> bytes:
    encoder = MessageEncoder(stream, frames_per_message=16)
    for tick, value in enumerate(values, first):
        encoder.push(tick, state(value))
    data = encoder.flush()
    assert data is not None
    return data


def read(file: io.BytesIO) -> Recording:
    return read_recording(LogReader(io.BytesIO(file.getvalue())))


def test_a_log_is_read_with_its_streams() -> None:
    file, log = make_log()
    second = replace(STREAM, stream=1, width=512)
    log.frames([SourceFrame(0, 0), SourceFrame(40_000, 1)])
    log.message(message(STREAM, 0, [0.1, 0.2]), time_us=40_000)
    log.message(b"noise", time_us=41_000)
    log.event(EventKind.STREAM, b"too short", time_us=41_500)
    log.event(EventKind.STREAM, second.serialize(), time_us=42_000)
    log.message(message(second, 0, [0.7]), time_us=43_000)
    log.event(EventKind.END, time_us=43_000)
    recording = read(file)
    assert [s.stream for s in recording.segments] == [STREAM, second]
    assert [(s.messages, s.bad_messages, len(s.track)) for s in recording.segments] == [(2, 1, 2), (1, 0, 1)]
    assert pose_at(recording.segments[0].track, 1) == pytest.approx(0.2, abs=0.004)
    assert pose_at(recording.segments[1].track, 0) == pytest.approx(0.7, abs=0.004)
    assert recording.ended and recording.damage is None


def test_a_log_says_which_carrier_brought_what() -> None:
    file, log = make_log()
    log.message(b"before", time_us=0)
    for time_us, carrier in ((1, 1), (2, 0), (3, 1), (4, 77)):
        log.event(EventKind.CARRIER, bytes([carrier]), time_us=time_us)
        log.message(b"x" * time_us, time_us=time_us)
        log.message(b"yy", time_us=time_us)
    log.event(EventKind.CARRIER, b"", time_us=5)  # says nothing
    log.event(EventKind.CARRIER, b"\0\1", time_us=5)
    log.message(b"z", time_us=5)
    carriers = read(file).carriers
    assert {c: (use.messages, use.message_bytes) for c, use in carriers.items()} == {
        0: (2, 4),
        1: (4, 8),
        77: (3, 7),
    }


def test_frames_that_go_back_are_not_believed() -> None:
    file, log = make_log()
    log.frames([SourceFrame(80_000, 2), SourceFrame(120_000, 3)])
    log.frames(
        [SourceFrame(80_000, 4), SourceFrame(160_000, 3), SourceFrame(200_000, None), SourceFrame(240_000, 4)]
    )
    assert [(f.time_us, f.tick) for f in read(file).segments[0].frames] == [
        (80_000, 2),
        (120_000, 3),
        (200_000, None),
        (240_000, 4),
    ]


def test_other_tables_are_named_and_counted() -> None:
    file, log = make_log()
    log.event(EventKind.STREAM, replace(STREAM, tables_id=bytes(8)).serialize(), time_us=0)
    log.message(b"unreadable", time_us=1)
    segment = read(file).segments[1]
    assert segment.problem is not None and "update" in segment.problem
    assert (segment.messages, segment.message_bytes, segment.bad_messages) == (1, 10, 0)
