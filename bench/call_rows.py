"""The rows of `mien bench call`: what one side of one call sent, by cause, and what it should not exceed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mien.bench.call_cases import Case, Voice
from mien.bench.two_way_call import SideResult, capture_percent
from mien.call.wire_cause import Cause

SIDES: Final = ("A", "B")
MISSING: Final = 0.05  # of the frames or of the packets of voice
# How causes are added up in the table; every cause is in one of them.
GROUPS: Final[Mapping[str, tuple[Cause, ...]]] = {
    "voice_kbps": (Cause.AUDIO,),
    "face_kbps": (Cause.COEFFICIENTS,),
    "scene_kbps": (Cause.SCENE,),
    "sack_kbps": (Cause.SACK,),
    "stun_kbps": (Cause.STUN,),
    "rtcp_kbps": (Cause.RTCP,),
    "control_kbps": (Cause.CONTROL,),
    "other_kbps": (Cause.DTLS, Cause.TRANSFER, Cause.SCTP, Cause.VIDEO, Cause.OTHER),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A limit of the case, and this side's figure."""

    what: str
    at_most: float
    value: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """What one side of one call sent, in kbps on the wire unless a name says otherwise.

    `forward_kbps`: the face, its scene and STUN. `extra_packets_per_s`: packets made for a message of the face alone, on the
    data channel all of its messages. `astray_share`: of its messages, those that took another carrier. `on_top_kbps`:
    above the same side of the same call without faces, None where that was not measured. `capture_percent`: the meter
    against a packet capture, over the whole call.
    """

    case: str
    side: str
    voice: str
    face: bool
    both_alike: bool
    carrier: str
    astray_share: float
    opus_kbps: float
    frame_ms: int
    seconds: float
    voice_kbps: float
    face_kbps: float
    scene_kbps: float
    sack_kbps: float
    stun_kbps: float
    rtcp_kbps: float
    control_kbps: float
    other_kbps: float
    total_kbps: float
    forward_kbps: float
    payload_kbps: float
    packets_per_s: float
    extra_packets_per_s: float
    voice_packets_per_s: float
    on_top_kbps: float | None
    ipv6_kbps: float
    turn_kbps: float
    capture_percent: float | None
    frames_per_s: float
    frames_left_out: int
    verdicts: tuple[Verdict, ...] = ()

    @property
    def lacks(self) -> bool:
        """Whether the machine was too slow for this call: so much was left out that the figures are too low."""
        frames = self.frames_left_out + self.frames_per_s * self.seconds
        due_per_s = 1000 / self.frame_ms if self.voice == Voice.SPEECH else 0.0
        return self.frames_left_out > MISSING * frames or self.voice_packets_per_s < (1 - MISSING) * due_per_s


def measured(
    case: Case,
    results: tuple[SideResult, SideResult],
    without_face: tuple[SideResult, SideResult] | None,
    captured_bytes: Mapping[int, int],
) -> list[Measured]:
    """Return a row for each side. `captured_bytes`: by UDP port, empty where nothing was captured."""
    rows = []
    for number, result in enumerate(results):
        other = without_face[number] if without_face else None
        figures = _figures(result, other)
        rows.append(
            Measured(
                case=case.name,
                side=SIDES[number],
                voice=case.roles[number].voice.value,
                face=case.roles[number].face,
                both_alike=case.both_alike,
                carrier=case.carrier.value,
                astray_share=_astray_share(result.by_carrier, case.carrier.value),
                opus_kbps=case.kbps,
                frame_ms=case.frame_ms,
                seconds=round(result.wire.elapsed_us / 1e6, 2),
                capture_percent=_rounded(capture_percent(result, captured_bytes)),
                frames_per_s=round(result.frames_per_s, 1),
                frames_left_out=result.frames_left_out,
                verdicts=_verdicts(case, figures),
                on_top_kbps=figures.get("on_top_kbps"),
                **{name: value for name, value in figures.items() if name != "on_top_kbps"},
            )
        )
    return rows


def shown_rows(rows: list[Measured]) -> list[Measured]:
    """Return the rows for a table: where both sides do the same, the dearer one."""
    shown: list[Measured] = []
    for row in rows:
        twin = next((i for i, r in enumerate(shown) if r.case == row.case and r.both_alike), None)
        if twin is None:
            shown.append(row)
        elif row.total_kbps > shown[twin].total_kbps:
            shown[twin] = row
    return shown


def _figures(result: SideResult, without_face: SideResult | None) -> dict[str, float]:
    figures = {name: result.kbps(*causes) for name, causes in GROUPS.items()}
    figures["total_kbps"] = result.kbps()
    figures["forward_kbps"] = result.kbps(Cause.COEFFICIENTS, Cause.SCENE, Cause.STUN)
    figures["payload_kbps"] = result.payload_kbps
    figures["packets_per_s"] = result.packets_per_s()
    figures["extra_packets_per_s"] = result.packets_per_s(Cause.COEFFICIENTS)
    figures["voice_packets_per_s"] = result.packets_per_s(Cause.AUDIO)
    figures["ipv6_kbps"] = result.elsewhere.ipv6_kbps
    figures["turn_kbps"] = result.elsewhere.turn_kbps
    if without_face is not None:
        figures["on_top_kbps"] = result.kbps() - without_face.kbps()
    return {name: round(value, 3) for name, value in figures.items()}


def _verdicts(case: Case, figures: Mapping[str, float]) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(limit.what, limit.at_most, figures[limit.what], figures[limit.what] <= limit.at_most)
        for limit in case.limits
        if limit.what in figures
    )


def _astray_share(messages: Mapping[str, int], carrier: str) -> float:
    count = sum(messages.values())
    return round(1 - messages.get(carrier, 0) / count, 3) if count else 0.0


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
