"""What a talk with a scene costs as a call sends it."""

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.bench.rate_quality import DATACHANNEL_BYTES
from mien.bench.scene_wire import Overheard, from_zero, scene_by_tick, sent_by_audio, sent_by_channel
from mien.encoder.sender import FaceSender
from mien.encoder.tracker import Tracking
from mien.protocol.scene import ScenePacker, SceneUnit
from mien.protocol.state import FaceState
from tests.call_samples import PortraitTracker
from tests.stream_samples import stream_header

TICKS = 120
STREAM = 2
UNIT_BYTES = 90
SCENE_BYTES = 5 + UNIT_BYTES  # with the message's own header
CAPSULE_BYTES = 3


class Nodding:
    """A fitter whose faces never stand still."""

    def fit(self, landmarks: NDArray[np.float32]) -> FaceState:
        pose = np.zeros(6, np.float32)
        pose[0] = landmarks[0, 0]
        return FaceState(pose, np.zeros(30, np.float32))


def sender() -> FaceSender:
    return FaceSender(stream_header(stream=STREAM, tick_rate=Fraction(30)), Nodding())


def said(start_us: int = 0) -> list[tuple[int, Tracking]]:
    return [
        (
            start_us + round(tick * 1e6 / 30),
            Tracking((np.full((478, 3), 0.2 * np.sin(tick / 5), np.float32),)),
        )
        for tick in range(TICKS)
    ]


def scene(ticks: Iterable[int], unit_bytes: int = UNIT_BYTES) -> dict[int, list[bytes]]:
    packer = ScenePacker(STREAM)
    return scene_by_tick(m for tick in ticks for m in packer.messages(SceneUnit(tick, bytes(unit_bytes))))


def test_by_the_data_channel_a_picture_and_the_face_share_a_message() -> None:
    alone = sent_by_channel(sender(), said(), {})
    assert alone.messages == 20 and alone.wire_bytes == alone.payload_bytes + 20 * DATACHANNEL_BYTES
    both = sent_by_channel(sender(), said(), scene(range(0, TICKS, 4)))
    assert both.messages == 31  # and what the face says last
    assert both.wire_bytes == both.payload_bytes + 31 * DATACHANNEL_BYTES
    faces = both.payload_bytes - 30 * (SCENE_BYTES + CAPSULE_BYTES)
    assert alone.payload_bytes < faces < 2 * alone.payload_bytes  # shorter messages, each with a head


def test_a_picture_that_is_too_large_for_one_message_takes_several() -> None:
    small = sent_by_channel(sender(), said(), scene([60]))
    large = sent_by_channel(sender(), said(), scene([60], unit_bytes=1500))
    assert large.messages == small.messages + 1


def test_in_packets_of_voice_only_their_growth_counts() -> None:
    alone = sent_by_audio(sender(), said(), {})
    assert alone.messages == pytest.approx(4 / 0.06, abs=2)
    assert 4 * alone.messages <= alone.wire_bytes - alone.payload_bytes <= 6 * alone.messages
    both = sent_by_audio(sender(), said(), scene(range(0, TICKS, 4)))
    assert abs(both.messages - alone.messages) <= 1
    more = both.wire_bytes - alone.wire_bytes
    assert 30 * (SCENE_BYTES + CAPSULE_BYTES) <= more <= 30 * (SCENE_BYTES + CAPSULE_BYTES + 2)


def test_wider_packets_of_voice_cost_the_face_less() -> None:
    assert sent_by_audio(sender(), said(), {}, voice_ms=60).wire_bytes < (
        sent_by_audio(sender(), said(), {}, voice_ms=40).wire_bytes
    )


def test_times_that_begin_late_are_counted_from_the_first() -> None:
    late = said(start_us=90_000_000)
    assert [t for t, _ in from_zero(late)][:2] == [0, 33333]
    assert sent_by_audio(sender(), late, {}) == sent_by_audio(sender(), said(), {})


def test_what_a_tracker_says_is_overheard() -> None:
    tracker = Overheard(PortraitTracker())
    picture = np.zeros((64, 64, 3), np.uint8)
    found = [tracker.track(picture, us) for us in (5, 7)]
    assert (
        tracker.said == [(5, found[0]), (7, found[1])] and tracker.tracker_id is PortraitTracker().tracker_id
    )
    tracker.close()
