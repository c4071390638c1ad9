"""The log of a released version is read for ever."""

from fractions import Fraction

import numpy as np
import pytest

from mien.decoder.recording import read_recording
from mien.protocol.log import EventKind, EventRecord, RenderRecord, open_log
from mien.protocol.quantizer import STEPS, Quality
from tests.log_samples import AVATAR_ID
from tests.make_log_vector import VECTOR, synthetic_state


def test_header_and_records() -> None:
    with open_log(str(VECTOR)) as reader:
        header = reader.header
        index = reader.index()
        events = [r for r in reader.records() if isinstance(r, EventRecord)]
        renders = [r for r in reader.records() if isinstance(r, RenderRecord)]
    assert header.avatar_id == AVATAR_ID and header.owner == bytes(range(32, 64))
    assert (header.source_rate, header.width, header.height, header.writer) == (
        Fraction(50),
        320,
        240,
        "0.1.0",
    )
    assert (header.stream.tick_rate, header.stream.rest_pose) == (Fraction(25), (100, -50, 0, 7, -300, 20))
    assert (index.messages, index.frames, index.renders, index.events) == (6, 60, 6, 3)
    assert index.ended and index.damage is None
    assert [e.event for e in events] == [EventKind.SETTINGS, EventKind.STREAM, EventKind.END]
    assert renders[1].time_us == 380_000 and renders[1].state_crc == 0xC0FFEE09


@pytest.mark.parametrize("number", [0, 1])
def test_states(number: int) -> None:
    with open_log(str(VECTOR)) as reader:
        segment = read_recording(reader).segments[number]
    frames = segment.source_frames()
    assert len(frames) == 30
    assert frames[2][0] - frames[0][0] == 40_000
    first = 15 * number
    tolerance = 2.5 * STEPS[Quality(number + 1)] / 10_000  # what is not worth its bits is left out
    for tick in range(first, first + 15):
        state, wanted = segment.track.state_at(tick), synthetic_state(tick)
        assert state.tracked == wanted.tracked
        if wanted.tracked:
            assert np.abs(state.coefficients() - wanted.coefficients()).max() < tolerance
    between = segment.track.state_at(frames[1][1]).coefficients()
    ends = [segment.track.state_at(first + i).coefficients() for i in range(2)]
    assert np.allclose(between, (ends[0] + ends[1]) / 2, atol=1e-6)
