"""Streams of nobody: a header that the shipped face model and tables can read, and motion to send in it."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.models.face_model import FaceModel
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader, TrackerId
from mien.protocol.tables import Tables


@cache
def _nobodys() -> StreamHeader:
    return StreamHeader(
        stream=0,
        tracker=TrackerId.FACE_LANDMARKER,
        model_id=FaceModel.load().model_id,
        tables_id=Tables.load().tables_id,
        avatar_id=bytes(8),
        tick_rate=Fraction(30),
        unit_px=Fraction(60),
        width=256,
        height=256,
    )


def stream_header(**changes: Any) -> StreamHeader:
    """Return the header of a stream of 256 x 256 at 30 Hz, with `changes` to its fields."""
    return replace(_nobodys(), **changes)


def vector_stream_header() -> StreamHeader:
    """Return the header that stands in `tests/vectors/coefficients-1.json`: every field has a value of its own."""
    return stream_header(
        stream=3,
        tracker=TrackerId.FACE_MESH,
        model_id=bytes(range(8)),
        avatar_id=bytes(range(8, 16)),
        tick_rate=Fraction(30000, 1001),
        unit_px=Fraction(1601, 16),
        width=640,
        height=480,
        rest_pose=(1, -2, 300, 0, -32768, 32767),
    )


def walk(frames: int, seed: int = 1) -> list[FaceState]:
    """Return a smooth random motion of a head that is not in the middle."""
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.normal(0, 0.004, (frames, 36)), axis=0).astype(np.float32)
    path[:, 4:6] += np.array([0.3, -0.8], np.float32)
    return [FaceState.from_coefficients(row) for row in path]


def table(states: Sequence[FaceState]) -> NDArray[np.float32]:
    """Return the coefficients of each state, float32 [states, 36]."""
    return np.array([s.coefficients() for s in states])
