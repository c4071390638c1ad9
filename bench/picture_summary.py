"""What the rows of the picture bench say together: medians over clips, parity rates, BD-rates."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.table import Table

from mien.bench.picture_parity import Parity, bd_rate, goodness, median_or_none, median_parity, parity
from mien.bench.picture_rows import BARE, TIERS, Row, Variant
from mien.bench.picture_tiers import pairs_of_tiers, steps

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
    "bare_ssim": "structure, before the badge",
    "face_ssim": "structure in the face",
    "msssim": "structure at five scales",
    "bare_msssim": "the same before the badge",
    "gmsd": "gradient similarity deviation",
    "bare_gmsd": "the same before the badge",
    "ssimulacra2": "SSIMULACRA2",
    "bare_ssimulacra2": "the same before the badge",
    "psnr": "dB",
    "bare_psnr": "dB, before the badge",
    "face_psnr": "dB in the face",
    "flicker": "restlessness beyond the original's",
    "identity": "1 - identity distance",
    "bare_edge": "gradient energy before the badge",
    "lpips": "LPIPS",
    "dists": "DISTS",
}
# Metrics where a codec's curve against its rate is worth a parity rate and a plot.
PARITY_METRICS: Final = (
    "akd", "mouth", "eyes", "blendshapes", "pose_deg", "gaze", "jaw_corr", "blink_corr", "face_edge", "face_ssim",
    "ssim", "bare_ssim", "msssim", "gmsd", "bare_gmsd", "ssimulacra2", "bare_ssimulacra2", "psnr",
)  # fmt: skip
BD_METRICS: Final = tuple(name for name in PARITY_METRICS if not name.startswith(BARE))

# On a terminal, and with how many digits.
IN_TABLE: Final = {
    "wire_kbps": ".1f", "audio_wire_kbps": ".1f", "found": ".3f", "akd": ".2f", "mouth": ".2f", "eyes": ".2f", "blendshapes": ".3f",
    "pose_deg": ".2f", "gaze": ".1f", "jaw_corr": ".2f", "blink_corr": ".2f", "edge": ".2f", "face_edge": ".2f",
    "ssim": ".3f", "bare_ssim": ".3f", "face_ssim": ".3f", "gmsd": ".3f", "bare_gmsd": ".3f", "ssimulacra2": ".0f", "flicker": ".2f",
}  # fmt: skip

# On a page, where it is not two of them.
DECIMALS: Final = {
    "wire_kbps": 1, "audio_wire_kbps": 1, "found": 3, "blendshapes": 4, "ssim": 3, "bare_ssim": 3, "face_ssim": 3,
    "msssim": 3, "bare_msssim": 3, "gmsd": 3, "bare_gmsd": 3, "ssimulacra2": 0, "bare_ssimulacra2": 0, "psnr": 1,
    "bare_psnr": 1, "face_psnr": 1, "gaze": 1, "lpips": 3, "dists": 3, "jaw_corr": 3, "blink_corr": 3, "edge": 3,
    "bare_edge": 3, "face_edge": 3,
}  # fmt: skip

SHORT: Final = {
    "wire_kbps": "kbps", "audio_wire_kbps": "audio", "bare_ssim": "ssim*", "bare_gmsd": "gmsd*", "blendshapes": "bs", "pose_deg": "pose", "jaw_corr": "jaw", "blink_corr": "blink",
    "face_edge": "f.edge", "face_ssim": "f.ssim", "ssimulacra2": "ssim2",
}  # fmt: skip

Curve = list[tuple[float, float]]  # (wire kbps, value)
Coder = tuple[int, str, str]  # size, coder, mode


def by_variant(rows: Iterable[Row]) -> dict[Variant, list[Row]]:
    """Group rows by variant: of each size our tiers first, then video."""
    out: dict[Variant, list[Row]] = defaultdict(list)
    for row in rows:
        out[row.variant].append(row)
    return {variant: out[variant] for variant in sorted(out, key=_place)}


def medians(rows: Sequence[Row]) -> dict[str, float]:
    """Return the median over clips of rates and figures; `found` is the share over all frames."""
    out = {
        "payload_kbps": statistics.median(row.payload_kbps for row in rows),
        "wire_kbps": statistics.median(row.wire_kbps for row in rows),
    }
    if audio := [row.extra["audio_wire_kbps"] for row in rows if "audio_wire_kbps" in row.extra]:
        out["audio_wire_kbps"] = statistics.median(audio)
    for name in METRICS:
        if values := figures_of(rows, name):
            out[name] = statistics.median(values)
    frames = sum(row.frames for row in rows)
    out["found"] = sum(row.frames * row.figures.get("found", 0.0) for row in rows) / max(frames, 1)
    return {name: round(value, 4) for name, value in out.items()}


def figures_of(rows: Iterable[Row], name: str) -> list[float]:
    """Return a figure of those rows that have it."""
    return [value for row in rows if (value := row.figure(name)) is not None]


def curves(rows: Iterable[Row], metric: str) -> dict[Coder, dict[str, Curve]]:
    """Return each coder's points of each clip, over wire kbps."""
    out: dict[Coder, dict[str, Curve]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if (value := row.figure(metric)) is not None:
            v = row.variant
            mode = v.mode if not v.is_ours else ""
            out[v.size_px, v.coder, mode][row.clip].append((row.wire_kbps, value))
    return out


def parities(rows: Sequence[Row], metric: str, ours: Variant) -> dict[Coder, Parity | None]:
    """Return for each rival at `ours`' size the median over clips of what it needs to score as ours does."""
    mine = [row for row in rows if row.variant == ours]
    found = {row.clip: value for row in mine if (value := row.figure(metric)) is not None}
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
                    "mode": mode, "scene_kbps": variant.target_kbps, "wire_kbps": found and round(found.kbps, 2), "side": found and found.side,
                })  # fmt: skip
    for below, above in pairs_of_tiers(grouped):
        for step in steps(rows, below, above):
            out.append({
                "kind": "tiers", "size_px": above.size_px, "below": below.text, "above": above.text, **asdict(step),
            })  # fmt: skip
    for metric in BD_METRICS:
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
    table = Table(
        title="Pictures against the originals (last 40 % of each clip): medians over clips; audio: kbps in voice packets; "
        "*: before the badge"
    )
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


def _place(variant: Variant) -> tuple[int, int, Variant]:
    return variant.size_px, TIERS.index(variant.coder) if variant.is_ours else len(TIERS), variant


def _named(variant: Variant) -> dict[str, Any]:
    return {
        "size_px": variant.size_px,
        "coder": variant.coder,
        "mode": variant.mode,
        "target_kbps": variant.target_kbps,
    }
