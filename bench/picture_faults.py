"""The faults page: known faults of drawn faces on named clips, the original, before, and after, in stills and films.

`mien bench picture --faults --clips DIR --before CHECKOUT` draws it. What is looked at stands in
`assets/picture_faults.json`: a fault, a part of a clip's name, frames after the clip's first 60 %, from which to which
of them a film goes, and what a person says who looked: gone, better or open.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from rich.progress import Progress

from mien.bench import draw_moments
from mien.bench.clip_folder import find_clips
from mien.bench.contact_sheet import SideBySide
from mien.bench.picture_footage import ENROLMENT_SHARE, count_frames
from mien.bench.picture_metrics import Picture, compared, grey
from mien.bench.picture_report import read_film
from mien.bench.picture_rows import code_digest
from mien.bench.report_page import Best, PictureRow, ReportPage
from mien.decoder.output import VideoSink
from mien.encoder.capture import open_source
from mien.protocol.errors import MienError

FAULTS: Final = Path(__file__).with_name("assets") / "picture_faults.json"
VERDICTS: Final = ("gone", "better", "open")
SIZE_PX: Final = 512
SHOWN_PX: Final = 240
FILM_PX: Final = 360  # each picture of a film
FEWEST_FRAMES: Final = 3  # of a film: restlessness is a second difference
MAP_PX: Final = 220
MAP_GAIN: Final = 12
TIMEOUT_S: Final = 1800


@dataclass(frozen=True, slots=True)
class Fault:
    """What to look at, in which frames and in a film from one frame to another, and what was seen."""

    fault: str
    clip: str
    at: tuple[int, ...]
    film: tuple[int, int]
    verdict: str
    note: str


@dataclass(frozen=True, slots=True)
class DrawnBy:
    """Where the pictures of one tier by one version lie."""

    title: str
    folder: Path

    def still(self, number: int) -> Path:
        """Return where a frame's picture lies."""
        return self.folder / f"{number}.png"

    def film(self, film: tuple[int, int]) -> Path:
        """Return where a film lies."""
        return self.folder / f"{film[0]}-{film[1]}.mp4"


def read_faults(path: Path = FAULTS) -> list[Fault]:
    """Return the list. Raises `MienError` for a file that is none."""
    try:
        faults = [
            Fault(
                fault=str(f["fault"]),
                clip=str(f["clip"]),
                at=tuple(map(int, f["at"])),
                film=(int(f["film"][0]), int(f["film"][1])),
                verdict=str(f["verdict"]),
                note=str(f["note"]),
            )
            for f in json.loads(path.read_text("utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise MienError(f"{path} holds no list of faults: {error}") from error
    for fault in faults:
        if fault.verdict not in VERDICTS or not fault.at or not 0 <= fault.film[0] < fault.film[1]:
            raise MienError(
                f"{path}: {fault.fault}: expected frames, a film, and one of {', '.join(VERDICTS)}"
            )
    return faults


def write_faults_page(
    clips: Path, out: Path, before: Path | None, progress: Progress, only: str = ""
) -> Path:
    """Draw what is not drawn yet and write `faults.html` into `out`; return the page.

    `only`: clips whose name holds one of these, with commas between.
    """
    faults = [f for f in read_faults() if not only or any(text in f.clip for text in only.split(","))]
    found = {clip: path for clip in sorted({f.clip for f in faults}) for path in _clip_of(clips, clip)}
    drawn = {
        clip: draw_clip(path, [f for f in faults if f.clip == clip], out / "faults", before)
        for clip, path in progress.track(list(found.items()), description="clips")
    }
    page = ReportPage("Faults", "known faults of drawn faces: the original, before and after")
    counts = ", ".join(f"{sum(f.verdict == v for f in faults)} {v}" for v in VERDICTS)
    page.text(
        f"{len(faults)} faults: {counts}. Each was looked at as a moving picture, too. W: the avatar's pictures moved by "
        "the coefficients alone; S: with the scene layer and, in versions that have one, the generator. The first 60 % "
        "of a clip is enrolled; frames are counted from there."
    )
    page.table(
        ["fault", "clip", "now", "note"],
        [[f.fault, f.clip, Best(f.verdict) if f.verdict == "open" else f.verdict, f.note] for f in faults],
    )
    for fault in progress.track([f for f in faults if f.clip in drawn], description="films"):
        add_fault(page, fault, found[fault.clip], drawn[fault.clip], out / "faults")
    target = out / "faults.html"
    page.write(target)
    return target


def _clip_of(clips: Path, name: str) -> list[Path]:
    """Return the clip, nothing where this folder has other ones."""
    try:
        return find_clips(clips, name)[:1]
    except MienError:
        return []


def add_fault(page: ReportPage, fault: Fault, clip: Path, drawn: Sequence[DrawnBy], kept: Path) -> None:
    """Add a fault's stills, the original and each version's tiers beside each other, and its film."""
    stills, film, rate = originals(clip, fault)
    page.heading(f"{fault.fault}: {fault.verdict}")
    page.text(fault.note)
    rows = []
    for number in (n for n in fault.at if n in stills):
        shown = [(by.title, read_picture(by.still(number))) for by in drawn if by.still(number).exists()]
        rows.append(PictureRow(f"frame {number}", [("original", stills[number]), *shown]))
    page.strip(rows, fault.clip, width_px=SHOWN_PX)
    if len(film) >= FEWEST_FRAMES and all(by.film(fault.film).exists() for by in drawn):
        target = kept / f"{clip.stem}-{fault.film[0]}-{fault.film[1]}.mp4"
        films = [film, *(read_film(by.film(fault.film))[1] for by in drawn)]
        titles = ["original", *(by.title for by in drawn)]
        write_joint_film(target, titles, films, rate)
        text = f"{fault.clip}, frames {fault.film[0]} to {fault.film[1] - 1}"
        page.clip(target, text, poster=read_film(target, 1)[1][0])
        maps = [trembling(each) for each in films]
        shown = [
            (f"{title}: {level:.2f}", picture) for title, (level, picture) in zip(titles, maps, strict=True)
        ]
        page.strip([PictureRow("restless", shown)], "Where it trembles", width_px=MAP_PX, folded=True)


def trembling(film: Sequence[Picture]) -> tuple[float, Picture]:
    """Return how restless a film is and where: mean |second difference| over time, 8-bit steps, and a map of it."""
    small = [grey(compared(picture, MAP_PX)) for picture in film]
    pairs = zip(small, small[1:], small[2:], strict=False)
    where = np.mean([np.abs(before - 2 * now + after) for before, now, after in pairs], axis=0)
    bright = np.clip(MAP_GAIN * where, 0, 255).astype(np.uint8)
    return float(where.mean()), np.repeat(bright[..., None], 3, axis=2)


def write_joint_film(
    path: Path, titles: Sequence[str], films: Sequence[Sequence[Picture]], rate: Fraction
) -> None:
    """Write films beside each other."""
    height, width, _ = films[0][0].shape
    canvas = SideBySide(titles, picture_width=FILM_PX, picture_height=round(FILM_PX * height / width))
    with VideoSink(path, width=canvas.width, height=canvas.height, rate=rate) as sink:
        for number, pictures in enumerate(zip(*films, strict=False)):
            sink.write(canvas.compose(pictures, f"{float(number / rate):.2f} s"))


def draw_clip(clip: Path, faults: Sequence[Fault], kept: Path, before: Path | None) -> list[DrawnBy]:
    """Draw what these faults ask of a clip, tier by tier: before, where there is such a checkout, and now.

    What was drawn already, by the same code, stays. Raises `MienError` where a version cannot draw it.
    """
    folders = {}
    if before is not None:
        folders["before"] = kept / "before" / clip.stem
        draw_by(clip, faults, folders["before"], before)
    folders["now"] = kept / code_digest() / clip.stem
    draw_by(clip, faults, folders["now"], None)
    tiers = draw_moments.TIERS
    return [DrawnBy(f"{when}, {tier}", folder / tier) for tier in tiers for when, folder in folders.items()]


def originals(clip: Path, fault: Fault) -> tuple[dict[int, Picture], list[Picture], Fraction]:
    """Return a fault's frames in the clip itself, by number and as a film, and the clip's rate."""
    cut = cut_of(clip)
    stills: dict[int, Picture] = {}
    film: list[Picture] = []
    with closing(open_source(str(clip))) as source:
        for frame in source:
            number = frame.index - cut
            if number in fault.at:
                stills[number] = frame.rgb
            if fault.film[0] <= number < fault.film[1]:
                film.append(frame.rgb)
        return stills, film, source.rate


def cut_of(clip: Path) -> int:
    """Return the number of frames that are enrolled."""
    return int(ENROLMENT_SHARE * count_frames(clip) + 1e-9)


def read_picture(path: Path) -> Picture:
    """Return a picture, RGB."""
    return np.asarray(Image.open(path).convert("RGB"))


def draw_by(clip: Path, faults: Sequence[Fault], folder: Path, checkout: Path | None) -> None:
    """Draw as a checkout of the product does; None: as this one does. Raises `MienError`."""
    numbers = sorted({number for fault in faults for number in fault.at})
    films = sorted({fault.film for fault in faults})
    asked = {"at": ",".join(map(str, numbers)), "films": ",".join(f"{a}-{b}" for a, b in films)}
    done = folder / "done.json"
    if done.exists() and json.loads(done.read_text("utf-8")) == asked:
        return
    environment = dict(os.environ)
    if checkout is not None:
        environment["PYTHONPATH"] = str(checkout / "typings")
    command = [
        sys.executable, "-P", str(Path(draw_moments.__file__)), str(clip), str(folder),
        "--cut", str(cut_of(clip)), "--at", asked["at"], "--films", asked["films"], "--size", str(SIZE_PX),
    ]  # fmt: skip
    ran = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    if ran.returncode:
        last = ran.stderr.strip().splitlines()[-1:] or ["?"]
        raise MienError(f"{clip.name} could not be drawn by {checkout or 'this version'}: {last[0]}")
    done.write_text(json.dumps(asked), "utf-8")
