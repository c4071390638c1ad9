"""One call of this machine with itself, one face one way, in which every frame is followed from camera to picture.

The stamps are those of the call itself, all on `mien.call.clock`, which both ends share here: when a frame was due,
when the tracker had found the face in it, when it was coded, when the packet with its message was handed to be sealed
and sent, when the message came out at the other end, the time that a picture was made for, and when it was finished.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bench.latency_stages import FrameTimes, MessageTimes, Stages, Stopwatch
from mien.bench.two_way_call import LoopedSound
from mien.call import clock
from mien.call.carrier_choice import CarrierWish
from mien.call.face_view import ShownPicture, ViewSettings
from mien.call.opus import VoiceSettings
from mien.call.peer import Addresses
from mien.call.rendezvous import local_pair
from mien.call.session import CallSession
from mien.call.settings import CallHooks, CallSettings, Participant, RateSettings
from mien.call.source_worker import SenderSettings, TrackedFrame
from mien.decoder.playout import Status
from mien.encoder.capture import Frame, Source
from mien.encoder.tracker import Tracker, Tracking
from mien.protocol.avatar import Signer
from mien.protocol.codec import MessageDecoder
from mien.protocol.control import Carrier, Rung
from mien.protocol.errors import MienError, WireError
from mien.protocol.stream import StreamHeader, TrackerId

POLL_S: Final = 0.05
SETTLE_S: Final = 13.0  # the playout forgets what batches needed while the call began
MAX_SETTLING_S: Final = 30.0
TRANSFER_KBPS: Final = 2000.0
KEPT_PACKETS: Final = 64  # that left lately, to find messages in


@dataclass(frozen=True, slots=True, eq=False)
class TimedCall:
    """How the call is made. `voice` is int16, 48 kHz, played round and round; None: muted."""

    source: Source
    tracker: Tracker
    avatar: bytes
    signer: Signer
    voice: NDArray[np.int16] | None
    carrier: CarrierWish = CarrierWish.AUDIO
    voice_settings: VoiceSettings = field(default_factory=VoiceSettings)
    view: ViewSettings = field(default_factory=ViewSettings)
    seconds: float = 10.0
    settle_s: float = SETTLE_S


@dataclass(frozen=True, slots=True, eq=False)
class TimedResult:
    """The steady part. `pictures`: of the live ones those that all is known of; `unknown`: how many others."""

    pictures: tuple[Stages, ...]
    unknown: int
    by_carrier: Counter[Carrier]  # messages
    frames_per_s: float
    frames_left_out: int
    pictures_per_s: float


async def timed_call(call: TimedCall) -> TimedResult:
    """Make the call. Raises `MienError` where the face is not shown, or messages do not take the carrier."""
    watch = _Watch(call)
    one, other = local_pair()
    tasks = [
        asyncio.ensure_future(t) for t in (watch.conduct(), watch.sender.run(one), watch.receiver.run(other))
    ]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return watch.result()


class _Sender(CallSession):
    """Tells of its stream."""

    def __init__(self, watch: "_Watch", me: Participant, settings: CallSettings) -> None:
        super().__init__(me, settings, CallHooks(on_frame=watch.on_frame))
        self._watch = watch

    def on_stream(self, header: StreamHeader) -> None:
        super().on_stream(header)
        self._watch.on_stream(header)


class _Receiver(CallSession):
    """Only watches."""

    def __init__(self, watch: "_Watch", me: Participant, settings: CallSettings) -> None:
        super().__init__(me, settings, CallHooks(on_picture=watch.on_picture))
        self._watch = watch

    def on_coefficients(self, data: bytes, carrier: Carrier = Carrier.DATACHANNEL) -> None:
        self._watch.on_message(data, carrier)
        super().on_coefficients(data, carrier)


class _Watch:
    """Takes down what both ends do. On the event loop, but for the tracker's stamps."""

    def __init__(self, call: TimedCall) -> None:
        self._call = call
        self._tracker = _TimedTracker(call.tracker)
        self._stopwatch = Stopwatch()
        self._decoder: MessageDecoder | None = None
        self._left: deque[tuple[int, bytes]] = deque(maxlen=KEPT_PACKETS)
        self._steady: tuple[int, int] | None = None
        self._frames = 0
        self._stages: list[Stages] = []
        self._live = 0
        self._shown = 0
        self._by_carrier: Counter[Carrier] = Counter()
        self._left_out = 0
        settings = CallSettings(
            view=call.view,
            sender=SenderSettings(repeat=True),
            addresses=Addresses.LOOPBACK,
            voice=call.voice_settings,
            carrier=call.carrier,
            transfer_kbps=TRANSFER_KBPS,
            rate=RateSettings(follow_link=False),  # a busy machine is no narrow link
            hang_up_at_end=False,
        )
        quiet = np.zeros(48_000, np.int16)
        voice = LoopedSound(quiet if call.voice is None else call.voice, muted=call.voice is None)
        me = Participant(call.source, self._tracker, call.avatar, call.signer, voice)
        self.sender = _Sender(self, me, settings)
        self.receiver = _Receiver(self, Participant(voice=LoopedSound(quiet, muted=True)), settings)

    async def conduct(self) -> None:
        """Wait for the steady part, let it pass, and hang up."""
        try:
            async with asyncio.timeout(MAX_SETTLING_S):
                await self.sender.connected.wait()
                self.sender.meter.on_plain = self._on_packet
                while not (self.sender.avatar_delivered and self._shown):  # noqa: ASYNC110  nobody tells
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise MienError(f"no face was shown within {MAX_SETTLING_S:g} s of calling") from None
        await asyncio.sleep(self._call.settle_s)
        start_us = clock.now_us()
        self._frames = self._live = self._shown = 0
        self._stages.clear()
        self._by_carrier.clear()
        left_out = (await self.sender.statistics()).sent.frames_left_out
        await asyncio.sleep(self._call.seconds)
        self._steady = start_us, clock.now_us()
        self._left_out = (await self.sender.statistics()).sent.frames_left_out - left_out
        self.sender.hang_up()

    def on_stream(self, header: StreamHeader) -> None:
        """Our stream begins."""
        self._decoder = MessageDecoder(header)

    def on_frame(self, frame: TrackedFrame) -> None:
        """A frame was tracked and coded."""
        self._frames += self._steady is None
        tracked_us = self._tracker.done_us(frame.timestamp_us)
        if frame.tick is not None and tracked_us is not None:
            self._stopwatch.on_frame(frame.tick, FrameTimes(frame.stamp_us, tracked_us, frame.done_us))

    def on_message(self, data: bytes, carrier: Carrier) -> None:
        """A message has come."""
        now_us = clock.now_us()
        left_us = next((us for us, packet in reversed(self._left) if data in packet), None)
        if not data or left_us is None or self._decoder is None:
            return
        try:
            batch = self._decoder.decode(data)
        except WireError:
            return
        self._by_carrier[carrier] += self._steady is None
        ticks = range(batch.first_tick, batch.first_tick + len(batch.states))
        if not batch.still:  # what holds for long came long before it is shown
            self._stopwatch.on_message(ticks, MessageTimes(left_us, now_us))

    def on_picture(self, picture: ShownPicture) -> None:
        """A picture was composited."""
        if self._steady is not None or picture.rung is not Rung.AVATAR or picture.shown.tick is None:
            return
        self._shown += 1
        if picture.shown.status is not Status.LIVE:
            return
        self._live += 1
        stages = self._stopwatch.stages(
            picture.shown.tick, render_us=picture.render_us, composited_us=picture.composited_us
        )
        if stages is not None:
            self._stages.append(stages)

    def result(self) -> TimedResult:
        """Return the steady part. Raises `MienError`."""
        assert self._steady is not None
        seconds = (self._steady[1] - self._steady[0]) / 1e6
        wanted = Carrier.AUDIO if self._call.carrier is CarrierWish.AUDIO else Carrier.DATACHANNEL
        if not self._stages or self._by_carrier[wanted] * 2 < self._by_carrier.total():
            raise MienError(
                f"{len(self._stages)} pictures could be followed, and {self._by_carrier[wanted]} of "
                f"{self._by_carrier.total()} messages took the carrier: the machine is too busy"
            )
        return TimedResult(
            pictures=tuple(self._stages),
            unknown=self._live - len(self._stages),
            by_carrier=self._by_carrier,
            frames_per_s=self._frames / seconds,
            frames_left_out=self._left_out,
            pictures_per_s=self._shown / seconds,
        )

    def _on_packet(self, packet: bytes) -> None:
        self._left.append((clock.now_us(), packet))


class _TimedTracker:
    """Another tracker, and when it was done with each frame."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._done_us: dict[int, int] = {}

    @property
    def tracker_id(self) -> TrackerId:
        return self._tracker.tracker_id

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        found = self._tracker.track(rgb, timestamp_us)
        self._done_us[timestamp_us] = clock.now_us()
        return found

    def done_us(self, timestamp_us: int) -> int | None:
        """Return when the frame of this time was done, once."""
        return self._done_us.pop(timestamp_us, None)

    def close(self) -> None:
        self._tracker.close()


class KeptFrames:
    """A `Source` of frames that are in memory, so that drawing or decoding them takes no time from the call."""

    live = False

    def __init__(self, frames: Sequence[Frame], *, rate: Fraction, name: str) -> None:
        self._frames = frames
        self.rate = rate
        self.name = name

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self._frames[0].rgb.shape[1])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self._frames[0].rgb.shape[0])

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def close(self) -> None:
        """Nothing to free."""
