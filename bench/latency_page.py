"""What `mien bench latency` shows: a table, a plot of stacked bars, a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mien.bench.latency_rows import LatencyRow
from mien.bench.latency_stages import STAGES
from mien.bench.plot_style import png, pyplot
from mien.bench.provenance import provenance
from mien.bench.report_page import Cell, Code, ReportPage
from mien.bench.skew_rows import SkewRow

TITLE: Final = "From frame to picture"
SUBTITLE: Final = "milliseconds from a frame's stamp to the composited picture of it, over loopback"
SKEW_TITLE: Final = "Lips against voice"
SKEW_HEADINGS: Final = (
    "how",
    "carrier",
    "packet",
    "jitter",
    "tones",
    "median",
    "worst",
    "limit",
    "face's age",
)
MEANINGS: Final = {
    "interpolation": "from the shown moment, between two frames, to the later of them",
    "tracking": "until the face is found in it, from its stamp",
    "coding": "fitting the face model, choosing and coding coefficients",
    "leaving": "until the message is full, or a packet of voice takes it",
    "network": "SCTP or SRTP, the sockets, and back",
    "playout": "until it is its turn: what evens out when messages come",
    "drawing": "warping, compositing, reading back",
}
COLOURS: Final = {
    "interpolation": "#9aa5b1",
    "tracking": "#1f6f8b",
    "coding": "#7a8b1f",
    "leaving": "#d98c21",
    "network": "#8b4a1f",
    "playout": "#5b3a8c",
    "drawing": "#4a6fa5",
}


def latency_table(rows: Sequence[LatencyRow]) -> Table:
    """Return the table for a terminal: means of the stages, which add up, then median and p95 of the whole."""
    table = Table(title=f"{TITLE}, means in ms", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("case", no_wrap=True)
    for name in (*STAGES, "all", "median", "p95", "limit"):
        table.add_column(name, justify="right")
    for row in rows:
        total = row.stages["total"]
        cells = [f"{row.stages[name].mean_ms:.1f}" for name in STAGES]
        cells += [f"{total.mean_ms:.0f}", f"{total.median_ms:.0f}", f"{total.p95_ms:.0f}"]
        cells.append("" if row.at_most_ms is None else f"{row.at_most_ms:g}")
        table.add_row(row.case, *cells, style=_style(row.kept))
    slow = left_out_note(rows)
    if slow:
        table.caption, table.caption_justify = slow, "left"
    return table


def skew_table(rows: Sequence[SkewRow]) -> Table:
    """Return the table for a terminal: lips against voice."""
    table = Table(title=f"{SKEW_TITLE}, ms", title_justify="left", box=SIMPLE_HEAD)
    for name in SKEW_HEADINGS:
        table.add_column(name, justify="left" if name in SKEW_HEADINGS[:2] else "right")
    for row in rows:
        table.add_row(
            *(c if isinstance(c, str) else f"{c:g}" for c in _skew_cells(row)), style=_style(row.kept)
        )
    return table


def left_out_note(rows: Sequence[LatencyRow]) -> str:
    """Return a warning where this machine was too slow for the calls, or nothing."""
    slow = [r.case for r in rows if r.frames_left_out > 0.05 * r.frames_per_s * r.seconds]
    return f"This machine was too slow, frames were left out: {', '.join(slow)}." if slow else ""


def draw_latency_plot(rows: Sequence[LatencyRow], path: Path) -> None:
    """Write a PNG: the mean stages of each case, stacked, with median and p95 of the whole."""
    plots = pyplot()

    figure, axis = plots.subplots(figsize=(11, 1.6 + 0.5 * len(rows)))
    places = range(len(rows))
    start = [0.0] * len(rows)
    for name, colour in COLOURS.items():
        widths = [row.stages[name].mean_ms for row in rows]
        axis.barh(places, widths, left=start, color=colour, label=name, height=0.6)
        start = [s + w for s, w in zip(start, widths, strict=True)]
    for place, row in enumerate(rows):
        total = row.stages["total"]
        axis.plot([total.median_ms, total.p95_ms], [place] * 2, color="black", linewidth=1, marker="|")
        axis.text(
            max(start[place], total.p95_ms) + 3, place, f"{total.median_ms:.0f} ms", va="center", fontsize=8
        )
        if row.at_most_ms is not None:
            axis.plot([row.at_most_ms] * 2, (place - 0.4, place + 0.4), color="#b03030", linewidth=2)
    axis.set_yticks(list(places), [row.case for row in rows], fontsize=9)
    axis.invert_yaxis()
    axis.set_xlabel("ms, means of the stages; black: median and p95 of the whole; red: limit of the median")
    axis.legend(ncols=len(COLOURS), fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    axis.grid(visible=False, axis="y")
    figure.tight_layout()
    path.write_bytes(png(figure))


def write_latency_page(rows: Sequence[LatencyRow], skews: Sequence[SkewRow], folder: Path) -> None:
    """Write latency.html, with the plot that is already in the folder."""
    page = ReportPage(TITLE, SUBTITLE)
    page.text(
        "A real call of this machine with itself, one face one way, tracked live. All stamps are the call's own, on one "
        "clock. For each picture the frame is followed that it is drawn towards; the stages of a picture add up to "
        "its latency, and so do their means. Not in it: the camera's exposure before the stamp, the display after it."
    )
    page.points([f"{name}: {meaning}" for name, meaning in MEANINGS.items()])
    slow = left_out_note(rows)
    if slow:
        page.text(slow)
    page.figure(folder / "latency.png", "Means by stage")
    for heading, value in (("Means", "mean_ms"), ("Medians", "median_ms"), ("95 of 100 are below", "p95_ms")):
        page.table(
            ["case", *STAGES, "all", "limit of the median", "pictures", "run again"],
            [
                [
                    row.case,
                    *(getattr(row.stages[name], value) for name in (*STAGES, "total")),
                    row.at_most_ms,
                    row.pictures,
                    Code(f'mien bench latency --case "{row.case}" --seconds {row.seconds:g}'),
                ]
                for row in rows
            ],
            f"{heading}, ms",
            decimals=1,
        )
    if skews:
        page.heading(SKEW_TITLE)
        page.text(
            "How much later a tone is seen, as a jaw that opens, than heard. Computed: the same code without sockets and "
            "clocks, over a path with 30 ms of delay and this jitter. In a call: over loopback through a relay that adds "
            "them, the picture tracked live, on the audio carrier. A picture counts as seen in the middle of its time. The "
            "face's age is without the path's delay, and where it is computed without tracking, coding and drawing."
        )
        page.table(SKEW_HEADINGS, [_skew_cells(row) for row in skews], "ms", decimals=1)
    page.text(", ".join(f"{name} {value}" for name, value in provenance().items()))
    page.write(folder / "latency.html")


def _skew_cells(row: SkewRow) -> list[Cell]:
    skews: list[Cell] = [row.tones, row.median_ms, row.worst_ms, row.at_most_ms]
    return [row.how, row.carrier, row.frame_ms, row.jitter_ms, *skews, row.face_ms]


def _style(kept: bool | None) -> str:
    return "red" if kept is False else ""
