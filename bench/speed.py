"""What a frame costs: the sender's CPU time and the receiver's pictures per second, on this machine."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from mien.decoder.playout import Playout
from mien.decoder.stage import Stage
from mien.encoder.capture import Frame
from mien.encoder.sender import FaceSender
from mien.encoder.stream_setup import make_fitter, make_stream_header
from mien.encoder.tracker import Tracker
from mien.protocol.avatar import Avatar
from mien.protocol.codec import BATCH_SECONDS, Batch, MessageDecoder
from mien.protocol.control import Rung

WARM_UP: Final = 10  # frames or pictures that are not counted
SIZES_PX: Final = (256, 512)
DISPLAY_INTERVAL_US: Final = 16_667  # 60 pictures a second, most of them between ticks


@dataclass(frozen=True, slots=True)
class SenderCost:
    """CPU milliseconds for one frame, from the decoded camera frame to the message.

    Tracking is the median; coding the mean, since a message is made once in several frames.
    """

    frames: int
    tracking_ms: float
    coding_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class ReceiverSpeed:
    """Pictures of one size: playout, warp, compositing and reading back, without showing them."""

    size_px: int
    backend: str
    pictures: int
    fps: float
    cpu_ms: float


def measure_sender(
    frames: Sequence[Frame], tracker: Tracker, avatar: Avatar, *, source_rate: Fraction
) -> tuple[SenderCost, FaceSender, list[bytes]]:
    """Track and code `frames`; return the cost, the sender and its messages."""
    faces = [f for frame in frames[:WARM_UP] for f in tracker.track(frame.rgb, frame.timestamp_us).faces[:1]]
    height, width = frames[0].rgb.shape[:2]
    header = make_stream_header(
        avatar, faces, source_rate=source_rate, width=width, height=height, tracker=tracker.tracker_id
    )
    sender = FaceSender(header, make_fitter(avatar, header), source_rate=source_rate)
    tracking, coding, messages = [], [], []
    for frame in frames:
        started = time.process_time()
        found = tracker.track(frame.rgb, frame.timestamp_us)
        tracked = time.process_time()
        messages += sender.on_tracking(frame.timestamp_us - frames[0].timestamp_us, found)
        coding.append(time.process_time() - tracked)
        tracking.append(tracked - started)
    tracking_ms = 1000 * float(np.median(tracking[WARM_UP:]))
    coding_ms = 1000 * float(np.mean(coding[WARM_UP:]))
    cost = SenderCost(
        frames=len(frames),
        tracking_ms=round(tracking_ms, 2),
        coding_ms=round(coding_ms, 3),
        total_ms=round(tracking_ms + coding_ms, 2),
    )
    return cost, sender, messages


def measure_receiver(
    avatar: Avatar, sender: FaceSender, messages: Sequence[bytes], size_px: int
) -> ReceiverSpeed:
    """Draw 60 pictures for each second of `messages`, as fast as the machine can."""
    decoder = MessageDecoder(sender.header)
    timeline = _Timeline(
        Playout(sender.header), deque(map(decoder.decode, messages)), sender.header.tick_rate
    )
    stage = Stage(width=size_px, height=size_px)
    try:
        stage.set_avatar(avatar, sender.header)
        stage.set_rung(Rung.AVATAR, now_us=0)
        for _ in range(WARM_UP):
            timeline.draw_next(stage)
        wall, cpu, pictures = time.perf_counter(), time.process_time(), 0
        while timeline.waiting:
            timeline.draw_next(stage)
            pictures += 1
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return ReceiverSpeed(
            size_px=size_px,
            backend=stage.backend,
            pictures=pictures,
            fps=round(pictures / wall, 1),
            cpu_ms=round(1000 * cpu / pictures, 2),
        )
    finally:
        stage.close()


@dataclass(slots=True, eq=False)
class _Timeline:
    """Hands batches to the playout when they would come, on a clock that only pictures advance."""

    playout: Playout
    waiting: deque[Batch]
    tick_rate: Fraction
    now_us: int = 0

    def draw_next(self, stage: Stage) -> None:
        self.now_us += DISPLAY_INTERVAL_US
        while self.waiting and self._arrival_us(self.waiting[0]) <= self.now_us:
            batch = self.waiting.popleft()
            self.playout.push(batch, arrival_us=self._arrival_us(batch))
        stage.draw(self.playout.state_at(self.now_us), now_us=self.now_us)

    def _arrival_us(self, batch: Batch) -> int:
        return int((batch.first_tick / self.tick_rate + Fraction(BATCH_SECONDS)) * 1_000_000)
