"""What a datagram is counted as: which way it goes, what it was sent for, and who shares it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Cause(StrEnum):
    """What a datagram, or a share of one, was sent for."""

    STUN = "stun"  # connectivity checks, consent freshness, the STUN server
    DTLS = "dtls"  # handshake, alerts, change cipher spec
    COEFFICIENTS = "coefficients"  # SCTP DATA of a coefficient channel, or padding in packets of voice
    SCENE = "scene"  # the same of the scene layer: hair, hands, light
    CONTROL = "control"  # SCTP DATA of every other channel, and the opening of channels
    TRANSFER = "transfer"  # SCTP DATA of a channel that carries avatars
    SACK = "sack"
    SCTP = "sctp"  # every other chunk: INIT, COOKIE, HEARTBEAT, FORWARD-TSN, RE-CONFIG, ...
    AUDIO = "audio"  # SRTP
    VIDEO = "video"  # SRTP
    RTCP = "rtcp"  # SRTCP, for audio and video together
    OTHER = "other"  # none of these, or encrypted and never decrypted


CAUSES: Final = tuple(Cause)


class Direction(StrEnum):
    """Seen from this end."""

    SENT = "sent"
    RECEIVED = "received"


@dataclass(frozen=True, slots=True)
class Share:
    """The part of one datagram that one cause answers for. `weight` is in bytes before the headers.

    `rides`: the datagram would have been sent without it.
    """

    cause: Cause
    weight: int
    payload_bytes: int = 0  # the user's data of an SCTP DATA chunk or of a rider; 0 for everything else
    rides: bool = False
