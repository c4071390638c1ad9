"""`mien demo`: two peers over real WebRTC on loopback, seen side by side, with the kbps it cost."""

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from mien.bench.loopback_call import LoopbackHooks, LoopbackResult, LoopbackSettings, loopback_call
from mien.call.face_view import ViewSettings, fit_view
from mien.call.settings import Participant
from mien.call.turns import short_turns
from mien.commands.demo_film import Film
from mien.commands.demo_report import DemoReport
from mien.decoder.output import save_png
from mien.encoder.capture import CAMERA_SPEC, Frame, Source, open_source
from mien.encoder.enroll import enroll_in_detail
from mien.encoder.excerpt import Excerpt
from mien.encoder.owner_key import OwnerKey, load_owner_key
from mien.encoder.synthetic_source import SyntheticSource
from mien.encoder.tracker import Tracker
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.avatar import MAX_HEAD_BYTES, Avatar, Signer, parse_avatar
from mien.protocol.consent import Consent, ConsentKind
from mien.protocol.errors import MienError
from mien.protocol.manifest import MAX_AVATAR_BYTES

if TYPE_CHECKING:
    from mien.decoder.window import Window

logger = logging.getLogger(__name__)

EXAMPLE: Final = """examples:
  mien demo
  mien demo --input talk.mp4 --out talk-demo.mp4
  mien demo --input camera --avatar me.avatar --seconds 20
  mien demo --json demo.json

Without --input a public-domain portrait is brought to life by a scripted motion. A clip is enrolled on its first
60 % and played in real time on its last 40 %. Nothing leaves this machine, and no avatar is kept.
"""

DEFAULT_SECONDS: Final = 12.0
CLIP_SECONDS: Final = 20.0  # at most, unless --seconds says more
ENROL_PART: Final = Fraction(6, 10)
MAX_ENROL_S: Final = 60.0
MIN_CALL_S: Final = 1.0
MAX_SECONDS: Final = 3600.0
MAX_FILE_BYTES: Final = MAX_HEAD_BYTES + MAX_AVATAR_BYTES
SYNTHETIC_ENROL_S: Final = 8.0
SYNTHETIC_CALL_AT_S: Final = 100.0  # another part of the script than the one that was enrolled
VIEW_PX: Final = 512
CLIP_STATEMENT: Final = (
    "A clip that was given to the demo, for a call of this machine with itself. Nothing of it is kept."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--input", metavar="FILE|CAMERA", help="a clip, or camera[:N] (default: the test picture)"
    )
    parser.add_argument("--seconds", type=float, help=f"length of the call (default: {DEFAULT_SECONDS:g})")
    parser.add_argument(
        "--out", type=Path, default=Path("demo.mp4"), help="the side-by-side video (default: %(default)s)"
    )
    parser.add_argument(
        "--avatar", type=Path, metavar="FILE", help="your own avatar, instead of enrolling the input"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")


def run(options: argparse.Namespace) -> int:
    """Enrol, call, report. Returns 0."""
    if options.seconds is not None and not 1 <= options.seconds <= MAX_SECONDS:
        raise MienError(f"--seconds {options.seconds:g}: expected 1 to {MAX_SECONDS:g}")
    console = Console()
    with contextlib.closing(open_tracker()) as tracker, short_turns():
        scene = _prepare(options, tracker, console)
        size = fit_view(scene.source.width, scene.source.height, VIEW_PX)
        window = open_window(*Film.size_for(size))
        with Film(options.out, picture_size=size, heading=scene.heading, seconds=scene.seconds) as film:
            result = asyncio.run(_call(scene, tracker, film, window))
        if window is not None:
            window.close()
    sheet = options.out.with_suffix(".png")
    save_png(sheet, film.sheet())
    missed = scene.source.missed if isinstance(scene.source, SyntheticSource) else 0
    report = DemoReport(
        heading=scene.heading,
        tracker=tracker.tracker_id,
        source_rate=scene.source.rate,
        result=result,
        source_frames_left_out=result.sender.sent.frames_left_out + missed,
        film_frames_left_out=film.left_out,
    )
    if options.json is not None:
        report.write_json(options.json)
    report.print(console)
    console.print(f"wrote {options.out} and {sheet}", highlight=False, soft_wrap=True)
    return 0


async def _call(scene: "Scene", tracker: Tracker, film: Film, window: "Window | None") -> LoopbackResult:
    if window is not None:
        film.show_on(asyncio.get_running_loop(), window.show)
    me = Participant(source=scene.source, tracker=tracker, avatar=scene.avatar_bytes, signer=scene.signer)
    return await loopback_call(
        me,
        scene.avatar,
        settings=LoopbackSettings(view=ViewSettings(longest_px=VIEW_PX)),
        hooks=LoopbackHooks(on_frame=film.on_frame, on_picture=film.on_picture),
    )


# --- what is shown --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """What the call plays, and what is enrolled for it."""

    heading: str
    source: Source
    seconds: float
    enrolled: Iterable[Frame]
    consent: Consent


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """The input of the call, the avatar that is driven by it, and the key of the avatar's owner."""

    heading: str
    source: Source
    seconds: float
    avatar_bytes: bytes
    avatar: Avatar
    signer: Signer


def _prepare(options: argparse.Namespace, tracker: Tracker, console: Console) -> Scene:
    if options.input is not None and CAMERA_SPEC.fullmatch(options.input) and options.avatar is None:
        raise MienError(
            "the camera shows a person, and an avatar needs that person's consent: run `mien enroll camera "
            "-o me.avatar`, then `mien demo --input camera --avatar me.avatar`"
        )
    own = None if options.avatar is None else _own_avatar(options.avatar)
    if options.input is None:
        given = _test_picture(options.seconds)
    else:
        given = _person(open_source(options.input), options.seconds)
    return Scene(given.heading, given.source, given.seconds, *(own or _enroll(given, tracker, console)))


def _test_picture(seconds: float | None) -> Input:
    seconds = seconds or DEFAULT_SECONDS
    return Input(
        heading=SyntheticSource.name,
        source=SyntheticSource(seconds, start_s=SYNTHETIC_CALL_AT_S, live=True),
        seconds=seconds,
        enrolled=SyntheticSource(SYNTHETIC_ENROL_S),
        consent=Consent.test_fixture(_now_s()),
    )


def _person(whole: Source, seconds: float | None) -> Input:
    """Divide a clip into what is enrolled and what is played; a camera is only played."""
    if whole.live:
        split_s, end_s = 0.0, seconds or DEFAULT_SECONDS
    else:
        split_s, clip_s = _split(whole)
        end_s = min(clip_s, split_s + (seconds or CLIP_SECONDS))
    return Input(
        heading=whole.name,
        source=Excerpt(whole, split_s, end_s),
        seconds=end_s - split_s,
        enrolled=Excerpt(whole, max(0.0, split_s - MAX_ENROL_S), split_s),
        # Whose face this is nobody said, so the avatar is good for this machine and this run only.
        consent=Consent(ConsentKind.TEST_FIXTURE, CLIP_STATEMENT, _now_s()),
    )


def _enroll(given: Input, tracker: Tracker, console: Console) -> tuple[bytes, Avatar, Signer]:
    key = OwnerKey.throw_away()
    with console.status("enrolling"):
        enrolment = enroll_in_detail(
            given.enrolled, consent=given.consent, name="demo", key=key, tracker=tracker
        )
    for warning in enrolment.warnings:
        console.print(f"[yellow]note[/yellow] {warning}", highlight=False, soft_wrap=True)
    return enrolment.data, enrolment.avatar, key


def _split(clip: Source) -> tuple[float, float]:
    """Return where the enrolment of a clip ends and where the clip ends, in seconds. Decodes it once.

    Raises `MienError` for a clip that is too short for both.
    """
    times_us = [frame.timestamp_us for frame in clip]
    count = int(ENROL_PART * len(times_us))
    end_us = times_us[-1] + 1_000_000 / clip.rate if times_us else 0
    if count < 1 or end_us - times_us[count] < MIN_CALL_S * 1_000_000:
        raise MienError(
            f"{clip.name} has {len(times_us)} frames: a demo needs a clip of {MIN_CALL_S / float(1 - ENROL_PART):g} s "
            "or more, since the first 60 % are enrolled and the rest is played"
        )
    return times_us[count] / 1e6, float(end_us) / 1e6


def _own_avatar(path: Path) -> tuple[bytes, Avatar, Signer]:
    """Return an avatar's bytes, what they say, and its owner's key. Raises `MienError` where the key is not here."""
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else b""
    except OSError as error:
        raise MienError(f"cannot read {path}: {error.strerror or error}") from error
    avatar = parse_avatar(data, now_unix_s=_now_s())
    key = load_owner_key()
    if key is None or key.public_key != avatar.manifest.owner:
        raise MienError(
            f"{path} belongs to the key {avatar.manifest.owner_fingerprint}, which is not this user's: "
            "the demo shows only your own avatar"
        )
    return data, avatar, key


def _now_s() -> int:
    return int(time.time())


def open_window(width: int, height: int) -> "Window | None":
    """Open a window where there is a display and the means; None elsewhere, which is no fault."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    try:
        from mien.decoder.window import Window

        return Window(width, height, title="mien demo")
    except MienError as error:
        logger.info("no window: %s", error)
        return None
