"""The coefficient log (`.mien`): an append-only file of the bytes that crossed the wire, and when.

A header (`LogHeader`), then records, each framed by kind, length, time and CRC-32 (`log_records`):

    +--------+----------+----------+----------+-- ...
    | header | record 0 | record 1 | record 2 |
    +--------+----------+----------+----------+-- ...

A record is written with one system call, so a recorder that is killed loses at most the one that it was
writing. A reader gives every record up to the first byte that is not what the format says and then tells, in
`LogReader.damage`, where that is. It does not search for later records: after a hole nothing says that what
follows was shown as it reads. Messages decode alone, so any record of an index is a place to start.

A log is personal data (it is how a face moved): files are made readable by their owner only.
"""

import bisect
import os
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Final, Self

import numpy as np
from numpy.typing import NDArray

from mien.protocol.errors import MienError, WireError
from mien.protocol.log_records import (
    CRC_BYTES,
    FRAME,
    MAX_FRAMES_PER_RECORD,
    EventKind,
    EventRecord,
    FramesRecord,
    LogHeader,
    MessageRecord,
    Origin,
    Record,
    RecordKind,
    RenderRecord,
    SourceFrame,
    UnknownRecord,
    owner_digest,
    parse_record,
    payload_size,
    serialize_record,
)

__all__ = [
    "Damage",
    "EventKind",
    "EventRecord",
    "FramesRecord",
    "LogHeader",
    "LogIndex",
    "LogReader",
    "LogWriter",
    "MessageRecord",
    "Origin",
    "Record",
    "RecordKind",
    "RenderRecord",
    "SourceFrame",
    "open_log",
    "owner_digest",
    "picture_crc",
]


def picture_crc(rgb: NDArray[np.uint8]) -> int:
    """Return the CRC-32 of a picture's bytes, row by row."""
    return zlib.crc32(np.ascontiguousarray(rgb).data)


class LogWriter:
    """Appends records to a file. Times are integer microseconds, not negative, on the clock of the log's origin."""

    def __init__(self, stream: BinaryIO, header: LogHeader) -> None:
        """Write the header. `stream` should be unbuffered: a record is safe once `write` has returned."""
        self.header = header
        self._stream = stream
        self._last_time_us = 0
        self._write(header.serialize())

    @classmethod
    def create(cls, path: str, header: LogHeader) -> Self:
        """Make (or replace) the file at `path`, readable by its owner only. Raises `MienError`."""
        try:
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600
            )
        except OSError as error:
            raise MienError(f"cannot write {path}: {error.strerror}") from error
        return cls(os.fdopen(descriptor, "wb", buffering=0), header)

    def message(self, data: bytes, *, time_us: int) -> None:
        """Append a coefficient message."""
        self.append(MessageRecord(time_us, data))

    def frames(self, frames: list[SourceFrame]) -> None:
        """Append frames of the source."""
        for first in range(0, len(frames), MAX_FRAMES_PER_RECORD):
            self.append(FramesRecord(tuple(frames[first : first + MAX_FRAMES_PER_RECORD])))

    def render(self, time_us: int, *, state_crc: int | None = None) -> None:
        """Append that a state was asked for."""
        self.append(RenderRecord(time_us, state_crc))

    def picture(self, rgb: NDArray[np.uint8], *, time_us: int) -> None:
        """Append the checksum of the picture that was shown for the latest render record."""
        self.event(EventKind.PICTURE, picture_crc(rgb).to_bytes(4, "big"), time_us=time_us)

    def event(self, kind: EventKind, data: bytes = b"", *, time_us: int) -> None:
        """Append an event."""
        self.append(EventRecord(time_us, kind, data))

    def append(self, record: Record) -> None:
        """Append any record."""
        self._write(serialize_record(record))
        self._last_time_us = max(self._last_time_us, record.time_us)

    def close(self) -> None:
        """Write the end mark, so that a reader knows that nothing is missing, and close the file."""
        if not self._stream.closed:
            self.event(EventKind.END, time_us=self._last_time_us)
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the log; one that an error broke off stays without its end mark."""
        if error is None:
            self.close()
        else:
            self._stream.close()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._stream.write(rest) :]


@dataclass(frozen=True, slots=True)
class Damage:
    """Where a log stops being one."""

    position: int  # of the first byte that could not be read, from the file's start
    lost_bytes: int  # from there to the file's end
    reason: str

    def __str__(self) -> str:
        return f"{self.reason}: the last {self.lost_bytes} bytes, from byte {self.position} on, were left out"


@dataclass(slots=True)
class LogIndex:
    """What one pass over a log finds: counts, and where each message stands."""

    messages: int = 0
    message_bytes: int = 0
    frames: int = 0
    renders: int = 0
    events: int = 0
    unknown: int = 0
    ended: bool = False  # the recorder finished
    damage: Damage | None = None
    times_us: "array[int]" = field(default_factory=lambda: array("Q"))  # of messages, largest so far
    positions: "array[int]" = field(default_factory=lambda: array("Q"))  # of the same messages

    def position_at(self, time_us: int) -> int | None:
        """Return where the first message at or after a time stands, for `LogReader.records`; None: none is."""
        at = bisect.bisect_left(self.times_us, time_us)
        return self.positions[at] if at < len(self.positions) else None


class LogReader:
    """Reads a log from a seekable stream. Raises `WireError` when even the header cannot be read.

    After `records` has run out, `damage` says whether that was the file's proper end, and `unknown` counts
    records of kinds that this version does not know.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        head = stream.read(LogHeader.FIXED.size)
        head += stream.read(LogHeader.size_in(head) - len(head))
        self.header = LogHeader.parse(head)
        self.first_position: Final = len(head)
        self.damage: Damage | None = None
        self.unknown = 0
        self.position = self.first_position  # of the record that `records` gave last

    def records(self, *, position: int | None = None) -> Iterator[Record]:
        """Give the records from `position` (one of an index's, or None: the first) up to the end or the damage."""
        self.damage, self.unknown = None, 0
        at = self.first_position if position is None else position
        ended = False
        while True:
            self._stream.seek(at)
            try:
                data = self._read_record(ended)
                if not data:
                    return
                record = parse_record(data)
            except WireError as error:
                size = self._stream.seek(0, os.SEEK_END)
                self.damage = Damage(at, max(size - at, 0), str(error))
                return
            self.position = at
            at += len(data)
            if isinstance(record, UnknownRecord):
                self.unknown += 1
                continue
            ended = isinstance(record, EventRecord) and record.event == EventKind.END
            yield record

    def index(self) -> LogIndex:
        """Read the whole log once and say what is in it."""
        index = LogIndex()
        for record in self.records():
            index.ended = isinstance(record, EventRecord) and record.event == EventKind.END
            match record:
                case MessageRecord():
                    index.messages += 1
                    index.message_bytes += len(record.data)
                    # Times of a receiver's clock can step back; the largest so far keeps the list sorted.
                    index.times_us.append(max(record.time_us, index.times_us[-1] if index.times_us else 0))
                    index.positions.append(self.position)
                case FramesRecord():
                    index.frames += len(record.frames)
                case RenderRecord():
                    index.renders += 1
                case EventRecord():
                    index.events += 1
        index.unknown, index.damage = self.unknown, self.damage
        return index

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_record(self, ended: bool) -> bytes:
        """Return the bytes of the record at the stream's position; b"" at the file's end."""
        frame = self._stream.read(FRAME.size)
        if not frame:
            return b""
        if ended:
            raise WireError("there are bytes after the end mark")
        if len(frame) < FRAME.size:
            raise WireError("the file ends inside a record")
        rest_size = payload_size(frame) + CRC_BYTES
        rest = self._stream.read(rest_size)
        if len(rest) < rest_size:
            raise WireError("the file ends inside a record")
        return frame + rest


def open_log(path: str) -> LogReader:
    """Open the log at `path`. Raises `MienError` for a file that cannot be read, `WireError` for one that is no log."""
    try:
        stream = open(path, "rb")  # noqa: SIM115  # the reader closes it
    except OSError as error:
        raise MienError(f"cannot read {path}: {error.strerror}") from error
    try:
        return LogReader(stream)
    except WireError as error:
        stream.close()
        raise WireError(f"{path}: {error}") from error
    except OSError as error:  # a folder, for one
        stream.close()
        raise MienError(f"cannot read {path}: {error.strerror}") from error
