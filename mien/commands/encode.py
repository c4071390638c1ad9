"""`mien encode`: a clip and an avatar in, a coefficient log out."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mien.commands.avatar_files import read_avatar
from mien.commands.log_report import report_log
from mien.commands.scene_options import add_scene_arguments, scene_settings
from mien.decoder.recording import read_recording
from mien.encoder.capture import Source, open_source
from mien.encoder.identity import watched
from mien.encoder.scene_sender import check_own_likeness
from mien.encoder.sender import SenderCounts
from mien.encoder.source_recorder import record_source
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.errors import MienError
from mien.protocol.log import open_log
from mien.protocol.quantizer import Quality

EXAMPLE: Final = """examples:
  mien encode talk.mp4 --avatar me.avatar -o talk.mien
  mien encode talk.mp4 --avatar me.avatar -o talk.mien --quality high --json
  mien encode talk.mp4 --avatar me.avatar -o talk.mien --scene 5
  mien enroll talk.mp4 --until 0.6 -o me.avatar --consent self && mien encode talk.mp4 --from 0.6 --avatar me.avatar -o talk.mien
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("clip", metavar="CLIP", help="a video, a photo, a folder of images, or camera[:N]")
    parser.add_argument(
        "--avatar", required=True, metavar="FILE", help="the avatar of the person in the clip"
    )
    parser.add_argument(
        "-o", "--out", dest="output", required=True, metavar="FILE", help="the log to write (.mien)"
    )
    parser.add_argument(
        "--quality", choices=[q.name.lower() for q in Quality], default="normal", help="default: normal"
    )
    add_scene_arguments(parser)
    parser.add_argument(
        "--from",
        dest="begin",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="leave out the first part of the clip, such as 0.6 of it",
    )
    parser.add_argument("--json", action="store_true", help="report as one JSON line")


def run(options: argparse.Namespace) -> int:
    """Run the verb."""
    scene = scene_settings(options)
    refuse_same_file(options.clip, options.output)
    avatar = read_avatar(options.avatar).avatar
    if avatar is None:
        raise MienError(f"{options.avatar} has no first layer")
    if scene is not None:
        check_own_likeness(avatar.manifest)
    source = open_source(options.clip)
    console = Console(stderr=True)
    try:
        skip = frames_before(source, options.begin)
        warnings: list[str] = []

        def warn(text: str) -> None:
            warnings.append(text)
            console.print(f"warning: {text}", style="yellow")

        tracker = watched(open_tracker(), avatar, warn)
        try:
            if tracker.tracker_id != avatar.manifest.tracker:
                console.print(
                    f"warning: {options.avatar} was measured with tracker {avatar.manifest.tracker.name}, this clip "
                    f"with {tracker.tracker_id.name}; they differ by 1-2 %. Enrol again with the same one.",
                    style="yellow",
                )
            with frame_counter(f"reading {source.name}", console) as count_frame:
                counts = record_source(
                    source,
                    tracker,
                    avatar,
                    options.output,
                    quality=Quality[options.quality.upper()],
                    skip_frames=skip,
                    scene=scene,
                    may_show=lambda: not warnings,  # an avatar of somebody else gets no scene
                    on_frame=count_frame,
                )
        finally:
            tracker.close()
    finally:
        source.close()
    with open_log(options.output) as reader:
        report = report_log(read_recording(reader), file_bytes=Path(options.output).stat().st_size)
    tell(report, counts, options)
    return 0


@contextmanager
def frame_counter(description: str, console: Console) -> Iterator[Callable[[], None]]:
    """Show on a terminal how often the function that it gives was called."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed} frames"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(description, total=None)
        yield lambda: progress.advance(task)


def frames_before(source: Source, fraction: float) -> int:
    """Return how many frames make up a fraction of a source that ends. Raises `MienError` for one that does not."""
    if not 0 <= fraction < 1:
        raise MienError(f"--from {fraction:g}: expected a fraction from 0 up to 1")
    if fraction == 0:
        return 0
    if source.live:
        raise MienError("--from needs an input that ends")
    return int(fraction * sum(1 for _ in source) + 1e-9)


def refuse_same_file(source: str, output: str) -> None:
    """Raise `MienError` when the output would replace the input."""
    if Path(source).exists() and Path(output).exists() and Path(source).samefile(output):
        raise MienError(f"{output} is the input: name another output")


def tell(report: dict[str, Any], counts: SenderCounts, options: argparse.Namespace) -> None:
    """Print what was written and what it costs."""
    if options.json:
        frames = {"without_face": counts.without_face, "several_faces": counts.several_faces}
        print(json.dumps({"output": options.output, "quality": options.quality, **frames, **report}))
        return
    wire = report["wire_kbps"]["datachannel_ipv4"]
    scene = f" + scene {report['scene_kbps']:.2f}" if report["scene_messages"] else ""
    print(
        f"{options.output}: {report['frames']} frames, {report['duration_s']:.2f} s, "
        f"payload {report['payload_kbps']:.2f}{scene} kbps (computed on a data channel: {wire:.2f} kbps)"
    )
    if counts.without_face or counts.several_faces:
        print(
            f"  no face in {counts.without_face} frames, several in {counts.several_faces}: there the last is held",
            file=sys.stderr,
        )
