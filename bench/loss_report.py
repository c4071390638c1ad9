"""The pictures of `mien bench loss`: error and share of made-up pictures against loss."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mien.bench.loss_curve import LossResult
from mien.protocol.errors import MienError

COLOURS: Final = {"random": "#1f6f8b", "bursts": "#d98c21"}
FIGURES: Final = ("nme", "nme_p95", "mouth_nme", "concealed", "delay_ms", "lost", "payload_kbps")


def summarise(results: Sequence[LossResult]) -> list[dict[str, float | int | str]]:
    """Return, for each pattern in the order of the results, the mean over clips of each figure."""
    patterns = dict.fromkeys((r.quality, r.kind, r.loss) for r in results)
    rows = []
    for quality, kind, loss in patterns:
        chosen = [r for r in results if (r.quality, r.kind, r.loss) == (quality, kind, loss)]
        row: dict[str, float | int | str] = {"quality": quality, "pattern": kind, "loss": loss}
        row["clips"] = len(chosen)
        row |= {name: round(statistics.fmean(getattr(r, name) for r in chosen), 4) for name in FIGURES}
        rows.append(row)
    return rows


def draw_loss_plot(results: Sequence[LossResult], path: Path) -> None:
    """Write a PNG: one thin line for each clip, the mean in bold."""
    try:
        import matplotlib
    except ImportError as error:
        raise MienError(
            f"no matplotlib for the plot of the report ({error}): pip install 'mien[bench]'"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 5), sharex=True)
    for kind, colour in COLOURS.items():
        for name in dict.fromkeys(r.clip for r in results):
            # Without loss both patterns are the same: the measured one stands for both.
            rows = sorted(
                (r for r in results if r.clip == name and (r.kind == kind or r.loss == 0)), key=_loss
            )
            for axis, what in zip(axes, ("nme", "concealed"), strict=True):
                axis.plot(
                    [100 * r.loss for r in rows], [_shown(r, what) for r in rows], color=colour, alpha=0.2
                )
        for axis, what in zip(axes, ("nme", "concealed"), strict=True):
            shares = sorted({r.loss for r in results if r.kind == kind or r.loss == 0})
            means = [
                statistics.fmean(
                    _shown(r, what) for r in results if r.loss == s and (r.kind == kind or s == 0)
                )
                for s in shares
            ]
            axis.plot([100 * s for s in shares], means, "o-", color=colour, label=kind)
    axes[0].set(xlabel="messages lost, %", ylabel="error, % of inter-pupil distance", ylim=(0, None))
    axes[1].set(xlabel="messages lost, %", ylabel="pictures made up, %", ylim=(0, None))
    axes[0].legend(frameon=False)
    for axis in axes:
        axis.grid(alpha=0.2)
    figure.suptitle("What is shown against what was tracked at that moment")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _loss(result: LossResult) -> float:
    return result.loss


def _shown(result: LossResult, what: str) -> float:
    value: float = getattr(result, what)
    return 100 * value if what == "concealed" else value
