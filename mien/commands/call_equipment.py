"""What `mien call` opens before anybody waits: avatar, key, camera, tracker, window, microphone, loudspeaker."""

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from mien.call.scripted_source import Act, CoverableSource, parse_script
from mien.call.signalling import room_url
from mien.commands.avatar_files import read_avatar
from mien.commands.call_options import view_size
from mien.decoder.window import Window
from mien.encoder.capture import open_source
from mien.encoder.identity import watched
from mien.encoder.owner_key import OwnerKey, load_owner_key
from mien.encoder.scene_sender import check_own_likeness
from mien.encoder.tracker import Tracker
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.avatar import AvatarAssembler
from mien.protocol.errors import MienError


@dataclass(slots=True, eq=False)
class Equipment:
    """What was opened before the call, so that what is missing is said before anybody waits."""

    url: str
    script: tuple[Act, ...]
    source: CoverableSource | None = None
    tracker: Tracker | None = None
    avatar: AvatarAssembler | None = None
    signer: OwnerKey | None = None
    stranger: bool = False  # whoever is before the camera does not look like the avatar's owner
    window: Window | None = None
    own: NDArray[np.uint8] | None = field(
        default=None, repr=False
    )  # the newest camera frame, for the self view


@contextlib.contextmanager
def opened_equipment(options: argparse.Namespace, console: Console) -> Iterator[Equipment]:
    """Open everything but sound, and close it in the end. Raises `MienError`."""
    equipment = Equipment(room_url(options.room, server=options.server), parse_script(options.script or ""))
    with contextlib.ExitStack() as stack:
        if options.avatar:
            equipment.avatar = read_avatar(options.avatar)
            equipment.signer = load_owner_key()
            _warn_of_key(equipment, console)
            if options.scene is not None:
                check_own_likeness(equipment.avatar.manifest)
        if options.avatar or options.input:
            equipment.source = CoverableSource(open_source(options.input or "camera"))
            stack.callback(equipment.source.close)
            avatar = equipment.avatar.avatar if equipment.avatar else None

            def warn(text: str) -> None:
                equipment.stranger = True
                console.print(f"warning: {text}", style="yellow")

            tracker = watched(open_tracker(), avatar, warn)
            equipment.tracker = stack.enter_context(contextlib.closing(tracker))
            _warn_of_tracker(equipment, console)
        else:
            console.print("no --avatar and no --input: you see and hear, and are not seen")
        equipment.window = _open_window(options, console)
        if equipment.window is not None:
            stack.callback(equipment.window.close)
        yield equipment


def _warn_of_key(equipment: Equipment, console: Console) -> None:
    assert equipment.avatar is not None
    if equipment.signer is None or equipment.signer.public_key != equipment.avatar.manifest.owner:
        console.print(
            "warning: the key of this avatar's owner is not on this machine, so the other side will not show it",
            style="yellow",
        )


def _warn_of_tracker(equipment: Equipment, console: Console) -> None:
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
        longest_px, size = view_size(options.size)
        return Window(*(size or (longest_px, longest_px)))
    except MienError as error:
        console.print(f"no window ({error}): {fate}")
        return None
