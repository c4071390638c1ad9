"""Which of the wanted poses and expressions an enrolment has shown, and how well.

Everything is measured against the same person at rest: a brow is raised or a lid wide compared with this face, not
with faces in general. An amount of 1 is what an avatar needs. The thresholds are set so that people who talk and make faces
reach them seldom enough for asking to be worth it, and often enough to be within everybody's reach: of 37 such clips 30
cover closed eyes, 13 to 15 a wide mouth, a smile with teeth, raised brows and a look down, 7 to 9 wide eyes and a look
to a side, 4 a look up, 2 to 5 a turned head. Trackers flatten depth: a head that is turned by 30 degrees is measured at
about 25.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.encoder.reference_selection import NAMES, SHARP_ENOUGH, face_features, upright
from mien.models.alignment import align
from mien.models.face_model import FaceModel

WEAK: Final = 0.5  # of the wanted amount: better than nothing
MIN_FRAMES: Final = 2  # one alone may be a slip of the tracker
MIN_TRACKS: Final = 5  # fewer frames have no rest to compare with

TURN_DEG: Final = 25.0
FACING_YAW_DEG: Final = 20.0  # beyond it lids, lips and irises are not measured well
FACING_PITCH_DEG: Final = 15.0
MOUTH_OPEN: Final = 0.30  # inter-pupil distances above rest
SMILE_WIDTH: Final = 0.10
SMILE_GAP: Final = (0.02, 0.25)  # teeth are seen between lips that part; wider is an open mouth
LIDS_CLOSED: Final = 0.60  # of the opening at rest
LIDS_WIDE: Final = 0.18
BROWS_RAISED: Final = 0.07
GAZE_ASIDE: Final = 0.13  # eye widths
GAZE_UP: Final = 0.06
GAZE_DOWN: Final = 0.09


class Item(StrEnum):
    """A pose or expression that an avatar should have seen. Left and right are the person's own."""

    REST = "rest"
    MOUTH_OPEN = "mouth open"
    TEETH = "teeth"
    EYES_CLOSED = "eyes closed"
    EYES_WIDE = "eyes wide"
    BROWS_RAISED = "brows raised"
    GAZE_LEFT = "gaze left"
    GAZE_RIGHT = "gaze right"
    GAZE_UP = "gaze up"
    GAZE_DOWN = "gaze down"
    TURN_LEFT = "turned left"
    TURN_RIGHT = "turned right"


ITEMS: Final = tuple(Item)


class Grade(StrEnum):
    """How well an item is covered."""

    COVERED = "covered"
    WEAK = "weak"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class ItemCoverage:
    """How well one item is covered. `amount` is of what is wanted (1: enough), `best` the number of its best frame.

    `sharpness` is that frame's (`FrameQuality.sharpness`), `time_us` its time in the source. A missing item has the
    nearest that there was.
    """

    item: Item
    grade: Grade
    amount: float
    best: int
    time_us: int
    sharpness: float


def features_of(
    tracks: NDArray[np.float32], neutral: NDArray[np.floating], model: FaceModel
) -> NDArray[np.float32]:
    """Return `face_features` [T, 12] of `tracks` [T, 478, 3] in pixels, of the person whose neutral face it is."""
    frames = tracks.astype(np.float64)
    placed = align(neutral[model.rigid].astype(np.float64), frames[:, model.rigid])
    frontal = upright(neutral)
    return face_features(placed.undo(frames) @ frontal.T, placed.rotation @ frontal.T)


def rest_of(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the person's features [12] at rest from those of a clip [T, 12]: facing the camera, eyes open, lips met."""
    rest = np.median(features, axis=0).astype(np.float64)
    rest[NAMES.index("yaw")] = 0
    for name, quantile in (("mouth_open", 0.1), ("lids_left", 0.75), ("lids_right", 0.75)):
        rest[NAMES.index(name)] = np.quantile(features[:, NAMES.index(name)], quantile)
    return rest


def amounts(features: NDArray[np.float32], rest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [T, 12]: how much of each of `ITEMS` each frame shows, 0 or more, 1: as much as is wanted."""
    value = dict(zip(NAMES, (features - rest).T.astype(np.float64), strict=True))
    lid_left = value["lids_left"] / max(1e-3, rest[NAMES.index("lids_left")])
    lid_right = value["lids_right"] / max(1e-3, rest[NAMES.index("lids_right")])
    facing = (np.abs(value["yaw"]) <= FACING_YAW_DEG) & (np.abs(value["pitch"]) <= FACING_PITCH_DEG)
    least, most = SMILE_GAP
    parted = np.where(value["mouth_open"] <= most, value["mouth_open"] / least, 0)
    away = [
        np.abs(value["yaw"]) / 10,
        np.abs(value["pitch"]) / 10,
        np.abs(value["mouth_open"]) / 0.06,
        np.maximum(np.abs(lid_left), np.abs(lid_right)) / 0.15,
        np.abs(value["brows"]) / 0.04,
        np.abs(value["mouth_width"]) / 0.08,
        np.abs(value["gaze_x"]) / 0.08,
        np.abs(value["gaze_y"]) / 0.05,
    ]
    columns = {
        Item.REST: 2 - np.max(away, axis=0),
        Item.MOUTH_OPEN: value["mouth_open"] / MOUTH_OPEN * facing,
        Item.TEETH: np.minimum(value["mouth_width"] / SMILE_WIDTH, parted) * facing,
        Item.EYES_CLOSED: np.minimum(-lid_left, -lid_right) / LIDS_CLOSED * facing,
        Item.EYES_WIDE: np.minimum(lid_left, lid_right) / LIDS_WIDE * facing,
        Item.BROWS_RAISED: value["brows"] / BROWS_RAISED * facing,
        # The picture is not mirrored: the person's left is the viewer's right, where x grows.
        Item.GAZE_LEFT: value["gaze_x"] / GAZE_ASIDE * facing,
        Item.GAZE_RIGHT: -value["gaze_x"] / GAZE_ASIDE * facing,
        Item.GAZE_UP: -value["gaze_y"] / GAZE_UP * facing,
        Item.GAZE_DOWN: value["gaze_y"] / GAZE_DOWN * facing,
        Item.TURN_LEFT: value["yaw"] / TURN_DEG,
        Item.TURN_RIGHT: -value["yaw"] / TURN_DEG,
    }
    shut = columns[Item.EYES_CLOSED] >= WEAK
    for item in (Item.GAZE_LEFT, Item.GAZE_RIGHT, Item.GAZE_UP):  # an iris behind a lid is a guess
        columns[item] = np.where(shut, 0, columns[item])
    return np.asarray(np.maximum(0, np.stack([columns[item] for item in ITEMS], axis=1)), np.float64)


def measure_coverage(
    features: NDArray[np.float32],
    times_us: Sequence[int],
    pictured: Sequence[int],
    sharpness: Sequence[float],
) -> tuple[ItemCoverage, ...]:
    """Return how well each of `ITEMS` is covered by a clip, in their order; nothing for fewer than 5 frames.

    `features` [T, 12] and `times_us` are of all tracked frames; of `pictured`, numbers of some of them, the pictures
    are at hand, so sharp (`sharpness`). An item is covered where two frames reach it and a sharp picture is one of
    them; it is weak where only half of it, one frame, or a blurred picture shows it.
    """
    if len(features) != len(times_us) or len(pictured) != len(sharpness):
        raise ValueError(
            f"{len(features)} frames, {len(times_us)} times, {len(pictured)} pictures, {len(sharpness)} sharpnesses"
        )
    if len(features) < MIN_TRACKS or not pictured:
        return ()
    shown = amounts(features, rest_of(features))
    places, sharp = np.asarray(pictured), np.asarray(sharpness, np.float64)
    enough = SHARP_ENOUGH * float(np.quantile(sharp, 0.75))
    found: list[ItemCoverage] = []
    for column, item in enumerate(ITEMS):
        best = _best(shown[places, column], sharp, enough)
        amount, frames = float(shown[places[best], column]), int((shown[:, column] >= 1).sum())
        grade = Grade.MISSING
        if amount >= 1 and sharp[best] >= enough and frames >= MIN_FRAMES:
            grade = Grade.COVERED
        elif float(shown[:, column].max()) >= WEAK:
            grade = Grade.WEAK
        number = int(places[best])
        found.append(ItemCoverage(item, grade, amount, number, times_us[number], float(sharp[best])))
    return tuple(found)


def _best(shown: NDArray[np.float64], sharp: NDArray[np.float64], enough: float) -> int:
    """Return the number of the frame that shows most, of those that show enough the sharpest."""
    good = (shown >= 1) & (sharp >= enough)
    if good.any():
        return int(np.argmax(np.where(good, sharp, -1)))
    return int(np.argmax(shown * np.minimum(1, sharp / max(enough, 1e-6))))


WITHOUT_IT: Final = {
    Item.REST: "look straight at the camera for a moment, mouth closed: every other picture is compared with that",
    Item.MOUTH_OPEN: "open the mouth wide once: its inside is guessed otherwise",
    Item.TEETH: "smile broadly so that the teeth are seen: they are guessed otherwise",
    Item.EYES_CLOSED: "close the eyes for a moment: blinks show stretched lids otherwise",
    Item.EYES_WIDE: "open the eyes wide: the white above the iris is guessed otherwise",
    Item.BROWS_RAISED: "raise the brows: the forehead has no folds otherwise",
    Item.GAZE_LEFT: "look to your left with the eyes only",
    Item.GAZE_RIGHT: "look to your right with the eyes only",
    Item.GAZE_UP: "look up with the eyes only",
    Item.GAZE_DOWN: "look down with the eyes only",
    Item.TURN_LEFT: "turn the head about 30 degrees to your left: that cheek is smeared otherwise",
    Item.TURN_RIGHT: "turn the head about 30 degrees to your right: that cheek is smeared otherwise",
}


def advice(coverage: Sequence[ItemCoverage]) -> tuple[str, ...]:
    """Return what would improve the avatar, a line for each item that is not covered, the missing ones first."""
    poor = [(grade, c.item) for grade in (Grade.MISSING, Grade.WEAK) for c in coverage if c.grade is grade]
    return tuple(f"{WITHOUT_IT[item]} ({item}: {grade})" for grade, item in poor)
