"""The report of `mien bench rate`: tables for a terminal, plots as PNG, and one page with all of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from mien.bench.provenance import provenance
from mien.bench.rate_carriers import DATACHANNEL
from mien.bench.rate_modes import RateResult, StateCheck
from mien.bench.rate_plots import NAMES, clips_plot, error_plot
from mien.bench.rate_rivals import UNCODED, RivalResult
from mien.bench.rate_summary import ERRORS, Results, of_codes, of_modes, of_rivals, parity
from mien.bench.report_page import Cell, Code, ReportPage
from mien.bench.rivals_rtp import RTCP_KBPS
from mien.protocol.quantizer import Quality

METHOD: Final = (
    (
        "Enrolled on the first 60 % of each clip, measured on the last 40 %. Errors are mean 2-D distances of "
        "landmarks in percent of the distance between the pupils; medians over clips."
    ),
    (
        "Wire is one way and counts every header: 93 bytes a message on the data channel (IPv4, UDP, DTLS, SCTP); on the "
        "audio carrier what the voice's packet grows by; for video IPv4 and UDP 28, RTP 12, SRTP 10 and the payload "
        f"descriptor for each packet of at most 1200 bytes. RTCP ({RTCP_KBPS:.2f} kbps for video), STUN and SACKs are a "
        "whole call's and not in it."
    ),
    (
        "Our error is that of the decoded landmarks themselves. A video codec's is measured by tracking its decoded "
        "pictures as a camera is tracked, over the frames in which a face was found (their share: found). The dotted "
        "line shows what scaling and tracking again cost where nothing is coded."
    ),
    (
        "mien shows an avatar, video shows the camera's picture: equal landmark error says that both move alike, not that "
        "they look alike. `mien bench picture` compares the pictures."
    ),
)
Command = Callable[..., str]


def medians_table(results: Results) -> Table:
    """Return the medians of everything that was measured, for a terminal."""
    table = Table(title=f"Median over {_clip_count(results)} clips (errors: % of the inter-pupil distance)")
    for heading in ("code", "payload kbps", "wire kbps", "all", "mouth", "eyes", "found"):
        left = heading == "code"
        table.add_column(heading, justify="left" if left else "right", no_wrap=left)
    sections = (
        [(f"mien {r['quality']}, {r['carrier']}", r) for r in of_modes(results.modes)],
        [(r["code"], r) for r in of_codes(results.codes)],
        [(_rival_name(r), r) for r in of_rivals(results.rivals)],
    )
    for rows in sections:
        for name, row in rows:
            errors = (f"{row[e]:.2f}" if e in row else "" for e in ERRORS)
            found = f"{row['found']:.3f}" if "found" in row else ""
            rates = (f"{row[r]:.2f}" if row[r] else "" for r in ("payload_kbps", "wire_kbps"))
            table.add_row(name, *rates, *errors, found)
        table.add_section()
    return table


def clips_table(results: Sequence[RateResult]) -> Table:
    """Return each clip on the data channel, for a terminal."""
    table = Table(title="Clip by clip on the data channel")
    for heading in (
        "clip",
        "quality",
        "frames",
        "payload kbps",
        "wire kbps",
        "coding",
        "total",
        "mouth",
        "eyes",
    ):
        table.add_column(heading, justify="left" if heading in ("clip", "quality") else "right")
    for r in results:
        if r.carrier == DATACHANNEL.name:
            table.add_row(r.clip, r.quality, str(r.frames), f"{r.payload_kbps:.2f}", f"{r.wire_kbps:.2f}",
                          f"{r.coding_nme:.2f}", f"{r.total_nme:.2f}", f"{r.mouth_nme:.2f}", f"{r.eyes_nme:.2f}")  # fmt: skip
    return table


def check_line(modes: Sequence[RateResult], checks: Sequence[StateCheck]) -> str:
    """Say whether both sides held the same state, in one line."""
    messages = sum(r.messages for r in modes) + sum(c.messages for c in checks)
    wrong = sum(r.mismatches for r in modes) + sum(c.mismatches for c in checks)
    lost = sum(c.lost for c in checks)
    return (
        f"state checksum of sender and receiver: {wrong} mismatches after {messages} messages "
        f"({sum(c.messages for c in checks)} of them while {lost} others got lost)"
    )


def parity_rows(results: Results) -> tuple[list[str], list[list[Cell]]]:
    """Return headings and rows: the wire rate at which each rival's error falls to that of our `normal`."""
    ours = next(
        (r for r in of_modes(results.modes) if r["quality"] == Quality.NORMAL.name.lower()),
        None,
    )
    if ours is None or not results.rivals:
        return [], []
    medians = of_rivals(results.rivals)
    columns = {e: parity(medians, e, ours[e]) for e in ERRORS}
    rows: list[list[Cell]] = [
        [rival, *(str(columns[e].get(rival, "")) for e in ERRORS)] for rival in columns[ERRORS[0]]
    ]
    rows.insert(0, ["mien normal", *([f"{ours['wire_kbps']:.1f}"] * len(ERRORS))])
    return ["wire kbps for our error", *(f"{NAMES[e]} ({ours[e]:.2f} %)" for e in ERRORS)], rows


def write_report(
    folder: Path, results: Results, checks: Sequence[StateCheck], sentences: Sequence[str], command: Command
) -> list[Path]:
    """Write the plots and the page; return their paths. `command` gives a command line for its options."""
    plots = _plots(results)
    for name, (data, _) in plots.items():
        (folder / name).write_bytes(data)
    page = ReportPage(
        "Rate against error", "What a face costs on the wire, beside plain codes and video codecs"
    )
    page.command(command())
    page.text(*METHOD)
    page.heading("Rate against error")
    for data, caption in plots.values():
        page.figure(data, caption)
    _summary_parts(page, results, command)
    page.heading("Both sides hold the same state")
    page.text(check_line(results.modes, checks) + ".")
    if sentences:
        page.heading("What a frame and a call cost")
        page.points(sentences)
    _clip_parts(page, results, command)
    page.heading("Versions")
    page.text(", ".join(f"{name} {version}" for name, version in provenance().items()))
    page.write(folder / "rate.html")
    return [*(folder / name for name in plots), folder / "rate.html"]


def _plots(results: Results) -> dict[str, tuple[bytes, str]]:
    modes, codes, rivals = of_modes(results.modes), of_codes(results.codes), of_rivals(results.rivals)
    out = {
        "rate.png": (error_plot(modes, codes, rivals, "total_nme"), "All landmarks. Hollow: faces lost."),
        "rate_mouth.png": (error_plot(modes, codes, rivals, "mouth_nme"), "Mouth. Hollow: faces lost."),
        "rate_eyes.png": (error_plot(modes, codes, rivals, "eyes_nme"), "Eyes. Hollow: faces lost."),
    }
    if any(r["effort"] == "best" for r in rivals):
        data = error_plot(modes, codes, rivals, "total_nme", effort="best")
        out["rate_best_effort.png"] = data, "Beside encoders that see the whole clip and take their time."
    out["rate_clips.png"] = (
        clips_plot(results.modes),
        "Each clip on the data channel; the dashed box is the target of quality normal.",
    )
    return out


def _summary_parts(page: ReportPage, results: Results, command: Command) -> None:
    page.heading("Medians: mien")
    modes = of_modes(results.modes)
    page.table(
        ["quality", "carrier", "payload kbps", "wire kbps", "oldest frame ms", *NAMES.values(), "coding",
         "worst clip"],
        [[r["quality"], r["carrier"], r["payload_kbps"], r["wire_kbps"], round(r["age_ms"]),
          *(r[e] for e in ERRORS), r["coding_nme"], r["total_nme_max"]] for r in modes],
        f"{modes[0]['clips']} clips. Oldest frame: how long a message's first frame has waited when it leaves.",
        sections=range(3, len(modes), 3),
    )  # fmt: skip
    page.heading("Medians: plain codes of the same coefficients, data channel")
    page.table(
        ["code", "payload kbps", "wire kbps", *NAMES.values()],
        [[r["code"], r["payload_kbps"], r["wire_kbps"], *(r[e] for e in ERRORS)]
         for r in of_codes(results.codes)],
    )  # fmt: skip
    for effort, title in (("realtime", "real-time video"), ("best", "video at best effort")):
        rows = [r for r in of_rivals(results.rivals) if r["effort"] == effort]
        if rows:
            page.heading(f"Medians: {title}")
            if effort == "realtime":
                rows = [r for r in of_rivals(results.rivals) if r["family"] == UNCODED] + rows
            page.table(
                ["codec", "asked kbps", "payload kbps", "wire kbps", *NAMES.values(), "found", "missed rate",
                 "again"],
                [[r["rival"], r["target_kbps"] or None, r["payload_kbps"] or None, r["wire_kbps"] or None,
                  *(r.get(e) for e in ERRORS), f"{r['found']:.3f}", f"{r['missed']} of {r['clips']}",
                  Code(_rival_command(command, r)) if r["target_kbps"] else None] for r in rows],
                "Missed rate: clips on which the encoder gave more than 15 % more or less than was asked for.",
                sections=[n for n in range(1, len(rows)) if rows[n]["rival"] != rows[n - 1]["rival"]],
            )  # fmt: skip
    headings, parity_cells = parity_rows(results)
    if parity_cells:
        page.heading("Video at our error")
        page.table(
            headings,
            parity_cells,
            "Wire kbps at which the median error falls to that of normal; >: not at the highest that was tried.",
        )


def _clip_parts(page: ReportPage, results: Results, command: Command) -> None:
    page.heading("Clip by clip")
    page.table(
        ["clip", "quality", "carrier", "frames", "payload kbps", "wire kbps", "coding", *NAMES.values(), "again"],
        [[r.clip, r.quality, r.carrier, r.frames, r.payload_kbps, r.wire_kbps, r.coding_nme, r.total_nme, r.mouth_nme,
          r.eyes_nme, Code(command(only=r.clip, rivals="none"))] for r in results.modes],
        "mien", folded=True,
    )  # fmt: skip
    page.table(
        ["clip", "code", "payload kbps", "wire kbps", *NAMES.values(), "again"],
        [[r.clip, r.code, r.payload_kbps, r.wire_kbps, r.total_nme, r.mouth_nme, r.eyes_nme,
          Code(command(only=r.clip, rivals="none"))] for r in results.codes],
        "plain codes", folded=True,
    )  # fmt: skip
    if results.rivals:
        page.table(
            ["clip", "codec", "asked kbps", "payload kbps", "wire kbps", *NAMES.values(), "found", "note", "again"],
            [[r.clip, r.rival, r.target_kbps or None, r.payload_kbps or None, r.wire_kbps or None, r.total_nme,
              r.mouth_nme, r.eyes_nme, f"{r.found:.3f}", r.note, _again(command, r)] for r in results.rivals],
            "video codecs", folded=True,
        )  # fmt: skip


def _again(command: Command, r: RivalResult) -> Cell:
    if r.family == UNCODED:
        return None
    return Code(command(only=r.clip, rivals=r.rival, rates=f"{r.target_kbps:g}"))


def _rival_command(command: Command, row: dict[str, Any]) -> str:
    return command(rivals=row["rival"], rates=f"{row['target_kbps']:g}")


def _rival_name(row: dict[str, Any]) -> str:
    return f"{row['rival']}, asked {row['target_kbps']:g}" if row["target_kbps"] else str(row["rival"])


def _clip_count(results: Results) -> int:
    return len({r.clip for r in results.modes})
