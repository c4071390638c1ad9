"""The rows of `mien bench latency`."""

from dataclasses import dataclass

from mien.bench.latency_stages import StageSummary, summarise
from mien.bench.timed_call import TimedResult
from mien.call.carrier_choice import CarrierWish


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """One call. `stages` by the names of `latency_stages.STAGES`, and `total`; `kept`: the median is within its limit.

    `unknown`: live pictures that could not be followed. `frames_left_out`: a slow machine did not look at them.
    """

    case: str
    carrier: str
    frame_ms: int
    seconds: float
    pictures: int
    unknown: int
    frames_per_s: float
    frames_left_out: int
    pictures_per_s: float
    stages: dict[str, StageSummary]
    at_most_ms: float | None
    kept: bool | None


def latency_row(
    case: str,
    carrier: CarrierWish,
    frame_ms: int,
    at_most_ms: float | None,
    seconds: float,
    result: TimedResult,
) -> LatencyRow:
    """Return the row of a call."""
    stages = summarise(result.pictures)
    return LatencyRow(
        case=case,
        carrier=carrier.value,
        frame_ms=frame_ms,
        seconds=seconds,
        pictures=len(result.pictures),
        unknown=result.unknown,
        frames_per_s=round(result.frames_per_s, 1),
        frames_left_out=result.frames_left_out,
        pictures_per_s=round(result.pictures_per_s, 1),
        stages=stages,
        at_most_ms=at_most_ms,
        kept=None if at_most_ms is None else stages["total"].median_ms <= at_most_ms,
    )
