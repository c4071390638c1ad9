"""The scene layer's receiver: messages in, small pictures out. dav1d decodes, through PyAV."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from mien.protocol.scene import DELIMITER, SceneAssembler, SceneUnit

logger = logging.getLogger(__name__)

MIN_SIDE: Final = 16
MAX_SIDE: Final = 256
MAX_PIXELS: Final = MAX_SIDE * MAX_SIDE
# What cannot be decoded may have left the decoder in any state; so often a new one is opened before we give up.
MAX_FAILURES: Final = 100


@dataclass(frozen=True, slots=True, eq=False)
class ScenePicture:
    """RGB uint8 [h, w, 3] of the whole source at `tick`. `face`: the face is in it, else it is filled."""

    tick: int
    rgb: NDArray[np.uint8]
    face: bool


class SceneDecoder:
    """Decodes one stream's scene messages. Whatever bytes come, what cannot be decoded is dropped and counted."""

    def __init__(self, stream: int) -> None:
        self._assembler = SceneAssembler(stream)
        self._codec: VideoCodecContext | None = None
        self._broken = True  # nothing can be decoded before a refresh
        self.failures = 0

    @property
    def wants_refresh(self) -> bool:
        """Whether the sender should be asked for a unit that decodes alone."""
        return self._broken or self._assembler.wants_refresh

    @property
    def lost(self) -> int:
        """How often units were missing."""
        return self._assembler.lost

    def note_tick(self, tick: int) -> None:
        """Say about which tick the stream's coefficients are at."""
        self._assembler.note_tick(tick)

    def decode(self, message: bytes) -> Sequence[ScenePicture]:
        """Return the pictures that a message completes. Raises `WireError` for bytes that are no scene message."""
        pictures = (self._picture(unit) for unit in self._assembler.add(message))
        return [picture for picture in pictures if picture is not None]

    def _picture(self, unit: SceneUnit) -> ScenePicture | None:
        if self.failures >= MAX_FAILURES or (self._broken and not unit.refresh):
            return None
        try:
            if self._broken or self._codec is None:
                self._codec = open_decoder()
                self._broken = False
            frames = self._codec.decode(av.Packet(DELIMITER + unit.data))
            rgb = rgb_of(frames)
        except (av.FFmpegError, ValueError, MemoryError) as error:
            rgb = None
            logger.debug("a scene unit of %d bytes does not decode: %s", len(unit.data), error)
        if rgb is None:
            self.failures += 1
            self._broken = True
            return None
        return ScenePicture(unit.tick, rgb, unit.face)


def open_decoder() -> VideoCodecContext:
    """Return dav1d, giving each picture at once and none above the largest size."""
    codec = av.CodecContext.create("libdav1d", "r")
    assert isinstance(codec, VideoCodecContext)
    codec.thread_count = 1
    codec.options = {"max_frame_delay": "1", "max_pixels": str(MAX_PIXELS)}
    return codec


def rgb_of(frames: Sequence[VideoFrame]) -> NDArray[np.uint8] | None:
    """Return the newest of a unit's pictures as RGB; None where there is none of a size that scenes have."""
    if not frames:
        return None
    frame = frames[-1]
    if not (MIN_SIDE <= frame.width <= MAX_SIDE and MIN_SIDE <= frame.height <= MAX_SIDE):
        return None
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
