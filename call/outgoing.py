"""What goes out of our face: frames to the ladder and the gate, messages to their channel, the avatar on offer."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from mien.call import clock
from mien.call.avatar_offer import AvatarOffer
from mien.call.ladder import Decision, Ladder, LadderSettings
from mien.call.peer import COEFFICIENTS, CONTROL, Peer
from mien.call.source_worker import SenderSettings, SourceListener, SourceWorker, TrackedFrame
from mien.call.statistics import RungChange
from mien.call.video_gate import VideoGate
from mien.encoder.capture import Source
from mien.encoder.tracker import Tracker
from mien.protocol.avatar import AvatarAssembler, Signer
from mien.protocol.control import RungSwitch, StreamStart
from mien.protocol.stream import StreamHeader

logger = logging.getLogger(__name__)

MAX_STAMPS: Final = 900  # half a minute of ticks
MAX_CHANGES: Final = 1000


class OutgoingFace:
    """Our side of one call, on the event loop. Without a source it only offers the avatar, if there is one."""

    def __init__(
        self, peer: Peer, gate: VideoGate, *, challenge: bytes, tell: Callable[[str], None], now_us: int
    ) -> None:
        """`challenge` is the other side's, from its hello."""
        self._peer = peer
        self._gate = gate
        self._challenge = challenge
        self._tell = tell
        self._start_us = now_us
        self._ladder: Ladder | None = None
        self._worker: SourceWorker | None = None
        self._announced: Decision | None = None
        self._stamps: dict[int, int] = {}
        self._stamp_order: deque[int] = deque()
        self._over = False
        self.offer: AvatarOffer | None = None
        self.changes: deque[RungChange] = deque(maxlen=MAX_CHANGES)
        self.frames = 0
        self.cpu_us = 0
        self.messages = 0
        self.message_bytes = 0

    def offer_avatar(self, avatar: AvatarAssembler, signer: Signer | None, *, kbps: float) -> AvatarOffer:
        """Offer the avatar; the caller runs the returned transfer."""
        self.offer = AvatarOffer(avatar, signer, self._peer, kbps=kbps)
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
        self._worker.start()

    @property
    def decision(self) -> Decision | None:
        """What the other side was last told to show, and why."""
        return self._announced

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

    def on_stream(self, header: StreamHeader) -> None:
        """Our stream begins."""
        self._peer.send(CONTROL, StreamStart.of(header).serialize())

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

    def on_source_end(self, messages: tuple[bytes, ...]) -> None:
        """The input has ended; these are its last messages."""
        self._send(messages)
        if self._ladder is not None:
            self._apply(self._ladder.on_end(clock.now_us()))

    def advance(self, now_us: int) -> None:
        """Let time pass without a frame."""
        if self._ladder is not None:
            self._apply(self._ladder.advance(now_us))

    def repeat_history(self, wanted: bool) -> None:
        """Say whether messages are to repeat the ones before them: the other side reports losses."""
        if self._worker is not None:
            self._worker.set_repeats(int(wanted))

    def show(self) -> None:
        """The user shows the camera."""
        if self._ladder is not None:
            self._apply(self._ladder.show(clock.now_us()))

    def hide(self) -> None:
        """The user hides the camera, for the rest of the call unless shown again."""
        if self._ladder is not None:
            self._apply(self._ladder.hide(clock.now_us()))

    def end(self) -> None:
        """Send nothing any more."""
        self._over = True
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

    def _send(self, messages: tuple[bytes, ...]) -> None:
        if self.offer is not None and not self.offer.judged:
            return  # the other side has no face to move yet; its picture needs the link
        for message in messages:
            if not self._over and self._peer.send(COEFFICIENTS, message):
                self.messages += 1
                self.message_bytes += len(message)

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
