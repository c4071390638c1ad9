"""One end of a WebRTC connection: three data channels, a voice line, and a video line that starts out silent.

Whatever arrives is handed to a `PeerListener` on the event loop; this module knows sizes but no formats.
"""

import asyncio
import ipaddress
import logging
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

import av
from aioice import Candidate
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCIceTransport,
    RTCPeerConnection,
    RTCSctpTransport,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from cryptography.hazmat.primitives import hashes

from mien.call import clock
from mien.call.opus import VoiceSettings
from mien.call.sack_delay import SackDelay
from mien.call.video_gate import VideoGate
from mien.call.video_track import GatedVideoTrack, silence_rtcp_until_open
from mien.call.voice_line import VoiceLine, prefer_short_seal
from mien.call.voice_track import Riders
from mien.call.wire_meter import WireMeter
from mien.protocol.control import MAX_CONTROL_BYTES, Carrier
from mien.protocol.errors import MienError
from mien.protocol.transfer import MAX_TRANSFER_BYTES

logger = logging.getLogger(__name__)

CONTROL: Final = "mien-control"
COEFFICIENTS: Final = "mien-coefficients"
TRANSFER: Final = "mien-transfer"
CHANNEL_IDS: Final = {CONTROL: 0, COEFFICIENTS: 1, TRANSFER: 2}
MAX_COEFFICIENT_BYTES: Final = 1100
MAX_INCOMING_BYTES: Final = {
    CONTROL: MAX_CONTROL_BYTES,
    COEFFICIENTS: MAX_COEFFICIENT_BYTES,
    TRANSFER: MAX_TRANSFER_BYTES,
}
FAREWELL_US: Final = 400_000  # for what was said last to be acknowledged
FAREWELL_CHECK_S: Final = 0.02
EXTRA_ABORTS: Final = 3
ABORT_EVERY_S: Final = 0.05
STALE_BACKLOG_BYTES: Final = 4 * MAX_COEFFICIENT_BYTES  # coefficients that wait longer are too old to be sent
MAX_CHANNELS: Final = 8  # a peer that opens more is hanging up on itself
MAX_UNREAD_BYTES: Final = 2 << 20  # of messages without an end, which SCTP would collect for ever


class Addresses(Enum):
    """Which of this machine's addresses a call may use."""

    INTERFACES = "interfaces"  # those of its network interfaces
    BOTH = "both"  # and loopback, tried first: the other end may be here
    LOOPBACK = "loopback"  # nothing leaves this machine


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server that the user named; no other server is ever asked for anything."""

    url: str
    username: str | None = None
    credential: str | None = None


class PeerListener(Protocol):
    """What a `Peer` tells, always on the event loop."""

    def on_open(self) -> None:
        """All channels are open."""

    def on_control(self, data: bytes) -> None:
        """A control message arrived."""

    def on_coefficients(self, data: bytes, carrier: Carrier = Carrier.DATACHANNEL) -> None:
        """A coefficient message arrived. An empty one only tells that messages arrive by this carrier."""

    def on_transfer(self, data: bytes) -> None:
        """A message of an avatar's transfer arrived."""

    def on_video(self, frame: av.VideoFrame) -> None:
        """A frame of the other side's video was decoded."""

    def on_audio(self, frame: av.AudioFrame) -> None:
        """20 ms of the other side's voice are to be played now."""

    def on_closed(self, reason: str) -> None:
        """The connection is gone. Nothing follows."""

    def on_fault(self, error: Exception) -> None:
        """A bug: one of the above raised."""


class Peer:
    """Make it in a running loop, `offer` or `answer`, and `close` it in the end, whatever happened."""

    def __init__(
        self,
        listener: PeerListener,
        *,
        gate: VideoGate,
        meter: WireMeter | None = None,
        voice: MediaStreamTrack | None = None,
        audio: bool = True,
        voice_settings: VoiceSettings | None = None,
        riders: Riders | None = None,
        addresses: Addresses = Addresses.INTERFACES,
        ice_servers: tuple[IceServer, ...] = (),
    ) -> None:
        """`riders` have messages for the packets of the voice."""
        self._listener = listener
        # An explicit list, also when it is empty: without one aiortc asks a public STUN server.
        servers = [RTCIceServer(s.url, s.username, s.credential) for s in ice_servers]
        self._pc = RTCPeerConnection(
            RTCConfiguration(iceServers=servers, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        )
        if meter is not None:
            meter.attach(self._pc)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._closing: asyncio.Future[None] | None = None
        self.dropped: Counter[str] = Counter()  # messages by channel: too long, text, or not sendable
        self.voice_line: VoiceLine | None = None
        self._add_audio(voice, voice_settings or VoiceSettings(), riders, audio=audio)
        self._add_video(gate)
        self._channels = {label: self._add_channel(label) for label in CHANNEL_IDS}
        sctp = self._pc.sctp
        if sctp is None:
            raise RuntimeError("a connection with data channels has no SCTP transport")
        self._sctp: RTCSctpTransport = sctp
        self._sacks = SackDelay(sctp, unreliable_streams=frozenset({CHANNEL_IDS[COEFFICIENTS]}))
        prefer_short_seal(sctp.transport)
        _use_addresses(sctp.transport.transport, addresses)
        self._pc.on("connectionstatechange", self._on_state)
        self._pc.on("track", self._on_track)

    async def offer(self) -> dict[str, str]:
        """Return the description to send to the other side."""
        await self._pc.setLocalDescription(await self._pc.createOffer())
        return self._description()

    async def answer(self, offer: dict[str, str]) -> dict[str, str]:
        """Take an offer, return the answer. Raises `MienError` for an offer that makes no sense."""
        await self._take(offer, "offer")
        await self._pc.setLocalDescription(await self._pc.createAnswer())
        return self._description()

    async def accept(self, answer: dict[str, str]) -> None:
        """Take the answer to our offer. Raises `MienError`."""
        await self._take(answer, "answer")

    def send(self, label: str, data: bytes) -> bool:
        """Send on a channel. False where it is not open, or holds old coefficients that were not sent yet."""
        channel = self._channels[label]
        stale = label == COEFFICIENTS and channel.bufferedAmount > STALE_BACKLOG_BYTES
        if channel.readyState != "open" or stale:
            self.dropped[f"{label} unsent"] += 1
            return False
        channel.send(data)
        return True

    def backlog_bytes(self, label: str) -> int:
        """Return how much of what was sent on a channel has not left yet."""
        return int(self._channels[label].bufferedAmount)

    @property
    def connection(self) -> RTCPeerConnection:
        """The connection itself, for statistics."""
        return self._pc

    @property
    def is_loopback(self) -> bool:
        """Whether the chosen path stays on this machine. False while there is none."""
        pair = self._sctp.transport.transport._connection._nominated.get(1)
        if pair is None:
            return False
        hosts = (pair.local_addr[0], pair.remote_addr[0])
        return all(ipaddress.ip_address(host.partition("%")[0]).is_loopback for host in hosts)

    @property
    def round_trip_us(self) -> int:
        """The shortest round trip that SCTP has seen, 0 while there is none."""
        return self._sacks.round_trip_us

    def local_fingerprint(self) -> bytes:
        """Return the SHA-256 of this end's DTLS certificate."""
        for fingerprint in self._sctp.transport.getLocalParameters().fingerprints:
            if fingerprint.algorithm == "sha-256":
                return bytes.fromhex(fingerprint.value.replace(":", ""))
        raise RuntimeError("the certificate has no SHA-256 fingerprint")

    def remote_fingerprint(self) -> bytes:
        """Return the SHA-256 of the certificate that the other end has shown it holds. Only once connected."""
        tls = self._sctp.transport._ssl
        certificate = tls.get_peer_certificate(as_cryptography=True) if tls else None
        if certificate is None:
            raise RuntimeError("not connected: the other side has shown no certificate")
        return bytes(certificate.fingerprint(hashes.SHA256()))

    def check_health(self) -> str | None:
        """Return why this peer should be hung up on, None if it keeps to the rules. Call it now and then."""
        sctp = self._sctp
        if sctp._advertised_rwnd < -MAX_UNREAD_BYTES:
            return "the other side sends messages without an end"
        if len(sctp._data_channels) > MAX_CHANNELS:
            return "the other side opens too many channels"
        return None

    async def close(self) -> None:
        """Close the connection and wait for everything that this object started.

        Whoever waits may be cancelled; the closing goes on.
        """
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._closed = True
        await self._leave()
        await self._pc.close()
        self._sacks.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _leave(self) -> None:
        """See that the other side notices: wait for what was said last, and where it may be lost, abort repeatedly."""
        control = self._channels[CONTROL]
        deadline_us = clock.now_us() + FAREWELL_US
        while control.readyState == "open" and (self._sctp._sent_queue or self._sctp._outbound_queue):
            if clock.now_us() > deadline_us:
                for _ in range(EXTRA_ABORTS):
                    await self._sctp._abort()
                    await asyncio.sleep(ABORT_EVERY_S)
                return
            await asyncio.sleep(FAREWELL_CHECK_S)

    def _add_audio(
        self, voice: MediaStreamTrack | None, settings: VoiceSettings, riders: Riders | None, *, audio: bool
    ) -> None:
        if not audio:
            self._pc.addTransceiver("audio", "inactive")
            return
        self.voice_line = VoiceLine(
            self._pc,
            voice,
            settings,
            self._listener.on_audio,
            riders=riders,
            on_message=self._on_ridden,
        )
        self._start(self._play(self.voice_line))

    async def _play(self, line: VoiceLine) -> None:
        try:
            await line.run()
        except Exception as error:  # noqa: BLE001  this task's result is read by nobody
            self._listener.on_fault(error)

    def _add_video(self, gate: VideoGate) -> None:
        video = self._pc.addTransceiver(GatedVideoTrack(gate), "sendrecv")
        silence_rtcp_until_open(video.sender, gate)

    def _add_channel(self, label: str) -> RTCDataChannel:
        unreliable = label == COEFFICIENTS
        channel = self._pc.createDataChannel(
            label,
            ordered=not unreliable,
            maxRetransmits=0 if unreliable else None,
            negotiated=True,
            id=CHANNEL_IDS[label],
        )
        channel.on("message", lambda data: self._on_message(label, data))
        channel.on("open", self._on_channel_open)
        # SCTP's ABORT closes the channels, also where the goodbye before it and DTLS's after it were lost.
        channel.on("close", lambda: self._tell_closed("the other side closed the connection"))
        return channel

    def _description(self) -> dict[str, str]:
        description = self._pc.localDescription
        sdp = description.sdp
        if self.voice_line is not None:
            sdp = self.voice_line.describe(sdp)
        return {"kind": description.type, "sdp": sdp}

    async def _take(self, data: dict[str, str], kind: str) -> None:
        if data.get("kind") != kind:
            raise MienError(f"the other side sent {data.get('kind')!r:.20}, expected an {kind}")
        try:
            if self.voice_line is not None:
                self.voice_line.heed(data.get("sdp", ""))
            await self._pc.setRemoteDescription(RTCSessionDescription(data.get("sdp", ""), kind))
        except Exception as error:  # aiortc parses a stranger's text, and raises whatever comes along
            raise MienError(
                f"the other side's {kind} makes no sense: {type(error).__name__}: {error!s:.80}"
            ) from error

    def _on_message(self, label: str, data: bytes | str) -> None:
        if not isinstance(data, bytes) or len(data) > MAX_INCOMING_BYTES[label]:
            self.dropped[label] += 1
            return
        listener = self._listener
        handlers = {
            CONTROL: listener.on_control,
            COEFFICIENTS: listener.on_coefficients,
            TRANSFER: listener.on_transfer,
        }
        try:
            handlers[label](data)
        except Exception as error:  # noqa: BLE001  raised here it would only end aiortc's receive loop
            listener.on_fault(error)

    def _on_ridden(self, data: bytes) -> None:
        """Take a message that came in a packet of voice."""
        if len(data) > MAX_COEFFICIENT_BYTES:
            self.dropped[COEFFICIENTS] += 1
            return
        try:
            self._listener.on_coefficients(data, Carrier.AUDIO)
        except Exception as error:  # noqa: BLE001  raised here it would only end aiortc's receive loop
            self._listener.on_fault(error)

    def _on_channel_open(self) -> None:
        if all(channel.readyState == "open" for channel in self._channels.values()):
            self._listener.on_open()

    def _on_state(self) -> None:
        state = self._pc.connectionState
        logger.info("connection %s", state)
        if state == "failed":
            self._tell_closed("no connection: the two sides cannot reach one another")
        elif state == "closed":
            self._tell_closed("the other side closed the connection")

    def _tell_closed(self, reason: str) -> None:
        if not self._closed:
            self._closed = True
            self._listener.on_closed(reason)

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._start(self._pump(track))

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pump(self, track: MediaStreamTrack) -> None:
        """Take every picture of a track as it is decoded: what nobody takes, aiortc would keep."""
        try:
            while True:
                frame = await track.recv()
                if isinstance(frame, av.VideoFrame):
                    self._listener.on_video(frame)
        except MediaStreamError:
            return
        except Exception as error:  # noqa: BLE001  this task's result is read by nobody
            self._listener.on_fault(error)


def _use_addresses(ice: RTCIceTransport, addresses: Addresses) -> None:
    """Choose the local addresses. aioice leaves loopback out and offers no choice."""
    if addresses is Addresses.INTERFACES:
        return
    gather = ice._connection.get_component_candidates

    def gather_chosen(
        component: int, addresses: list[str], timeout: int = 5
    ) -> Coroutine[None, None, list[Candidate]]:
        others = [] if only_loopback else addresses
        return gather(component, ["127.0.0.1", *others], timeout)

    only_loopback = addresses is Addresses.LOOPBACK
    vars(ice._connection)["get_component_candidates"] = gather_chosen
