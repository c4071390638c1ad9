"""What `mien bench call` shows: a table, a plot of stacked bars, a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mien.bench.call_cases import Voice
from mien.bench.call_rows import MISSING, Measured, Verdict, shown_rows
from mien.bench.plot_style import png, pyplot
from mien.bench.provenance import provenance
from mien.bench.report_page import Code, ReportPage
from mien.call.wire_tariff import ASSUMPTIONS

TITLE: Final = "What a whole call costs"
SUBTITLE: Final = "kbps on the wire, sent by one side, all headers counted"
COLOURS: Final = {
    "voice": "#1f6f8b",
    "face": "#d98c21",
    "scene": "#c05a7a",
    "sack": "#5b3a8c",
    "stun": "#7a8b1f",
    "rtcp": "#8b4a1f",
    "control": "#4a6fa5",
    "other": "#9aa5b1",
}
SELDOM: Final = ("scene", "other")  # they are shown where there is any of them
ROLES: Final = {Voice.SPEECH.value: "speaker", Voice.LISTENS.value: "listener"}
NAMES: Final = {
    "total_kbps": "all",
    "on_top_kbps": "on top",
    "forward_kbps": "face + STUN",
    "sack_kbps": "SACK",
    "extra_packets_per_s": "own packets/s",
}


def call_tables(rows: Sequence[Measured]) -> tuple[Table, Table]:
    """Return two tables for a terminal of 110 columns: the figures, and what came of the limits."""
    table = Table(title=f"{TITLE}: {SUBTITLE}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("case", no_wrap=True)
    causes = [n for n in COLOURS if n not in SELDOM or any(getattr(row, f"{n}_kbps") for row in rows)]
    for name in (*causes, "all", "on top", "pkts/s", "capture"):
        table.add_column(name, justify="right")
    limits = Table(title="limits, kbps unless it says otherwise", title_justify="left", box=SIMPLE_HEAD)
    for name in ("case", "what", "measured", "limit"):
        limits.add_column(name, justify="right" if name in ("measured", "limit") else "left")
    for row in shown_rows(list(rows)):
        cells = [f"{getattr(row, f'{name}_kbps'):.2f}" for name in causes]
        cells += [f"{row.total_kbps:.2f}", _optional(row.on_top_kbps, "{:+.2f}"), f"{row.packets_per_s:.1f}"]
        table.add_row(title_of(row), *cells, _optional(row.capture_percent, "{:+.2f}%"))
        for v in row.verdicts:
            style = "" if v.kept else "red"
            limits.add_row(title_of(row), NAMES[v.what], f"{v.value:.2f}", f"{v.at_most:g}", style=style)
    return table, limits


def title_of(row: Measured) -> str:
    """Return what to call a row: the case, and the side where the two differ."""
    return row.case if row.both_alike else f"{row.case}, {ROLES.get(row.voice, row.voice)}"


def limits_text(verdicts: Sequence[Verdict]) -> str:
    """Return each limit with what came of it."""
    return ", ".join(
        f"{NAMES[v.what]} {v.value:.2f} {'<=' if v.kept else '>'} {v.at_most:g}" for v in verdicts
    )


def astray_note(rows: Sequence[Measured]) -> str:
    """Return a warning where a face took another carrier than the one that was asked for, or nothing."""
    astray = [f"{title_of(r)} {r.astray_share:.0%}" for r in rows if r.astray_share > MISSING]
    return f"Messages took another carrier than they should have: {', '.join(astray)}." if astray else ""


def left_out_note(rows: Sequence[Measured]) -> str:
    """Return a warning where this machine was too slow for the calls, or nothing."""
    slow = [r for r in rows if r.lacks]
    if not slow:
        return ""
    return (
        f"This machine was too slow in {len(slow)} of {len(rows)} rows: more than 5 % of the frames or of the packets of "
        "voice are missing, so that they cost less than they should. Give --at-once 1."
    )


def draw_call_plot(rows: Sequence[Measured], path: Path) -> None:
    """Write a PNG: what each case costs, stacked by cause, and its limit."""
    plots = pyplot()

    shown = shown_rows(list(rows))
    figure, axis = plots.subplots(figsize=(11, 1.6 + 0.36 * len(shown)))
    places = range(len(shown))
    start = [0.0] * len(shown)
    for name, colour in COLOURS.items():
        widths = [getattr(row, f"{name}_kbps") for row in shown]
        axis.barh(places, widths, left=start, color=colour, label=name, height=0.7)
        start = [s + w for s, w in zip(start, widths, strict=True)]
    for place, row in enumerate(shown):
        axis.text(start[place] + 0.2, place, f"{start[place]:.1f}", va="center", fontsize=8)
        for verdict in row.verdicts:
            if verdict.what == "total_kbps":
                ends = (place - 0.42, place + 0.42)
                axis.plot([verdict.at_most] * 2, ends, color="#b03030", linewidth=2)
    axis.set_yticks(list(places), [title_of(row) for row in shown], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("kbps on the wire, one way; red: the limit of the whole")
    axis.legend(ncols=len(COLOURS), fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    axis.grid(visible=False, axis="y")
    figure.tight_layout()
    path.write_bytes(png(figure))


def write_call_page(rows: Sequence[Measured], folder: Path, note: str) -> None:
    """Write call.html, with the plot that is already in the folder."""
    page = ReportPage(TITLE, SUBTITLE)
    page.text(
        "Each call is real: two peers in one process, ICE, DTLS, SRTP and SCTP over loopback. The face was tracked "
        "before and is played into the calls. What is shown is the steady part of one side, the dearer one where "
        "both do the same; connecting and the avatar's transfer come before it.",
        note,
        f"IPv6 and TURN are computed. {ASSUMPTIONS}.",
    )
    page.text(*filter(None, (left_out_note(rows), astray_note(rows))))
    page.figure(folder / "call.png", "By cause")
    headings = ["case", *COLOURS, "all", "on top of the same call without faces", "payload", "packets/s"]
    headings += ["own packets/s", "IPv6", "TURN", "meter against capture, %", "limits", "run again"]
    page.table(
        headings,
        [
            [
                title_of(row),
                *(getattr(row, f"{name}_kbps") for name in COLOURS),
                row.total_kbps,
                row.on_top_kbps,
                row.payload_kbps,
                row.packets_per_s,
                row.extra_packets_per_s,
                row.ipv6_kbps,
                row.turn_kbps,
                row.capture_percent,
                limits_text(row.verdicts),
                Code(f'mien bench call --case "{row.case}" --seconds {row.seconds:.0f}'),
            ]
            for row in shown_rows(list(rows))
        ],
        "kbps unless it says otherwise",
    )
    page.text(", ".join(f"{name} {value}" for name, value in provenance().items()))
    page.write(folder / "call.html")


def _optional(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
