"""What goes out of our face: frames to the ladder and the gate, messages to their carrier, the avatar on offer."""

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Final

from mien.call import clock
from mien.call.avatar_offer import AvatarOffer
from mien.call.carrier_cadence import REPEATING_RIDE_KBPS, RIDE_KBPS
from mien.call.carriers import Carriers
from mien.call.ladder import Decision, Ladder, LadderSettings
from mien.call.peer import CONTROL, Peer
from mien.call.rate_plan import Plan
from mien.call.redundancy import Redundancy
from mien.call.scene_gate import SceneGate
from mien.call.source_worker import SenderSettings, SourceListener, SourceWorker, TrackedFrame
from mien.call.statistics import RungChange
from mien.call.video_gate import VideoGate
from mien.encoder.capture import Source
from mien.encoder.tracker import Tracker
from mien.protocol.avatar import AvatarAssembler, Signer
from mien.protocol.codec import frames_per_batch
from mien.protocol.control import Carrier, Rung, RungSwitch, SceneStart, StreamStart
from mien.protocol.message import MAX_FRAMES_PER_MESSAGE
from mien.protocol.stream import StreamHeader

logger = logging.getLogger(__name__)

MAX_STAMPS: Final = 900  # half a minute of ticks
MAX_CHANGES: Final = 1000
USUAL_TICKS_PER_S: Final = 30.0
SCENE_REFRESH_US: Final = 500_000  # at the soonest, after the last one
RIDE_FRAMES: Final = 2  # of a message in a packet of voice, as a rule


class OutgoingFace:
    """Our side of one call, on the event loop. Without a source it only offers the avatar, if there is one."""

    def __init__(
        self,
        peer: Peer,
        gate: VideoGate,
        carriers: Carriers,
        *,
        challenge: bytes,
        tell: Callable[[str], None],
        now_us: int,
    ) -> None:
        """`challenge` is the other side's, from its hello."""
        self._peer = peer
        self._gate = gate
        self._carriers = carriers
        self._batch_frames: int | None = None  # frames of a message that takes the data channel; None: 200 ms
        self._batch_is_fixed = False
        self._plan: Plan | None = None
        self._tick_rate = USUAL_TICKS_PER_S
        self._redundancy = Redundancy()
        self._challenge = challenge
        self._tell = tell
        self._start_us = now_us
        self._ladder: Ladder | None = None
        self._worker: SourceWorker | None = None
        self._announced: Decision | None = None
        self._stamps: dict[int, int] = {}
        self._stamp_order: deque[int] = deque()
        self._over = False
        self._scene = SceneGate(wanted=False)
        self._scene_live = False
        self._may_show: Callable[[], bool] = lambda: True
        self._scene_refreshed_us = -SCENE_REFRESH_US
        self.scene_messages = 0
        self.scene_bytes = 0
        self.header: StreamHeader | None = None  # of our stream
        self.offer: AvatarOffer | None = None
        self.changes: deque[RungChange] = deque(maxlen=MAX_CHANGES)
        self.frames = 0
        self.cpu_us = 0

    def offer_avatar(
        self,
        avatar: AvatarAssembler,
        signer: Signer | None,
        *,
        kbps: float,
        spare_kbps: Callable[[], float] = lambda: math.inf,
    ) -> AvatarOffer:
        """Offer the avatar; the caller runs the returned transfer, at `kbps`, and later no faster than is spare."""
        self.offer = AvatarOffer(avatar, signer, self._peer, kbps=kbps, spare_kbps=spare_kbps)
        self.offer.open(self._challenge)
        return self.offer

    def start(
        self,
        source: Source,
        tracker: Tracker,
        avatar: AvatarAssembler | None,
        listener: SourceListener,
        *,
        sender: SenderSettings,
        ladder: LadderSettings,
        allow_video: bool,
    ) -> None:
        """Begin to read the source. `listener` hears of frames and passes them on to the `on_` methods here."""
        self._ladder = Ladder(allow_video=allow_video, now_us=self._start_us, settings=ladder)
        self._worker = SourceWorker(
            source, tracker, avatar.avatar if avatar else None, listener, settings=sender
        )
        self._batch_frames = sender.frames_per_message or self._batch_frames
        self._batch_is_fixed = sender.frames_per_message is not None
        self._scene = SceneGate(wanted=sender.scene is not None and avatar is not None)
        self._may_show = sender.may_show
        self._worker.start()
        if avatar is not None:
            self._carriers.carry(self, clock.now_us())

    @property
    def decision(self) -> Decision | None:
        """What the other side was last told to show, and why."""
        return self._announced

    @property
    def scene_live(self) -> bool:
        """Whether pictures of the camera leave as a scene layer."""
        return self._scene_live

    @property
    def frames_left_out(self) -> int:
        """Frames of the source that were not tracked, because loop or machine were too slow."""
        return self._worker.left_out if self._worker else 0

    def stamp_of(self, tick: int) -> int | None:
        """Return when the frame of a tick was taken."""
        return self._stamps.get(tick)

    def newest_stamp(self) -> tuple[int, int] | None:
        """Return the newest coded tick and when its frame was taken."""
        if not self._stamp_order:
            return None
        tick = self._stamp_order[-1]
        return tick, self._stamps[tick]

    @property
    def messages(self) -> int:
        """Coefficient messages that were sent."""
        return sum(counts.messages for counts in self._carriers.sent.values())

    @property
    def message_bytes(self) -> int:
        """Their bytes, without any header."""
        return sum(counts.message_bytes for counts in self._carriers.sent.values())

    def cut(self) -> bytes | None:
        """Return the message that was begun, for a packet of voice that leaves now."""
        return self._worker.cut() if self._worker is not None and self._may_send else None

    def use_carrier(self, carrier: Carrier) -> None:
        """Let messages be complete when the data channel is to take them, or be cut when a packet leaves."""
        if self._worker is None:
            return
        frames = MAX_FRAMES_PER_MESSAGE if carrier is Carrier.AUDIO else self._batch_frames
        if frames is not None:
            self._worker.set_frames_per_message(frames)
        self.repeat(self._redundancy)

    def on_stream(self, header: StreamHeader) -> None:
        """Our stream begins."""
        self.header = header
        self._tick_rate = float(header.tick_rate)
        self._batch_frames = self._batch_frames or frames_per_batch(header)
        if self._plan is not None:
            self.pace(self._plan)
        self._peer.send(CONTROL, StreamStart.of(header).serialize())
        if self._scene.wanted:
            self._peer.send(CONTROL, SceneStart(header.stream, True).serialize())

    def on_frame(self, frame: TrackedFrame) -> None:
        """A frame was tracked. It meets the gate only after the ladder has seen its faces."""
        if self._over or self._ladder is None:
            return
        self._apply(self._ladder.on_frame(frame.faces, clock.now_us()))
        self._gate.offer(frame.rgb, frame.timestamp_us)
        self.frames += 1
        self.cpu_us += frame.cpu_us
        if frame.tick is not None:
            self._note_stamp(frame.tick, frame.stamp_us)
        self._send(frame.messages)
        if not self._may_show():
            self._scene.stranger()
            self._settle_scene()
        if frame.scene and self._scene_live and self._may_send:
            self.scene_messages += len(frame.scene)
            self.scene_bytes += sum(map(len, frame.scene))
            self._carriers.send_scene(frame.scene)

    def on_scene_wanted(self, stream: int) -> None:
        """The other side takes scenes of a stream of ours, or has lost a picture of one."""
        if self._worker is None or self.header is None or stream != self.header.stream:
            return
        self._scene.accept()
        now_us = clock.now_us()
        if now_us - self._scene_refreshed_us >= SCENE_REFRESH_US:
            self._scene_refreshed_us = now_us
            self._worker.refresh_scene()
        self._settle_scene()

    def on_source_end(self, messages: tuple[bytes, ...]) -> None:
        """The input has ended; these are its last messages."""
        self._send(messages)
        if self._ladder is not None:
            self._apply(self._ladder.on_end(clock.now_us()))

    def advance(self, now_us: int) -> None:
        """Let time pass without a frame."""
        if self._ladder is not None:
            self._apply(self._ladder.advance(now_us))

    def pace(self, plan: Plan) -> None:
        """Code and send as a plan says, from the next message on."""
        self._plan = plan
        if self._worker is not None:
            self._worker.set_quality(plan.quality)
        if plan.carrier is Carrier.DATACHANNEL and not self._batch_is_fixed:
            frames = round(plan.gap_ms * self._tick_rate / 1000)
            self._batch_frames = max(1, min(frames, MAX_FRAMES_PER_MESSAGE))
        self.use_carrier(self._carriers.current)

    def repeat(self, redundancy: Redundancy) -> None:
        """Let messages repeat what earlier ones said, as far as the other side reports losses."""
        self._redundancy = redundancy
        usual_kbps = REPEATING_RIDE_KBPS if redundancy.copies else RIDE_KBPS
        rides = self._plan is not None and self._plan.carrier is Carrier.AUDIO
        self._carriers.allowance.kbps = self._plan.ride_kbps if self._plan and rides else usual_kbps
        if self._worker is not None:
            ride_frames = self._plan.frames if self._plan and rides else RIDE_FRAMES
            span = ride_frames if self._carriers.current is Carrier.AUDIO else None
            self._worker.set_repeats(redundancy.copies, redundancy.lag, span=span, stride=redundancy.stride)

    def show(self) -> None:
        """The user shows the camera."""
        if self._ladder is not None:
            self._apply(self._ladder.show(clock.now_us()))

    def hide(self) -> None:
        """The user hides the camera, for the rest of the call unless shown again."""
        self._scene.hide()
        self._settle_scene()
        if self._ladder is not None:
            self._apply(self._ladder.hide(clock.now_us()))

    def end(self) -> None:
        """Send nothing any more."""
        self._over = True
        self._settle_scene()
        self._gate.close()

    async def stop(self) -> None:
        """Stop reading the source, and close it."""
        self.end()
        if self._worker is not None:
            await self._worker.stop()

    @property
    def owns_source(self) -> bool:
        """Whether the source was handed to its thread, which closes it."""
        return self._worker is not None

    @property
    def _may_send(self) -> bool:
        """Whether there is a face over there to move; until then its picture needs the link."""
        return not self._over and (self.offer is None or self.offer.judged)

    def _send(self, messages: tuple[bytes, ...]) -> None:
        for message in messages if self._may_send else ():
            self._carriers.send(message)

    def _note_stamp(self, tick: int, stamp_us: int) -> None:
        self._stamps[tick] = stamp_us
        self._stamp_order.append(tick)
        if len(self._stamp_order) > MAX_STAMPS:
            self._stamps.pop(self._stamp_order.popleft(), None)

    def _apply(self, decision: Decision) -> None:
        """Open or close the gate, and tell both users."""
        if decision == self._announced or self._over:
            return
        was_live = self._announced is not None and self._announced.camera_live
        self._announced = decision
        self._scene.show_avatar(decision.rung is Rung.AVATAR)
        self._settle_scene()
        if decision.camera_live:
            self._gate.open()
        else:
            self._gate.close()
        if decision.camera_live and not was_live:
            self._tell("CAMERA LIVE: the other side sees your camera")
        elif was_live and not decision.camera_live:
            self._tell("camera off")
        seconds = (clock.now_us() - self._start_us) / 1e6
        self.changes.append(RungChange(seconds, decision.rung, decision.reason, decision.camera_live))
        switch = RungSwitch(decision.rung, decision.reason, decision.camera_live)
        self._peer.send(CONTROL, switch.serialize())

    def _settle_scene(self) -> None:
        """Make scene pictures or stop, as the gate says now; tell our user, and the other side that it is over."""
        live = self._scene.is_open and not self._over
        if self._worker is not None:
            self._worker.open_scene(live)
        if live == self._scene_live:
            return
        self._scene_live = live
        if live:
            self._tell("CAMERA LIVE: the other side sees a small picture of your camera (scene layer)")
        elif not self._gate.is_open:
            self._tell("camera off: no scene layer")
        if not self._scene.wanted and self.header is not None and not self._over:
            self._peer.send(CONTROL, SceneStart(self.header.stream, False).serialize())
