"""The plots of `mien bench rate`: error against rate beside the rivals, and clip by clip."""

from collections.abc import Sequence
from typing import Any, Final

from mien.bench.plot_style import COLOURS, MARKERS, png, pyplot
from mien.bench.rate_carriers import DATACHANNEL
from mien.bench.rate_modes import RateResult
from mien.bench.rate_rivals import UNCODED
from mien.protocol.quantizer import Quality

NAMES: Final = {"total_nme": "all landmarks", "mouth_nme": "mouth", "eyes_nme": "eyes and irises"}
TARGET: Final = (1.5, 0.80)  # payload kbps and total error of quality normal
CARRIER_LOOKS: Final = ("o-", "s--", "D:")
CODE_MARKERS: Final = ("P", "X", "h", "d", "p")
RATE_TICKS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)
ERROR_TICKS: Final = (0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20)
FOUND_ENOUGH: Final = 0.99  # below it a point is hollow


def error_plot(
    modes: Sequence[dict[str, Any]],
    codes: Sequence[dict[str, Any]],
    rivals: Sequence[dict[str, Any]],
    error: str,
    *,
    effort: str = "realtime",
) -> bytes:
    """Return a PNG: the medians' error over the wire rate, both logarithmic. `error` names a column."""
    plots = pyplot()
    figure, axis = plots.subplots(figsize=(11, 6.2))
    _ours(axis, modes, error)
    for row, marker in zip(codes, CODE_MARKERS, strict=False):
        axis.plot(
            row["wire_kbps"],
            row[error],
            marker,
            color="#7a7f85",
            markersize=7,
            linestyle="",
            label=row["code"],
        )
    shown = [r for r in rivals if r["effort"] == effort and r.get(error)]
    for name in dict.fromkeys(r["rival"] for r in shown):
        _rival(axis, [r for r in shown if r["rival"] == name], error)
    _floor(axis, rivals, error)
    axis.set(xscale="log", yscale="log", xlabel="wire, kbps, one way, headers counted")
    axis.set_ylabel(f"error, {NAMES[error]}, % of the inter-pupil distance")
    _plain_ticks(axis.xaxis, RATE_TICKS, axis.get_xlim())
    _plain_ticks(axis.yaxis, ERROR_TICKS, axis.get_ylim())
    kind = "real-time settings" if effort == "realtime" else "best effort, not real-time"
    versus = f", video codecs with {kind}" if shown else ""
    axis.set_title(f"{NAMES[error].capitalize()}: error against wire rate{versus}")
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=9.5, handlelength=2.6)
    figure.tight_layout()
    return png(figure)


def clips_plot(results: Sequence[RateResult]) -> bytes:
    """Return a PNG: total and coding error against payload, a point for each clip and quality."""
    plots = pyplot()
    figure, axes = plots.subplots(1, 2, figsize=(11, 4.8), sharex=True)
    for axis, what in zip(axes, ("total", "coding"), strict=True):
        for quality in Quality:
            name = quality.name.lower()
            rows = [r for r in results if r.quality == name and r.carrier == DATACHANNEL.name]
            axis.scatter(
                [r.payload_kbps for r in rows],
                [getattr(r, f"{what}_nme") for r in rows],
                s=26,
                alpha=0.75,
                linewidths=0,
                color=COLOURS[f"mien {name}"],
                label=name,
            )
        axis.set(xlabel="payload, kbps", xlim=(0, None), ylim=(0, None))
        axis.set_title(f"{what.capitalize()} error, % of the inter-pupil distance")
    kbps, limit = TARGET
    axes[0].plot([0, kbps, kbps], [limit, limit, 0], "--", color="#8a929b", linewidth=1)
    axes[1].legend(title="quality", loc="upper left", bbox_to_anchor=(1.01, 1.0))
    figure.tight_layout()
    return png(figure)


def _ours(axis: Any, modes: Sequence[dict[str, Any]], error: str) -> None:
    for carrier, look in zip(dict.fromkeys(r["carrier"] for r in modes), CARRIER_LOOKS, strict=False):
        rows = [r for r in modes if r["carrier"] == carrier]
        axis.plot(
            [r["wire_kbps"] for r in rows],
            [r[error] for r in rows],
            look,
            color=COLOURS["mien"],
            linewidth=2.2,
            markersize=7,
            label=f"mien, {carrier}",
            zorder=5,
        )
        if carrier == DATACHANNEL.name:
            for row in rows:
                axis.annotate(
                    row["quality"],
                    (row["wire_kbps"], row[error]),
                    xytext=(7, 7),
                    textcoords="offset points",
                    va="center",
                    fontsize=9.5,
                    color=COLOURS["mien"],
                )


def _rival(axis: Any, rows: Sequence[dict[str, Any]], error: str) -> None:
    family, size = rows[0]["family"], rows[0]["size"]
    rows = sorted(rows, key=lambda r: r["wire_kbps"])
    colour, marker = COLOURS[family], MARKERS[family]
    rates, values = [r["wire_kbps"] for r in rows], [r[error] for r in rows]
    line = "-" if size == 256 else "--"
    axis.plot(
        rates, values, line + marker, color=colour, linewidth=1.4, markersize=5, label=f"{family} {size} px"
    )
    hollow = [r for r in rows if r["found"] < FOUND_ENOUGH]
    axis.plot(
        [r["wire_kbps"] for r in hollow],
        [r[error] for r in hollow],
        marker,
        color=colour,
        markerfacecolor="white",
        markersize=6,
        linestyle="",
    )


def _floor(axis: Any, rivals: Sequence[dict[str, Any]], error: str) -> None:
    """A line at the error of pictures that were only scaled and tracked again."""
    rows = [r for r in rivals if r["family"] == UNCODED and r.get(error)]
    if rows:
        row = min(rows, key=lambda r: r["size"])
        axis.axhline(row[error], color="#9aa1a8", linewidth=1, linestyle=(0, (1, 2)))
        axis.annotate(
            f"{row['size']} px not coded, tracked again",
            (0.36, row[error]),  # between ours and the videos
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=9,
            color="#6b737b",
        )


def _plain_ticks(axis: Any, wanted: Sequence[float], limits: tuple[float, float]) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    low, high = limits
    ticks = [t for t in wanted if low <= t <= high]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_ticklabels([f"{t:g}" for t in ticks])
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
