"""A bad network between two of our peers on this machine: a UDP relay that each takes for the other.

    one  <->  127.0.0.1:port of `other`'s double   ...links...   127.0.0.1:port of `one`'s double  <->  other

Each peer learns from the session description, changed on its way through `impaired_pair`, that the other one is
reached at its double's port. What comes to a double from its peer's partner leaves from the partner's double,
so that each side sees packets from the very address that it was told. aiortc knows of none of this; both peers
must use `Addresses.LOOPBACK`.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Final

from mien.bench.impairment import Link, LinkCounts, Profile
from mien.call import clock
from mien.call.rendezvous import Description, Rendezvous, local_pair
from mien.call.wire_path import IPV4_UDP_BYTES
from mien.protocol.errors import MienError

HOST: Final = "127.0.0.1"
# a=candidate:FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT typ TYPE ... (RFC 8839 section 5.1)
CANDIDATE: Final = re.compile(
    r"^a=candidate:(?P<head>\S+ \d+ (?i:udp) \d+) (?P<host>\S+) (?P<port>\d+) typ (?P<kind>\w+)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class PathCounts:
    """What became of the packets of both directions."""

    forward: LinkCounts
    back: LinkCounts


class ImpairedPath:
    """The relay. `open` it in a running loop, put it between two peers with `wrap`, and `close` it in the end."""

    def __init__(self, forward: Profile, back: Profile, *, seed: int) -> None:
        """`forward` is the way from the first peer to the second."""
        self._seed = seed
        self._links = (Link(forward, seed=seed), Link(back, seed=seed + 1))
        self._doubles: list[_Double] = []
        self._timers: set[asyncio.TimerHandle] = set()

    async def open(self) -> None:
        """Open both sockets."""
        loop = asyncio.get_running_loop()
        for number in range(2):
            double = _Double(self, number)
            await loop.create_datagram_endpoint(lambda double=double: double, local_addr=(HOST, 0))  # type: ignore[misc]
            self._doubles.append(double)

    def close(self) -> None:
        """Close both sockets. What is under way is lost."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for double in self._doubles:
            double.transport.close()

    def wrap(self, one: Rendezvous, other: Rendezvous) -> tuple[Rendezvous, Rendezvous]:
        """Return the two ends of a rendezvous for the first and the second peer."""
        return _ThroughPath(self, 0, one), _ThroughPath(self, 1, other)

    def change(self, forward: Profile, back: Profile) -> None:
        """Let other links carry what is sent from now on. The counts go on."""
        self._seed += 2
        links = (Link(forward, seed=self._seed), Link(back, seed=self._seed + 1))
        for link, before in zip(links, self._links, strict=True):
            link.counts = before.counts
        self._links = links

    @property
    def counts(self) -> PathCounts:
        """What became of the packets so far."""
        return PathCounts(self._links[0].counts, self._links[1].counts)

    def redirect(self, peer: int, description: Description) -> Description:
        """Return what `peer` (0 or 1) says of itself, with its double's port. Raises `MienError`."""
        double = self._doubles[peer]

        def to_double(match: re.Match[str]) -> str:
            if match["host"] != HOST or match["kind"] != "host":
                raise MienError(f"an impaired path is for loopback, the peer is at {match['host']}")
            if double.target_port not in (None, int(match["port"])):
                raise MienError("an impaired path carries one socket, the peer has several")
            double.target_port = int(match["port"])
            return f"a=candidate:{match['head']} {HOST} {double.port} typ host"

        return description | {"sdp": CANDIDATE.sub(to_double, description["sdp"])}

    def _on_datagram(self, double: int, data: bytes, port: int) -> None:
        """`data` came to the double of a peer, sent by the other one."""
        sender = 1 - double
        if port != self._doubles[sender].target_port:
            return  # a stranger
        now_us = clock.now_us()
        for arrival_us in self._links[sender].send(now_us, len(data) + IPV4_UDP_BYTES):
            self._deliver_at(arrival_us, now_us, sender, data)

    def _deliver_at(self, arrival_us: int, now_us: int, sender: int, data: bytes) -> None:
        def deliver() -> None:
            self._timers.discard(timer)
            self._doubles[sender].transport.sendto(data, (HOST, self._doubles[1 - sender].target_port))

        timer = asyncio.get_running_loop().call_later((arrival_us - now_us) / 1e6, deliver)
        self._timers.add(timer)


async def impaired_pair(
    forward: Profile, back: Profile, *, seed: int
) -> tuple[Rendezvous, Rendezvous, ImpairedPath]:
    """Return both ends of a rendezvous, the first makes the offer, and the path to be closed after the call."""
    path = ImpairedPath(forward, back, seed=seed)
    await path.open()
    one, other = local_pair()
    return *path.wrap(one, other), path


class _Double(asyncio.DatagramProtocol):
    """The socket that stands for a peer."""

    transport: asyncio.DatagramTransport

    def __init__(self, path: ImpairedPath, number: int) -> None:
        self._path = path
        self._number = number
        self.target_port: int | None = None  # of the peer that it stands for

    @property
    def port(self) -> int:
        """The port that the peer's partner is told."""
        port: int = self.transport.get_extra_info("sockname")[1]
        return port

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._path._on_datagram(self._number, data, addr[1])


class _ThroughPath:
    """A rendezvous whose descriptions name the doubles."""

    def __init__(self, path: ImpairedPath, peer: int, inner: Rendezvous) -> None:
        self._path = path
        self._peer = peer
        self._inner = inner

    async def meet(self) -> bool:
        return await self._inner.meet()

    async def send(self, description: Description) -> None:
        await self._inner.send(self._path.redirect(self._peer, description))

    async def receive(self) -> Description:
        return await self._inner.receive()
