"""What the bench says about the codec's cost: that it measures what it says, never how long it took."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from mien.bench.speed import measure_codec
from mien.call.incoming import placeholder
from mien.protocol.codec import MessageDecoder
from mien.protocol.state import FaceState


def moving(frames: int) -> list[FaceState]:
    walk = np.cumsum(np.random.default_rng(1).normal(0, 0.004, (frames, 36)), 0).astype(np.float32)
    return [FaceState.from_coefficients(row) for row in walk]


def test_both_ways_of_coding_are_measured() -> None:
    cost = measure_codec(placeholder(), moving(30), passes=1)
    assert cost.frames == 30
    assert cost.encode_ms > 0 and cost.decode_ms > 0
    assert cost.codec_ms == pytest.approx(cost.encode_ms + cost.decode_ms, abs=0.002)
    assert 2 < cost.search_saves_percent < 40  # chosen residuals take fewer bytes than rounded ones
    assert json.loads(json.dumps(asdict(cost)))["frames"] == 30


def test_every_frame_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 14 frames two full messages and a rest; all of them go through the decoder."""
    decoded: list[int] = []
    decode = MessageDecoder.decode

    def counting(self: MessageDecoder, data: bytes) -> object:
        batch = decode(self, data)
        decoded.append(len(batch.states))
        return batch

    monkeypatch.setattr(MessageDecoder, "decode", counting)
    measure_codec(placeholder(), moving(14), passes=1)
    assert decoded == [6, 6, 2]


def test_nothing_costs_nothing() -> None:
    assert measure_codec(placeholder(), [], passes=1).frames == 0
