"""Which way a datagram goes, and what its headers cost there."""

from dataclasses import dataclass
from typing import Final

IPV4_UDP_BYTES: Final = 20 + 8
IPV6_UDP_BYTES: Final = 40 + 8
TURN_CHANNEL_BYTES: Final = 4  # ChannelData header, RFC 8656 section 12.4; over UDP there is no padding


@dataclass(frozen=True, slots=True)
class WirePath:
    """Which way a datagram goes."""

    ipv6: bool
    relayed: bool

    def wire_bytes(self, data: bytes) -> int:
        """Return what a datagram with so much in it costs."""
        headers = IPV6_UDP_BYTES if self.ipv6 else IPV4_UDP_BYTES
        return len(data) + headers + (TURN_CHANNEL_BYTES if self.relayed else 0)
