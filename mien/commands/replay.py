"""`mien replay`: a log and an avatar in, a video, a folder of frames or a contact sheet out."""

import argparse
import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mien.commands.avatar_files import read_avatar, read_tuning
from mien.commands.replay_outputs import Sink, open_sink
from mien.decoder.artist import Artist
from mien.decoder.as_shown import ShownAgain
from mien.decoder.recording import Recording, read_recording
from mien.decoder.renderer import BACKENDS, Backend
from mien.decoder.replay_schedule import default_rate, make_schedule
from mien.decoder.tuned_generator import tuned_generator
from mien.models.face_model import FaceModel
from mien.protocol.avatar import AvatarAssembler
from mien.protocol.consent import PermittedUse
from mien.protocol.errors import MienError
from mien.protocol.log import LogHeader, LogReader, Origin, open_log, owner_digest
from mien.protocol.stream import MAX_PICTURE_PX
from mien.protocol.tuning import Tuning

EXAMPLE: Final = """examples:
  mien replay talk.mien --avatar me.avatar -o talk.mp4
  mien replay talk.mien --avatar me.avatar -o frames/ --size 256
  mien replay talk.mien --avatar me.avatar -o large.mp4 --size 1280x720 --fps 60
  mien replay talk.mien --avatar me.avatar -o sheet.png
  mien replay call.mien --avatar them.avatar -o call.mp4 --as-shown
"""
Item = TypeVar("Item")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("log", metavar="LOG", help="a .mien file")
    parser.add_argument("--avatar", required=True, metavar="FILE", help="the avatar to draw")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="video (.mp4), contact sheet (.png) or folder of frames",
    )
    parser.add_argument(
        "--size",
        default="source",
        metavar="SIZE",
        help="source, N pixels on the longer side, or WxH (default: source)",
    )
    parser.add_argument(
        "--fps", type=Fraction, metavar="N", help="frames per second (default: the source's frames)"
    )
    parser.add_argument(
        "--tier",
        choices=["W", "N", "S"],
        help="W: mesh warp; S: with the log's scene layer (default: S where there is one; N: not yet)",
    )
    parser.add_argument(
        "--generator",
        choices=["on", "off"],
        default="on",
        help="off: paint the scene layer without the generator (default: on, where this version has one)",
    )
    parser.add_argument(
        "--tuning",
        metavar="FILE",
        help="the .tuning of this avatar (`mien enroll --finetune`): the generator draws its person better",
    )
    parser.add_argument(
        "--as-shown", action="store_true", help="repeat what a call showed, at the times that it did"
    )
    parser.add_argument(
        "--backend", choices=BACKENDS, help="what draws (default: gl where there is EGL; --as-shown: as live)"
    )
    parser.add_argument("--json", action="store_true", help="report as one JSON line")


def run(options: argparse.Namespace) -> int:
    """Run the verb."""
    if options.tier == "N":
        raise MienError("--tier N is not there yet: W and S are")
    if options.as_shown and options.tier is not None:
        raise MienError("--as-shown draws what was drawn: leave out --tier")
    if options.as_shown and (options.fps is not None or options.size != "source"):
        raise MienError("--as-shown keeps the times and the size that were shown: leave out --fps and --size")
    if options.fps is not None and not 0 < options.fps <= 240:
        raise MienError(f"--fps {options.fps}: expected more than 0, at most 240")
    console = Console(stderr=True)
    with open_log(options.log) as reader:
        whole = read_avatar(options.avatar)
        for warning in check_avatar(reader.header, whole, options.avatar):
            console.print(f"warning: {warning}", style="yellow")
        tuning = fitting_tuning(options, whole, console)
        if options.as_shown:
            report = replay_as_shown(reader, whole, options, console, tuning)
        else:
            report = replay_source(reader, whole, options, console, tuning)
    if report["damage"]:
        console.print(f"warning: {options.log}: {report['damage']}", style="yellow")
    elif not report["finished"]:
        console.print(
            f"warning: {options.log}: its recorder did not finish; all that it wrote is here", style="yellow"
        )
    if options.json:
        print(json.dumps({"output": options.output, **report}))
    else:
        print(tell(options.output, report))
    return 1 if report.get("states_equal", 0) != report.get("states", 0) else 0


def check_avatar(header: LogHeader, whole: AvatarAssembler, path: str) -> list[str]:
    """Return warnings. Raises `MienError` for an avatar that this log must not move."""
    if owner_digest(whole.manifest.owner) != header.owner:
        raise MienError(
            f"{path} belongs to {whole.manifest.owner_fingerprint}, this log to someone else: "
            "one person's motion is not put on another's face"
        )
    may_record = whole.manifest.permits(PermittedUse.RECORD) or whole.manifest.permits(PermittedUse.LOOPBACK)
    if header.origin is Origin.RECEIVED and not may_record:
        raise MienError(f"the owner of {path} does not permit recordings with it")
    model_id = FaceModel.load().model_id
    if header.stream.model_id != model_id:
        raise MienError(
            f"the log uses face model {header.stream.model_id.hex()}, this version of mien has {model_id.hex()}"
        )
    warnings = []
    if whole.avatar_id != header.avatar_id:
        warnings.append(
            f"the log was made with another avatar of the same owner ({header.avatar_id.hex()[:16]})"
        )
    if whole.manifest.tracker != header.stream.tracker:
        warnings.append(
            f"the log was measured with tracker {header.stream.tracker.name}, the avatar with "
            f"{whole.manifest.tracker.name}; they differ by 1-2 %"
        )
    return warnings


def fitting_tuning(options: argparse.Namespace, whole: AvatarAssembler, console: Console) -> Tuning | None:
    """Return the tuning that the options name; None, with a warning, where it cannot be used with this avatar."""
    if options.tuning is None:
        return None
    _, tuning = read_tuning(options.tuning)
    try:
        if whole.avatar is not None and options.generator == "on":
            tuned_generator(tuning, whole.avatar)
        return tuning
    except MienError as error:
        console.print(
            f"warning: {options.tuning}: {error}; drawn without it",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )
        return None


# --- The source's frames ------------------------------------------------------------------------------------


def replay_source(
    reader: LogReader,
    whole: AvatarAssembler,
    options: argparse.Namespace,
    console: Console,
    tuning: Tuning | None,
) -> dict[str, Any]:
    """Draw one picture for each frame of the source (or at --fps)."""
    recording = read_recording(reader)
    avatar = whole.avatar
    segments = [s for s in recording.segments if len(s.track)]
    if avatar is None or not segments:
        raise MienError(why_nothing(recording, options.log))
    width, height = parse_size(options.size, recording.header)
    tier = options.tier or ("S" if any(s.scene for s in segments) else "W")
    if tier == "S" and not any(s.scene for s in segments):
        raise MienError(f"--tier S: {options.log} has no scene layer (`mien encode --scene KBPS` makes one)")
    schedule = make_schedule(segments, options.fps)
    rate = options.fps or default_rate(recording)
    backend: Backend = options.backend or "auto"
    artist = Artist(
        avatar,
        width=width,
        height=height,
        backend=backend,
        scene=tier == "S",
        generator=(tuning is None or tuned_generator(tuning, avatar)) if options.generator == "on" else False,
    )
    with closing(artist):
        artist.draw(schedule[0])  # what cannot be drawn should not replace a file
        sink = open_sink(options.output, width=width, height=height, rate=rate, total=len(schedule))
        with closing(sink):
            for due in progress_over(schedule, options.output, console):
                sink.write(artist.draw(due), due.time_us)
    return {
        "frames": len(schedule),
        "width": width,
        "height": height,
        "renderer": artist.backend,
        "tier": tier,
        "generator": artist.generator.device if artist.generator else None,
        "tuned": tuning is not None and artist.generator is not None,
        "finished": recording.ended,
        "damage": str(recording.damage) if recording.damage else None,
    }


def why_nothing(recording: Recording, path: str) -> str:
    """Say why a log gives no picture."""
    problem = next((s.problem for s in recording.segments if s.problem), None)
    if problem:
        return f"{path}: {problem}"
    damage = f" ({recording.damage})" if recording.damage else ""
    return f"{path} holds no message that can be read{damage}"


def parse_size(text: str, header: LogHeader) -> tuple[int, int]:
    """Return width and height of the output. Raises `MienError` for a size that is none."""
    if text == "source":
        return header.width, header.height
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if match is None:
        raise MienError(f"--size {text}: expected source, a number of pixels, or WIDTHxHEIGHT")
    if match[2] is None:
        scale = int(match[1]) / max(header.width, header.height)
        width, height = (max(2, 2 * round(scale * side / 2)) for side in (header.width, header.height))
    else:
        width, height = int(match[1]), int(match[2])
    if not (2 <= width <= MAX_PICTURE_PX and 2 <= height <= MAX_PICTURE_PX):
        raise MienError(f"--size {text}: expected 2 to {MAX_PICTURE_PX} pixels each way")
    return width, height


# --- What was shown -----------------------------------------------------------------------------------------


def replay_as_shown(
    reader: LogReader,
    whole: AvatarAssembler,
    options: argparse.Namespace,
    console: Console,
    tuning: Tuning | None,
) -> dict[str, Any]:
    """Repeat the pictures of a received log."""
    if reader.header.origin is not Origin.RECEIVED:
        raise MienError(f"{options.log} was made from a source, nothing was shown yet: leave out --as-shown")
    index = reader.index()
    if index.renders == 0:
        raise MienError(f"{options.log} notes no picture that was shown: leave out --as-shown")
    again = ShownAgain(reader, whole, now_unix_s=int(time.time()), backend=options.backend, tuning=tuning)
    sink: Sink | None = None
    first_us = 0
    try:
        for picture in progress_over(again.pictures(), options.output, console, total=index.renders):
            if sink is None:
                height, width, _ = picture.rgb.shape
                first_us = picture.time_us
                sink = open_sink(
                    options.output, width=width, height=height, rate=Fraction(30), total=index.renders
                )
            sink.write(picture.rgb, picture.time_us - first_us)
    finally:
        again.close()
        if sink is not None:
            sink.close()
    agreement = again.agreement
    if again.other_avatars:
        console.print(
            "warning: for a part the log shows another avatar; it is left empty here", style="yellow"
        )
    return {
        "frames": index.renders,
        "states": agreement.states,
        "states_equal": agreement.states_equal,
        "pictures": agreement.pictures,
        "pictures_equal": agreement.pictures_equal,
        "finished": index.ended,
        "damage": str(index.damage) if index.damage else None,
    }


def progress_over(
    items: Iterable[Item], what: str, console: Console, *, total: int | None = None
) -> Iterator[Item]:
    """Give the items, with a progress bar on a terminal."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield from progress.track(items, total=total, description=f"drawing {what}")


def tell(output: str, report: dict[str, Any]) -> str:
    """Return what was done, for a person."""
    if "states" not in report:
        size = f"{report['width']} x {report['height']}"
        by = f"drawn by {report['renderer']}, tier {report['tier']}"
        if report["generator"]:
            by += f", {'tuned ' * report['tuned']}generator on the {report['generator']}"
        return f"{output}: {report['frames']} frames, {size}, {by}"
    return (
        f"{output}: {report['frames']} frames; equal to what was shown: {report['states_equal']} of {report['states']} "
        f"states, {report['pictures_equal']} of {report['pictures']} pictures"
    )
