"""The control channel: the messages that are sent once and must arrive, as msgpack.

Every message is one msgpack array of two: its kind and a map of its fields, named and ordered as the dataclass
says, each value in msgpack's shortest form. One message has one encoding: `parse_control` refuses bytes that
`serialize` would have written differently.

    +------+--------+--------------------------------------------+
    | 0x92 | kind   | map: field name -> value, in the order of  |
    |      | 0..127 | the class; integers, text, bytes, booleans |
    +------+--------+--------------------------------------------+

A kind that is not known here, from a later version, parses to `UnknownControl` and is skipped. Fields are never
added to a kind that was released: what a later version has to say is a kind of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum
from itertools import pairwise
from typing import Any, ClassVar, Final, Self

import msgpack

from mien.protocol.errors import WireError
from mien.protocol.stream import StreamHeader

PROTOCOL_VERSION: Final = 1
MAX_CONTROL_BYTES: Final = 1024  # so that a message is one SCTP packet
MAX_KIND: Final = 127
MAX_LIST: Final = 16
CHALLENGE_BYTES: Final = 32

PROOF_CONTEXT: Final = b"mien owner proof 1\0"


class Carrier(IntEnum):
    """How coefficient messages travel."""

    DATACHANNEL = 0
    AUDIO = 1  # in the padding of the voice's packets


class Rung(IntEnum):
    """What the other side is to show, from the least to the most."""

    STILL = 0  # the last good picture of the avatar
    AUDIO = 1  # reserved: the avatar, moved by the voice
    AVATAR = 2
    VIDEO = 3


class RungReason(IntEnum):
    """Why a rung was chosen. A reason from a later version is an unnamed number."""

    START = 0
    USER = 1
    TRACKING_LOST = 2
    TRACKING_BACK = 3
    SEVERAL_FACES = 4
    INPUT_ENDED = 5
    BANDWIDTH = 6  # reserved


class AudioCodec(IntEnum):
    """How the voice is coded."""

    OPUS = 0


class Verdict(IntEnum):
    """What became of an offered avatar. A verdict from a later version is an unnamed number: not shown."""

    SHOWN = 0
    DECLINED = 1  # the person, or the settings, said no
    DAMAGED = 2  # the signature or a hash does not verify, or the format is not kept
    EXPIRED = 3
    NOT_PERMITTED = (
        4  # the consent or the permitted uses do not cover this call, as a test picture's outside loopback
    )
    TOO_MUCH = 5  # more bytes than this receiver keeps
    NOT_OWNER = 6  # the sender did not prove that it holds the owner's key
    MODEL = 7  # made for another face model


class ByeReason(IntEnum):
    """Why a peer hangs up. A reason from a later version is an unnamed number."""

    HANG_UP = 0
    VERSION = 1
    FAULT = 2


Check = Callable[[str, Any], Any]


def _whole(high: int) -> Check:
    """Return a check for an integer of 0 to `high`."""

    def check(what: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise WireError(f"{what} is a {type(value).__name__}, expected an integer")
        if not 0 <= value <= high:
            raise WireError(f"{what} is {value}, expected 0 to {high}")
        return int(value)

    return check


def _bytes(size: int) -> Check:
    """Return a check for exactly `size` bytes."""

    def check(what: str, value: Any) -> bytes:
        if not isinstance(value, bytes):
            raise WireError(f"{what} is a {type(value).__name__}, expected bytes")
        if len(value) != size:
            raise WireError(f"{what} is {len(value)} bytes, expected {size}")
        return value

    return check


def _text(max_bytes: int) -> Check:
    """Return a check for printable ASCII of at most `max_bytes`."""

    def check(what: str, value: Any) -> str:
        if not isinstance(value, str):
            raise WireError(f"{what} is a {type(value).__name__}, expected text")
        if len(value) > max_bytes or not value.isascii() or not value.isprintable():
            raise WireError(f"{what} is no printable ASCII of at most {max_bytes} characters")
        return value

    return check


def _flag(what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise WireError(f"{what} is a {type(value).__name__}, expected true or false")
    return value


def _ascending(high: int) -> Check:
    """Return a check for at most `MAX_LIST` integers of 0 to `high`, each larger than the one before."""
    one = _whole(high)

    def check(what: str, value: Any) -> tuple[int, ...]:
        if not isinstance(value, tuple):
            raise WireError(f"{what} is a {type(value).__name__}, expected a list")
        if len(value) > MAX_LIST:
            raise WireError(f"{what} has {len(value)} entries, expected at most {MAX_LIST}")
        numbers = tuple(one(what, number) for number in value)
        if any(a >= b for a, b in pairwise(numbers)):
            raise WireError(f"{what} is {list(numbers)}, expected ascending numbers")
        return numbers

    return check


def _rung(what: str, value: Any) -> Rung:
    number = _whole(255)(what, value)
    if number not in Rung._value2member_map_:
        raise WireError(f"{what} is {number}, expected one of {[int(r) for r in Rung]}")
    return Rung(number)


def _stream_header(what: str, value: Any) -> bytes:
    data: bytes = _bytes(StreamHeader.LAYOUT.size)(what, value)
    StreamHeader.parse(data)
    return data


_U8: Final = _whole(255)
_U32: Final = _whole((1 << 32) - 1)
_TIME_US: Final = _whole((1 << 53) - 1)  # what a JavaScript number holds exactly


@dataclass(frozen=True, slots=True)
class ControlMessage:
    """What all kinds share: `CHECKS` says for each field, in wire order, what it may hold."""

    KIND: ClassVar[int] = -1
    CHECKS: ClassVar[dict[str, Check]] = {}

    def __post_init__(self) -> None:
        for name, check in self.CHECKS.items():
            object.__setattr__(self, name, check(f"{name} of {type(self).__name__}", getattr(self, name)))

    def serialize(self) -> bytes:
        """Return the bytes of this message."""
        values = {name: getattr(self, name) for name in self.CHECKS}
        data: bytes = msgpack.packb([self.KIND, values])
        if len(data) > MAX_CONTROL_BYTES:
            raise WireError(f"control message is {len(data)} bytes, expected at most {MAX_CONTROL_BYTES}")
        return data

    @classmethod
    def from_fields(cls, values: dict[str, Any]) -> Self:
        """Build from a parsed map. Raises `WireError` unless it has exactly this kind's fields."""
        if set(values) != set(cls.CHECKS):
            odd = min(set(values) ^ set(cls.CHECKS))
            raise WireError(f"{cls.__name__} has the wrong fields: {odd!r:.40} is missing or unknown")
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Hello(ControlMessage):
    """The first message of either side. `challenge` is to be signed by whoever offers an avatar.

    `carriers`, `rungs` and `audio` are numbers of `Carrier`, `Rung` and `AudioCodec`, `codecs` the versions of
    the coefficient stream that the sender of this message can read; numbers of later versions are ignored.
    `budget_bps` is the most that its link is to carry either way, on the wire, 0 where nothing was said.
    """

    KIND: ClassVar[int] = 1
    CHECKS: ClassVar[dict[str, Check]] = {
        "protocol": _U8,
        "software": _text(40),
        "challenge": _bytes(CHALLENGE_BYTES),
        "carriers": _ascending(255),
        "rungs": _ascending(255),
        "codecs": _ascending(255),
        "audio": _ascending(255),
        "budget_bps": _U32,
    }
    protocol: int
    software: str
    challenge: bytes
    carriers: tuple[int, ...]
    rungs: tuple[int, ...]
    codecs: tuple[int, ...]
    audio: tuple[int, ...]
    budget_bps: int


@dataclass(frozen=True, slots=True)
class StreamStart(ControlMessage):
    """Announces a coefficient stream, before its first message. `header` is a serialized `StreamHeader`."""

    KIND: ClassVar[int] = 2
    CHECKS: ClassVar[dict[str, Check]] = {"header": _stream_header}
    header: bytes

    @classmethod
    def of(cls, header: StreamHeader) -> Self:
        """Return the announcement of a stream."""
        return cls(header.serialize())

    def stream(self) -> StreamHeader:
        """Return the header, parsed."""
        return StreamHeader.parse(self.header)


@dataclass(frozen=True, slots=True)
class OwnerProof(ControlMessage):
    """Proves that the sender holds the key of the avatar that it offers: `signature` is over `proof_transcript`."""

    KIND: ClassVar[int] = 3
    CHECKS: ClassVar[dict[str, Check]] = {
        "avatar_id": _bytes(32),
        "owner_key": _bytes(32),
        "signature": _bytes(64),
    }
    avatar_id: bytes
    owner_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class AvatarVerdict(ControlMessage):
    """Tells the owner of an offered avatar whether it is shown; `verdict` is a number of `Verdict`."""

    KIND: ClassVar[int] = 4
    CHECKS: ClassVar[dict[str, Check]] = {"avatar_id": _bytes(32), "verdict": _U8}
    avatar_id: bytes
    verdict: int


@dataclass(frozen=True, slots=True)
class RungSwitch(ControlMessage):
    """From now on the sender is to be shown on this rung. `camera_live`: its camera's pixels are being sent."""

    KIND: ClassVar[int] = 5
    CHECKS: ClassVar[dict[str, Check]] = {"rung": _rung, "reason": _U8, "camera_live": _flag}
    rung: Rung
    reason: int
    camera_live: bool


@dataclass(frozen=True, slots=True)
class RecordingNotice(ControlMessage):
    """The sender of this message records what it receives, from now on (or stops)."""

    KIND: ClassVar[int] = 6
    CHECKS: ClassVar[dict[str, Check]] = {"active": _flag}
    active: bool


@dataclass(frozen=True, slots=True)
class ReceiverReport(ControlMessage):
    """How a side is doing, every few seconds.

    Times are microseconds of the sender's own clock, which the other side only echoes: `sent_us` is when this
    report left; `echo_us` is the `sent_us` of the newest report from the other side and `held_us` how long ago
    that one came, so that the other side's round trip is its now - echo_us - held_us (both are 0 where there was
    none).

    As receiver: `received`, `malformed` and `lost` coefficient messages, the `runs` of lost ones in a row, and `late`
    frames, since the start; `jitter_us` of their arrival; `queue_us` by which messages took longer, in the second
    before this report, than the fastest of the half minute before it; `latency_us` from the stamp of a frame of
    the other side's camera to its composited picture here, 0 where that is not known; `by_audio` of the received
    messages came by the audio carrier, and `audio_packets` packets of the audio line came at all.

    As sender: `sent` coefficient messages since the start; the frame of `coded_tick` was taken `coded_us` before
    this report left, from which the other side knows how old the pictures are that it shows (0 and 0: no frame
    yet).
    """

    KIND: ClassVar[int] = 7
    CHECKS: ClassVar[dict[str, Check]] = {
        "sent_us": _TIME_US,
        "echo_us": _TIME_US,
        "held_us": _TIME_US,
        "received": _U32,
        "malformed": _U32,
        "lost": _U32,
        "runs": _U32,
        "late": _U32,
        "jitter_us": _U32,
        "queue_us": _U32,
        "latency_us": _U32,
        "by_audio": _U32,
        "audio_packets": _U32,
        "sent": _U32,
        "coded_tick": _TIME_US,
        "coded_us": _TIME_US,
    }
    sent_us: int
    echo_us: int
    held_us: int
    received: int
    malformed: int
    lost: int
    runs: int
    late: int
    jitter_us: int
    queue_us: int
    latency_us: int
    by_audio: int
    audio_packets: int
    sent: int
    coded_tick: int
    coded_us: int


@dataclass(frozen=True, slots=True)
class Bye(ControlMessage):
    """The sender hangs up; `reason` is a number of `ByeReason`."""

    KIND: ClassVar[int] = 8
    CHECKS: ClassVar[dict[str, Check]] = {"reason": _U8}
    reason: int


@dataclass(frozen=True, slots=True)
class CarrierHeard(ControlMessage):
    """How many `messages` of the receiver of this have come by a carrier (a number of `Carrier`) so far.

    Sent when the first one comes, empty ones included; when none has come for `silent_ms`; and when they come
    again. `silent_ms` is 0 where one has just come.
    """

    KIND: ClassVar[int] = 9
    CHECKS: ClassVar[dict[str, Check]] = {"carrier": _U8, "messages": _U32, "silent_ms": _U32}
    carrier: int
    messages: int
    silent_ms: int


@dataclass(frozen=True, slots=True)
class VoiceClock(ControlMessage):
    """The sound at an RTP `timestamp` of the sender's voice (48 kHz) was made when `tick` of its `stream` was taken.

    Sent when both are known, and again when they have drifted apart; the newest one holds.
    """

    KIND: ClassVar[int] = 10
    CHECKS: ClassVar[dict[str, Check]] = {"stream": _whole(15), "tick": _TIME_US, "timestamp": _U32}
    stream: int
    tick: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class SceneStart(ControlMessage):
    """The sender would like to send a scene layer beside its `stream`, or (not `active`) sends none any more.

    Scene messages follow only where the other side answers `SceneWanted`.
    """

    KIND: ClassVar[int] = 11
    CHECKS: ClassVar[dict[str, Check]] = {"stream": _whole(15), "active": _flag}
    stream: int
    active: bool


@dataclass(frozen=True, slots=True)
class SceneWanted(ControlMessage):
    """The sender of this takes scenes of the other's `stream`: the next unit is to decode alone.

    Sent once after `SceneStart`, and again where a unit was lost.
    """

    KIND: ClassVar[int] = 12
    CHECKS: ClassVar[dict[str, Check]] = {"stream": _whole(15)}
    stream: int


@dataclass(frozen=True, slots=True)
class UnknownControl:
    """A message of a kind from a later version, to be skipped."""

    kind: int


_KINDS: Final[dict[int, type[ControlMessage]]] = {
    kind.KIND: kind
    for kind in (
        Hello,
        StreamStart,
        OwnerProof,
        AvatarVerdict,
        RungSwitch,
        RecordingNotice,
        ReceiverReport,
        Bye,
        CarrierHeard,
        VoiceClock,
        SceneStart,
        SceneWanted,
    )
}
for _kind in _KINDS.values():  # the checks are the wire order, so they have to be the fields
    if list(_kind.CHECKS) != [field.name for field in fields(_kind)]:
        raise TypeError(f"{_kind.__name__}: CHECKS and fields differ")


def parse_control(data: bytes) -> ControlMessage | UnknownControl:
    """Read one control message. Raises `WireError` for anything but a well-formed message."""
    kind, values = _open_envelope(data)
    if kind not in _KINDS:
        return UnknownControl(kind)
    message = _KINDS[kind].from_fields(values)
    if message.serialize() != data:
        raise WireError(f"{type(message).__name__} is not in its shortest form: one message has one encoding")
    return message


def _open_envelope(data: bytes) -> tuple[int, dict[str, Any]]:
    if len(data) > MAX_CONTROL_BYTES:
        raise WireError(f"control message is {len(data)} bytes, expected at most {MAX_CONTROL_BYTES}")
    try:
        envelope = msgpack.unpackb(
            data, use_list=False, strict_map_key=True, max_ext_len=0, object_pairs_hook=_distinct_names
        )
    except WireError:
        raise
    except (msgpack.UnpackException, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireError(f"control message is not msgpack: {type(error).__name__}: {error!s:.60}") from None
    if not isinstance(envelope, tuple) or len(envelope) != 2:
        raise WireError(
            f"control message is a {type(envelope).__name__}, expected an array of kind and fields"
        )
    kind, values = envelope
    if isinstance(kind, bool) or not isinstance(kind, int) or not 0 <= kind <= MAX_KIND:
        raise WireError(f"kind of a control message is {kind!r:.40}, expected 0 to {MAX_KIND}")
    if not isinstance(values, dict):
        raise WireError(f"fields of a control message are a {type(values).__name__}, expected a map")
    return kind, values


def _distinct_names(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Build the map of fields, the only map there is: names are text, and each stands once."""
    values = {}
    for name, value in pairs:
        if not isinstance(name, str) or name in values:
            raise WireError(f"field {name!r:.40} stands twice or is not named by text")
        if isinstance(value, dict):
            raise WireError(f"field {name!r:.40} is a map, expected no map inside a message")
        values[name] = value
    return values


def proof_transcript(
    *, challenge: bytes, prover_fingerprint: bytes, verifier_fingerprint: bytes, avatar_id: bytes
) -> bytes:
    """Return what the owner of an avatar signs to prove, in this one call, that the key is here.

    `challenge` is the verifier's, from its `Hello`. The fingerprints are the SHA-256 of the DTLS certificates at
    the two ends of this connection: whoever stands in the middle ends two connections, and the proof that one
    end gives is none at the other.
    """
    parts = (challenge, prover_fingerprint, verifier_fingerprint, avatar_id)
    if any(len(part) != 32 for part in parts):
        raise ValueError(f"parts of {[len(part) for part in parts]} bytes, expected 32 each")
    return PROOF_CONTEXT + b"".join(parts)
