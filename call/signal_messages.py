"""What the signalling server and its clients say to each other: small JSON objects over a websocket.

    client -> server   {"type": "signal", "peer": TO,   "data": {NAME: TEXT, ...}}
    server -> client   {"type": "welcome", "peer": YOU, "peers": [WHO IS HERE ALREADY, ...]}
                       {"type": "joined", "peer": WHO}
                       {"type": "left",   "peer": WHO}
                       {"type": "signal", "peer": FROM, "data": {NAME: TEXT, ...}}
                       {"type": "refused", "text": WHY}, and the connection is closed

`data` is flat: a session description is {"kind": "offer" or "answer", "sdp": TEXT}. Whoever is welcomed to a
room makes the offer to whoever is there already.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from mien.protocol.errors import WireError

MAX_MESSAGE_BYTES: Final = 32 << 10
MAX_DATA_FIELDS: Final = 8
MAX_PEERS: Final = 64

ROOM: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
PEER: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_FIELD: Final = re.compile(r"[a-z_]{1,16}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Signal:
    """Something for, or from, another peer of the room."""

    peer: str
    data: dict[str, str]

    def serialize(self) -> str:
        """Return the JSON text."""
        return _dump({"type": "signal", "peer": self.peer, "data": self.data})


@dataclass(frozen=True, slots=True)
class Welcome:
    """The first message to a client: its own name and who is in the room already."""

    peer: str
    peers: tuple[str, ...]

    def serialize(self) -> str:
        """Return the JSON text."""
        return _dump({"type": "welcome", "peer": self.peer, "peers": list(self.peers)})


@dataclass(frozen=True, slots=True)
class Joined:
    """Another peer came into the room."""

    peer: str

    def serialize(self) -> str:
        """Return the JSON text."""
        return _dump({"type": "joined", "peer": self.peer})


@dataclass(frozen=True, slots=True)
class Left:
    """Another peer left the room, or its connection broke."""

    peer: str

    def serialize(self) -> str:
        """Return the JSON text."""
        return _dump({"type": "left", "peer": self.peer})


@dataclass(frozen=True, slots=True)
class Refused:
    """The server closes this connection and says why."""

    text: str

    def serialize(self) -> str:
        """Return the JSON text."""
        return _dump({"type": "refused", "text": self.text})


SignalMessage = Signal | Welcome | Joined | Left | Refused


def parse_signal_message(text: str | bytes) -> SignalMessage:
    """Read one message. Raises `WireError` for anything else."""
    fields = _load(text)
    kind = fields.pop("type", None)
    if kind == "signal":
        message: SignalMessage = Signal(_peer(fields.pop("peer", None)), _data(fields.pop("data", None)))
    elif kind == "welcome":
        message = Welcome(_peer(fields.pop("peer", None)), _peers(fields.pop("peers", None)))
    elif kind == "joined":
        message = Joined(_peer(fields.pop("peer", None)))
    elif kind == "left":
        message = Left(_peer(fields.pop("peer", None)))
    elif kind == "refused":
        message = Refused(_text(fields.pop("text", None)))
    else:
        raise WireError(
            f"signalling message of type {kind!r:.40}, expected signal, welcome, joined, left or refused"
        )
    if fields:
        raise WireError(f"signalling message {kind} has the unknown field {min(fields)!r:.40}")
    return message


def _dump(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))


def _load(text: str | bytes) -> dict[str, Any]:
    if not isinstance(text, str):
        raise WireError("signalling message is binary, expected text")
    if len(text) > MAX_MESSAGE_BYTES:
        raise WireError(f"signalling message is {len(text)} characters, expected at most {MAX_MESSAGE_BYTES}")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"signalling message is not JSON: {error!s:.60}") from None
    if not isinstance(fields, dict):
        raise WireError(f"signalling message is a {type(fields).__name__}, expected an object")
    return fields


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise WireError(f"a {type(value).__name__} where text was expected")
    return value


def _peer(value: Any) -> str:
    name = _text(value)
    if not PEER.fullmatch(name):
        raise WireError(f"peer {name!r:.40}, expected 16 hexadecimal digits")
    return name


def _peers(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_PEERS:
        raise WireError(f"peers, expected a list of at most {MAX_PEERS}")
    return tuple(_peer(name) for name in value)


def _data(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_DATA_FIELDS:
        raise WireError(f"data of a signal, expected an object of 1 to {MAX_DATA_FIELDS} fields")
    for name in value:
        if not _FIELD.fullmatch(name):
            raise WireError(f"data of a signal has the field {name!r:.40}, expected lower-case letters")
    return {name: _text(content) for name, content in value.items()}
