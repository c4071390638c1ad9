"""What a call costs on the wire, measured: our meter beside an independent packet capture."""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from mien.bench.loopback_call import loopback_call
from mien.bench.packet_capture import PacketCapture
from mien.call.session import Participant
from mien.call.turns import short_turns
from mien.call.wire_cause import Cause, Direction
from mien.encoder.capture import Frame, Source
from mien.encoder.enroll import enroll_in_detail
from mien.encoder.owner_key import OwnerKey
from mien.encoder.tracker import Tracker
from mien.protocol.consent import Consent


@dataclass(frozen=True, slots=True)
class CallCost:
    """A call of this machine with itself. kbps are wire rates of the steady part, seen from the sender.

    `capture_percent` compares the meter with the capture over the whole call, both in bytes sent by the sender:
    100 * (meter - capture) / capture; `None` where no capture could be made, and `capture_note` says why.
    """

    seconds: float
    payload_kbps: float
    coefficients_kbps: float
    stun_kbps: float
    control_kbps: float
    uplink_kbps: float
    sack_back_kbps: float
    downlink_kbps: float
    latency_median_ms: float
    latency_p95_ms: float
    frames_per_s: float
    pictures_per_s: float
    first_picture_s: float
    nme_percent: float
    capture_percent: float | None
    capture_note: str


def measure_call(source: Source, enrolled: Iterable[Frame], tracker: Tracker) -> CallCost:
    """Enrol on `enrolled`, call with `source` in real time."""
    key = OwnerKey.throw_away()
    consent = Consent.test_fixture(given_unix_s=0)
    avatar = enroll_in_detail(enrolled, consent=consent, name="bench", key=key, tracker=tracker)
    me = Participant(source=source, tracker=tracker, avatar=avatar.data, signer=key)
    capture, note = _open_capture()
    with contextlib.ExitStack() as stack:
        stack.enter_context(short_turns())
        if capture is not None:
            stack.callback(capture.close)
        result = asyncio.run(loopback_call(me, avatar.avatar))
    captured = sum(capture.bytes_from[port] for port in result.sender_ports) if capture else 0
    metered = result.sender.wire.total(Direction.SENT).wire_bytes
    wire = result.wire
    return CallCost(
        seconds=round(wire.elapsed_us / 1e6, 2),
        payload_kbps=round(result.payload_kbps, 3),
        coefficients_kbps=round(wire.kbps(Direction.SENT, Cause.COEFFICIENTS), 3),
        stun_kbps=round(wire.kbps(Direction.SENT, Cause.STUN), 3),
        control_kbps=round(wire.kbps(Direction.SENT, Cause.CONTROL), 3),
        uplink_kbps=round(wire.kbps(Direction.SENT), 3),
        sack_back_kbps=round(wire.kbps(Direction.RECEIVED, Cause.SACK), 3),
        downlink_kbps=round(wire.kbps(Direction.RECEIVED), 3),
        latency_median_ms=round(result.latency.median_ms or 0.0, 1),
        latency_p95_ms=round(result.latency.p95_ms or 0.0, 1),
        frames_per_s=round(result.frames_per_s, 2),
        pictures_per_s=round(result.pictures_per_s, 2),
        first_picture_s=round(result.first_picture_s, 2),
        nme_percent=round(result.error.mean_percent, 3),
        capture_percent=round(100 * (metered - captured) / captured, 3) if captured else None,
        capture_note=note,
    )


def _open_capture() -> tuple[PacketCapture | None, str]:
    try:
        return PacketCapture(), "packet socket on loopback"
    except (AttributeError, OSError) as error:
        return None, f"no packet socket here ({error}): needs Linux and root"
