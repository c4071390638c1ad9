"""What a call cost and how it went: one frozen record, for a table, for JSON, for a test."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mien.call.carriers import CarrierCounts
from mien.call.lip_sync import Skew
from mien.call.voice_processing import Treatment
from mien.call.wire_tariff import tariffs_as_json
from mien.call.wire_totals import WireTotals
from mien.protocol.control import Rung, RungReason, Verdict


@dataclass(frozen=True, slots=True)
class RungChange:
    """A change of what is shown, `seconds` after the connection stood."""

    seconds: float
    rung: Rung
    reason: int
    camera_live: bool


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from a frame's stamp to the composited picture of its tick, over `samples` pictures."""

    samples: int = 0
    median_ms: float = 0.0
    p95_ms: float = 0.0

    @classmethod
    def of(cls, samples_us: list[int]) -> "Latency":
        """Summarise microseconds."""
        if not samples_us:
            return cls()
        median, p95 = np.percentile(samples_us, [50, 95]) / 1000
        return cls(len(samples_us), float(median), float(p95))


@dataclass(frozen=True, slots=True)
class SentStatistics:
    """Our side."""

    frames: int = 0  # tracked
    frames_left_out: int = 0
    fps: float = 0.0
    cpu_ms_per_frame: float = 0.0  # tracking, fitting and coding
    messages: int = 0
    message_bytes: int = 0
    messages_unsent: int = 0
    carrier: str = ""  # the one that messages take now, or took last
    by_carrier: Mapping[str, CarrierCounts] = field(default_factory=dict)
    avatar_bytes: int = 0
    avatar_verdict: int | None = None  # the other side's; a number of `Verdict`
    camera_pixels: int = 0  # that passed the video gate
    scene_messages: int = 0
    scene_bytes: int = 0
    video_packets: int = 0
    rungs: tuple[RungChange, ...] = ()
    reported_lost: int = 0  # messages, as of the other side's newest report
    reported_latency_ms: float = 0.0  # the median over there
    reported_mean_run: float = 0.0  # messages lost in a row, of late
    reported_by_audio: int = 0  # messages that came in packets of our voice
    reported_audio_packets: int = 0  # that came, with and without message


@dataclass(frozen=True, slots=True)
class ReceivedStatistics:
    """The other side, as it came here."""

    scene_messages: int = 0
    scene_bytes: int = 0
    scene_pictures: int = 0
    messages: int = 0
    by_carrier: Mapping[str, CarrierCounts] = field(default_factory=dict)
    malformed: int = 0
    early: int = 0  # before stream and avatar were known: dropped
    dropped: int = 0  # over-long, or more than could be taken
    lost: int = 0  # messages, as of the other side's newest report
    late_ticks: int = 0
    jitter_ms: float = 0.0
    latency: Latency = field(default_factory=Latency)
    lip_sync: Skew = field(default_factory=Skew)
    control_malformed: int = 0
    transfer_malformed: int = 0
    pictures: int = 0
    fps: float = 0.0
    backend: str = "none"
    avatar_bytes: int = 0
    avatar_verdict: int | None = None  # ours; a number of `Verdict`
    first_face_s: float | None = None  # after the connection stood
    video_frames: int = 0
    video_packets: int = 0
    audio_frames: int = 0
    rungs: tuple[RungChange, ...] = ()
    recorded_by_other: bool = False


@dataclass(frozen=True, slots=True)
class VoiceSent:
    """Our voice. Rates are of Opus alone; what its packets cost is the wire meter's."""

    packets: int = 0  # of sound
    kbps: float = 0.0  # over the whole call, pauses included
    speech_share: float = 0.0  # of the time that was listened to
    reported_lost: int = 0  # packets, as of the other side's newest report, those without a voice included
    reported_lost_share: float = 0.0  # of the last seconds
    reported_jitter_ms: float = 0.0
    noise_suppression: Treatment | None = None  # None: nothing could be done to this voice
    gain: Treatment | None = None
    echo: Treatment | None = None
    snr_db: float | None = None  # speech against noise, before anything was suppressed


@dataclass(frozen=True, slots=True)
class VoiceReceived:
    """Their voice."""

    packets: int = 0
    kbps: float = 0.0
    lost: int = 0  # packets, those without a voice included
    late: int = 0  # came after their turn
    skipped: int = 0  # came, and were left out so that it does not lag
    malformed: int = 0
    played_s: float = 0.0
    repaired_share: float = 0.0  # of what was played: from the repeat in the next packet
    filled_share: float = 0.0  # of what was played: pauses, and what was lost
    wait_ms: float = 0.0  # in the jitter buffer, at least


@dataclass(frozen=True, slots=True)
class VoiceStatistics:
    """Voice, both ways."""

    sent: VoiceSent = field(default_factory=VoiceSent)
    received: VoiceReceived = field(default_factory=VoiceReceived)


@dataclass(frozen=True, slots=True)
class PlanChange:
    """A change of how voice and face are sent, `seconds` after the connection stood; `kbps` on the wire, by the model."""

    seconds: float
    plan: str
    kbps: float
    reason: str


@dataclass(frozen=True, slots=True)
class RateStatistics:
    """What we were to send and did, on the wire. `budget_kbps`: None without one.

    `mean_kbps` and `most_kbps` (in any five seconds, looked at twice a second) are of the time after our avatar's first
    picture, without the camera's.
    """

    budget_kbps: float | None = None
    plan: str = ""
    plan_kbps: float = 0.0
    mean_kbps: float = 0.0
    most_kbps: float = 0.0
    changes: tuple[PlanChange, ...] = ()


@dataclass(frozen=True, slots=True)
class CallStatistics:
    """One call, from this end. `ended` says why it is over ("" while it goes on)."""

    connect_s: float | None
    seconds: float  # since the connection stood
    ended: str
    loopback: bool
    camera_live: bool
    sent: SentStatistics
    received: ReceivedStatistics
    wire: WireTotals
    round_trip_ms: float
    rate: RateStatistics = field(default_factory=RateStatistics)
    voice: VoiceStatistics = field(default_factory=VoiceStatistics)

    def as_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        data: dict[str, Any] = {
            "connect_s": self.connect_s,
            "seconds": self.seconds,
            "ended": self.ended,
            "loopback": self.loopback,
            "camera_live": self.camera_live,
            "round_trip_ms": self.round_trip_ms,
            "sent": asdict(self.sent),
            "received": asdict(self.received),
            "rate": asdict(self.rate),
            "voice": asdict(self.voice),
            "wire": self.wire.as_json(),
            "wire_elsewhere": tariffs_as_json(self.wire),
        }
        for side in ("sent", "received"):
            data[side]["rungs"] = [_rung_as_json(change) for change in getattr(self, side).rungs]
            data[side]["avatar_verdict"] = verdict_name(getattr(self, side).avatar_verdict)
        return data


def verdict_name(verdict: int | None) -> str | None:
    """Return a verdict's name, or its number where it has none."""
    if verdict is None:
        return None
    return Verdict(verdict).name.lower() if verdict in Verdict._value2member_map_ else str(verdict)


def reason_name(reason: int) -> str:
    """Return the name of a rung's reason, or its number where it has none."""
    return RungReason(reason).name.lower() if reason in RungReason._value2member_map_ else str(reason)


def _rung_as_json(change: RungChange) -> dict[str, Any]:
    return {
        "seconds": change.seconds,
        "rung": change.rung.name.lower(),
        "reason": reason_name(change.reason),
        "camera_live": change.camera_live,
    }
