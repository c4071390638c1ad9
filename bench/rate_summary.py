"""Medians over clips for the rate bench, and what rate a video codec needs for the error that ours has."""

import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from mien.bench.coefficient_codes import CodeResult
from mien.bench.rate_modes import RateResult
from mien.bench.rate_rivals import UNCODED, RivalResult

MEDIANS: Final = (
    "payload_kbps", "wire_kbps", "age_ms", "coding_nme", "fit_nme", "total_nme", "mouth_nme", "eyes_nme",
    "tracking_ms", "fit_ms", "encode_ms", "decode_ms",
)  # fmt: skip
ERRORS: Final = ("total_nme", "mouth_nme", "eyes_nme")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Results:
    """All that a run measured."""

    modes: Sequence[RateResult]
    codes: Sequence[CodeResult] = ()
    rivals: Sequence[RivalResult] = ()


def of_modes(results: Sequence[RateResult]) -> list[dict[str, Any]]:
    """Return, for each carrier and quality, the median over clips of each figure, and the worst payload and error."""
    rows = []
    for (carrier, quality), chosen in _grouped(results, lambda r: (r.carrier, r.quality)):
        row: dict[str, Any] = {"quality": quality, "carrier": carrier, "clips": len(chosen)}
        row |= _medians(chosen, MEDIANS)
        row["payload_kbps_max"] = max(r.payload_kbps for r in chosen)
        row["total_nme_max"] = max(r.total_nme for r in chosen)
        row["messages"] = sum(r.messages for r in chosen)
        row["mismatches"] = sum(r.mismatches for r in chosen)
        rows.append(row)
    return rows


def of_codes(results: Sequence[CodeResult]) -> list[dict[str, Any]]:
    """Return the medians of each plain code."""
    return [
        {"code": code, "clips": len(chosen)} | _medians(chosen, ("payload_kbps", "wire_kbps", *ERRORS))
        for code, chosen in _grouped(results, lambda r: r.code)
    ]


def of_rivals(results: Sequence[RivalResult]) -> list[dict[str, Any]]:
    """Return the medians of each rival at each rate that was asked for; errors where a face was found at all."""
    rows = []
    for (rival, target), chosen in _grouped(results, lambda r: (r.rival, r.target_kbps)):
        one = chosen[0]
        row: dict[str, Any] = {"rival": rival, "family": one.family, "size": one.size, "effort": one.effort}
        row |= {"target_kbps": target, "clips": len(chosen), "frames": sum(r.frames for r in chosen)}
        row |= _medians(chosen, ("payload_kbps", "wire_kbps"))
        frames = sum(r.frames for r in chosen)
        row["found"] = round(sum(r.found * r.frames for r in chosen) / frames, 4)
        row["missed"] = sum(bool(r.note) for r in chosen)
        row |= _medians([r for r in chosen if r.total_nme is not None], ERRORS)
        rows.append(row)
    return rows


@dataclass(frozen=True, slots=True)
class Parity:
    """At which wire rate an error is reached; `reached` false: not even at this one, the highest that was tried."""

    wire_kbps: float
    reached: bool

    def __str__(self) -> str:
        return f"{self.wire_kbps:.1f}" if self.reached else f"> {self.wire_kbps:.0f}"


def parity(rivals: Sequence[dict[str, Any]], error: str, target: float) -> dict[str, Parity]:
    """Return, for each rival, at which wire kbps its median error falls to `target`.

    Between two rates the logarithms of rate and error are taken to lie on a line.
    """
    out: dict[str, Parity] = {}
    for rival, rows in _grouped(rivals, lambda r: r["rival"]):
        points = sorted((r["wire_kbps"], r[error]) for r in rows if r["family"] != UNCODED and r.get(error))
        if points:
            out[rival] = _reached(points, target)
    return out


def _reached(points: Sequence[tuple[float, float]], target: float) -> Parity:
    before: tuple[float, float] | None = None
    for rate, error in points:
        if error <= target:
            if before is None or before[1] <= error:
                return Parity(rate, True)
            share = math.log(before[1] / target) / math.log(before[1] / error)
            return Parity(round(float(before[0] * (rate / before[0]) ** share), 1), True)
        before = rate, error
    return Parity(points[-1][0], False)


def _medians(rows: Sequence[Any], names: Sequence[str]) -> dict[str, float]:
    if not rows:
        return {}
    return {name: round(statistics.median(getattr(r, name) for r in rows), 4) for name in names}


def _grouped(rows: Iterable[T], key: Callable[[T], Hashable]) -> list[tuple[Any, list[T]]]:
    groups: dict[Any, list[T]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())
