"""The faults page: known faults of drawn faces on named clips, the original, before, and after.

`mien bench picture --faults --clips DIR --before CHECKOUT` draws it. What is looked at stands in
`assets/picture_faults.json`: a fault, a part of a clip's name, frames after the clip's first 60 %, and what a person
says who looked: gone, better or open.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from rich.progress import Progress

from mien.bench import draw_moments
from mien.bench.clip_folder import find_clips
from mien.bench.picture_footage import ENROLMENT_SHARE, count_frames
from mien.bench.picture_metrics import Picture
from mien.bench.picture_rows import code_digest
from mien.bench.report_page import PictureRow, ReportPage
from mien.encoder.capture import open_source
from mien.protocol.errors import MienError

FAULTS: Final = Path(__file__).with_name("assets") / "picture_faults.json"
VERDICTS: Final = ("gone", "better", "open")
SIZE_PX: Final = 512
SHOWN_PX: Final = 360
# Faults of pictures that this renderer does not make yet.
NOT_HERE: Final = (
    "Blocks of the scene layer in hair that moves fast, patches of it beside the head: tier W has no scene layer.",
    "Softness of trained nets: tier W has no net.",
    "Shimmer: the figure `flicker` of the report (below 0: calmer than the original).",
)
TIMEOUT_S: Final = 1800


@dataclass(frozen=True, slots=True)
class Fault:
    """What to look at, and what was seen."""

    fault: str
    clip: str
    at: tuple[int, ...]
    verdict: str
    note: str


def read_faults(path: Path = FAULTS) -> list[Fault]:
    """Return the list. Raises `MienError` for a file that is none."""
    try:
        faults = [
            Fault(f["fault"], f["clip"], tuple(map(int, f["at"])), f["verdict"], f["note"])
            for f in json.loads(path.read_text("utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MienError(f"{path} holds no list of faults: {error}") from error
    for fault in faults:
        if fault.verdict not in VERDICTS or not fault.at:
            raise MienError(f"{path}: {fault.fault}: expected frames and one of {', '.join(VERDICTS)}")
    return faults


def write_faults_page(clips: Path, out: Path, before: Path | None, progress: Progress) -> Path:
    """Draw what is not drawn yet and write `faults.html` into `out`; return the page."""
    faults = read_faults()
    frames: dict[str, set[int]] = defaultdict(set)
    for fault in faults:
        frames[fault.clip] |= set(fault.at)
    drawn: dict[str, dict[str, dict[int, Picture]]] = {}
    for name in progress.track(sorted(frames), description="clips"):
        try:
            clip = find_clips(clips, name)[0]
        except MienError:
            continue  # this folder has other clips
        drawn[name] = draw_clip(clip, sorted(frames[name]), out / "faults", before)
    page = ReportPage("Faults", "known faults of drawn faces: the original, before and after")
    page.table(["fault", "clip", "now", "note"], [[f.fault, f.clip, f.verdict, f.note] for f in faults])
    page.points(NOT_HERE)
    for fault in (f for f in faults if f.clip in drawn):
        page.heading(f"{fault.fault}: {fault.verdict}")
        page.strip(
            list(strips_of(fault, drawn[fault.clip])), f"{fault.clip}. {fault.note}", width_px=SHOWN_PX
        )
    target = out / "faults.html"
    page.write(target)
    return target


def strips_of(fault: Fault, drawn: dict[str, dict[int, Picture]]) -> Iterator[PictureRow]:
    """Give a row of pictures for the original, before and after."""
    for title, pictures in drawn.items():
        row = [(f"frame {number}", pictures[number]) for number in fault.at if number in pictures]
        yield PictureRow(title, row)


def draw_clip(
    clip: Path, numbers: Sequence[int], kept: Path, before: Path | None
) -> dict[str, dict[int, Picture]]:
    """Return a clip's pictures by row title; what was drawn by the same code before is read again."""
    cut = int(ENROLMENT_SHARE * count_frames(clip) + 1e-9)
    out = {"original": originals(clip, cut, numbers)}
    numbers = sorted(out["original"])
    if before is not None:
        out["before"] = drawn_by(clip, cut, numbers, kept / "before" / clip.stem, before)
    out["now"] = drawn_by(clip, cut, numbers, kept / code_digest() / clip.stem, None)
    return out


def originals(clip: Path, cut: int, numbers: Sequence[int]) -> dict[int, Picture]:
    """Return the clip's own frames, those that it has."""
    wanted = {cut + number: number for number in numbers}
    with closing(open_source(str(clip))) as source:
        return {wanted[frame.index]: frame.rgb for frame in source if frame.index in wanted}


def drawn_by(
    clip: Path, cut: int, numbers: Sequence[int], folder: Path, checkout: Path | None
) -> dict[int, Picture]:
    """Return frames as a checkout of the product draws them; None: as this one does. Raises `MienError`."""
    missing = [number for number in numbers if not (folder / f"{number}.png").exists()]
    if missing:
        environment = dict(os.environ)
        if checkout is not None:
            environment["PYTHONPATH"] = str(checkout / "typings")
        at = ",".join(map(str, missing))
        script = Path(draw_moments.__file__)
        command = [
            sys.executable, "-P", str(script), str(clip), str(folder),
            "--cut", str(cut), "--at", at, "--size", str(SIZE_PX),
        ]  # fmt: skip
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["?"]
            raise MienError(f"{clip.name} could not be drawn by {checkout or 'this version'}: {last[0]}")
    return {n: np.asarray(Image.open(folder / f"{n}.png").convert("RGB")) for n in numbers}
