"""What the other side's control messages do. How many may come is bounded here too."""

import logging
from typing import Final

from mien.call import clock
from mien.call.call_state import CallState
from mien.call.joining import take_hello
from mien.call.source_worker import SourceListener
from mien.call.statistics import RungChange, reason_name, verdict_name
from mien.call.token_bucket import TokenBucket
from mien.protocol.control import (
    AvatarVerdict,
    Bye,
    CarrierHeard,
    ControlMessage,
    Hello,
    OwnerProof,
    ReceiverReport,
    RecordingNotice,
    Rung,
    RungSwitch,
    SceneStart,
    SceneWanted,
    StreamStart,
    UnknownControl,
    Verdict,
    VoiceClock,
    parse_control,
)
from mien.protocol.errors import WireError

logger = logging.getLogger(__name__)

CONTROL_PER_S: Final = 20.0  # messages; more than this, after a burst, are dropped
CONTROL_BURST: Final = 400


class ControlDesk:
    """Reads control messages, and does to the call what they say."""

    def __init__(self, call: CallState, listener: SourceListener) -> None:
        """`listener` hears of our own frames, once the other side has said hello."""
        self._call = call
        self._listener = listener
        self._bucket = TokenBucket(rate_per_s=CONTROL_PER_S, burst=CONTROL_BURST, now_us=clock.now_us())

    def take(self, data: bytes, now_us: int) -> None:
        """Take the bytes of one message, good or bad."""
        if not self._bucket.take(1, now_us=now_us):
            self._call.counts["control malformed"] += 1
            return
        try:
            message = parse_control(data)
        except WireError as error:
            self._call.counts["control malformed"] += 1
            logger.info("dropped a control message: %s", error)
            return
        if isinstance(message, Hello):
            take_hello(self._call, message, self._listener)
        elif self._call.hello is not None and not self._call.course.is_over:
            self._do(message)

    def _do(self, message: ControlMessage | UnknownControl) -> None:
        call = self._call
        assert call.incoming is not None
        match message:
            case StreamStart():
                call.incoming.on_stream_start(message)
            case OwnerProof():
                call.incoming.on_owner_proof(message)
            case AvatarVerdict() if call.offer is not None:
                call.offer.on_verdict(message)
                if message.verdict != Verdict.SHOWN:
                    call.tell(f"the other side does not show our avatar: {verdict_name(message.verdict)}")
            case RungSwitch():
                self._switch_rung(message)
            case RecordingNotice():
                call.counts["recorded"] = int(message.active)
                call.tell("the other side records" if message.active else "the other side stopped recording")
            case ReceiverReport():
                self._take_report(message)
            case CarrierHeard():
                call.carriers.on_report(message, clock.now_us())
            case VoiceClock():
                call.lip_sync.on_clock(message)
            case SceneStart():
                call.incoming.on_scene_start(message, clock.now_us())
            case SceneWanted() if call.outgoing is not None:
                call.outgoing.on_scene_wanted(message.stream)
            case Bye():
                call.course.end("the other side hung up")
            case _:
                call.counts["skipped control"] += 1

    def _switch_rung(self, message: RungSwitch) -> None:
        call = self._call
        seconds = call.course.since_connected(clock.now_us()) or 0.0
        call.their_rungs.append(RungChange(seconds, message.rung, message.reason, message.camera_live))
        call.their_rung = message.rung
        if message.rung is not Rung.VIDEO:
            call.video = None
            call.view.set_rung(message.rung)
        call.tell(f"the other side shows: {message.rung.name.lower()} ({reason_name(message.reason)})")

    def _take_report(self, report: ReceiverReport) -> None:
        call = self._call
        call.reports.take(
            report,
            came=call.counts["coefficient messages"],
            tick_rate=call.incoming.tick_rate if call.incoming else None,
            transport_us=call.peer.round_trip_us if call.peer else 0,
            now_us=clock.now_us(),
        )
