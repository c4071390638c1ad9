"""`mien bench picture`: enrol on a clip's first part, send the rest through the codec, compare the pictures.

Beside our own pictures stand those of video codecs at several rates. Every row is kept as it is measured, so a run
that was stopped goes on where it was; the report is made from the rows.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mien.bench.clip_folder import find_clips
from mien.bench.contact_sheet import spread
from mien.bench.picture_clip import Job, measure
from mien.bench.picture_footage import FULL, QUICK, Sampling
from mien.bench.picture_rows import (
    EQUAL,
    OURS,
    OURS_GENERATED,
    TIERS,
    Row,
    Variant,
    count_rows,
    read_rows,
    variants_of,
)
from mien.bench.picture_summary import summary_rows, table_of
from mien.bench.provenance import provenance
from mien.bench.rivals import RIVALS, missing
from mien.decoder.generator import shipped_generator
from mien.encoder.scene_encoder import USUAL_KBPS, check_kbps
from mien.models.store import find_model
from mien.protocol.errors import MienError
from mien.protocol.quantizer import Quality

EXAMPLE: Final = """examples:
  mien bench picture --clips clips/ --out report/             some frames of some clips, in minutes
  mien bench picture --clips clips/ --out report/ --most 0    some frames of every clip
  mien bench picture --clips clips/ --out report/ --full      everything, in hours; may be stopped, and goes on
  mien bench picture --clips clips/ --out report/ --ours      without the video codecs
  mien bench picture --clips clips/ --only anna,ben --sizes 512 --json
  mien bench picture --clips clips/ --out report/ --enrol photo    avatars of one picture, by the head's turn
  mien bench picture --clips clips/ --out report/ --faults --before ../mien-before/
"""
SIZES_PX: Final = (256, 512)
FAMILIES: Final = tuple(dict.fromkeys(r.family for r in RIVALS))
# Payload kbps. At 512 a quick run asks the strongest rival alone.
QUICK_RATES: Final = {256: [10.0, 20.0, 40.0], 512: [10.0, 20.0, 60.0]}
QUICK_AT_512: Final = ("SVT-AV1",)
FULL_RATES: Final = [6.0, 10.0, 15.0, 20.0, 30.0, 50.0, 80.0]
SCENE_KBPS: Final = f"{USUAL_KBPS:g}"
EQUAL_RIVALS: Final = ("SVT-AV1", "VP9")
SHOWN_CLIPS: Final = 6
QUICK_CLIPS: Final = 16  # two cores measure them in ten minutes or so
POLL_S: Final = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's arguments."""
    parser.add_argument("--clips", type=Path, required=True, metavar="DIR", help="videos of one person each")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("bench-out/picture"),
        metavar="DIR",
        help="rows, pictures and the report (default: bench-out/picture)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument(
        "--full", action="store_true", help="every third frame, all rivals at all rates and sizes"
    )
    parser.add_argument("--ours", action="store_true", help="leave out the video codecs")
    parser.add_argument("--only", default="", metavar="TEXT", help="clips whose name holds this, or a,b,c")
    parser.add_argument(
        "--most",
        type=int,
        metavar="N",
        help=f"so many clips at most, evenly spread; 0: all (default: {QUICK_CLIPS}; all with --full or --only)",
    )
    parser.add_argument(
        "--show", metavar="TEXT", help="clips whose pictures the report shows (default: six of them)"
    )
    parser.add_argument(
        "--sizes", default="256,512", metavar="PX", help="picture sizes, 256 and 512 (default: both)"
    )
    parser.add_argument("--step", type=int, metavar="N", help="compare every Nth frame, all of them")
    parser.add_argument("--references", type=int, metavar="N", help="pictures in the avatar")
    parser.add_argument(
        "--quality",
        default="normal",
        metavar="NAMES",
        help="of the coefficients: low, normal, high, or several with commas",
    )
    parser.add_argument(
        "--faults",
        action="store_true",
        help="draw the page of known faults instead, on the clips that it names",
    )
    parser.add_argument(
        "--before", type=Path, metavar="CHECKOUT", help="with --faults: an older version, for comparison"
    )
    parser.add_argument(
        "--scene",
        default=SCENE_KBPS,
        metavar="KBPS",
        help=f"payload of the scene layer, or several with commas (default: {SCENE_KBPS}; 0: no scene)",
    )
    parser.add_argument(
        "--tiers",
        default=",".join(TIERS),
        metavar="NAMES",
        help=f"of our pictures: {', '.join(TIERS)} (default: all)",
    )
    parser.add_argument(
        "--enrol",
        choices=["clip", "photo"],
        default="clip",
        help="photo: enrol one frame of each clip instead, and tell errors by how far the head is turned",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="processes (default: one for each core)")


def run(options: argparse.Namespace) -> int:
    """Measure what is not measured yet, and report. Raises `MienError` where nothing can be measured."""
    console = Console(stderr=True)
    if options.faults:
        return draw_faults(options, console)
    if options.enrol == "photo":
        from mien.bench import one_photo

        clips = find_clips(options.clips, options.only)
        return one_photo.run(clips, judging_bundle(), options.out, console, as_json=options.json)
    jobs, sampling = plan(options), sampling_of(options)
    if len(jobs) < (there := len(find_clips(options.clips, options.only))):
        console.print(f"{len(jobs)} of {there} clips, evenly spread: --most 0 takes all", style="yellow")
    rows_path = options.out / "rows.jsonl"
    options.out.mkdir(parents=True, exist_ok=True)
    left_out = work(unfinished(jobs, read_rows(rows_path, sampling.text)), options.jobs, console)
    for text in left_out:
        console.print(text, style="yellow")
    wanted = {(job.clip.stem, variant) for job in jobs for variant in job.variants}
    found = read_rows(rows_path, sampling.text)
    rows = [row for key, row in sorted(found.items()) if key in wanted]
    if not rows:
        raise MienError("no clip could be measured")
    report(rows, options, console)
    return 0


def report(rows: Sequence[Row], options: argparse.Namespace, console: Console) -> None:
    """Write the page, and print rows or a table."""
    from mien.bench.picture_report import write_report  # matplotlib, only where it is needed

    try:
        page = write_report(rows, options.out)
        console.print(f"report: {page}")
    except MienError as error:  # the figures are worth having without the page
        console.print(f"no report: {error}", style="yellow")
    summary = summary_rows(rows)
    (options.out / "summary.jsonl").write_text("".join(json.dumps(row) + "\n" for row in summary), "utf-8")
    if options.json:
        for row in rows:
            print(row.to_json())
        for line in summary:
            print(json.dumps({**line, **provenance()}))
    else:
        Console(width=190).print(table_of(rows))


def draw_faults(options: argparse.Namespace, console: Console) -> int:
    """Write the page of known faults."""
    from mien.bench.picture_faults import write_faults_page

    options.out.mkdir(parents=True, exist_ok=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        page = write_faults_page(options.clips, options.out, options.before, progress, options.only)
    console.print(f"faults: {page}")
    return 0


# --- What there is to do --------------------------------------------------------------------------------------


def plan(options: argparse.Namespace) -> list[Job]:
    """Return one job for each clip. Raises `MienError` for options that make no sense."""
    bundle = judging_bundle()
    sampling = sampling_of(options)
    variants = tuple(chosen_variants(options))
    clips = chosen_clips(options)
    shown = {clips[i] for i in spread(SHOWN_CLIPS, len(clips))}
    if options.show is not None:
        shown = set(find_clips(options.clips, options.show))
    return [
        Job(
            clip=clip,
            variants=variants,
            sampling=sampling,
            out=options.out,
            bundle=bundle,
            shown=clip in shown,
            references=options.references,
            rows=options.out / "rows.jsonl",
        )
        for clip in clips
    ]


def chosen_clips(options: argparse.Namespace) -> list[Path]:
    """Return the clips that are measured. Raises `MienError` where there are none."""
    clips = find_clips(options.clips, options.only)
    most = options.most
    if most is None:
        most = 0 if options.full or options.only else QUICK_CLIPS
    if most < 0:
        raise MienError(f"--most {most}: expected 0 or more")
    return [clips[at] for at in spread(most, len(clips))] if most else clips


def judging_bundle() -> Path:
    """Return the bundle that pictures are judged by. Raises `MienError` where it is missing."""
    bundle = find_model("face_landmarker")
    if bundle is None:
        raise MienError("pictures are judged by the FaceLandmarker bundle: `mien models fetch` gets it")
    return bundle


def sampling_of(options: argparse.Namespace) -> Sampling:
    """Return how much of each clip is looked at."""
    sampling = FULL if options.full else QUICK
    if options.step is None:
        return sampling
    if options.step < 1:
        raise MienError(f"--step {options.step}: expected 1 or more")
    return replace(sampling, step=options.step, moments=FULL.moments, test_s=FULL.test_s)


def chosen_variants(options: argparse.Namespace) -> Iterator[Variant]:
    """Give what every clip is measured with, cheapest first."""
    qualities = [name.strip().lower() for name in options.quality.split(",")]
    if unknown := [name for name in qualities if name.upper() not in Quality.__members__]:
        raise MienError(f"--quality {unknown[0]}: expected low, normal or high")
    try:
        sizes = [int(text) for text in options.sizes.split(",")]
    except ValueError:
        sizes = [0]
    if not set(sizes) <= set(SIZES_PX):
        raise MienError(f"--sizes {options.sizes}: expected 256, 512 or both with a comma between")
    scenes = chosen_scenes(options)
    tiers = chosen_tiers(options, with_scene=bool(scenes))
    families = [] if options.ours else present_rivals()
    for size in sorted(sizes):
        if options.full:
            rates = {"realtime": FULL_RATES, "best": FULL_RATES}
            some = families
        else:
            rates = {"realtime": QUICK_RATES[size]}
            some = [name for name in families if size == min(SIZES_PX) or name in QUICK_AT_512]
        yield from variants_of([size], qualities, some, rates, tiers=tiers, scenes_kbps=scenes)
        equal_to = [0.0, *scenes[-1:]] if len(tiers) > 1 else [0.0]
        yield from (Variant(size, name, EQUAL, r) for name in some if name in EQUAL_RIVALS for r in equal_to)


def chosen_scenes(options: argparse.Namespace) -> list[float]:
    """Return the scene layer's rates, the lowest first; none where it is left out."""
    try:
        rates = sorted({float(text) for text in options.scene.split(",")})
    except ValueError as error:
        raise MienError(
            f"--scene {options.scene}: expected kilobits a second, or several with commas"
        ) from error
    return [check_kbps(rate) for rate in rates if rate]


def chosen_tiers(options: argparse.Namespace, *, with_scene: bool) -> list[str]:
    """Return the tiers that can be drawn here. Raises `MienError` for one that does not exist."""
    names = [name.strip() for name in options.tiers.split(",")]
    if unknown := [name for name in names if name not in TIERS]:
        raise MienError(f"--tiers {unknown[0]}: expected {', '.join(TIERS)}")
    possible = [OURS] if not with_scene else [t for t in TIERS if t != OURS_GENERATED or shipped_generator()]
    if not (chosen := [tier for tier in possible if tier in names]):
        raise MienError(f"--tiers {options.tiers}: none of them can be drawn here")
    return chosen


def present_rivals() -> list[str]:
    """Return the rivals that this machine's PyAV has."""
    return [name for name in FAMILIES if not any(missing(r) for r in RIVALS if r.family == name)]


def unfinished(jobs: Sequence[Job], rows: dict[tuple[str, Variant], Row]) -> list[Job]:
    """Return the jobs with what is left of each, the long ones first: at the end all cores are busy."""
    left = [
        replace(job, variants=tuple(v for v in job.variants if (job.clip.stem, v) not in rows))
        for job in jobs
    ]
    return sorted((j for j in left if j.variants), key=lambda j: -j.clip.stat().st_size)


# --- The work -------------------------------------------------------------------------------------------------


def work(jobs: Sequence[Job], processes: int | None, console: Console) -> list[str]:
    """Do the jobs, several at once, with a bar that counts rows. Returns why clips were left out."""
    if not jobs:
        return []
    total = sum(len(job.variants) for job in jobs)
    path = jobs[0].rows
    before = count_rows(path)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        task = progress.add_task("rows", total=total)
        processes = min(processes or os.cpu_count() or 1, len(jobs))
        if processes == 1:
            return [text for job in jobs if (text := measure(job))]
        quiet_libraries()
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            results = [pool.apply_async(measure, (job,)) for job in jobs]
            while not all(result.ready() for result in results):
                time.sleep(POLL_S)
                progress.update(task, completed=count_rows(path) - before)
            return [text for result in results if (text := result.get())]


def quiet_libraries() -> None:
    """Let each process that is started from here on use one core: they are as many as the cores."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "LP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
