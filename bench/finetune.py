"""Measures fine-tunes: `python -m mien.bench.finetune CLIP...`.

Each clip's first 60 % goes through `mien enroll --finetune`, as a person would run it; the rest is coded as a call
codes it and drawn by the generator for everybody and by the tuned one. Where no tuning is kept, both are the same.
Prints a row a clip as JSON, then a table. Avatars and keys live as long as the run. Clips are square, as the picture
bench compares them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from mien.bench.akd import Face, Retracker, score, summarise
from mien.bench.picture_footage import ENROLMENT_SHARE, QUICK, Footage, Part, count_frames
from mien.bench.picture_metrics import Picture, flicker
from mien.decoder.artist import Artist
from mien.decoder.generator import Generator
from mien.decoder.recording import Recording, read_recording
from mien.decoder.replay_schedule import make_schedule
from mien.decoder.tuned_generator import generator_for
from mien.encoder.capture import open_source
from mien.encoder.scene_sender import SceneSettings
from mien.encoder.source_recorder import record_source
from mien.encoder.tracker_choice import open_tracker
from mien.models.store import find_model
from mien.protocol.avatar import Avatar, parse_avatar
from mien.protocol.errors import MienError
from mien.protocol.log import open_log
from mien.protocol.quantizer import Quality
from mien.protocol.tuning import Tuning

SIZE_PX: Final = 256
SHOWN: Final = ("ssim", "face_ssim", "gmsd", "edge", "face_edge", "akd", "mouth", "flicker")
ENROL_S: Final = 900


def measured(
    clip: Path, folder: Path, options: argparse.Namespace, retracker: Retracker | None
) -> dict[str, Any]:
    """Return a clip's row. Raises `MienError`."""
    began = time.monotonic()
    report = enrolled(clip, folder / "me.avatar", options.minutes)
    row = {"clip": clip.stem, "finetune": report["finetune"], "seconds": round(time.monotonic() - began)}
    avatar = parse_avatar((folder / "me.avatar").read_bytes(), now_unix_s=int(time.time()))
    with closing(open_source(str(clip))) as source:
        total = count_frames(clip)
        first = int(ENROLMENT_SHARE * total + 1e-9)
        last = min(total, first + round(QUICK.test_s * source.rate))
        footage = Footage(Part(source, range(first, last)))
    recording = coded(footage, avatar, folder / "talk.mien", options.kbps)
    originals = footage.at(SIZE_PX)
    faces = {n: retracker.face(originals[n]) for n in chosen(len(originals))} if retracker else {}
    row["everybody"] = figures(avatar, recording, originals, faces, retracker, generator_for(avatar))
    row["tuned"] = row["everybody"]
    if row["finetune"]["kept"]:
        tuning = Tuning.parse((folder / "me.tuning").read_bytes())
        tuned = generator_for(avatar, [tuning])
        row["tuned"] = figures(avatar, recording, originals, faces, retracker, tuned)
    return row


def enrolled(clip: Path, out: Path, minutes: float) -> dict[str, Any]:
    """Run `mien enroll --finetune` on a clip's first part; return its report. Raises `MienError`."""
    command = [sys.executable, "-m", "mien", "enroll", str(clip), "-o", str(out), "--consent", "self"]
    command += ["--until", str(ENROLMENT_SHARE), "--finetune", "--finetune-minutes", str(minutes), "--json"]
    private = out.parent / "home"
    done = subprocess.run(
        [*command, "--no-template"],
        env=os.environ | {"MIEN_HOME": str(private)},
        capture_output=True,
        text=True,
        timeout=ENROL_S + 60 * minutes,
        check=False,
    )
    if done.returncode:
        raise MienError(f"{clip.name} cannot be enrolled: {done.stderr.strip():.300}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def coded(footage: Footage, avatar: Avatar, log: Path, kbps: float) -> Recording:
    """Code a footage with its scene; return what a receiver reads."""
    log.unlink(missing_ok=True)
    with closing(open_tracker()) as tracker:
        record_source(footage, tracker, avatar, str(log), quality=Quality.NORMAL, scene=SceneSettings(kbps))
    with open_log(str(log)) as reader:
        return read_recording(reader)


def chosen(frames: int) -> list[int]:
    """Return the numbers of the frames that are compared."""
    return QUICK.chosen(frames)


def figures(
    avatar: Avatar,
    recording: Recording,
    originals: Sequence[Picture],
    faces: dict[int, Face | None],
    retracker: Retracker | None,
    generator: Generator | None,
) -> dict[str, float]:
    """Return the means over frames of what is drawn with a generator, before the badge."""
    scores = []
    restless = []
    for number, three in drawn(avatar, recording, chosen(len(originals)), generator):
        truth, face = originals[number], faces.get(number)
        again = retracker.face(three[1]) if retracker and face else None
        # Without a tracker the box of the face is the whole picture.
        scores.append(score(truth, three[1], face or whole_face(), again))
        restless.append(flicker(originals[number - 1 : number + 2], three))
    found = summarise(scores) | {"flicker": round(float(np.mean(restless)), 4)}
    return {name: found[name] for name in SHOWN if name in found}


def whole_face() -> Face:
    """Return a face that fills the picture."""
    return Face(np.array([[0.0, 0.0], [SIZE_PX, SIZE_PX]]), np.zeros(52), np.eye(3))


def drawn(
    avatar: Avatar, recording: Recording, numbers: Sequence[int], generator: Generator | None
) -> Iterator[tuple[int, list[Picture]]]:
    """Give the pictures of frames, each between its neighbours."""
    schedule = make_schedule([s for s in recording.segments if len(s.track)], None)
    artist = Artist(avatar, width=SIZE_PX, height=SIZE_PX, generator=generator or False)
    with closing(artist):
        three: list[Picture] = []
        wanted = set(numbers)
        for number, due in enumerate(schedule):
            three = [*three[-2:], artist.paint(due)]
            if number - 1 in wanted:
                yield number - 1, three


def table_of(rows: Sequence[dict[str, Any]]) -> Table:
    """Return all clips, and the mean change of those whose tuning is kept."""
    table = Table("clip", "kept", "steps", *(f"{name}: before, after" for name in SHOWN))
    for row in rows:
        tuning = row["finetune"]
        cells = [f"{row['everybody'].get(k, np.nan):.3f} {row['tuned'].get(k, np.nan):.3f}" for k in SHOWN]
        table.add_row(
            row["clip"][:5], "yes" if tuning["kept"] else "no", str(tuning.get("steps", "-")), *cells
        )
    kept = [row for row in rows if row["finetune"]["kept"]]
    if kept:
        changes = [
            float(np.mean([r["tuned"].get(k, np.nan) - r["everybody"].get(k, np.nan) for r in kept]))
            for k in SHOWN
        ]
        table.add_row("kept", f"{len(kept)} of {len(rows)}", "", *(f"{change:+.4f}" for change in changes))
    return table


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument(
        "--minutes", type=float, default=4.0, help="to learn for, at most (default: %(default)g)"
    )
    parser.add_argument("--kbps", type=float, default=5.0, help="of the scene layer (default: %(default)g)")
    parser.add_argument("--rows", type=Path, help="write the rows there, too")
    options = parser.parse_args()
    bundle = find_model("face_landmarker")
    retracker = Retracker(bundle) if bundle else None
    rows = []
    for clip in options.clips:
        try:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measured(clip, Path(folder), options, retracker))
        except MienError as error:
            Console(stderr=True).print(f"{clip.stem}: left out: {error}", markup=False)
            continue
        print(json.dumps(rows[-1]), flush=True)
        if options.rows:
            with options.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    if retracker is not None:
        retracker.close()
    Console(width=200).print(table_of(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
