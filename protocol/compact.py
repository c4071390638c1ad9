"""Compact coding of meshes and landmarks in an avatar: integers, an affine prediction, bounded zlib."""

import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.protocol.errors import WireError
from mien.protocol.state import LANDMARK_COUNT

NEUTRAL_STEPS: Final = (
    1024  # per model unit: an error of .03 % of the inter-pupil distance, below tracker jitter
)


class ByteReader:
    """Takes fields off the front of bytes. Every method raises `WireError` where they end too early."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = memoryview(data)
        self._what = what

    def take(self, size: int) -> memoryview:
        """Return the next `size` bytes."""
        if size > len(self._data):
            raise WireError(f"{self._what} ends early: {size} bytes expected, {len(self._data)} left")
        head, self._data = self._data[:size], self._data[size:]
        return head

    def u8(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Return the next big-endian 16-bit number."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """Return the next big-endian 32-bit number."""
        return int.from_bytes(self.take(4), "big")

    def rest(self) -> memoryview:
        """Return all that is left."""
        return self.take(len(self._data))

    def finish(self) -> None:
        """Raise `WireError` if anything is left."""
        if len(self._data):
            raise WireError(f"{self._what} has {len(self._data)} bytes too many")


def deflate_planes(values: NDArray[np.int64]) -> bytes:
    """Return zlib of int [rows, columns]: zigzag, column after column, first all high bytes, then all low ones.

    Raises `WireError` for a value outside int16.
    """
    if values.ndim != 2 or not values.size or np.abs(values).max() > 32767:
        raise WireError(f"values of shape {values.shape}, expected a table within int16")
    zigzag = np.where(values < 0, -2 * values - 1, 2 * values).T.astype(">u2")
    return zlib.compress(zigzag.reshape(-1).view(np.uint8).reshape(-1, 2).T.tobytes(), 9)


def inflate_planes(data: bytes | memoryview, what: str, *, rows: int, columns: int) -> NDArray[np.int64]:
    """Undo `deflate_planes`; never holds more than the bytes that such a table has. Raises `WireError`."""
    size = 2 * rows * columns
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise WireError(f"{what} cannot be decompressed: {error!s:.60}") from None
    if len(raw) != size or not inflater.eof or inflater.unused_data:
        raise WireError(f"{what} does not decompress to {size} bytes")
    planes = np.frombuffer(raw, np.uint8).reshape(2, columns, rows).astype(np.int64)
    zigzag = (planes[0] << 8 | planes[1]).T
    values: NDArray[np.int64] = (zigzag >> 1) ^ -(zigzag & 1)
    return values


def deflate_mesh(values: NDArray[np.int64]) -> bytes:
    """Return `deflate_planes` of int [478, 3]. Raises `WireError` for another shape or a value outside int16."""
    if values.shape != (LANDMARK_COUNT, 3):
        raise WireError(f"a mesh of shape {values.shape}, expected (478, 3)")
    return deflate_planes(values)


def inflate_mesh(data: bytes | memoryview, what: str) -> NDArray[np.int64]:
    """Undo `deflate_mesh`. Raises `WireError`."""
    return inflate_planes(data, what, rows=LANDMARK_COUNT, columns=3)


def row_differences(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each row less the one before, wrapped into int16 but for -32768, which `values` must not need.

    Neighbouring rows of a smooth table hardly differ, so the differences compress.
    """
    steps = np.diff(values, axis=0, prepend=0)
    return np.asarray((steps + 32767) % 65535 - 32767, np.int64)


def sum_rows(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Undo `row_differences` of a table within +-32767."""
    return np.asarray((np.cumsum(steps, axis=0) + 32767) % 65535 - 32767, np.int64)


def quantise_neutral(neutral: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return a neutral face in steps of 1/1024 unit, int [478, 3]. Raises `WireError` if it is not one."""
    if neutral.shape != (LANDMARK_COUNT, 3) or not np.isfinite(neutral).all() or np.abs(neutral).max() > 4:
        raise WireError(f"neutral of shape {neutral.shape}, expected (478, 3), finite, within 4 units")
    return np.rint(neutral.astype(np.float64) * NEUTRAL_STEPS).astype(np.int64)


def dequantise_neutral(neutral: NDArray[np.int64]) -> NDArray[np.float32]:
    """Undo `quantise_neutral`, float32 [478, 3]."""
    return (neutral / NEUTRAL_STEPS).astype(np.float32)


def prediction_for(landmarks: NDArray[np.float32], neutral: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the affine map from neutral to landmarks, least squares: int [3, 4] in 1/256 px per unit and 1/256 px.

    Raises `WireError` for landmarks that are not finite or far too large.
    """
    if (
        landmarks.shape != (LANDMARK_COUNT, 3)
        or not np.isfinite(landmarks).all()
        or np.abs(landmarks).max() > 4096
    ):
        raise WireError(f"landmarks of shape {landmarks.shape}, expected (478, 3), finite, within 4096 px")
    points = np.c_[neutral / NEUTRAL_STEPS, np.ones(LANDMARK_COUNT)]
    affine = np.linalg.lstsq(points, landmarks.astype(np.float64), rcond=None)[0].T
    return np.rint(np.clip(affine * 256, -(1 << 24), 1 << 24)).astype(np.int64)


def predict_landmarks(prediction: NDArray[np.int64], neutral: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the predicted landmarks in 1/8 px, int [478, 3]. Integers only: all implementations agree.

    With |prediction| <= 2^24 and |neutral| <= 2^12 no sum passes 2^39, which a double holds exactly as well.
    """
    total: NDArray[np.int64] = neutral @ prediction[:, :3].T + (prediction[:, 3] << 10)
    return (total + (1 << 14)) >> 15
