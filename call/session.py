"""A call: our face out, theirs in, over one peer connection. What `mien call` and the demo both drive.

    source --thread--> frames --> ladder --> video gate ..............> video line (only while it is open)
                         |  `---> coefficient messages ---> carriers --> coefficient channel, or the voice's packets
                         `------> avatar, offered, proved, sent -------> control and transfer channels

    the same channels --> incoming face --> view (a thread) --> pictures --> hooks, file, log

Everything here runs on the event loop; the two threads are in `source_worker` and `face_view`. What a call is made
of is in `call_state`; how it begins in `joining`, what control messages do in `control_desk`, what happens because
time passes in `clockwork`, how it is summed up in `tally`.
"""

import asyncio
import logging
import time
from dataclasses import replace
from typing import Final

import av

from mien.call import clock
from mien.call.audio import VoiceTrack
from mien.call.call_state import CallState
from mien.call.carriers import Carriers
from mien.call.clockwork import start_clockwork
from mien.call.control_desk import ControlDesk
from mien.call.course import Course
from mien.call.face_view import FaceView
from mien.call.joining import join, say_hello
from mien.call.live_figures import LiveFigures, live_figures
from mien.call.liveness import Liveness
from mien.call.peer import Peer
from mien.call.rendezvous import Rendezvous
from mien.call.settings import CallHooks, CallSettings, Participant
from mien.call.source_worker import TrackedFrame
from mien.call.statistics import CallStatistics
from mien.call.tally import call_statistics
from mien.call.video_gate import VideoGate
from mien.call.wire_meter import WireMeter
from mien.decoder.avatar_cache import AvatarCache
from mien.models.face_model import FaceModel
from mien.protocol.avatar import AvatarAssembler, assemble
from mien.protocol.control import Bye, ByeReason, Carrier, Rung
from mien.protocol.errors import MienError, WireError
from mien.protocol.stream import StreamHeader
from mien.protocol.transfer import Chunk, Offer, parse_transfer

__all__ = ["CallHooks", "CallSession", "CallSettings", "Participant"]  # all that a caller needs

logger = logging.getLogger(__name__)

CLOSE_S: Final = 5.0
LINGER_S: Final = 0.6  # after the input's end: the last frames have yet to be shown over there


class CallSession:
    """Make it in a running loop, `await run(...)`; `hang_up`, `show`, `hide` and the like at any time meanwhile."""

    def __init__(
        self, me: Participant, settings: CallSettings | None = None, hooks: CallHooks | None = None
    ) -> None:
        """Raises `MienError` for an avatar that does not verify, or a source without a tracker."""
        settings = settings or CallSettings()
        if me.source is not None and me.tracker is None:
            raise MienError("a source needs a tracker")
        if me.avatar and me.voice is None and settings.audio:
            me = replace(me, voice=VoiceTrack(muted=True))  # a face can ride in the packets of a muted voice
        self._call = CallState(
            me=me,
            settings=settings,
            hooks=hooks or CallHooks(),
            avatar=_own_avatar(me.avatar),
            cache=AvatarCache(settings.cache_folder) if settings.cache_folder else None,
            view=FaceView(settings.face_view, on_fault=self.on_fault, on_unusable=self._on_unusable),
            course=Course(self._on_end),
            liveness=Liveness(clock.now_us()),
            carriers=Carriers(
                settings.carrier, audio=settings.audio, line=me.voice is not None, tell=self._tell
            ),
        )
        self._desk = ControlDesk(self._call, self)
        self._peer_closed = False

    # --- what a user does -------------------------------------------------------------------------------------

    async def run(self, rendezvous: Rendezvous) -> CallStatistics:
        """Call until somebody hangs up. Returns the statistics; raises `MienError` where no call came about."""
        course = self._call.course
        try:
            await join(self._call, rendezvous, self)
            start_clockwork(self._call, rendezvous)
            await course.over.wait()
            return await self._finish()
        finally:
            await self._close()
            if course.fault is not None:
                raise course.fault

    def hang_up(self, reason: str = "hung up here") -> None:
        """End the call."""
        if not self._call.course.is_over:
            self._call.say(Bye(ByeReason.HANG_UP))
            self._call.course.end(reason)

    def show(self) -> None:
        """Show the camera as video."""
        if self._call.outgoing is not None:
            self._call.outgoing.show()

    def hide(self) -> None:
        """Hide the camera, and keep it from coming by itself for the rest of the call."""
        if self._call.outgoing is not None:
            self._call.outgoing.hide()

    def mute(self, muted: bool) -> None:
        """Send no voice, or send it again."""
        if self._call.me.voice is not None:
            self._call.me.voice.muted = muted

    # --- what a user sees -------------------------------------------------------------------------------------

    @property
    def settings(self) -> CallSettings:
        """What the call may do."""
        return self._call.settings

    @property
    def connected(self) -> asyncio.Event:
        """Set once both sides have said hello."""
        return self._call.course.connected

    @property
    def peer(self) -> Peer | None:
        """Our end of the connection, once there is one."""
        return self._call.peer

    @property
    def gate(self) -> VideoGate:
        """The one door that camera pictures leave by."""
        return self._call.gate

    @property
    def meter(self) -> WireMeter:
        """What the call costs."""
        return self._call.meter

    @property
    def camera_live(self) -> bool:
        """Whether camera pictures are leaving: the indicator that the user's own view must show."""
        outgoing = self._call.outgoing
        return self._call.gate.is_open or (outgoing is not None and outgoing.scene_live)

    @property
    def rung(self) -> Rung:
        """What the other side is told to show of us."""
        decision = self._call.outgoing.decision if self._call.outgoing else None
        return decision.rung if decision else Rung.STILL

    @property
    def rung_reason(self) -> int | None:
        """Why, as a number of `RungReason`."""
        decision = self._call.outgoing.decision if self._call.outgoing else None
        return decision.reason if decision else None

    @property
    def verdict(self) -> int | None:
        """What the other side says about our avatar, as a number of `Verdict`; None so far."""
        return self._call.offer.verdict if self._call.offer else None

    @property
    def avatar_delivered(self) -> bool:
        """Whether the other side has all of our avatar."""
        return self._call.offer is not None and self._call.offer.delivered

    @property
    def round_trip_us(self) -> int:
        """The round trip as reports measure it, else as SCTP does."""
        return self._call.round_trip_us

    def stamp_of(self, tick: int) -> int | None:
        """Return when the frame of one of our ticks was taken, on `mien.call.clock`."""
        return self._call.outgoing.stamp_of(tick) if self._call.outgoing else None

    @property
    def live(self) -> LiveFigures:
        """How the call goes at this moment."""
        return live_figures(self._call)

    async def statistics(self) -> CallStatistics:
        """Return how the call goes, or went."""
        return await call_statistics(self._call)

    # --- our own frames ---------------------------------------------------------------------------------------

    def on_stream(self, header: StreamHeader) -> None:
        """Our stream begins."""
        if self._call.outgoing is not None:
            self._call.outgoing.on_stream(header)

    def on_frame(self, frame: TrackedFrame) -> None:
        """One of our frames was tracked."""
        if self._call.outgoing is None or self._call.course.is_over:
            return
        self._call.outgoing.on_frame(frame)
        if self._call.hooks.on_frame is not None:
            self._call.hooks.on_frame(frame)

    def on_source_end(self, messages: tuple[bytes, ...], error: Exception | None) -> None:
        """The input has ended."""
        if self._call.outgoing is None or self._call.course.is_over:
            return
        self._call.outgoing.on_source_end(messages)
        if error is not None:
            self._call.tell(f"the input failed: {error}")
            logger.debug("the input failed", exc_info=error)
        if self._call.settings.hang_up_at_end:
            asyncio.get_running_loop().call_later(LINGER_S, self.hang_up, "the input has ended")

    # --- what arrives -----------------------------------------------------------------------------------------

    def on_open(self) -> None:
        """The channels are open."""
        say_hello(self._call)

    def on_control(self, data: bytes) -> None:
        """A control message arrived."""
        now_us = clock.now_us()
        self._call.heard(now_us)
        self._desk.take(data, now_us)

    def on_coefficients(self, data: bytes, carrier: Carrier = Carrier.DATACHANNEL) -> None:
        """A coefficient message arrived. An empty one only tells that messages arrive by this carrier."""
        now_us = clock.now_us()
        self._call.heard(now_us)
        if self._call.hello is not None:
            report = self._call.carriers.on_message(carrier, len(data), now_us)
            if report is not None:
                self._call.say(report)
        if not data and carrier is Carrier.AUDIO:
            return
        self._call.counts["coefficient messages"] += 1
        if self._call.incoming is not None:
            self._call.incoming.on_coefficients(data, now_us, carrier)

    def on_transfer(self, data: bytes) -> None:
        """A message of an avatar's transfer arrived, theirs or an answer about ours."""
        self._call.heard(clock.now_us())
        try:
            message = parse_transfer(data)
            if isinstance(message, Offer | Chunk):
                if self._call.incoming is not None:
                    self._call.incoming.on_transfer(message)
            elif self._call.offer is not None:
                self._call.offer.on_answer(message)
        except WireError as error:
            self._call.counts["transfer malformed"] += 1
            logger.info("dropped a transfer message: %s", error)

    def on_video(self, frame: av.VideoFrame) -> None:
        """A frame of their camera was decoded. It is looked at only where they said that they show it."""
        self._call.heard(clock.now_us())
        self._call.counts["video frames"] += 1
        if self._call.their_rung is Rung.VIDEO:
            if self._call.video is None:
                self._call.view.set_rung(Rung.VIDEO)  # the fade begins when there is something to fade to
            self._call.video = frame

    def on_audio(self, frame: av.AudioFrame) -> None:
        """20 ms of their voice."""
        self._call.heard(clock.now_us())
        self._call.counts["audio frames"] += 1
        if self._call.hooks.on_voice is not None:
            self._call.hooks.on_voice(frame)

    def _tell(self, text: str) -> None:
        self._call.tell(text)

    def _on_unusable(self, error: Exception) -> None:
        """Their avatar verifies and yet cannot be drawn."""
        if self._call.incoming is not None and not self._call.course.is_over:
            self._call.incoming.on_unusable(error)

    # --- the end ----------------------------------------------------------------------------------------------

    def on_closed(self, reason: str) -> None:
        """The connection is gone."""
        self._call.course.end(reason)

    def on_fault(self, error: Exception) -> None:
        """A bug, or a full disk: the call ends and `run` raises it."""
        self._call.course.fail(error)

    def _on_end(self, reason: str) -> None:
        self._call.gate.close()
        if self._call.outgoing is not None:
            self._call.outgoing.end()
        self._call.tell(f"call ended: {reason}")

    async def _finish(self) -> CallStatistics:
        """Close the connection and return the figures.

        Path and streams can only be asked while the connection stands; the meter is read after it, because
        closing costs datagrams too: SCTP's ABORT and DTLS's close_notify.
        """
        if self._call.outgoing is not None:
            await self._call.outgoing.stop()
        statistics = await self.statistics()
        await self._close_connection()
        return replace(statistics, wire=self._call.meter.totals())

    async def _close(self) -> None:
        """Free everything, whatever state it is in."""
        call = self._call
        call.course.over.set()
        call.gate.close()
        if call.outgoing is not None:
            await call.outgoing.stop()
        if call.me.source is not None and not (call.outgoing and call.outgoing.owns_source):
            call.me.source.close()
        await self._close_connection()
        if call.me.voice is not None:
            call.me.voice.stop()
        await call.view.close()
        if call.incoming is not None:
            await asyncio.to_thread(call.incoming.keep_avatar)

    async def _close_connection(self) -> None:
        """End what uses the connection, then the connection."""
        await self._call.course.stop_tasks()
        if self._call.peer is not None and not self._peer_closed:
            self._peer_closed = True
            await asyncio.sleep(0)  # a Bye that was just sent leaves with the next turn of the loop
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self._call.peer.close()
            except TimeoutError:
                logger.warning("the connection did not close within %g s", CLOSE_S)


def _own_avatar(data: bytes | None) -> AvatarAssembler | None:
    """Verify our own avatar before anybody waits. Raises `MienError`."""
    if not data:
        return None
    avatar = assemble(data, now_unix_s=int(time.time()))
    if avatar.manifest.model_id != FaceModel.load().model_id:
        raise MienError(
            "the avatar was made for another face model than this version of mien has: enrol again"
        )
    return avatar
