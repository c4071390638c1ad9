"""A message in an Opus packet's padding: the bytes, what hostile bytes do, and that nobody hears it."""

import ctypes
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mien.call.opus import FRAMES_MS, RATE_HZ, OpusEncoder, VoiceSettings, empty_packet
from mien.call.opus_padding import (
    MAGIC,
    MAX_CARRIER_BYTES,
    MAX_OVERHEAD_BYTES,
    NO_VOICE,
    VERSION,
    OpusFrames,
    overhead_bytes,
    put,
    take,
)
from mien.protocol.errors import WireError
from tests.voice_samples import speech

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "opus-padding-1.json").read_text())
KBPS = (6, 8, 12, 24)


def named(cases: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", VECTORS[cases], ids=lambda case: case["name"])


# --- the bytes ------------------------------------------------------------------------------------------------


def test_the_bytes_of_one_packet() -> None:
    packet = bytes.fromhex("18 0a0b0c")  # one frame of 60 ms, three bytes
    padded = bytes.fromhex("1b 41 06 0a0b0c 0000 d2 010203")  # code 3, one frame, 6 bytes of padding
    assert put(packet, b"\1\2\3") == padded
    taken = take(padded)
    assert taken is not None and (taken.voice, taken.message) == (packet, b"\1\2\3")
    assert overhead_bytes(packet, b"\1\2\3") == 3 + 5


def test_a_packet_without_voice() -> None:
    padded = put(b"\x08", b"m", voice=False)
    assert padded == bytes.fromhex("0b 41 04 0000 d3 6d")
    taken = take(padded)
    assert taken is not None and taken.voice is None and taken.message == b"m"


@named("put")
def test_vectors_of_messages_put_in(case: dict[str, Any]) -> None:
    message = bytes.fromhex(case["message"])
    assert put(bytes.fromhex(case["packet"]), message, voice=case["voice"]).hex() == case["padded"]
    taken = take(bytes.fromhex(case["padded"]))
    assert taken is not None and taken.message == message
    assert (taken.voice.hex() if taken.voice is not None else None) == case["shortest"]


@named("take")
def test_vectors_of_messages_taken_out(case: dict[str, Any]) -> None:
    taken = take(bytes.fromhex(case["packet"]))
    assert taken is not None and taken.message.hex() == case["message"]
    assert (taken.voice.hex() if taken.voice is not None else None) == case["shortest"]


@named("no_message")
def test_vectors_of_packets_without_a_message(case: dict[str, Any]) -> None:
    assert take(bytes.fromhex(case["packet"])) is None


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        ("", "an Opus packet of 0 bytes, expected 1 to 7650"),
        ("0b", "ends before its number of frames"),
        ("0b 40", "a packet of 0 ms|of 0 ms"),
        ("1b 43 000000", "of 180 ms"),
        ("0b 41 ff", "ends inside its padding's length"),
        ("0b 41 05 00", "padding of 5 bytes is longer than the packet"),
        ("09 00", "1 bytes are not 2 Opus frames of one length"),
        ("0a", "ends inside a frame's length"),
        ("0a fc", "ends inside a frame's length"),
        ("0a 02 01", "a frame of 2 bytes|frame of 2 bytes is longer than the packet"),
        ("08" + 1276 * "00", "an Opus frame of more than 1275 bytes"),
    ],
)
def test_what_is_no_opus_packet_gets_no_message(packet: str, error: str) -> None:
    with pytest.raises(WireError, match=error):
        put(bytes.fromhex(packet), b"message")


def test_a_packet_with_a_message_fits_into_a_datagram() -> None:
    assert len(put(b"\x08", bytes(1190))) == MAX_CARRIER_BYTES
    with pytest.raises(WireError, match="1201 bytes with the message, expected at most 1200"):
        put(b"\x08", bytes(1191))


# --- any bytes ------------------------------------------------------------------------------------------------


frames = st.lists(st.binary(max_size=300), min_size=1, max_size=6)


@given(
    frames=frames, message=st.binary(max_size=600), voice=st.booleans(), toc=st.sampled_from([8, 12, 0xF8])
)
def test_any_frames_come_out_as_they_went_in(
    frames: list[bytes], message: bytes, voice: bool, toc: int
) -> None:
    packet = OpusFrames(toc, tuple(frames)).shortest()
    try:
        padded = put(packet, message, voice=voice)
    except WireError:
        assert len(packet) + len(message) > MAX_CARRIER_BYTES - 16
        return
    taken = take(padded)
    assert taken is not None
    assert (taken.message, taken.voice) == (message, packet if voice else None)
    assert len(padded) <= len(packet) + len(message) + MAX_OVERHEAD_BYTES
    assert take(packet) is None


head = st.sampled_from([b"", b"\x0b\x41", b"\x0b\x41\xff", b"\x1b\xc2\x05\x03", b"\x0b\x41\x04"])
tail = st.sampled_from(
    [b"", bytes([0, 0, MAGIC | VERSION << 1]), bytes([0, 0, MAGIC | VERSION << 1 | NO_VOICE, 5])]
)


@given(head, st.binary(max_size=400), tail)
@example(b"\x0b\x41", b"\xff" * 400, b"")
def test_hostile_bytes_never_raise(head: bytes, middle: bytes, tail: bytes) -> None:
    data = head + middle + tail
    taken = take(data)
    if taken is None:
        return
    assert len(taken.message) < len(data) and len(taken.voice or b"") < len(data)
    again = take(put(taken.voice if taken.voice is not None else b"\x08", taken.message))
    assert again is not None and again.message == taken.message


# --- the sound ------------------------------------------------------------------------------------------------


@cache
def libopus() -> ctypes.CDLL:
    """Return the libopus that PyAV brings along, to be asked directly. Skips where it is built in."""
    folder = Path(av.__file__).parent
    found = sorted([*folder.parent.glob("av.libs/libopus*"), *folder.glob(".dylibs/libopus*")])
    if not found:
        pytest.skip("PyAV's libopus is no file of its own here")
    library = ctypes.CDLL(str(found[0]))
    library.opus_decoder_create.restype = ctypes.c_void_p
    return library


def decode_directly(packets: list[bytes]) -> NDArray[np.generic]:
    library, error = libopus(), ctypes.c_int()
    decoder = ctypes.c_void_p(library.opus_decoder_create(RATE_HZ, 1, ctypes.byref(error)))
    assert error.value == 0
    buffer = (ctypes.c_int16 * 5760)()
    pieces = []
    for packet in packets:
        count = library.opus_decode(decoder, packet, len(packet), buffer, 5760, 0)
        assert count > 0
        pieces.append(np.array(buffer[:count], np.int16))
    library.opus_decoder_destroy(decoder)
    return np.concatenate(pieces)


def decode_with(name: str) -> Callable[[list[bytes]], NDArray[np.generic]]:
    def decode(packets: list[bytes]) -> NDArray[np.generic]:
        codec = av.CodecContext.create(name, "r")
        assert isinstance(codec, av.AudioCodecContext)
        codec.sample_rate, codec.layout = RATE_HZ, av.AudioLayout("mono")
        if name == "libopus":
            codec.format = av.AudioFormat("s16")
        frames = [frame for packet in packets for frame in codec.decode(av.Packet(packet))]
        return np.concatenate([f.to_ndarray().reshape(-1) for f in frames if isinstance(f, av.AudioFrame)])

    return decode


@cache
def talk() -> NDArray[np.int16]:
    """Two seconds of speech with a pause."""
    sound = speech(2.0).copy()
    sound[RATE_HZ // 2 : RATE_HZ * 4 // 5] = 0
    return sound


def packets(kbps: float, frame_ms: int, *, loss: int = 0) -> list[bytes]:
    """Return coded speech, with empty packets here and there as a call sends them in pauses and while muted."""
    encoder = OpusEncoder(VoiceSettings(kbps, frame_ms, loss))
    length = encoder.settings.frame_samples
    coded = []
    for index, start in enumerate(range(0, len(talk()) - length + 1, length)):
        coded.append(encoder.encode(talk()[start : start + length]))
        coded += [empty_packet(coded[-1][0])] * (index % 5 == 4) * 2
    return coded


def with_messages(plain: list[bytes], seed: int) -> list[bytes]:
    """Put a message of any length into each; those of empty packets say that nobody speaks."""
    rng = np.random.default_rng(seed)
    padded = [put(p, rng.bytes(int(rng.integers(0, 300))), voice=len(p) > 1) for p in plain]
    for packet, other in zip(plain, padded, strict=True):
        taken = take(other)
        assert taken is not None and taken.voice == (packet if len(packet) > 1 else None)
    return padded


@pytest.mark.parametrize("frame_ms", FRAMES_MS)
@pytest.mark.parametrize("kbps", KBPS)
def test_libopus_plays_the_same_bits_with_and_without_messages(kbps: float, frame_ms: int) -> None:
    for loss in (0, 20):  # with in-band repeats the encoder takes other modes
        plain = packets(kbps, frame_ms, loss=loss)
        padded = with_messages(plain, seed=frame_ms)
        expected = decode_with("libopus")(plain)
        assert len(expected) > 2 * RATE_HZ * 0.9 and np.abs(expected.astype(int)).max() > 3000
        assert np.array_equal(decode_with("libopus")(padded), expected)


@pytest.mark.parametrize("kbps", KBPS)
def test_libopus_itself_plays_the_same_bits(kbps: float) -> None:
    for frame_ms in FRAMES_MS:
        plain = packets(kbps, frame_ms)
        expected = decode_directly(plain)
        assert np.abs(expected.astype(int)).max() > 3000
        assert np.array_equal(decode_directly(with_messages(plain, seed=frame_ms)), expected)


@pytest.mark.parametrize("kbps", KBPS)
def test_ffmpegs_own_decoder_plays_the_same_bits(kbps: float) -> None:
    """Without in-band repeats, which we do not ask for: of those it makes noise, also without a message."""
    if "opus" not in av.codecs_available:
        pytest.skip("this PyAV has no opus decoder of ffmpeg's own")
    for frame_ms in FRAMES_MS:
        plain = packets(kbps, frame_ms)
        assert np.array_equal(
            decode_with("opus")(with_messages(plain, seed=frame_ms)), decode_with("opus")(plain)
        )


def test_ffmpegs_own_decoder_needs_the_guard() -> None:
    """Why there are guard bytes: without them what it plays changes with what follows."""
    if "opus" not in av.codecs_available:
        pytest.skip("this PyAV has no opus decoder of ffmpeg's own")
    plain = packets(12, 20)
    unguarded = [OpusFrames.parse(packet).padded(b"\xa5" * 30) for packet in plain]
    assert not np.array_equal(decode_with("opus")(unguarded), decode_with("opus")(plain))
