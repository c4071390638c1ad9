"""Writes tests/vectors/coefficients-1.json: `python -m tests.make_codec_vectors`. Run once for a format version.

Vectors of a released version are kept for ever. All values are synthetic.
"""

import json
from pathlib import Path

import numpy as np

from mien.protocol.errors import WireError
from mien.protocol.message import CoefficientMessage, Extension, nothing_repeated
from mien.protocol.quantizer import MAX_VALUE
from mien.protocol.repeats import Repeats
from mien.protocol.tables import Tables
from tests.stream_samples import vector_stream_header

OUTPUT = Path(__file__).parent / "vectors" / "coefficients-1.json"


def walk(seed: int, frames: int, spread: float) -> np.ndarray:
    """Return a random walk of integers [frames, 36]: large pose and low coefficients, small high ones."""
    rng = np.random.default_rng(seed)
    sizes = spread * np.concatenate([np.full(6, 3.0), np.geomspace(8, 0.4, 30)])
    start = rng.laplace(0, 3 * sizes)
    steps = rng.laplace(0, np.maximum(0.2, 0.15 * sizes), (frames, 36))
    steps[0] = 0
    return np.clip(np.round(start + np.cumsum(steps, axis=0)), -MAX_VALUE, MAX_VALUE).astype(np.int16)


def message(
    values: np.ndarray,
    *,
    tracked: list[bool] | None = None,
    stream: int = 0,
    tick: int = 0,
    step: int = 1,
    extensions: tuple[Extension, ...] = (),
    repeats: Repeats | None = None,
    still: bool = False,
    short: bool = False,
) -> CoefficientMessage:
    """Return a message; untracked frames are made to repeat the one before."""
    flags = tracked or [True] * len(values)
    values = values.copy()
    for i, flag in enumerate(flags):
        if not flag:
            values[i] = values[i - 1] if i else 0
    repeated = nothing_repeated()
    if repeats:  # they go back in time from the first frame
        away = np.arange(1, repeats.count + 1)[:, None] * np.sign(np.arange(36) % 5 - 2)
        repeated = np.clip(values[0] + away, -MAX_VALUE, MAX_VALUE).astype(np.int16)
    return CoefficientMessage(
        stream, tick, step, values, tuple(flags), extensions, repeats, repeated, still, short
    )


def messages() -> dict[str, CoefficientMessage]:
    """Return the named cases."""
    zeros = np.zeros((1, 36), np.int16)
    extreme = np.full((4, 36), MAX_VALUE, np.int16)
    extreme[1::2] *= -1
    ladder = (np.arange(36) - 18).astype(np.int16)[None] * np.array([[1], [2], [3]], np.int16)
    escapes = np.zeros((3, 36), np.int16)
    escapes[1] = [s * m for m in (14, 15, 16, 17, 18, 21, 22, 29, 30, 77, 78, 1000, 1037, 2061, 2062, 4000, 4094, 4095)
                  for s in (1, -1)]  # fmt: skip
    lost = [True, False, False, True, True, False]
    cases = {
        "one neutral frame": message(zeros),
        "six still frames": message(np.zeros((6, 36), np.int16), tick=6),
        "ladder": message(ladder, tick=300, step=2),
        "escapes of every length": message(escapes, tick=65535),
        "largest values, alternating": message(extreme, step=0),
        "face lost and found": message(walk(5, 6, 1.0), tracked=lost, tick=1000),
        "starts untracked": message(walk(6, 5, 1.0), tracked=[False, False, True, True, True]),
        "no face at all": message(np.zeros((6, 36), np.int16), tracked=[False] * 6, tick=77),
        "one frame, no face": message(zeros, tracked=[False], stream=15),
        "extension": message(
            walk(7, 2, 1.0), extensions=(Extension(1, bytes(range(8))), Extension(200, b""))
        ),
        "longest extension": message(zeros, extensions=(Extension(9, bytes(253)),)),
        "sixteen frames": message(walk(8, 16, 2.0), stream=3, tick=40000),
        "one repeat": message(walk(30, 2, 1.0), repeats=Repeats(1)),
        "three repeats of the message before": message(walk(31, 6, 1.0), tick=12, repeats=Repeats(3)),
        "repeats with a lag": message(walk(32, 6, 1.0), tick=90, step=4, repeats=Repeats(3, lag=4)),
        "most repeats, most frames": message(
            walk(33, 16, 0.5), stream=9, tick=65530, repeats=Repeats(8, stride=4, lag=7)
        ),
        "repeats, then no face": message(walk(34, 3, 1.0), tracked=[True, False, True], repeats=Repeats(2)),
        "repeats and an extension": message(
            walk(35, 2, 1.0), repeats=Repeats(2, stride=3), extensions=(Extension(1, bytes(8)),)
        ),
        "short": message(walk(38, 6, 1.0), tick=511, stream=15, step=7, short=True),
        "short, one frame": message(walk(39, 1, 1.0), short=True),
        "short, most repeats, most frames": message(
            walk(40, 16, 0.5), tick=256, repeats=Repeats(8, stride=4, lag=7), short=True
        ),
        "still": message(walk(36, 1, 1.0), tick=700, step=2, still=True),
        "still without a face": message(zeros, tracked=[False], tick=701, still=True),
    }
    for step in range(8):
        cases[f"walk at step {step}"] = message(walk(20 + step, 6, 1.0), step=step, tick=6 * step)
    return cases


def refused() -> dict[str, bytes]:
    """Return byte strings that are no messages."""
    good = message(walk(9, 6, 1.0)).serialize()
    return {
        "empty": b"",
        "three bytes": good[:3],
        "wrong kind": bytes([good[0] ^ 0x90]) + good[1:],
        "short, two bytes": bytes([0x60, 0x50]),
        "short, repeats missing": bytes([0x70, 0x50, 0]),
        "still, but two frames": bytes([0x30]) + message(walk(37, 2, 1.0)).serialize()[1:],
        "repeats missing": bytes([0x20, 0x10, 0, 0]),
        "repeats behind a frame without a face": bytes([0x20, 0x10, 0, 0, 0x08])
        + message(np.zeros((1, 36), np.int16), tracked=[False]).serialize()[4:],
        "bytes too many": good + bytes([1] * 5),
        "zero at the end": good + b"\0",
        "extension without length": bytes([0x10, 0x90, 0, 0]),
        "extension of length 0": bytes([0x10, 0x90, 0, 0, 0]),
        "extension longer than the message": bytes([0x10, 0x90, 0, 0, 9, 1, 1]),
        "entry longer than the extension": bytes([0x10, 0x90, 0, 0, 3, 1, 5, 0, 0, 0, 0]),
        "half an entry": bytes([0x10, 0x90, 0, 0, 1, 1]),
        "too long": bytes([0x10, 0x1F, 0, 0]) + b"\xff" * 1097,
    }


def damaged() -> dict[str, bytes]:
    """Return bodies that no encoder writes and every decoder reads the same."""
    rng = np.random.default_rng(3)
    return {
        f"random body {i}": bytes([0x10, 0x15, 0, i])
        + rng.integers(1, 256, 12 + 8 * i).astype(np.uint8).tobytes()
        for i in range(6)
    } | {"all ones": bytes([0x10, 0x1F, 0, 0]) + b"\xff" * 200, "no body": bytes([0x10, 0x15, 0, 0])}


def tick_sequences() -> list[list[list[int]]]:
    """Return sequences of [u16 on the wire, tick that the receiver understands]."""
    return [
        [
            [65530, 65530],
            [0, 65536],
            [65533, 65533],
            [64, 65600],
            [32832, 98368],
            [65535, 131071],
            [1, 131073],
        ],
        [[5, 5], [65535, 65535], [65534, 65534]],
        [[40000, 40000], [39994, 39994], [7232, 72768], [40001, 40001]],
    ]


def entry(name: str, data: bytes) -> dict[str, object]:
    """Return what every decoder must say of `data`."""
    try:
        parsed = CoefficientMessage.parse(data)
    except WireError:
        return {"name": name, "hex": data.hex(), "refused": True}
    return {
        "name": name,
        "hex": data.hex(),
        "stream": parsed.stream,
        "first_tick": parsed.first_tick,
        "step_index": parsed.step_index,
        "still": parsed.still,
        "short": parsed.short,
        "repeated_ticks": list(parsed.repeats.offsets) if parsed.repeats else [],
        "tracked": [int(t) for t in parsed.tracked],
        "extensions": [[e.type, e.data.hex()] for e in parsed.extensions],
        "values": parsed.values.tolist(),
        "repeated": parsed.repeated.tolist(),
    }


def main() -> None:
    """Write the vectors."""
    tables = Tables.load()
    document = {
        "about": "canonical: an encoder writes exactly these bytes; damaged: every decoder says the same",
        "tables_id": tables.tables_id.hex(),
        "stream_header": vector_stream_header().serialize().hex(),
        "tick_sequences": tick_sequences(),
        "canonical": [entry(name, m.serialize()) for name, m in messages().items()],
        "damaged": [entry(name, data) for name, data in damaged().items()],
        "refused": [{"name": name, "hex": data.hex()} for name, data in refused().items()],
    }
    OUTPUT.write_text(json.dumps(document, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
