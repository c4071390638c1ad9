"""The second implementation of the coefficient codec, in TypeScript: its own tests, and both on the same bytes.

Needs node and npm; the compiler comes from the npm registry once (`npm ci` in web/).
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.protocol.codec import MessageDecoder
from mien.protocol.errors import WireError
from mien.protocol.message import CoefficientMessage, Extension, nothing_repeated
from mien.protocol.quantizer import from_steps
from mien.protocol.repeats import Repeats
from mien.protocol.stream import StreamHeader

WEB = Path(__file__).parent.parent / "web"
VECTORS = Path(__file__).parent / "vectors" / "coefficients-1.json"
MIN_NODE = 20
REST_THOUSANDTHS = (-31, 250, 7, 1, -32768, 32767)  # as in web/tools/echo.ts


def run(*command: str, seconds: int = 60, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=WEB, input=text, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.fixture(scope="module")
def built() -> Path:
    """Compile web/ and return the folder of the JavaScript. Skips where that cannot be done."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    version = run("node", "--version").stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < MIN_NODE:
        pytest.skip(f"node is {version}, at least {MIN_NODE} is needed")
    compiler = WEB / "node_modules" / ".bin" / "tsc"
    if not compiler.exists():
        try:
            installed = run("npm", "ci", "--no-audit", "--no-fund", seconds=60)
        except subprocess.TimeoutExpired:
            pytest.skip("npm ci did not end within 60 s: no registry in reach")
        if installed.returncode != 0:
            pytest.skip(f"npm ci failed: {installed.stderr.strip()[-300:]}")
    compiled = run(os.fspath(compiler), "-p", "tsconfig.json")
    assert compiled.returncode == 0, compiled.stdout
    return WEB / "dist"


def test_the_twins_own_tests(built: Path) -> None:
    files = sorted(os.fspath(path) for path in (built / "test").glob("*.test.js"))
    assert files
    result = run("node", "--test", *files)
    assert result.returncode == 0, result.stdout[-4000:]
    assert "# pass 0" not in result.stdout


def random_message(rng: np.random.Generator) -> CoefficientMessage:
    """Anything between a still face and noise: small, large and extreme residuals, with and without a face."""
    repeats = Repeats.unpack(int(rng.integers(256))) if rng.random() < 0.3 else None
    still = repeats is None and rng.random() < 0.1
    frames = 1 if still else int(rng.integers(1, 17))
    tracked = tuple(bool(t) for t in rng.random(frames) > rng.choice([0.0, 0.2, 0.7]))
    tracked = (tracked[0] or repeats is not None, *tracked[1:])
    spread = rng.choice([0.3, 2.0, 9.0, 60.0, 3000.0]) if frames <= 6 else rng.choice([0.3, 2.0, 5.0])
    values = np.clip(np.round(np.cumsum(rng.normal(0, spread, (frames, 36)), axis=0)), -4095, 4095)
    before = np.zeros(36)
    for index in range(frames):
        if not tracked[index]:
            values[index] = before
        before = values[index]
    extensions = tuple(
        Extension(int(rng.integers(256)), rng.bytes(int(rng.integers(20))))
        for _ in range(int(rng.integers(3)))
    )
    short = not still and not extensions
    return CoefficientMessage(
        stream=int(rng.integers(16)),
        first_tick=int(rng.integers(512 if short else 65536)),
        step_index=int(rng.integers(8)),
        values=values.astype(np.int16),
        tracked=tracked,
        extensions=extensions,
        repeats=repeats,
        repeated=values[0].astype(np.int16) + rng.integers(-2, 3, (repeats.count, 36), np.int16)
        if repeats
        else nothing_repeated(),
        still=still,
        short=short,
    )


def ours(data: bytes) -> dict[str, Any]:
    """What the Python implementation makes of the bytes, in the words of web/tools/echo.ts."""
    try:
        message = CoefficientMessage.parse(data)
    except WireError:
        return {}
    return {
        "stream": message.stream,
        "first_tick": message.first_tick,
        "step_index": message.step_index,
        "still": message.still,
        "short": message.short,
        "repeats": [list(message.repeats.offsets), message.repeated.tolist()] if message.repeats else None,
        "tracked": [int(t) for t in message.tracked],
        "values": message.values.tolist(),
        "extensions": [[e.type, e.data.hex()] for e in message.extensions],
        "coefficients": from_steps(message.values, REST_THOUSANDTHS, message.step_index).tolist(),
        "encoded": message.serialize().hex(),
    }


def test_both_implementations_agree(built: Path) -> None:
    """On messages from our encoder, and on the same messages damaged: fields, floats and bytes."""
    rng = np.random.default_rng(7)
    messages: list[bytes] = []
    while len(messages) < 600:
        try:
            data = random_message(rng).serialize()
        except WireError:  # longer than a message may be
            continue
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data)))] = int(rng.integers(256))
        messages += [data, bytes(damaged), data[: int(rng.integers(len(data)))]]
    result = run(
        "node", os.fspath(built / "tools" / "echo.js"), text="".join(f"{m.hex()}\n" for m in messages)
    )
    assert result.returncode == 0, result.stderr[-2000:]
    theirs = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(theirs) == len(messages)
    refused = 0
    for data, their in zip(messages, theirs, strict=True):
        mine = ours(data)
        if not mine:
            assert "error" in their, data.hex()
            refused += 1
        else:
            assert their == mine, data.hex()
    assert 50 < refused < 400


@pytest.mark.parametrize(
    ("newest", "low", "tick"),
    [  # as in web/test/codec.test.ts
        (65535, 0, 65536),
        (65536, 65535, 65535),
        (65536, 32768, 65536 + 32768),  # 32768 away counts as forward
        (65536, 32769, 32769),
        (3, 40000, 40000),  # never below 0
        (3 * 65536 + 9, 5, 3 * 65536 + 5),
    ],
)
def test_ticks_get_the_same_high_bits(newest: int, low: int, tick: int) -> None:
    header = StreamHeader.parse(bytes.fromhex(json.loads(VECTORS.read_text())["stream_header"]))
    decoder = MessageDecoder(header)
    values = np.zeros((1, 36), np.int16)

    def decode(first_tick: int) -> int:
        message = CoefficientMessage(header.stream, first_tick % 65536, 1, values, (True,))
        return decoder.decode(message.serialize()).first_tick

    for step in [*range(0, newest, 30_000), newest]:
        decode(step)
    assert decode(low) == tick
