"""How two peers find one another and swap session descriptions: over a signalling server, or in one process."""

import asyncio
from typing import Protocol

from mien.call.signal_messages import Joined, Left, Signal
from mien.call.signalling import SignallingClient

Description = dict[str, str]


class PeerLeft(Exception):
    """The other side left the room."""


class Rendezvous(Protocol):
    """One end of a way to swap descriptions with exactly one other peer."""

    async def meet(self) -> bool:
        """Wait for the other side. True where this side makes the offer."""

    async def send(self, description: Description) -> None:
        """Send to the other side. Raises `MienError` where the way is lost."""

    async def receive(self) -> Description:
        """Wait for what the other side sends. Raises `PeerLeft`, or `MienError` where the way is lost."""


class RoomRendezvous:
    """Through a room of a signalling server. Whoever comes second makes the offer."""

    def __init__(self, client: SignallingClient) -> None:
        self._client = client
        self._peer = ""

    async def meet(self) -> bool:
        """Wait until somebody else is in the room."""
        if self._client.others:
            self._peer = self._client.others[0]
            return True
        while not self._peer:
            message = await self._client.receive()
            if isinstance(message, Joined):
                self._peer = message.peer
        return False

    async def send(self, description: Description) -> None:
        """Send to the peer that was met."""
        await self._client.send(self._peer, description)

    async def receive(self) -> Description:
        """Return what the peer that was met sends; others are not heard."""
        while True:
            message = await self._client.receive()
            if isinstance(message, Signal) and message.peer == self._peer:
                return message.data
            if isinstance(message, Left) and message.peer == self._peer:
                raise PeerLeft


class LocalRendezvous:
    """Between two peers of one process; see `local_pair`."""

    def __init__(
        self, offers: bool, inbox: asyncio.Queue[Description], outbox: asyncio.Queue[Description]
    ) -> None:
        self._offers = offers
        self._inbox = inbox
        self._outbox = outbox

    async def meet(self) -> bool:
        """Return at once: the other side is known to be there."""
        return self._offers

    async def send(self, description: Description) -> None:
        """Hand over."""
        self._outbox.put_nowait(description)

    async def receive(self) -> Description:
        """Wait for what was handed over."""
        return await self._inbox.get()


def local_pair() -> tuple[LocalRendezvous, LocalRendezvous]:
    """Return both ends; the first makes the offer."""
    one: asyncio.Queue[Description] = asyncio.Queue()
    other: asyncio.Queue[Description] = asyncio.Queue()
    return LocalRendezvous(True, one, other), LocalRendezvous(False, other, one)
