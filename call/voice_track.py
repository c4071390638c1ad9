"""The track that aiortc sends: a source of sound, already coded, and the messages that ride along.

Messages are asked for at the moment when a packet leaves. Where nobody speaks, or the source is muted and gives
nothing, packets are made for them, on the same clock as the voice.
"""

import asyncio
import contextlib
from collections import deque
from dataclasses import replace
from typing import Any, Final, Protocol

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from mien.call import clock
from mien.call.audio import VoiceTrack
from mien.call.carrier_cadence import CarrierCadence, Gaps, Sound
from mien.call.opus import MAX_KBPS, MIN_KBPS, RATE_HZ, TIME_BASE, VoiceSettings
from mien.call.opus_padding import MAX_CARRIER_BYTES, MAX_OVERHEAD_BYTES, put
from mien.call.voice_coder import MonoSound, SpokenCounts, VoiceCoder, VoicePacket

MUTED_AFTER_US: Final = 250_000  # without sound; a source that was only slow catches up before
# 20 ms of nothing, for a decoder that has heard nobody yet: SILK, wideband.
SILENT_PACKET: Final = bytes([9 << 3])
WAKE_S: Final = 0.2
_NEVER: Final = -(1 << 40)  # a position before any other
MAX_UNHEARD: Final = 25  # frames of the source that wait; then the oldest is of no use


class Riders(Protocol):
    """Whoever has messages for the other side."""

    def board(self, now_us: int, room_bytes: int) -> bytes | None:
        """Return the message that rides in a packet that leaves now; `None`: none, and no packet is made for it."""


class CodedVoiceTrack(MediaStreamTrack):
    """Gives `av.Packet`s of Opus, which aiortc's sender passes on as they are, with the times they carry."""

    kind = "audio"

    def __init__(
        self, source: MediaStreamTrack, settings: VoiceSettings, riders: Riders | None = None
    ) -> None:
        super().__init__()
        self._source = source
        self._settings = settings
        self._most_kbps = settings.kbps
        self._riders = riders
        self._sound = MonoSound()
        self._coder: VoiceCoder | None = None
        self._cadence = CarrierCadence()
        self._ready: deque[VoicePacket] = deque()
        self._ear = _Ear(source)
        self._sound_end = 0  # position behind the newest sound
        self._sound_us: int | None = None  # when that came
        self._newest = VoicePacket(_NEVER, b"")  # that left

    def limit(self, kbps: float) -> None:
        """Keep to what the other side asks for, if that is less. Once the first packet is coded it is too late."""
        self._most_kbps = max(MIN_KBPS, min(kbps, self._most_kbps, MAX_KBPS))
        self._settings = replace(self._settings, kbps=min(self._settings.kbps, self._most_kbps))

    @property
    def most_kbps(self) -> float:
        """What was agreed on."""
        return self._most_kbps

    def pace(self, kbps: float, frame_ms: int) -> None:
        """Code from the next frame on at this rate, or what was agreed on if that is less, and in such packets."""
        kbps = max(MIN_KBPS, min(kbps, self._most_kbps))
        self._settings = replace(self._settings, kbps=kbps, frame_ms=frame_ms)
        if self._coder is not None:
            self._coder.use(self._settings)

    def space(self, gaps: Gaps) -> None:
        """Let messages ride so far apart."""
        self._cadence.gaps = gaps

    @property
    def kbps(self) -> float:
        """The rate that the voice keeps to."""
        return self._settings.kbps

    def expect_loss(self, percent: int) -> None:
        """Repeat sound inside the packets for so much loss (in percent); 0: repeat nothing."""
        if self._coder is not None:
            self._coder.expect_loss(percent)
        self._settings = replace(self._settings, expected_loss_percent=percent)

    @property
    def counts(self) -> SpokenCounts:
        """What was said so far."""
        return self._coder.counts if self._coder else SpokenCounts()

    @property
    def newest_position(self) -> int | None:
        """The position of the newest packet that left, in samples at 48 kHz from the source's start."""
        return self._newest.position if self._newest.data else None

    async def recv(self) -> "av.Packet[Any]":  # generic in PyAV's stubs alone
        """Return the next packet when it is due. In a pause without messages this takes its time."""
        while True:
            packet = await self._next_packet()
            if packet is not None:
                self._newest = packet
                return _as_av(packet)

    def stop(self) -> None:
        """Stop the source too."""
        super().stop()
        self._source.stop()
        self._ear.close()

    async def _next_packet(self) -> VoicePacket | None:
        """Return what leaves next, `None` where something happened and yet nothing leaves."""
        if self._ready:
            return self._boarded(self._ready.popleft())
        if self.readyState != "live":
            raise MediaStreamError
        frame = await self._ear.next_frame(self._patience_s())
        if frame is None:
            return self._packet_while_muted()
        coder = self._take(frame)
        return None if self._ready else self._packet_in_pause(coder)

    def _take(self, frame: av.AudioFrame) -> VoiceCoder:
        if self._coder is None:  # only now is it known what was negotiated
            self._coder = VoiceCoder(self._settings)
        for position, samples in self._sound.convert(frame):
            self._sound_end, self._sound_us = position + len(samples), clock.now_us()
            self._ready.extend(self._coder.push(samples, position))
        return self._coder

    # --- messages ---------------------------------------------------------------------------------------------

    def _boarded(self, packet: VoicePacket) -> VoicePacket:
        """Return a packet that leaves now, with a message where there is one and its time has come."""
        if self._riders is None or not self._cadence.may_ride(packet.position, _sound_of(packet)):
            return packet
        return self._with_message(packet, voice=True) or packet

    def _packet_in_pause(self, coder: VoiceCoder) -> VoicePacket | None:
        packet = coder.pause_packet()
        if packet is None or self._riders is None:
            return None
        if not self._cadence.may_ride(packet.position, Sound.PAUSE):
            return None
        boarded = self._with_message(packet, voice=True)
        if boarded is not None:
            coder.note_sent(packet)
        return boarded

    def _packet_while_muted(self) -> VoicePacket | None:
        position = self._position_while_muted(clock.now_us())
        if position is None or position <= self._newest.position or self._riders is None:
            return None
        if not self._cadence.may_ride(position, Sound.MUTED):
            return None
        return self._with_message(VoicePacket(position, SILENT_PACKET, spoken=False), voice=False)

    def _with_message(self, packet: VoicePacket, *, voice: bool) -> VoicePacket | None:
        assert self._riders is not None
        room = MAX_CARRIER_BYTES - MAX_OVERHEAD_BYTES - len(packet.data)
        message = self._riders.board(clock.now_us(), room)
        if message is None:
            return None
        self._cadence.note_carried(packet.position)
        return replace(packet, data=put(packet.data, message, voice=voice))

    def _position_while_muted(self, now_us: int) -> int | None:
        """Return the position of a packet of voice that would be complete now; `None` where sound may yet come."""
        if self._sound_us is None:
            end = self._source.position_at(now_us) if isinstance(self._source, VoiceTrack) else None
        elif now_us - self._sound_us < MUTED_AFTER_US:
            end = None
        else:
            end = self._sound_end + (now_us - self._sound_us) * RATE_HZ // 1_000_000
        return None if end is None else end - self._settings.frame_samples

    def _patience_s(self) -> float:
        """Return how long sound may take until something else is to be done."""
        now_us = clock.now_us()
        if self._sound_us is not None and now_us - self._sound_us < MUTED_AFTER_US:
            return (self._sound_us + MUTED_AFTER_US - now_us) / 1e6
        position = self._position_while_muted(now_us)
        if position is None:
            return WAKE_S
        wait_s = self._cadence.wait(position, Sound.MUTED) / RATE_HZ
        return wait_s if wait_s > 0 else WAKE_S


class _Ear:
    """Listens to a source all the time, so that waiting for its next frame can be given up and taken up again.

    A frame costs the event loop no more turns than reading it directly would: a busy loop has few.
    """

    def __init__(self, source: MediaStreamTrack) -> None:
        self._source = source
        self._frames: deque[av.AudioFrame] = deque(maxlen=MAX_UNHEARD)
        self._came = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    async def next_frame(self, patience_s: float) -> av.AudioFrame | None:
        """Return the oldest frame that waits; `None` where none comes so soon. Raises what the source does."""
        if self._listening is None:
            self._listening = asyncio.ensure_future(self._listen())
        if not self._frames and not self._listening.done():
            self._came.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._came.wait()
        if self._frames:
            return self._frames.popleft()
        if self._listening.done():
            self._listening.result()
        return None

    def close(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening.cancel()

    async def _listen(self) -> None:
        try:
            while True:
                frame = await self._source.recv()
                if isinstance(frame, av.AudioFrame):
                    self._frames.append(frame)
                    self._came.set()
        finally:
            self._came.set()


def _sound_of(packet: VoicePacket) -> Sound:
    return Sound.SPEECH if packet.spoken else Sound.PAUSE


def _as_av(packet: VoicePacket) -> "av.Packet[Any]":
    result = av.Packet(packet.data)
    result.pts = packet.position
    result.time_base = TIME_BASE
    return result
