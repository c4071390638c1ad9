"""Makes what the generator learns from: `python -m mien.bench.generator_data INDEX.csv OUT_DIR`.

The product's own path: a part of each clip is enrolled, another part tracked, coded and drawn again, and its scene
coded at several rates. INDEX.csv has the columns `file` (relative to the index), `kind`, `identity` and `train`;
clips with `train` = yes are taken, or with `--held-out` those with `train` = no, to measure on. One `.npz` for each
part of a clip; what is there already is not made again. It is personal data: keep it off the repository.
"""

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Final, Self

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track as progress

from mien.bench.picture_drawing import enrol
from mien.bench.picture_footage import Footage, Part, count_frames
from mien.bench.picture_metrics import compared
from mien.decoder.framing import Framing
from mien.decoder.recording import Segment, read_recording
from mien.decoder.renderer import Renderer
from mien.decoder.scene_decoder import ScenePicture, open_decoder, rgb_of
from mien.decoder.scene_layer import Correction, MeshNow, SceneLayer, indices, outside_face
from mien.encoder.capture import Source, open_source
from mien.encoder.scene_encoder import SceneEncoder
from mien.encoder.scene_privacy import ScenePrivacy
from mien.encoder.source_recorder import record_source
from mien.encoder.tracker import Tracker, Tracking
from mien.encoder.tracker_choice import open_tracker
from mien.models.face_model import FaceModel
from mien.protocol.avatar import Avatar
from mien.protocol.errors import MienError
from mien.protocol.log import open_log
from mien.protocol.quantizer import Quality
from mien.protocol.scene import DELIMITER
from mien.protocol.stream import TrackerId

DRAWN_PX: Final = 256
COARSE: Final = 32  # the mesh's motion is kept on a grid of so many places each way
ENROL_S: Final = 12
LEAST_FRAMES: Final = 24
# Scenes that a part is coded with: kbps, and whether the face is in the picture.
SCENES: Final = ((4.0, False), (5.0, False), (6.5, False), (9.0, False), (6.0, True))
HELD_OUT_SCENES: Final = ((5.0, False), (6.0, False), (6.0, True))


@dataclass(frozen=True, slots=True)
class Cut:
    """Which shares of a clip are enrolled and drawn, at most `seconds` of it, and how many references are made."""

    name: str
    enrolled: tuple[float, float]
    drawn: tuple[float, float]
    seconds: float
    references: int | None


TRAINING_CUTS: Final = (
    Cut("a", (0.0, 0.45), (0.45, 1.0), 5.0, None),
    Cut("b", (0.55, 1.0), (0.0, 0.55), 4.0, 2),
)
HELD_OUT_CUTS: Final = (Cut("test", (0.0, 0.6), (0.6, 1.0), 4.0, None),)


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """A part of a clip. n frames, k ticks with scene pictures, s scenes, [gh, gw] = [128, 128] places.

    `truth`, `drawn` uint8 [n, 256, 256, 3]; `outside` uint8 [n, gh, gw]; `positions` float32 [n, v, 3], grid
    pixels; `tick_frames` int32 [k], the frame of each tick; `share` float32 [n], how far a frame is on its way
    from the tick before (`left` int32 [n], a number into the ticks) to the one after; `to_left`, `to_right`
    float16 [n, 32, 32, 2], where each place was or will be at these ticks, less itself, grid pixels; `to_before`
    [k, 32, 32, 2], from a tick to the one before it. `kbps`, `face` [s]; `seen` uint8 [s, k, gh, gw, 3]; base
    correction: `flow` float16 [s, k, gh/2, gw/2, 2], `light` float16 [s, k, 32, 32, 3], `paint` uint8 [s, k,
    gh/2, gw/2].
    """

    truth: NDArray[np.uint8]
    drawn: NDArray[np.uint8]
    outside: NDArray[np.uint8]
    positions: NDArray[np.float32]
    tick_frames: NDArray[np.int32]
    left: NDArray[np.int32]
    share: NDArray[np.float32]
    to_left: NDArray[np.float16]
    to_right: NDArray[np.float16]
    to_before: NDArray[np.float16]
    kbps: NDArray[np.float32]
    face: NDArray[np.bool_]
    seen: NDArray[np.uint8]
    flow: NDArray[np.float16]
    light: NDArray[np.float16]
    paint: NDArray[np.uint8]

    def save(self, path: Path) -> None:
        """Write it; a file that is there is whole."""
        part = path.with_suffix(".part.npz")
        np.savez(part, **{f.name: getattr(self, f.name) for f in fields(self)})
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it."""
        with np.load(path, allow_pickle=False) as data:
            return cls(**{f.name: data[f.name] for f in fields(cls)})


class RememberingTracker:
    """A tracker that keeps what it has said, by time."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.said: list[Tracking] = []

    @property
    def tracker_id(self) -> TrackerId:
        """Which tracker it is."""
        return self._tracker.tracker_id

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        """Track a frame."""
        self.said.append(self._tracker.track(rgb, timestamp_us))
        return self.said[-1]

    def close(self) -> None:
        """Close the tracker."""
        self._tracker.close()


def parts_of(clip: Path, cut: Cut) -> tuple[Part, Footage]:
    """Return what is enrolled and what is drawn. Raises `MienError` for a clip that is too short."""
    total, source = count_frames(clip), open_source(str(clip))

    def frames(shares: tuple[float, float], seconds: float) -> range:
        first, last = (round(share * total) for share in shares)
        return range(first, min(last, first + round(seconds * source.rate)))

    drawn = frames(cut.drawn, cut.seconds)
    if len(drawn) < LEAST_FRAMES:
        raise MienError(f"{clip.name} has {total} frames: too few")
    with closing(open_source(str(clip))) as again:
        footage = Footage(Part(again, drawn))
    return Part(source, frames(cut.enrolled, ENROL_S)), footage


def make_shard(clip: Path, cut: Cut, scenes: tuple[tuple[float, bool], ...]) -> Shard:
    """Enrol, code and draw a part of a clip. Raises `MienError` where that cannot be."""
    enrolled, footage = parts_of(clip, cut)
    with closing(enrolled):
        avatar = enrol(enrolled, cut.references).avatar
    segment, trackings = coded(footage, avatar)
    return make_shard_of(footage, avatar, segment, trackings, scenes)


def make_shard_of(
    footage: Source,
    avatar: Avatar,
    segment: Segment,
    trackings: list[Tracking],
    scenes: tuple[tuple[float, bool], ...],
) -> Shard:
    """Draw a footage that was coded. Raises `MienError` where that cannot be."""
    return _Maker(footage, avatar, segment, trackings).shard(scenes)


def coded(footage: Source, avatar: Avatar) -> tuple[Segment, list[Tracking]]:
    """Return the log's segment of a footage, and the faces of its frames."""
    with tempfile.TemporaryDirectory() as folder, closing(RememberingTracker(open_tracker())) as tracker:
        log = Path(folder) / "talk.mien"
        record_source(footage, tracker, avatar, str(log), quality=Quality.NORMAL)
        with open_log(str(log)) as reader:
            return read_recording(reader).segments[0], tracker.said


class _Maker:
    def __init__(self, footage: Source, avatar: Avatar, segment: Segment, trackings: list[Tracking]) -> None:
        self._footage, self._segment, self._trackings = footage, segment, trackings
        self._places = [position for _, position in segment.source_frames()]
        if len(self._places) != len(list(footage)):
            raise MienError(f"{len(self._places)} places for {len(list(footage))} frames")
        stream = segment.stream
        framing = Framing(float(stream.unit_px), stream.width, stream.height)
        scale = DRAWN_PX / max(stream.width, stream.height)
        self._size = tuple(max(2, 2 * round(scale * s / 2)) for s in (stream.width, stream.height))
        if self._size != (DRAWN_PX, DRAWN_PX):
            raise MienError(f"{footage.name} is no square picture")
        renderer = Renderer(avatar, FaceModel.load(), width=DRAWN_PX, height=DRAWN_PX, stream=framing)
        with closing(renderer):
            drawings = [renderer.pose(segment.track.state_at(place)) for place in self._places]
            self._drawn = np.stack([renderer.paint(drawing) for drawing in drawings])
        self._positions = np.stack([d.positions for d in drawings]).astype(np.float32)

    def shard(self, scenes: tuple[tuple[float, bool], ...]) -> Shard:
        """Return all of it."""
        layers = [self._scene(kbps, face=face) for kbps, face in scenes]
        # All are coded at the same ticks, but for one that kept a picture back.
        ticks = sorted(set.intersection(*(set(layer) for layer in layers)))
        if len(ticks) < 4:
            raise MienError(f"{len(ticks)} scene pictures: too few")
        number_at = {int(p): n for n, p in enumerate(self._places) if p.denominator == 1}
        tick_frames = np.array([number_at[tick] for tick in ticks], np.int32)
        kept = range(int(tick_frames[0]), int(tick_frames[-1]) + 1)
        grid = layers[0][ticks[0]].picture.shape[1::-1]
        placed = self._positions[kept.start : kept.stop] * np.array(
            [grid[0] / DRAWN_PX, grid[1] / DRAWN_PX, 1], np.float32
        )
        tick_frames -= kept.start
        left = np.clip(np.searchsorted(tick_frames, range(len(kept)), side="right") - 1, 0, len(ticks) - 2)
        places = [self._places[n] for n in kept]
        share = [
            float((place - ticks[k]) / (ticks[k + 1] - ticks[k]))
            for place, k in zip(places, left, strict=True)
        ]
        meshes = [MeshNow(p, grid) for p in placed]

        def motion(now: int, then: int) -> NDArray[np.float16]:
            apart = meshes[now].was_at(placed[then]) - indices(*grid)
            return np.asarray(cv2.resize(apart, (COARSE, COARSE), interpolation=cv2.INTER_AREA), np.float16)

        tick_at = [int(n) for n in tick_frames]
        half = grid[0] // 2, grid[1] // 2
        bases = [[layer[tick] for tick in ticks] for layer in layers]

        def small(values: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.floating]:
            return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA))

        return Shard(
            truth=np.stack([compared(f.rgb, DRAWN_PX) for f in list(self._footage)[kept.start : kept.stop]]),
            drawn=self._drawn[kept.start : kept.stop],
            outside=np.stack([np.rint(255 * outside_face(p, grid)[..., 0]) for p in placed]).astype(np.uint8),
            positions=placed,
            tick_frames=tick_frames,
            left=left.astype(np.int32),
            share=np.array(share, np.float32),
            to_left=np.stack([motion(n, tick_at[k]) for n, k in enumerate(left)]),
            to_right=np.stack([motion(n, tick_at[k + 1]) for n, k in enumerate(left)]),
            to_before=np.stack([motion(n, tick_at[max(k - 1, 0)]) for k, n in enumerate(tick_at)]),
            kbps=np.array([kbps for kbps, _ in scenes], np.float32),
            face=np.array([face for _, face in scenes]),
            seen=np.stack([[b.picture.astype(np.uint8) for b in base] for base in bases]),
            flow=np.stack([[small(b.flow, half).astype(np.float16) for b in base] for base in bases]),
            light=np.stack(
                [[small(b.light, (COARSE, COARSE)).astype(np.float16) for b in base] for base in bases]
            ),
            paint=np.stack(
                [[np.rint(255 * small(b.paint, half)).astype(np.uint8) for b in base] for base in bases]
            ),
        )

    def _scene(self, kbps: float, *, face: bool) -> dict[int, Correction]:
        """Return the corrections without weights of a scene of this rate, by tick."""
        stream = self._segment.stream
        layer = SceneLayer(
            width=DRAWN_PX,
            height=DRAWN_PX,
            stream_width=stream.width,
            stream_height=stream.height,
            tick_rate=stream.tick_rate,
        )
        out: dict[int, Correction] = {}
        for picture, number in self._pictures(kbps, face=face):
            layer.add(picture, self._drawn[number], self._positions[number])
            correction = layer._corrections[-1]
            if correction.tick == picture.tick:
                out[picture.tick] = correction
        return out

    def _pictures(self, kbps: float, *, face: bool) -> Iterator[tuple[ScenePicture, int]]:
        """Code and decode a scene; give its pictures and the numbers of their frames."""
        encoder = SceneEncoder(
            width=self._footage.width,
            height=self._footage.height,
            tick_rate=self._segment.stream.tick_rate,
            kbps=kbps,
            privacy=ScenePrivacy(show_face=face),
        )
        decoder = open_decoder()
        with closing(encoder):
            for number, frame in enumerate(self._footage):
                place: Fraction = self._places[number]
                faces = self._trackings[number].faces
                if place.denominator != 1 or number >= len(self._trackings):
                    continue
                landmarks = faces[0] if len(faces) == 1 else None
                unit = encoder.encode(int(place), frame.rgb, landmarks)
                if unit is None:
                    continue
                rgb = rgb_of(decoder.decode(av.Packet(DELIMITER + unit.data)))
                if rgb is not None:
                    yield ScenePicture(unit.tick, rgb, unit.face), number


def main() -> int:
    """Make every shard that is not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("index", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--held-out", action="store_true", help="the clips that nothing learns from")
    parser.add_argument("--only", default="", help="clips whose name holds one of these, with commas")
    parser.add_argument("--cut", default="", help="only the cut of this name")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = "no" if options.held_out else "yes"
    with options.index.open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["kind"] == "clip" and r["train"] == wanted]
    cuts = HELD_OUT_CUTS if options.held_out else TRAINING_CUTS
    only = [text for text in options.only.split(",") if text] or [""]
    jobs = [(row["file"], cut) for cut in cuts for row in rows if any(w in row["file"] for w in only)]
    console = Console(stderr=True)
    for name, cut in progress(jobs, description="shards", console=console):
        clip = options.index.parent / name
        target = options.out / f"{clip.stem}-{cut.name}.npz"
        if target.exists() or (options.cut and cut.name != options.cut):
            continue
        try:
            make_shard(clip, cut, HELD_OUT_SCENES if options.held_out else SCENES).save(target)
        except MienError as error:
            console.print(f"{clip.stem}: left out: {error}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
