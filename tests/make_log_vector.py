"""Writes tests/vectors/log-1.mien. Once a version of the format is released, its file is never made again.

python -m tests.make_log_vector
"""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from mien.protocol.codec import MessageEncoder
from mien.protocol.log import EventKind, LogHeader, LogWriter, Origin, SourceFrame
from mien.protocol.quantizer import Quality
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader
from tests.log_samples import AVATAR_ID
from tests.stream_samples import stream_header

VECTOR = Path(__file__).parent / "vectors" / "log-1.mien"


def synthetic_state(tick: int) -> FaceState:
    """Return waves, of nobody's face; every seventh tick is not tracked."""
    waves = 0.2 * np.sin(tick / 4 + np.arange(36))
    return FaceState.from_coefficients(waves.astype(np.float32), tracked=tick % 7 != 6)


def make_stream() -> StreamHeader:
    return stream_header(
        avatar_id=AVATAR_ID[:8],
        tick_rate=Fraction(25),
        unit_px=Fraction(1001, 16),
        width=320,
        height=240,
        rest_pose=(100, -50, 0, 7, -300, 20),
    )


def main() -> None:
    stream = make_stream()
    header = LogHeader(
        stream, Origin.SOURCE, Fraction(50), 320, 240, AVATAR_ID, bytes(range(32, 64)), "0.1.0"
    )
    with VECTOR.open("wb", buffering=0) as file:
        log = LogWriter(file, header)
        log.event(EventKind.SETTINGS, bytes([1]) + bytes(36), time_us=0)
        tick = 0
        for number, current in enumerate(
            [stream, replace(stream, stream=1, unit_px=Fraction(80), width=640)]
        ):
            encoder = MessageEncoder(current, quality=Quality(number + 1), frames_per_message=5)
            if number:
                log.event(EventKind.STREAM, current.serialize(), time_us=20_000 * 2 * tick)
            for _ in range(15):
                times = [20_000 * (2 * tick + i) for i in range(2)]
                message = encoder.push(tick, synthetic_state(tick))
                log.frames([SourceFrame(times[0], tick), SourceFrame(times[1], None)])
                if message is not None:
                    log.message(message, time_us=times[0])
                    log.render(times[1], state_crc=0xC0FFEE00 + tick)
                tick += 1
        log.event(EventKind.END, time_us=20_000 * 2 * tick)


if __name__ == "__main__":
    main()
