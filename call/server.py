"""The signalling server: rooms in which peers find one another, and the web client's files if they are there.

It passes session descriptions on and keeps nothing. Every size, rate and count has a limit (`ServerLimits`);
whoever exceeds one is refused with a reason and the others go on.
"""

import asyncio
import hashlib
import logging
import secrets
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from mien.call import clock
from mien.call.signal_messages import (
    MAX_MESSAGE_BYTES,
    ROOM,
    Joined,
    Left,
    Refused,
    Signal,
    SignalMessage,
    Welcome,
    parse_signal_message,
)
from mien.call.static_files import StaticFiles
from mien.call.token_bucket import TokenBucket
from mien.protocol.errors import MienError, WireError

logger = logging.getLogger(__name__)

CLOSE_POLICY: Final = 1008
CLOSE_TRY_LATER: Final = 1013

EventHook = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one server grants. Rates are messages a second of one connection."""

    rooms: int = 200
    peers_per_room: int = 2
    connections: int = 400
    connections_per_host: int = 32
    message_bytes: int = MAX_MESSAGE_BYTES
    messages_per_s: float = 10.0
    burst: int = 40
    outbox: int = 32
    idle_s: float = 3600.0
    open_s: float = 10.0


@dataclass(slots=True, eq=False)
class _Peer:
    name: str
    socket: ServerConnection
    outbox: asyncio.Queue[str]
    bucket: TokenBucket

    def post(self, message: SignalMessage) -> bool:
        """Queue a message. False where this peer reads too slowly to take it."""
        try:
            self.outbox.put_nowait(message.serialize())
        except asyncio.QueueFull:
            return False
        return True


@dataclass(slots=True, eq=False)
class _Room:
    name: str
    peers: dict[str, _Peer] = field(default_factory=dict)


class _Refusal(Exception):
    """Ends one connection with a reason that its client is told."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class SignallingServer:
    """Runs between `start` and `close`. `on_event` is told of joins, leaves and refusals (no contents)."""

    def __init__(
        self,
        *,
        limits: ServerLimits | None = None,
        static: StaticFiles | None = None,
        on_event: EventHook | None = None,
    ) -> None:
        self._limits = limits or ServerLimits()
        self._static = static
        self._on_event = on_event
        self._rooms: dict[str, _Room] = {}
        self._hosts: Counter[str] = Counter()
        self._server: Server | None = None
        self.refused = 0  # messages and connections, since the start

    async def start(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Listen. Returns the port, which the system chooses where `port` is 0. Raises `MienError`."""
        quiet = logging.getLogger(f"{__name__}.websockets")
        quiet.setLevel(logging.CRITICAL)  # a scanner's broken handshake is no error of ours
        try:
            self._server = await serve(
                self._serve_peer,
                host,
                port,
                process_request=self._process_request,
                ssl=tls,
                compression=None,
                max_size=self._limits.message_bytes,
                max_queue=16,
                open_timeout=self._limits.open_s,
                ping_interval=20,
                ping_timeout=20,
                close_timeout=2,
                server_header=None,
                logger=quiet,
            )
        except OSError as error:
            raise MienError(
                f"cannot listen on {host} port {port}: {error.strerror}. Choose another --host or --port"
            ) from None
        number: int = next(iter(self._server.sockets)).getsockname()[1]
        return number

    async def close(self) -> None:
        """Close every connection and stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    @property
    def room_count(self) -> int:
        """How many rooms have somebody in them."""
        return len(self._rooms)

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP, refuse what is over a limit, let websockets through."""
        if "websocket" not in request.headers.get("Upgrade", "").lower():
            return self._static.respond(request.path) if self._static else _plain(HTTPStatus.NOT_FOUND)
        if not ROOM.fullmatch(request.path.partition("?")[0].removeprefix("/")):
            return _plain(HTTPStatus.NOT_FOUND, "A room's name is 1 to 64 letters, digits, - and _.\n")
        if self._hosts.total() >= self._limits.connections:
            return self._turned_away("connections")
        if self._hosts[_host(connection)] >= self._limits.connections_per_host:
            return self._turned_away("connections of one host")
        return None

    def _turned_away(self, limit: str) -> Response:
        self._tell("refused", limit=limit)
        self.refused += 1
        return _plain(HTTPStatus.SERVICE_UNAVAILABLE, f"Too many {limit}. Try again later.\n")

    async def _serve_peer(self, socket: ServerConnection) -> None:
        host = _host(socket)
        self._hosts[host] += 1
        try:
            assert socket.request is not None
            await self._serve_in_room(socket, socket.request.path.partition("?")[0].removeprefix("/"))
        except _Refusal as refusal:
            self.refused += 1
            self._tell("refused", limit=str(refusal))
            await self._say_goodbye(socket, refusal)
        except ConnectionClosed:
            pass
        finally:
            self._hosts[host] -= 1
            if self._hosts[host] <= 0:
                del self._hosts[host]

    async def _serve_in_room(self, socket: ServerConnection, room_name: str) -> None:
        peer = _Peer(
            secrets.token_hex(8),
            socket,
            asyncio.Queue(self._limits.outbox),
            TokenBucket(
                rate_per_s=self._limits.messages_per_s, burst=self._limits.burst, now_us=clock.now_us()
            ),
        )
        room = self._enter(room_name, peer)
        writer = asyncio.create_task(_write(peer), name=f"signalling outbox {peer.name}")
        try:
            await self._read(room, peer)
        finally:
            self._leave(room, peer)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    def _enter(self, name: str, peer: _Peer) -> _Room:
        room = self._rooms.get(name)
        if room is None:
            if len(self._rooms) >= self._limits.rooms:
                raise _Refusal(CLOSE_TRY_LATER, f"all {self._limits.rooms} rooms are taken: try again later")
            room = self._rooms[name] = _Room(name)
        if len(room.peers) >= self._limits.peers_per_room:
            raise _Refusal(
                CLOSE_TRY_LATER, f"the room is full ({self._limits.peers_per_room} peers): choose another"
            )
        peer.post(Welcome(peer.name, tuple(room.peers)))
        for other in room.peers.values():
            self._post(other, Joined(peer.name))
        room.peers[peer.name] = peer
        self._tell("joined", room=_anonymous(name), peers=len(room.peers))
        return room

    def _leave(self, room: _Room, peer: _Peer) -> None:
        del room.peers[peer.name]
        if not room.peers:
            del self._rooms[room.name]
        for other in room.peers.values():
            self._post(other, Left(peer.name))
        self._tell("left", room=_anonymous(room.name), peers=len(room.peers))

    async def _read(self, room: _Room, peer: _Peer) -> None:
        while True:
            try:
                async with asyncio.timeout(self._limits.idle_s):
                    text = await peer.socket.recv()
            except TimeoutError:
                raise _Refusal(CLOSE_POLICY, f"nothing said for {self._limits.idle_s:g} s") from None
            if not peer.bucket.take(1, now_us=clock.now_us()):
                raise _Refusal(CLOSE_POLICY, f"more than {self._limits.messages_per_s:g} messages a second")
            self._pass_on(room, peer, text)

    def _pass_on(self, room: _Room, peer: _Peer, text: str | bytes) -> None:
        try:
            message = parse_signal_message(text)
        except WireError as error:
            raise _Refusal(CLOSE_POLICY, str(error)) from None
        if not isinstance(message, Signal):
            raise _Refusal(CLOSE_POLICY, f"a client says signal, not {type(message).__name__.lower()}")
        other = room.peers.get(message.peer)
        if other is not None and other is not peer:  # else it has left: its Left is under way
            self._post(other, Signal(peer.name, message.data))

    def _post(self, peer: _Peer, message: SignalMessage) -> None:
        if not peer.post(message):
            self._tell("refused", limit="outbox")
            self.refused += 1
            peer.socket.transport.abort()  # it does not read: closing politely would wait for it

    async def _say_goodbye(self, socket: ServerConnection, refusal: _Refusal) -> None:
        try:
            async with asyncio.timeout(2):
                await socket.send(Refused(str(refusal)).serialize())
                await socket.close(refusal.code, str(refusal)[:100])
        except (ConnectionClosed, TimeoutError):
            socket.transport.abort()

    def _tell(self, event: str, **details: Any) -> None:
        logger.info("%s %s", event, details)
        if self._on_event is not None:
            self._on_event(event, details)


async def _write(peer: _Peer) -> None:
    """Send what is queued for one peer until cancelled or disconnected."""
    try:
        while True:
            await peer.socket.send(await peer.outbox.get())
    except ConnectionClosed:
        return


def _host(connection: ServerConnection) -> str:
    address = connection.remote_address
    return str(address[0]) if address else "?"


def _anonymous(room: str) -> str:
    """A room's name admits to a call, so a log gets only a mark of it."""
    return hashlib.sha256(room.encode()).hexdigest()[:8]


def _plain(status: HTTPStatus, text: str = "") -> Response:
    body = (text or f"{status.phrase}\n").encode()
    headers = Headers({"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))})
    headers["Connection"] = "close"
    return Response(status.value, status.phrase, headers, body)
