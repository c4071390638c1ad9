"""The track that aiortc sends: a source of sound, already coded, so that aiortc's own encoder has nothing to do."""

from collections import deque
from typing import Any

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from mien.call.opus import MAX_KBPS, MIN_KBPS, TIME_BASE, VoiceSettings
from mien.call.voice_coder import MonoSound, VoiceCoder, VoicePacket


class CodedVoiceTrack(MediaStreamTrack):
    """Gives `av.Packet`s of Opus, which aiortc's sender passes on as they are, with the times they carry."""

    kind = "audio"

    def __init__(self, source: MediaStreamTrack, settings: VoiceSettings) -> None:
        super().__init__()
        self._source = source
        self._settings = settings
        self._sound = MonoSound()
        self._coder: VoiceCoder | None = None
        self._ready: deque[VoicePacket] = deque()

    def limit(self, kbps: float) -> None:
        """Keep to what the other side asks for, if that is less. Once the first packet is coded it is too late."""
        kbps = max(MIN_KBPS, min(kbps, self._settings.kbps, MAX_KBPS))
        self._settings = VoiceSettings(kbps, self._settings.frame_ms, self._settings.expected_loss_percent)

    async def recv(self) -> "av.Packet[Any]":  # generic in PyAV's stubs alone
        """Return the next packet when it is due. In a pause this takes its time."""
        while not self._ready:
            if self.readyState != "live":
                raise MediaStreamError
            frame = await self._source.recv()
            if isinstance(frame, av.AudioFrame):
                self._take(frame)
        return _as_av(self._ready.popleft())

    def stop(self) -> None:
        """Stop the source too."""
        super().stop()
        self._source.stop()

    def _take(self, frame: av.AudioFrame) -> None:
        if self._coder is None:  # only now is it known what was negotiated
            self._coder = VoiceCoder(self._settings)
        for position, samples in self._sound.convert(frame):
            self._ready.extend(self._coder.push(samples, position))


def _as_av(packet: VoicePacket) -> "av.Packet[Any]":
    result = av.Packet(packet.data)
    result.pts = packet.position
    result.time_base = TIME_BASE
    return result
