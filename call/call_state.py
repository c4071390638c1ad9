"""What one call is made of while it runs. `session` makes it; the modules beside it each do one thing with it."""

import logging
from collections import Counter, deque
from dataclasses import dataclass, field

import av

from mien.call.avatar_offer import AvatarOffer
from mien.call.carriers import Carriers
from mien.call.course import Course
from mien.call.face_view import FaceView
from mien.call.incoming import IncomingFace
from mien.call.lip_sync import LipSync, VoiceClockTeller
from mien.call.liveness import Liveness
from mien.call.outgoing import MAX_CHANGES, OutgoingFace
from mien.call.peer import CONTROL, Peer
from mien.call.rate_control import RateControl
from mien.call.reports import Reports
from mien.call.settings import CallHooks, CallSettings, Participant
from mien.call.statistics import PlanChange, RungChange
from mien.call.video_gate import VideoGate
from mien.call.wire_meter import WireMeter
from mien.decoder.avatar_cache import AvatarCache
from mien.protocol.avatar import AvatarAssembler
from mien.protocol.control import ControlMessage, Hello, Rung

logger = logging.getLogger("mien.call")


@dataclass(slots=True, eq=False)
class CallState:
    """Lives on the event loop. `peer`, `outgoing`, `incoming` and `hello` (theirs) come in the course of connecting."""

    me: Participant
    settings: CallSettings
    hooks: CallHooks
    avatar: AvatarAssembler | None  # ours
    cache: AvatarCache | None
    view: FaceView
    course: Course
    liveness: Liveness
    carriers: Carriers
    gate: VideoGate = field(default_factory=VideoGate)
    meter: WireMeter = field(default_factory=WireMeter)
    reports: Reports = field(default_factory=Reports)
    lip_sync: LipSync = field(default_factory=LipSync)
    voice_clock: VoiceClockTeller = field(default_factory=VoiceClockTeller)
    counts: Counter[str] = field(default_factory=Counter)
    peer: Peer | None = None
    outgoing: OutgoingFace | None = None
    incoming: IncomingFace | None = None
    hello: Hello | None = None
    their_rung: Rung = Rung.STILL
    their_rungs: deque[RungChange] = field(default_factory=lambda: deque(maxlen=MAX_CHANGES))
    rate: RateControl | None = None  # once there is somebody to send to
    plans: deque[PlanChange] = field(default_factory=lambda: deque(maxlen=MAX_CHANGES))
    video: av.VideoFrame | None = None  # their camera's newest picture, while they show it

    @property
    def offer(self) -> AvatarOffer | None:
        """Our avatar's way to the other side."""
        return self.outgoing.offer if self.outgoing else None

    @property
    def jitter_us(self) -> int:
        """Of their messages' arrival."""
        arrivals = self.incoming.arrivals if self.incoming else None
        return arrivals.jitter_us if arrivals else 0

    @property
    def missing(self) -> int:
        """Messages of theirs that did not come."""
        arrivals = self.incoming.arrivals if self.incoming else None
        return arrivals.missing if arrivals else 0

    def queue_us(self, now_us: int) -> int:
        """By how much messages and voice of theirs take longer now; the lesser, where both come."""
        arrivals = self.incoming.arrivals if self.incoming else None
        line = self.peer.voice_line if self.peer else None
        gauges = [side.queue for side in (arrivals, line) if side is not None]
        return min((gauge.queue_us(now_us) for gauge in gauges if gauge.is_fresh(now_us)), default=0)

    @property
    def round_trip_us(self) -> int:
        """The round trip as reports measure it, else as SCTP does."""
        return self.reports.round_trip_us or (self.peer.round_trip_us if self.peer else 0)

    def heard(self, now_us: int) -> None:
        """Something came from the other side."""
        if self.liveness.heard(now_us):
            self.tell("the other side is back")

    def say(self, message: ControlMessage) -> None:
        """Send a control message, if there is somebody to send it to."""
        if self.peer is not None:
            self.peer.send(CONTROL, message.serialize())

    def tell(self, text: str) -> None:
        """Tell our user."""
        logger.info("%s", text)
        if self.hooks.on_status is not None:
            self.hooks.on_status(text)
