"""From sound to what is sent of it: whole frames, coded while somebody speaks, a sign of life while nobody does.

In a pause the encoder stands still, as the other side's decoder does, so that both go on from the same state.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from mien.call.opus import RATE_HZ, OpusEncoder, VoiceSettings, empty_packet
from mien.call.voice_activity import VoiceActivity

KEEP_ALIVE_SAMPLES: Final = RATE_HZ * 400 // 1000
MAX_SLIP_SAMPLES: Final = (
    RATE_HZ // 10
)  # a source whose times say otherwise than its samples by more has skipped


@dataclass(frozen=True, slots=True)
class VoicePacket:
    """An Opus packet; `position` is where its sound begins, in samples at 48 kHz from the source's start.

    `spoken`: somebody's voice is in it; else it only says that there is nothing new.
    """

    position: int
    data: bytes
    spoken: bool = True


@dataclass(slots=True)
class SpokenCounts:
    """What was said, and what it took."""

    frames: int = 0  # whole ones that were listened to
    spoken_frames: int = 0
    packets: int = 0  # of sound; a pause's are not counted
    payload_bytes: int = 0  # of these


class VoiceCoder:
    """Takes pieces of any length, gives packets of whole frames."""

    def __init__(self, settings: VoiceSettings) -> None:
        self.counts = SpokenCounts()
        self._encoder = OpusEncoder(settings)
        self._activity = VoiceActivity()
        self._pending = np.zeros(0, np.int16)
        self._position: int | None = None  # of the first pending sample
        self._sent_at: int | None = None  # position of the newest packet
        self._empty: bytes | None = None  # what says "nothing new" in the newest packet's mode
        self._speaking = False  # in the newest whole frame

    def push(self, samples: NDArray[np.int16], position: int) -> list[VoicePacket]:
        """Take mono int16 sound, 48 kHz, that begins at `position`, and return what is to be sent now.

        Where the source has skipped, the part of a frame from before is dropped.
        """
        if self._position is None or position != self._position + len(self._pending):
            self._pending, self._position = np.zeros(0, np.int16), position
        self._pending = np.concatenate([self._pending, samples])
        return list(self._whole_frames())

    def expect_loss(self, percent: int) -> None:
        """Repeat sound inside the packets for so much loss; 0: repeat nothing. The next frame begins a new encoder."""
        self.use(replace(self._encoder.settings, expected_loss_percent=percent))

    def use(self, settings: VoiceSettings) -> None:
        """Code from the next whole frame on in another way, if it is another: that frame begins a new encoder."""
        if settings != self._encoder.settings:
            self._encoder = OpusEncoder(settings)

    def pause_packet(self) -> VoicePacket | None:
        """Return an empty packet that may leave now, which keeps the pause alive too; `None` while somebody speaks.

        It stands for the newest sound as a packet of voice that is complete now would: it is never later than that.
        """
        if self._speaking or self._empty is None or self._position is None:
            return None
        end = self._position + len(self._pending)
        position = end - self._encoder.settings.frame_samples
        if self._sent_at is not None and position <= self._sent_at:
            return None  # frames have just become longer
        return VoicePacket(position, self._empty, spoken=False)

    def note_sent(self, packet: VoicePacket) -> None:
        """A pause's packet has left: the next sign of life has time."""
        self._sent_at = packet.position

    def _whole_frames(self) -> Iterator[VoicePacket]:
        length = self._encoder.settings.frame_samples
        while len(self._pending) >= length:
            assert self._position is not None
            frame, self._pending = self._pending[:length], self._pending[length:]
            packet = self._code(frame, self._position)
            if packet is not None:
                self._sent_at = self._position
                yield packet
            self._position += length

    def _code(self, frame: NDArray[np.int16], position: int) -> VoicePacket | None:
        # The first frame is sent, whatever is in it: it tells the other side's decoder the mode.
        self._speaking = self._activity.hear(frame)
        self.counts.frames += 1
        self.counts.spoken_frames += self._speaking
        if self._speaking or self._empty is None:
            data = self._encoder.encode(frame)
            self._empty = empty_packet(data[0])
            self.counts.packets += 1
            self.counts.payload_bytes += len(data)
            return VoicePacket(position, data)
        if self._sent_at is None or position - self._sent_at >= KEEP_ALIVE_SAMPLES:
            return VoicePacket(position, self._empty, spoken=False)
        return None


class MonoSound:
    """Frames of any rate, format and layout in, pieces of mono int16 at 48 kHz out, each with its position."""

    def __init__(self) -> None:
        self._resampler: av.AudioResampler | None = None
        self._position: int | None = None  # of the next sample that the resampler gives

    def convert(self, frame: av.AudioFrame) -> list[tuple[int, NDArray[np.int16]]]:
        """Return the pieces that are complete. A frame without a time follows the one before."""
        at = (
            round(frame.pts * frame.time_base * RATE_HZ)
            if frame.pts is not None and frame.time_base
            else None
        )
        if frame.sample_rate == RATE_HZ and frame.format.name == "s16" and frame.layout.name == "mono":
            start = at if at is not None else (self._position or 0)
            self._position = start + frame.samples
            return [(start, _samples(frame))]
        if self._position is None or (at is not None and abs(at - self._position) > MAX_SLIP_SAMPLES):
            self._position = at or 0
            self._resampler = None
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
        frame.pts = None
        pieces = []
        for converted in self._resampler.resample(frame):
            pieces.append((self._position, _samples(converted)))
            self._position += converted.samples
        return pieces

    def flush(self) -> list[tuple[int, NDArray[np.int16]]]:
        """Return what the resampler holds back, some milliseconds. The sound is over, or begins anew."""
        if self._resampler is None or self._position is None:
            return []
        rest = [_samples(converted) for converted in self._resampler.resample(None)]
        pieces = [(self._position + sum(map(len, rest[:i])), samples) for i, samples in enumerate(rest)]
        self._resampler = self._position = None
        return pieces


def _samples(frame: av.AudioFrame) -> NDArray[np.int16]:
    return frame.to_ndarray().reshape(-1).astype(np.int16, copy=False)
