"""Writes tests/vectors/opus-padding-1.json: `python -m tests.make_opus_padding_vectors`. Run once for a version.

Vectors of a released version are kept for ever. The packets are made up: nobody's voice is in them.
"""

import json
from pathlib import Path

import numpy as np

from mien.call.opus_padding import MAGIC, NO_VOICE, VERSION, put, take

OUTPUT = Path(__file__).parent / "vectors" / "opus-padding-1.json"
SILK_20_MS = 0x08  # TOC bytes, each with room for a code in its two low bits
SILK_60_MS = 0x18
CELT_20_MS = 0xF8


def noise(seed: int, count: int) -> bytes:
    """Return bytes that mean nothing."""
    return np.random.default_rng(seed).integers(0, 256, count).astype(np.uint8).tobytes()


def packets() -> dict[str, bytes]:
    """Return packets of every code, in the shortest form of their frames."""
    return {
        "one frame": bytes([SILK_60_MS]) + noise(1, 40),
        "nothing but a TOC": bytes([SILK_20_MS]),
        "one frame of one byte": bytes([SILK_20_MS, 0]),
        "a long frame": bytes([CELT_20_MS]) + noise(2, 700),
        "two frames of one length": bytes([SILK_60_MS | 1]) + noise(3, 60),
        "two empty frames": bytes([SILK_60_MS | 1]),
        "two frames of two lengths": bytes([SILK_60_MS | 2, 9]) + noise(4, 50),
        "two frames, the first one long": bytes([CELT_20_MS | 2, 253, 50]) + noise(5, 453 + 20),
        "two frames, the second one empty": bytes([SILK_60_MS | 2, 30]) + noise(6, 30),
        "six frames of one length": bytes([CELT_20_MS | 3, 6]) + noise(7, 6 * 30),
        "three frames of three lengths": bytes([SILK_20_MS | 3, 0x83, 20, 0]) + noise(8, 20 + 0 + 7),
        "lengths of one and two bytes": bytes([CELT_20_MS | 3, 0x84, 251, 252, 0, 255, 64]) + noise(9, 1019),
    }


def with_own_padding() -> dict[str, bytes]:
    """Return packets that are not in their shortest form."""
    frame = noise(10, 25)
    return {
        "padding of 10 zeros": bytes([SILK_20_MS | 3, 0x41, 10]) + frame + bytes(10),
        "padding of no bytes": bytes([SILK_20_MS | 3, 0x41, 0]) + frame,
        "padding of 254 bytes, the long way": bytes([SILK_20_MS | 3, 0x41, 255, 0]) + frame + bytes(254),
        "one frame as code 3": bytes([SILK_20_MS | 3, 0x01]) + frame,
        "frames of one length as if of two": bytes([SILK_20_MS | 3, 0x83, 2, 2]) + noise(11, 6),
    }


def messages() -> dict[str, bytes]:
    """Return messages of lengths at which something changes."""
    lengths = (0, 1, 33, 250, 251, 252, 253, 254, 400, 505, 506)
    return {f"{length} bytes": noise(100 + length, length) for length in lengths} | {"zeros": bytes(5)}


def puts() -> list[dict[str, object]]:
    """Return what goes in and the packet that comes of it."""
    found: list[dict[str, object]] = []

    def add(name: str, packet: bytes, message: bytes, *, voice: bool = True) -> None:
        padded = put(packet, message, voice=voice)
        taken = take(padded)
        assert taken is not None and taken.message == message
        found.append(
            {
                "name": name,
                "packet": packet.hex(),
                "message": message.hex(),
                "voice": voice,
                "padded": padded.hex(),
                "shortest": taken.voice.hex() if taken.voice is not None else None,
            }
        )

    message = noise(99, 30)
    for name, packet in (packets() | with_own_padding()).items():
        if len(packet) < 1000:
            add(name, packet, message)
    for name, data in messages().items():
        add(f"message: {name}", packets()["one frame"], data)
    add("no voice", packets()["nothing but a TOC"], message, voice=False)
    add("a message once more", put(packets()["one frame"], b"before"), message)
    return found


def without_message() -> dict[str, bytes]:
    """Return bytes in which there is no message for us."""
    frame, mark = noise(12, 25), MAGIC | VERSION << 1
    head = bytes([SILK_20_MS | 3])
    good = put(packets()["one frame"], b"message")
    return (
        packets()
        | with_own_padding()
        | {
            "no bytes": b"",
            "one guard byte": head + bytes([0x41, 3]) + frame + bytes([0, mark, 1]),
            "no guard byte": head + bytes([0x41, 2]) + frame + bytes([mark, 1]),
            "guard without a mark": head + bytes([0x41, 3]) + frame + bytes([0, 0, 1]),
            "a later version": head + bytes([0x41, 4]) + frame + bytes([0, 0, mark + 2, 1]),
            "an earlier version": head + bytes([0x41, 4]) + frame + bytes([0, 0, MAGIC, 1]),
            "padding longer than the packet": head + bytes([0x41, 200]) + frame + bytes([0, 0, mark, 1]),
            "padding longer than anything": head + bytes([0x41]) + b"\xff" * 1000,
            "no padding after its length": head + bytes([0x41, 4]),
            "code 3 without a count": head,
            "code 3 of no frames": head + bytes([0x40, 4, 0, 0, mark, 1]),
            "code 3 of 63 frames": head + bytes([0x7F, 4, 0, 0, mark, 1]),
            "more than 120 ms": bytes([SILK_60_MS | 3, 0x43, 4, 1, 2, 3, 0, 0, mark, 1]),
            "frames that do not divide": head + bytes([0x42, 4, 1, 2, 3, 0, 0, mark, 1]),
            "a frame longer than the packet": head + bytes([0xC2, 4, 200, 1, 2, 0, 0, mark, 1]),
            "a frame longer than 1275 bytes": head + bytes([0x41, 4]) + noise(13, 1276) + bytes([0, 0, mark, 1]),
            "half a length": head + bytes([0xC2, 0, 252]),
            "cut short": good[:-1],
            "no frame and half the padding": good[:3],
        }
    )  # fmt: skip


def with_other_guards() -> list[dict[str, object]]:
    """Return packets as another sender may write them: more guard bytes, more bytes of padding length."""
    frame, mark = noise(14, 25), MAGIC | VERSION << 1
    head = bytes([SILK_20_MS | 3])
    cases = {
        "five guard bytes": head + bytes([0x41, 8]) + frame + bytes([0] * 5 + [mark, 7, 8]),
        "padding of 254 bytes, the long way": head + bytes([0x41, 255, 0]) + frame + bytes(251) + bytes([mark, 7, 8]),
        "no voice and a frame": head + bytes([0x41, 5]) + frame + bytes([0, 0, mark | NO_VOICE, 7, 8]),
        "two frames of one length as if of two": head
        + bytes([0xC2, 5, 3]) + noise(15, 6) + bytes([0, 0, mark, 7, 8]),
    }  # fmt: skip
    found: list[dict[str, object]] = []
    for name, packet in cases.items():
        taken = take(packet)
        assert taken is not None and taken.message == bytes([7, 8]), name
        voice = taken.voice.hex() if taken.voice is not None else None
        found.append({"name": name, "packet": packet.hex(), "message": "0708", "shortest": voice})
    return found


def main() -> None:
    """Write the file."""
    no_message = without_message()
    assert all(take(packet) is None for packet in no_message.values())
    vectors = {
        "about": "a message in an Opus packet's padding, protocol/SPEC-carriers.md, version 1",
        "put": puts(),
        "take": with_other_guards(),
        "no_message": [{"name": name, "packet": packet.hex()} for name, packet in no_message.items()],
    }
    OUTPUT.write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
