"""The wire meter: every UDP datagram of one peer connection, counted at its sockets, both ways, by cause.

A datagram costs its payload plus the IP and UDP headers. What it was sent for, `datagram_shares` reads from its
bytes; `wire_ledger` adds it up; `wire_tap` sees it pass.
"""

import time
from collections.abc import Callable, Mapping

from aiortc import RTCPeerConnection
from aiortc.rtcdtlstransport import RTCDtlsTransport

from mien.call.negotiated_causes import DATA_CHANNEL_CAUSES, NegotiatedCauses
from mien.call.wire_cause import Cause, Direction
from mien.call.wire_ledger import WireLedger
from mien.call.wire_tap import TransportTap
from mien.call.wire_totals import WireTotals


def monotonic_us() -> int:
    """Return the time that never jumps, in microseconds."""
    return time.monotonic_ns() // 1000


class WireMeter:
    """Counts one peer connection. Make it and `attach` it right after the connection is made, before any offer.

    `channels` maps a data channel's label to its cause; other channels are CONTROL.
    """

    def __init__(
        self,
        *,
        channels: Mapping[str, Cause] = DATA_CHANNEL_CAUSES,
        clock: Callable[[], int] = monotonic_us,
    ) -> None:
        self._channels = channels
        self._clock = clock
        self._ledger = WireLedger(clock())
        self._causes: NegotiatedCauses | None = None
        self._taps: list[TransportTap] = []
        # Hears of every SCTP and RTP packet that is about to be sealed and sent: for whoever measures when.
        self.on_plain: Callable[[bytes], None] | None = None

    def attach(self, pc: RTCPeerConnection) -> None:
        """Tap every transport that the connection has or will have. Once for each meter."""
        if self._causes is not None:
            raise RuntimeError("this meter already counts a connection: make one for each")
        causes = self._causes = NegotiatedCauses(pc, self._channels)
        # A connection makes its transports while it negotiates, and their sockets before it returns from
        # setLocalDescription: the only moment at which no datagram has passed yet is their creation.
        name = "_RTCPeerConnection__createDtlsTransport"
        create: Callable[[], RTCDtlsTransport] = getattr(pc, name)

        def create_and_tap() -> RTCDtlsTransport:
            dtls = create()
            self._tap(dtls, causes)
            return dtls

        setattr(pc, name, create_and_tap)
        for dtls in getattr(pc, "_RTCPeerConnection__dtlsTransports"):  # noqa: B009  a mangled name
            self._tap(dtls, causes)

    def totals(self) -> WireTotals:
        """Return everything since the meter was made."""
        return self._ledger.totals(self._clock())

    def kbps(self, direction: Direction, cause: Cause | None = None, *, window_us: int = 5_000_000) -> float:
        """Return the mean rate over the last `window_us` (100 ms to 60 s), for the display in a call."""
        return self._ledger.kbps(direction, cause, window_us=window_us, now_us=self._clock())

    @property
    def local_ports(self) -> frozenset[int]:
        """The UDP ports of this end's sockets, for whoever compares the meter with a packet capture."""
        return frozenset(port for tap in self._taps for port in tap.ports)

    def _tap(self, dtls: RTCDtlsTransport, causes: NegotiatedCauses) -> None:
        tap = TransportTap(
            dtls, ledger=self._ledger, causes=causes, clock=self._clock, on_plain=self._tell_plain
        )
        self._taps.append(tap)

    def _tell_plain(self, packet: bytes) -> None:
        if self.on_plain is not None:
            self.on_plain(packet)
