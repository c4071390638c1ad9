"""`mien bench picture`: enrol on a clip's first part, send the rest through the codec, compare the pictures."""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mien.bench.akd import Face, FrameScore, Picture, Retracker, compared, score, summarise
from mien.bench.contact_sheet import Moment, contact_sheet, spread
from mien.bench.provenance import provenance
from mien.decoder.compositor import Compositor, Layer
from mien.decoder.framing import Framing
from mien.decoder.output import save_png
from mien.decoder.recording import read_recording
from mien.decoder.renderer import Renderer
from mien.decoder.replay_schedule import Due, make_schedule
from mien.encoder.capture import open_source
from mien.encoder.enroll import Settings, Window, enroll_in_detail
from mien.encoder.owner_key import OwnerKey
from mien.encoder.source_recorder import record_source
from mien.encoder.tracker_choice import open_tracker
from mien.models.face_model import FaceModel
from mien.models.store import find_model
from mien.protocol.avatar import Avatar
from mien.protocol.consent import Consent
from mien.protocol.errors import MienError
from mien.protocol.log import open_log
from mien.protocol.quantizer import Quality

EXAMPLE: Final = """examples:
  mien bench picture --clips clips/ --out report/
  mien bench picture --clips clips/ --step 1 --json
"""
CLIP_SUFFIXES: Final = (".mp4", ".webm", ".mov", ".mkv", ".avi")
ENROLMENT_SHARE: Final = 0.6
COLUMNS: Final = (
    "found", "akd", "mouth", "blendshapes", "pose_deg", "jaw_corr", "blink_corr", "edge", "face_edge", "ssim",
    "face_ssim", "gmsd", "psnr",
)  # fmt: skip
SHEET_MOMENTS: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class ClipResult:
    """One clip: its summary over frames, and a sheet of moments (original above, drawn below)."""

    clip: str
    frames: int
    references: int
    avatar_bytes: int
    figures: dict[str, float]
    sheet: Picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's arguments."""
    parser.add_argument("--clips", type=Path, required=True, metavar="DIR", help="videos of one person each")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write picture.jsonl and a sheet per clip there"
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument(
        "--step", type=int, default=3, metavar="N", help="compare every Nth frame (default: 3)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="clips whose name holds this, or a,b,c")
    parser.add_argument("--references", type=int, metavar="N", help="pictures in the avatar")
    parser.add_argument(
        "--quality", choices=[q.name.lower() for q in Quality], default="normal", help="default: normal"
    )


def run(options: argparse.Namespace) -> int:
    """Measure and report. Raises `MienError` where nothing can be measured."""
    bundle = find_model("face_landmarker")
    if bundle is None:
        raise MienError("pictures are judged by the FaceLandmarker bundle: `mien models fetch` gets it")
    if options.step < 1:
        raise MienError(f"--step {options.step}: expected 1 or more")
    console = Console(stderr=True)
    clips = find_clips(options.clips, options.only)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    results = []
    with (
        Retracker(bundle) as retracker,
        Progress(console=console, disable=not console.is_terminal) as progress,
    ):
        for clip in progress.track(clips, description="clips"):
            try:
                result = measure(clip, retracker, options)
            except MienError as error:
                console.print(f"{clip.name}: left out: {error}")
                continue
            results.append(result)
            if options.out:
                save_png(options.out / f"{clip.stem}.png", result.sheet)
    if not results:
        raise MienError("no clip could be measured")
    rows = [row_of(result, options) for result in results]
    rows.append({"kind": "summary", **medians(results), **provenance()})
    if options.json:
        print("\n".join(json.dumps(row) for row in rows))
    else:
        Console(width=150).print(table_of(results))
    if options.out:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (options.out / "picture.jsonl").write_text(lines, encoding="utf-8")
    return 0


def find_clips(folder: Path, only: str) -> list[Path]:
    """Return a folder's videos. Raises `MienError` where there are none."""
    if not folder.is_dir():
        raise MienError(f"{folder} is no folder: give --clips a folder of videos")
    wanted = [text for text in only.split(",") if text] or [""]
    clips = sorted(
        p for p in folder.iterdir() if p.suffix.lower() in CLIP_SUFFIXES and any(w in p.name for w in wanted)
    )
    if not clips:
        raise MienError(f"{folder} holds no such video ({', '.join(CLIP_SUFFIXES)})")
    return clips


def measure(clip: Path, retracker: Retracker, options: argparse.Namespace) -> ClipResult:
    """Enrol, encode, draw and compare one clip."""
    with closing(open_source(str(clip))) as source:
        total = sum(1 for _ in source)
    cut = int(ENROLMENT_SHARE * total + 1e-9)
    avatar, size = enrol(clip, cut, options.references)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "talk.mien"
        with closing(open_source(str(clip))) as source, closing(open_tracker()) as tracker:
            quality = Quality[options.quality.upper()]
            record_source(source, tracker, avatar, str(log), quality=quality, skip_frames=cut)
        scores: list[FrameScore] = []
        moments: list[Moment] = []
        shown = set(spread(SHEET_MOMENTS, len(range(0, total - cut, options.step))))
        for number, (time_s, original, drawn) in enumerate(pairs(clip, cut, avatar, log, options.step)):
            a, b = compared(original), compared(drawn)
            face = retracker.face(a)
            again = retracker.face(b)
            if face is not None:
                scores.append(score(a, b, face, again))
            if number in shown:
                moments.append(Moment(time_s, (original, drawn), notes_of(face, scores)))
    if not scores:
        raise MienError("no face in the original's last part")
    figures = summarise(scores)
    sheet = contact_sheet(moments, ["original", "avatar"], title=clip.stem)
    return ClipResult(clip.name, len(scores), len(avatar.references), size, figures, sheet)


def enrol(clip: Path, frames: int, references: int | None) -> tuple[Avatar, int]:
    """Make an avatar from a clip's first frames that lives only as long as this measurement; and its size."""
    window = Window(frames=frames)
    settings = (
        Settings(window=window) if references is None else Settings(window=window, references=references)
    )
    with closing(open_source(str(clip))) as source:
        made = enroll_in_detail(
            source,
            consent=Consent.test_fixture(given_unix_s=0),
            name="bench",
            key=OwnerKey.throw_away(),
            settings=settings,
        )
    return made.avatar, len(made.data)


def pairs(
    clip: Path, cut: int, avatar: Avatar, log: Path, step: int
) -> Iterator[tuple[float, Picture, Picture]]:
    """Give time, original and drawn picture of every `step`th frame after the first `cut`, as `mien replay` draws."""
    with open_log(str(log)) as reader:
        recording = read_recording(reader)
    schedule = make_schedule([s for s in recording.segments if len(s.track)], None)
    painter = Painter(avatar, recording.header.width, recording.header.height)
    with closing(open_source(str(clip))) as source, closing(painter):
        frames = islice(source, cut, None)
        for number, (frame, due) in enumerate(zip(frames, schedule, strict=False)):
            if number % step == 0:
                yield due.time_us / 1e6, frame.rgb, painter.draw(due)


class Painter:
    """Draws as `mien replay` does, with the badge that a person's own avatar wears."""

    def __init__(self, avatar: Avatar, width: int, height: int) -> None:
        self._avatar, self._size = avatar, (width, height)
        self._compositor = Compositor(width, height, test_fixture=False)
        self._framing: Framing | None = None
        self._renderer: Renderer | None = None

    def draw(self, due: Due) -> Picture:
        """Return RGB uint8 [height, width, 3]."""
        stream = due.segment.stream
        framing = Framing(float(stream.unit_px), stream.width, stream.height)
        if self._renderer is None or framing != self._framing:
            self.close()
            width, height = self._size
            self._renderer = Renderer(
                self._avatar, FaceModel.load(), width=width, height=height, stream=framing
            )
            self._framing = framing
        drawn = self._renderer.render(due.segment.track.state_at(due.position))
        return self._compositor.compose({Layer.AVATAR: drawn}, now_us=due.time_us)

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def notes_of(face: Face | None, scores: Sequence[FrameScore]) -> str:
    """Return what stands below a moment's time."""
    return "no face" if face is None or not scores else f"AKD {scores[-1].akd:.2f}"


def row_of(result: ClipResult, options: argparse.Namespace) -> dict[str, Any]:
    """Return a JSON line."""
    return {
        "kind": "clip",
        "clip": result.clip,
        "quality": options.quality,
        "step": options.step,
        "frames": result.frames,
        "references": result.references,
        "avatar_bytes": result.avatar_bytes,
        **result.figures,
        **provenance(),
    }


def medians(results: Sequence[ClipResult]) -> dict[str, Any]:
    """Return the median over clips of every figure, and the share of frames with a face over all clips."""
    out: dict[str, Any] = {"clips": len(results)}
    for name in COLUMNS:
        values = [r.figures[name] for r in results if name in r.figures]
        if values:
            out[name] = round(statistics.median(values), 4)
    frames = np.array([r.frames for r in results])
    out["found"] = round(float((frames * [r.figures["found"] for r in results]).sum() / frames.sum()), 4)
    return out


def table_of(results: Sequence[ClipResult]) -> Table:
    """Return the results for a person."""
    table = Table(title="Pictures drawn from the codec against the originals (last 40 % of each clip)")
    table.add_column("clip")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for result in results:
        cells = [f"{result.figures[n]:.3f}" if n in result.figures else "" for n in COLUMNS]
        table.add_row(result.clip[:24], *cells)
    table.add_section()
    summary = medians(results)
    table.add_row(
        f"median of {len(results)}", *(f"{summary[n]:.3f}" if n in summary else "" for n in COLUMNS)
    )
    return table
