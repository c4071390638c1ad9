"""What a frame costs: the sender's CPU time and the receiver's pictures per second, on this machine."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeVar

import numpy as np

from mien.decoder.playout import Playout
from mien.decoder.stage import Stage
from mien.encoder.capture import Frame
from mien.encoder.sender import FaceSender
from mien.encoder.stream_setup import make_fitter, make_stream_header
from mien.encoder.tracker import Tracker
from mien.protocol.avatar import Avatar
from mien.protocol.codec import (
    BATCH_SECONDS,
    TICK_MODULUS,
    Batch,
    MessageDecoder,
    MessageEncoder,
    frames_per_batch,
)
from mien.protocol.control import Rung
from mien.protocol.message import CoefficientMessage
from mien.protocol.quantizer import MAX_VALUE, Quality, to_steps
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader
from mien.protocol.tables import Tables

WARM_UP: Final = 10  # frames or pictures that are not counted
SIZES_PX: Final = (256, 512)
PASSES: Final = 3
_Result = TypeVar("_Result")
DISPLAY_INTERVAL_US: Final = 16_667  # 60 pictures a second, most of them between ticks


@dataclass(frozen=True, slots=True)
class CodecCost:
    """CPU milliseconds a frame of the codec alone, states in, states out; means, the best of several passes.

    `codec_ms` is `encode_ms` and `decode_ms` with residuals that are simply rounded. `search_ms` comes on top of that
    where they are chosen by bits and error together, as a call does; `search_saves_percent` is what that saves of
    the messages' bytes, for some more error.
    """

    frames: int
    encode_ms: float
    decode_ms: float
    codec_ms: float
    search_ms: float
    search_saves_percent: float


@dataclass(frozen=True, slots=True)
class SenderCost:
    """CPU milliseconds for one frame, from the decoded camera frame to the message.

    Tracking is the median; coding (fitting, search, range coder) the mean, since a message is made once in several
    frames. `codec` is of the range coder's side alone.
    """

    frames: int
    tracking_ms: float
    coding_ms: float
    total_ms: float
    codec: CodecCost


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
    tracking, coding, messages, states = [], [], [], []
    for frame in frames:
        started = time.process_time()
        found = tracker.track(frame.rgb, frame.timestamp_us)
        tracked = time.process_time()
        messages += sender.on_tracking(frame.timestamp_us - frames[0].timestamp_us, found)
        coding.append(time.process_time() - tracked)
        tracking.append(tracked - started)
        states.append(sender.state)
    tracking_ms = 1000 * float(np.median(tracking[WARM_UP:]))
    coding_ms = 1000 * float(np.mean(coding[WARM_UP:]))
    cost = SenderCost(
        frames=len(frames),
        tracking_ms=round(tracking_ms, 2),
        coding_ms=round(coding_ms, 3),
        total_ms=round(tracking_ms + coding_ms, 2),
        codec=measure_codec(header, [state for state in states if state.tracked]),
    )
    return cost, sender, messages


def measure_codec(header: StreamHeader, states: Sequence[FaceState], *, passes: int = PASSES) -> CodecCost:
    """Code and decode `states` as fast as the machine can, with and without the search."""
    searched, search = _best_of(passes, lambda: _search_and_code(header, states))
    plain, encode = _best_of(passes, lambda: _round_and_code(header, states))
    _, decode = _best_of(passes, lambda: list(map(MessageDecoder(header).decode, searched)))
    frames = len(states)
    each = [1000 * seconds / max(1, frames) for seconds in (encode, decode, search - encode)]
    sizes = sum(map(len, searched)), sum(map(len, plain))
    return CodecCost(
        frames=frames,
        encode_ms=round(each[0], 3),
        decode_ms=round(each[1], 3),
        codec_ms=round(each[0] + each[1], 3),
        search_ms=round(each[2], 3),
        search_saves_percent=round(100 * (1 - sizes[0] / max(1, sizes[1])), 1),
    )


def _search_and_code(header: StreamHeader, states: Sequence[FaceState]) -> list[bytes]:
    encoder = MessageEncoder(header)
    messages = [encoder.push(tick, state) for tick, state in enumerate(states)]
    return [m for m in (*messages, encoder.flush(last=True)) if m is not None]


def _round_and_code(header: StreamHeader, states: Sequence[FaceState]) -> list[bytes]:
    tables, size, step = Tables.load(), frames_per_batch(header), int(Quality.NORMAL)
    messages = []
    for first in range(0, len(states), size):
        batch = states[first : first + size]
        steps = np.array([to_steps(state, header.rest_pose, step) for state in batch])
        message = CoefficientMessage(
            stream=header.stream,
            first_tick=first % TICK_MODULUS,
            step_index=step,
            values=np.clip(np.rint(steps), -MAX_VALUE, MAX_VALUE).astype(np.int16),
            tracked=(True,) * len(batch),
        )
        messages.append(message.serialize(tables))
    return messages


def _best_of(passes: int, work: Callable[[], list[_Result]]) -> tuple[list[_Result], float]:
    """Return what `work` gives, and the CPU seconds that it took when it was least disturbed."""
    least = math.inf
    for _ in range(passes):
        started = time.thread_time()
        result = work()
        least = min(least, time.thread_time() - started)
    return result, least


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
