"""The coarse repeat inside messages: bytes both ways, what a receiver makes of it, and what it saves."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.decoder.playout import Playout, PlayoutSettings, Status
from mien.protocol.codec import Batch, MessageDecoder, MessageEncoder
from mien.protocol.errors import WireError
from mien.protocol.history import MAX_HISTORY_BYTES, History, repeat_coarsely
from mien.protocol.message import CoefficientMessage, ExtensionType
from mien.protocol.quantizer import STEPS, from_steps
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader
from mien.protocol.tables import Tables
from tests.test_codec import VECTORS, make_header, table, walk

TABLES = Tables.load()
MESSAGE_US = 200_000


def messages(states: list[FaceState], header: StreamHeader, *, history: bool = True) -> list[bytes]:
    encoder = MessageEncoder(header)
    encoder.repeat_history = history
    return [m for tick, state in enumerate(states) if (m := encoder.push(tick, state)) is not None]


def test_vector() -> None:
    values = np.zeros((3, 36), np.int16)
    values[0, 0], values[1, 0], values[2, 7] = 3, 4, -2
    history = History(step_index=6, reach=5, stride=2, values=values)
    data = history.serialize(TABLES)
    assert data[:3] == bytes([0x62, 5, 2])
    parsed = History.parse(data, TABLES)
    assert (parsed.step_index, parsed.reach, parsed.stride) == (6, 5, 2)
    assert (parsed.values == values).all()
    assert list(parsed.offsets) == [-5, -3, -1]


@pytest.mark.parametrize("vector", VECTORS["histories"], ids=lambda v: v["hex"][:12])
def test_vectors(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    if "values" not in vector:
        with pytest.raises(WireError):
            History.parse(data, TABLES)
        return
    history = History.parse(data, TABLES)
    assert [history.step_index, history.reach, history.stride] == [
        vector[k] for k in ("step_index", "reach", "stride")
    ]
    assert history.values.tolist() == vector["values"]
    assert history.serialize(TABLES) == data


def test_every_message_but_the_first_repeats_the_one_before() -> None:
    header = make_header(rest=(0, 0, 0, 0, 300, -800))
    states = walk(60)
    decoder = MessageDecoder(header)
    batches = [decoder.decode(m) for m in messages(states, header)]
    assert batches[0].history == ()
    for batch in batches[1:]:
        assert [tick for tick, _ in batch.history] == [
            batch.first_tick - 5,
            batch.first_tick - 3,
            batch.first_tick - 1,
        ]
        error = table([s for _, s in batch.history]) - table([states[tick] for tick, _ in batch.history])
        assert np.abs(error[:, 6:]).max() <= 2.5 * STEPS[6] / 10000


def test_it_costs_less_than_half_of_what_it_repeats() -> None:
    header, states = make_header(), walk(300)
    plain = sum(map(len, messages(states, header, history=False)))
    assert sum(map(len, messages(states, header))) < 1.5 * plain


def test_nothing_is_repeated_across_a_gap_or_without_a_face() -> None:
    header, states = make_header(), walk(6)
    encoder = MessageEncoder(header)
    encoder.repeat_history = True
    for tick, state in enumerate(states):
        encoder.push(tick, state)
    later = [encoder.push(tick + 12, state) for tick, state in enumerate(states)][-1]
    assert later is not None and CoefficientMessage.parse(later).extensions == ()
    lost = [FaceState(s.pose, s.expression, tracked=i != 2) for i, s in enumerate(states)]
    assert repeat_coarsely(lost[1:], header.rest_pose, TABLES) is not None
    assert repeat_coarsely(lost[:3], header.rest_pose, TABLES) is None


def test_receivers_that_do_not_know_it_skip_it() -> None:
    header, states = make_header(), walk(12)
    with_history, without = messages(states, header), messages(states, header, history=False)
    one, other = CoefficientMessage.parse(with_history[1]), CoefficientMessage.parse(without[1])
    assert [e.type for e in one.extensions] == [ExtensionType.HISTORY]
    assert (one.values == other.values).all()


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    try:
        history = History.parse(data, TABLES)
    except WireError:
        return
    assert all(-255 <= offset < 0 for offset in history.offsets)
    assert History.parse(history.serialize(TABLES), TABLES).reach == history.reach


def test_what_reaches_beyond_the_message_is_refused() -> None:
    values = np.zeros((3, 36), np.int16)
    for reach, stride in ((4, 2), (5, 0), (256, 2), (0, 1)):
        with pytest.raises(WireError):
            History(6, reach, stride, values)
    with pytest.raises(WireError, match="spare bit"):
        History.parse(bytes([0x80, 1, 1]), TABLES)
    with pytest.raises(WireError, match="bytes"):
        History.parse(bytes(MAX_HISTORY_BYTES + 1), TABLES)


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


def play_with_losses(*, history: bool) -> tuple[float, int]:
    """Return the largest mean error of an expression coefficient, and how many pictures were made up."""
    header = make_header()
    states = [FaceState.from_coefficients(4 * s.coefficients()) for s in walk(120, seed=4)]
    decoder = MessageDecoder(header)
    sent = [decoder.decode(m) for m in messages(states, header, history=history)]
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
    plain_error, plain_made_up = play_with_losses(history=False)
    error, made_up = play_with_losses(history=True)
    assert plain_made_up > 15 and made_up == 0
    assert error < 0.5 * plain_error


def test_full_frames_replace_their_repeat_when_they_come_late() -> None:
    header, states = make_header(), walk(24)
    decoder = MessageDecoder(header)
    sent = [decoder.decode(m) for m in messages(states, header)]
    playout = Playout(header)
    for number, arrival_us in ((0, 200_000), (2, 600_000), (1, 610_000), (3, 800_000)):
        playout.push(sent[number], arrival_us=arrival_us)
    playout.state_at(640_000)
    exact = from_steps(CoefficientMessage.parse(messages(states, header)[1]).values, header.rest_pose, 1)
    for tick in range(6, 12):
        assert (playout._states[tick].coefficients() == exact[tick - 6]).all()
    assert not playout._coarse & set(range(6, 12))
