"""What the rows of the picture bench say together: medians over clips, parity rates, BD-rates."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.table import Table

from mien.bench.picture_parity import Parity, bd_rate, goodness, median_or_none, median_parity, parity
from mien.bench.picture_rows import Row, Variant

ANCHOR: Final = "SVT-AV1"  # what BD-rates are relative to
# In the order of the report: name, what it says.
METRICS: Final = {
    "found": "share of frames with a face",
    "akd": "landmarks, % of eye distance",
    "mouth": "lips, %",
    "eyes": "lids and irises, %",
    "blendshapes": "mean blendshape error",
    "pose_deg": "head rotation, degrees",
    "gaze": "iris in its eye, % of its width",
    "jaw_corr": "jawOpen over time",
    "blink_corr": "eyeBlinkLeft over time",
    "edge": "gradient energy, 1: as sharp",
    "face_edge": "the same in the face",
    "ssim": "structure",
    "face_ssim": "structure in the face",
    "msssim": "structure at five scales",
    "gmsd": "gradient similarity deviation",
    "ssimulacra2": "SSIMULACRA2",
    "psnr": "dB",
    "face_psnr": "dB in the face",
    "flicker": "restlessness beyond the original's",
    "identity": "1 - identity distance",
    "lpips": "LPIPS",
    "dists": "DISTS",
}
# Metrics where a codec's curve against its rate is worth a parity rate and a plot.
PARITY_METRICS: Final = (
    "akd", "mouth", "eyes", "blendshapes", "pose_deg", "gaze", "jaw_corr", "blink_corr", "face_edge", "face_ssim",
    "ssim", "msssim", "gmsd", "ssimulacra2", "psnr",
)  # fmt: skip

# On a terminal, and with how many digits.
IN_TABLE: Final = {
    "wire_kbps": ".1f", "found": ".3f", "akd": ".2f", "mouth": ".2f", "eyes": ".2f", "blendshapes": ".3f",
    "pose_deg": ".2f", "gaze": ".1f", "jaw_corr": ".2f", "blink_corr": ".2f", "edge": ".2f", "face_edge": ".2f",
    "ssim": ".3f", "face_ssim": ".3f", "gmsd": ".3f", "ssimulacra2": ".0f", "flicker": ".2f",
}  # fmt: skip

SHORT: Final = {
    "wire_kbps": "kbps", "blendshapes": "bs", "pose_deg": "pose", "jaw_corr": "jaw", "blink_corr": "blink",
    "face_edge": "f.edge", "face_ssim": "f.ssim", "ssimulacra2": "ssim2",
}  # fmt: skip

Curve = list[tuple[float, float]]  # (wire kbps, value)
Coder = tuple[int, str, str]  # size, coder, mode


def by_variant(rows: Iterable[Row]) -> dict[Variant, list[Row]]:
    """Group rows by variant, in the variants' order."""
    out: dict[Variant, list[Row]] = defaultdict(list)
    for row in rows:
        out[row.variant].append(row)
    return dict(sorted(out.items()))


def medians(rows: Sequence[Row]) -> dict[str, float]:
    """Return the median over clips of rates and figures; `found` is the share over all frames."""
    out = {
        "payload_kbps": statistics.median(row.payload_kbps for row in rows),
        "wire_kbps": statistics.median(row.wire_kbps for row in rows),
    }
    for name in METRICS:
        values = [row.figures[name] for row in rows if name in row.figures]
        if values:
            out[name] = statistics.median(values)
    frames = sum(row.frames for row in rows)
    out["found"] = sum(row.frames * row.figures.get("found", 0.0) for row in rows) / max(frames, 1)
    return {name: round(value, 4) for name, value in out.items()}


def curves(rows: Iterable[Row], metric: str) -> dict[Coder, dict[str, Curve]]:
    """Return each coder's points of each clip, over wire kbps."""
    out: dict[Coder, dict[str, Curve]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if metric in row.figures:
            v = row.variant
            out[v.size_px, v.coder, v.mode if not v.is_ours else ""][row.clip].append(
                (row.wire_kbps, row.figures[metric])
            )
    return out


def parities(rows: Sequence[Row], metric: str, ours: Variant) -> dict[Coder, Parity | None]:
    """Return for each rival at `ours`' size the median over clips of what it needs to score as ours does."""
    found = {row.clip: row.figures[metric] for row in rows if row.variant == ours and metric in row.figures}
    out = {}
    for coder, clips in curves([r for r in rows if not r.variant.is_ours], metric).items():
        if coder[0] == ours.size_px:
            out[coder] = median_parity([parity(metric, found[c], p) for c, p in clips.items() if c in found])
    return out


def bd_rates(rows: Sequence[Row], metric: str) -> dict[Coder, float | None]:
    """Return each coder's median BD-rate against the anchor of its size and mode (ours: the real-time one), percent."""
    every = curves(rows, metric)
    out = {}
    for coder, clips in every.items():
        size, name, mode = coder
        anchor = every.get((size, ANCHOR, mode or "realtime"))
        if anchor is None or (name == ANCHOR):
            continue
        values = [bd_rate(metric, anchor[c], points) for c, points in clips.items() if c in anchor]
        out[coder] = median_or_none(values)
    return out


def summary_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return JSON-ready lines: the medians of each variant, parity rates and BD-rates of each metric."""
    out: list[dict[str, Any]] = []
    grouped = by_variant(rows)
    for variant, some in grouped.items():
        out.append({"kind": "median", **_named(variant), "clips": len(some), **medians(some)})
    for variant in grouped:
        for metric in PARITY_METRICS if variant.is_ours else ():
            for (size, coder, mode), found in parities(rows, metric, variant).items():
                out.append({
                    "kind": "parity", "size_px": size, "metric": metric, "tier": variant.coder, "ours": variant.mode, "coder": coder,
                    "mode": mode, "wire_kbps": found and round(found.kbps, 2), "side": found and found.side,
                })  # fmt: skip
    for metric in PARITY_METRICS:
        for (size, coder, mode), rate in bd_rates(rows, metric).items():
            out.append({
                "kind": "bd_rate", "size_px": size, "metric": metric, "coder": coder, "mode": mode,
                "anchor": ANCHOR, "percent": rate if rate is None else round(rate, 2),
            })  # fmt: skip
    return out


def best_of(values: Sequence[float | None], metric: str) -> int | None:
    """Return which of some values of a metric is the best."""
    known = [i for i, v in enumerate(values) if v is not None]
    return max(known, key=lambda i: goodness(metric, values[i] or 0.0), default=None)


def table_of(rows: Sequence[Row]) -> Table:
    """Return the medians for a person; the page and the JSON lines have more of them."""
    table = Table(title="Pictures against the originals (last 40 % of each clip): medians over clips")
    table.add_column("pictures", no_wrap=True)
    table.add_column("clips", justify="right")
    for name in IN_TABLE:
        table.add_column(SHORT.get(name, name), justify="right", no_wrap=True)
    size = None
    for variant, some in by_variant(rows).items():
        if size is not None and size != variant.size_px:
            table.add_section()
        size = variant.size_px
        found = medians(some)
        cells = [f"{found[n]:{IN_TABLE[n]}}" if n in found else "" for n in IN_TABLE]
        rate = f" {variant.target_kbps:g}" if variant.target_kbps else ""
        table.add_row(f"{size} {variant.coder} {variant.mode}{rate}", str(len(some)), *cells)
    return table


def _named(variant: Variant) -> dict[str, Any]:
    return {
        "size_px": variant.size_px,
        "coder": variant.coder,
        "mode": variant.mode,
        "target_kbps": variant.target_kbps,
    }
