"""The page of `mien bench picture`: tables, rate-quality plots, and pictures and films side by side."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from mien.bench.contact_sheet import SideBySide
from mien.bench.picture_clip import ORIGINAL, film_path
from mien.bench.picture_parity import direction
from mien.bench.picture_rows import BARE, EQUAL, OURS, OURS_GENERATED, TIERS, Row, Variant
from mien.bench.picture_summary import (
    ANCHOR,
    BD_METRICS,
    DECIMALS,
    METRICS,
    PARITY_METRICS,
    Coder,
    bd_rates,
    best_of,
    by_variant,
    medians,
    parities,
)
from mien.bench.picture_tiers import aims_of, pairs_of_tiers, steps
from mien.bench.plot_style import COLOURS, MARKERS, png, pyplot
from mien.bench.provenance import provenance
from mien.bench.report_page import Best, Cell, Number, PictureRow, ReportPage
from mien.decoder.output import VideoSink

PLOTTED: Final = (
    "akd", "mouth", "blendshapes", "pose_deg", "jaw_corr", "blink_corr", "gaze", "face_edge", "face_ssim", "bare_ssim",
    "bare_gmsd", "bare_ssimulacra2",
)  # fmt: skip
# Of the tracked face and of time; the other figures compare pixels.
OF_MOTION: Final = (
    "found", "akd", "mouth", "eyes", "blendshapes", "pose_deg", "gaze", "jaw_corr", "blink_corr", "identity", "flicker",
)  # fmt: skip
RATES: Final = ("wire_kbps", "audio_wire_kbps")
ACROSS: Final = 4  # plots in a row
FILMS_ACROSS: Final = 4
TICKS_KBPS: Final = (2, 5, 10, 20, 50, 100)
STRIP_PX: Final = {256: 190, 512: 230}


def write_report(rows: Sequence[Row], out: Path) -> Path:
    """Write `index.html` into `out`, and its plots as files; return the page. Raises `MienError` without matplotlib."""
    page = ReportPage(
        "Pictures", "the avatar and video codecs against the original, and what each costs on the wire"
    )
    introduce(page, rows)
    add_glance(page, rows, out)
    for size in sorted({row.variant.size_px for row in rows}):
        some = [row for row in rows if row.variant.size_px == size]
        page.heading(f"{size} x {size}")
        add_tiers(page, some)
        add_medians(page, some, "realtime", "Medians over clips; video in real time")
        if any(row.variant.mode == "best" for row in some):
            add_medians(page, some, "best", "Medians over clips; video at its best effort, which no call has")
        drawn = plots(some)
        (out / f"rates-{size}.png").write_bytes(drawn)
        page.figure(
            drawn,
            "Medians over clips. Our tiers: full, on the data channel; hollow, in the packets of a voice. Video: full, in "
            "real time; dashed, best effort; hollow, as much of the wire as ours",
        )
        add_parity(page, some)
        add_bd_rates(page, some)
        add_clips(page, some)
    page.heading("Side by side")
    page.text(
        "The original, our tiers, video that gets no more of the wire than ours (at few frames a second: at the "
        "source's rate headers alone would take more), and every codec at its lowest rate."
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
        "Tiers: W moves the avatar's pictures by the coefficients alone; W+scene has the scene layer, a tiny video of what "
        "is not the face, painted without weights; S has the same layer, painted by the generator.",
    )
    page.details(
        "How it was measured",
        "Wire kbps count every byte of one direction, headers over IPv4 included, as a call sends it: on the data channel "
        "a scene's picture leaves in one message with what the face has to say by then; audio kbps are what packets of a "
        "voice grow by. A packet of video has 50 bytes of RTP, UDP and IP and its payload descriptor. Left out on both "
        "sides: acknowledgements, STUN, RTCP. Before, once, an avatar was sent: "
        f"{avatar_size(rows)}.",
        "Every picture of ours has its badge, and what the badge covers counts as missing. \u201cNo badge\u201d is the same "
        "picture before it, which nobody is shown: that is what compares with video, which has none here.",
        "Real time: no lookahead, one key frame, a buffer of two seconds. Best effort: slow presets and lookahead.",
        f"Sampling: {rows[0].sampling}. Made with "
        + ", ".join(f"{name} {value}" for name, value in provenance().items())
        + ".",
    )
    used = [name for name in METRICS if any(row.figure(name) is not None for row in rows)]
    page.table(
        ["figure", "is"],
        [[head_of(name), METRICS[name]] for name in used],
        "What the figures are",
        folded=True,
    )


def add_glance(page: ReportPage, rows: Sequence[Row], out: Path) -> None:
    """Add a film of the first clip that has one, at the largest size: what the figures below are about."""
    for size in sorted({row.variant.size_px for row in rows}, reverse=True):
        for clip in sorted({row.clip for row in rows}):
            some = [row for row in rows if (row.clip, row.variant.size_px) == (clip, size)]
            if film := joint_film(out, clip, size, chosen_rows(some)):
                text = f"{clip}, {size} px, and what each takes on the wire"
                page.clip(film, text, playing=True, poster=read_film(film, 1)[1][0])
                return


def add_tiers(page: ReportPage, rows: Sequence[Row]) -> None:
    """Add our tiers beside each other: a column each, on how many clips it beats the one below, and what is asked."""
    groups = {variant: medians(some) for variant, some in by_variant(rows).items() if variant.is_ours}
    if not groups:
        return
    wins = {
        (above, step.metric): f"{step.better}/{step.clips}"
        for below, above in pairs_of_tiers(groups)
        for step in steps(rows, below, above)
    }
    names = [n for n in (*RATES, *METRICS) if any(n in found for found in groups.values())]
    lines: list[list[Cell]] = []
    for name in names:
        line: list[Cell] = [head_of(name)]
        for variant, found in groups.items():
            beside = wins.get((variant, name), "")
            line.append(Number(found[name], digits(name), beside) if name in found else None)
        wanted = asked(groups, name)
        lines.append([*line, Best(wanted) if "missed" in wanted else wanted])
    heads = ["figure", *(title_of(variant) for variant in groups), "asked for"]
    page.table(
        heads,
        lines,
        "Our tiers, medians over clips; small: on how many clips a tier is better than the one below it",
    )


def asked(groups: Mapping[Variant, dict[str, float]], name: str) -> str:
    """Say what is asked of a figure, of which tier, and which variants do not do it."""
    said = []
    for tier in TIERS:
        some = [(v, aim) for v in groups if v.coder == tier for aim in aims_of(v) if aim.metric == name]
        if some:
            missed = [v for v, aim in some if not aim.met(groups[v].get(name, float("nan")))]
            verdict = "met" if not missed else "missed" if len(missed) == len(some) else "missed by some"
            said.append(f"{tier} {some[0][1].text}: {verdict}")
    return "; ".join(said)


def add_medians(page: ReportPage, rows: Sequence[Row], mode: str, caption: str) -> None:
    """Add the medians over clips of ours and of video in one mode, the best of each column marked.

    A figure before the badge is said of ours alone: video's is in the column beside it.
    """
    modes = (mode, EQUAL) if mode == "realtime" else (mode,)
    some = [row for row in rows if row.variant.is_ours or row.variant.mode in modes]
    groups = [(variant, each, medians(each)) for variant, each in by_variant(some).items()]
    rules = [at for at, (variant, _, _) in enumerate(groups) if at and _begins(groups[at - 1][0], variant)]
    moving = [n for n in METRICS if n in OF_MOTION]
    for part, names in (("faces", moving), ("pixels", [n for n in METRICS if n not in OF_MOTION])):
        names = [n for n in names if any(n in found for _, _, found in groups)]
        best = {name: best_of([found.get(name) for _, _, found in groups], name) for name in names}
        lines: list[list[Cell]] = []
        for at, (variant, each, found) in enumerate(groups):
            line: list[Cell] = [Best(title_of(variant)) if variant.is_ours else title_of(variant), len(each)]
            line += [Number(found[name], digits(name)) if name in found else None for name in RATES]
            for name in names:
                has = name in found and (variant.is_ours or not name.startswith(BARE))
                cell = Number(found[name], digits(name)) if has else None
                line.append(Best(cell) if cell is not None and best[name] == at else cell)
            lines.append(line)
        heads = ["pictures", "clips", *map(head_of, RATES), *map(head_of, names)]
        page.table(heads, lines, f"{caption}: {part}", sections=rules)


def _begins(before: Variant, variant: Variant) -> bool:
    """Return whether video begins after our tiers, or another codec after one."""
    return not variant.is_ours and before.coder != variant.coder


def add_clips(page: ReportPage, rows: Sequence[Row]) -> None:
    """Add our figures of each clip."""
    ours = [row for row in rows if row.variant.is_ours]
    names = [n for n in METRICS if any(n in row.figures for row in ours)]
    lines: list[list[Cell]] = [
        [
            f"{row.clip.split('_')[0]} {title_of(row.variant)}",
            Number(row.wire_kbps, 1),
            *(Number(v, digits(n)) if (v := row.figure(n)) is not None else None for n in names),
        ]
        for row in sorted(ours, key=lambda row: (row.clip, TIERS.index(row.variant.coder), row.variant))
    ]
    if lines:
        heads = ["clip", "wire kbps", *map(head_of, names)]
        page.table(heads, lines, "Our figures, clip by clip", folded=True)


def head_of(name: str) -> str:
    """Return a figure's name for a reader."""
    if name.startswith(BARE):
        return f"{name.removeprefix(BARE)}, no badge"
    return {"audio_wire_kbps": "audio kbps"}.get(name, name.replace("_", " "))


def digits(name: str) -> int:
    """Return how many decimals a figure has."""
    return DECIMALS.get(name, 2)


def add_parity(page: ReportPage, rows: Sequence[Row]) -> None:
    """Add what video needs on the wire for our scores."""
    for ours in (v for v in by_variant(rows) if v.is_ours):
        found = {name: parities(rows, name, ours) for name in PARITY_METRICS}
        coders = sorted({c for each in found.values() for c in each if c[2] != EQUAL})
        lines: list[list[Cell]] = [
            [
                coder_title(c),
                *(p.text.replace(" ", "\u00a0") if (p := found[n].get(c)) else "" for n in PARITY_METRICS),
            ]
            for c in coders
        ]
        if lines:
            page.table(
                ["wire kbps of", *map(head_of, PARITY_METRICS)],
                lines,
                f"Parity: what video needs to score as {title_of(ours)} (median over clips; > 93: it does not up to 93 kbps; "
                "< 20: its lowest rate, 20, is better already)",
                folded=ours.coder != OURS_GENERATED,
            )


def add_bd_rates(page: ReportPage, rows: Sequence[Row]) -> None:
    """Add the mean rate differences."""
    found = {name: bd_rates(rows, name) for name in BD_METRICS}
    coders = sorted({c for each in found.values() for c in each if c[2] != EQUAL})
    lines: list[list[Cell]] = [
        [coder_title(c), *("" if (v := found[n].get(c)) is None else f"{v:+.0f} %" for n in BD_METRICS)]
        for c in coders
    ]
    if lines:
        page.table(
            ["BD-rate of", *map(head_of, BD_METRICS)],
            lines,
            f"Wire rate against {ANCHOR} of the same mode for the same score, mean over the scores that both reach "
            "(empty: none; the avatar's needs several --quality)",
            folded=True,
        )


def title_of(variant: Variant) -> str:
    """Return what a reader calls a variant."""
    if variant.is_ours:
        scene = f" {variant.target_kbps:g} kbps" if variant.target_kbps else ""
        return f"{variant.coder}{scene}" + (f", quality {variant.mode}" if variant.mode != "normal" else "")
    if variant.mode == EQUAL:
        return f"{variant.coder}, wire as {equal_to(variant)}"
    return f"{variant.coder} {variant.mode} {variant.target_kbps:g}"


def equal_to(variant: Variant) -> str:
    """Return whose rate a rival of mode "equal" has."""
    return OURS_GENERATED if variant.target_kbps else OURS


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
    names = [n for n in PLOTTED if any(row.figure(n) is not None for row in rows)]
    height = -(-len(names) // ACROSS)
    figure, axes = pyplot().subplots(height, ACROSS, figsize=(15, 3.4 * height + 0.6), squeeze=False)
    groups = [(variant, medians(some)) for variant, some in by_variant(rows).items()]
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names, strict=False):
        plot(axis, groups, name)
    for axis in axes[-1]:
        axis.set_xlabel("wire kbps")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False, fontsize=10)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / (3.4 * height + 0.6)))
    return png(figure)


def plot(axis: Any, groups: Sequence[tuple[Variant, dict[str, float]]], metric: str) -> None:
    """Draw one metric: a curve for each coder and mode, arrows up where more is better."""
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for variant, found in groups:
        if metric in found:
            key = variant.coder, "" if variant.is_ours else variant.mode
            lines.setdefault(key, []).append((found["wire_kbps"], found[metric]))
            if variant.is_ours and "audio_wire_kbps" in found:
                colour = COLOURS[f"tier {variant.coder}"]
                at = found["audio_wire_kbps"], found[metric]
                axis.plot(*at, "*", markersize=13, color=colour, markerfacecolor="none", zorder=3)
    for (coder, mode), points in lines.items():
        x, y = zip(*sorted(points), strict=True)
        ours = not mode
        axis.plot(
            x, y, linestyle={"": "-", "realtime": "-", "best": "--", EQUAL: "none"}[mode],
            markerfacecolor="none" if mode == EQUAL else None, marker="*" if ours else MARKERS.get(coder, "o"), markersize=13 if ours else 4,
            color=COLOURS[f"tier {coder}"] if ours else COLOURS.get(coder, "0.4"), zorder=3 if ours else 2,
            label=(f"mien {coder}" if ours else coder) if mode in ("", "realtime") else None,
        )  # fmt: skip
    better = {1: " \u2191", -1: " \u2193", 0: ""}[direction(metric)]
    axis.set(title=head_of(metric) + better, xscale="log")
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
        first = [row for row in shown if row.variant.is_ours or row.variant.coder == ANCHOR]
        rest = [row for row in shown if row not in first]
        for some, folded in ((first, False), (rest, True)):
            strips = [
                moment_strip(folder, path, moment, some)
                for path, moment in zip(originals, moments, strict=True)
            ]
            if some:
                title = f"{clip}, {size} px" + (": other codecs" if folded else "")
                page.strip(strips, title, width_px=STRIP_PX.get(size, size), folded=folded)
        if film := joint_film(out, clip, size, shown):
            page.clip(film, f"{clip}, {size} px: a film", folded=True)


def moment_strip(folder: Path, original: Path, moment: str, shown: Sequence[Row]) -> PictureRow:
    """Return the original at one moment, and the same drawn or decoded, beside each other."""
    pictures = [("original", original.read_bytes())]
    for row in shown:
        path = folder / f"{row.variant.text}-{moment}.webp"
        if path.exists():
            pictures.append((caption(row), path.read_bytes()))
    return PictureRow(f"frame {int(moment)}", pictures)


def chosen_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of a clip whose pictures are shown: ours, video at our rates, and each rival at its lowest."""
    grouped = [row for some in by_variant(rows).values() for row in some]
    ours = [row for row in grouped if row.variant.is_ours and row.variant.mode == "normal"]
    equal = [row for row in grouped if row.variant.mode == EQUAL]
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
    """Write the original and ours above each other with video at the same rates as one MP4; return where."""
    ours = [row for row in shown if row.variant.is_ours]
    equal = [row for row in shown if row.variant.mode == EQUAL]
    with_film = [r for r in ours + equal if film_path(out, clip, r.variant.text).exists()]
    original = film_path(out, clip, f"{size}-{ORIGINAL}")
    if not with_film or not original.exists():
        return None
    paths = [original, *(film_path(out, clip, row.variant.text) for row in with_film)]
    titles = ["original", *map(caption, with_film)]
    across = min(len(paths), FILMS_ACROSS)
    bands = [slice(at, at + across) for at in range(0, len(paths), across)]
    target = out / "pictures" / clip / f"{size}-side-by-side.mp4"
    films = [read_film(path) for path in paths]
    canvases = [
        SideBySide((titles[b] + [""] * across)[:across], picture_width=size, picture_height=size)
        for b in bands
    ]
    width, height = canvases[0].width, sum(canvas.height for canvas in canvases)
    with VideoSink(target, width=width, height=height, rate=films[0][0]) as sink:
        for pictures in zip(*(frames for _, frames in films), strict=False):
            padded = [(*pictures[b], *([None] * across))[:across] for b in bands]
            rows = [canvas.compose(some, "") for canvas, some in zip(canvases, padded, strict=True)]
            sink.write(np.concatenate(rows))
    return target


def read_film(path: Path, most: int | None = None) -> tuple[Fraction, list[NDArray[np.uint8]]]:
    """Return a film's rate and its pictures, or the first few."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = Fraction(stream.average_rate or 25)
        frames = islice(container.decode(stream), most)
        return rate, [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames]
