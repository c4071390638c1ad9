"""The page of `mien bench picture --enrol photo`: errors by how far the head is turned, and sheets to look at."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from mien.bench.picture_summary import DECIMALS, METRICS
from mien.bench.plot_style import COLOURS, png, pyplot
from mien.bench.provenance import provenance
from mien.bench.report_page import Cell, Number, ReportPage

PLOTTED: Final = ("akd", "mouth", "eyes", "pose_deg", "face_ssim", "face_edge")
KIND_COLOURS: Final = (COLOURS["mien"], COLOURS["int8"])

Line = Mapping[str, Any]


def write_photo_page(lines: Sequence[Line], figures: Sequence[str], sheets: Path, out: Path) -> Path:
    """Write `one-photo.html` into `out` from the summary's lines; return it. Raises `MienError` without matplotlib.

    A line has "yaw", "kind", "clips", "frames" and of `figures` those that were measured. `sheets` is a folder of
    PNGs, one for each clip.
    """
    page = ReportPage(
        "One photo", "avatars of a single picture against the original, by how far the head is turned"
    )
    page.text(
        "Of each clip one frame is the photo: the most frontal one, with open eyes and a calm mouth. All others drive "
        "the avatar through the codec. \u201ccompleted\u201d has the open mouth and the shut lids that enrolment makes up.",
        "Medians over clips. Made with " + ", ".join(f"{k} {v}" for k, v in provenance().items()) + ".",
    )
    figures = [name for name in figures if any(name in line for line in lines)]
    page.table(
        ["figure", "is"],
        [[n, METRICS[n]] for n in figures if n in METRICS],
        "What the figures are",
        folded=True,
    )
    heads = ["yaw, degrees", "pictures", "clips", "frames", *(name.replace("_", " ") for name in figures)]
    rules = [at for at in range(1, len(lines)) if lines[at]["yaw"] != lines[at - 1]["yaw"]]
    page.table(heads, [_cells(line, figures) for line in lines], "Medians over clips", sections=rules)
    page.figure(plots(lines), "By the head's turn")
    page.heading("Clip by clip")
    for sheet in sorted(sheets.glob("*.png")):
        page.figure(np.asarray(Image.open(sheet).convert("RGB")), sheet.stem)
    target = out / "one-photo.html"
    page.write(target)
    return target


def plots(lines: Sequence[Line]) -> bytes:
    """Draw figures over the bins of yaw, a line for each kind of avatar."""
    names = [name for name in PLOTTED if any(name in line for line in lines)]
    figure, axes = pyplot().subplots(1, max(1, len(names)), figsize=(15, 3.2), squeeze=False)
    bins = list(dict.fromkeys(line["yaw"] for line in lines if line["yaw"] != "all"))
    for axis, name in zip(axes.flat, names, strict=False):
        for kind, colour in zip(dict.fromkeys(line["kind"] for line in lines), KIND_COLOURS, strict=False):
            points = {line["yaw"]: line[name] for line in lines if line["kind"] == kind and name in line}
            known = [b for b in bins if b in points]
            axis.plot(known, [points[b] for b in known], "o-", color=colour, label=kind)
        axis.set(title=name.replace("_", " "), xlabel="yaw, degrees")
    axes.flat[0].legend(fontsize=9)
    figure.tight_layout()
    return png(figure)


def _cells(line: Line, figures: Sequence[str]) -> list[Cell]:
    known: list[Cell] = [str(line["yaw"]), str(line["kind"]), int(line["clips"]), int(line["frames"])]
    return known + [Number(line[n], DECIMALS.get(n, 2)) if n in line else None for n in figures]
