"""The coefficient log: bytes, damage, a killed recorder, seeking."""

import io
import os
import random
import signal
import stat
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.protocol.errors import MienError, WireError
from mien.protocol.log import (
    EventKind,
    EventRecord,
    FramesRecord,
    LogHeader,
    LogReader,
    LogWriter,
    MessageRecord,
    Origin,
    Record,
    RenderRecord,
    SourceFrame,
    open_log,
)
from mien.protocol.log_records import MAX_PAYLOAD_BYTES, UnknownRecord, parse_record, serialize_record
from tests.log_samples import AVATAR_ID, log_header
from tests.stream_samples import stream_header

VECTORS = Path(__file__).parent / "vectors"


def make_header(**changes: Any) -> LogHeader:
    stream = stream_header(
        stream=3,
        model_id=b"modelmod",
        tables_id=b"tablesta",
        avatar_id=AVATAR_ID[:8],
        tick_rate=Fraction(30000, 1001),
        unit_px=Fraction(1001, 16),
        width=640,
        height=480,
        rest_pose=(1, -2, 3, 0, 5, 6),
    )
    fields: dict[str, Any] = {
        "avatar_id": AVATAR_ID,
        "origin": Origin.SOURCE,
        "source_rate": Fraction(60000, 1001),
    }
    return log_header(stream, **(fields | changes))


RECORDS: list[Record] = [
    EventRecord(0, EventKind.SETTINGS, b"settings"),
    FramesRecord((SourceFrame(0, 0), SourceFrame(16_683, None), SourceFrame(33_367, 1))),
    MessageRecord(33_367, b"\x01first"),
    RenderRecord(40_000, 0x01020304),
    RenderRecord(56_000),
    FramesRecord((SourceFrame(66_733, 2),)),
    MessageRecord(66_733, b"\x01second"),
]


def make_log(records: list[Record] = RECORDS, *, end: bool = True) -> bytes:
    stream = io.BytesIO()
    writer = LogWriter(stream, make_header())
    for record in records:
        writer.append(record)
    if end:
        writer.event(EventKind.END, time_us=66_733)
    return stream.getvalue()


def read(data: bytes) -> tuple[list[Record], LogReader]:
    reader = LogReader(io.BytesIO(data))
    return list(reader.records()), reader


def test_header_vector() -> None:
    data = bytes.fromhex(
        "894d4c4f470d0a1a 01 00 0000"  # magic, version, origin, spare
        "01 03 01 00 6d6f64656c6d6f64 7461626c65737461 0001020304050607 00007530 000003e9 03e9 0280 01e0"
        "0001 fffe 0003 0000 0005 0006"  # its rest pose
        "0000ea60 000003e9 0280 01e0"  # source: 60000/1001 frames per second, 640 x 480
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        "6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f"
        "0000000000000000 05 302e312e30 ad98305d"
    )
    assert make_header().serialize() == data
    assert LogHeader.parse(data) == make_header()


@pytest.mark.parametrize(
    ("record", "data"),
    [
        (MessageRecord(0x1234, b"abc"), "01 0003 0000000000001234 616263 94267985"),
        (
            FramesRecord((SourceFrame(1000, 7), SourceFrame(1000 + 300, None), SourceFrame(1700, 8))),
            "02 0009 00000000000003e8 03 00 0f ac02 00 9003 01 fa2dcb14",
        ),
        (RenderRecord(5, 0xA), "03 0004 0000000000000005 0000000a 2e226566"),
        (RenderRecord(5), "03 0000 0000000000000005 820f2362"),
        (EventRecord(9, EventKind.RUNG, b"\x01"), "04 0002 0000000000000009 04 01 8b1b5bc8"),
    ],
)
def test_record_vectors(record: Record, data: str) -> None:
    wanted = bytes.fromhex(data)
    assert serialize_record(record) == wanted
    assert parse_record(wanted) == record


def test_what_was_written_is_read() -> None:
    records, reader = read(make_log())
    assert records[:-1] == RECORDS
    assert records[-1] == EventRecord(66_733, EventKind.END)
    assert reader.damage is None
    assert reader.header == make_header()


def test_index_counts_and_seeks() -> None:
    reader = LogReader(io.BytesIO(make_log()))
    index = reader.index()
    assert (index.messages, index.message_bytes, index.frames, index.renders, index.events) == (
        2,
        13,
        4,
        2,
        2,
    )
    assert index.ended and index.damage is None
    position = index.position_at(33_368)
    assert position is not None
    assert next(iter(reader.records(position=position))) == RECORDS[-1]
    assert next(iter(reader.records(position=index.position_at(0)))) == RECORDS[2]
    assert index.position_at(66_734) is None


def test_every_truncation_gives_the_whole_records_before_it() -> None:
    data = make_log()
    ends = [len(make_header().serialize())]
    for record in [*RECORDS, EventRecord(66_733, EventKind.END)]:
        ends.append(ends[-1] + len(serialize_record(record)))
    for size in range(len(data)):
        if size < ends[0]:
            with pytest.raises(WireError, match="header|does not begin"):
                read(data[:size])
            continue
        records, reader = read(data[:size])
        whole = sum(end <= size for end in ends) - 1
        assert records == RECORDS[:whole]
        if size in ends:
            assert reader.damage is None
            assert not reader.index().ended
        else:
            assert reader.damage is not None
            assert reader.damage.position == ends[whole]
            assert reader.damage.lost_bytes == size - ends[whole]
            assert "ends inside a record" in str(reader.damage)


def test_every_flipped_byte_is_noticed() -> None:
    data = make_log()
    intact, _ = read(data)
    first = len(make_header().serialize())
    for at in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            mutated = bytearray(data)
            mutated[at] ^= flip
            if at < first:
                with pytest.raises(WireError):
                    read(bytes(mutated))
                continue
            records, reader = read(bytes(mutated))
            assert reader.damage is not None
            assert reader.damage.position <= at
            assert records == intact[: len(records)]
            assert len(records) < len(intact)


def test_records_of_a_later_version_are_skipped_and_counted() -> None:
    later = bytearray(serialize_record(MessageRecord(7, b"?")))
    later[0] = 200
    later[-4:] = zlib.crc32(later[:-4]).to_bytes(4, "big")
    data = make_log([RECORDS[2]], end=False) + bytes(later) + serialize_record(RECORDS[6])
    records, reader = read(data)
    assert records == [RECORDS[2], RECORDS[6]]
    assert reader.unknown == 1 and reader.damage is None


def test_bytes_after_the_end_mark_are_damage() -> None:
    records, reader = read(make_log() + b"x")
    assert len(records) == len(RECORDS) + 1
    assert reader.damage is not None and "after the end mark" in reader.damage.reason


def test_a_record_that_claims_to_be_huge_is_not_read() -> None:
    data = make_log([], end=False) + bytes.fromhex("01 ffff 0000000000000000") + b"x" * 70_000
    records, reader = read(data)
    assert records == []
    assert reader.damage is not None and "says that it holds 65535 bytes" in reader.damage.reason


def test_the_writer_refuses_what_the_format_cannot_hold() -> None:
    writer = LogWriter(io.BytesIO(), make_header())
    with pytest.raises(WireError, match="at most"):
        writer.message(b"x" * (MAX_PAYLOAD_BYTES + 1), time_us=0)
    with pytest.raises(WireError, match="time is -1"):
        writer.message(b"x", time_us=-1)
    with pytest.raises(WireError, match="backwards"):
        writer.frames([SourceFrame(5, 0), SourceFrame(4, 1)])
    with pytest.raises(WireError, match="expected 32 bits"):
        writer.render(0, state_crc=1 << 32)


def test_header_of_another_version_says_update() -> None:
    data = bytearray(make_log())
    data[8] = 2
    with pytest.raises(WireError, match="version 2, expected 1: update mien"):
        read(bytes(data))


def test_file_is_private_and_closed_with_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.mien"
    with LogWriter.create(str(path), make_header()) as writer:
        writer.message(b"m", time_us=5)
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with open_log(str(path)) as reader:
        assert reader.index().ended


def test_a_recorder_that_fails_leaves_no_end_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.mien"
    with pytest.raises(RuntimeError), LogWriter.create(str(path), make_header()) as writer:
        writer.message(b"m", time_us=5)
        raise RuntimeError
    with open_log(str(path)) as reader:
        index = reader.index()
    assert index.messages == 1 and not index.ended and index.damage is None


def test_missing_and_wrong_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(MienError, match="cannot read .*nothing.mien: No such file"):
        open_log(str(tmp_path / "nothing.mien"))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    with pytest.raises(WireError, match="picture.png: this is not a mien log"):
        open_log(str(tmp_path / "picture.png"))
    with pytest.raises(MienError, match="cannot write"):
        LogWriter.create(str(tmp_path / "no" / "folder.mien"), make_header())


RECORDER = """
import sys
from mien.protocol.log import LogHeader, LogWriter
header = LogHeader.parse(bytes.fromhex(sys.argv[2]))
writer = LogWriter.create(sys.argv[1], header)
for n in range(1_000_000):
    writer.message(n.to_bytes(4, "big") * 20, time_us=n)
    if n % 50 == 0:
        print(n, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_recorder_loses_at_most_the_last_message(tmp_path: Path) -> None:
    path = tmp_path / "killed.mien"
    child = subprocess.Popen(
        [sys.executable, "-c", RECORDER, str(path), make_header().serialize().hex()],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    reported = 0
    for line in child.stdout:
        reported = int(line)
        if reported >= 500:
            break
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=20)
    child.stdout.close()
    with open_log(str(path)) as reader:
        messages = [r.data for r in reader.records() if isinstance(r, MessageRecord)]
        index = reader.index()
    assert len(messages) > reported
    assert messages == [n.to_bytes(4, "big") * 20 for n in range(len(messages))]
    assert not index.ended


def test_any_bytes() -> None:
    """Every record that is accepted has exactly the bytes that it was read from."""
    random_bytes = random.Random(1)
    accepted = 0
    for _ in range(3000):
        payload = random_bytes.randbytes(random_bytes.choice([0, 1, 2, 4, 5, 8, 9]))
        kind = random_bytes.randint(1, 4)
        if kind == 2 and payload:  # else a random count hardly ever fits
            payload = bytes([random_bytes.randint(0, 3), 0]) + bytes(b & 0x8F for b in payload[2:])
        data = (
            bytes([kind])
            + len(payload).to_bytes(2, "big")
            + random_bytes.randbytes(5).rjust(8, b"\0")
            + payload
        )
        data += zlib.crc32(data).to_bytes(4, "big")
        try:
            record = parse_record(data)
        except WireError:
            continue
        accepted += 1
        assert not isinstance(record, UnknownRecord)
        assert serialize_record(record) == data
    assert accepted > 500


@given(
    st.lists(
        st.tuples(st.integers(0, 1 << 40), st.one_of(st.none(), st.integers(0, (1 << 40) - 1))),
        min_size=1,
        max_size=40,
    )
)
def test_frames_round_trip(pairs: list[tuple[int, int | None]]) -> None:
    times = sorted(time for time, _ in pairs)
    record = FramesRecord(tuple(SourceFrame(t, tick) for t, (_, tick) in zip(times, pairs, strict=True)))
    assert parse_record(serialize_record(record)) == record
