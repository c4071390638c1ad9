"""What a single photo must show to become an avatar, and what its owner should know."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.encoder.shut_lids import lid_gaps
from mien.protocol.errors import MienError

SHUT: Final = 0.09  # a lid gap over its eye's width
TURNED_DEG: Final = 15.0
NODDED_DEG: Final = 20.0


def check_photo(landmarks: NDArray[np.floating]) -> None:
    """Raise `MienError` for a face, landmarks [478, 3], whose eyes are both shut: nobody can know what is in them."""
    if max(lid_gaps(landmarks)) < SHUT:
        raise MienError(
            "the eyes are shut in the photo: choose one with open eyes (shut ones are made from it)"
        )


def photo_warnings(
    landmarks: NDArray[np.floating], *, yaw_deg: float, pitch_deg: float, made_up: tuple[str, ...]
) -> list[str]:
    """Return what the owner of an avatar of one photo should know."""
    guessed = " and ".join(made_up)
    found = [
        "one picture only: "
        + (f"{guessed} were painted" if guessed else "an open mouth and shut eyes are guessed")
        + " and what a turned head shows is guessed; a clip of some seconds in which you talk, blink and look around "
        "shows more"
    ]
    if min(lid_gaps(landmarks)) < SHUT:
        found.append("one eye is shut in the photo, so it stays so: choose one with open eyes")
    if abs(yaw_deg) > TURNED_DEG:
        found.append(
            f"the head is turned by {abs(yaw_deg):.0f} degrees in the photo: one that looks into the camera "
            f"(within {TURNED_DEG:.0f}) shows both cheeks"
        )
    if abs(pitch_deg) > NODDED_DEG:
        found.append(
            f"the head is nodded by {abs(pitch_deg):.0f} degrees in the photo: hold the camera at eye level"
        )
    return found
