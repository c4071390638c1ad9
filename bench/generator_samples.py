"""Short pieces of shards, varied at random, as the generator's training takes them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.bench.generator_data import Shard
from mien.models.generator_fields import place_in_face
from mien.models.generator_painting import Situations

Floats = NDArray[np.float32]

GRID: Final = 128
TICKS: Final = 3  # the first is only there to be the one before
FRAMES: Final = 3
MAX_TRUE_FLOW: Final = 16.0
DISTURBED: Final = 0.4  # how often references are moved by more than they are
DISTURBANCE_SIGMA: Final = (8.0, 28.0)  # places
DISTURBANCE_PX: Final = 2.0  # at most, standard deviation


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A shard, and the true flow float16 [k, gh, gw, 3] at its ticks: flow, grid pixels, and trust in it, 0 to 1."""

    shard: Shard
    true_flow: NDArray[np.float16]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a shard and measure its flow."""
        shard = Shard.load(path)
        dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return cls(shard, np.stack([_true_flow(shard, int(n), dis) for n in shard.tick_frames]))


def _true_flow(shard: Shard, frame: int, dis: cv2.DISOpticalFlow) -> NDArray[np.float16]:
    truth, drawn = (halved(p[frame]) for p in (shard.truth, shard.drawn))
    a, b = (np.asarray(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)) for p in (truth, drawn))
    flow = np.asarray(dis.calc(a, b, np.zeros((*a.shape, 2), np.float32)), np.float32)
    limited = np.clip(flow, -MAX_TRUE_FLOW, MAX_TRUE_FLOW)
    flow = np.asarray(cv2.GaussianBlur(limited, (0, 0), 1.5), np.float32)
    back = np.asarray(dis.calc(b, a, np.zeros((*a.shape, 2), np.float32)), np.float32)
    rows, columns = np.mgrid[: a.shape[0], : a.shape[1]].astype(np.float32)
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    round_trip = np.linalg.norm(flow + cv2.remap(back, x, y, cv2.INTER_LINEAR), axis=2)
    moved = cv2.remap(b, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    wrong = cv2.GaussianBlur(np.abs(moved - a), (0, 0), 2.0)
    trust = np.exp(-round_trip) * np.exp(-wrong / 12)
    return np.concatenate([flow, trust[..., None]], 2).astype(np.float16)


def halved(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a drawn picture on the grid."""
    return np.asarray(cv2.resize(picture, (GRID, GRID), interpolation=cv2.INTER_AREA), np.uint8)


def load_clips(folder: Path, clips: dict[str, Clip]) -> None:
    """Add a folder's shards that are not among the clips yet, by name."""
    for path in sorted(folder.glob("*.npz")):
        if ".part" not in path.name and path.stem not in clips:
            clips[path.stem] = Clip.load(path)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Three ticks and three frames between the last two of them. Arrays are [., planes, h, w], float32.

    `seen`, `small`, `truth_small` [3 ticks, 3, .]; `base` [3, 9, .]; `outside` [3, 1, .]; `place` [3, 2, .];
    `before_motion` [3, 2, .]; `true_flow` [3, 3, .]; `face` []; `drawn`, `truth` [3 frames, 3, 2h, 2w];
    `frame_outside` [3, 1, .]; `to_left`, `to_right` [3, 2, .]; `share` [3].
    """

    seen: Floats
    small: Floats
    truth_small: Floats
    base: Floats
    outside: Floats
    place: Floats
    before_motion: Floats
    true_flow: Floats
    face: Floats
    drawn: Floats
    truth: Floats
    frame_outside: Floats
    to_left: Floats
    to_right: Floats
    share: Floats


def choose(clip: Clip, rng: np.random.Generator, *, crop: int = GRID) -> Piece:
    """Cut a piece out of a clip at random: time, scene and place."""
    shard = clip.shard
    scene = int(rng.integers(len(shard.kbps)))
    last = int(rng.integers(2, len(shard.tick_frames)))
    frames = range(int(shard.tick_frames[last - 1]), int(shard.tick_frames[last]) + 1)
    if len(frames) >= FRAMES:
        first = int(rng.integers(len(frames) - FRAMES + 1))
        chosen = list(frames)[first : first + FRAMES]
    else:
        chosen = [frames[0], frames[0], frames[-1]]
    corner = rng.integers(0, (GRID - crop) // 2 + 1, 2) * 2
    return piece_of(
        clip,
        scene,
        last,
        chosen,
        (int(corner[0]), int(corner[1])),
        crop,
    )


def piece_of(
    clip: Clip,
    scene: int,
    last: int,
    frames: Sequence[int],
    corner: tuple[int, int],
    crop: int,
) -> Piece:
    """Return the piece whose last tick is number `last`, at `corner` (row, column) of the grid."""
    shard = clip.shard
    ticks = [last - 2, last - 1, last]
    at = [int(shard.tick_frames[k]) for k in ticks]
    rows, columns = slice(corner[0], corner[0] + crop), slice(corner[1], corner[1] + crop)
    large = slice(2 * rows.start, 2 * rows.stop), slice(2 * columns.start, 2 * columns.stop)

    def cut(values: NDArray[np.generic], *, fit: bool = False) -> Floats:
        whole = np.asarray(values, np.float32)
        if fit:
            whole = np.asarray(cv2.resize(whole, (GRID, GRID)), np.float32)
        if whole.ndim == 2:
            whole = whole[..., None]
        return np.asarray(whole[rows, columns].transpose(2, 0, 1))

    def base(k: int) -> Floats:
        parts = [
            cut(shard.flow[scene, k], fit=True),
            cut(shard.light[scene, k], fit=True),
            np.asarray(cut(shard.paint[scene, k], fit=True) / 255, np.float32),
            cut(shard.seen[scene, k]),
        ]
        return np.concatenate(parts)

    def motion(values: NDArray[np.float16], number: int, *, moves: bool = True) -> Floats:
        return np.asarray(cut(values[number], fit=True) * np.float32(moves))

    def picture(values: NDArray[np.uint8], number: int) -> Floats:
        return np.asarray(values[number][large].astype(np.float32).transpose(2, 0, 1))

    shares = [
        float(shard.share[n]) if shard.left[n] == last - 1 else (0.0 if n == at[1] else 1.0) for n in frames
    ]
    # A frame at the last tick belongs to the next pair of ticks: its way to the one before is that tick's.
    left = [
        motion(shard.to_left, n) if shard.left[n] == last - 1 else motion(shard.to_before, last)
        for n in frames
    ]
    right = [motion(shard.to_right, n, moves=bool(shard.left[n] == last - 1)) for n in frames]
    return Piece(
        seen=np.stack([cut(shard.seen[scene, k]) for k in ticks]),
        small=np.stack([cut(halved(shard.drawn[n])) for n in at]),
        truth_small=np.stack([cut(halved(shard.truth[n])) for n in at]),
        base=np.stack([base(k) for k in ticks]),
        outside=np.stack([cut(shard.outside[n]) / 255 for n in at]),
        place=np.stack([cut(place_in_face(shard.positions[n], GRID, GRID)) for n in at]),
        before_motion=np.stack([motion(shard.to_before, k) for k in ticks]),
        true_flow=np.stack([cut(clip.true_flow[k]) for k in ticks]),
        face=np.asarray(shard.face[scene], np.float32),
        drawn=np.stack([picture(shard.drawn, n) for n in frames]),
        truth=np.stack([picture(shard.truth, n) for n in frames]),
        frame_outside=np.stack([cut(shard.outside[n]) / 255 for n in frames]),
        to_left=np.stack(left),
        to_right=np.stack(right),
        share=np.array(shares, np.float32),
    )


def varied(piece: Piece, rng: np.random.Generator) -> Piece:
    """Return a piece mirrored, in other colours, in another light, and drawn by references in yet another light."""
    values = {f.name: getattr(piece, f.name).copy() for f in fields(piece)}
    if rng.random() < 0.5:
        for name, value in values.items():
            if value.ndim == 4:
                values[name] = value[..., ::-1].copy()
        for name in ("base", "place", "before_motion", "true_flow", "to_left", "to_right"):
            values[name][:, 0] *= -1
    if rng.random() < 0.5:
        order = rng.permutation(3)
        for name in ("seen", "small", "truth_small", "drawn", "truth"):
            values[name] = values[name][:, order]
        values["base"] = values["base"][:, [0, 1, *(2 + order), 5, *(6 + order)]]
    gain = (rng.uniform(0.65, 1.15) * rng.uniform(0.9, 1.1, 3)).astype(np.float32)[None, :, None, None]
    lift = (rng.uniform(-12, 12) + rng.uniform(-5, 5, 3)).astype(np.float32)[None, :, None, None]
    for name in ("seen", "small", "truth_small", "drawn", "truth"):
        values[name] = np.clip(gain * values[name] + lift, 0, 255)
    values["base"][:, 2:5] *= gain
    values["base"][:, 6:9] = np.clip(gain * values["base"][:, 6:9] + lift, 0, 255)
    if rng.random() < 0.4:
        other = rng.uniform(-14, 14, 3).astype(np.float32)[None, :, None, None]
        for name in ("small", "drawn"):
            values[name] = np.clip(values[name] + other, 0, 255)
        values["base"][:, 2:5] -= other
    if rng.random() < DISTURBED:
        disturb(values, rng)
    return Piece(**values)


def disturb(values: dict[str, Floats], rng: np.random.Generator) -> None:
    """Move what the references draw outside the face, and let the base flow know of it in part."""
    height, width = values["base"].shape[2:]
    sigma, size = rng.uniform(*DISTURBANCE_SIGMA), rng.uniform(0.3, DISTURBANCE_PX)
    noise = rng.normal(0, 1, (height // 4, width // 4, 2)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma / 4)
    flow = cv2.resize(smooth * np.float32(size / max(1e-6, smooth.std())), (width, height))
    flow = np.asarray(flow * values["outside"][1].transpose(1, 2, 0), np.float32)
    for name, scale in (("small", 1), ("drawn", 2)):
        by = cv2.resize(flow * scale, (width * scale, height * scale))
        rows, columns = np.mgrid[: height * scale, : width * scale].astype(np.float32)
        values[name] = np.stack(
            [
                cv2.remap(
                    np.ascontiguousarray(picture.transpose(1, 2, 0)),
                    columns + by[..., 0],
                    rows + by[..., 1],
                    cv2.INTER_CUBIC,
                    borderMode=cv2.BORDER_REPLICATE,
                ).transpose(2, 0, 1)
                for picture in values[name]
            ]
        ).clip(0, 255)
    planes = flow.transpose(2, 0, 1)
    values["base"][:, :2] -= np.float32(rng.uniform(0.5, 1.1)) * planes
    values["true_flow"][:, :2] -= planes


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Pieces side by side: as in `Piece`, with the pieces as second dimension; `face` [b], `share` [3, b]."""

    seen: Tensor
    small: Tensor
    truth_small: Tensor
    base: Tensor
    outside: Tensor
    place: Tensor
    before_motion: Tensor
    true_flow: Tensor
    face: Tensor
    drawn: Tensor
    truth: Tensor
    frame_outside: Tensor
    to_left: Tensor
    to_right: Tensor
    share: Tensor

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> Self:
        """Put pieces together."""

        def together(name: str) -> Tensor:
            arrays = [getattr(piece, name) for piece in pieces]
            return torch.from_numpy(np.stack(arrays, 0 if name == "face" else 1))

        return cls(**{f.name: together(f.name) for f in fields(cls)})

    def situation(self, tick: int, before: Tensor | None) -> Situations:
        """Return what is known at a tick."""
        return Situations(
            seen=self.seen[tick],
            drawn=self.small[tick],
            base=self.base[tick],
            before=before,
            outside=self.outside[tick],
            place=self.place[tick],
            face=self.face,
        )
