"""Messages in packets of voice: the TypeScript twin and the Python implementation on the same damaged packets."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from mien.call.opus_padding import OpusFrames, put, take
from tests.test_web_codec import built, run

__all__ = ["built"]  # the fixture


def damaged_packets() -> list[bytes]:
    rng = np.random.default_rng(11)
    found = []
    for _ in range(400):
        sizes = rng.choice([0, 1, 5, 40, 251, 252, 300], int(rng.integers(1, 7)))
        frames = tuple(rng.bytes(int(size)) for size in sizes[: 4 if max(sizes) > 100 else 6])
        packet = OpusFrames(int(rng.choice([0x08, 0x0C, 0xF8])), frames).shortest()
        if len(packet) > 800:
            continue
        good = put(packet, rng.bytes(int(rng.choice([0, 1, 30, 251, 252, 300]))), voice=rng.random() < 0.8)
        at = int(rng.integers(min(8, len(good))))
        found += [
            good,
            good[:at] + rng.bytes(1) + good[at + 1 :],
            good[: int(rng.integers(len(good)))],
            good + rng.bytes(1),
        ]
    return found


def ours(packet: bytes) -> dict[str, Any] | None:
    taken = take(packet)
    if taken is None:
        return None
    voice = taken.voice
    return {
        "message": taken.message.hex(),
        "voice": voice.hex() if voice is not None else None,
        "again": put(voice, taken.message).hex() if voice is not None else None,
    }


def test_both_implementations_find_the_same(built: Path) -> None:
    packets = damaged_packets()
    tool = os.fspath(built / "tools" / "opus_padding_echo.js")
    result = run("node", tool, text="".join(f"{packet.hex()}\n" for packet in packets))
    assert result.returncode == 0, result.stderr[-2000:]
    theirs = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(theirs) == len(packets) > 1000
    mine = [ours(packet) for packet in packets]
    for packet, one, other in zip(packets, mine, theirs, strict=True):
        assert one == other, packet.hex()
    assert 300 < sum(one is None for one in mine) < len(mine) - 300
