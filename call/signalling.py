"""The client of the signalling server: joins a room, exchanges session descriptions with whoever is there."""

import ipaddress
import logging
import ssl
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from mien.call.signal_messages import (
    MAX_MESSAGE_BYTES,
    ROOM,
    Refused,
    Signal,
    SignalMessage,
    Welcome,
    parse_signal_message,
)
from mien.protocol.errors import MienError, WireError

logger = logging.getLogger(__name__)

DEFAULT_SERVER: Final = "ws://127.0.0.1:8765"
OPEN_S: Final = 10.0


class SignallingLost(MienError):
    """The server went away or closed the connection."""


def room_url(target: str, *, server: str = DEFAULT_SERVER) -> str:
    """Return the websocket address of a room that is given as an address, or as a name on `server`.

    Raises `MienError` where it is neither.
    """
    text = target if "://" in target else f"{server.rstrip('/')}/{target}"
    parts = urlsplit(text.replace("http", "ws", 1) if text.startswith("http") else text)
    try:
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if (
        parts.scheme not in ("ws", "wss")
        or not parts.hostname
        or not ROOM.fullmatch(parts.path.removeprefix("/"))
    ):
        raise MienError(
            f"{target!r} is neither an address like ws://127.0.0.1:8765/room nor a room's name "
            "(letters, digits, - and _)"
        )
    return parts.geturl()


def is_loopback(url: str) -> bool:
    """Return whether the server of `url` is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SignallingClient:
    """One place in a room. Use `async with SignallingClient(url) as client`."""

    def __init__(self, url: str, *, ca_file: Path | None = None) -> None:
        self._url = url
        self._ca_file = ca_file
        self._socket: ClientConnection | None = None
        self.name = ""
        self.others: tuple[str, ...] = ()  # who was in the room before

    async def __aenter__(self) -> Self:
        self._socket = await self._open()
        try:
            first = await self.receive()
        except MienError:
            await self._socket.close()
            raise
        if not isinstance(first, Welcome):
            await self._socket.close()
            raise SignallingLost(f"{self._url} does not speak this protocol: its first message is no welcome")
        self.name, self.others = first.peer, first.peers
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def send(self, peer: str, data: dict[str, str]) -> None:
        """Send `data` to one peer of the room. Raises `SignallingLost`."""
        assert self._socket is not None
        text = Signal(peer, data).serialize()
        if len(text) > MAX_MESSAGE_BYTES:
            raise MienError(f"a signal of {len(text)} bytes, expected at most {MAX_MESSAGE_BYTES}")
        try:
            await self._socket.send(text)
        except ConnectionClosed as error:
            raise SignallingLost(self._lost(error)) from None

    async def receive(self) -> SignalMessage:
        """Return the next message that makes sense. Raises `SignallingLost`, also where the server refuses us."""
        assert self._socket is not None
        while True:
            try:
                text = await self._socket.recv()
            except ConnectionClosed as error:
                raise SignallingLost(self._lost(error)) from None
            try:
                message = parse_signal_message(text)
            except WireError as error:
                logger.warning("dropped a message of the signalling server: %s", error)
                continue
            if isinstance(message, Refused):
                raise SignallingLost(f"{self._url}: {message.text}")
            return message

    def _lost(self, error: ConnectionClosed) -> str:
        reason = error.rcvd.reason if error.rcvd and error.rcvd.reason else "the connection broke"
        return f"lost the signalling server {self._url}: {reason}"

    async def _open(self) -> ClientConnection:
        secure = self._url.startswith("wss")
        try:
            return await connect(
                self._url,
                ssl=self._tls() if secure else None,
                compression=None,
                open_timeout=OPEN_S,
                close_timeout=2,
                max_size=MAX_MESSAGE_BYTES,
                proxy=None if is_loopback(self._url) else True,
                user_agent_header=None,
            )
        except InvalidStatus as error:
            raise MienError(f"{self._url} answered {error.response.status_code}: {_body(error)}") from None
        except ssl.SSLError as error:
            raise MienError(
                f"{self._url}: {error.reason}. For a self-signed server give its certificate with --ca-file"
            ) from None
        except (OSError, TimeoutError) as error:
            raise MienError(
                f"no signalling server at {self._url} ({error or 'no answer'}). Start one with `mien serve`"
            ) from None
        except (InvalidHandshake, InvalidURI, EOFError) as error:
            raise MienError(f"{self._url} is no signalling server: {error}") from None

    def _tls(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=str(self._ca_file) if self._ca_file else None)
        except (OSError, ssl.SSLError) as error:
            raise MienError(f"cannot read the certificate {self._ca_file}: {error}") from None


def _body(error: InvalidStatus) -> str:
    return (error.response.body or b"").decode("utf-8", "replace").strip()[:200] or "no reason given"
