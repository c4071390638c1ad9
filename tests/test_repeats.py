"""Repeats of earlier frames, and faces that are still: what is sent, and what a receiver makes of it."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.decoder.playout import Playout, PlayoutSettings, Status
from mien.decoder.recording import Track
from mien.protocol.codec import KEEP_ALIVE_SECONDS, STILL_STEPS, Batch, MessageDecoder, MessageEncoder
from mien.protocol.errors import WireError
from mien.protocol.message import CoefficientMessage, Kind, message_kind
from mien.protocol.quantizer import STEPS, Quality, from_steps
from mien.protocol.repeats import Repeats
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader
from tests.stream_samples import stream_header, table, walk

MESSAGE_US = 200_000
BEFORE = Repeats(3)  # the message before, every second frame


def messages(
    states: list[FaceState], header: StreamHeader, *, repeats: Repeats | None = BEFORE
) -> list[bytes]:
    encoder = MessageEncoder(header)
    encoder.repeats = repeats
    return [m for tick, state in enumerate(states) if (m := encoder.push(tick, state)) is not None]


@given(st.integers(0, 255))
def test_every_byte_says_what_is_repeated(byte: int) -> None:
    repeats = Repeats.unpack(byte)
    assert repeats.pack() == byte
    offsets = list(repeats.offsets)
    assert len(offsets) == repeats.count and offsets[0] == -1 - 6 * repeats.lag
    assert all(a - b == repeats.stride for a, b in pairwise(offsets))


@pytest.mark.parametrize("wrong", [(0, 2, 0), (9, 2, 0), (3, 0, 0), (3, 5, 0), (3, 2, 8), (3, 2, -1)])
def test_what_no_byte_can_say_is_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(WireError):
        Repeats(*wrong)


@pytest.mark.parametrize("lag", [0, 4])
def test_messages_repeat_what_was_sent_before(lag: int) -> None:
    header = stream_header(rest_pose=(0, 0, 0, 0, 300, -800))
    states = walk(90)
    decoder = MessageDecoder(header)
    batches = [decoder.decode(m) for m in messages(states, header, repeats=Repeats(3, lag=lag))]
    for number, batch in enumerate(batches):
        if number <= lag:
            assert batch.history == ()
            continue
        assert [tick - batch.first_tick + 6 * lag for tick, _ in batch.history] == [-1, -3, -5]
        error = table([s for _, s in batch.history]) - table([states[tick] for tick, _ in batch.history])
        assert np.abs(error[:, 6:]).max() <= 5 * STEPS[1] / 10000


def test_short_messages_tell_the_same_frames_over_and_over() -> None:
    header = stream_header()
    encoder, decoder = MessageEncoder(header, frames_per_message=16), MessageDecoder(header)
    encoder.repeats, encoder.repeats_apart = Repeats(2), 2
    histories = []
    for tick, state in enumerate(walk(60)):
        encoder.push(tick, state)
        if tick % 6 == 2:  # now and then a message of two frames
            continue
        message = encoder.flush()
        assert message is not None
        histories.append([t for t, _ in decoder.decode(message).history])
    told = [h for h in histories if h]
    assert len(told) < 0.6 * len(histories)
    assert all(later[-1] == earlier[0] for earlier, later in pairwise(told))


def test_repeats_cost_less_than_two_thirds_of_what_they_repeat() -> None:
    header, states = stream_header(), walk(300)
    plain = sum(map(len, messages(states, header, repeats=None)))
    assert plain < sum(map(len, messages(states, header))) < 1.65 * plain


def test_nothing_is_repeated_across_a_gap_or_without_a_face() -> None:
    header, states = stream_header(), walk(6)
    encoder = MessageEncoder(header)
    encoder.repeats = BEFORE
    for tick, state in enumerate(states):
        encoder.push(tick, state)
    later = [encoder.push(tick + 12, state) for tick, state in enumerate(states)][-1]
    assert message_kind(later or b"") == Kind.COEFFICIENTS
    lost = [FaceState(s.pose, s.expression, tracked=i != 3) for i, s in enumerate(states)]
    kinds = [message_kind(m) for m in messages(lost + states, header)]
    assert kinds == [Kind.COEFFICIENTS, Kind.COEFFICIENTS]


def test_quality_and_repeats_may_change_between_messages() -> None:
    header, states = stream_header(), walk(24)
    encoder = MessageEncoder(header)
    found = []
    for tick, state in enumerate(states):
        if tick == 8:  # the message that was begun keeps its step
            encoder.quality, encoder.repeats = Quality.LOW, BEFORE
        if tick == 18:
            encoder.frames_per_message = 3
        data = encoder.push(tick, state)
        if data is not None:
            message = CoefficientMessage.parse(data)
            found.append((message.first_tick, len(message.tracked), message.step_index, message.repeats))
    assert found == [
        (0, 6, 1, None),
        (6, 6, 1, BEFORE),
        (12, 6, 0, BEFORE),
        (18, 3, 0, BEFORE),
        (21, 3, 0, BEFORE),
    ]


def still(state: FaceState, count: int, *, seed: int = 0) -> list[FaceState]:
    """A face that trembles by less than what is worth telling."""
    rng = np.random.default_rng(seed)
    most = 0.3 * STILL_STEPS * STEPS[1] / 10000
    return [
        FaceState.from_coefficients(
            state.coefficients() + rng.uniform(-most, most, 36).astype(np.float32), tracked=state.tracked
        )
        for _ in range(count)
    ]


def test_a_still_face_sends_keep_alives_and_is_shown_as_it_was() -> None:
    header, moving = stream_header(), walk(12)
    states = moving + still(moving[-1], 300) + walk(12, seed=5)
    sent = messages(states, header, repeats=None)
    kinds = [message_kind(m) for m in sent]
    alive = kinds.count(Kind.STILL)
    assert 300 / 30 / KEEP_ALIVE_SECONDS <= alive <= 300 / 30 / KEEP_ALIVE_SECONDS + 2
    assert kinds[2:4] == [Kind.STILL] * 2  # told twice at once: one of them may get lost
    decoder, track = MessageDecoder(header), Track()
    for data in sent:
        track.add(decoder.decode(data))
    shown = table([track.state_at(tick) for tick in range(len(states))])
    most = (STILL_STEPS + 1) * STEPS[1] / 10000 / 0.6
    assert np.abs(shown - table(states)).max() < most


def test_a_face_that_moves_slowly_is_not_still_for_long() -> None:
    header, start = stream_header(), walk(1)[0].coefficients()
    drift = np.zeros(36, np.float32)
    drift[8] = 1
    states = [FaceState.from_coefficients(start + drift * np.float32(0.001 * t)) for t in range(300)]
    decoder, track = MessageDecoder(header), Track()
    for data in messages(states, header, repeats=None):
        track.add(decoder.decode(data))
    for tick, state in enumerate(states):
        error = np.abs(track.state_at(tick).coefficients() - state.coefficients()).max()
        assert error < (STILL_STEPS + 1) * STEPS[1] / 10000 / 0.6


def test_nobody_there_is_said_seldom() -> None:
    header, seen = stream_header(), walk(6)
    gone = [FaceState(seen[-1].pose, seen[-1].expression, tracked=False)] * 300
    sent = messages(seen + gone + walk(6, seed=2), header, repeats=None)
    batches = [MessageDecoder(header).decode(m) for m in sent]
    assert len(batches) <= 3 + 300 / 30 / KEEP_ALIVE_SECONDS + 2
    assert all(not s.tracked for b in batches if b.still for s in b.states)
    assert batches[-1].states[0].tracked and not batches[-1].still


def test_a_cut_message_holds_what_there_is() -> None:
    encoder = MessageEncoder(stream_header(), frames_per_message=16)
    for tick, state in enumerate(walk(3)):
        assert encoder.push(tick, state) is None
    data = encoder.flush()
    assert data is not None and len(CoefficientMessage.parse(data).tracked) == 3
    assert encoder.flush() is None


def shown(
    header: StreamHeader, batches: dict[int, Batch], render_us: range
) -> list[tuple[Status, FaceState, Fraction]]:
    """Play batches that arrive at their times; return what is shown at each render time."""
    playout, waiting, pictures = Playout(header, PlayoutSettings()), sorted(batches.items()), []
    for now_us in render_us:
        while waiting and waiting[0][0] <= now_us:
            arrival_us, batch = waiting.pop(0)
            playout.push(batch, arrival_us=arrival_us)
        picture = playout.state_at(now_us)
        if picture.tick is not None:
            pictures.append((picture.status, picture.state, picture.tick))
    return pictures


def play_with_losses(repeats: Repeats | None) -> tuple[float, int]:
    """Return the largest mean error of an expression coefficient, and how many pictures were made up."""
    header = stream_header()
    states = [FaceState.from_coefficients(4 * s.coefficients()) for s in walk(120, seed=4)]
    decoder = MessageDecoder(header)
    sent = [decoder.decode(m) for m in messages(states, header, repeats=repeats)]
    arriving = {MESSAGE_US * (i + 1): batch for i, batch in enumerate(sent) if i not in (7, 12, 16)}
    truth = table(states)
    errors, made_up = [], 0
    for status, state, tick in shown(header, arriving, range(MESSAGE_US, 21 * MESSAGE_US, 33_333)):
        if 12 <= tick < 113:
            before = int(tick)
            want = truth[before] + (truth[before + 1] - truth[before]) * float(tick - before)
            errors.append(float(np.abs(state.coefficients() - want)[6:].mean()))
            made_up += status is Status.CONCEALED
    return max(errors), made_up


def test_a_lost_message_is_shown_from_the_next_ones_repeat() -> None:
    plain_error, plain_made_up = play_with_losses(None)
    error, made_up = play_with_losses(BEFORE)
    assert plain_made_up > 15 and made_up == 0
    assert error < 0.5 * plain_error


def test_full_frames_replace_their_repeat_when_they_come_late() -> None:
    header, states = stream_header(), walk(24)
    decoder = MessageDecoder(header)
    sent = [decoder.decode(m) for m in messages(states, header)]
    playout = Playout(header)
    for number, arrival_us in ((0, 200_000), (2, 600_000), (1, 610_000), (3, 800_000)):
        playout.push(sent[number], arrival_us=arrival_us)
    playout.state_at(640_000)
    exact = from_steps(CoefficientMessage.parse(messages(states, header)[1]).values, header.rest_pose, 1)
    for tick in range(6, 12):
        assert (playout._states[tick].coefficients() == exact[tick - 6]).all()
    assert not set(playout._coarse) & set(range(6, 12))
