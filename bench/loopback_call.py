"""A call of this machine with itself, measured: two peers, real DTLS and SCTP over loopback, everything counted.

One peer has the source, the tracker and the avatar; the other one only watches. What is reported is what the
watching peer was really sent and showed: errors are those of the messages that arrived, latencies those of the
pictures that were composited, bytes those of the datagrams at the socket.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.call import clock
from mien.call.face_view import ShownPicture, ViewSettings
from mien.call.peer import Addresses
from mien.call.rendezvous import local_pair
from mien.call.session import CallSession
from mien.call.settings import CallHooks, CallSettings, Participant
from mien.call.source_worker import SenderSettings, TrackedFrame
from mien.call.statistics import CallStatistics, Latency
from mien.call.wire_cause import Cause, Direction
from mien.call.wire_totals import WireTotals
from mien.encoder.sender import MAX_FILL_TICKS
from mien.models.face_model import FaceModel, project
from mien.models.landmark_sets import inter_pupil_px
from mien.protocol.avatar import Avatar
from mien.protocol.codec import MessageDecoder
from mien.protocol.control import Carrier, Rung
from mien.protocol.errors import MienError, WireError
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader

POLL_S: Final = 0.05
# There is room on loopback: the avatar should not keep the demo waiting. A call sends it at 17 kbps.
TRANSFER_KBPS: Final = 2000.0


@dataclass(frozen=True, slots=True)
class LoopbackSettings:
    """How the call is made."""

    sender: SenderSettings = field(default_factory=SenderSettings)
    view: ViewSettings = field(default_factory=ViewSettings)
    transfer_kbps: float = TRANSFER_KBPS


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """How the call goes at the moment of a picture."""

    face_kbps: float  # coefficients, on the wire
    out_kbps: float  # all that the sender sends
    back_kbps: float  # all that the sender receives
    latency_ms: float | None  # of this picture


@dataclass(frozen=True, slots=True)
class LoopbackHooks:
    """Called on the event loop; they must return soon. `on_picture` is called from the first picture of a face on."""

    on_frame: Callable[[TrackedFrame], None] | None = None
    on_picture: Callable[[ShownPicture, LiveFigures], None] | None = None


@dataclass(frozen=True, slots=True)
class LandmarkError:
    """Decoded against tracked landmarks: the mean 2-D distance in percent of the distance between the pupils."""

    frames: int = 0
    mean_percent: float = math.nan
    p95_percent: float = math.nan


@dataclass(frozen=True, slots=True)
class LoopbackResult:
    """What the call cost and gave.

    `wire` is the sender's meter over the steady part: from when the avatar had been sent and the first picture
    was shown until the input ended. `sender` and `receiver` are of the whole call.
    """

    header: StreamHeader
    sender: CallStatistics
    receiver: CallStatistics
    wire: WireTotals
    error: LandmarkError
    latency: Latency
    frames_per_s: float  # tracked and sent, in the steady part
    pictures_per_s: float  # composited, in the steady part
    first_picture_s: float  # after the connection stood
    sender_ports: frozenset[int]  # UDP, of the sender's sockets

    @property
    def payload_kbps(self) -> float:
        """Coefficient messages without any header, per second."""
        flow = self.wire.sent.get(Cause.COEFFICIENTS)
        return flow.payload_bytes * 8000 / self.wire.elapsed_us if flow and self.wire.elapsed_us else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        return {
            "payload_kbps": self.payload_kbps,
            "wire_kbps": {
                direction.value: {
                    **{cause.value: self.wire.kbps(direction, cause) for cause in self.wire.flows(direction)},
                    "total": self.wire.kbps(direction),
                }
                for direction in Direction
            },
            "nme_percent": {
                "mean": self.error.mean_percent,
                "p95": self.error.p95_percent,
                "frames": self.error.frames,
            },
            "latency_ms": {
                "median": self.latency.median_ms,
                "p95": self.latency.p95_ms,
                "pictures": self.latency.samples,
            },
            "frames_per_s": self.frames_per_s,
            "pictures_per_s": self.pictures_per_s,
            "first_picture_s": self.first_picture_s,
            "steady_wire": self.wire.as_json(),
            "sender": self.sender.as_json(),
            "receiver": self.receiver.as_json(),
        }


async def loopback_call(
    me: Participant,
    avatar: Avatar,
    *,
    settings: LoopbackSettings | None = None,
    hooks: LoopbackHooks | None = None,
) -> LoopbackResult:
    """Call until the input of `me` ends; `avatar` is what `me.avatar` holds.

    Raises `MienError` where no face was ever shown.
    """
    settings = settings or LoopbackSettings()
    watch = _Watch(hooks or LoopbackHooks())
    base = CallSettings(addresses=Addresses.LOOPBACK, audio=False)
    sender = _Sender(watch, me, replace(base, sender=settings.sender, transfer_kbps=settings.transfer_kbps))
    receiver = _Receiver(watch, replace(base, view=settings.view))
    watch.sender, watch.receiver = sender, receiver
    one, other = local_pair()
    sender_statistics, receiver_statistics = await _together(
        sender.run(one), receiver.run(other), watch.run()
    )
    return watch.result(sender_statistics, receiver_statistics, avatar)


async def _together(*coroutines: Any) -> tuple[CallStatistics, CallStatistics]:
    """Run both ends and the watch; when one fails, stop the others and raise its error."""
    tasks = [asyncio.ensure_future(c) for c in coroutines]
    try:
        await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_EXCEPTION)
        return await tasks[0], await tasks[1]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Sender(CallSession):
    """Tells of its stream and of its input's end."""

    def __init__(self, watch: "_Watch", me: Participant, settings: CallSettings) -> None:
        super().__init__(me, settings, CallHooks(on_frame=watch.on_frame))
        self._watch = watch

    def on_stream(self, header: StreamHeader) -> None:
        """Our stream begins."""
        super().on_stream(header)
        self._watch.header = header

    def on_source_end(self, messages: tuple[bytes, ...], error: Exception | None) -> None:
        """The input has ended."""
        self._watch.on_source_end(error)
        super().on_source_end(messages, error)


class _Receiver(CallSession):
    """Only watches, and keeps the messages that arrived."""

    def __init__(self, watch: "_Watch", settings: CallSettings) -> None:
        super().__init__(Participant(), settings, CallHooks(on_picture=watch.on_picture))
        self._watch = watch

    def on_coefficients(self, data: bytes, carrier: Carrier = Carrier.DATACHANNEL) -> None:
        """A coefficient message arrived."""
        super().on_coefficients(data, carrier)
        if data:
            self._watch.messages.append(data)


class _Watch:
    """Takes down what both ends do. Lives on the event loop."""

    def __init__(self, hooks: LoopbackHooks) -> None:
        self._hooks = hooks
        self._landmarks: dict[int, NDArray[np.float32]] = {}  # [478, 2], by tick
        self._latencies_us: list[int] = []
        self._frame_times_us: list[int] = []
        self._picture_times_us: list[int] = []
        self._first_picture_us: int | None = None
        self._steady: tuple[int, WireTotals] | None = None
        self._ended: tuple[int, WireTotals] | None = None
        self._source_error: Exception | None = None
        self.messages: list[bytes] = []
        self.header: StreamHeader | None = None
        self.sender: _Sender | None = None
        self.receiver: _Receiver | None = None

    async def run(self) -> None:
        """Wait for the steady part to begin, and take the meter's reading then."""
        assert self.sender is not None
        await self.sender.connected.wait()
        while self._first_picture_us is None or not self.sender.avatar_delivered:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(POLL_S)
        self._steady = clock.now_us(), self.sender.meter.totals()

    def on_frame(self, frame: TrackedFrame) -> None:
        """Our end has tracked a frame."""
        self._frame_times_us.append(clock.now_us())
        if frame.tick is not None and frame.landmarks is not None:
            self._landmarks[frame.tick] = frame.landmarks[:, :2].copy()
        if self._hooks.on_frame is not None:
            self._hooks.on_frame(frame)

    def on_source_end(self, error: Exception | None) -> None:
        """The steady part is over."""
        assert self.sender is not None
        self._source_error = error
        self._ended = clock.now_us(), self.sender.meter.totals()

    def on_picture(self, picture: ShownPicture) -> None:
        """The other end has composited a picture."""
        if not picture.avatar or picture.shown.tick is None or picture.rung is not Rung.AVATAR:
            return
        if self._first_picture_us is None:
            self._first_picture_us = picture.composited_us
        self._picture_times_us.append(picture.composited_us)
        latency_us = self._latency_us(picture)
        if latency_us is not None:
            self._latencies_us.append(latency_us)
        if self._hooks.on_picture is not None:
            self._hooks.on_picture(picture, self._figures(latency_us))

    def _latency_us(self, picture: ShownPicture) -> int | None:
        """From when the shown moment was before the camera until it was composited. It lies between two frames."""
        assert picture.shown.tick is not None
        tick = math.floor(picture.shown.tick)
        before, after = self._stamp(tick, -1), self._stamp(tick + 1, 1)
        if before is None or after is None:
            return None
        (early, early_us), (late, late_us) = before, after
        stamp_us = early_us + (late_us - early_us) * float(picture.shown.tick - early) / (late - early)
        return round(picture.composited_us - stamp_us)

    def _stamp(self, tick: int, step: int) -> tuple[int, int] | None:
        """Return the nearest tick from `tick` on, going by `step`, that a frame stands for, and its time."""
        assert self.sender is not None
        for near in range(tick, tick + step * (MAX_FILL_TICKS + 1), step):
            stamp_us = self.sender.stamp_of(near)
            if stamp_us is not None:
                return near, stamp_us
        return None

    def _figures(self, latency_us: int | None) -> LiveFigures:
        assert self.sender is not None
        meter, window_us = self.sender.meter, 3_000_000
        return LiveFigures(
            face_kbps=meter.kbps(Direction.SENT, Cause.COEFFICIENTS, window_us=window_us),
            out_kbps=meter.kbps(Direction.SENT, window_us=window_us),
            back_kbps=meter.kbps(Direction.RECEIVED, window_us=window_us),
            latency_ms=None if latency_us is None else latency_us / 1000,
        )

    def result(self, sender: CallStatistics, receiver: CallStatistics, avatar: Avatar) -> LoopbackResult:
        """Sum up. Raises `MienError` where nothing was shown."""
        if self._source_error is not None:
            raise self._source_error
        if self.header is None or self._first_picture_us is None:
            raise MienError(
                f"no face was shown ({sender.sent.frames} frames were tracked, {len(self.messages)} messages "
                "arrived): the input needs a few seconds with exactly one face"
            )
        if self._steady is None or self._ended is None or self._ended[0] <= self._steady[0]:
            raise MienError("the call ended before the avatar had been sent: take a longer input")
        (start_us, before), (end_us, after) = self._steady, self._ended
        seconds = (end_us - start_us) / 1e6
        return LoopbackResult(
            header=self.header,
            sender=sender,
            receiver=receiver,
            wire=after.since(before),
            error=landmark_error(self.messages, self.header, self._landmarks, avatar.neutral),
            latency=Latency.of(self._latencies_us),
            frames_per_s=_rate(self._frame_times_us, start_us, end_us, seconds),
            pictures_per_s=_rate(self._picture_times_us, start_us, end_us, seconds),
            first_picture_s=receiver.received.first_face_s or 0.0,
            sender_ports=self.sender.meter.local_ports if self.sender else frozenset(),
        )


def _rate(times_us: list[int], start_us: int, end_us: int, seconds: float) -> float:
    return sum(start_us <= t < end_us for t in times_us) / seconds if seconds > 0 else 0.0


def landmark_error(
    messages: list[bytes],
    header: StreamHeader,
    landmarks: dict[int, NDArray[np.float32]],
    neutral: NDArray[np.float32],
) -> LandmarkError:
    """Compare the faces of received messages with the tracked `landmarks`, float32 [478, 2] in pixels, by tick."""
    errors = []
    for tick, state in decoded_states(messages, header).items():
        truth = landmarks.get(tick)
        if truth is None or not state.tracked:
            continue
        vertices = FaceModel.load().vertices(neutral, state.expression)
        points = project(
            vertices, state.pose, unit_px=float(header.unit_px), width=header.width, height=header.height
        )
        distance_px = np.linalg.norm(points[:, :2] - truth, axis=1).mean()
        errors.append(float(100 * distance_px / inter_pupil_px(truth)))
    if not errors:
        return LandmarkError()
    return LandmarkError(len(errors), float(np.mean(errors)), float(np.percentile(errors, 95)))


def decoded_states(messages: list[bytes], header: StreamHeader) -> dict[int, FaceState]:
    """Return the states of messages in the order of their arrival, by tick."""
    decoder = MessageDecoder(header)
    states: dict[int, FaceState] = {}
    for data in messages:
        try:
            batch = decoder.decode(data)
        except WireError:
            continue
        states.update(enumerate(batch.states, batch.first_tick))
    return states
