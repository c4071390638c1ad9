"""Run by tests in a process of its own: contacts the outside natively, around Python's sockets, without a packet."""

import ctypes
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)


def connect_datagram(address: str, port: int) -> None:
    """Connect a UDP socket in C. That sends nothing; a real telemetry call looks the same up to here."""
    where = struct.pack("=HHI", socket.AF_INET, socket.htons(port), 0)
    where = where[:4] + socket.inet_aton(address) + bytes(8)
    fd = libc.socket(socket.AF_INET, socket.SOCK_DGRAM, 0)
    libc.connect(fd, where, len(where))
    libc.close(fd)


def main() -> int:
    """Connect to a documentation address, and look a name up that cannot exist."""
    connect_datagram("192.0.2.77", 443)
    result = ctypes.c_void_p()
    libc.getaddrinfo(b"positive-control.invalid", None, None, ctypes.byref(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
