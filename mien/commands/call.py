"""`mien call`: join a room and talk."""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from mien.call.audio import Loudspeaker, VoiceTrack, open_voice
from mien.call.face_view import ShownPicture, ViewSettings
from mien.call.opus import MAX_KBPS, MIN_KBPS, VoiceSettings
from mien.call.peer import Addresses, IceServer
from mien.call.rendezvous import RoomRendezvous
from mien.call.scripted_source import Act, CoverableSource, parse_script
from mien.call.self_view import with_self_view
from mien.call.session import CallHooks, CallSession, CallSettings, Participant
from mien.call.signalling import DEFAULT_SERVER, SignallingClient, is_loopback, room_url
from mien.call.source_worker import SenderSettings, TrackedFrame
from mien.call.statistics import CallStatistics
from mien.call.turns import short_turns
from mien.commands.avatar_files import read_avatar
from mien.commands.call_report import print_call
from mien.decoder.window import Window
from mien.encoder.capture import open_source
from mien.encoder.identity import watched
from mien.encoder.owner_key import OwnerKey, load_owner_key
from mien.encoder.tracker import Tracker
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.avatar import AvatarAssembler
from mien.protocol.errors import MienError
from mien.protocol.private_files import cache_folder
from mien.protocol.quantizer import Quality

EXAMPLE: Final = """examples:
  mien call ws://127.0.0.1:8765/den --avatar me.avatar
  mien call wss://example.org/den --avatar me.avatar --allow-video --record talk.mien
  mien call den --input talk.mp4 --avatar me.avatar --out received.mp4 --seconds 30 --json-stats stats.json

In a terminal, while the call runs: show, hide (the camera), mute, unmute (the voice), quit.
"""

ICE_PASSWORD: Final = "MIEN_ICE_PASSWORD"
VOICE_FRAMES_MS: Final = (20, 40, 60)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "room", metavar="URL|ROOM", help="ws://HOST:PORT/ROOM, wss://..., or a room of --server"
    )
    parser.add_argument(
        "--server",
        default=os.environ.get("MIEN_SERVER", DEFAULT_SERVER),
        help="for a room's name (default: %(default)s)",
    )
    parser.add_argument("--ca-file", type=Path, metavar="PEM", help="certificate of a self-signed server")
    face = parser.add_argument_group("your face")
    face.add_argument(
        "--input", metavar="FILE|CAMERA", help="a clip, a photo, a folder, camera[:N] (default: camera)"
    )
    face.add_argument("--avatar", metavar="FILE", help="your avatar; without it you are not seen")
    face.add_argument(
        "--quality", choices=[q.name.lower() for q in Quality], default="normal", help="default: normal"
    )
    face.add_argument(
        "--repeat", action="store_true", help="begin a clip again at its end (default: hang up)"
    )
    face.add_argument(
        "--carrier", choices=["datachannel", "audio"], default="datachannel", help="default: datachannel"
    )
    face.add_argument(
        "--allow-video",
        action="store_true",
        help="let your camera be shown as video when your face is lost for 2 s, until it is back",
    )
    face.add_argument("--show", action="store_true", help="show your camera as video from the start")
    voice = parser.add_argument_group("voice")
    voice.add_argument(
        "--audio", metavar="SOURCE", help="microphone, silence or a WAV file (default: a microphone if any)"
    )
    voice.add_argument(
        "--voice-kbps",
        type=float,
        default=12.0,
        metavar="6..24",
        help="of sound; headers come on top. The lower of the two sides' is used (default: 12)",
    )
    voice.add_argument(
        "--voice-frame-ms",
        type=int,
        choices=VOICE_FRAMES_MS,
        default=60,
        help="a packet's length: longer costs less and waits longer (default: 60)",
    )
    voice.add_argument("--mute", action="store_true", help="begin muted")
    voice.add_argument("--no-audio", action="store_true", help="neither send nor receive voice")
    picture = parser.add_argument_group("their picture")
    picture.add_argument("--out", type=Path, metavar="FILE.mp4", help="write what is shown to a video file")
    picture.add_argument(
        "--record", type=Path, metavar="FILE.mien", help="record what comes; the other side is told"
    )
    picture.add_argument(
        "--size", type=int, default=512, metavar="PX", help="longest side of the picture (default: 512)"
    )
    picture.add_argument("--fps", type=float, default=30.0, help="pictures a second (default: 30)")
    picture.add_argument(
        "--no-window", action="store_true", help="open no window, also where there is a display"
    )
    picture.add_argument("--no-cache", action="store_true", help="keep no copy of the other side's avatar")
    network = parser.add_argument_group("network")
    network.add_argument(
        "--ice-server",
        action="append",
        default=[],
        metavar="URL",
        help="stun:HOST or turn:HOST (default: none is asked)",
    )
    network.add_argument("--ice-user", help=f"user name for turn:; the password is read from ${ICE_PASSWORD}")
    network.add_argument("--loopback", action="store_true", help="use this machine's loopback only")
    network.add_argument(
        "--transfer-kbps", type=float, default=17.0, help="for sending your avatar (default: 17)"
    )
    run = parser.add_argument_group("run")
    run.add_argument("--seconds", type=float, help="hang up so many seconds after connecting")
    run.add_argument(
        "--json-stats", metavar="FILE", help="write the call's figures as JSON (- for standard output)"
    )
    run.add_argument(
        "--script", metavar="TEXT", help='rehearse: "5:cover 10:uncover 12:show 15:hide 20:quit"'
    )


def run(options: argparse.Namespace) -> int:
    """Call. Returns 0, or 1 where the other side vanished."""
    _check(options)
    console = Console(stderr=True, highlight=False)
    with _equipment(options, console) as equipment, short_turns():
        statistics = asyncio.run(_call(options, equipment, console))
    if options.json_stats == "-":
        print(json.dumps(statistics.as_json()))
    else:
        print_call(Console(highlight=False), statistics)
        if options.json_stats:
            _write(Path(options.json_stats), json.dumps(statistics.as_json(), indent=1))
    return 1 if "vanished" in statistics.ended else 0


@dataclass(slots=True, eq=False)
class _Equipment:
    """What was opened before the call, so that what is missing is said before anybody waits."""

    url: str
    script: tuple[Act, ...]
    source: CoverableSource | None = None
    tracker: Tracker | None = None
    avatar: AvatarAssembler | None = None
    signer: OwnerKey | None = None
    window: Window | None = None
    own: NDArray[np.uint8] | None = field(
        default=None, repr=False
    )  # the newest camera frame, for the self view


def _check(options: argparse.Namespace) -> None:
    if options.carrier == "audio":
        raise MienError(
            "--carrier audio is not there yet: leave the option out, and the data channel is used"
        )
    for name, low, high in (
        ("seconds", 0.1, 86_400),
        ("fps", 1, 60),
        ("size", 64, 4096),
        ("transfer_kbps", 1, 1e6),
        ("voice_kbps", MIN_KBPS, MAX_KBPS),
    ):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise MienError(f"--{name.replace('_', '-')} {value:g}: expected {low:g} to {high:g}")
    for path in (options.out, options.record, options.json_stats and Path(options.json_stats)):
        if path is not None and not path.absolute().parent.is_dir():
            raise MienError(
                f"there is no folder {path.absolute().parent} for {path}: make it, or name another file"
            )
    if options.no_audio and (options.audio or options.mute):
        raise MienError("--no-audio leaves nothing for --audio or --mute to do: leave one out")
    if options.show and not (options.avatar or options.input):
        raise MienError("--show shows your camera: name it with --input camera")


@contextlib.contextmanager
def _equipment(options: argparse.Namespace, console: Console) -> Iterator[_Equipment]:
    equipment = _Equipment(room_url(options.room, server=options.server), parse_script(options.script or ""))
    with contextlib.ExitStack() as stack:
        if options.avatar:
            equipment.avatar = read_avatar(options.avatar)
            equipment.signer = load_owner_key()
            _warn_of_key(equipment, console)
        if options.avatar or options.input:
            equipment.source = CoverableSource(open_source(options.input or "camera"))
            stack.callback(equipment.source.close)
            avatar = equipment.avatar.avatar if equipment.avatar else None
            tracker = watched(
                open_tracker(), avatar, lambda text: console.print(f"warning: {text}", style="yellow")
            )
            equipment.tracker = stack.enter_context(contextlib.closing(tracker))
            _warn_of_tracker(equipment, console)
        else:
            console.print("no --avatar and no --input: you see and hear, and are not seen")
        equipment.window = _open_window(options, console)
        if equipment.window is not None:
            stack.callback(equipment.window.close)
        yield equipment


def _warn_of_key(equipment: _Equipment, console: Console) -> None:
    assert equipment.avatar is not None
    if equipment.signer is None or equipment.signer.public_key != equipment.avatar.manifest.owner:
        console.print(
            "warning: the key of this avatar's owner is not on this machine, so the other side will not show it",
            style="yellow",
        )


def _warn_of_tracker(equipment: _Equipment, console: Console) -> None:
    avatar, tracker = equipment.avatar, equipment.tracker
    if avatar and tracker and avatar.manifest.tracker != tracker.tracker_id:
        console.print(
            f"warning: the avatar was measured with tracker {avatar.manifest.tracker.name}, this call uses "
            f"{tracker.tracker_id.name}; they differ by 1-2 %. Enrol again with the same one.",
            style="yellow",
        )


def _open_window(options: argparse.Namespace, console: Console) -> Window | None:
    fate = (
        f"the picture goes to {options.out}"
        if options.out
        else "the picture goes nowhere (--out FILE.mp4 keeps it)"
    )
    if options.no_window:
        console.print(f"no window: {fate}")
        return None
    try:
        return Window(options.size, options.size)
    except MienError as error:
        console.print(f"no window ({error}): {fate}")
        return None


async def _call(options: argparse.Namespace, equipment: _Equipment, console: Console) -> CallStatistics:
    voice, speaker = _open_sound(options, console)
    hooks = CallHooks(
        on_frame=lambda frame: _keep_own(equipment, frame),
        on_picture=lambda picture: _show(equipment, picture, session),
        on_status=lambda text: _say(console, text),
        on_voice=speaker.play if speaker else None,
    )
    session = CallSession(
        Participant(
            source=equipment.source,
            tracker=equipment.tracker,
            avatar=equipment.avatar.serialize() if equipment.avatar else None,
            signer=equipment.signer,
            voice=voice,
        ),
        _settings(options, equipment.url),
        hooks,
    )
    helpers = [asyncio.create_task(_direct(session, options, equipment), name="script")]
    try:
        with _hang_up_on_signals(session), _commands_from_terminal(session, console):
            async with SignallingClient(equipment.url, ca_file=options.ca_file) as client:
                return await session.run(RoomRendezvous(client))
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        if speaker is not None:
            speaker.close()


def _settings(options: argparse.Namespace, url: str) -> CallSettings:
    addresses = Addresses.BOTH if is_loopback(url) else Addresses.INTERFACES
    password = os.environ.get(ICE_PASSWORD)
    return CallSettings(
        view=ViewSettings(
            longest_px=options.size, rate=Fraction(options.fps).limit_denominator(1001), out=options.out
        ),
        sender=SenderSettings(quality=Quality[options.quality.upper()], repeat=options.repeat),
        addresses=Addresses.LOOPBACK if options.loopback else addresses,
        ice_servers=tuple(IceServer(server, options.ice_user, password) for server in options.ice_server),
        allow_video=options.allow_video,
        audio=not options.no_audio,
        voice=VoiceSettings(kbps=options.voice_kbps, frame_ms=options.voice_frame_ms),
        record=options.record,
        cache_folder=None if options.no_cache else cache_folder() / "avatars",
        transfer_kbps=options.transfer_kbps,
    )


def _open_sound(
    options: argparse.Namespace, console: Console
) -> tuple[VoiceTrack | None, Loudspeaker | None]:
    if options.no_audio:
        return None, None
    voice: VoiceTrack | None = None
    speaker: Loudspeaker | None = None
    try:
        voice = open_voice(options.audio or "microphone", muted=options.mute)
    except MienError as error:
        if options.audio:
            raise
        console.print(f"you are not heard: {error}")
    try:
        speaker = Loudspeaker()
    except MienError as error:
        console.print(f"you hear nothing: {error}")
    return voice, speaker


def _keep_own(equipment: _Equipment, frame: TrackedFrame) -> None:
    if equipment.window is not None:
        equipment.own = frame.rgb


def _show(equipment: _Equipment, picture: ShownPicture, session: CallSession) -> None:
    window = equipment.window
    if window is None:
        return
    if not window.open:
        session.hang_up("the window was closed")
        return
    window.show(with_self_view(picture.rgb, equipment.own, live=session.camera_live))


def _say(console: Console, text: str) -> None:
    live = text.startswith("CAMERA LIVE")
    console.print(f"{'[bold white on red]●[/] ' if live else ''}{text}")


async def _direct(session: CallSession, options: argparse.Namespace, equipment: _Equipment) -> None:
    """Do what the script and --seconds say."""
    await session.connected.wait()
    if options.show:
        session.show()
    acts = list(equipment.script)
    if options.seconds is not None:
        acts.append(Act(options.seconds, "quit"))
    passed_s = 0.0
    for act in sorted(acts, key=lambda a: a.seconds):
        await asyncio.sleep(act.seconds - passed_s)
        passed_s = act.seconds
        _do(session, act.verb, equipment.source)


def _do(session: CallSession, verb: str, source: CoverableSource | None) -> bool:
    """Do one thing; False where there is no such thing."""
    if verb in ("cover", "uncover"):
        if source is not None:
            source.covered = verb == "cover"
    elif verb == "show":
        session.show()
    elif verb == "hide":
        session.hide()
    elif verb in ("mute", "unmute"):
        session.mute(verb == "mute")
    elif verb == "quit":
        session.hang_up()
    else:
        return False
    return True


@contextlib.contextmanager
def _hang_up_on_signals(session: CallSession) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def interrupt() -> None:
        if session.connected.is_set():
            session.hang_up("interrupted")
        elif task is not None:
            task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM)
    with contextlib.suppress(NotImplementedError):  # Windows has no signal handlers in its loop
        for number in numbers:
            loop.add_signal_handler(number, interrupt)
    try:
        yield
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        with contextlib.suppress(NotImplementedError):
            for number in numbers:
                loop.remove_signal_handler(number)


@contextlib.contextmanager
def _commands_from_terminal(session: CallSession, console: Console) -> Iterator[None]:
    """Read commands, a line each, where standard input is a terminal."""
    if not sys.stdin or not sys.stdin.isatty():
        yield
        return
    loop = asyncio.get_running_loop()

    def read() -> None:
        verb = sys.stdin.readline().strip().lower()
        if verb and not _do(session, verb, None):
            console.print("show, hide, mute, unmute or quit")

    try:
        loop.add_reader(sys.stdin, read)
    except NotImplementedError:  # Windows' loop
        yield
        return
    try:
        yield
    finally:
        loop.remove_reader(sys.stdin)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n")
    except OSError as error:
        raise MienError(f"cannot write {path}: {error.strerror}") from None
