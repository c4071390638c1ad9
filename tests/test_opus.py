"""The voice's way into packets and out of them: libopus through PyAV, pauses, resampling. No sockets."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mien.call.opus import (
    FRAMES_MS,
    MAX_PACKET_BYTES,
    RATE_HZ,
    OpusDecoder,
    OpusEncoder,
    VoiceSettings,
    empty_packet,
    packet_samples,
)
from mien.call.voice_activity import HOLD_MS, VoiceActivity
from mien.call.voice_coder import KEEP_ALIVE_SAMPLES, MonoSound, VoiceCoder, VoicePacket
from mien.protocol.errors import WireError
from tests.voice_samples import speech

DELAYS = range(280, 350)  # libopus looks ahead by 6.5 ms: 312 samples


def encode(sound: NDArray[np.int16], settings: VoiceSettings) -> list[bytes]:
    encoder = OpusEncoder(settings)
    size = settings.frame_samples
    return [encoder.encode(sound[at : at + size]) for at in range(0, len(sound) - size + 1, size)]


def likeness(sound: NDArray[np.int16], heard: NDArray[np.int16]) -> float:
    """Return the correlation at the best delay."""
    count = min(len(sound), len(heard)) - max(DELAYS)
    return max(float(np.corrcoef(sound[:count], heard[d : d + count])[0, 1]) for d in DELAYS)


@pytest.mark.parametrize(
    ("kbps", "frame_ms", "least"),
    [
        (6, 60, 0.75),
        (8, 60, 0.82),
        (12, 20, 0.9),
        (12, 40, 0.9),
        (12, 60, 0.9),
        (12, 120, 0.9),
        (24, 60, 0.93),
    ],
)
def test_speech_comes_back_at_its_rate(kbps: float, frame_ms: int, least: float) -> None:
    sound = speech(4.0)
    packets = encode(sound, VoiceSettings(kbps, frame_ms))
    decoder = OpusDecoder()
    heard = np.concatenate([decoder.decode(packet) for packet in packets])
    assert likeness(sound, heard) > least
    assert likeness(sound, heard[::-1]) < 0.3
    level = np.sqrt(np.square(heard, dtype=np.float64).mean() / np.square(sound, dtype=np.float64).mean())
    assert 0.6 < level < 1.2
    # libopus keeps below the rate where the sound is easy; of recorded speech it takes 90 to 99 %.
    assert 0.74 * kbps < sum(map(len, packets)) * 8 / (len(packets) * frame_ms) < 1.05 * kbps


@pytest.mark.parametrize("frame_ms", FRAMES_MS)
def test_packets_say_how_long_they_are(frame_ms: int) -> None:
    """What the TOC byte says (RFC 6716 section 3.1), read independently of the code under test."""
    for kbps in (6, 24):
        for packet in encode(speech(1.0), VoiceSettings(kbps, frame_ms)):
            configuration, stereo, code = packet[0] >> 3, packet[0] >> 2 & 1, packet[0] & 3
            frames = packet[1] & 63 if code == 3 else min(code, 1) + 1
            milliseconds = {1: 20, 2: 40, 3: 60, 13: 20, 15: 20}[
                configuration & 3 if configuration < 12 else configuration
            ]
            assert frames * milliseconds == frame_ms and not stereo
            assert packet_samples(packet) == frame_ms * 48


@pytest.mark.parametrize(
    ("kbps", "expected_loss", "bright"), [(16, 0, False), (24, 0, True), (24, 20, False)]
)
def test_below_20_kbps_nothing_is_spent_above_8_khz(kbps: float, expected_loss: int, bright: bool) -> None:
    hiss = speech(2.0, noise=0.05)
    modes = {packet[0] >> 3 for packet in encode(hiss, VoiceSettings(kbps, 60, expected_loss))[3:]}
    assert (
        max(modes) >= 12
    ) is bright  # RFC 6716 table 2: from 12 on hybrid or CELT; below SILK, up to 8 kHz


def test_expected_loss_adds_repeats() -> None:
    sizes = [sum(map(len, encode(speech(2.0), VoiceSettings(16, 20, loss)))) for loss in (0, 25)]
    assert sizes[0] != sizes[1]


def test_settings_that_cannot_be() -> None:
    for bad in ((5, 60, 0), (25, 60, 0), (12, 30, 0), (12, 60, 101), (float("nan"), 60, 0)):
        with pytest.raises(ValueError, match="expected"):
            VoiceSettings(*bad)
    with pytest.raises(ValueError, match="2880"):
        OpusEncoder().encode(np.zeros(960, np.int16))


def test_missing_sound_is_filled_in_and_fades() -> None:
    sound = speech(2.0)
    decoder = OpusDecoder()
    assert not decoder.fill().any()
    for packet in encode(sound, VoiceSettings()):
        last = decoder.decode(packet)
    first, *_, late = [decoder.fill() for _ in range(30)]
    assert len(first) == len(late) == 960
    assert abs(int(first[0]) - int(last[-1])) < 2500  # it goes on where it stopped: no click
    assert np.square(late, dtype=float).mean() < np.square(last, dtype=float).mean()


def test_lengths_of_packets() -> None:
    assert packet_samples(bytes([0b01011_0_00])) == 2880  # SILK, wideband, 60 ms
    assert packet_samples(bytes([0b10000_0_01])) == 240  # CELT, two frames of 2.5 ms
    assert packet_samples(bytes([0b11111_0_11, 6])) == packet_samples(bytes([0b01011_0_01])) == 5760
    for toc in range(256):
        if toc & 3 == 0:
            assert packet_samples(empty_packet(toc)) == 960
            assert empty_packet(toc)[0] >> 5 == toc >> 5
    for bad, words in (
        (b"", "0 bytes"),
        (b"\x03", "ends before"),
        (b"\x03\x00", "0 ms"),
        (bytes([0b01011_0_11, 3]), "180 ms"),
        (bytes(MAX_PACKET_BYTES + 1), "7651 bytes"),
    ):
        with pytest.raises(WireError, match=words):
            packet_samples(bad)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    decoder = OpusDecoder()
    try:
        expected = packet_samples(data)
        assert len(decoder.decode(data)) == expected <= 5760
    except WireError:
        return


# --- pauses ---------------------------------------------------------------------------------------------------


def test_speech_is_told_from_its_pauses() -> None:
    activity = VoiceActivity()
    hiss = np.random.default_rng(0).normal(0, 60, RATE_HZ).astype(np.int16)
    assert all(activity.hear(speech(2.0)[at : at + 2880]) for at in range(2880, 2 * RATE_HZ - 2880, 2880))
    sent = [activity.hear(hiss[at : at + 960]) for at in range(0, RATE_HZ, 960)]
    assert sent[: HOLD_MS // 20 - 1] == [True] * (HOLD_MS // 20 - 1)
    assert not any(sent[HOLD_MS // 20 + 15 :])
    with pytest.raises(ValueError, match="multiple"):
        activity.hear(np.zeros(100, np.int16))


def test_voices_behind_the_voice_are_not_sent() -> None:
    """Somebody talks, and 32 dB below others do: in the pauses they are heard by the detector, and not sent."""
    near = speech(3.0).astype(float)
    others = np.roll(speech(3.0), 40_000) * 10 ** (-32 / 20)
    activity, sent = VoiceActivity(), []
    for _ in range(2):
        for sound in (near, np.zeros(len(near))):
            mixed = (sound + others).astype(np.int16)
            sent += [activity.hear(mixed[at : at + 2880]) for at in range(0, len(mixed) - 2879, 2880)]
    seconds = np.array(sent).reshape(4, -1)  # speech, pause, speech, pause
    assert seconds[0].all() and seconds[2][1:].all()
    held = HOLD_MS // 60 + 1
    assert not seconds[1][held:].any() and not seconds[3][held:].any()


def test_steady_noise_is_not_sent_and_word_ends_are() -> None:
    """Noise 10 dB below the voice; every word fades over 0.15 s."""
    random = np.random.default_rng(2)
    word = speech(0.6).astype(float)
    word[-7200:] *= np.linspace(1, 0, 7200) ** 2
    level = np.sqrt(np.square(word).mean())
    sound = np.concatenate([np.concatenate([word, np.zeros(2 * RATE_HZ - len(word))]) for _ in range(6)])
    sound += random.normal(0, level * 10**-0.5, len(sound))
    activity = VoiceActivity()
    sent = np.array(
        [activity.hear(sound[at : at + 960].astype(np.int16)) for at in range(0, len(sound) - 959, 960)]
    )
    by_word = sent[: 6 * 100].reshape(6, 100)[2:]  # 20 ms each; the noise is known after the first
    assert by_word[:, 3:30].all()
    assert by_word[:, 55:].mean() < 0.05


def test_what_is_heard_in_a_pause_neither_fades_nor_buzzes() -> None:
    """Comfort noise is libopus' own: the level of the background over 2 s, and nothing that repeats."""
    random = np.random.default_rng(4)
    sound = np.concatenate([speech(2.0), np.zeros(RATE_HZ // 2, np.int16)]) + random.normal(0, 150, 120_000)
    for kbps in (8, 12, 24):
        decoder = OpusDecoder()
        for packet in encode(sound.astype(np.int16), VoiceSettings(kbps, 60)):
            last = decoder.decode(packet)
        heard = np.concatenate([decoder.fill() for _ in range(100)]).astype(float)
        levels = 10 * np.log10(np.square(heard).reshape(-1, 9600).mean(1))  # of 0.2 s each
        assert np.ptp(levels) < 3
        assert abs(levels.mean() - 10 * np.log10(np.square(last, dtype=float).mean())) < 6
        spectrum = np.abs(np.fft.rfft(heard, 2 * len(heard))) ** 2
        likeness_to_itself = np.fft.irfft(spectrum)[: len(heard) // 2]
        assert likeness_to_itself[480:].max() < 0.25 * likeness_to_itself[0]  # from 10 ms on


def test_a_packet_lost_in_a_loud_vowel_fades_into_the_background() -> None:
    random = np.random.default_rng(4)
    quiet = random.normal(0, 100, 48_000)
    sound = np.concatenate([quiet, speech(1.5) + random.normal(0, 100, 72_000)]).astype(np.int16)
    decoder = OpusDecoder()
    for packet in encode(sound, VoiceSettings()):
        decoder.decode(packet)
    heard = np.concatenate([decoder.fill() for _ in range(50)]).astype(float)
    levels = 10 * np.log10(np.square(heard).reshape(-1, 2400).mean(1))  # of 50 ms each
    assert (levels[6:] < 45).all() and (levels[6:] > 25).all()  # the background is 40 dB


def pieces(sound: NDArray[np.int16], coder: VoiceCoder, *, size: int = 960) -> list[VoicePacket]:
    return [p for at in range(0, len(sound), size) for p in coder.push(sound[at : at + size], at)]


@pytest.mark.parametrize("size", [960, 441, 9600])
def test_whole_frames_with_their_times(size: int) -> None:
    packets = pieces(speech(2.0), VoiceCoder(VoiceSettings()), size=size)
    assert [p.position for p in packets] == list(range(0, 2 * RATE_HZ - 2879, 2880))


def test_a_pause_sends_signs_of_life_only() -> None:
    coder = VoiceCoder(VoiceSettings())
    sound = np.concatenate([speech(1.2), np.zeros(4 * RATE_HZ, np.int16), speech(1.2)])
    packets = pieces(sound, coder)
    pause = [p for p in packets if 1.8 * RATE_HZ < p.position < 5.1 * RATE_HZ]
    assert {len(p.data) for p in pause} == {1} and 7 <= len(pause) <= 9
    steps = np.diff([p.position for p in pause])
    assert (steps >= KEEP_ALIVE_SAMPLES).all() and (steps < KEEP_ALIVE_SAMPLES + 2880).all()
    decoder = OpusDecoder()
    heard = {p.position: decoder.decode(p.data) for p in packets}
    again = np.concatenate([heard[p] for p in sorted(heard) if p > 5.3 * RATE_HZ])
    begin = min(p for p in heard if p > 5.3 * RATE_HZ)
    assert likeness(sound[begin:], again) > 0.85  # both ends go on from the same state


def test_a_source_that_skips_begins_anew() -> None:
    coder = VoiceCoder(VoiceSettings())
    assert coder.push(speech(1.0)[:2000], 0) == []
    assert [p.position for p in coder.push(speech(1.0)[:3000], 100_000)] == [100_000]


def test_sound_of_any_kind() -> None:
    tone = np.sin(np.arange(16_000) * 2 * np.pi * 300 / 16_000)
    converter = MonoSound()
    heard = []
    for at in range(0, 16_000, 320):
        stereo = np.repeat(tone[at : at + 320, None], 2, axis=1).astype(np.float32).T
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(stereo), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 16_000 + at, Fraction(1, 16_000)
        heard += converter.convert(frame)
    assert heard[0][0] == RATE_HZ
    for (position, samples), (following, _) in pairwise(heard):
        assert following == position + len(samples)
    sound = np.concatenate([samples for _, samples in heard])
    expected = 32_767 * np.sin(np.arange(len(sound)) * 2 * np.pi * 300 / RATE_HZ)
    assert sound.dtype == np.int16 and len(sound) > 0.97 * RATE_HZ
    assert max(np.corrcoef(sound[d:5000], expected[: 5000 - d])[0, 1] for d in range(100)) > 0.99
