"""What a connection has agreed on: whose a stream of SCTP is, and whether a payload type is sound or a picture."""

from collections.abc import Mapping
from typing import Final

from aiortc import RTCPeerConnection
from aiortc.rtcsctptransport import RTCSctpTransport

from mien.call.wire_cause import Cause

DATA_CHANNEL_CAUSES: Final[Mapping[str, Cause]] = {
    "mien-coefficients": Cause.COEFFICIENTS,
    "mien-control": Cause.CONTROL,
    "mien-transfer": Cause.TRANSFER,
}


class NegotiatedCauses:
    """Reads one connection. `channels` maps a data channel's label to its cause; other channels are CONTROL."""

    def __init__(self, pc: RTCPeerConnection, channels: Mapping[str, Cause] = DATA_CHANNEL_CAUSES) -> None:
        self._pc = pc
        self._channels = dict(channels)
        self._payload_types: dict[int, Cause] = {}

    def of_stream(self, stream: int) -> Cause:
        """Return the cause of a stream of SCTP by its channel's label."""
        sctp: RTCSctpTransport | None = self._pc.sctp
        channel = sctp._data_channels.get(stream) if sctp is not None else None
        return self._channels.get(channel.label, Cause.CONTROL) if channel is not None else Cause.CONTROL

    def of_payload_type(self, payload_type: int) -> Cause:
        """Return whether it is audio or video. In a bundle a payload type means one codec (RFC 8843)."""
        if payload_type not in self._payload_types:
            for transceiver in self._pc.getTransceivers():
                cause = Cause.VIDEO if transceiver.kind == "video" else Cause.AUDIO
                for codec in transceiver._codecs:
                    if codec.payloadType is not None:
                        self._payload_types[codec.payloadType] = cause
        return self._payload_types.get(payload_type, Cause.OTHER)
