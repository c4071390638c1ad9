"""The pictures of `mien bench loss`: error and share of made-up pictures against loss."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mien.bench.loss_curve import LossResult
from mien.bench.report_page import ReportPage
from mien.protocol.errors import MienError

COLOURS: Final = {"random": "#1f6f8b", "bursts": "#d98c21"}
PLOTTED: Final = {"nme": "error, % of inter-pupil distance", "concealed": "pictures made up, %"}
FIGURES: Final = ("nme", "nme_p95", "mouth_nme", "concealed", "held", "delay_ms", "lost", "payload_kbps")


def summarise(results: Sequence[LossResult]) -> list[dict[str, float | int | str]]:
    """Return, for each pattern in the order of the results, the mean over clips of each figure."""
    rows = []
    for key in dict.fromkeys(map(_pattern, results)):
        chosen = [r for r in results if _pattern(r) == key]
        row = dict(zip(("quality", "carriage", "pattern", "loss"), key, strict=True))
        row["clips"] = len(chosen)
        row |= {name: round(statistics.fmean(getattr(r, name) for r in chosen), 4) for name in FIGURES}
        row["nme_median"] = round(statistics.median(r.nme for r in chosen), 4)
        rows.append(row)
    return rows


def write_loss_page(results: Sequence[LossResult], plot: Path, path: Path, command: str) -> None:
    """Write one static HTML page: what was measured, the plot, every pattern."""
    page = ReportPage(
        "Loss", "what is shown against what was tracked at that moment, % of the inter-pupil distance"
    )
    page.command(command)
    page.text(
        "Computed without waiting: a clip's messages go over a link with losses, the receiver shows what it has. "
        "Bursts are of 5 packets on average, on the data channel of 5 messages, of 100 ms once bursts are reported. "
        "Made up: interpolated "
        "or held over a gap. Held: shows no later moment than the picture before. The delay holds the path's own.",
    )
    page.figure(plot, "thin: single clips; bold: their mean")
    page.table(
        ("carrier", "loss", "share", "clips", "error", "median", "p95", "mouth", "made up %", "held %", "delay ms", "payload kbps"),
        [
            (str(s["carriage"]), str(s["pattern"]), f"{s['loss']:.0%}", s["clips"], s["nme"], s["nme_median"],
             s["nme_p95"], s["mouth_nme"], 100 * float(s["concealed"]), 100 * float(s["held"]), round(float(s["delay_ms"])), s["payload_kbps"])
            for s in summarise(results)
        ],
        "means over clips",
    )  # fmt: skip
    page.write(path)


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

    carriages = list(dict.fromkeys(r.carriage for r in results))
    figure, rows = pyplot.subplots(
        len(carriages), 2, figsize=(11, 3.6 * len(carriages)), sharex=True, sharey="col", squeeze=False
    )
    for axes, carriage in zip(rows, carriages, strict=True):
        chosen = [r for r in results if r.carriage == carriage]
        for axis, (what, label) in zip(axes, PLOTTED.items(), strict=True):
            for kind, colour in COLOURS.items():
                _draw(axis, [r for r in chosen if r.kind == kind or r.loss == 0], what, kind, colour)
            axis.set(ylabel=label, ylim=(0, None), title=carriage)
            axis.grid(alpha=0.2)
    for axis in rows[-1]:
        axis.set(xlabel="packets lost, %")
    rows[0][0].legend(frameon=False)
    figure.suptitle("What is shown against what was tracked at that moment")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw(axis: Any, results: Sequence[LossResult], what: str, kind: str, colour: str) -> None:
    """Draw one pattern. Without loss both are the same: the measured one stands for both."""
    for name in dict.fromkeys(r.clip for r in results):
        rows = sorted((r for r in results if r.clip == name), key=lambda r: r.loss)
        axis.plot([100 * r.loss for r in rows], [_shown(r, what) for r in rows], color=colour, alpha=0.15)
    shares = sorted({r.loss for r in results})
    means = [statistics.fmean(_shown(r, what) for r in results if r.loss == share) for share in shares]
    axis.plot([100 * share for share in shares], means, "o-", color=colour, label=kind)


def _pattern(result: LossResult) -> tuple[float | int | str, ...]:
    return result.quality, result.carriage, result.kind, result.loss


def _shown(result: LossResult, what: str) -> float:
    value: float = getattr(result, what)
    return 100 * value if what == "concealed" else value
