"""Measures a generator on shards, quickly: `python -m mien.bench.generator_eval SHARDS [--onnx FILE]`.

Draws the shards' frames by the player's own functions, with the network and without, and prints the median over
clips of what the picture bench would say. Without the tracker it takes seconds a clip.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mien.bench.akd import Face, Retracker, score
from mien.bench.generator_data import Shard
from mien.bench.generator_samples import GRID, halved
from mien.bench.picture_metrics import Picture, flicker
from mien.decoder.scene_layer import Correction, composed, indices, remapped, sharpened
from mien.models.generator_fields import Network, Situation, refined
from mien.models.store import find_model

Floats = NDArray[np.float32]

FIGURES: Final = (
    "ssim", "face_ssim", "msssim", "gmsd", "edge", "face_edge", "psnr", "flicker", "akd", "mouth", "blendshapes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to draw: with a network, or by the base correction alone."""

    name: str
    network: Network | None


def open_network(path: Path, *, threads: int = 1) -> Network:
    """Return an exported generator, ready to be called."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def run(situation: Floats) -> Floats:
        return np.asarray(session.run(None, {"situation": situation})[0], np.float32)

    return run


def base_fields(shard: Shard, scene: int, tick: int) -> Floats:
    """Return the base correction's fields [gh, gw, 9]."""

    def fit(values: NDArray[np.generic]) -> Floats:
        return np.asarray(cv2.resize(np.asarray(values, np.float32), (GRID, GRID)), np.float32)

    paint = fit(shard.paint[scene, tick])[..., None] / 255
    parts = [fit(shard.flow[scene, tick]), fit(shard.light[scene, tick]), paint]
    return np.concatenate([*parts, shard.seen[scene, tick].astype(np.float32)], 2)


def as_shown(base: Floats, positions: Floats) -> Floats:
    """Return fields of a correction without weights as the player paints them."""
    parts = base[..., :2], base[..., 2:5], base[..., 5], base[..., 6:]
    return sharpened(Correction(0, positions, *parts)).fields()


def motion_to(motion: NDArray[np.float16]) -> Floats:
    """Return where each place was, as array indices [gh, gw, 2]."""
    apart = cv2.resize(motion.astype(np.float32), (GRID, GRID))
    return np.asarray(indices(GRID, GRID) + apart, np.float32)


def all_fields(shard: Shard, scene: int, network: Network | None) -> list[Floats]:
    """Return each tick's fields."""
    out: list[Floats] = []
    for tick, frame in enumerate(shard.tick_frames):
        base = base_fields(shard, scene, tick)
        if network is None:
            out.append(as_shown(base, shard.positions[frame]))
            continue
        before = remapped(out[-1], motion_to(shard.to_before[tick])) if out else None
        situation = Situation(
            seen=shard.seen[scene, tick],
            drawn=halved(shard.drawn[frame]),
            base=base,
            before=before,
            outside=shard.outside[frame][..., None].astype(np.float32) / 255,
            positions=shard.positions[frame],
            face=bool(shard.face[scene]),
        )
        out.append(refined(situation, network))
    return out


def painted(shard: Shard, fields: list[Floats], frame: int) -> Picture:
    """Return a frame as the player paints it."""
    left = int(shard.left[frame])
    share = np.float32(shard.share[frame])
    before = remapped(fields[left], motion_to(shard.to_left[frame]))
    after = remapped(fields[left + 1], motion_to(shard.to_right[frame]))
    mixed = np.asarray((1 - share) * before + share * after, np.float32)
    outside = shard.outside[frame][..., None].astype(np.float32) / 255
    mixed[..., :2] *= outside
    mixed[..., 5:6] *= outside
    return composed(shard.drawn[frame], mixed)


class Originals:
    """A shard's true frames, and the faces in them."""

    def __init__(self, shard: Shard, retracker: Retracker | None, *, step: int = 5) -> None:
        self.shard, self._retracker = shard, retracker
        self.frames = list(range(1, len(shard.truth) - 1, step))
        self._faces = {n: self._face(shard.truth[n]) for n in self.frames} if retracker else {}

    def _face(self, picture: Picture) -> Face | None:
        return self._retracker.face(picture) if self._retracker else None

    def measured(self, fields: list[Floats]) -> dict[str, float]:
        """Return the means over the frames."""
        rows = list(self._rows(fields))
        return {name: mean_of([row[name] for row in rows]) for name in rows[0]}

    def _rows(self, fields: list[Floats]) -> Iterator[dict[str, float]]:
        for number in self.frames:
            three = [painted(self.shard, fields, number + step) for step in (-1, 0, 1)]
            truth = self.shard.truth[number]
            face = self._faces.get(number) or self._box(number)
            again = self._face(three[1]) if self._faces.get(number) else None
            row = score(truth, three[1], face, again)
            figures = {name: float(getattr(row, name)) for name in FIGURES}
            figures["flicker"] = flicker(list(self.shard.truth[number - 1 : number + 2]), three)
            yield figures

    def _box(self, number: int) -> Face:
        """Return the face that the mesh has, where no tracker looks."""
        points = self.shard.positions[number, :478, :2].astype(np.float64) * (256 / GRID)
        return Face(points, np.zeros(52), np.eye(3))


def mean_of(values: list[float]) -> float:
    """Return the mean of what is there."""
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def median_of(values: list[float]) -> float:
    """Return the median of what is there."""
    known = [v for v in values if np.isfinite(v)]
    return float(np.median(known)) if known else float("nan")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards", type=Path)
    parser.add_argument("--onnx", type=Path, action="append", default=[])
    parser.add_argument("--kbps", type=float, default=6)
    parser.add_argument("--face", action="store_true", help="the scene that shows the face")
    parser.add_argument("--only", default="", help="shards whose name holds one of these, with commas")
    parser.add_argument("--track", action="store_true", help="faces as well (slower)")
    parser.add_argument("--step", type=int, default=5, help="one of so many frames is measured")
    parser.add_argument("--no-base", action="store_true", help="leave out what is drawn without weights")
    parser.add_argument("--clips", action="store_true", help="each clip")
    options = parser.parse_args()
    arms = [] if options.no_base else [Arm("without", None)]
    arms += [Arm(f"{path.parent.name}/{path.stem}", open_network(path)) for path in options.onnx]
    wanted = [text for text in options.only.split(",") if text] or [""]
    paths = [p for p in sorted(options.shards.glob("*.npz")) if any(w in p.name for w in wanted)]
    bundle = find_model("face_landmarker") if options.track else None
    if options.track and bundle is None:
        Console(stderr=True).print("the face_landmarker bundle is not here: see `mien models fetch`")
        return 2
    retracker = Retracker(bundle) if bundle else None
    rows: dict[str, list[dict[str, float]]] = {arm.name: [] for arm in arms}
    for path in paths:
        shard = Shard.load(path)
        scene = next(
            (i for i, k in enumerate(shard.kbps) if k == options.kbps and shard.face[i] == options.face), None
        )
        if scene is None:
            continue
        originals = Originals(shard, retracker, step=options.step)
        for arm in arms:
            rows[arm.name].append(originals.measured(all_fields(shard, scene, arm.network)))
            if options.clips:
                text = " ".join(f"{k} {v:.3f}" for k, v in rows[arm.name][-1].items())
                Console().print(f"{path.stem[:12]} {arm.name}: {text}", highlight=False, soft_wrap=True)
    if retracker is not None:
        retracker.close()
    table = Table("", *FIGURES)
    for name, figures in rows.items():
        table.add_row(name, *(f"{median_of([f[k] for f in figures]):.3f}" for k in FIGURES))
    Console(width=140).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
