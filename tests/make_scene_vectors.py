"""Writes tests/vectors/scene-1.json: `python -m tests.make_scene_vectors`. Run once for a version.

Vectors of a released version are kept for ever. The pictures are made up: nobody is in them.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mien.encoder.scene_encoder import SceneEncoder
from mien.protocol.scene import SceneMessage, ScenePacker, SceneUnit
from tests.scene_samples import SIDE, TICK_RATE, moving_frame

OUTPUT = Path(__file__).parent / "vectors" / "scene-1.json"
STREAM = 3
PICTURES = 8
REFRESHED = 4
SMALL_MESSAGE = 150


def units() -> list[SceneUnit]:
    """Return a short stream whose middle unit is a refresh, ticks beginning just before 2^16."""
    encoder = SceneEncoder(width=SIDE, height=SIDE, tick_rate=TICK_RATE, kbps=5)
    out = []
    for number in range(PICTURES):
        if number == REFRESHED:
            encoder.refresh()
        tick = (1 << 16) - 12 + number * encoder.stride
        unit = encoder.encode(tick, *moving_frame(tick))
        assert unit is not None
        out.append(unit)
    encoder.close()
    return out


def row(unit: SceneUnit, messages: list[bytes]) -> dict[str, Any]:
    """Return a vector: a unit, and its messages with their fields."""
    fields = [asdict(SceneMessage.parse(m)) for m in messages]
    parts = [{"hex": m.hex(), **f, "data": len(f["data"])} for m, f in zip(messages, fields, strict=True)]
    return {**asdict(unit), "data": unit.data.hex(), "messages": parts}


def main() -> None:
    """Write the file."""
    packer = ScenePacker(STREAM)
    rows = [row(unit, packer.messages(unit, max_bytes=SMALL_MESSAGE)) for unit in units()]
    text = json.dumps({"version": 1, "max_bytes": SMALL_MESSAGE, "units": rows}, indent=1)
    OUTPUT.write_text(text + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
