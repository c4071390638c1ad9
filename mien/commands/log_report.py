"""What a log holds and what it cost, as a dictionary for `mien inspect` and `mien encode`."""

from fractions import Fraction
from typing import Any, Final

from mien.decoder.recording import Recording, Segment
from mien.protocol.control import Carrier

# DTLS and SCTP put 65 bytes around a data-channel message, UDP 8, IPv4 20, IPv6 40 (measured with aiortc).
# In a packet of voice it takes 5 bytes, and no packet (`protocol/SPEC-carriers.md`).
HEADER_BYTES: Final = {"datachannel_ipv4": 93, "datachannel_ipv6": 113, "audio": 5}


def duration_s(segment: Segment) -> float:
    """Return how long a segment's source lasts: its frames' times and one frame more; else its ticks."""
    frames = segment.frames
    if len(frames) > 1:
        span_us = frames[-1].time_us - frames[0].time_us
        return float(Fraction(span_us, 1_000_000) * len(frames) / (len(frames) - 1))
    ticks = segment.track.ticks
    if not ticks:
        return 0.0
    return float((ticks[-1] - ticks[0] + 1) / segment.stream.tick_rate)


def report_log(recording: Recording, *, file_bytes: int) -> dict[str, Any]:
    """Return the report. Rates are per second of the source."""
    header = recording.header
    seconds = sum(duration_s(s) for s in recording.segments)
    messages = sum(s.messages for s in recording.segments)
    message_bytes = sum(s.message_bytes for s in recording.segments)
    scenes = [message for s in recording.segments for _, message in s.scene]
    scene_bytes = sum(map(len, scenes))
    damage = recording.damage
    return {
        "kind": "mien log",
        "written_by": header.writer,
        "origin": header.origin.name.lower(),
        "finished": recording.ended,
        "file_bytes": file_bytes,
        "source": {
            "width": header.width,
            "height": header.height,
            "fps": round(float(header.source_rate), 4),
        },
        "tick_rate": round(float(header.stream.tick_rate), 4),
        "tracker": header.stream.tracker.name.lower(),
        "model_id": header.stream.model_id.hex(),
        "tables_id": header.stream.tables_id.hex(),
        "avatar_id": header.avatar_id.hex(),
        "owner": header.owner.hex(),
        "streams": len(recording.segments),
        "duration_s": round(seconds, 3),
        "frames": sum(len(s.source_frames()) for s in recording.segments),
        "ticks": sum(s.ticks()[0] for s in recording.segments),
        "ticks_without_face": sum(s.ticks()[1] for s in recording.segments),
        "messages": messages,
        "bad_messages": sum(s.bad_messages for s in recording.segments),
        "message_bytes": message_bytes,
        "payload_kbps": _kbps(message_bytes, seconds),
        "scene_messages": len(scenes),
        "scene_bytes": scene_bytes,
        "scene_kbps": _kbps(scene_bytes, seconds),
        "wire_kbps": {
            carrier: _kbps(message_bytes + scene_bytes + (messages + len(scenes)) * header_bytes, seconds)
            for carrier, header_bytes in HEADER_BYTES.items()
        },
        "wire_kbps_is": "computed for these messages, forward only: 93 bytes of headers a message over IPv4, "
        "113 over IPv6, 5 in packets of voice that are sent anyway; no SACK, no STUN",
        "carriers": {
            carrier_name(number): {"messages": use.messages, "message_bytes": use.message_bytes}
            for number, use in sorted(recording.carriers.items())
        },
        "problem": next((s.problem for s in recording.segments if s.problem), None),
        "damage": damage
        and {"position": damage.position, "lost_bytes": damage.lost_bytes, "reason": damage.reason},
    }


def carrier_name(number: int) -> str:
    """Return a carrier's name, or its number where it has none."""
    return Carrier(number).name.lower() if number in Carrier._value2member_map_ else str(number)


def _kbps(count: int, seconds: float) -> float | None:
    return round(count * 8 / seconds / 1000, 3) if seconds > 0 else None
