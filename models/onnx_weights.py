"""Reads and replaces the weights in an ONNX file without the package `onnx`: bytes at their places, nothing else.

Only what a file of our own needs: initializers of the main graph with their values in `raw_data`, as float32 or
float16. Replacing writes the same number of bytes at the same place, so the graph stays as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.protocol.errors import WireError

Floats = NDArray[np.float32]

# Protocol Buffers: fields of ModelProto, GraphProto and TensorProto (onnx.proto3), and the wire's types.
GRAPH: Final = 7
INITIALIZER: Final = 5
DIMS, DATA_TYPE, NAME, RAW_DATA = 1, 2, 8, 9
VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5
TYPES: Final[dict[int, np.dtype[np.floating]]] = {1: np.dtype("<f4"), 10: np.dtype("<f2")}


@dataclass(frozen=True, slots=True)
class Weights:
    """One array in a file: its values are `size` bytes at `offset`, of type `dtype`."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.floating]
    offset: int
    size: int

    def values(self, model: bytes) -> Floats:
        """Return the array, float32."""
        flat = np.frombuffer(model, self.dtype, count=prod(self.shape), offset=self.offset)
        return flat.reshape(self.shape).astype(np.float32)


def weights_of(model: bytes) -> dict[str, Weights]:
    """Return the arrays of float32 and float16 in an ONNX file, by name. Raises `WireError` where it is none."""
    found: dict[str, Weights] = {}
    for number, _, start, end in _fields(model, 0, len(model)):
        if number == GRAPH:
            for inner, _, first, last in _fields(model, start, end):
                if inner == INITIALIZER:
                    found |= _tensor(model, first, last)
    if not found:
        raise WireError("the file holds no weights: it is no ONNX file, or not one of ours")
    return found


def with_added(model: bytes, changes: Mapping[str, Floats]) -> bytes:
    """Return an ONNX file with something added to arrays of these names, rounded to the type that they have.

    Raises `WireError` for a name that the file has not, another shape, or a result that is not finite.
    """
    there = weights_of(model)
    out = bytearray(model)
    for name, change in changes.items():
        weights = there.get(name)
        if weights is None or weights.shape != change.shape:
            has = "none of that name" if weights is None else f"one of {weights.shape}"
            raise WireError(
                f"a change of {name:.60} with the shape {change.shape}, but the network has {has}"
            )
        with np.errstate(over="ignore"):  # what overflows is refused below
            values = np.asarray(weights.values(model) + change, weights.dtype)
        if not np.isfinite(values).all():
            raise WireError(f"a change of {name:.60} makes weights that are not finite")
        out[weights.offset : weights.offset + weights.size] = values.tobytes()
    return bytes(out)


def _tensor(model: bytes, start: int, end: int) -> dict[str, Weights]:
    """Return {name: weights} of a TensorProto; nothing for another type, or values that are kept otherwise."""
    name, kind, dims, raw = "", 0, list[int](), (0, 0)
    for number, wire, first, last in _fields(model, start, end):
        if number == NAME and wire == BYTES:
            name = model[first:last].decode("utf-8", "replace")
        elif number == DATA_TYPE and wire == VARINT:
            kind, _ = _varint(model, first, last)
        elif number == DIMS and wire == VARINT:
            dims.append(_varint(model, first, last)[0])
        elif number == DIMS and wire == BYTES:  # packed
            while first < last:
                value, first = _varint(model, first, last)
                dims.append(value)
        elif number == RAW_DATA and wire == BYTES:
            raw = (first, last - first)
    dtype = TYPES.get(kind)
    if dtype is None or not name or raw[1] == 0 or raw[1] != prod(dims) * dtype.itemsize:
        return {}
    return {name: Weights(tuple(dims), dtype, *raw)}


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Give (number, wire type, first byte, end) of each field of a message."""
    at = start
    while at < end:
        key, at = _varint(data, at, end)
        wire = key & 7
        if wire == VARINT:
            _, after = _varint(data, at, end)
        elif wire == BYTES:
            size, at = _varint(data, at, end)
            after = at + size
        elif wire in (FIXED_32, FIXED_64):
            after = at + (4 if wire == FIXED_32 else 8)
        else:
            raise WireError(f"the file has a field of the wire type {wire}: it is no ONNX file")
        if after > end:
            raise WireError("the ONNX file ends early")
        yield key >> 3, wire, at, after
        at = after


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise WireError("the ONNX file holds a number that does not end")
