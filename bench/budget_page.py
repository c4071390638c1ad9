"""What `mien bench budget` shows: a table, a plot of means and dearest five seconds, a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.table import Table

from mien.bench.budget_rows import BudgetRow
from mien.bench.plot_style import png, pyplot
from mien.bench.provenance import provenance
from mien.bench.report_page import Cell, Code, ReportPage

TITLE: Final = "What is sent of a budget"
SUBTITLE: Final = "kbps on the wire, sent by one side, everything counted"
COLOURS: Final = {
    "audio": "#1f6f8b",
    "coefficients": "#d98c21",
    "control": "#4a6fa5",
    "sack": "#5b3a8c",
    "stun": "#7a8b1f",
    "rtcp": "#8b4a1f",
    "other": "#9aa5b1",
}
COLUMNS: Final = (
    "budget",
    "mean",
    "most in 5 s",
    "voice",
    "face",
    "payload",
    "model",
    "latency ms",
    "stall ms",
)


def budget_table(rows: Sequence[BudgetRow]) -> Table:
    """Return one line for each side of each call."""
    table = Table(title=SUBTITLE, title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    table.add_column("plan")
    for row in rows:
        budget, *figures = _figures(row)
        *kbps, latency_ms, stall_ms = figures
        cells = [*(f"{value:.2f}" for value in kbps), f"{latency_ms:.0f}", f"{stall_ms:.0f}"]
        table.add_row(f"{budget:g}", *cells, row.plan, style="" if row.kept else "red")
    return table


def _figures(row: BudgetRow) -> list[float]:
    return [
        row.budget_kbps,
        row.mean_kbps,
        row.most_kbps,
        row.voice_kbps,
        row.face_kbps,
        row.payload_kbps,
        row.plan_kbps,
        row.latency_ms,
        row.stall_ms,
    ]


def draw_budget_plot(rows: Sequence[BudgetRow], path: Path) -> None:
    """Write a PNG: the dearest five seconds of each side by cause, its mean, and its budget."""
    plots = pyplot()

    figure, axis = plots.subplots(figsize=(11, 1.6 + 0.36 * len(rows)))
    start = [0.0] * len(rows)
    for name, colour in COLOURS.items():
        widths = [_of_cause(row, name) for row in rows]
        if any(widths):
            axis.barh(range(len(rows)), widths, left=start, color=colour, label=name, height=0.7)
        start = [s + w for s, w in zip(start, widths, strict=True)]
    for place, row in enumerate(rows):
        axis.plot([row.mean_kbps] * 2, (place - 0.35, place + 0.35), color="black", linewidth=1.5)
        axis.plot([row.budget_kbps] * 2, (place - 0.42, place + 0.42), color="#b03030", linewidth=2)
    axis.set_yticks(range(len(rows)), [_name(row) for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.08 * max(max(row.budget_kbps, end) for row, end in zip(rows, start, strict=True)))
    axis.set_xlabel("kbps on the wire in the dearest five seconds; black: mean; red: the budget")
    axis.legend(ncols=len(COLOURS), fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    axis.grid(visible=False, axis="y")
    figure.tight_layout()
    path.write_bytes(png(figure))


def _of_cause(row: BudgetRow, name: str) -> float:
    if name != "other":
        return row.dearest.get(name, 0.0)
    return sum(kbps for cause, kbps in row.dearest.items() if cause not in COLOURS)


def _name(row: BudgetRow) -> str:
    return f"{row.budget_kbps:g} kbps, {'voice and face' if row.voice else 'face alone'}"


def write_budget_page(rows: Sequence[BudgetRow], folder: Path) -> None:
    """Write budget.html, with the plot that is already in the folder."""
    page = ReportPage(TITLE, SUBTITLE)
    page.text(
        "Each call is real: two peers in one process, ICE, DTLS, SRTP and SCTP over loopback; a line is one side of it. "
        "What is bought is chosen by the rate control. Most in 5 s: in any five seconds, which is what a budget "
        "bounds. Model: what the rate control expects of the last plan in its dearest five seconds.",
        "Stall: how long the calls' event loop stood still at most. The voice of that time leaves at once when it goes "
        "on, so that five seconds may hold more than five seconds of it: a stall of 250 ms makes them 5 % dearer.",
    )
    page.figure(folder / "budget.png", "The dearest five seconds, by cause")
    headings = [*COLUMNS, "plans", "frames left out", "plan", "run again"]
    page.table(headings, [_cells(row) for row in rows], "kbps unless it says otherwise")
    page.heading("The dearest five seconds")
    causes = [name for name in COLOURS if any(_of_cause(row, name) for row in rows)]
    page.table(
        ["", *causes, "together"],
        [[_name(row), *(_of_cause(row, name) for name in causes), sum(row.dearest.values())] for row in rows],
        "kbps by cause, headers shared among what is in a datagram",
    )
    page.text(", ".join(f"{name} {value}" for name, value in provenance().items()))
    page.write(folder / "budget.html")


def _cells(row: BudgetRow) -> list[Cell]:
    chosen = "--face-budgets" if row.voice else "--budgets"
    wanted = "--budgets" if row.voice else "--face-budgets"
    again = f"mien bench budget --seconds {row.seconds:g} {wanted} {row.budget_kbps:g} {chosen}"
    return [*_figures(row), row.changes + 1, row.frames_left_out, row.plan, Code(again)]
