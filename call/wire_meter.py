"""The wire meter: every UDP datagram of one peer connection, counted at its sockets, both ways, by cause.

A datagram costs its payload plus the IP and UDP headers: 28 bytes over IPv4, 48 over IPv6. What it was sent
for is read from its first byte (RFC 7983), RTP and RTCP being told apart by the second (RFC 5761). DTLS
application data is encrypted, so it is looked at just before it is encrypted and just after it was decrypted:
it is an SCTP packet, and the whole datagram, headers included, is shared among its chunks in proportion to
their padded lengths (what the division leaves over goes to the longest). In the number of datagrams a packet
of several chunks counts once, for its longest chunk. A packet of voice is looked at before it is sealed, too:
what rides in its padding is the rider's, all the rest, headers and seal included, is voice; and as a datagram it
counts for voice, which would have been sent anyway. One that was made for its rider is all the rider's. What the
face and the scene share in one message is divided by their bytes.

The ledger (`WireLedger`) and the readers of bytes know no socket and no clock. `WireMeter` taps the objects of
one `RTCPeerConnection`; nothing is patched for other connections.
"""

import asyncio
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any, Final, Protocol, Self, TypeVar

from aioice.ice import StunProtocol
from aiortc import RTCPeerConnection
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcsctptransport import RTCSctpTransport

from mien.call.riders import NOBODY, Rider, rider_of, scene_bytes

IPV4_UDP_BYTES: Final = 20 + 8
IPV6_UDP_BYTES: Final = 40 + 8
TURN_CHANNEL_BYTES: Final = 4  # ChannelData header, RFC 8656 section 12.4; over UDP there is no padding

_T = TypeVar("_T")

_BUCKET_US: Final = 100_000  # the grain of `kbps` over a window
_HISTORY_US: Final = 60_000_000

_DTLS_RECORD: Final = struct.Struct(
    "!B2s2s6sH"
)  # type, version, epoch, sequence number, length (RFC 6347 4.1)
_DTLS_APPLICATION_DATA: Final = 23
_SCTP_HEADER_BYTES: Final = 12
_SCTP_CHUNK: Final = struct.Struct("!BBH")  # type, flags, length (RFC 9260 section 3.2)
_SCTP_DATA_HEADER_BYTES: Final = 16
_SCTP_DATA: Final = 0
_SCTP_SACK: Final = 3
_DCEP: Final = 50  # payload protocol of the messages that open a data channel (RFC 8832)


class Cause(StrEnum):
    """What a datagram, or a share of one, was sent for."""

    STUN = "stun"  # connectivity checks, consent freshness, the STUN server
    DTLS = "dtls"  # handshake, alerts, change cipher spec
    COEFFICIENTS = "coefficients"  # SCTP DATA of a coefficient channel, or padding in packets of voice
    SCENE = "scene"  # the same of the scene layer: hair, hands, light
    CONTROL = "control"  # SCTP DATA of every other channel, and the opening of channels
    TRANSFER = "transfer"  # SCTP DATA of a channel that carries avatars
    SACK = "sack"
    SCTP = "sctp"  # every other chunk: INIT, COOKIE, HEARTBEAT, FORWARD-TSN, RE-CONFIG, ...
    AUDIO = "audio"  # SRTP
    VIDEO = "video"  # SRTP
    RTCP = "rtcp"  # SRTCP, for audio and video together
    OTHER = "other"  # none of these, or encrypted and never decrypted


CAUSES: Final = tuple(Cause)
_RTP: Final = (Cause.AUDIO, Cause.VIDEO)


class Direction(StrEnum):
    """Seen from this end."""

    SENT = "sent"
    RECEIVED = "received"


@dataclass(frozen=True, slots=True)
class Share:
    """The part of one datagram that one cause answers for. `weight` is in bytes before the headers.

    `rides`: the datagram would have been sent without it.
    """

    cause: Cause
    weight: int
    payload_bytes: int = 0  # the user's data of an SCTP DATA chunk or of a rider; 0 for everything else
    rides: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """What one cause cost in one direction. `wire_bytes` holds the IP and UDP headers."""

    datagrams: int = 0
    wire_bytes: int = 0
    payload_bytes: int = 0

    def kbps(self, elapsed_us: int) -> float:
        """Return the mean over a time in microseconds."""
        return self.wire_bytes * 8000 / elapsed_us if elapsed_us > 0 else 0.0


@dataclass(frozen=True, slots=True)
class PathFlow:
    """How many of one direction's datagrams went over IPv6, and how many between this end and a relay."""

    ipv6_datagrams: int = 0
    relayed_datagrams: int = 0


@dataclass(frozen=True, slots=True)
class WireTotals:
    """Everything that one connection cost so far; causes that never occurred are absent."""

    elapsed_us: int
    sent: Mapping[Cause, Flow]
    received: Mapping[Cause, Flow]
    sent_path: PathFlow = PathFlow()
    received_path: PathFlow = PathFlow()

    def flows(self, direction: Direction) -> Mapping[Cause, Flow]:
        """Return one direction."""
        return self.sent if direction == Direction.SENT else self.received

    def path(self, direction: Direction) -> PathFlow:
        """Return which way one direction's datagrams went."""
        return self.sent_path if direction == Direction.SENT else self.received_path

    def total(self, direction: Direction) -> Flow:
        """Return the sum over all causes."""
        return _sum(self.flows(direction).values())

    def kbps(self, direction: Direction, cause: Cause | None = None) -> float:
        """Return the mean rate of one cause, or of all."""
        flow = self.total(direction) if cause is None else self.flows(direction).get(cause, Flow())
        return flow.kbps(self.elapsed_us)

    def overhead_bytes(self, direction: Direction, cause: Cause) -> float:
        """Return the mean bytes of headers, padding and seals for each datagram of a data channel."""
        flow = self.flows(direction).get(cause, Flow())
        return (flow.wire_bytes - flow.payload_bytes) / flow.datagrams if flow.datagrams else 0.0

    def since(self, earlier: "WireTotals") -> "WireTotals":
        """Return what was added after an earlier reading of the same meter."""
        return WireTotals(
            self.elapsed_us - earlier.elapsed_us,
            _difference(self.sent, earlier.sent),
            _difference(self.received, earlier.received),
            *(_path_difference(self.path(d), earlier.path(d)) for d in Direction),
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`, each direction with its causes and its total."""
        return {
            "elapsed_s": self.elapsed_us / 1e6,
            **{d.value: self._direction_as_json(d) for d in Direction},
        }

    def _direction_as_json(self, direction: Direction) -> dict[str, Any]:
        rows = {cause.value: flow for cause, flow in self.flows(direction).items()} | {
            "total": self.total(direction)
        }
        return {
            name: {
                "datagrams": flow.datagrams,
                "wire_bytes": flow.wire_bytes,
                "payload_bytes": flow.payload_bytes,
                "kbps": round(flow.kbps(self.elapsed_us), 4),
            }
            for name, flow in rows.items()
        }


def _sum(flows: Iterable[Flow]) -> Flow:
    datagrams, wire, payload = 0, 0, 0
    for flow in flows:
        datagrams += flow.datagrams
        wire += flow.wire_bytes
        payload += flow.payload_bytes
    return Flow(datagrams, wire, payload)


def _difference(later: Mapping[Cause, Flow], earlier: Mapping[Cause, Flow]) -> dict[Cause, Flow]:
    result = {}
    for cause, flow in later.items():
        before = earlier.get(cause, Flow())
        result[cause] = Flow(
            flow.datagrams - before.datagrams,
            flow.wire_bytes - before.wire_bytes,
            flow.payload_bytes - before.payload_bytes,
        )
    return result


def _path_difference(later: PathFlow, earlier: PathFlow) -> PathFlow:
    return PathFlow(
        later.ipv6_datagrams - earlier.ipv6_datagrams, later.relayed_datagrams - earlier.relayed_datagrams
    )


# --- reading bytes --------------------------------------------------------------------------------------------


def is_rtcp(data: bytes) -> bool:
    """Tell RTCP from RTP where both share a port: RFC 5761 section 4."""
    return len(data) >= 2 and 192 <= data[1] <= 223


def classify(data: bytes, kind_of_payload_type: Callable[[int], Cause]) -> Cause | None:
    """Return the cause of one datagram by its first bytes; None for DTLS application data (look inside)."""
    first = data[0] if data else 255
    if first <= 3:
        return Cause.STUN
    if 20 <= first <= 63:
        return None if has_application_data(data) else Cause.DTLS
    if 128 <= first <= 191 and len(data) >= 2:
        return Cause.RTCP if is_rtcp(data) else kind_of_payload_type(data[1] & 0x7F)
    return Cause.OTHER


def has_application_data(data: bytes) -> bool:
    """Return whether any DTLS 1.2 record of a datagram is application data."""
    position = 0
    while position + _DTLS_RECORD.size <= len(data):
        kind, _, _, _, length = _DTLS_RECORD.unpack_from(data, position)
        if kind == _DTLS_APPLICATION_DATA:
            return True
        position += _DTLS_RECORD.size + length
    return False


def sctp_shares(packet: bytes, cause_of_stream: Callable[[int], Cause]) -> tuple[Share, ...]:
    """Return a share for each chunk of a plain SCTP packet. Bytes that are no chunk end the walk."""
    shares: list[Share] = []
    position = _SCTP_HEADER_BYTES
    while position + _SCTP_CHUNK.size <= len(packet):
        kind, _, length = _SCTP_CHUNK.unpack_from(packet, position)
        if length < _SCTP_CHUNK.size or position + length > len(packet):
            break
        padded = min(length + -length % 4, len(packet) - position)
        if kind == _SCTP_DATA and length >= _SCTP_DATA_HEADER_BYTES:
            stream = int.from_bytes(packet[position + 8 : position + 10], "big")
            protocol = int.from_bytes(packet[position + 12 : position + 16], "big")
            cause = Cause.CONTROL if protocol == _DCEP else cause_of_stream(stream)
            data = packet[position + _SCTP_DATA_HEADER_BYTES : position + length]
            scene = scene_bytes(data) if cause is Cause.COEFFICIENTS else 0
            shares += _with_scene(Share(cause, padded, len(data)), scene)
        else:
            shares.append(Share(Cause.SACK if kind == _SCTP_SACK else Cause.SCTP, padded))
        position += padded
    return tuple(shares) or (Share(Cause.SCTP, 1),)


# --- the ledger -----------------------------------------------------------------------------------------------


def _zeros() -> list[int]:
    return [0] * len(CAUSES)


@dataclass(slots=True)
class _Sums:
    """Running sums of one direction, by the position in `CAUSES`."""

    datagrams: list[int] = field(default_factory=_zeros)
    wire_bytes: list[int] = field(default_factory=_zeros)
    payload_bytes: list[int] = field(default_factory=_zeros)
    ipv6_datagrams: int = 0
    relayed_datagrams: int = 0


@dataclass(frozen=True, slots=True)
class _Bucket:
    index: int  # time // _BUCKET_US
    wire_bytes: dict[Direction, list[int]]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One datagram that has been entered; its cause may be corrected while `WireLedger.assign` knows it."""

    direction: Direction
    wire_bytes: int
    bucket: _Bucket
    shares: tuple[Share, ...]


class WireLedger:
    """Adds datagrams up, over the whole time and over windows. Times are integer microseconds of any clock."""

    def __init__(self, start_us: int) -> None:
        self._start_us = start_us
        self._sums = {d: _Sums() for d in Direction}
        self._buckets: deque[_Bucket] = deque()

    def enter(self, direction: Direction, wire_bytes: int, shares: tuple[Share, ...], now_us: int) -> Entry:
        """Count one datagram of `wire_bytes` (headers included)."""
        entry = Entry(direction, wire_bytes, self._bucket(now_us), shares)
        self._book(entry, 1)
        return entry

    def note_path(self, direction: Direction, *, ipv6: bool, relayed: bool) -> None:
        """Say which way a datagram that is entered went."""
        sums = self._sums[direction]
        sums.ipv6_datagrams += ipv6
        sums.relayed_datagrams += relayed

    def assign(self, entry: Entry, shares: tuple[Share, ...]) -> Entry:
        """Replace an entry's shares, now that its inside is known. The totals stay as they are."""
        self._book(entry, -1)
        entry = Entry(entry.direction, entry.wire_bytes, entry.bucket, shares)
        self._book(entry, 1)
        return entry

    def totals(self, now_us: int) -> WireTotals:
        """Return everything since the start."""
        return WireTotals(
            now_us - self._start_us,
            self._flows(Direction.SENT),
            self._flows(Direction.RECEIVED),
            *(PathFlow(sums.ipv6_datagrams, sums.relayed_datagrams) for sums in self._sums.values()),
        )

    def kbps(self, direction: Direction, cause: Cause | None, *, window_us: int, now_us: int) -> float:
        """Return the mean rate over the last `window_us` (100 ms to 60 s, to 100 ms), all causes for None.

        While the connection is younger than the window, over its age.
        """
        window_us = min(max(window_us, _BUCKET_US), _HISTORY_US)
        newest_outside = (now_us - window_us) // _BUCKET_US
        if now_us - self._start_us < window_us:
            window_us = max(now_us - self._start_us, _BUCKET_US)
            newest_outside = self._start_us // _BUCKET_US - 1
        position = None if cause is None else CAUSES.index(cause)
        count = 0
        for bucket in reversed(self._buckets):
            if bucket.index <= newest_outside:
                break
            counted = bucket.wire_bytes[direction]
            count += sum(counted) if position is None else counted[position]
        return count * 8000 / window_us

    def _flows(self, direction: Direction) -> dict[Cause, Flow]:
        sums = self._sums[direction]
        rows = zip(CAUSES, sums.datagrams, sums.wire_bytes, sums.payload_bytes, strict=True)
        return {cause: Flow(n, wire, payload) for cause, n, wire, payload in rows if n or wire}

    def _bucket(self, now_us: int) -> _Bucket:
        index = now_us // _BUCKET_US
        if not self._buckets or self._buckets[-1].index < index:
            self._buckets.append(_Bucket(index, {d: [0] * len(CAUSES) for d in Direction}))
            while self._buckets[0].index < index - _HISTORY_US // _BUCKET_US:
                self._buckets.popleft()
        return self._buckets[-1]

    def _book(self, entry: Entry, sign: int) -> None:
        sums = self._sums[entry.direction]
        bucket = entry.bucket.wire_bytes[entry.direction]
        shares = entry.shares
        longest = max(range(len(shares)), key=lambda i: (not shares[i].rides, shares[i].weight))
        for i, part in enumerate(_split(entry.wire_bytes, entry.shares, longest)):
            share = entry.shares[i]
            position = CAUSES.index(share.cause)
            sums.datagrams[position] += sign if i == longest else 0
            sums.wire_bytes[position] += sign * part
            sums.payload_bytes[position] += sign * share.payload_bytes
            bucket[position] += sign * part


def voice_shares(wire_bytes: int, rider: Rider) -> tuple[Share, ...]:
    """Return the shares of a datagram of voice, `wire_bytes` with its headers, and of what rides in it."""
    if rider.alone:
        return _with_scene(Share(Cause.COEFFICIENTS, wire_bytes, rider.payload_bytes), rider.scene_bytes)
    voice = Share(Cause.AUDIO, max(1, wire_bytes - rider.wire_bytes))
    if not rider.wire_bytes:
        return (voice,)
    riding = Share(Cause.COEFFICIENTS, rider.wire_bytes, rider.payload_bytes, rides=True)
    return voice, *_with_scene(riding, rider.scene_bytes)


def _with_scene(share: Share, scene: int) -> tuple[Share, ...]:
    """Divide a message's share between the face and the scene, which has `scene` bytes of the payload."""
    if not scene:
        return (share,)
    if scene == share.payload_bytes:
        return (replace(share, cause=Cause.SCENE),)
    weight = share.weight * scene // share.payload_bytes
    face = replace(share, weight=share.weight - weight, payload_bytes=share.payload_bytes - scene)
    return face, replace(share, cause=Cause.SCENE, weight=weight, payload_bytes=scene)


def _split(total: int, shares: tuple[Share, ...], longest: int) -> list[int]:
    weights = sum(s.weight for s in shares)
    parts = [total * s.weight // weights for s in shares] if weights else [0] * len(shares)
    parts[longest] += total - sum(parts)
    return parts


# --- the taps -------------------------------------------------------------------------------------------------


class _Clock(Protocol):
    def __call__(self) -> int: ...


def monotonic_us() -> int:
    """Return the time that never jumps, in microseconds."""
    return time.monotonic_ns() // 1000


DATA_CHANNEL_CAUSES: Final[Mapping[str, Cause]] = {
    "mien-coefficients": Cause.COEFFICIENTS,
    "mien-control": Cause.CONTROL,
    "mien-transfer": Cause.TRANSFER,
}


class WireMeter:
    """Counts one peer connection. Make it and `attach` it right after the connection is made, before any offer.

    `channels` maps a data channel's label to its cause; other channels are CONTROL.
    """

    def __init__(
        self,
        *,
        channels: Mapping[str, Cause] = DATA_CHANNEL_CAUSES,
        clock: _Clock = monotonic_us,
    ) -> None:
        self._channels = dict(channels)
        self._clock = clock
        self._ledger = WireLedger(clock())
        self._pc: RTCPeerConnection | None = None
        self._payload_types: dict[int, Cause] = {}
        self._taps: list[_TransportTap] = []
        self._ports: set[int] = set()
        # Hears of every SCTP and RTP packet that is about to be sealed and sent: for whoever measures when.
        self.on_plain: Callable[[bytes], None] | None = None

    def attach(self, pc: RTCPeerConnection) -> None:
        """Tap every transport that the connection has or will have. Once for each meter."""
        if self._pc is not None:
            raise RuntimeError("this meter already counts a connection: make one for each")
        self._pc = pc
        # A connection makes its transports while it negotiates, and their sockets before it returns from
        # setLocalDescription: the only moment at which no datagram has passed yet is their creation.
        name = "_RTCPeerConnection__createDtlsTransport"
        create: Callable[[], RTCDtlsTransport] = getattr(pc, name)

        def create_and_tap() -> RTCDtlsTransport:
            dtls = create()
            self._tap(dtls)
            return dtls

        setattr(pc, name, create_and_tap)
        for dtls in getattr(pc, "_RTCPeerConnection__dtlsTransports"):  # noqa: B009  a mangled name
            self._tap(dtls)

    def totals(self) -> WireTotals:
        """Return everything since the meter was made."""
        return self._ledger.totals(self._clock())

    def kbps(self, direction: Direction, cause: Cause | None = None, *, window_us: int = 5_000_000) -> float:
        """Return the mean rate over the last `window_us` (100 ms to 60 s), for the display in a call."""
        return self._ledger.kbps(direction, cause, window_us=window_us, now_us=self._clock())

    @property
    def local_ports(self) -> frozenset[int]:
        """The UDP ports of this end's sockets, for whoever compares the meter with a packet capture."""
        return frozenset(self._ports)

    def _tap(self, dtls: RTCDtlsTransport) -> None:
        self._taps.append(_TransportTap(self, dtls))

    def _enter(self, direction: Direction, path: "_Path", data: bytes, shares: tuple[Share, ...]) -> Entry:
        self._ledger.note_path(direction, ipv6=path.ipv6, relayed=path.relayed)
        return self._ledger.enter(direction, path.wire_bytes(data), shares, self._clock())

    def _sctp_shares(self, packet: bytes) -> tuple[Share, ...]:
        return sctp_shares(packet, self._cause_of_stream)

    def _cause_of_stream(self, stream: int) -> Cause:
        sctp: RTCSctpTransport | None = self._pc.sctp if self._pc is not None else None
        channel = sctp._data_channels.get(stream) if sctp is not None else None
        return self._channels.get(channel.label, Cause.CONTROL) if channel is not None else Cause.CONTROL

    def _kind_of_payload_type(self, payload_type: int) -> Cause:
        """Audio or video, from what was negotiated. In a bundle a payload type means one codec (RFC 8843)."""
        if payload_type not in self._payload_types and self._pc is not None:
            for transceiver in self._pc.getTransceivers():
                cause = Cause.VIDEO if transceiver.kind == "video" else Cause.AUDIO
                for codec in transceiver._codecs:
                    if codec.payloadType is not None:
                        self._payload_types[codec.payloadType] = cause
        return self._payload_types.get(payload_type, Cause.OTHER)


@dataclass(frozen=True, slots=True)
class _Path:
    """Which way a datagram goes."""

    ipv6: bool
    relayed: bool

    def wire_bytes(self, data: bytes) -> int:
        headers = IPV6_UDP_BYTES if self.ipv6 else IPV4_UDP_BYTES
        return len(data) + headers + (TURN_CHANNEL_BYTES if self.relayed else 0)


class _TransportTap:
    """The taps of one ICE + DTLS transport."""

    def __init__(self, meter: WireMeter, dtls: RTCDtlsTransport) -> None:
        self._meter = meter
        self._dtls = dtls
        self._sealing: deque[tuple[Share, ...]] = deque()  # handed to DTLS, not yet at the socket
        self._sealing_rtp: deque[Rider] = deque()  # the same for RTP, in the order of sending
        self._arrived: deque[tuple[bytes, Entry]] = deque()  # sealed, at the socket, not yet read by DTLS
        self._opening: Entry | None = None  # being decrypted
        self._tapped_sctp: RTCSctpTransport | None = None
        ice = dtls.transport
        connection = ice._connection
        connection._protocols = _ProtocolList(connection._protocols, self._tap_socket)
        self._recv, self._send_data = ice._recv, dtls._send_data
        self._send_rtp, self._handle_rtp_data = dtls._send_rtp, dtls._handle_rtp_data
        _replace(ice, "_recv", self._recv_tapped)
        _replace(dtls, "_send_data", self._send_data_tapped)
        _replace(dtls, "_send_rtp", self._send_rtp_tapped)
        _replace(dtls, "_handle_rtp_data", self._handle_rtp_data_tapped)

    def _tap_socket(self, protocol: StunProtocol) -> None:
        transport = protocol.transport
        relay = getattr(transport, "_TurnTransport__inner_protocol", None)
        if relay is None:
            self._meter._ports.add(transport.get_extra_info("sockname")[1])
        relayed = relay is not None
        counting = _CountingProtocol(protocol, partial(self._on_received, relayed=relayed))
        if relay is None:
            transport.set_protocol(counting)
        else:  # the allocation's own messages went out before anyone could know of it: they are not counted
            relay.receiver = counting
        protocol.transport = _CountingTransport(transport, partial(self._on_sent, relayed=relayed))

    def _on_sent(self, data: bytes, host: str, *, relayed: bool) -> None:
        path = _Path(":" in host, relayed)
        cause = classify(data, self._meter._kind_of_payload_type)
        rider = self._sealing_rtp.popleft() if cause in _RTP and self._sealing_rtp else NOBODY
        if cause is None:
            shares = self._sealing.popleft() if self._sealing else (Share(Cause.SCTP, 1),)
        elif cause is Cause.AUDIO:
            shares = voice_shares(path.wire_bytes(data), rider)
        else:
            shares = (Share(cause, 1),)
        self._meter._enter(Direction.SENT, path, data, shares)

    def _on_received(self, data: bytes, host: str, *, relayed: bool) -> None:
        cause = classify(data, self._meter._kind_of_payload_type)
        shares = (Share(Cause.OTHER if cause is None else cause, 1),)
        entry = self._meter._enter(Direction.RECEIVED, _Path(":" in host, relayed), data, shares)
        if cause is None or cause is Cause.AUDIO:
            self._arrived.append((data, entry))

    async def _recv_tapped(self) -> bytes:
        data = await self._recv()
        self._opening = None  # the one before was not delivered: damaged, repeated, or an alert
        if (
            self._arrived and self._arrived[0][0] is data
        ):  # aioice queues the very object that the socket gave
            self._opening = self._arrived.popleft()[1]
        receiver = self._dtls._data_receiver
        if isinstance(receiver, RTCSctpTransport) and receiver is not self._tapped_sctp:
            self._tapped_sctp = receiver
            _replace(receiver, "_handle_data", partial(self._handle_data_tapped, receiver._handle_data))
        return data

    async def _handle_data_tapped(self, handle: Callable[[bytes], Awaitable[None]], packet: bytes) -> None:
        if self._opening is not None:
            self._meter._ledger.assign(self._opening, self._meter._sctp_shares(packet))
            self._opening = None
        await handle(packet)

    async def _handle_rtp_data_tapped(self, data: bytes, arrival_time_ms: int) -> None:
        if self._opening is not None:
            rider = rider_of(data)
            if rider.wire_bytes:
                shares = voice_shares(self._opening.wire_bytes, rider)
                self._meter._ledger.assign(self._opening, shares)
            self._opening = None
        await self._handle_rtp_data(data, arrival_time_ms=arrival_time_ms)

    async def _send_rtp_tapped(self, packet: bytes) -> None:
        if is_rtcp(packet):
            await self._send_rtp(packet)
            return
        voice = self._meter._kind_of_payload_type(packet[1] & 0x7F) is Cause.AUDIO
        rider = replace(rider_of(packet) if voice else NOBODY)  # a new object, to be found again by
        self._sealing_rtp.append(rider)
        self._tell_plain(packet)
        try:
            await self._send_rtp(packet)
        finally:
            _forget(self._sealing_rtp, rider)

    async def _send_data_tapped(self, packet: bytes) -> None:
        shares = self._meter._sctp_shares(packet)
        self._sealing.append(shares)
        self._tell_plain(packet)
        try:
            await self._send_data(packet)
        finally:
            _forget(self._sealing, shares)

    def _tell_plain(self, packet: bytes) -> None:
        if self._meter.on_plain is not None:
            self._meter.on_plain(packet)


class _ProtocolList(list[StunProtocol]):
    """aioice's list of sockets, which tells of every socket that joins it."""

    def __init__(self, protocols: Iterable[StunProtocol], on_added: Callable[[StunProtocol], None]) -> None:
        super().__init__()
        self._on_added = on_added
        for protocol in protocols:
            self.append(protocol)

    def append(self, protocol: StunProtocol) -> None:
        self._on_added(protocol)
        super().append(protocol)

    def extend(self, protocols: Iterable[StunProtocol]) -> None:
        for protocol in protocols:
            self.append(protocol)

    def __iadd__(self, protocols: Iterable[StunProtocol]) -> Self:  # type: ignore[override,misc]
        self.extend(protocols)
        return self


class _CountingTransport(asyncio.DatagramTransport):
    """A datagram transport that counts what passes to the one inside."""

    def __init__(self, inner: asyncio.DatagramTransport, on_sent: Callable[[bytes, str], None]) -> None:
        super().__init__()
        self._inner = inner
        self._on_sent = on_sent

    def sendto(self, data: Any, addr: Any = None) -> None:
        self._inner.sendto(data, addr)
        self._on_sent(data, addr[0])

    def close(self) -> None:
        self._inner.close()

    def abort(self) -> None:
        self._inner.abort()

    def is_closing(self) -> bool:
        return self._inner.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)


class _CountingProtocol(asyncio.DatagramProtocol):
    """A datagram protocol that counts what passes to the one inside."""

    def __init__(self, inner: StunProtocol, on_received: Callable[[bytes, str], None]) -> None:
        self._inner = inner
        self._on_received = on_received

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._on_received(data, addr[0])
        self._inner.datagram_received(data, addr)

    def error_received(self, exc: Exception) -> None:
        self._inner.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)


def _forget(sealing: deque[_T], packet: _T) -> None:
    """Take out a packet that failed before it reached the socket: it must not name the next one."""
    for position, waiting in enumerate(sealing):
        if waiting is packet:
            del sealing[position]
            return


def _replace(owner: object, name: str, method: Callable[..., Any]) -> None:
    """Shadow a method on one instance."""
    if not hasattr(owner, name):
        raise RuntimeError(
            f"{type(owner).__name__} has no {name}: this aiortc is not the one the meter knows"
        )
    vars(owner)[name] = method
