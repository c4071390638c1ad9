"""Logs of nobody: a header to write one with."""

import io
from fractions import Fraction
from typing import Any, Final

from mien.protocol.log import LogHeader, LogWriter, Origin
from mien.protocol.stream import StreamHeader

AVATAR_ID: Final = bytes(range(32))


def log_header(stream: StreamHeader, **changes: Any) -> LogHeader:
    """Return the header of a log of a stream that came from somewhere, with `changes` to its fields."""
    fields: dict[str, Any] = {
        "stream": stream,
        "origin": Origin.RECEIVED,
        "source_rate": Fraction(30),
        "width": stream.width,
        "height": stream.height,
        "avatar_id": 4 * stream.avatar_id,  # whole: a stream names the first 8 bytes
        "owner": b"o" * 32,
        "writer": "0.1.0",
    }
    return LogHeader(**(fields | changes))


def open_memory_log(stream: StreamHeader, **changes: Any) -> tuple[io.BytesIO, LogWriter]:
    """Return a log in memory and its writer, the header written."""
    file = io.BytesIO()
    return file, LogWriter(file, log_header(stream, **changes))
