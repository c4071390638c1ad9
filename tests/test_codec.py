"""States through the codec: bounded error, no drift, and every message decodes alone."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.protocol.codec import MessageDecoder, MessageEncoder, frames_per_batch
from mien.protocol.errors import WireError
from mien.protocol.message import CoefficientMessage, Kind, MessageHead
from mien.protocol.quantizer import SCALE, STEPS, Quality, to_steps
from mien.protocol.repeats import Repeats
from mien.protocol.residual_coder import encode_body
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader
from mien.protocol.tables import Tables
from tests.stream_samples import stream_header, table, walk

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "coefficients-1.json").read_text())


def encode(states: list[FaceState], header: StreamHeader, quality: Quality = Quality.NORMAL) -> list[bytes]:
    encoder = MessageEncoder(header, quality=quality)
    found = [encoder.push(tick, state) for tick, state in enumerate(states)]
    return [m for m in [*found, encoder.flush()] if m is not None]


@pytest.mark.parametrize("quality", list(Quality))
def test_error_is_bounded_and_does_not_drift(quality: Quality) -> None:
    header = stream_header(rest_pose=(10, -20, 30, 0, 300, -800))
    states = walk(600)
    decoder = MessageDecoder(header)
    batches = [decoder.decode(m) for m in encode(states, header, quality)]
    decoded = np.concatenate([table(b.states) for b in batches])
    assert [b.first_tick for b in batches] == list(range(0, 600, 6))
    error = (decoded - table(states)) * np.array(SCALE) / (STEPS[quality] / 10000)
    assert np.abs(error).max() <= 2.5  # at most, a residual of 2.5 steps is left out
    for part in np.split(error, 4):
        assert 0.2 < np.sqrt((part**2).mean()) < 0.6
        assert abs(part.mean()) < 0.05


def test_choosing_saves_bits_against_rounding() -> None:
    """At the same error: rounding with a coarser step must cost more."""
    header = stream_header()
    states = walk(300)
    chosen = sum(map(len, encode(states, header)))
    tables = Tables.load()
    rounded = 0
    for start in range(0, 300, 6):
        targets = [to_steps(s, header.rest_pose, Quality.NORMAL) for s in states[start : start + 6]]
        rounded += 4 + len(
            encode_body([np.round(t).astype(int).tolist() for t in targets], (True,) * 6, 1, tables)
        )
    assert chosen < 0.93 * rounded


def test_every_message_decodes_alone() -> None:
    header = stream_header()
    messages = encode(walk(60), header)
    steady, decoder = MessageDecoder(header), MessageDecoder(header)
    in_order = [steady.decode(m) for m in messages]
    for index in (0, 9, 3, 7):
        batch = decoder.decode(messages[index])
        assert (table(batch.states) == table(in_order[index].states)).all()


def test_untracked_frames_hold_and_cost_nothing() -> None:
    header = stream_header()
    states = walk(6)
    lost = [s if i < 2 else FaceState(s.pose, s.expression, tracked=False) for i, s in enumerate(states)]
    (message,) = encode(lost, header)
    batch = MessageDecoder(header).decode(message)
    assert [s.tracked for s in batch.states] == [True, True, False, False, False, False]
    assert (table(batch.states[1:2]) == table(batch.states[2:])).all()
    (shorter,) = encode(states[:2], header)
    assert len(message) <= len(shorter) + 2


def test_ticks_go_on_beyond_sixteen_bits_in_any_order() -> None:
    header = stream_header()
    encoder, decoder = MessageEncoder(header, frames_per_message=1), MessageDecoder(header)
    rng = np.random.default_rng(0)
    for tick in (65530, 65533, 65536, 65532, 65600, 98000, 130000, 131071, 131073, 131072):
        state = FaceState.from_coefficients(rng.normal(0, 0.1, 36).astype(np.float32))  # never still
        message = encoder.push(tick, state)
        assert message is not None
        assert decoder.decode(message).first_tick == tick


@pytest.mark.parametrize("sequence", VECTORS["tick_sequences"])
def test_tick_sequences_of_the_vectors(sequence: list[list[int]]) -> None:
    header = stream_header()
    decoder = MessageDecoder(header)
    for low, tick in sequence:
        message = MessageEncoder(header, frames_per_message=1).push(low, FaceState.neutral())
        assert message is not None
        assert decoder.decode(message).first_tick == tick


def test_first_message_of_a_stream_already_old() -> None:
    encoder, decoder = MessageEncoder(stream_header(), frames_per_message=1), MessageDecoder(stream_header())
    message = encoder.push(40000, FaceState.neutral())
    assert message is not None
    assert decoder.decode(message).first_tick == 40000
    earlier = encoder.push(39994, FaceState.neutral())
    assert earlier is not None
    assert decoder.decode(earlier).first_tick == 39994


def test_batches_last_a_fifth_of_a_second() -> None:
    rates = {Fraction(30): 6, Fraction(30000, 1001): 6, Fraction(25): 5, Fraction(15): 3, Fraction(1): 1}
    assert {rate: frames_per_batch(stream_header(tick_rate=rate)) for rate in rates} == rates


def test_gaps_must_be_flushed() -> None:
    encoder = MessageEncoder(stream_header())
    encoder.push(0, FaceState.neutral())
    with pytest.raises(ValueError, match="flush before a gap"):
        encoder.push(2, FaceState.neutral())


def test_values_far_outside_are_clamped_not_wrapped() -> None:
    header = stream_header()
    wild = FaceState.from_coefficients(np.full(36, 1e4, np.float32))
    (message,) = encode([wild], header)
    decoded = MessageDecoder(header).decode(message).states[0]
    assert decoded.expression.min() == pytest.approx(4095 * 0.0035, rel=1e-5)


def test_messages_of_other_streams_and_tables_are_refused() -> None:
    header = stream_header()
    (message,) = encode(walk(1), header)
    other = MessageDecoder(StreamHeader.parse(bytes([1, 2]) + header.serialize()[2:]))
    with pytest.raises(WireError, match="stream 0, expected 2"):
        other.decode(message)
    alien = bytearray(header.serialize())
    alien[12] ^= 1
    with pytest.raises(WireError, match="update the older side"):
        MessageDecoder(StreamHeader.parse(bytes(alien)))


def kinds(messages: list[bytes]) -> list[Kind]:
    return [MessageHead.parse(m).kind for m in messages]


def test_heads_are_short_but_for_one_a_second() -> None:
    header = stream_header()
    found = kinds(encode(walk(240), header))
    assert found[:20] == [Kind.COEFFICIENTS] * 20  # the stream's opening
    assert found[20:] == [*[Kind.SHORT] * 4, Kind.COEFFICIENTS] * 4
    encoder = MessageEncoder(header, frames_per_message=2)
    encoder.repeats = Repeats(1)
    found = kinds([m for tick, s in enumerate(walk(150)) if (m := encoder.push(tick, s)) is not None])
    assert found[60:] == [*[Kind.SHORT_OVERLAP] * 14, Kind.OVERLAP]


def test_heads_are_long_after_a_pause() -> None:
    encoder, decoder = MessageEncoder(stream_header()), MessageDecoder(stream_header())
    states = walk(72)
    ticks = [*range(36), *range(9000, 9036)]
    messages = [m for t, s in zip(ticks, states, strict=True) if (m := encoder.push(t, s)) is not None]
    assert kinds(messages[6:11]) == [Kind.COEFFICIENTS] * 5
    assert [decoder.decode(m).first_tick for m in messages] == [*range(0, 36, 6), *range(9000, 9036, 6)]


def test_a_short_head_needs_a_long_one_first() -> None:
    header = stream_header()
    messages = encode(walk(240), header)
    decoder = MessageDecoder(header)
    late = messages[21:]
    with pytest.raises(WireError, match="short head"):
        decoder.decode(late[0])
    first = kinds(late).index(Kind.COEFFICIENTS)
    assert [decoder.decode(m).first_tick for m in late[first:]] == list(range(126 + 6 * first, 240, 6))


def test_an_outage_within_reach_of_the_short_ticks_leaves_no_doubt() -> None:
    messages = encode(walk(600), stream_header())
    decoder = MessageDecoder(stream_header())
    for index in (0, 41, 9, 83, 66):  # 252 ticks at most from one to the next
        assert decoder.decode(messages[index]).first_tick == 6 * index


def test_frames_are_chosen_together() -> None:
    """A twitch of a step, which the next frame takes back, is not worth its bits; one that stays is."""
    twitch, jump = np.zeros((2, 6, 36), np.float32)
    twitch[3, 20] = jump[3:, 20] = 1.2 * STEPS[1] / 10000
    for path, wanted in ((twitch, [0] * 6), (jump, [0, 0, 0, 1, 1, 1])):
        path[0, 0] = 1.0  # not a still face
        (message,) = encode([FaceState.from_coefficients(row) for row in path], stream_header())
        assert CoefficientMessage.parse(message).values[:, 20].tolist() == wanted
