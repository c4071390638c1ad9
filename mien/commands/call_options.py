"""The options of `mien call`, what they may be, and the settings they make."""

import argparse
import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Final

from mien.call.carrier_choice import CarrierWish
from mien.call.face_view import ViewSettings
from mien.call.opus import FRAMES_MS, MAX_KBPS, MIN_KBPS, VoiceSettings
from mien.call.peer import Addresses, IceServer
from mien.call.rate_plan import Situation, check_budget
from mien.call.settings import CallSettings, RateSettings
from mien.call.signalling import DEFAULT_SERVER, is_loopback
from mien.call.source_worker import SenderSettings
from mien.commands import call_sound
from mien.commands.avatar_files import read_tuning
from mien.commands.scene_options import add_scene_arguments, scene_settings
from mien.protocol.control import Carrier
from mien.protocol.errors import MienError
from mien.protocol.private_files import cache_folder
from mien.protocol.quantizer import Quality

ICE_PASSWORD: Final = "MIEN_ICE_PASSWORD"
MAX_VIEW_PX: Final = 4096
LEAST_VIDEO_KBPS: Final = 600.0


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
        "--quality",
        choices=[q.name.lower() for q in Quality],
        help="how fine your face is coded (default: normal, or what --budget-kbps pays)",
    )
    face.add_argument(
        "--repeat", action="store_true", help="begin a clip again at its end (default: hang up)"
    )
    face.add_argument(
        "--carrier",
        choices=[wish.value for wish in CarrierWish],
        default=CarrierWish.AUTO.value,
        help="how your face travels: audio (in the packets of your voice, also while you are muted; cheaper and "
        "sooner there), datachannel, or auto (audio where that works; default)",
    )
    face.add_argument(
        "--allow-video",
        action="store_true",
        help="let your camera be shown as video when your face is lost for 2 s, until it is back",
    )
    face.add_argument("--show", action="store_true", help="show your camera as video from the start")
    add_scene_arguments(parser)
    voice = parser.add_argument_group("voice")
    call_sound.add_arguments(voice)
    voice.add_argument(
        "--voice-kbps",
        type=float,
        metavar="6..24",
        help="of sound at most; headers come on top. The lower of the two sides' is used (default: 12, with a budget 16)",
    )
    voice.add_argument(
        "--voice-frame-ms",
        type=int,
        choices=FRAMES_MS,
        help="a packet's length at least: longer costs less and waits longer (default: 60, with a budget 40)",
    )
    voice.add_argument("--mute", action="store_true", help="begin muted")
    voice.add_argument("--no-audio", action="store_true", help="neither send nor receive voice")
    picture = parser.add_argument_group("their picture")
    picture.add_argument("--out", type=Path, metavar="FILE.mp4", help="write what is shown to a video file")
    picture.add_argument(
        "--record", type=Path, metavar="FILE.mien", help="record what comes; the other side is told"
    )
    picture.add_argument(
        "--size",
        default="512",
        metavar="PX|WxH",
        help="longest side of the picture, or its width and height (default: 512)",
    )
    picture.add_argument("--fps", type=float, default=30.0, help="pictures a second (default: 30)")
    picture.add_argument(
        "--no-window", action="store_true", help="open no window, also where there is a display"
    )
    picture.add_argument(
        "--tuning",
        metavar="FILE",
        help="the .tuning that the other side gave you by another way (`mien enroll --finetune` makes it): their "
        "scene layer is drawn better. Kept beside their avatar, unless --no-cache",
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
        "--budget-kbps",
        type=float,
        metavar="N",
        help="keep to so much on the wire, everything counted, in any five seconds, up and down (default: what the link "
        "carries). Sending your avatar's first picture may take half of it beside your voice",
    )
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


def check_options(options: argparse.Namespace) -> None:
    """Refuse what cannot be. Raises `MienError`."""
    if options.carrier == CarrierWish.AUDIO and options.no_audio:
        raise MienError(
            "--carrier audio needs the voice's packets: leave out --no-audio, or take another carrier"
        )
    for name, low, high in (
        ("seconds", 0.1, 86_400),
        ("fps", 1, 60),
        ("transfer_kbps", 1, 1e6),
        ("voice_kbps", MIN_KBPS, MAX_KBPS),
        ("budget_kbps", 1, 1e6),
    ):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise MienError(f"--{name.replace('_', '-')} {value:g}: expected {low:g} to {high:g}")
    view_size(options.size)
    for path in (options.out, options.record, options.json_stats and Path(options.json_stats)):
        if path is not None and not path.absolute().parent.is_dir():
            raise MienError(
                f"there is no folder {path.absolute().parent} for {path}: make it, or name another file"
            )
    if options.no_audio and (options.audio or options.mute):
        raise MienError("--no-audio leaves nothing for --audio or --mute to do: leave one out")
    if scene_settings(options) is not None:
        _check_scene(options)
    if options.budget_kbps is not None:
        _check_budget(options)
    if options.show and not (options.avatar or options.input):
        raise MienError("--show shows your camera: name it with --input camera")


def _check_scene(options: argparse.Namespace) -> None:
    """Refuse a scene that nothing carries. Raises `MienError`."""
    if not options.avatar:
        raise MienError("--scene goes around your avatar: name it with --avatar")


def _check_budget(options: argparse.Namespace) -> None:
    """Refuse a budget that cannot be kept, also where everything goes well. Raises `MienError`."""
    if (options.show or options.allow_video) and options.budget_kbps < LEAST_VIDEO_KBPS:
        raise MienError(
            f"--budget-kbps {options.budget_kbps:g} has no room for your camera, which takes {LEAST_VIDEO_KBPS:g} kbps: "
            "leave out --show and --allow-video"
        )
    speaks = not options.no_audio and options.audio != "silence"
    rides = not options.no_audio and options.carrier != CarrierWish.DATACHANNEL
    check_budget(
        options.budget_kbps,
        Situation(
            voice=_voice(options) if speaks else None,
            face=options.avatar is not None,
            carriers=frozenset({Carrier.DATACHANNEL, *((Carrier.AUDIO,) if rides else ())}),
            qualities=_qualities(options),
            acknowledges=False,
            scene_kbps=options.scene or 0.0,
        ),
    )


def _voice(options: argparse.Namespace) -> VoiceSettings:
    usual = VoiceSettings(12, 60) if options.budget_kbps is None else VoiceSettings(16, 40)
    return VoiceSettings(options.voice_kbps or usual.kbps, options.voice_frame_ms or usual.frame_ms)


def view_size(text: str) -> tuple[int, tuple[int, int] | None]:
    """Return the longer side of the picture, and width and height where both are said. Raises `MienError`."""
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if match is None:
        raise MienError(f"--size {text}: expected a number of pixels, or WIDTHxHEIGHT")
    sides = [int(side) for side in match.groups() if side is not None]
    if not all(64 <= side <= MAX_VIEW_PX for side in sides):
        raise MienError(f"--size {text}: expected 64 to {MAX_VIEW_PX} pixels each way")
    if len(sides) == 1:
        return sides[0], None
    width, height = (side // 2 * 2 for side in sides)  # as video coders want them
    return max(width, height), (width, height)


def _qualities(options: argparse.Namespace) -> frozenset[Quality]:
    if options.quality is not None:
        return frozenset({Quality[options.quality.upper()]})
    return frozenset(Quality) if options.budget_kbps is not None else frozenset({Quality.LOW, Quality.NORMAL})


def call_settings(options: argparse.Namespace, url: str) -> CallSettings:
    """Return what the call may do; `url` is the room's."""
    longest_px, size = view_size(options.size)
    addresses = Addresses.BOTH if is_loopback(url) else Addresses.INTERFACES
    password = os.environ.get(ICE_PASSWORD)
    return CallSettings(
        view=ViewSettings(
            longest_px=longest_px,
            size=size,
            rate=Fraction(options.fps).limit_denominator(1001),
            out=options.out,
        ),
        sender=SenderSettings(
            quality=Quality[(options.quality or "normal").upper()],
            repeat=options.repeat,
            scene=scene_settings(options),
        ),
        rate=RateSettings(options.budget_kbps, _qualities(options)),
        addresses=Addresses.LOOPBACK if options.loopback else addresses,
        ice_servers=tuple(IceServer(server, options.ice_user, password) for server in options.ice_server),
        allow_video=options.allow_video,
        audio=not options.no_audio,
        carrier=CarrierWish(options.carrier),
        voice=_voice(options),
        record=options.record,
        cache_folder=None if options.no_cache else cache_folder() / "avatars",
        tuning=read_tuning(options.tuning)[0] if options.tuning else None,
        transfer_kbps=options.transfer_kbps,
    )
