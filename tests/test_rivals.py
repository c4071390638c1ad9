"""The video rivals, on moving patterns of a few frames."""

from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mien.bench import rivals
from mien.bench.rivals import RIVALS, Picture, Rival, RivalClip, encode, fitted, missing
from mien.bench.rivals_rtp import MAX_PAYLOAD_BYTES, PACKET_BYTES, nal_sizes, obu_sizes, wire_bytes
from mien.bench.rivals_settings import CODECS, DECODERS, Effort, realtime_options
from mien.protocol.errors import MienError

SIZE = 128
RATE = Fraction(25)
FRAMES = 20


@cache
def moving(frames: int = FRAMES) -> tuple[Picture, ...]:
    """A textured disc that goes round over a gradient."""
    texture = np.random.default_rng(5).integers(0, 60, (SIZE, SIZE)).astype(np.float32)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    pictures = []
    for number in range(frames):
        centre = SIZE / 2 + SIZE / 5 * np.array([np.cos(number / 5), np.sin(number / 5)])
        disc = np.hypot(x - centre[0], y - centre[1]) < SIZE / 4
        rgb = np.stack([x + 40, y + 60, np.full_like(x, 90)], -1)
        rgb[disc] = 150 + texture[disc, None]
        pictures.append(np.clip(rgb, 0, 255).astype(np.uint8))
    return tuple(pictures)


def rival(codec: str, effort: Effort = "realtime") -> Rival:
    made = Rival(f"{codec} small", codec, SIZE, effort)
    if lack := missing(made):
        pytest.skip(lack)
    return made


def psnr(clip: RivalClip) -> float:
    error = np.mean([(a.astype(float) - b) ** 2 for a, b in zip(moving(), clip.frames, strict=True)])
    return float(10 * np.log10(255**2 / error))


@pytest.mark.parametrize("codec", CODECS)
def test_real_time(codec: str) -> None:
    clip = encode(moving(), RATE, rival(codec), 300)
    assert len(clip.frames) == FRAMES and all(
        f.shape == (SIZE, SIZE, 3) and f.dtype == np.uint8 for f in clip.frames
    )
    assert len(clip.packets) == FRAMES  # none dropped, none ahead
    assert clip.payload_kbps == pytest.approx(8 * sum(clip.packets) / (FRAMES / 25) / 1000)
    assert clip.wire_kbps > clip.payload_kbps + 8 * 25 * (PACKET_BYTES - 8) / 1000
    assert psnr(clip) > 28
    assert encode(moving(), RATE, rival(codec), 300).packets == clip.packets


@pytest.mark.parametrize("codec", CODECS)
def test_more_rate_gives_better_pictures(codec: str) -> None:
    low, high = (encode(moving(), RATE, rival(codec), kbps) for kbps in (40, 600))
    assert low.payload_kbps < high.payload_kbps and psnr(low) < psnr(high)


def test_a_floor_is_said() -> None:
    assert encode(moving(), RATE, rival("libvpx"), 1).note.startswith("asked for 1, got ")
    assert RivalClip(100, 110, [], (), 100).note == "" and RivalClip(80, 90, [], (), 100).note != ""


@pytest.mark.parametrize("codec", CODECS)
def test_best_effort_stays_below_the_rate_and_comes_near(codec: str) -> None:
    clip = encode(moving(), RATE, rival(codec, "best"), 150)
    assert 60 < clip.payload_kbps <= 150
    assert len(clip.frames) == FRAMES and psnr(clip) > 26


def test_pictures_of_another_size_are_scaled() -> None:
    small = Rival("small", "libx264", 64, "realtime")
    if lack := missing(small):
        pytest.skip(lack)
    assert encode(moving(), RATE, small, 100).frames[0].shape == (64, 64, 3)
    same = fitted(moving()[:1], SIZE)
    assert same[0] is moving()[0]


def test_the_cache_saves_encoding_and_survives_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = rival("libx264")
    first = encode(moving(), RATE, made, 100, cache=tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(rivals, "_coded", lambda *unused: pytest.fail("coded again"))
        again = encode(moving(), RATE, made, 100, cache=tmp_path)
    assert again.packets == first.packets and np.array_equal(again.frames[-1], first.frames[-1])
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert encode(moving(), RATE, made, 100, cache=tmp_path).packets == first.packets
    encode(moving()[::-1], RATE, made, 100, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # other pictures, another entry


def test_an_option_that_the_encoder_ignores_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = rival("libx264")

    def with_nonsense(codec: str, kbps: float) -> dict[str, str]:
        return realtime_options(codec, kbps) | {"zerolatentcy": "1"}

    monkeypatch.setattr(rivals, "realtime_options", with_nonsense)
    with pytest.raises(MienError, match="knows no option zerolatentcy"):
        encode(moving(), RATE, made, 100)


def test_a_codec_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DECODERS, "libnothing", "vp8")
    none = Rival("nothing", "libnothing", SIZE, "realtime")
    assert "has no libnothing" in missing(none)
    with pytest.raises(MienError, match="has no libnothing"):
        encode(moving(), RATE, none, 100)


def test_names_are_unique() -> None:
    assert len({r.name for r in RIVALS}) == len(RIVALS) == 2 * 2 * len(CODECS)


def test_nothing_to_code_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to code"):
        encode([], RATE, RIVALS[0], 10)


def test_vp8_in_packets() -> None:
    assert wire_bytes("libvpx", bytes(100)) == 100 + PACKET_BYTES + 4
    full = MAX_PAYLOAD_BYTES - 4
    assert wire_bytes("libvpx", bytes(full)) == full + PACKET_BYTES + 4 == 1200 + 28
    assert wire_bytes("libvpx", bytes(full + 1)) == full + 1 + 2 * (PACKET_BYTES + 4)


def test_nal_units_travel_without_start_codes() -> None:
    stream = bytes.fromhex("00000001 67aabb 000001 68cc 00000001 65") + b"\x11" * 10
    assert nal_sizes(stream) == [3, 2, 11]
    assert wire_bytes("libx264", stream) == 16 + 3 * PACKET_BYTES
    long = b"\0\0\1\x65" + b"\x11" * 2000  # fragments: the unit's own first byte goes, two come in each
    assert wire_bytes("libx264", long) == 2000 + 2 * (PACKET_BYTES + 2)
    assert wire_bytes("libx265", long) == 1999 + 2 * (PACKET_BYTES + 3)


def test_obus_travel_without_delimiter_and_sizes() -> None:
    unit = bytes.fromhex("1200 0a02aabb 3203010203")  # delimiter, sequence header of 2, frame of 3
    assert obu_sizes(unit) == [3, 4]
    assert wire_bytes("libsvtav1", unit) == 1 + (1 + 3) + 4 + PACKET_BYTES
    assert obu_sizes(bytes.fromhex("3281 01") + bytes(129)) == [130]
