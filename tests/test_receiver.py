"""The receiver: what it drops, what it notes in a log, and that the log repeats it."""

import io
import random
from dataclasses import replace

import numpy as np
import pytest

from mien.decoder.blink import LOWER_LIDS, UPPER_LIDS, shut_lids
from mien.decoder.playout import PlayoutSettings, Status
from mien.decoder.receiver import Receiver, parse_floor, serialize_floor
from mien.models.face_model import FaceModel
from mien.models.landmark_sets import LIPS
from mien.protocol.codec import MessageEncoder
from mien.protocol.errors import WireError
from mien.protocol.log import (
    EventKind,
    EventRecord,
    LogReader,
    LogWriter,
    MessageRecord,
    RenderRecord,
)
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader
from tests.log_samples import log_header, open_memory_log
from tests.stream_samples import stream_header


def messages(stream: StreamHeader, count: int, *, seed: int = 1) -> list[bytes]:
    """A face that wanders, six frames a message."""
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.normal(0, 0.01, (6 * count, 36)), axis=0).astype(np.float32)
    encoder = MessageEncoder(stream, frames_per_message=6)
    out = [encoder.push(tick, FaceState.from_coefficients(row)) for tick, row in enumerate(steps)]
    return [m for m in out if m is not None]


def replay(data: bytes) -> tuple[list[int], list[int | None]]:
    """Feed a log's records to a fresh receiver; return its state checksums and the noted ones."""
    reader = LogReader(io.BytesIO(data))
    receiver: Receiver | None = None
    made, noted = [], []
    for record in reader.records():
        if isinstance(record, EventRecord) and record.event == EventKind.SETTINGS:
            receiver = Receiver(reader.header.stream, settings=PlayoutSettings.parse(record.data))
        elif isinstance(record, EventRecord) and record.event == EventKind.STREAM:
            assert receiver is not None
            receiver.on_stream(StreamHeader.parse(record.data), now_us=record.time_us)
        elif isinstance(record, EventRecord) and record.event == EventKind.FLOOR:
            assert receiver is not None
            receiver.wait_at_least(parse_floor(record.data), now_us=record.time_us)
        elif isinstance(record, MessageRecord):
            assert receiver is not None
            assert receiver.on_message(record.data, record.time_us)
        elif isinstance(record, RenderRecord):
            assert receiver is not None
            made.append(receiver.show(record.time_us).checksum())
            noted.append(record.state_crc)
    return made, noted


def test_a_rough_call_replays_to_the_same_states() -> None:
    network = random.Random(5)
    stream = stream_header()
    file, log = open_memory_log(stream)
    receiver = Receiver(stream, settings=PlayoutSettings(margin_us=25_000), recorder=log, now_us=7)
    sent = [
        (200_000 * (n + 1) + int(network.expovariate(1 / 50_000)), m)
        for n, m in enumerate(messages(stream, 60))
    ]
    arriving = sorted((s for s in sent if network.random() > 0.2), key=lambda s: s[0])
    shown = []
    for render_us in range(100_000, 14_000_000, 16_667):
        while arriving and arriving[0][0] <= render_us:
            receiver.on_message(arriving[0][1], arriving.pop(0)[0])
            receiver.on_message(b"noise", render_us)
        shown.append(receiver.show(render_us))
    assert {s.status for s in shown} == set(Status) - {Status.UNTRACKED} - {Status.LOST}
    made, noted = replay(file.getvalue())
    assert made == noted == [s.checksum() for s in shown]
    assert len(set(made)) > 400
    assert receiver.counts.bad_messages == receiver.counts.messages > 30


def test_a_new_stream_is_followed_and_replayed() -> None:
    first, second = stream_header(), stream_header(stream=1)
    file, log = open_memory_log(first)
    receiver = Receiver(first, recorder=log)
    for n, message in enumerate(messages(first, 5)):
        receiver.on_message(message, 200_000 * n)
    receiver.show(1_000_000)
    receiver.on_stream(second, now_us=1_000_001)
    receiver.on_stream(second, now_us=1_000_002)  # said twice, done once
    assert receiver.header == second
    assert not receiver.on_message(messages(first, 1)[0], 1_000_003)  # of the stream that is over
    for n, message in enumerate(messages(second, 5, seed=2)):
        assert receiver.on_message(message, 1_200_000 + 200_000 * n)
    shown = receiver.show(2_000_000)
    assert shown.status is Status.LIVE
    made, noted = replay(file.getvalue())
    assert made == noted and made[-1] == shown.checksum()
    events = [r for r in LogReader(io.BytesIO(file.getvalue())).records() if isinstance(r, EventRecord)]
    assert [e.event for e in events] == [EventKind.SETTINGS, EventKind.STREAM]


def test_bad_messages_are_dropped_and_counted() -> None:
    stream = stream_header()
    receiver = Receiver(stream)
    good = messages(stream, 1)[0]
    for bad in (b"", b"x", good[:3], bytes(2000), messages(stream_header(stream=3), 1)[0]):
        assert not receiver.on_message(bad, 0)
    assert receiver.on_message(good, 0)
    assert (receiver.counts.messages, receiver.counts.bad_messages) == (1, 5)
    assert receiver.counts.message_bytes == len(good)
    assert receiver.playout_counts.batches == 1


def test_another_model_or_other_tables_are_refused_and_the_stream_goes_on() -> None:
    stream = stream_header()
    receiver = Receiver(stream)
    for foreign in (replace(stream, model_id=bytes(8)), replace(stream, tables_id=bytes(8))):
        with pytest.raises(WireError, match="update"):
            Receiver(foreign)
        with pytest.raises(WireError, match="update"):
            receiver.on_stream(foreign, now_us=0)
    assert receiver.header == stream
    assert receiver.on_message(messages(stream, 1)[0], 0)


class FullDisk(io.BytesIO):
    """Takes so many writes and no more."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self.left = writes

    def write(self, data: object) -> int:
        if self.left == 0:
            raise OSError(28, "No space left on device")
        self.left -= 1
        return super().write(data)  # type: ignore[arg-type]


def test_a_full_disk_ends_the_recording_and_not_the_call(caplog: pytest.LogCaptureFixture) -> None:
    stream = stream_header()
    header = log_header(stream)
    log = LogWriter(FullDisk(4), header)
    receiver = Receiver(stream, recorder=log)
    for n, message in enumerate(messages(stream, 5)):
        assert receiver.on_message(message, 200_000 * n)
    assert receiver.recorder is None
    assert receiver.show(900_000).status is Status.LIVE
    assert "the recording ended: No space left" in caplog.text


def test_shut_lids_shut_the_lids_and_little_else() -> None:
    model = FaceModel.load()
    expression = shut_lids(model)
    assert expression.dtype == np.float32 and expression.shape == (30,)
    shut = model.vertices(model.mean, expression)
    upper, lower = list(UPPER_LIDS), list(LOWER_LIDS)
    gap = np.linalg.norm(shut[upper, :2] - shut[lower, :2], axis=1).mean()
    was = np.linalg.norm(model.mean[upper, :2] - model.mean[lower, :2], axis=1).mean()
    assert gap < 0.3 * was
    assert np.abs(shut - model.mean)[list(LIPS)].max() < 0.05


def test_a_wait_for_the_voice_is_noted_and_replayed() -> None:
    stream = stream_header()
    file, log = open_memory_log(stream)
    receiver = Receiver(stream, settings=PlayoutSettings(most_delay_us=450_000), recorder=log)
    shown = []
    for n, message in enumerate(messages(stream, 20)):
        receiver.on_message(message, 200_000 * (n + 1))
        own_us = receiver.offset_us
        assert own_us is not None
        if n == 5:
            receiver.wait_at_least(own_us + 100_000, now_us=200_000 * (n + 1))
            assert receiver.offset_us == own_us + 100_000
        if n == 10:
            receiver.wait_at_least(own_us + 60_000_000, now_us=200_000 * (n + 1))
            assert own_us < (receiver.offset_us or 0) <= own_us + 350_000  # as far as the settings allow
        if n == 15:
            receiver.wait_at_least(None, now_us=200_000 * (n + 1))
        shown += [receiver.show(200_000 * (n + 1) + at) for at in range(0, 200_000, 33_333)]
    made, noted = replay(file.getvalue())
    assert made == noted == [s.checksum() for s in shown]


def test_floors_as_bytes() -> None:
    for floor in (None, 0, -1, 1 << 62, -(1 << 63)):
        assert parse_floor(serialize_floor(floor)) == floor
    with pytest.raises(WireError, match="expected 0 or 8"):
        parse_floor(bytes(7))
