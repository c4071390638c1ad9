"""What leaves on the voice's line: packets of voice with messages in them, and packets made for messages alone."""

import asyncio
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from mien.call.audio import VoiceTrack
from mien.call.carrier_cadence import Gaps
from mien.call.opus import FRAMES_MS, RATE_HZ, OpusDecoder, VoiceSettings, packet_samples
from mien.call.opus_padding import MAX_CARRIER_BYTES, take
from mien.call.voice_track import CodedVoiceTrack
from tests.event_loop import in_loop
from tests.voice_samples import speech

MS = RATE_HZ // 1000
FRAME = 20 * MS


class Recording(MediaStreamTrack):
    """Sound as fast as it is asked for."""

    kind = "audio"

    def __init__(self, samples: NDArray[np.int16]) -> None:
        super().__init__()
        self._samples = samples
        self._at = 0

    async def recv(self) -> av.AudioFrame:
        await asyncio.sleep(0)
        piece = self._samples[self._at : self._at + FRAME]
        if len(piece) < FRAME:
            raise MediaStreamError
        frame = av.AudioFrame.from_ndarray(piece.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, self._at, Fraction(1, RATE_HZ)
        self._at += FRAME
        return frame


class Faces:
    """Messages with a number each; none while `still`."""

    def __init__(self, size: int = 30) -> None:
        self.asked = 0
        self.still = False
        self.size = size

    def board(self, now_us: int, room_bytes: int) -> bytes | None:
        self.asked += 1
        assert room_bytes > 600
        return None if self.still else self.asked.to_bytes(self.size, "big")


def sent(
    samples: NDArray[np.int16], frame_ms: int, riders: Faces | None, kbps: float = 12
) -> list[tuple[int, bytes]]:
    """Return the positions and bytes of all packets of a recording."""
    found: list[tuple[int, bytes]] = []

    async def scenario() -> None:
        track = CodedVoiceTrack(Recording(samples), VoiceSettings(kbps, frame_ms), riders)
        with pytest.raises(MediaStreamError):
            while True:
                packet = await track.recv()
                assert packet.pts is not None
                found.append((packet.pts, bytes(packet)))
        track.stop()

    in_loop(scenario)
    return found


def messages_at(packets: list[tuple[int, bytes]]) -> list[int]:
    return [position // MS for position, data in packets if take(data) is not None]


@pytest.mark.parametrize("frame_ms", FRAMES_MS)
def test_in_speech_messages_cost_not_one_packet(frame_ms: int) -> None:
    plain = sent(speech(4.0), frame_ms, None)
    carrying = sent(speech(4.0), frame_ms, Faces())
    assert [position for position, _ in carrying] == [position for position, _ in plain]
    gaps = {b - a for a, b in pairwise(messages_at(carrying))}
    assert gaps == {{20: 40, 40: 40, 60: 60, 120: 120}[frame_ms]}
    for (_, with_message), (_, without) in zip(carrying, plain, strict=True):
        taken = take(with_message)
        assert (taken.voice if taken else with_message) == without
        assert len(with_message) <= len(without) + (30 + 9 if taken else 0)
    added = sum(len(d) for _, d in carrying) - sum(len(d) for _, d in plain)
    count = len(messages_at(carrying))
    assert 35 * count <= added <= 37 * count  # 5 bytes, a byte more for frames of two lengths


def test_a_pause_gets_packets_of_its_own_and_silence_fewer() -> None:
    for frame_ms in (20, 60, 120):
        sound = np.concatenate([speech(1.5), np.zeros(6 * RATE_HZ, np.int16), speech(1.0)])
        plain, carrying = sent(sound, frame_ms, None), sent(sound, frame_ms, Faces())
        positions = [position for position, _ in carrying]
        assert positions == sorted(set(positions))
        voice = [p for p, d in plain if len(d) > 1]
        assert [p for p, d in carrying if (t := take(d)) is None or len(t.voice or b"") > 1] == voice
        begins = max(p for p in voice if p < 3 * RATE_HZ) // MS + frame_ms
        ends = min(p for p in voice if p > 6 * RATE_HZ) // MS
        during = [ms for ms in messages_at(carrying) if begins <= ms < ends]
        gaps = [b - a for a, b in pairwise(during)]
        assert set(gaps[:20]) == {80} and set(gaps[30:]) == {200}
        assert all(
            packet_samples(d) == FRAME for p, d in carrying if begins <= p // MS < ends
        )  # 20 ms of nothing, which end before the voice begins again
        assert min(p for p, _ in carrying if p // MS >= ends) >= max(during) * MS + FRAME


def test_a_still_face_adds_nothing() -> None:
    sound = np.concatenate([speech(1.0), np.zeros(2 * RATE_HZ, np.int16)])
    riders = Faces()
    riders.still = True
    assert sent(sound, 60, riders) == sent(sound, 60, None)
    assert riders.asked > 20


def test_what_is_heard_is_the_same_with_and_without_messages() -> None:
    def sound_of(riders: Faces | None) -> NDArray[np.int16]:
        decoder = OpusDecoder()
        return np.concatenate([decoder.decode(data) for _, data in sent(speech(2.0), 20, riders)])

    assert np.array_equal(sound_of(Faces(200)), sound_of(None))


def test_the_largest_message_fits() -> None:
    class Large(Faces):
        def board(self, now_us: int, room_bytes: int) -> bytes | None:
            return b"\xff" * room_bytes

    packets = sent(speech(0.6), 120, Large(), kbps=24)
    assert max(len(data) for _, data in packets) <= MAX_CARRIER_BYTES
    assert min(len(data) for _, data in packets) > MAX_CARRIER_BYTES - 9


class Microphone(VoiceTrack):
    """Speaks all the time, unless it is muted."""

    def __init__(self, *, muted: bool) -> None:
        super().__init__(muted=muted)
        self._at = 0

    async def read(self) -> NDArray[np.int16]:
        self._at += FRAME
        return speech(4.0)[self._at - FRAME : self._at]


def test_muted_from_the_start_messages_flow_five_times_a_second() -> None:
    async def scenario() -> None:
        track = CodedVoiceTrack(Microphone(muted=True), VoiceSettings(), Faces())
        loop = asyncio.get_running_loop()
        await track.recv()
        start, first = loop.time(), track.newest_position
        assert first is not None
        packets = [await track.recv() for _ in range(5)]
        seconds = loop.time() - start
        assert 0.95 < seconds < 3  # 5 x 200 ms, on a busy machine more
        for packet in packets:
            taken = take(bytes(packet))
            assert taken is not None and taken.voice is None and len(bytes(packet)) == 1 + 5 + 30
        assert packets[-1].pts is not None
        assert abs((packets[-1].pts - first) / RATE_HZ - seconds) < 0.1  # the capture clock goes on
        track.stop()

    in_loop(scenario)


def test_muted_in_mid_speech_and_back_the_clock_never_runs_backwards() -> None:
    async def scenario() -> None:
        microphone = Microphone(muted=False)
        track = CodedVoiceTrack(microphone, VoiceSettings(12, 60), Faces())
        packets: list[tuple[int, bytes]] = []

        async def read() -> None:
            while True:
                packet = await track.recv()
                assert packet.pts is not None
                packets.append((packet.pts, bytes(packet)))

        reading = asyncio.create_task(read())
        for seconds, muted in ((0.5, True), (1.2, False), (0.5, True)):
            await asyncio.sleep(seconds)
            microphone.muted = muted
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        track.stop()
        positions = [position for position, _ in packets]
        assert positions == sorted(set(positions))
        silent = [p for p, data in packets if (t := take(data)) is not None and t.voice is None]
        assert 3 <= len(silent) <= 6  # 250 ms until it is muted, then every 200
        spoken = [p for p in positions if p not in silent]
        assert min(spoken) < silent[0] and max(spoken) > silent[-1]
        assert abs(max(positions) / RATE_HZ - 2.2) < 0.4

    in_loop(scenario)


def test_muted_without_messages_nothing_leaves() -> None:
    async def scenario() -> None:
        riders = Faces()
        riders.still = True
        for who in (riders, None):
            track = CodedVoiceTrack(Microphone(muted=True), VoiceSettings(), who)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(track.recv(), 0.5)
            track.stop()
        assert 1 <= riders.asked <= 4

    in_loop(scenario)


def test_a_source_that_fails_says_so_and_one_that_is_stopped_ends() -> None:
    class Broken(MediaStreamTrack):
        kind = "audio"

        async def recv(self) -> av.AudioFrame:
            raise OSError("unplugged")

    async def scenario() -> None:
        with pytest.raises(OSError, match="unplugged"):
            await CodedVoiceTrack(Broken(), VoiceSettings()).recv()
        track = CodedVoiceTrack(Microphone(muted=True), VoiceSettings(), None)
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0.05)
        track.stop()
        with pytest.raises((MediaStreamError, asyncio.CancelledError)):
            await waiting

    in_loop(scenario)


def test_rate_packets_and_gaps_can_change_in_mid_speech() -> None:
    found: list[tuple[int, bytes]] = []

    async def scenario() -> None:
        track = CodedVoiceTrack(Recording(speech(8.0)), VoiceSettings(12, 60), Faces())
        track.limit(10)
        with pytest.raises(MediaStreamError):
            while True:
                packet = await track.recv()
                assert packet.pts is not None
                found.append((packet.pts, bytes(packet)))
                if len(found) == 50:  # 3 s
                    track.pace(6, 120)
                    track.space(Gaps(voice=240 * MS))
                if packet.pts >= 6 * RATE_HZ:
                    track.pace(24, 60)
        track.stop()
        assert track.most_kbps == 10

    in_loop(scenario)
    lengths = [packet_samples(data) // MS for _, data in found]
    assert lengths[:50] == [60] * 50 and set(lengths[52:70]) == {120} and lengths[-1] == 60
    for (position, data), (after, _) in pairwise(found):
        assert position + packet_samples(data) == after  # nothing is missing, nothing stands twice
    decoder = OpusDecoder()
    voices = [taken.voice if (taken := take(data)) else data for _, data in found]
    assert sum(len(decoder.decode(voice)) for voice in voices if voice) == sum(lengths) * MS

    def kbps(start_s: float, end_s: float) -> float:
        sizes = [
            len(v or b"")
            for (p, _), v in zip(found, voices, strict=True)
            if start_s * RATE_HZ <= p < end_s * RATE_HZ
        ]
        return sum(sizes) * 8 / 1000 / (end_s - start_s)

    assert kbps(0, 3) > 7.5 and kbps(3, 6) < 6.5 and 7.5 < kbps(6.2, 8) < 10.5
    riding = [p // MS for p, d in found if take(d) is not None and 3.2 * RATE_HZ < p < 6 * RATE_HZ]
    assert {b - a for a, b in pairwise(riding)} == {240}
