"""The scene layer's sender: a few small pictures a second, made private, coded as AV1 by SVT-AV1."""

import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from numpy.typing import NDArray

from mien.encoder.scene_privacy import ScenePrivacy, private_picture
from mien.protocol.errors import MienError
from mien.protocol.scene import DELIMITER, SceneUnit

logger = logging.getLogger(__name__)

# The most at which face and scene together stay below 9 kbps on the wire in packets of a voice, and below 15 by the
# data channel with everything that goes with it: medians, counted by `mien bench picture` and `mien bench call`.
USUAL_KBPS: Final = 5.0
MIN_KBPS: Final = 3.0
MAX_KBPS: Final = 20.0
# Pictures a second. An AV1 picture's header takes 15 to 19 bytes and a message's some more, so that ten a second look
# worse at equal kbps up to 12, and no better above.
SCENE_RATE: Final = Fraction(15, 2)
SCENE_AREA: Final = 128 * 128  # pixels
SIDE_STEP: Final = 8
SIDE_RANGE: Final = (64, 256)
PRESET: Final = "3"  # of so small pictures it codes one in 5 to 8 ms
# Constant bit rate, each frame from earlier ones alone and out at once, tuned for PSNR. Neither of the filters that
# take ringing away: they and what they cost are worth less than the detail that goes with it.
PARAMETERS: Final = "rc=2:pred-struct=1:tune=1:enable-cdef=0:enable-restoration=0"
QUIET: Final = ("SVT_LOG", "1")  # else it tells its settings on stderr; it reads only the environment
TIME_BASE: Final = Fraction(1, 1_000_000)
_OBU_SEQUENCE: Final = 1


def scene_size(width: int, height: int) -> tuple[int, int]:
    """Return width and height of the scene's pictures for a source of this shape: about 128 x 128 pixels of area."""
    shrink = (SCENE_AREA / (width * height)) ** 0.5
    low, high = SIDE_RANGE

    def side(pixels: int) -> int:
        return int(min(high, max(low, SIDE_STEP * round(pixels * shrink / SIDE_STEP))))

    return side(width), side(height)


def check_kbps(kbps: float) -> float:
    """Return the rate. Raises `MienError` for one that no scene has."""
    if not MIN_KBPS <= kbps <= MAX_KBPS:
        raise MienError(f"a scene layer of {kbps:g} kbps: expected {MIN_KBPS:g} to {MAX_KBPS:g}")
    return kbps


class SceneEncoder:
    """Codes a stream's frames. One thread at a time; a unit comes out of the call that took its frame."""

    def __init__(
        self,
        *,
        width: int,
        height: int,
        tick_rate: Fraction,
        kbps: float,
        privacy: ScenePrivacy | None = None,
    ) -> None:
        """`width` and `height` are the source's. Raises `MienError` for a rate out of range, or without SVT-AV1."""
        self.kbps = check_kbps(kbps)
        self.privacy = privacy or ScenePrivacy()
        self.size = scene_size(width, height)
        self.stride = max(1, round(tick_rate / SCENE_RATE))  # ticks from one picture to the next
        self.withheld = 0  # pictures that were due and could not be made private
        self._tick_rate = tick_rate
        self._next_tick: int | None = None
        self._refresh = False
        self._codec: VideoCodecContext | None = self._open()

    def refresh(self) -> None:
        """Let the next unit decode without those before it: somebody lost one."""
        self._refresh = True

    def encode(
        self, tick: int, rgb: NDArray[np.uint8], landmarks: NDArray[np.floating] | None
    ) -> SceneUnit | None:
        """Take the frame of a tick, RGB uint8 [h, w, 3]; return its unit, or None where none is due.

        `landmarks` [478, 2 or more] in the frame's pixels; None where not one face alone was found.
        """
        if self._next_tick is not None and tick < self._next_tick:
            return None
        small, points = self._shrunk(rgb, landmarks)
        private = private_picture(small, points, self.privacy)
        if private is None:
            self.withheld += 1
            return None
        late = 0 if self._next_tick is None else tick - self._next_tick
        self._next_tick = tick + (self.stride - late if late < self.stride else self.stride)
        return self._coded(tick, private)

    def close(self) -> None:
        """Free the codec."""
        if self._codec is not None:
            self._codec.encode(None)  # SVT-AV1 complains of streams that were not ended
            self._codec = None

    def _shrunk(
        self, rgb: NDArray[np.uint8], landmarks: NDArray[np.floating] | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.floating] | None]:
        small = np.asarray(cv2.resize(rgb, self.size, interpolation=cv2.INTER_AREA), np.uint8)
        if landmarks is None:
            return small, None
        scale = np.array([self.size[0] / rgb.shape[1], self.size[1] / rgb.shape[0]])
        return small, landmarks[:, :2] * scale

    def _coded(self, tick: int, rgb: NDArray[np.uint8]) -> SceneUnit | None:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(
            format="yuv420p"
        )
        frame.pts = int(tick * 1_000_000 / self._tick_rate)
        frame.time_base = TIME_BASE
        frame.pict_type = PictureType.I if self._refresh else PictureType.NONE
        if self._codec is None:
            raise ValueError("the scene's encoder is closed")
        packets = self._codec.encode(frame)
        if not packets:  # the codec keeps what it was given; it comes out at the next call, too late
            logger.debug("the scene's codec gave nothing for tick %d", tick)
            return None
        data = bytes(packets[-1])
        self._refresh = False
        return SceneUnit(
            tick,
            data.removeprefix(DELIMITER),
            refresh=begins_sequence(data),
            face=self.privacy.show_face,
        )

    def _open(self) -> VideoCodecContext:
        os.environ.setdefault(*QUIET)
        try:
            codec = av.CodecContext.create("libsvtav1", "w")
        except av.codec.codec.UnknownCodecError as error:
            raise MienError("this build of PyAV has no SVT-AV1, which the scene layer needs") from error
        assert isinstance(codec, VideoCodecContext)
        codec.width, codec.height = self.size
        codec.pix_fmt = "yuv420p"
        codec.time_base = TIME_BASE
        codec.framerate = self._tick_rate / self.stride
        codec.gop_size = 1 << 20  # refreshed when asked for
        codec.bit_rate = round(self.kbps * 1000)
        codec.options = {"preset": PRESET, "svtav1-params": PARAMETERS}
        codec.open()
        return codec


def begins_sequence(data: bytes) -> bool:
    """Return whether an AV1 temporal unit holds a sequence header, as those do that decode alone."""
    return any(kind == _OBU_SEQUENCE for kind in obu_types(data))


def obu_types(data: bytes) -> Iterator[int]:
    """Yield the types of the OBUs in a temporal unit (AV1 specification, 5.3); stops at what is none."""
    at = 0
    while at < len(data):
        header = data[at]
        yield header >> 3 & 15
        at += 1 + (header >> 2 & 1)
        if not header & 2:
            return
        size = shift = 0
        while at < len(data) and shift < 35:
            byte = data[at]
            size |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                break
        at += size
