"""The page of `mien bench picture`: tables, rate-quality plots, and pictures and films side by side."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from mien.bench.contact_sheet import SideBySide
from mien.bench.picture_clip import EQUAL, ORIGINAL, film_path
from mien.bench.picture_rows import Row, Variant
from mien.bench.picture_summary import (
    ANCHOR,
    METRICS,
    PARITY_METRICS,
    Coder,
    bd_rates,
    best_of,
    by_variant,
    medians,
    parities,
)
from mien.bench.plot_style import COLOURS, MARKERS, png, pyplot
from mien.bench.provenance import provenance
from mien.bench.report_page import Best, Cell, PictureRow, ReportPage
from mien.decoder.output import VideoSink

PLOTTED: Final = ("akd", "mouth", "blendshapes", "jaw_corr", "face_ssim", "ssim", "gmsd", "face_edge")
TICKS_KBPS: Final = (5, 10, 20, 50, 100)
STRIP_PX: Final = {256: 200, 512: 300}


def write_report(rows: Sequence[Row], out: Path) -> Path:
    """Write `index.html` into `out`; return the page. Raises `MienError` without matplotlib."""
    page = ReportPage(
        "Pictures", "the avatar and video codecs against the original, and what each costs on the wire"
    )
    introduce(page, rows)
    for size in sorted({row.variant.size_px for row in rows}):
        some = [row for row in rows if row.variant.size_px == size]
        page.heading(f"{size} x {size}")
        add_medians(page, some)
        page.figure(
            plots(some), "Medians over clips. Full: real-time; dashed: best effort; alone: as W's wire rate"
        )
        add_parity(page, some)
        add_bd_rates(page, some)
    page.heading("Side by side")
    page.text(
        "The original, the avatar, video that gets no more of the wire than the avatar (at about 5 frames per "
        "second: at the source's rate headers alone would take more), and every codec at its lowest rate."
    )
    for clip in sorted({row.clip for row in rows}):
        add_side_by_side(page, [row for row in rows if row.clip == clip], out)
    target = out / "index.html"
    page.write(target)
    return target


def introduce(page: ReportPage, rows: Sequence[Row]) -> None:
    """Say what was measured and how."""
    page.text(
        f"{len({row.clip for row in rows})} clips: the first 60 % of each is enrolled, the rest coded, drawn (or, for "
        "video, coded and decoded) and compared with the original. Tracking, metrics and rates are of that part.",
        "Wire kbps count every byte of one direction: a data-channel message of the avatar (W) has 93 bytes of "
        "headers over IPv4, an RTP packet of video 50 and its payload descriptor. Left out on both sides: "
        f"acknowledgements, STUN, RTCP. Before, once, an avatar was sent: {avatar_size(rows)}.",
        "Real-time: no lookahead, one key frame, a buffer of two seconds. Best effort: slow presets and lookahead.",
        f"Sampling: {rows[0].sampling}. Made with "
        + ", ".join(f"{name} {value}" for name, value in provenance().items())
        + ".",
    )
    used = [name for name in METRICS if any(name in row.figures for row in rows)]
    page.table(
        ["figure", "is"], [[name, METRICS[name]] for name in used], "What the figures are", folded=True
    )


def add_medians(page: ReportPage, rows: Sequence[Row]) -> None:
    """Add the medians over clips, the best of each column marked."""
    names = [n for n in METRICS if any(n in row.figures for row in rows)]
    groups = [(variant, len(some), medians(some)) for variant, some in by_variant(rows).items()]
    best = {name: best_of([found.get(name) for _, _, found in groups], name) for name in names}
    lines: list[list[Cell]] = []
    for at, (variant, count, found) in enumerate(groups):
        line: list[Cell] = [Best(title_of(variant)) if variant.is_ours else title_of(variant), count]
        line.append(round(found["wire_kbps"], 1))
        for name in names:
            value = found.get(name)
            line.append(Best(value) if value is not None and best[name] == at else value)
        lines.append(line)
    heads = ["pictures", "clips", "wire kbps", *(n.replace("_", " ") for n in names)]
    page.table(heads, lines, "Medians over clips", decimals=3)


def add_parity(page: ReportPage, rows: Sequence[Row]) -> None:
    """Add what video needs on the wire for our scores."""
    for ours in (v for v in by_variant(rows) if v.is_ours):
        found = {name: parities(rows, name, ours) for name in PARITY_METRICS}
        coders = sorted({c for each in found.values() for c in each if c[2] != EQUAL})
        lines: list[list[Cell]] = [
            [coder_title(c), *(p.text if (p := found[n].get(c)) else "" for n in PARITY_METRICS)]
            for c in coders
        ]
        if lines:
            page.table(
                ["wire kbps of", *(n.replace("_", " ") for n in PARITY_METRICS)],
                lines,
                f"Parity: what video needs to score as {title_of(ours)} (median over clips; > 93: it never does, "
                "up to 93 kbps; < 20: its lowest rate is better already)",
            )


def add_bd_rates(page: ReportPage, rows: Sequence[Row]) -> None:
    """Add the mean rate differences."""
    found = {name: bd_rates(rows, name) for name in PARITY_METRICS}
    coders = sorted({c for each in found.values() for c in each if c[2] != EQUAL})
    lines: list[list[Cell]] = [
        [coder_title(c), *("" if (v := found[n].get(c)) is None else f"{v:+.0f} %" for n in PARITY_METRICS)]
        for c in coders
    ]
    if lines:
        page.table(
            ["BD-rate of", *(n.replace("_", " ") for n in PARITY_METRICS)],
            lines,
            f"Wire rate against {ANCHOR} of the same mode for the same score, mean over the scores that both reach "
            "(empty: none; the avatar's needs several --quality)",
            folded=True,
        )


def title_of(variant: Variant) -> str:
    """Return what a reader calls a variant."""
    if variant.is_ours:
        scene = f", scene {variant.target_kbps:g} kbps" if variant.target_kbps else ""
        return f"{variant.coder}, quality {variant.mode}{scene}"
    if variant.mode == EQUAL:
        return f"{variant.coder}, wire as W"
    return f"{variant.coder} {variant.mode} {variant.target_kbps:g}"


def coder_title(coder: Coder) -> str:
    """Return what a reader calls a coder."""
    return " ".join(part for part in coder[1:] if part)


def avatar_size(rows: Sequence[Row]) -> str:
    """Return the median size of the avatars."""
    sizes = [row.extra["avatar_bytes"] for row in rows if "avatar_bytes" in row.extra]
    return f"{np.median(sizes) / 1000:.0f} kB (median)" if sizes else "of unknown size"


# --- Plots ----------------------------------------------------------------------------------------------------


def plots(rows: Sequence[Row]) -> bytes:
    """Draw the rate-quality plots."""
    names = [n for n in PLOTTED if any(n in row.figures for row in rows)]
    figure, axes = pyplot().subplots(2, (len(names) + 1) // 2, figsize=(15, 7), squeeze=False)
    groups = [(variant, medians(some)) for variant, some in by_variant(rows).items()]
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names, strict=False):
        plot(axis, groups, name)
    axes.flat[0].legend(fontsize=9)
    figure.tight_layout()
    return png(figure)


def plot(axis: Any, groups: Sequence[tuple[Variant, dict[str, float]]], metric: str) -> None:
    """Draw one metric: a curve for each coder and mode."""
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for variant, found in groups:
        if metric in found:
            key = variant.coder, "" if variant.is_ours else variant.mode
            lines.setdefault(key, []).append((found["wire_kbps"], found[metric]))
    for (coder, mode), points in lines.items():
        x, y = zip(*sorted(points), strict=True)
        ours = not mode
        axis.plot(
            x, y, {"": "-", "realtime": "-", "best": "--", EQUAL: ""}[mode],
            marker="*" if ours else MARKERS.get(coder, "o"), markersize=13 if ours else 4,
            color=COLOURS["mien"] if ours else COLOURS.get(coder, "0.4"), zorder=3 if ours else 2,
            label=(f"mien, tier {coder}" if ours else coder) if mode in ("", "realtime") else None,
        )  # fmt: skip
    axis.set(xlabel="wire kbps", title=metric.replace("_", " "), xscale="log")
    axis.set_xticks(TICKS_KBPS, [str(t) for t in TICKS_KBPS])
    axis.minorticks_off()


# --- Pictures -------------------------------------------------------------------------------------------------


def add_side_by_side(page: ReportPage, rows: Sequence[Row], out: Path) -> None:
    """Add a clip's frames and a film at each size, where they were kept."""
    clip = rows[0].clip
    folder = out / "pictures" / clip
    for size in sorted({row.variant.size_px for row in rows}, reverse=True):
        some = [row for row in rows if row.variant.size_px == size]
        originals = sorted(folder.glob(f"{size}-{ORIGINAL}-*.webp"))
        shown = [row for row in chosen_rows(some) if any(folder.glob(f"{row.variant.text}-*.webp"))]
        if not shown or not originals:
            continue
        moments = [path.stem.rsplit("-", 1)[1] for path in originals]
        strips = [PictureRow("original", [("", path.read_bytes()) for path in originals])]
        for row in shown:
            paths = [folder / f"{row.variant.text}-{moment}.webp" for moment in moments]
            pictures = [("", path.read_bytes()) for path in paths if path.exists()]
            strips.append(PictureRow(caption(row), pictures))
        page.strip(strips, f"{clip}, {size} px", width_px=STRIP_PX.get(size, size))
        if film := joint_film(out, clip, size, shown):
            page.clip(film, f"{clip}, {size} px: a film", folded=True)


def chosen_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of a clip whose pictures are shown: ours, video at our rate, and each rival at its lowest."""
    ours = [row for row in rows if row.variant.is_ours and row.variant.mode == "normal"]
    equal = [row for row in rows if row.variant.mode == EQUAL]
    rest: dict[str, Row] = {}
    for row in sorted(rows, key=lambda r: r.wire_kbps):
        if row.variant.mode == "realtime":
            rest.setdefault(row.variant.coder, row)
    return [*ours, *equal, *rest.values()]


def caption(row: Row) -> str:
    """Return what stands beside a picture."""
    akd = f", AKD {row.figures['akd']:.2f}" if "akd" in row.figures else ", no face found"
    fps = f" at {row.extra['fps']:g} fps" if "fps" in row.extra else ""
    return f"{row.variant.coder}{fps}: {row.wire_kbps:.1f} kbps{akd}"


def joint_film(out: Path, clip: str, size: int, shown: Sequence[Row]) -> Path | None:
    """Write the original, ours and video at our rate beside each other as one MP4; return where."""
    ours = [row for row in shown if row.variant.is_ours][:1]
    rows = ours + [row for row in shown if row.variant.mode == EQUAL][:1]
    paths = [film_path(out, clip, name) for name in (f"{size}-{ORIGINAL}", *(r.variant.text for r in rows))]
    if len(rows) < 1 or not all(path.exists() for path in paths):
        return None
    target = out / "pictures" / clip / f"{size}-side-by-side.mp4"
    canvas = SideBySide(["original", *map(caption, rows)], picture_width=size, picture_height=size)
    films = [read_film(path) for path in paths]
    with VideoSink(target, width=canvas.width, height=canvas.height, rate=films[0][0]) as sink:
        for pictures in zip(*(frames for _, frames in films), strict=False):
            sink.write(canvas.compose(pictures, ""))
    return target


def read_film(path: Path) -> tuple[Fraction, list[NDArray[np.uint8]]]:
    """Return a film's rate and pictures."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = Fraction(stream.average_rate or 25)
        return rate, [np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in container.decode(stream)]
