"""`mien call`: join a room and talk."""

import argparse
import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from mien.call.face_view import ShownPicture
from mien.call.rendezvous import RoomRendezvous
from mien.call.self_view import with_self_view
from mien.call.session import CallHooks, CallSession, Participant
from mien.call.settings import CallSettings
from mien.call.signalling import SignallingClient
from mien.call.source_worker import TrackedFrame
from mien.call.statistics import CallStatistics
from mien.call.turns import short_turns
from mien.commands.call_controls import commands_from_terminal, direct, hang_up_on_signals
from mien.commands.call_equipment import Equipment, opened_equipment
from mien.commands.call_live import keep_line
from mien.commands.call_options import add_arguments, call_settings, check_options
from mien.commands.call_report import print_call
from mien.commands.call_sound import open_sound
from mien.protocol.errors import MienError

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE: Final = """examples:
  mien call ws://127.0.0.1:8765/den --avatar me.avatar
  mien call wss://example.org/den --avatar me.avatar --allow-video --record talk.mien
  mien call den --avatar me.avatar --scene 5
  mien call den --input talk.mp4 --avatar me.avatar --out received.mp4 --seconds 30 --json-stats stats.json

In a terminal, while the call runs: show, hide (the camera), mute, unmute (the voice), quit.
"""


def run(options: argparse.Namespace) -> int:
    """Call. Returns 0, or 1 where the other side vanished."""
    check_options(options)
    console = Console(stderr=True, highlight=False)
    with opened_equipment(options, console) as equipment, short_turns():
        statistics = asyncio.run(_call(options, equipment, console))
    if options.json_stats == "-":
        print(json.dumps(statistics.as_json()))
    else:
        print_call(Console(highlight=False), statistics)
        if options.json_stats:
            _write(Path(options.json_stats), json.dumps(statistics.as_json(), indent=1))
    return 1 if "vanished" in statistics.ended else 0


async def _call(options: argparse.Namespace, equipment: Equipment, console: Console) -> CallStatistics:
    sound = open_sound(options, equipment.source, console)
    hooks = CallHooks(
        on_frame=lambda frame: _keep_own(equipment, frame),
        on_picture=lambda picture: _show(equipment, picture, session),
        on_status=lambda text: _say(console, text),
        on_voice=sound.speaker.play if sound.speaker else None,
        voice_delay_us=sound.delay_us,
    )
    session = CallSession(
        Participant(
            source=sound.source,
            tracker=equipment.tracker,
            avatar=equipment.avatar.serialize() if equipment.avatar else None,
            signer=equipment.signer,
            voice=sound.voice,
        ),
        _settings(options, equipment),
        hooks,
    )
    helpers = [
        asyncio.create_task(direct(session, options, equipment), name="script"),
        asyncio.create_task(keep_line(session, console), name="live line"),
    ]
    try:
        with hang_up_on_signals(session), commands_from_terminal(session, console):
            async with SignallingClient(equipment.url, ca_file=options.ca_file) as client:
                return await session.run(RoomRendezvous(client))
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        sound.close()


def _settings(options: argparse.Namespace, equipment: Equipment) -> CallSettings:
    settings = call_settings(options, equipment.url)
    sender = replace(settings.sender, may_show=lambda: not equipment.stranger)
    return replace(settings, sender=sender)


def _keep_own(equipment: Equipment, frame: TrackedFrame) -> None:
    if equipment.window is not None:
        equipment.own = frame.rgb


def _show(equipment: Equipment, picture: ShownPicture, session: CallSession) -> None:
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


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n")
    except OSError as error:
        raise MienError(f"cannot write {path}: {error.strerror}") from None
