"""What a video codec needs for the same score: parity rates and Bjontegaard's mean rate difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bench.picture_rows import BARE

Floats = NDArray[np.float64]

# Which way is better: down, or near a value (as sharp as the original; as restless); up with all others.
LOWER: Final = ("gmsd", "akd", "mouth", "eyes", "blendshapes", "pose_deg", "gaze", "lpips", "dists")
WANTED: Final[Mapping[str, float]] = {"edge": 1.0, "face_edge": 1.0, "flicker": 0.0}
FEWEST_POINTS: Final = 2


@dataclass(frozen=True, slots=True)
class Parity:
    """Where a codec's curve reaches a score: at `kbps`; where `side` is not empty, only below or above that rate."""

    kbps: float
    side: str = ""  # "", "<" (even its lowest rate is better), ">" (not even its highest)

    @property
    def text(self) -> str:
        """For a table."""
        return f"{self.side and self.side + ' '}{self.kbps:.0f}"


def goodness(metric: str, value: float) -> float:
    """Return a value of a metric so that more is better."""
    metric = metric.removeprefix(BARE)
    if metric in WANTED:
        return -abs(value - WANTED[metric])
    return -value if metric in LOWER else value


def direction(metric: str) -> int:
    """Return 1 where more is better, -1 where less is, 0 where a value between is."""
    metric = metric.removeprefix(BARE)
    return 0 if metric in WANTED else -1 if metric in LOWER else 1


def parity(metric: str, ours: float, points: Sequence[tuple[float, float]]) -> Parity | None:
    """Return what rate the codec with `points` (kbps, value) needs to score as `ours`; None without points.

    Its values are made monotone first (more bits are never worse), and interpolated over the rate's logarithm.
    """
    if not points or not np.isfinite(ours):
        return None
    kbps, good = _curve(metric, points)
    wanted = goodness(metric, ours)
    if good[0] >= wanted:
        return Parity(float(kbps[0]), "<")
    if good[-1] < wanted:
        return Parity(float(kbps[-1]), ">")
    after = int(np.searchsorted(good, wanted))
    low, high = after - 1, after
    part = (wanted - good[low]) / (good[high] - good[low])
    return Parity(float(np.exp(np.log(kbps[low]) + part * np.log(kbps[high] / kbps[low]))))


def median_parity(found: Sequence[Parity | None]) -> Parity | None:
    """Return the median of clips; it is a bound where the middle one is."""
    known = [p for p in found if p is not None]
    if not known:
        return None
    order = {"<": 0, "": 1, ">": 2}
    ranked = sorted(known, key=lambda p: (order[p.side], p.kbps))
    return ranked[(len(ranked) - 1) // 2]


def bd_rate(
    metric: str, anchor: Sequence[tuple[float, float]], tested: Sequence[tuple[float, float]]
) -> float | None:
    """Return how much more (+) or less (-) rate `tested` takes than `anchor` for the same scores, in percent.

    The mean over the range of scores that both reach (Bjontegaard, VCEG-M33), of log rates interpolated between
    points (kbps, value) by monotone cubics. None where the ranges do not meet, or a curve has one point.
    """
    if min(len(anchor), len(tested)) < FEWEST_POINTS:
        return None
    curves = [_inverse(metric, points) for points in (anchor, tested)]
    if any(len(good) < FEWEST_POINTS for good, _ in curves):
        return None
    low = max(good[0] for good, _ in curves)
    high = min(good[-1] for good, _ in curves)
    if high - low <= 1e-9:
        return None
    at = np.linspace(low, high, 200)
    difference = _monotone_cubic(*curves[1], at) - _monotone_cubic(*curves[0], at)
    return float(100 * np.expm1(np.trapezoid(difference, at) / (high - low)))


def median_or_none(values: Sequence[float | None]) -> float | None:
    """Return the median of those that are known."""
    known = [v for v in values if v is not None]
    return median(known) if known else None


def _curve(metric: str, points: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    """Return rates, growing, and goodness, never falling (pool adjacent violators)."""
    ordered = sorted(p for p in points if np.isfinite(p[1]))
    kbps = np.array([p[0] for p in ordered], np.float64)
    blocks: list[tuple[float, int]] = []
    for _, value in ordered:
        blocks.append((goodness(metric, value), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m), (b, n) = blocks[-2:]
            blocks[-2:] = [((a * m + b * n) / (m + n), m + n)]
    return kbps, np.repeat([value for value, _ in blocks], [count for _, count in blocks])


def _inverse(metric: str, points: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    """Return goodness, strictly growing, and the logarithm of the least rate for it."""
    kbps, good = _curve(metric, points)
    first = np.r_[True, np.diff(good) > 1e-9]
    return good[first], np.log(kbps[first])


def _monotone_cubic(x: Floats, y: Floats, at: Floats) -> Floats:
    """Interpolate (Fritsch and Carlson 1980): no overshoot between points."""
    step, slope = np.diff(x), np.diff(y) / np.diff(x)
    tangent = np.r_[slope[0], np.zeros(len(x) - 2), slope[-1]]
    for i in range(1, len(x) - 1):
        if slope[i - 1] * slope[i] > 0:
            a, b = 2 * step[i] + step[i - 1], step[i] + 2 * step[i - 1]
            tangent[i] = (a + b) / (a / slope[i - 1] + b / slope[i])
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    t = (at - x[k]) / step[k]
    return np.asarray(
        (1 + 2 * t) * (1 - t) ** 2 * y[k]
        + t * (1 - t) ** 2 * step[k] * tangent[k]
        + t**2 * (3 - 2 * t) * y[k + 1]
        + t**2 * (t - 1) * step[k] * tangent[k + 1],
        np.float64,
    )
