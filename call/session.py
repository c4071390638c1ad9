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
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import av
from aiortc import RTCRtpSender

import mien
from mien.call import clock
from mien.call.audio import VoiceTrack
from mien.call.avatar_offer import AvatarOffer
from mien.call.face_view import FaceView, ShownPicture, ViewSettings
from mien.call.incoming import IncomingFace
from mien.call.ladder import Decision, Ladder, LadderSettings
from mien.call.peer import COEFFICIENTS, CONTROL, Addresses, IceServer, Peer
from mien.call.rendezvous import PeerLeft, Rendezvous
from mien.call.reports import Reception, Reports
from mien.call.source_worker import SenderSettings, SourceWorker, TrackedFrame
from mien.call.statistics import (
    CallStatistics,
    ReceivedStatistics,
    RungChange,
    SentStatistics,
    reason_name,
    verdict_name,
)
from mien.call.video_gate import VideoGate
from mien.call.wire_meter import WireMeter
from mien.decoder.avatar_cache import AvatarCache
from mien.decoder.playout import Status
from mien.encoder.capture import Source
from mien.encoder.tracker import Tracker
from mien.protocol.avatar import Signer, assemble
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

logger = logging.getLogger(__name__)

LINGER_S: Final = 0.6  # after the input's end: the last frames have yet to be shown over there
TICK_S: Final = 0.1  # how often time is let pass
SILENT_US: Final = 4_000_000  # without anything from the other side: say so
VANISHED_US: Final = 25_000_000  # end the call
LEFT_US: Final = 3_000_000  # the same, where signalling says that the other side left
MAX_STAMPS: Final = 900


@dataclass(frozen=True, slots=True)
class CallSettings:
    """What a call may do. `allow_video`: lost tracking may lead to video by itself (the user's word, once a call)."""

    view: ViewSettings = field(default_factory=ViewSettings)
    sender: SenderSettings = field(default_factory=SenderSettings)
    ladder: LadderSettings = field(default_factory=LadderSettings)
    addresses: Addresses = Addresses.INTERFACES
    ice_servers: tuple[IceServer, ...] = ()
    allow_video: bool = False
    audio: bool = True
    record: Path | None = None
    cache_folder: Path | None = None  # of avatars; None: nothing is kept
    transfer_kbps: float = 20.0
    connect_s: float = 20.0
    hang_up_at_end: bool = True  # when the input ends


@dataclass(frozen=True, slots=True)
class CallHooks:
    """Called on the event loop; they must return soon and not raise."""

    on_frame: Callable[[TrackedFrame], None] | None = None
    on_picture: Callable[[ShownPicture], None] | None = None
    on_status: Callable[[str], None] | None = None
    on_voice: Callable[[av.AudioFrame], None] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Participant:
    """Our side: the camera or file, its tracker, the avatar's bytes and the key of its owner; all may be absent."""

    source: Source | None = None
    tracker: Tracker | None = None
    avatar: bytes | None = None
    signer: Signer | None = None
    voice: VoiceTrack | None = None


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
        self._silent = False
        self._peer_left_us: int | None = None
        # sending
        self._ladder: Ladder | None = None
        self._worker: SourceWorker | None = None
        self._offer: AvatarOffer | None = None
        self._announced: Decision | None = None
        self._stream: StreamHeader | None = None
        self._stamps: dict[int, int] = {}
        self._stamp_order: deque[int] = deque()
        self._cpu_us = 0
        self._sent_rungs: list[RungChange] = []
        # receiving
        self._incoming: IncomingFace | None = None
        self._hello: Hello | None = None
        self._their_rung = Rung.STILL
        self._video: av.VideoFrame | None = None
        self._received_rungs: list[RungChange] = []
        self._reports = Reports()
        self.peer: Peer | None = None

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
        if self._ladder is not None:
            self._apply(self._ladder.show(clock.now_us()))

    def hide(self) -> None:
        """Hide the camera, and keep it from coming by itself for the rest of the call."""
        if self._ladder is not None:
            self._apply(self._ladder.hide(clock.now_us()))

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
        return self._announced.rung if self._announced else Rung.STILL

    @property
    def rung_reason(self) -> int | None:
        """Why, as a number of `RungReason`."""
        return self._announced.reason if self._announced else None

    @property
    def verdict(self) -> int | None:
        """What the other side says about our avatar, as a number of `Verdict`; None so far."""
        return self._offer.verdict if self._offer else None

    @property
    def avatar_delivered(self) -> bool:
        """Whether the other side has all of our avatar."""
        return self._offer is not None and self._offer.delivered

    @property
    def connected(self) -> asyncio.Event:
        """Set once both sides have said hello."""
        return self._connected

    def stamp_of(self, tick: int) -> int | None:
        """Return when the frame of one of our ticks was taken, on `mien.call.clock`."""
        return self._stamps.get(tick)

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
        self._connected_us = now_us
        self._reports.start(now_us)
        self._tell("connected" + (" on this machine" if self.peer and self.peer.is_loopback else ""))
        self._begin_sending(hello, now_us)
        self._connected.set()

    # --- sending ----------------------------------------------------------------------------------------------

    def _begin_sending(self, hello: Hello, now_us: int) -> None:
        assert self.peer is not None
        if self._avatar is not None:
            self._offer = AvatarOffer(
                self._avatar, self._me.signer, self.peer, kbps=self.settings.transfer_kbps
            )
            self._offer.open(hello.challenge)
            self._start(self._offer.run(), "avatar transfer")
        if self._me.source is None or self._me.tracker is None:
            return
        self._ladder = Ladder(
            allow_video=self.settings.allow_video, now_us=now_us, settings=self.settings.ladder
        )
        avatar = self._avatar.avatar if self._avatar else None
        self._worker = SourceWorker(
            self._me.source, self._me.tracker, avatar, self, settings=self.settings.sender
        )
        self._worker.start()

    def on_stream(self, header: StreamHeader) -> None:
        """Our stream begins."""
        self._stream = header
        self._say(StreamStart.of(header))

    def on_frame(self, frame: TrackedFrame) -> None:
        """One of our frames was tracked."""
        assert self._ladder is not None and self.peer is not None
        if self._over.is_set():
            return
        self._apply(self._ladder.on_frame(frame.faces, clock.now_us()))
        self.gate.offer(frame.rgb, frame.timestamp_us)
        self._counts["frames"] += 1
        self._cpu_us += frame.cpu_us
        if frame.tick is not None:
            self._stamps[frame.tick] = frame.stamp_us
            self._stamp_order.append(frame.tick)
            if len(self._stamp_order) > MAX_STAMPS:
                self._stamps.pop(self._stamp_order.popleft(), None)
        for message in frame.messages:
            self._send_coefficients(message)
        if self._hooks.on_frame is not None:
            self._hooks.on_frame(frame)

    def on_source_end(self, messages: tuple[bytes, ...], error: Exception | None) -> None:
        """The input has ended."""
        if self._over.is_set():
            return
        for message in messages:
            self._send_coefficients(message)
        if error is not None:
            self._tell(f"the input failed: {error}")
            logger.debug("the input failed", exc_info=error)
        if self._ladder is not None:
            self._apply(self._ladder.on_end(clock.now_us()))
        if self.settings.hang_up_at_end:
            asyncio.get_running_loop().call_later(LINGER_S, self.hang_up, "the input has ended")

    def _send_coefficients(self, message: bytes) -> None:
        assert self.peer is not None
        if self.peer.send(COEFFICIENTS, message):
            self._counts["messages"] += 1
            self._counts["message bytes"] += len(message)

    def _apply(self, decision: Decision) -> None:
        """Open or close the gate, and tell both users."""
        if decision == self._announced or self._over.is_set():
            return
        before = self._announced
        self._announced = decision
        if decision.camera_live:
            self.gate.open()
        else:
            self.gate.close()
        if before is None or before.camera_live != decision.camera_live:
            self._tell(
                "CAMERA LIVE: the other side sees your camera" if decision.camera_live else "camera off"
            )
        self._sent_rungs.append(self._change(decision.rung, decision.reason, decision.camera_live))
        self._say(RungSwitch(decision.rung, decision.reason, decision.camera_live))

    # --- receiving --------------------------------------------------------------------------------------------

    def on_control(self, data: bytes) -> None:
        """A control message arrived."""
        self._heard()
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
        self._received_rungs.append(self._change(message.rung, message.reason, message.camera_live))
        del self._received_rungs[:-1000]
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
        if self._ladder is not None:
            self._apply(self._ladder.advance(now_us))
        if self._incoming is not None:
            self._incoming.advance(now_us)
        if self._reports.is_due(now_us):
            self._start(self._report(), "receiver report")
        self._notice_silence(now_us)

    def _notice_silence(self, now_us: int) -> None:
        silent_us = now_us - self._heard_us
        left = (
            self._peer_left_us is not None and now_us - self._peer_left_us > LEFT_US and silent_us > LEFT_US
        )
        if left or silent_us > VANISHED_US:
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
        arrivals = self._incoming.arrivals if self._incoming else None
        tick = self._stamp_order[-1] if self._stamp_order else None
        self._say(
            self._reports.make(
                Reception(
                    counts.messages, counts.malformed, counts.late, arrivals.jitter_us if arrivals else 0
                ),
                sent=self._counts["messages"],
                coded=(tick, self._stamps[tick]) if tick is not None else None,
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
            self._over.set()
            self._tell(f"call ended: {reason}")

    async def _finish(self) -> CallStatistics:
        if self._worker is not None:
            await self._worker.stop()
        return await self.statistics()

    async def _close(self) -> None:
        """Free everything, whatever state it is in."""
        self._over.set()
        self.gate.close()
        if self._worker is not None:
            await self._worker.stop()
        elif self._me.source is not None:
            self._me.source.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.peer is not None:
            await asyncio.sleep(0)  # a Bye that was just sent leaves with the next turn of the loop
            await self.peer.close()
        if self._me.voice is not None:
            self._me.voice.stop()
        await self._view.close()
        if self._incoming is not None:
            await asyncio.to_thread(self._incoming.keep_avatar)

    # --- odds and ends ----------------------------------------------------------------------------------------

    async def statistics(self) -> CallStatistics:
        """Return how the call goes, or went."""
        view = await self._view.counts()
        seconds = self._seconds()
        video_sent, video_received = await self._video_packets()
        sent = SentStatistics(
            frames=self._counts["frames"],
            frames_left_out=self._worker.left_out if self._worker else 0,
            fps=self._counts["frames"] / seconds if seconds else 0.0,
            cpu_ms_per_frame=self._cpu_us / 1000 / max(1, self._counts["frames"]),
            messages=self._counts["messages"],
            message_bytes=self._counts["message bytes"],
            messages_unsent=self.peer.dropped[f"{COEFFICIENTS} unsent"] if self.peer else 0,
            avatar_bytes=self._offer.sent_bytes if self._offer else 0,
            avatar_verdict=self._offer.verdict if self._offer else None,
            camera_pixels=self.gate.passed_pixels,
            video_packets=video_sent,
            rungs=tuple(self._sent_rungs),
            reported_lost=self._reports.their_lost,
            reported_latency_ms=self._reports.their_latency_ms,
        )
        incoming = self._incoming
        received = ReceivedStatistics(
            messages=view.messages,
            malformed=view.malformed,
            early=incoming.counts["early messages"] if incoming else 0,
            dropped=self._view.overrun + (self.peer.dropped[COEFFICIENTS] if self.peer else 0),
            lost=self._reports.lost,
            jitter_ms=incoming.arrivals.jitter_us / 1000 if incoming and incoming.arrivals else 0.0,
            latency=self._reports.latency,
            late_ticks=view.late,
            control_malformed=self._counts["control malformed"],
            transfer_malformed=self._counts["transfer malformed"],
            pictures=view.pictures,
            fps=view.pictures / seconds if seconds else 0.0,
            backend=view.backend,
            avatar_bytes=incoming.received_bytes if incoming else 0,
            avatar_verdict=incoming.verdict if incoming else None,
            first_face_s=self._since_connected(incoming.first_face_us) if incoming else None,
            video_frames=self._counts["video frames"],
            video_packets=video_received,
            audio_frames=self._counts["audio frames"],
            rungs=tuple(self._received_rungs),
            recorded_by_other=bool(self._counts["recorded"]),
        )
        return CallStatistics(
            connect_s=(self._connected_us - self._begin_us) / 1e6 if self._connected_us else None,
            seconds=seconds,
            ended=self._ended,
            loopback=self.peer.is_loopback if self.peer else False,
            camera_live=self.camera_live,
            sent=sent,
            received=received,
            wire=self.meter.totals(),
            round_trip_ms=self.round_trip_us / 1000,
        )

    async def _video_packets(self) -> tuple[int, int]:
        """Return how many RTP packets of video were sent and received."""
        sent = received = 0
        if self.peer is None:
            return 0, 0
        for transceiver in self.peer.connection.getTransceivers():
            if transceiver.kind != "video":
                continue
            sender: RTCRtpSender = transceiver.sender
            for report in (await sender.getStats()).values():
                sent += getattr(report, "packetsSent", 0) if report.type == "outbound-rtp" else 0
            for report in (await transceiver.receiver.getStats()).values():
                received += report.packetsReceived if report.type == "inbound-rtp" else 0
        return sent, received

    def _seconds(self) -> float:
        if self._connected_us is None:
            return 0.0
        return ((self._over_us or clock.now_us()) - self._connected_us) / 1e6

    def _since_connected(self, time_us: int | None) -> float | None:
        if time_us is None or self._connected_us is None:
            return None
        return (time_us - self._connected_us) / 1e6

    def _change(self, rung: Rung, reason: int, camera_live: bool) -> RungChange:
        return RungChange(self._since_connected(clock.now_us()) or 0.0, rung, reason, camera_live)

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
