"""The taps of the wire meter: what passes one ICE and DTLS transport of aiortc, at its sockets and before it is sealed.

Nothing is patched for other connections: methods are replaced on the tapped objects alone.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Final, Self, TypeVar

from aioice.ice import StunProtocol
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcsctptransport import RTCSctpTransport

from mien.call.datagram_shares import classify, is_rtcp, sctp_shares, voice_shares
from mien.call.negotiated_causes import NegotiatedCauses
from mien.call.riders import NOBODY, Rider, rider_of
from mien.call.wire_cause import Cause, Direction, Share
from mien.call.wire_ledger import Entry, WireLedger
from mien.call.wire_path import WirePath

_RTP: Final = (Cause.AUDIO, Cause.VIDEO)

_T = TypeVar("_T")


class TransportTap:
    """Enters every datagram of one transport in a ledger.

    `on_plain` hears of every SCTP and RTP packet that is about to be sealed and sent; `ports` are the sockets'.
    """

    def __init__(
        self,
        dtls: RTCDtlsTransport,
        *,
        ledger: WireLedger,
        causes: NegotiatedCauses,
        clock: Callable[[], int],
        on_plain: Callable[[bytes], None],
    ) -> None:
        self.ports: set[int] = set()
        self._dtls = dtls
        self._ledger = ledger
        self._causes = causes
        self._clock = clock
        self._on_plain = on_plain
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
            self.ports.add(transport.get_extra_info("sockname")[1])
        relayed = relay is not None
        counting = _CountingProtocol(protocol, partial(self._on_received, relayed=relayed))
        if relay is None:
            transport.set_protocol(counting)
        else:  # the allocation's own messages went out before anyone could know of it: they are not counted
            relay.receiver = counting
        protocol.transport = _CountingTransport(transport, partial(self._on_sent, relayed=relayed))

    def _on_sent(self, data: bytes, host: str, *, relayed: bool) -> None:
        path = WirePath(":" in host, relayed)
        cause = classify(data, self._causes.of_payload_type)
        rider = self._sealing_rtp.popleft() if cause in _RTP and self._sealing_rtp else NOBODY
        if cause is None:
            shares = self._sealing.popleft() if self._sealing else (Share(Cause.SCTP, 1),)
        elif cause is Cause.AUDIO:
            shares = voice_shares(path.wire_bytes(data), rider)
        else:
            shares = (Share(cause, 1),)
        self._enter(Direction.SENT, path, data, shares)

    def _on_received(self, data: bytes, host: str, *, relayed: bool) -> None:
        cause = classify(data, self._causes.of_payload_type)
        shares = (Share(Cause.OTHER if cause is None else cause, 1),)
        entry = self._enter(Direction.RECEIVED, WirePath(":" in host, relayed), data, shares)
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
            self._ledger.assign(self._opening, sctp_shares(packet, self._causes.of_stream))
            self._opening = None
        await handle(packet)

    async def _handle_rtp_data_tapped(self, data: bytes, arrival_time_ms: int) -> None:
        if self._opening is not None:
            rider = rider_of(data)
            if rider.wire_bytes:
                shares = voice_shares(self._opening.wire_bytes, rider)
                self._ledger.assign(self._opening, shares)
            self._opening = None
        await self._handle_rtp_data(data, arrival_time_ms=arrival_time_ms)

    async def _send_rtp_tapped(self, packet: bytes) -> None:
        if is_rtcp(packet):
            await self._send_rtp(packet)
            return
        voice = self._causes.of_payload_type(packet[1] & 0x7F) is Cause.AUDIO
        rider = replace(rider_of(packet) if voice else NOBODY)  # a new object, to be found again by
        self._sealing_rtp.append(rider)
        self._on_plain(packet)
        try:
            await self._send_rtp(packet)
        finally:
            _forget(self._sealing_rtp, rider)

    async def _send_data_tapped(self, packet: bytes) -> None:
        shares = sctp_shares(packet, self._causes.of_stream)
        self._sealing.append(shares)
        self._on_plain(packet)
        try:
            await self._send_data(packet)
        finally:
            _forget(self._sealing, shares)

    def _enter(self, direction: Direction, path: WirePath, data: bytes, shares: tuple[Share, ...]) -> Entry:
        self._ledger.note_path(direction, ipv6=path.ipv6, relayed=path.relayed)
        return self._ledger.enter(direction, path.wire_bytes(data), shares, self._clock())


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
