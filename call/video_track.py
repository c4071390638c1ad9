"""The track behind the negotiated video line: silent for as long as its gate is closed."""

import asyncio
from typing import Final

import av
from aiortc import MediaStreamTrack, RTCRtpSender
from aiortc.mediastreams import VIDEO_CLOCK_RATE, VIDEO_TIME_BASE, MediaStreamError
from aiortc.rtp import AnyRtcpPacket
from av.video.reformatter import Interpolation

from mien.call import clock
from mien.call.video_gate import VideoGate

MAX_SIDE_PX: Final = 640
MIN_INTERVAL_US: Final = 66_000  # 15 frames a second


class GatedVideoTrack(MediaStreamTrack):
    """Emits what passes the gate, at most 15 frames a second and 640 pixels on the longer side."""

    kind = "video"

    def __init__(self, gate: VideoGate) -> None:
        super().__init__()
        self._gate = gate
        self._start_us: int | None = None
        self._last_us = -MIN_INTERVAL_US

    async def recv(self) -> av.VideoFrame:
        """Wait for the next frame that may be sent."""
        while self.readyState == "live":
            wait_us = self._last_us + MIN_INTERVAL_US - clock.now_us()
            if wait_us > 0:
                await asyncio.sleep(wait_us / 1e6)
            rgb, timestamp_us = await self._gate.take()
            self._last_us = clock.now_us()
            width, height = fit_size(rgb.shape[1], rgb.shape[0])
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
                width, height, "yuv420p", interpolation=Interpolation.AREA
            )
            if self._start_us is None:
                self._start_us = timestamp_us
            frame.pts = (timestamp_us - self._start_us) * VIDEO_CLOCK_RATE // 1_000_000
            frame.time_base = VIDEO_TIME_BASE
            if self._gate.is_open:  # it may have been closed meanwhile
                return frame
        raise MediaStreamError


def fit_size(width: int, height: int) -> tuple[int, int]:
    """Return the even size, at most `MAX_SIDE_PX` on the longer side, with the same shape."""
    scale = min(1.0, MAX_SIDE_PX / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def silence_rtcp_until_open(sender: RTCRtpSender, gate: VideoGate) -> None:
    """Keep a sender from reporting once a second about video that was never sent (1 kbps)."""
    send = sender._send_rtcp

    async def send_if_ever_open(packets: list[AnyRtcpPacket]) -> None:
        if gate.ever_open:
            await send(packets)

    vars(sender)["_send_rtcp"] = send_if_ever_open
