"""Makes training shards of single portraits: `python -m mien.bench.generator_portraits INDEX.csv OUT_DIR`.

More people than there are clips of: a portrait is enrolled from its one picture and moved by what somebody else's
clip says. What passes for the truth is that picture, disturbed as no avatar can know it: hair, shoulders and clothes
drift, the light changes, something passes in front. What is drawn comes from an avatar of a varied copy of the
portrait, through tracker and codec. The scene is coded from the truth, as for clips (`generator_data`).
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track as progress

from mien.bench.generator_data import TRAINING_CUTS, Shard, coded, make_shard_of, parts_of
from mien.bench.picture_drawing import enrol
from mien.decoder.framing import Framing
from mien.decoder.recording import Segment
from mien.decoder.renderer import Renderer
from mien.decoder.scene_layer import outside_face
from mien.encoder.capture import Frame, open_source
from mien.models.face_model import FaceModel
from mien.protocol.avatar import Avatar
from mien.protocol.errors import MienError
from mien.protocol.state import FaceState

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

MADE_PX: Final = 384
RATE: Final = Fraction(25)
FRAMES: Final = 84
STILL: Final = 5  # frames of a portrait that are tracked to know its pose
SCENES: Final = ((4.0, False), (5.0, False), (6.0, False), (8.0, False), (6.0, True))
FIELD: Final = 96  # places each way of what drifts
MOST_TURN: Final = 0.3  # radians that a portrait is turned by
OCCLUDED: Final = 0.6  # how often something passes in front


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures of one size in memory, as a source."""

    name: str
    pictures: Sequence[Picture]
    rate: Fraction = RATE
    live: bool = False

    @property
    def width(self) -> int:
        """Width of every frame in pixels."""
        return int(self.pictures[0].shape[1])

    @property
    def height(self) -> int:
        """Height of every frame in pixels."""
        return int(self.pictures[0].shape[0])

    def __iter__(self) -> Iterator[Frame]:
        for number, picture in enumerate(self.pictures):
            yield Frame(picture, int(1_000_000 * number / self.rate), number)

    def __len__(self) -> int:
        return len(self.pictures)

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """How somebody moves: coefficients float32 [n, 36], less their median."""

    coefficients: Floats


def motion_of(clip: Path) -> Motion:
    """Return how the person in a clip moves. Raises `MienError`."""
    enrolled, footage = parts_of(clip, TRAINING_CUTS[0])
    with closing(enrolled):
        avatar = enrol(enrolled, 1).avatar
    segment, _ = coded(footage, avatar)
    places = [place for _, place in segment.source_frames()]
    rows = np.stack([segment.track.state_at(place).coefficients() for place in places])
    step = float(footage.rate / RATE)
    at = (np.arange(int(len(rows) / step)) * step).astype(int)
    return Motion(np.asarray((rows - np.median(rows, 0))[at], np.float32))


def portrait_shard(portrait: Path, motion: Motion, rng: np.random.Generator) -> Shard:
    """Make a portrait move. Raises `MienError` where that cannot be."""
    picture = next(iter(open_source(str(portrait)))).rgb
    if abs(picture.shape[0] - picture.shape[1]) > 2:
        raise MienError(f"{portrait.name} is no square picture")
    picture = np.asarray(cv2.resize(picture, (MADE_PX, MADE_PX), interpolation=cv2.INTER_AREA), np.uint8)
    original = enrol(Pictures(portrait.name, [picture])).avatar
    still, _ = coded(Pictures(portrait.name, [picture] * STILL), original)
    truth = list(true_pictures(original, still, motion, rng))
    other = enrol(Pictures(portrait.name, [varied_portrait(picture, rng)])).avatar
    footage = Pictures(portrait.name, truth)
    segment, trackings = coded(footage, other)
    return make_shard_of(footage, other, segment, trackings, SCENES)


def true_pictures(
    avatar: Avatar, still: Segment, motion: Motion, rng: np.random.Generator
) -> Iterator[Picture]:
    """Draw a portrait that moves, and disturb it."""
    stream = still.stream
    places = [place for _, place in still.source_frames()]
    rest = still.track.state_at(places[-1]).coefficients()
    framing = Framing(float(stream.unit_px), stream.width, stream.height)
    first = int(rng.integers(max(1, len(motion.coefficients) - FRAMES)))
    moves = motion.coefficients[first : first + FRAMES].copy()
    moves[:, :3] = np.clip(moves[:, :3], -MOST_TURN, MOST_TURN)
    disturbed = Disturbance(rng)
    with closing(
        Renderer(avatar, FaceModel.load(), width=MADE_PX, height=MADE_PX, stream=framing)
    ) as renderer:
        for number, move in enumerate(moves):
            drawing = renderer.pose(FaceState.from_coefficients((rest + move).astype(np.float32)))
            grid = FIELD, FIELD
            scale = np.array([FIELD / MADE_PX, FIELD / MADE_PX, 1])
            outside = outside_face((drawing.positions * scale).astype(np.float32), grid)
            yield disturbed.at(number, renderer.paint(drawing), outside)


class Disturbance:
    """What no avatar knows of, the same for the same random numbers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._drifts = [
            (
                smooth(rng, rng.uniform(6, 20), 2) * rng.uniform(0.1, 0.9),
                rng.uniform(0.2, 1.2),
                rng.uniform(0, 6),
            )
            for _ in range(4)
        ]
        self._still = smooth(rng, rng.uniform(6, 14), 2) * rng.uniform(0, 0.7)
        self._lights = [
            (smooth(rng, 40, 3) * rng.uniform(1, 9), rng.uniform(0.1, 0.8), rng.uniform(0, 6))
            for _ in range(2)
        ]
        self._noise = rng.uniform(0, 2.5)
        self._passer = Passer(rng) if rng.random() < OCCLUDED else None

    def at(self, number: int, picture: Picture, outside: Floats) -> Picture:
        """Return frame `number`, disturbed."""
        seconds, size = number / float(RATE), picture.shape[1::-1]
        drift = self._still + sum(
            field * np.sin(2 * np.pi * pace * seconds + phase) for field, pace, phase in self._drifts
        )
        wide = cv2.resize((drift * outside).astype(np.float32), size) * np.float32(size[0] / FIELD)
        moved = displaced(picture, wide)
        if self._passer is not None:
            moved = self._passer.before(moved, seconds)
        light = sum(field * np.sin(2 * np.pi * pace * seconds + phase) for field, pace, phase in self._lights)
        lit = moved + cv2.resize(np.asarray(light, np.float32), size)
        noise = self._rng.normal(0, 1, lit.shape).astype(np.float32) * np.float32(self._noise)
        return np.clip(lit + noise, 0, 255).astype(np.uint8)


class Passer:
    """A blob the colour of skin or cloth, with folds, that comes and goes: what a hand is to a coder."""

    def __init__(self, rng: np.random.Generator) -> None:
        skin = np.array([200, 150, 125]) * rng.uniform(0.35, 1.2)
        self._colour = np.clip(skin if rng.random() < 0.7 else rng.uniform(20, 230, 3), 0, 255)
        self._texture = smooth(rng, rng.uniform(1.5, 5), 3) * rng.uniform(6, 22)
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        wobble = 1 + 0.25 * rng.normal(0, 1, 24).cumsum() / 4
        radii = rng.uniform(0.07, 0.16) * np.clip(wobble, 0.4, 1.8)
        self._shape = np.stack([radii * np.cos(angles), radii * np.sin(angles) * rng.uniform(0.8, 2)], 1)
        self._home = np.array([rng.uniform(0.1, 0.9), rng.uniform(0.65, 1.0)])
        self._way = rng.normal(0, 0.16, 2)
        self._pace, self._phase = rng.uniform(0.2, 0.9), rng.uniform(0, 6)

    def before(self, picture: Floats, seconds: float) -> Floats:
        """Return a picture with the blob in front."""
        height, width = picture.shape[:2]
        swing = np.sin(2 * np.pi * self._pace * seconds + self._phase)
        angle = 0.5 * swing
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = (self._shape @ turn.T + self._home + self._way * swing) * [width, height]
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        share = cv2.GaussianBlur(mask, (0, 0), 1.0).astype(np.float32)[..., None] / 255
        middle = points.mean(0) * FIELD / width
        rolled = np.roll(self._texture, np.rint(middle[::-1]).astype(int), (0, 1))
        blob = cv2.resize((rolled + self._colour).astype(np.float32), (width, height))
        return np.asarray(picture * (1 - share) + blob * share, np.float32)


def displaced(picture: Picture, by: Floats) -> Floats:
    """Return a picture [h, w, 3] with each place taken from itself plus `by` [h, w, 2] pixels."""
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    out = cv2.remap(
        picture, columns + by[..., 0], rows + by[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(out, np.float32)


def varied_portrait(picture: Picture, rng: np.random.Generator) -> Picture:
    """Return the portrait as it looked another day: other light, a little softer, hair and clothes elsewhere."""
    size = picture.shape[1::-1]
    drift = smooth(rng, rng.uniform(4, 12), 2) * np.float32(rng.uniform(0, 0.8) * size[0] / FIELD)
    wide = np.asarray(cv2.resize(drift, size), np.float32)
    out = displaced(picture, wide)
    if rng.random() < 0.5:
        out = np.asarray(cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 0.9)), np.float32)
    gain = rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3)
    light = cv2.resize(smooth(rng, 40, 3) * np.float32(rng.uniform(0, 8)), size)
    return np.clip(out * gain + light, 0, 255).astype(np.uint8)


def smooth(rng: np.random.Generator, sigma: float, planes: int) -> Floats:
    """Return a smooth random field float32 [FIELD, FIELD, planes] of deviation 1."""
    noise = rng.normal(0, 1, (FIELD, FIELD, planes)).astype(np.float32)
    out = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigma), np.float32)
    return np.asarray((out - out.mean((0, 1))) / max(1e-6, float(out.std())), np.float32)


def main() -> int:
    """Make every shard that is not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("index", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="", help="portraits whose name holds one of these, with commas")
    parser.add_argument("--motions", default="c009,c026,c101,c102,c300", help="the clips that move them")
    parser.add_argument("--rounds", type=int, default=1, help="shards of each portrait")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with options.index.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["train"] == "yes"]
    at = options.index.parent
    only = [text for text in options.only.split(",") if text] or [""]
    portraits = [
        at / row["file"] for row in rows if row["kind"] == "portrait" and any(w in row["file"] for w in only)
    ]
    console = Console(stderr=True)
    motions: list[Motion] = []
    for name in options.motions.split(","):
        clip = next((at / r["file"] for r in rows if r["kind"] == "clip" and name in r["file"]), None)
        if clip is not None:
            motions.append(motion_of(clip))
    jobs = [(portrait, seed) for seed in range(options.rounds) for portrait in portraits]
    for number, (portrait, seed) in enumerate(progress(jobs, description="portraits", console=console)):
        target = options.out / f"{portrait.stem}-{seed}.npz"
        if target.exists():
            continue
        try:
            rng = np.random.default_rng([seed, number])
            portrait_shard(portrait, motions[(number + seed) % len(motions)], rng).save(target)
        except MienError as error:
            console.print(f"{portrait.stem}: left out: {error}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
