"""The pictures of `mien bench rate`: payload against error, clip by clip, and where the milliseconds go."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mien.bench.rate_quality import RateResult
from mien.protocol.errors import MienError
from mien.protocol.quantizer import Quality

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = {"low": "#d98c21", "normal": "#1f6f8b", "high": "#5b3a8c"}
TARGETS: Final = {"total": (2.0, 0.85), "coding": (2.0, 0.55)}  # payload kbps, NME % of quality normal


def draw_rate_plot(results: Sequence[RateResult], path: Path) -> None:
    """Write a PNG: total and coding error against payload, one point for each clip and quality."""
    try:
        import matplotlib
    except ImportError as error:
        raise MienError(
            f"no matplotlib for the plot of the report ({error}): pip install 'mien[bench]'"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 5), sharex=True)
    for axis, what in zip(axes, ("total", "coding"), strict=True):
        _scatter(axis, results, what)
    axes[0].legend(frameon=False)
    figure.suptitle("Landmark error against payload; the dashed box is the target of quality normal")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _scatter(axis: "Axes", results: Sequence[RateResult], what: str) -> None:
    for quality in Quality:
        name = quality.name.lower()
        rows = [r for r in results if r.quality == name]
        axis.scatter(
            [r.payload_kbps for r in rows],
            [getattr(r, f"{what}_nme") for r in rows],
            s=22,
            alpha=0.7,
            color=COLOURS[name],
            label=name,
        )
    kbps, nme = TARGETS[what]
    axis.plot([0, kbps, kbps], [nme, nme, 0], "--", color="0.5", linewidth=1)
    axis.set(
        xlabel="payload, kbps",
        ylabel=f"{what} error, % of inter-pupil distance",
        xlim=(0, None),
        ylim=(0, None),
    )
    axis.grid(alpha=0.2)
