"""The options that switch a scene layer on and say what of the camera's picture it may show."""

import argparse

from mien.encoder.scene_encoder import MAX_KBPS, MIN_KBPS, USUAL_KBPS, check_kbps
from mien.encoder.scene_privacy import Background, ScenePrivacy
from mien.encoder.scene_sender import SceneSettings
from mien.protocol.errors import MienError


def add_scene_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group("scene layer (a small picture of your camera beside the face's motion)")
    group.add_argument(
        "--scene",
        type=float,
        metavar="KBPS",
        help=f"send hair, shoulders, hands, light and background as a small picture, {MIN_KBPS:g} to {MAX_KBPS:g} kbps "
        f"before headers; with {USUAL_KBPS:g} face and picture add 9 kbps to a voice, or take 14 without one",
    )
    group.add_argument(
        "--scene-face", action="store_true", help="leave the face in that picture (default: it is filled)"
    )
    group.add_argument(
        "--scene-background",
        choices=[b.value for b in Background],
        default=Background.KEEP.value,
        help="what that picture shows behind you (default: keep)",
    )
    group.add_argument("--scene-circle", action="store_true", help="show only a circle of that picture")


def scene_settings(options: argparse.Namespace) -> SceneSettings | None:
    """Return what was asked for, None for no scene. Raises `MienError`."""
    privacy = ScenePrivacy(
        show_face=options.scene_face,
        background=Background(options.scene_background),
        circle=options.scene_circle,
    )
    if options.scene is None:
        if privacy != ScenePrivacy():
            raise MienError(
                "--scene-face, --scene-background and --scene-circle say what --scene KBPS shows: add it"
            )
        return None
    return SceneSettings(check_kbps(options.scene), privacy)
