"""Fuzzed: logs, their records, and what a player reads from those."""

import hashlib
import io
import zlib
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Final

from mien.bench.fuzz_samples import KNOWN_KEY, NOW_S, SIZE, avatar_file, messages, stream_header
from mien.bench.fuzz_target import Broken, Target, same
from mien.decoder.as_shown import ShownAgain
from mien.decoder.playout import Playout, PlayoutSettings
from mien.decoder.recording import read_recording
from mien.decoder.stage import AvatarEvent, RungEvent, StageEvent, ViewEvent
from mien.protocol.avatar import assemble
from mien.protocol.control import Rung
from mien.protocol.errors import WireError
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
)
from mien.protocol.log_records import CRC_BYTES, FRAME, UnknownRecord, parse_record, serialize_record


def log_header() -> LogHeader:
    return LogHeader(
        stream=stream_header(),
        origin=Origin.RECEIVED,
        source_rate=Fraction(60000, 1001),
        width=SIZE,
        height=SIZE,
        avatar_id=assemble(avatar_file(), now_unix_s=NOW_S).avatar_id,
        owner=hashlib.sha256(KNOWN_KEY.public_key).digest(),
        writer="mien 0.1.0",
        created_unix_s=NOW_S,
    )


@cache
def log_records() -> tuple[bytes, ...]:
    """One record of each kind, and a few more."""
    events = [
        EventRecord(0, EventKind.SETTINGS, PlayoutSettings().serialize()),
        EventRecord(1, EventKind.STREAM, replace(stream_header(), stream=2).serialize()),
        EventRecord(2, EventKind.RUNG, RungEvent(Rung.AVATAR).serialize()),
        EventRecord(3, EventKind.PICTURE, b"\1\2\3\4"),
        EventRecord(4, EventKind.END),
    ]
    frames = FramesRecord(tuple(SourceFrame(n * 16_683, None if n % 2 else n // 2) for n in range(12)))
    plain: list[Record] = [
        frames,
        MessageRecord(200_000, messages()[0]),
        RenderRecord(210_000, 7),
        RenderRecord(226_000),
    ]
    return tuple(serialize_record(r) for r in [*plain, *events])


@cache
def log_file() -> bytes:
    stream = io.BytesIO()
    writer = LogWriter(stream, log_header())
    for n, message in enumerate(messages()[:4:2]):
        writer.frames([SourceFrame(200_000 * n + 33_000 * i, 6 * n + i) for i in range(6)])
        writer.message(message, time_us=200_000 * (n + 1))
        writer.render(200_000 * (n + 1) + 5, state_crc=n)
    writer.event(EventKind.STREAM, replace(stream_header(), stream=2).serialize(), time_us=900_000)
    return stream.getvalue() + log_records()[-1]


def check_log_header(data: bytes) -> None:
    data = mend_crc(data)
    same(data, LogHeader.parse(data).serialize())


def mend_crc(data: bytes) -> bytes:
    """Return the bytes with the checksum that fits, so that what stands behind it is reached."""
    body = data[:-CRC_BYTES]
    return body + zlib.crc32(body).to_bytes(CRC_BYTES, "big")


def check_log_record(data: bytes) -> None:
    data = mend_crc(data)
    record = parse_record(data)
    if not isinstance(record, UnknownRecord):
        same(data, serialize_record(record))


def check_log_file(data: bytes) -> None:
    """What is read before the damage must be what was written."""
    reader = LogReader(io.BytesIO(data))
    read = b"".join(serialize_record(r) for r in reader.records())
    end = reader.damage.position if reader.damage else len(data)
    if not reader.unknown:
        same(data[reader.first_position : end], read)
    for segment in read_recording(reader).segments:
        frames = segment.source_frames()
        if [t for t, _ in frames] != sorted(t for t, _ in frames):
            raise Broken("the source's frames go back in time")
        if len(segment.track) and frames:
            segment.track.state_at(frames[-1][1])


def check_log_mended(data: bytes) -> None:
    """A log whose every record has a checksum that fits, so that the lookup behind it is reached."""
    check_log_file(mend_log(data))


def mend_log(data: bytes) -> bytes:
    """Return a good header, and the records behind where it was with checksums that fit."""
    at, out = log_header_size(), bytearray(log_header().serialize())
    data = bytes(out) + data[at:]
    while at + FRAME.size + CRC_BYTES <= len(data):
        size = FRAME.size + int.from_bytes(data[at + 1 : at + 3], "big") + CRC_BYTES
        record = data[at : at + size]
        out += mend_crc(record) if len(record) == size else record
        at += size
    return bytes(out)


def check_log_shown(data: bytes) -> None:
    """A received log with checksums that fit, repeated as shown."""
    reader = LogReader(io.BytesIO(mend_log(data)))
    for record in reader.records():
        if isinstance(record, EventRecord) and record.event == EventKind.VIEW:
            view = ViewEvent.parse(record.data)
            if max(view.width, view.height) > 4 * SIZE:
                raise WireError("a view too large to be drawn thousands of times")
    again = ShownAgain(reader, assemble(avatar_file(), now_unix_s=NOW_S), now_unix_s=NOW_S, backend="numpy")
    try:
        for picture in again.pictures():
            if picture.rgb.ndim != 3:
                raise Broken("a picture that is none")
    finally:
        again.close()


@cache
def shown_log() -> bytes:
    """A received log: view, avatar, rung, three messages and a few pictures."""
    whole = assemble(avatar_file(), now_unix_s=NOW_S)
    stream = io.BytesIO()
    writer = LogWriter(stream, log_header())
    writer.event(EventKind.SETTINGS, PlayoutSettings().serialize(), time_us=0)
    writer.event(EventKind.VIEW, ViewEvent(SIZE, SIZE, "numpy").serialize(), time_us=1)
    writer.event(EventKind.AVATAR, AvatarEvent.of(whole).serialize(), time_us=2)
    writer.event(EventKind.RUNG, RungEvent(Rung.AVATAR).serialize(), time_us=3)
    for n, message in enumerate(messages()[:3]):
        writer.message(message, time_us=200_000 * n)
        writer.render(200_000 * n + 100_000, state_crc=0)
    writer.event(EventKind.STREAM, replace(stream_header(), stream=2).serialize(), time_us=700_000)
    writer.render(800_000)
    return stream.getvalue()


@cache
def log_header_size() -> int:
    return len(log_header().serialize())


def check_settings(data: bytes) -> None:
    settings = PlayoutSettings.parse(data)
    if data[0] == PlayoutSettings.VERSION:  # an older one is read, and never written
        same(data, settings.serialize())
    playout = Playout(stream_header(), settings)
    playout.state_at(0)


def event_samples() -> list[bytes]:
    events: list[StageEvent] = [
        AvatarEvent(bytes(32), frozenset({0, 2})),
        RungEvent(Rung.STILL),
        ViewEvent(640, 480, "gl"),
    ]
    return [bytes([i]) + e.serialize() for i, e in enumerate(events)]


def check_event(data: bytes) -> None:
    if not data:
        raise WireError("no event")
    kind = (AvatarEvent, RungEvent, ViewEvent)[data[0] % 3]
    same(data[1:], kind.parse(data[1:]).serialize())


TARGETS: Final[tuple[Target, ...]] = (
    Target(
        "log-header", "log headers, checksum mended", lambda: [log_header().serialize()], check_log_header
    ),
    Target("log-record", "log records, checksum mended", lambda: list(log_records()), check_log_record),
    Target("log", "whole logs", lambda: [log_file()], check_log_file, 4),
    Target("log-mended", "whole logs, checksums mended", lambda: [log_file()], check_log_mended, 4),
    Target("log-shown", "received logs, as shown", lambda: [shown_log()], check_log_shown, 20),
    Target("settings", "playout settings", lambda: [PlayoutSettings().serialize()], check_settings),
    Target("event", "avatar, rung and view events", event_samples, check_event),
)
