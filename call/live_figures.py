"""How a call goes at this moment: what its line in the terminal shows. Cheap enough for every second."""

from dataclasses import dataclass
from typing import Final

from mien.call.call_state import CallState
from mien.call.wire_cause import Cause, Direction
from mien.call.wire_meter import WireMeter
from mien.protocol.control import Carrier

WINDOW_US: Final = 5_000_000


@dataclass(frozen=True, slots=True)
class LiveFlow:
    """kbps of one direction on the wire. `face`: with its scene. `rest`: acknowledgements, checks, reports, the avatar."""

    voice: float
    face: float
    rest: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.voice + self.face + self.rest


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """Both directions, latencies from frame to picture in ms (0: not known), and what our face travels by."""

    up: LiveFlow
    down: LiveFlow
    latency_ms: float  # of their face, here
    their_latency_ms: float  # of our face, over there
    carrier: Carrier
    plan: str = ""  # how voice and face are coded

    def __str__(self) -> str:
        parts = [f"up {_flow(self.up)}", f"down {_flow(self.down)}"]
        if self.latency_ms or self.their_latency_ms:
            here, there = (f"{ms:.0f} ms" if ms else "-" for ms in (self.latency_ms, self.their_latency_ms))
            parts.append(f"latency {here} here, {there} there")
        if self.plan:
            return " | ".join([*parts, self.plan])
        parts.append("face in voice packets" if self.carrier is Carrier.AUDIO else "face on data channel")
        return " | ".join(parts)


def live_figures(call: CallState) -> LiveFigures:
    """Return how the call goes now."""
    return LiveFigures(
        up=live_flow(call.meter, Direction.SENT),
        down=live_flow(call.meter, Direction.RECEIVED),
        latency_ms=call.reports.recent_latency.median_ms,
        their_latency_ms=call.reports.their_latency_ms,
        carrier=call.carriers.current,
        plan=call.rate.plan.text if call.rate else "",
    )


def live_flow(meter: WireMeter, direction: Direction) -> LiveFlow:
    """Return the mean of the last seconds."""
    total = meter.kbps(direction, window_us=WINDOW_US)
    voice = meter.kbps(direction, Cause.AUDIO, window_us=WINDOW_US)
    face = sum(meter.kbps(direction, c, window_us=WINDOW_US) for c in (Cause.COEFFICIENTS, Cause.SCENE))
    return LiveFlow(voice, face, total - voice - face)


def _flow(flow: LiveFlow) -> str:
    return f"{flow.total:.1f} kbps (voice {flow.voice:.1f}, face {flow.face:.1f}, rest {flow.rest:.1f})"
