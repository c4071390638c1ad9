"""A call: our face out, theirs in, over one peer connection. What `mien call` and the demo both drive.

    source --thread--> frames --> ladder --> video gate ..............> video line (only while it is open)
                         |  `---> coefficient messages ---------------> coefficient channel
                         `------> avatar, offered, proved, sent -------> control and transfer channels

    the same channels --> incoming face --> view (a thread) --> pictures --> hooks, file, log

Everything here runs on the event loop; the two threads are in `source_worker` and `face_view`.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final

import av

import mien
from mien.call import clock
from mien.call.avatar_offer import AvatarOffer
from mien.call.face_view import FaceView, ShownPicture
from mien.call.incoming import IncomingFace
from mien.call.ladder import Decision
from mien.call.outgoing import MAX_CHANGES, OutgoingFace
from mien.call.peer import COEFFICIENTS, CONTROL, Peer
from mien.call.rendezvous import PeerLeft, Rendezvous
from mien.call.reports import Reception, Reports
from mien.call.settings import CallHooks, CallSettings, Participant
from mien.call.source_worker import TrackedFrame
from mien.call.statistics import (
    CallStatistics,
    ReceivedStatistics,
    RungChange,
    reason_name,
    verdict_name,
)
from mien.call.tally import sent_statistics, video_packets
from mien.call.token_bucket import TokenBucket
from mien.call.video_gate import VideoGate
from mien.call.wire_meter import Direction, WireMeter
from mien.decoder.avatar_cache import AvatarCache
from mien.decoder.playout import Status
from mien.models.face_model import FaceModel
from mien.protocol.avatar import assemble
from mien.protocol.control import (
    PROTOCOL_VERSION,
    AudioCodec,
    AvatarVerdict,
    Bye,
    ByeReason,
    Carrier,
    ControlMessage,
    Hello,
    OwnerProof,
    ReceiverReport,
    RecordingNotice,
    Rung,
    RungSwitch,
    StreamStart,
    Verdict,
    parse_control,
)
from mien.protocol.errors import MienError, WireError
from mien.protocol.stream import StreamHeader
from mien.protocol.transfer import Chunk, Offer, parse_transfer

__all__ = ["CallHooks", "CallSession", "CallSettings", "Participant"]  # all that a caller needs

logger = logging.getLogger(__name__)

CLOSE_S: Final = 5.0
LINGER_S: Final = 0.6  # after the input's end: the last frames have yet to be shown over there
TICK_S: Final = 0.1  # how often time is let pass
SILENT_US: Final = 4_000_000  # without anything from the other side: say so
VANISHED_US: Final = 15_000_000  # without a single datagram: end the call
CHECK_US: Final = 7_000_000  # an answer to a STUN check comes at least this often
LEFT_US: Final = 3_000_000  # the same, where signalling says that the other side left
CONTROL_PER_S: Final = 20.0  # messages; more than this, after a burst, are dropped
CONTROL_BURST: Final = 400


class CallSession:
    """Make it in a running loop, `await run(...)`; `hang_up`, `show`, `hide` and the like at any time meanwhile."""

    def __init__(
        self, me: Participant, settings: CallSettings | None = None, hooks: CallHooks | None = None
    ) -> None:
        """Raises `MienError` for an avatar that does not verify, or a source without a tracker."""
        self.settings = settings or CallSettings()
        self._hooks = hooks or CallHooks()
        self._me = me
        if me.source is not None and me.tracker is None:
            raise MienError("a source needs a tracker")
        self._avatar = assemble(me.avatar, now_unix_s=int(time.time())) if me.avatar else None
        if self._avatar is not None and self._avatar.manifest.model_id != FaceModel.load().model_id:
            raise MienError(
                "the avatar was made for another face model than this version of mien has: enrol again"
            )
        self.gate = VideoGate()
        self.meter = WireMeter()
        self._view = FaceView(self.settings.view, on_fault=self.on_fault, on_unusable=self._on_unusable)
        self._cache = AvatarCache(self.settings.cache_folder) if self.settings.cache_folder else None
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._connected = asyncio.Event()
        self._ended = ""
        self._fault: Exception | None = None
        self._counts: Counter[str] = Counter()
        self._begin_us = clock.now_us()
        self._connected_us: int | None = None
        self._over_us: int | None = None
        self._heard_us = self._begin_us
        self._control_bucket = TokenBucket(
            rate_per_s=CONTROL_PER_S, burst=CONTROL_BURST, now_us=self._begin_us
        )
        self._datagrams = 0
        self._datagram_us = self._begin_us
        self._silent = False
        self._peer_left_us: int | None = None
        self._outgoing: OutgoingFace | None = None
        self._incoming: IncomingFace | None = None
        self._hello: Hello | None = None
        self._their_rung = Rung.STILL
        self._video: av.VideoFrame | None = None
        self._received_rungs: deque[RungChange] = deque(maxlen=MAX_CHANGES)
        self._reports = Reports()
        self.peer: Peer | None = None
        self._peer_closed = False

    # --- what a user does -------------------------------------------------------------------------------------

    async def run(self, rendezvous: Rendezvous) -> CallStatistics:
        """Call until somebody hangs up. Returns the statistics; raises `MienError` where no call came about."""
        try:
            await self._connect(rendezvous)
            self._start(self._tick_forever(), "call tick")
            self._start(self._draw_forever(), "call pictures")
            self._start(self._heed_signalling(rendezvous), "call signalling")
            await self._over.wait()
            return await self._finish()
        finally:
            await self._close()
            if self._fault is not None:
                raise self._fault

    def hang_up(self, reason: str = "hung up here") -> None:
        """End the call."""
        if self._over.is_set():
            return
        self._say(Bye(ByeReason.HANG_UP))
        self._end(reason)

    def show(self) -> None:
        """Show the camera as video."""
        if self._outgoing is not None:
            self._outgoing.show()

    def hide(self) -> None:
        """Hide the camera, and keep it from coming by itself for the rest of the call."""
        if self._outgoing is not None:
            self._outgoing.hide()

    def mute(self, muted: bool) -> None:
        """Send no voice, or send it again."""
        if self._me.voice is not None:
            self._me.voice.muted = muted

    @property
    def camera_live(self) -> bool:
        """Whether camera pictures are leaving: the indicator that the user's own view must show."""
        return self.gate.is_open

    @property
    def rung(self) -> Rung:
        """What the other side is told to show of us."""
        return self._decision.rung if self._decision else Rung.STILL

    @property
    def rung_reason(self) -> int | None:
        """Why, as a number of `RungReason`."""
        return self._decision.reason if self._decision else None

    @property
    def verdict(self) -> int | None:
        """What the other side says about our avatar, as a number of `Verdict`; None so far."""
        return self._offer.verdict if self._offer else None

    @property
    def avatar_delivered(self) -> bool:
        """Whether the other side has all of our avatar."""
        return self._offer is not None and self._offer.delivered

    @property
    def _decision(self) -> Decision | None:
        return self._outgoing.decision if self._outgoing else None

    @property
    def _offer(self) -> AvatarOffer | None:
        return self._outgoing.offer if self._outgoing else None

    @property
    def connected(self) -> asyncio.Event:
        """Set once both sides have said hello."""
        return self._connected

    def stamp_of(self, tick: int) -> int | None:
        """Return when the frame of one of our ticks was taken, on `mien.call.clock`."""
        return self._outgoing.stamp_of(tick) if self._outgoing else None

    # --- connecting -------------------------------------------------------------------------------------------

    async def _connect(self, rendezvous: Rendezvous) -> None:
        self._tell("waiting for the other side")
        offers = await self._until_over(rendezvous.meet())
        self._begin_us = clock.now_us()
        self.meter = WireMeter()  # the time that nobody else was there does not count
        self.peer = Peer(
            self,
            gate=self.gate,
            meter=self.meter,
            voice=self._me.voice,
            audio=self.settings.audio,
            voice_settings=self.settings.voice,
            addresses=self.settings.addresses,
            ice_servers=self.settings.ice_servers,
        )
        try:
            async with asyncio.timeout(self.settings.connect_s):
                if offers:
                    await rendezvous.send(await self.peer.offer())
                    await self.peer.accept(await rendezvous.receive())
                else:
                    await rendezvous.send(await self.peer.answer(await rendezvous.receive()))
                await self._until_over(self._connected.wait())
        except TimeoutError:
            raise MienError(
                f"no connection within {self.settings.connect_s:g} s: the two sides cannot reach one another. "
                "Across networks a TURN server is needed: --ice-server turn:HOST"
            ) from None
        except PeerLeft:
            raise MienError("the other side left before there was a connection") from None
        if self._over.is_set() and not self._connected.is_set():
            raise MienError(f"no call came about: {self._ended}")

    async def _until_over(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return the coroutine's result; the call may be over before there is one."""
        task = asyncio.ensure_future(coroutine)
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait({task, over}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if self._fault is not None:
                raise self._fault
            raise MienError(f"no call came about: {self._ended}")
        finally:
            task.cancel()
            over.cancel()
            await asyncio.gather(task, over, return_exceptions=True)

    def on_open(self) -> None:
        """The channels are open: say hello."""
        assert self.peer is not None
        self._incoming = IncomingFace(
            self.peer,
            self._view,
            cache=self._cache,
            record=self.settings.record,
            tell=self._tell,
            now_us=clock.now_us(),
        )
        self._say(
            Hello(
                protocol=PROTOCOL_VERSION,
                software=f"mien {mien.__version__}",
                challenge=self._incoming.challenge,
                carriers=(Carrier.DATACHANNEL,),
                rungs=(Rung.STILL, Rung.AVATAR, Rung.VIDEO),
                codecs=(StreamHeader.VERSION,),
                audio=(AudioCodec.OPUS,) if self.settings.audio else (),
            )
        )

    def _on_hello(self, hello: Hello) -> None:
        if self._hello is not None:
            self._counts["stray control"] += 1
            return
        self._hello = hello
        if hello.protocol != PROTOCOL_VERSION:
            self._say(Bye(ByeReason.VERSION))
            self._end(
                f"the other side ({hello.software}) speaks version {hello.protocol} of the call's protocol, "
                f"this one {PROTOCOL_VERSION}: update the older one"
            )
            return
        now_us = clock.now_us()
        self._connected_us = self._datagram_us = now_us
        self._reports.start(now_us)
        self._tell("connected" + (" on this machine" if self.peer and self.peer.is_loopback else ""))
        self._begin_sending(hello, now_us)
        self._connected.set()

    # --- sending ----------------------------------------------------------------------------------------------

    def _begin_sending(self, hello: Hello, now_us: int) -> None:
        assert self.peer is not None
        self._outgoing = OutgoingFace(
            self.peer, self.gate, challenge=hello.challenge, tell=self._tell, now_us=now_us
        )
        if self._avatar is not None:
            offer = self._outgoing.offer_avatar(
                self._avatar, self._me.signer, kbps=self.settings.transfer_kbps
            )
            self._start(offer.run(), "avatar transfer")
        if self._me.source is not None and self._me.tracker is not None:
            self._outgoing.start(
                self._me.source,
                self._me.tracker,
                self._avatar,
                self,
                sender=self.settings.sender,
                ladder=self.settings.ladder,
                allow_video=self.settings.allow_video,
            )

    def on_stream(self, header: StreamHeader) -> None:
        """Our stream begins."""
        if self._outgoing is not None:
            self._outgoing.on_stream(header)

    def on_frame(self, frame: TrackedFrame) -> None:
        """One of our frames was tracked."""
        if self._outgoing is None or self._over.is_set():
            return
        self._outgoing.on_frame(frame)
        if self._hooks.on_frame is not None:
            self._hooks.on_frame(frame)

    def on_source_end(self, messages: tuple[bytes, ...], error: Exception | None) -> None:
        """The input has ended."""
        if self._outgoing is None or self._over.is_set():
            return
        self._outgoing.on_source_end(messages)
        if error is not None:
            self._tell(f"the input failed: {error}")
            logger.debug("the input failed", exc_info=error)
        if self.settings.hang_up_at_end:
            asyncio.get_running_loop().call_later(LINGER_S, self.hang_up, "the input has ended")

    # --- receiving --------------------------------------------------------------------------------------------

    def on_control(self, data: bytes) -> None:
        """A control message arrived."""
        self._heard()
        if not self._control_bucket.take(1, now_us=self._heard_us):
            self._counts["control malformed"] += 1
            return
        try:
            message = parse_control(data)
        except WireError as error:
            self._counts["control malformed"] += 1
            logger.info("dropped a control message: %s", error)
            return
        if isinstance(message, Hello):
            self._on_hello(message)
        elif self._hello is not None and not self._over.is_set():
            self._on_control_message(message)

    def _on_control_message(self, message: object) -> None:
        assert self._incoming is not None
        match message:
            case StreamStart():
                self._incoming.on_stream_start(message)
            case OwnerProof():
                self._incoming.on_owner_proof(message)
            case AvatarVerdict() if self._offer is not None:
                self._offer.on_verdict(message)
                if message.verdict != Verdict.SHOWN:
                    self._tell(f"the other side does not show our avatar: {verdict_name(message.verdict)}")
            case RungSwitch():
                self._on_rung(message)
            case RecordingNotice():
                self._counts["recorded"] = int(message.active)
                self._tell("the other side records" if message.active else "the other side stopped recording")
            case ReceiverReport():
                self._on_report(message)
            case Bye():
                self._end("the other side hung up")
            case _:
                self._counts["skipped control"] += 1

    def on_coefficients(self, data: bytes) -> None:
        """A coefficient message arrived."""
        self._heard()
        self._counts["coefficient messages"] += 1
        if self._incoming is not None:
            self._incoming.on_coefficients(data, clock.now_us())

    def on_transfer(self, data: bytes) -> None:
        """A message of an avatar's transfer arrived, theirs or an answer about ours."""
        self._heard()
        try:
            message = parse_transfer(data)
            if isinstance(message, Offer | Chunk):
                if self._incoming is not None:
                    self._incoming.on_transfer(message)
            elif self._offer is not None:
                self._offer.on_answer(message)
        except WireError as error:
            self._counts["transfer malformed"] += 1
            logger.info("dropped a transfer message: %s", error)

    def on_video(self, frame: av.VideoFrame) -> None:
        """A frame of their camera was decoded. It is looked at only where they said that they show it."""
        self._heard()
        self._counts["video frames"] += 1
        if self._their_rung is Rung.VIDEO:
            if self._video is None:
                self._view.set_rung(Rung.VIDEO)  # the fade begins when there is something to fade to
            self._video = frame

    def on_audio(self, frame: av.AudioFrame) -> None:
        """20 ms of their voice."""
        self._heard()
        self._counts["audio frames"] += 1
        if self._hooks.on_voice is not None:
            self._hooks.on_voice(frame)

    def _on_unusable(self, error: Exception) -> None:
        """Their avatar verifies and yet cannot be drawn."""
        if self._incoming is not None and not self._over.is_set():
            self._incoming.on_unusable(error)

    def _on_rung(self, message: RungSwitch) -> None:
        seconds = self._since_connected(clock.now_us()) or 0.0
        self._received_rungs.append(RungChange(seconds, message.rung, message.reason, message.camera_live))
        self._their_rung = message.rung
        if message.rung is not Rung.VIDEO:
            self._video = None
            self._view.set_rung(message.rung)
        self._tell(f"the other side shows: {message.rung.name.lower()} ({reason_name(message.reason)})")

    def _on_report(self, report: ReceiverReport) -> None:
        self._reports.take(
            report,
            came=self._counts["coefficient messages"],
            tick_rate=self._incoming.tick_rate if self._incoming else None,
            transport_us=self.peer.round_trip_us if self.peer else 0,
            now_us=clock.now_us(),
        )
        if self._outgoing is not None:
            self._outgoing.repeat_history(self._reports.wants_history)

    def _note_latency(self, picture: ShownPicture) -> None:
        rate = self._incoming.tick_rate if self._incoming else None
        if picture.avatar and picture.shown.status is Status.LIVE and rate and picture.shown.tick is not None:
            self._reports.note_picture(picture.shown.tick, rate, picture.composited_us)

    @property
    def round_trip_us(self) -> int:
        """The round trip as reports measure it, else as SCTP does."""
        return self._reports.round_trip_us or (self.peer.round_trip_us if self.peer else 0)

    # --- the passing of time ----------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        while not self._over.is_set():
            self._tick(clock.now_us())
            await asyncio.sleep(TICK_S)

    def _tick(self, now_us: int) -> None:
        assert self.peer is not None
        fault = self.peer.check_health()
        if fault is not None:
            self._say(Bye(ByeReason.FAULT))
            self._end(fault)
            return
        if self._outgoing is not None:
            self._outgoing.advance(now_us)
        if self._incoming is not None:
            self._incoming.advance(now_us)
            if self._incoming.arrivals is not None:
                arrivals = self._incoming.arrivals
                self._reports.note_missing(arrivals.missing, arrivals.messages, now_us=now_us)
        if self._reports.is_due(now_us):
            self._start(self._report(), "receiver report")
        self._notice_silence(now_us)

    def _notice_silence(self, now_us: int) -> None:
        """Tell a pause from an end: also a side with nothing to say answers a STUN check every few seconds."""
        datagrams = self.meter.totals().total(Direction.RECEIVED).datagrams
        if datagrams != self._datagrams:
            self._datagrams, self._datagram_us = datagrams, now_us
        silent_us, dead_us = now_us - self._heard_us, now_us - self._datagram_us
        left = self._peer_left_us is not None and now_us - self._peer_left_us > LEFT_US
        if dead_us > VANISHED_US or (
            left and dead_us > LEFT_US and (dead_us > CHECK_US or self._expects_messages())
        ):
            self._end("the other side vanished")
        elif silent_us > SILENT_US and not self._silent and self._expects_messages():
            self._silent = True
            self._tell("nothing comes from the other side")

    def _expects_messages(self) -> bool:
        """A side without face, voice and video has a right to be silent between its reports."""
        return self._counts["coefficient messages"] + self._counts["audio frames"] > 0

    def _heard(self) -> None:
        self._heard_us = clock.now_us()
        if self._silent:
            self._silent = False
            self._tell("the other side is back")

    async def _report(self) -> None:
        counts = await self._view.counts()
        self._say(
            self._reports.make(
                Reception(counts.messages, counts.malformed, counts.late, self._jitter_us, self._missing),
                sent=self._outgoing.messages if self._outgoing else 0,
                coded=self._outgoing.newest_stamp() if self._outgoing else None,
                now_us=clock.now_us(),
            )
        )

    async def _draw_forever(self) -> None:
        period_s = 1 / self.settings.view.rate
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while not self._over.is_set():
            picture = await self._view.picture(self._video)
            if picture is not None:
                self._note_latency(picture)
                if self._hooks.on_picture is not None:
                    self._hooks.on_picture(picture)
            due_s = max(due_s + float(period_s), loop.time())
            await asyncio.sleep(due_s - loop.time())

    async def _heed_signalling(self, rendezvous: Rendezvous) -> None:
        """Signalling is needed no more, but it tells at once when the other side's process is gone."""
        try:
            while True:
                await rendezvous.receive()
        except PeerLeft:
            self._peer_left_us = clock.now_us()
        except MienError as error:
            logger.info("%s; the call goes on without it", error)

    # --- the end ----------------------------------------------------------------------------------------------

    def on_closed(self, reason: str) -> None:
        """The connection is gone."""
        self._end(reason)

    def on_fault(self, error: Exception) -> None:
        """A bug, or a full disk: the call ends and `run` raises it."""
        self._fault = self._fault or error
        self._end(f"{type(error).__name__}: {error}")

    def _end(self, reason: str) -> None:
        if not self._over.is_set():
            self._ended = reason
            self._over_us = clock.now_us()
            self.gate.close()
            if self._outgoing is not None:
                self._outgoing.end()
            self._over.set()
            self._tell(f"call ended: {reason}")

    async def _finish(self) -> CallStatistics:
        """Close the connection and return the figures.

        Path and streams can only be asked while the connection stands; the meter is read after it, because
        closing costs datagrams too: SCTP's ABORT and DTLS's close_notify.
        """
        if self._outgoing is not None:
            await self._outgoing.stop()
        statistics = await self.statistics()
        await self._close_connection()
        return replace(statistics, wire=self.meter.totals())

    async def _close(self) -> None:
        """Free everything, whatever state it is in."""
        self._over.set()
        self.gate.close()
        if self._outgoing is not None:
            await self._outgoing.stop()
        if self._me.source is not None and not (self._outgoing and self._outgoing.owns_source):
            self._me.source.close()
        await self._close_connection()
        if self._me.voice is not None:
            self._me.voice.stop()
        await self._view.close()
        if self._incoming is not None:
            await asyncio.to_thread(self._incoming.keep_avatar)

    async def _close_connection(self) -> None:
        """End what uses the connection, then the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.peer is not None and not self._peer_closed:
            self._peer_closed = True
            await asyncio.sleep(0)  # a Bye that was just sent leaves with the next turn of the loop
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self.peer.close()
            except TimeoutError:
                logger.warning("the connection did not close within %g s", CLOSE_S)

    # --- odds and ends ----------------------------------------------------------------------------------------

    async def statistics(self) -> CallStatistics:
        """Return how the call goes, or went."""
        view = await self._view.counts()
        seconds = self._seconds()
        video_sent, video_received = await video_packets(self.peer)
        return CallStatistics(
            connect_s=(self._connected_us - self._begin_us) / 1e6 if self._connected_us else None,
            seconds=seconds,
            ended=self._ended,
            loopback=self.peer.is_loopback if self.peer else False,
            camera_live=self.camera_live,
            sent=sent_statistics(
                self._outgoing,
                unsent=self.peer.dropped[f"{COEFFICIENTS} unsent"] if self.peer else 0,
                camera_pixels=self.gate.passed_pixels,
                video_packets=video_sent,
                reports=self._reports,
                seconds=seconds,
            ),
            received=ReceivedStatistics(
                messages=view.messages,
                malformed=view.malformed,
                early=self._incoming.counts["early messages"] if self._incoming else 0,
                dropped=self._view.overrun + (self.peer.dropped[COEFFICIENTS] if self.peer else 0),
                lost=self._reports.lost,
                late_ticks=view.late,
                jitter_ms=self._jitter_us / 1000,
                latency=self._reports.latency,
                control_malformed=self._counts["control malformed"],
                transfer_malformed=self._counts["transfer malformed"],
                pictures=view.pictures,
                fps=view.pictures / seconds if seconds else 0.0,
                backend=view.backend,
                avatar_bytes=self._incoming.received_bytes if self._incoming else 0,
                avatar_verdict=self._incoming.verdict if self._incoming else None,
                first_face_s=self._since_connected(self._incoming.first_face_us) if self._incoming else None,
                video_frames=self._counts["video frames"],
                video_packets=video_received,
                audio_frames=self._counts["audio frames"],
                rungs=tuple(self._received_rungs),
                recorded_by_other=bool(self._counts["recorded"]),
            ),
            wire=self.meter.totals(),
            round_trip_ms=self.round_trip_us / 1000,
        )

    @property
    def _jitter_us(self) -> int:
        arrivals = self._incoming.arrivals if self._incoming else None
        return arrivals.jitter_us if arrivals else 0

    @property
    def _missing(self) -> int:
        arrivals = self._incoming.arrivals if self._incoming else None
        return arrivals.missing if arrivals else 0

    def _seconds(self) -> float:
        if self._connected_us is None:
            return 0.0
        return ((self._over_us or clock.now_us()) - self._connected_us) / 1e6

    def _since_connected(self, time_us: int | None) -> float | None:
        if time_us is None or self._connected_us is None:
            return None
        return (time_us - self._connected_us) / 1e6

    def _say(self, message: ControlMessage) -> None:
        if self.peer is not None:
            self.peer.send(CONTROL, message.serialize())

    def _tell(self, text: str) -> None:
        logger.info("%s", text)
        if self._hooks.on_status is not None:
            self._hooks.on_status(text)

    def _start(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.on_fault(error)
