"""`mien bench picture --enrol photo`: what an avatar of one picture is worth, by how far the head is turned.

Of each clip one frame is the photo: the most frontal one, with open eyes and a calm mouth. All other frames drive the
avatar through the codec. Drawn pictures are compared with the originals in bins of yaw, once with the pictures that
enrolment makes up (an open mouth, shut lids) and once with the photo alone.
"""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mien.bench.akd import EYE_BLINK_LEFT, JAW_OPEN, Face, FrameScore, Retracker, score, summarise
from mien.bench.contact_sheet import Moment, contact_sheet, spread
from mien.bench.picture_drawing import Talk, code, draw
from mien.bench.picture_footage import Footage, Part, count_frames
from mien.bench.picture_metrics import Picture, compared
from mien.bench.provenance import provenance
from mien.encoder.capture import open_source
from mien.encoder.enroll import Enrolment, Settings, enroll_in_detail
from mien.encoder.owner_key import OwnerKey
from mien.protocol.consent import Consent
from mien.protocol.errors import MienError
from mien.protocol.quantizer import Quality

BINS_DEG: Final = (10.0, 20.0, 30.0)  # upper ends of the bins of yaw
PER_BIN: Final = 12  # frames that are compared, evenly spread over those in the bin
MOST_S: Final = 12.0  # of a clip
LOOK_EVERY: Final = 4  # frames are searched for the photo, and put into bins, at every fourth
SHOWN: Final = 7
SIZE_PX: Final = 256
# What makes a good photo, and how much of it counts as 1.
YAW_DEG: Final = 6.0
PITCH_DEG: Final = 12.0
JAW: Final = 0.08
BLINK: Final = 0.15
WITH, WITHOUT = "completed", "photo alone"
SHEETS: Final = "one-photo"  # folder of the pictures to look at
COLUMNS: Final = {
    "found": ".3f", "akd": ".2f", "mouth": ".2f", "eyes": ".2f", "blendshapes": ".4f", "pose_deg": ".2f",
    "jaw_corr": ".3f", "blink_corr": ".3f", "ssim": ".3f", "face_ssim": ".3f", "face_edge": ".2f",
    "identity": ".2f",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PhotoRow:
    """Figures (`mien.bench.akd.summarise`) of a clip's frames in one bin; `bin_deg` 0 stands for all frames."""

    clip: str
    kind: str
    bin_deg: float
    frames: int
    photo_yaw_deg: float
    figures: dict[str, float]
    references: int
    avatar_bytes: int

    def to_json(self) -> str:
        """Return the row as one line."""
        names = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({"bench": "one photo", **names, **provenance()})


def measure(clip: Path, bundle: Path, *, size_px: int, out: Path, kinds: Sequence[str]) -> list[PhotoRow]:
    """Measure one clip. Raises `MienError` where it shows no face, or none that can be enrolled."""
    source = open_source(str(clip))
    footage = Footage(Part(source, range(min(count_frames(clip), round(MOST_S * source.rate)))))
    source.close()
    originals = footage.at(size_px)
    with Retracker(bundle) as retracker:
        faces = {
            number: face
            for number in range(0, len(footage), LOOK_EVERY)
            if (face := retracker.face(originals[number])) is not None
        }
        if not faces:
            raise MienError("shows no face")
        photo = choose_photo(faces)
        rows, shown = [], {}
        for kind in kinds:
            enrolment = enrol_photo(clip, photo, completed=kind == WITH)
            talk = code(footage, enrolment.avatar, Quality.NORMAL)
            found, pictures = judge(originals, faces, photo, enrolment, talk, retracker, size_px)
            shown[kind] = pictures
            for bin_deg, scores in found.items():
                rows.append(
                    PhotoRow(
                        clip=clip.stem,
                        kind=kind,
                        bin_deg=bin_deg,
                        frames=len(scores),
                        photo_yaw_deg=round(yaw_deg(faces[photo]), 1),
                        figures=summarise(scores),
                        references=len(enrolment.avatar.references),
                        avatar_bytes=len(enrolment.data),
                    )
                )
        draw_sheet(out / f"{clip.stem}.png", originals, faces, shown, float(footage.rate), clip.stem)
    return rows


def enrol_photo(clip: Path, number: int, *, completed: bool) -> Enrolment:
    """Return the avatar of one frame of a clip, with or without what enrolment makes up. Raises `MienError`."""
    with closing(Part(open_source(str(clip)), range(number, number + 1))) as part:
        return enroll_in_detail(
            part,
            consent=Consent.test_fixture(given_unix_s=0),
            name="bench",
            key=OwnerKey.throw_away(),
            settings=Settings(complete=completed),
        )


def judge(
    originals: Sequence[Picture],
    faces: dict[int, Face],
    photo: int,
    enrolment: Enrolment,
    talk: Talk,
    retracker: Retracker,
    size_px: int,
) -> tuple[dict[float, list[FrameScore]], dict[int, Picture]]:
    """Return the scores in each bin, all of them under 0, and the pictures by their frames' numbers."""
    bins: dict[float, list[FrameScore]] = defaultdict(list)
    pictures: dict[int, Picture] = {}
    with draw(enrolment.avatar, talk, size_px) as drawn:
        if len(drawn) != len(originals):
            raise MienError(f"{len(drawn)} pictures for {len(originals)} frames")
        for number in chosen_frames(faces, photo):
            picture = compared(drawn[number], size_px)
            again = retracker.face(picture)
            one = score(originals[number], picture, faces[number], again)
            pictures[number] = picture
            bins[0.0].append(one)
            bins[bin_of(faces[number])].append(one)
    return {key: bins[key] for key in sorted(bins)}, pictures


def chosen_frames(faces: dict[int, Face], photo: int) -> list[int]:
    """Return the frames that are compared: of each bin up to `PER_BIN`, not those nearest to the photo in time."""
    bins: dict[float, list[int]] = defaultdict(list)
    for number, face in faces.items():
        if abs(number - photo) > LOOK_EVERY and abs(yaw_deg(face)) < BINS_DEG[-1]:
            bins[bin_of(face)].append(number)
    return sorted(numbers[i] for numbers in bins.values() for i in spread(PER_BIN, len(numbers)))


def choose_photo(faces: dict[int, Face]) -> int:
    """Return the number of the frame that people would take as their photo."""

    def cost(number: int) -> float:
        face = faces[number]
        return (
            (yaw_deg(face) / YAW_DEG) ** 2
            + (pitch_deg(face) / PITCH_DEG) ** 2
            + (float(face.blendshapes[JAW_OPEN]) / JAW) ** 2
            + (float(face.blendshapes[EYE_BLINK_LEFT : EYE_BLINK_LEFT + 2].max()) / BLINK) ** 2
        )

    return min(faces, key=cost)


def yaw_deg(face: Face) -> float:
    """Return how far a head is turned sideways, degrees."""
    return float(np.degrees(np.arctan2(face.rotation[0, 2], face.rotation[2, 2])))


def pitch_deg(face: Face) -> float:
    """Return how far a head is nodded, degrees."""
    return float(np.degrees(np.arctan2(face.rotation[1, 2], face.rotation[2, 2])))


def bin_of(face: Face) -> float:
    """Return the upper end of the bin that a face's yaw is in; what is turned farther belongs to the last."""
    return next((top for top in BINS_DEG if abs(yaw_deg(face)) < top), BINS_DEG[-1])


def draw_sheet(
    path: Path,
    originals: Sequence[Picture],
    faces: dict[int, Face],
    shown: dict[str, dict[int, Picture]],
    fps: float,
    title: str,
) -> None:
    """Write originals and drawn pictures side by side: the most turned, widest and most closed frames among them."""
    numbers = list(next(iter(shown.values())))
    if not numbers:
        return
    by = (
        lambda n: -yaw_deg(faces[n]),
        lambda n: yaw_deg(faces[n]),
        lambda n: -float(faces[n].blendshapes[JAW_OPEN]),
        lambda n: -float(faces[n].blendshapes[EYE_BLINK_LEFT]),
    )
    picked = {min(numbers, key=key) for key in by} | {numbers[i] for i in spread(SHOWN - 4, len(numbers))}
    moments = [
        Moment(
            n / fps,
            (originals[n], *(pictures[n] for pictures in shown.values())),
            f"yaw {yaw_deg(faces[n]):.0f} jaw {faces[n].blendshapes[JAW_OPEN]:.2f}",
        )
        for n in sorted(picked)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = contact_sheet(moments, ["original", *shown], title=title, cell_height_px=originals[0].shape[0])
    Image.fromarray(sheet).save(path)


def summary(rows: Iterable[PhotoRow]) -> list[dict[str, Any]]:
    """Return the median over clips of every figure, for each kind and bin."""
    groups: dict[tuple[float, str], list[PhotoRow]] = defaultdict(list)
    for row in rows:
        groups[row.bin_deg, row.kind].append(row)
    out = []
    for (bin_deg, kind), members in sorted(groups.items()):
        figures = {
            name: round(statistics.median(values), 4)
            for name in COLUMNS
            if (values := [m.figures[name] for m in members if name in m.figures])
        }
        frames = sum(m.frames for m in members)
        out.append(
            {"yaw": bin_name(bin_deg), "kind": kind, "clips": len(members), "frames": frames, **figures}
        )
    return out


def bin_name(top: float) -> str:
    """Return a bin's name, such as "10-20"."""
    if top == 0:
        return "all"
    below = [b for b in BINS_DEG if b < top]
    return f"{below[-1] if below else 0:g}-{top:g}"


def table_of(lines: Sequence[dict[str, Any]]) -> Table:
    """Return the summary as a table."""
    table = Table(title="avatars of one photo, medians over clips")
    for name in ("yaw", "kind", "clips", "frames", *COLUMNS):
        table.add_column(name, justify="left" if name in ("yaw", "kind") else "right")
    for line in lines:
        known = [str(line[name]) for name in ("yaw", "kind", "clips", "frames")]
        table.add_row(*known, *(format(line[n], form) if n in line else "-" for n, form in COLUMNS.items()))
    return table


def run(clips: Sequence[Path], bundle: Path, out: Path, console: Console, *, as_json: bool) -> int:
    """Measure clips, one after the other, and print the summary; rows are kept in `out`. Raises `MienError`."""
    out.mkdir(parents=True, exist_ok=True)
    rows: list[PhotoRow] = []
    with (out / "one_photo.jsonl").open("w", encoding="utf-8") as file:
        for clip in track(clips, "clips", console=console, disable=not console.is_terminal):
            try:
                found = measure(clip, bundle, size_px=SIZE_PX, out=out / SHEETS, kinds=(WITH, WITHOUT))
            except MienError as error:
                console.print(f"{clip.name}: left out: {error}", style="yellow")
                continue
            rows += found
            file.writelines(row.to_json() + "\n" for row in found)
            file.flush()
    if not rows:
        raise MienError("no clip could be measured")
    lines = summary(rows)
    try:
        from mien.bench.one_photo_page import write_photo_page  # matplotlib, only where it is needed

        console.print(f"report: {write_photo_page(lines, list(COLUMNS), out / SHEETS, out)}")
    except MienError as error:  # the figures are worth having without the page
        console.print(f"no report: {error}", style="yellow")
    if as_json:
        for line in lines:
            print(json.dumps(line | provenance()))
    else:
        Console(width=180).print(table_of(lines))
    return 0
