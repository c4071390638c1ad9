"""Opus' repeats of what was lost: libopus called directly, when the voice repeats itself, and what is heard of it."""

import asyncio
import subprocess
import sys
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiortc import RTCPeerConnection
from aiortc.stats import RTCRemoteInboundRtpStreamStats
from numpy.typing import NDArray

from mien.call import libopus, voice_line
from mien.call.audio import VoiceTrack
from mien.call.libopus import MAX_SAMPLES, LibOpusDecoder, has_repeat
from mien.call.opus import RATE_HZ, OpusDecoder, OpusEncoder, VoiceSettings, frame_samples
from mien.call.voice_coder import VoiceCoder
from mien.call.voice_line import VoiceLine
from mien.call.voice_loss import NARROW_PERCENT, LossWatch
from mien.call.voice_playout import VoicePlayout
from mien.protocol.errors import WireError
from tests.voice_samples import speech

FRAME = 2880
DELAY = 312  # libopus looks ahead by 6.5 ms

direct = pytest.mark.skipif(not libopus.available(), reason="libopus cannot be called directly here")


@cache
def packets(*, kbps: float = 16, expected_loss: int = 30, seconds: float = 4.0) -> tuple[bytes, ...]:
    encoder = OpusEncoder(VoiceSettings(kbps, 60, expected_loss))
    sound = speech(seconds)
    return tuple(encoder.encode(sound[at : at + FRAME]) for at in range(0, len(sound) - FRAME + 1, FRAME))


def heard_without(lost: set[int], *, repair: bool) -> NDArray[np.int16]:
    decoder, parts = OpusDecoder(), []
    for index, packet in enumerate(packets()):
        sound: NDArray[np.int16] | None = None
        if index in lost:
            if repair and index + 1 < len(packets()):
                sound = decoder.repair(packets()[index + 1])
            if sound is None:
                sound = np.concatenate([decoder.fill() for _ in range(3)])
        else:
            sound = decoder.decode(packet)
        parts.append(sound)
    return np.concatenate(parts)


def likeness(heard: NDArray[np.int16], index: int) -> float:
    """Return the correlation of a frame with what was said."""
    part = slice(index * FRAME, (index + 1) * FRAME)
    said = np.pad(speech(4.0), (DELAY, 0))[part]
    return float(np.corrcoef(said, heard[part])[0, 1])


@direct
def test_a_lost_frame_is_heard_from_the_next_packet() -> None:
    lost = set(range(5, 60, 4))
    repaired, filled = heard_without(lost, repair=True), heard_without(lost, repair=False)
    better = [likeness(repaired, i) - likeness(filled, i) for i in sorted(lost)]
    assert np.mean([likeness(repaired, i) for i in lost]) > 0.6
    assert np.median(better) > 0.2
    assert len(repaired) == len(filled) == len(packets()) * FRAME


@direct
@pytest.mark.parametrize(("kbps", "expected_loss", "share"), [(12, 30, 0.0), (16, 0, 0.0), (16, 30, 0.8)])
def test_which_packets_repeat(kbps: float, expected_loss: int, share: float) -> None:
    """Below 16 kbps libopus has no room, whatever loss it is told of."""
    repeats = np.mean([has_repeat(p) for p in packets(kbps=kbps, expected_loss=expected_loss)])
    assert repeats == 0 if share == 0 else repeats > share


@direct
def test_both_ways_to_libopus_sound_the_same() -> None:
    one, other = OpusDecoder(), OpusDecoder(direct=False)
    for index, packet in enumerate(packets()):
        if index % 5 == 3:
            assert (one.fill() == other.fill()).all()
        else:
            assert (one.decode(packet) == other.decode(packet)).all()
    assert other.repair(packets()[-1]) is None  # PyAV has no way to say so


@direct
def test_bounds() -> None:
    decoder = LibOpusDecoder()
    for bad in (0, -120, 100, MAX_SAMPLES + 120):
        with pytest.raises(ValueError, match="multiple"):
            decoder.fill(bad)
    with pytest.raises(WireError, match="0 bytes"):
        decoder.decode(b"")
    with pytest.raises(WireError, match="0 bytes"):
        decoder.repair(960, b"")
    with pytest.raises(WireError, match="libopus says"):
        decoder.decode(b"\xff\xff")
    assert (
        len(decoder.repair(5760, packets()[3])) == 5760
    )  # more than a packet repeats: the rest is filled in
    assert len(decoder.decode(packets()[0])) == FRAME
    assert not has_repeat(b"") and not has_repeat(b"\xff")


FUZZ = """
import numpy as np
from mien.call.libopus import LibOpusDecoder, has_repeat
from mien.protocol.errors import WireError
random = np.random.default_rng(7)
good = [bytes.fromhex(line) for line in '''PACKETS'''.split()]
decoder = LibOpusDecoder()
outcomes = {True: 0, False: 0}
for turn in range(12000):
    packet = bytearray(good[turn % len(good)])
    kind = turn % 4
    if kind == 0:
        packet = bytearray(random.bytes(int(random.integers(1, 1400))))
    elif kind == 1:
        for at in random.integers(0, len(packet), 3):
            packet[at] ^= 1 << int(random.integers(0, 8))
    elif kind == 2:
        del packet[int(random.integers(1, len(packet))):]
    else:
        packet[0] = int(random.integers(0, 256))
    data = bytes(packet)
    has_repeat(data)
    try:
        if turn % 3 == 0:
            sound = decoder.repair(120 * int(random.integers(1, 49)), data)
        else:
            sound = decoder.decode(data)
        assert 0 < len(sound) <= 5760 and sound.dtype == np.int16
        outcomes[True] += 1
    except WireError:
        outcomes[False] += 1
print(outcomes[True], outcomes[False])
"""


@direct
def test_hostile_packets_end_in_an_error_and_not_in_a_crash() -> None:
    """In a process of its own: native code that is wrong would take this one along."""
    code = FUZZ.replace("PACKETS", "\n".join(p.hex() for p in packets()[:20]))
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr[-500:]
    played, refused = map(int, result.stdout.split())
    assert played > 3000 and refused > 300


# --- when ---------------------------------------------------------------------------------------------------------


def test_repeats_follow_the_reported_loss() -> None:
    watch = LossWatch()
    assert watch.on_report(lost=9, came=30, kbps=16) == 0  # too few to tell
    assert watch.on_report(lost=9, came=91, kbps=16) == 0  # at 16 kbps they cost more than they give
    assert watch.on_report(lost=29, came=171, kbps=16) == NARROW_PERCENT
    calm = [watch.on_report(lost=29, came=171 + 80 * i, kbps=16) for i in (1, 2, 3)]
    assert calm == [NARROW_PERCENT, NARROW_PERCENT, 0]
    assert LossWatch().on_report(lost=5, came=95, kbps=24) == 10
    assert LossWatch().on_report(lost=15, came=85, kbps=24) == 15
    assert LossWatch().on_report(lost=60, came=40, kbps=24) == 20
    assert LossWatch().on_report(lost=2, came=98, kbps=24) == 0
    assert LossWatch().on_report(lost=-7, came=1 << 40, kbps=24) == 0  # a stranger's totals


@direct
def test_a_coder_begins_to_repeat_in_the_middle() -> None:
    coder = VoiceCoder(VoiceSettings(16, 60))
    sound, found = speech(4.0), []
    for index, at in enumerate(range(0, len(sound) - FRAME + 1, FRAME)):
        if index == 30:
            coder.expect_loss(30)
        found += [has_repeat(packet.data) for packet in coder.push(sound[at : at + FRAME], at)]
    assert not any(found[:30]) and np.mean(found[32:]) > 0.8


@direct
def test_a_line_hears_of_losses_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice_line, "REPORT_EVERY_US", 5000)
    told: list[int] = []

    async def scenario(*, reads: bool) -> None:
        pc = RTCPeerConnection()
        line = VoiceLine(pc, VoiceTrack(), VoiceSettings(24, 60), lambda frame: None)
        line.heed(f"a=fmtp:96 minptime=20;useinbandfec={int(reads)};stereo=0\r\n")
        report: Any = object.__new__(RTCRemoteInboundRtpStreamStats)
        report.packetsLost, report.packetsReceived = 20, 80

        async def stats() -> dict[str, Any]:
            return {"it": report}

        line_parts: Any = line
        line_parts._sender = SimpleNamespace(getStats=stats)
        line_parts._coded.expect_loss = told.append
        running = asyncio.create_task(line.run())
        await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await pc.close()

    asyncio.run(scenario(reads=False))
    assert told == []
    asyncio.run(scenario(reads=True))
    assert told and set(told) == {20}


# --- heard --------------------------------------------------------------------------------------------------------


def play(kept: list[int], *, expected_loss: int = 30, pause_before: int | None = None) -> VoicePlayout:
    """Play 4 s at 16 kbps of which only some packets come; `pause_before`: a second of silence before a packet."""
    playout, waiting = VoicePlayout(), []
    for index, packet in enumerate(packets(expected_loss=expected_loss)):
        later = RATE_HZ if pause_before is not None and index >= pause_before else 0
        if index in kept:
            position = index * FRAME + later
            waiting.append((position * 1_000_000 // RATE_HZ + 60_000, index, position, packet))
    for now_us in range(0, 4_000_000 if pause_before is None else 5_000_000, 20_000):
        while waiting and waiting[0][0] <= now_us:
            at_us, sequence, position, packet = waiting.pop(0)
            playout.push(sequence, position, packet, arrival_us=at_us)
        playout.read(now_us)
    return playout


@direct
def test_the_playout_waits_for_the_next_packet_and_takes_its_repeat() -> None:
    kept = [i for i in range(66) if i % 5 != 3]
    with_repeats, without = play(kept).counts, play(kept, expected_loss=0).counts
    assert without.repaired_samples == 0
    assert with_repeats.repaired_samples >= 5 * FRAME
    assert with_repeats.filled_samples < without.filled_samples
    assert play(kept).wait_us == play(kept, expected_loss=0).wait_us + 60_000


@direct
def test_a_pause_is_not_repaired() -> None:
    """The first packet after a pause repeats the last one before it, which was heard already."""
    assert play(list(range(66)), pause_before=30).counts.repaired_samples == 0


def test_frames_of_packets() -> None:
    assert frame_samples(bytes([0b01011_0_01])) == FRAME  # two of 60 ms
    with pytest.raises(WireError, match="0 bytes"):
        frame_samples(b"")
