"""An independent count of what crosses loopback: a packet socket, as tcpdump uses it. Linux, and root."""

import contextlib
import socket
import threading
from collections import Counter
from typing import Final

ETH_P_ALL: Final = 0x0003
PACKET_OUTGOING: Final = 4
IPV6_HEADER_BYTES: Final = 40
_RECEIVE_BUFFER_BYTES: Final = 1 << 21


class PacketCapture:
    """Adds up the IP lengths of the UDP packets on loopback by their source port, until it is closed.

    Raises `OSError` (or `AttributeError` outside Linux) where there is no packet socket for this user.
    """

    def __init__(self) -> None:
        self.bytes_from: Counter[int] = Counter()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._socket.bind(("lo", ETH_P_ALL))
        self._socket.settimeout(0.1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="packet capture", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop counting."""
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                packet, address = self._socket.recvfrom(65535)
                # Loopback shows every packet twice: going out and coming in.
                found = None if address[2] == PACKET_OUTGOING else udp_length(packet)
                if found is not None:
                    self.bytes_from[found[0]] += found[1]


def udp_length(packet: bytes) -> tuple[int, int] | None:
    """Return the source port of an IP packet with UDP in it and its length, all headers included; None for others."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 28 and packet[9] == socket.IPPROTO_UDP:
        header, length = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
    elif version == 6 and len(packet) >= 48 and packet[6] == socket.IPPROTO_UDP:
        header = IPV6_HEADER_BYTES
        length = header + int.from_bytes(packet[4:6], "big")
    else:
        return None
    return int.from_bytes(packet[header : header + 2], "big"), length
