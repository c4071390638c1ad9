"""What the same call costs on other paths: over IPv4, over IPv6, and through a TURN server.

Computed from the datagrams that the meter counted, not measured. Over IPv6 a datagram has 20 bytes more of headers.
Through TURN over UDP (RFC 8656) each datagram has 4 bytes more on the leg between this end and its server, both
ways: the header of ChannelData (section 12.4), which needs no padding over UDP. The server's other leg costs what
the direct path costs. To that come, between this end and the server, the requests that keep the relay open:

- Refresh (section 7) every 500 s, an allocation lasting 600 s: 112 bytes, answered by 60;
- ChannelBind (section 12) every 240 s, since the permission that it renews lasts 300 s: 124 bytes, answered by 52;

with the long-term credential of RFC 8489, where USERNAME, REALM and NONCE are taken to be 56 bytes together, with
MESSAGE-INTEGRITY (SHA-1) and FINGERPRINT. Not counted: the Allocate requests at the beginning (two, once).
"""

from dataclasses import dataclass
from typing import Any, Final

from mien.call.wire_cause import Direction
from mien.call.wire_path import IPV4_UDP_BYTES, IPV6_UDP_BYTES, TURN_CHANNEL_BYTES
from mien.call.wire_totals import WireTotals

ASSUMPTIONS: Final = (
    "IPv6: 20 bytes more a datagram. TURN over UDP (RFC 8656), on the leg between this end and its server: 4 bytes of "
    "ChannelData more a datagram each way, a Refresh every 500 s and a ChannelBind every 240 s"
)


@dataclass(frozen=True, slots=True)
class _Upkeep:
    """A request that is repeated; bytes of STUN, without IP and UDP."""

    every_s: int
    request_bytes: int
    answer_bytes: int


_UPKEEP: Final = (_Upkeep(500, 112, 60), _Upkeep(240, 124, 52))


@dataclass(frozen=True, slots=True)
class Tariff:
    """kbps of one direction, as seen from this end. `turn` is over IPv4, as `ipv4` is."""

    ipv4_kbps: float
    ipv6_kbps: float
    turn_kbps: float
    turn_ipv6_kbps: float

    def as_json(self) -> dict[str, float]:
        """Return plain data for `json.dumps`."""
        return {
            "ipv4_kbps": round(self.ipv4_kbps, 4),
            "ipv6_kbps": round(self.ipv6_kbps, 4),
            "turn_kbps": round(self.turn_kbps, 4),
            "turn_ipv6_kbps": round(self.turn_ipv6_kbps, 4),
        }


def tariff(totals: WireTotals, direction: Direction) -> Tariff:
    """Return what one direction costs on each path, whichever path it took."""
    flow, path = totals.total(direction), totals.path(direction)
    seconds = totals.elapsed_us / 1e6
    if seconds <= 0:
        return Tariff(0.0, 0.0, 0.0, 0.0)
    more_bytes = IPV6_UDP_BYTES - IPV4_UDP_BYTES
    plain_bytes = (
        flow.wire_bytes - more_bytes * path.ipv6_datagrams - TURN_CHANNEL_BYTES * path.relayed_datagrams
    )
    channel_kbps = flow.datagrams * TURN_CHANNEL_BYTES * 8 / 1000 / seconds
    ipv4_kbps = plain_bytes * 8 / 1000 / seconds
    ipv6_kbps = ipv4_kbps + flow.datagrams * more_bytes * 8 / 1000 / seconds
    return Tariff(
        ipv4_kbps,
        ipv6_kbps,
        ipv4_kbps + channel_kbps + upkeep_kbps(direction, IPV4_UDP_BYTES),
        ipv6_kbps + channel_kbps + upkeep_kbps(direction, IPV6_UDP_BYTES),
    )


def upkeep_kbps(direction: Direction, header_bytes: int) -> float:
    """Return what it costs to keep a relay open."""
    bytes_per_s = 0.0
    for upkeep in _UPKEEP:
        size = upkeep.request_bytes if direction is Direction.SENT else upkeep.answer_bytes
        bytes_per_s += (size + header_bytes) / upkeep.every_s
    return bytes_per_s * 8 / 1000


def tariffs_as_json(totals: WireTotals) -> dict[str, Any]:
    """Return both directions and the assumptions, plain data for `json.dumps`."""
    return {d.value: tariff(totals, d).as_json() for d in Direction} | {"assumptions": ASSUMPTIONS}
