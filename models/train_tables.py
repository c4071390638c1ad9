"""Learns the entropy coder's tables from landmark tracks: `python -m mien.models.train_tables TRACKS_DIR`.

TRACKS_DIR is what `mien.bench.track_corpus` writes. Each clip's coefficients are quantised as the sender does
it, at every step of the format; the residuals' distributions are counted by context and clustered into classes.
Only these counts leave the script.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.models.face_model import FaceModel
from mien.models.fit import Fitter, estimate_neutral, reference_scale, rest_pose
from mien.protocol.quantizer import MAX_VALUE, STEPS, to_steps
from mien.protocol.range_coder import TOTAL
from mien.protocol.rate_distortion import FrameChooser
from mien.protocol.residual_coder import activity, contexts
from mien.protocol.state import COEFFICIENT_COUNT, FaceState
from mien.protocol.tables import ASSET, FIRST_CONTEXTS, LARGEST, NEXT_CONTEXTS, SYMBOL_COUNT, Tables

Floats = NDArray[np.float64]

CLASS_COUNT: Final = 40
DEAD_ZONE: Final = 0.15  # in steps
SENDER_PASSES: Final = 2
MAX_TICK_RATE: Final = 30
MIN_CLIP_FRAMES: Final = 60
MAX_CLIP_FRAMES: Final = 900  # of one clip
CLIP_WEIGHT: Final = 15000.0  # every clip counts as this many residuals: a long one must not own the tables
MAGNITUDES: Final = LARGEST + 2  # 0 to 14, and escape
PRIOR: Final = 20.0  # residuals' worth of belief in a context's coarser parent


@dataclass(frozen=True, slots=True, eq=False)
class StateTrack:
    """A clip as the codec sees it."""

    states: tuple[FaceState, ...]
    rest_pose: tuple[int, ...]
    frames_per_message: int


def read_states(path: Path, model: FaceModel) -> tuple[str, StateTrack] | None:
    """Fit a clip's tracks; `None` for one that is too short to teach motion."""
    with np.load(path) as file:
        identity, landmarks = str(file["identity"]), file["landmarks"]
        rate, (width, height) = Fraction(float(file["rate"])), (int(v) for v in file["size"])
    landmarks = landmarks[np.isfinite(landmarks).all(axis=(1, 2))][:MAX_CLIP_FRAMES]
    if len(landmarks) < MIN_CLIP_FRAMES:
        return None
    neutral = estimate_neutral(landmarks, model)
    unit_px = reference_scale(landmarks, neutral, model)
    fitter = Fitter(model, neutral, unit_px=float(unit_px), width=width, height=height)
    states = tuple(fitter.fit(frame) for frame in landmarks)
    return identity, StateTrack(states, rest_pose(states), max(1, round(min(float(rate), MAX_TICK_RATE) / 5)))


class Chooser(Protocol):
    """What turns the frames of one message into integers."""

    @property
    def values(self) -> list[int]:
        """The integers [36] of the latest frame; zeros before the first."""

    def choose(self, target: Floats) -> list[int]:
        """Return the integers [36] for `target`, float64 [36] in steps."""


class DeadZone:
    """Rounds, with a dead zone around the frame before: for the first pass, which has no tables to ask."""

    def __init__(self) -> None:
        self.values = [0] * COEFFICIENT_COUNT
        self._zone = 0.0

    def choose(self, target: Floats) -> list[int]:
        """Return the integers [36] for `target`."""
        difference = target - np.array(self.values)
        steps = np.sign(difference) * np.floor(np.abs(difference) + 0.5 - self._zone)
        self.values = np.clip(np.array(self.values) + steps, -MAX_VALUE, MAX_VALUE).astype(int).tolist()
        self._zone = DEAD_ZONE
        return self.values


def residuals(
    track: StateTrack, step_index: int, chooser: Callable[[], Chooser]
) -> Iterator[tuple[bool, list[int], list[int]]]:
    """Yield, for each coded frame, whether it is a message's first, its context indices and its residuals."""
    size = track.frames_per_message
    for start in range(0, len(track.states) - size + 1, size):
        message = chooser()
        before: list[int] | None = None
        activity_before = 0
        for state in track.states[start : start + size]:
            prediction = np.array(message.values)
            values = np.array(message.choose(to_steps(state, track.rest_pose, step_index)))
            frame = (values - prediction).tolist()
            yield before is None, contexts(frame, before, activity_before), frame
            activity_before = 0 if before is None else activity(frame)
            before = [] if before is None else frame


def count(tracks: list[StateTrack], step_index: int, chooser: Callable[[], Chooser]) -> tuple[Floats, Floats]:
    """Return weighted counts of magnitudes: first frames [36 * 4, 16] and the others [36 * 64, 16]."""
    first = np.zeros((COEFFICIENT_COUNT * FIRST_CONTEXTS, MAGNITUDES))
    following = np.zeros((COEFFICIENT_COUNT * NEXT_CONTEXTS, MAGNITUDES))
    for track in tracks:
        weight = CLIP_WEIGHT / (len(track.states) * COEFFICIENT_COUNT)
        for is_first, indices, frame in residuals(track, step_index, chooser):
            magnitudes = np.minimum(np.abs(frame), MAGNITUDES - 1)
            np.add.at(first if is_first else following, (np.array(indices), magnitudes), weight)
    return first, following


def smooth(counts: Floats, axes: int) -> Floats:
    """Turn counts [36 * contexts, 16] into distributions, each leaning on its parents.

    The parents are, from fine to coarse: the same context without its last parts (`axes` of them, 4 values
    each), and the same context of all coefficients together.
    """
    table = counts.reshape(COEFFICIENT_COUNT, *(4,) * axes, MAGNITUDES)
    everyone = table.sum(axis=0, keepdims=True) + 0.05
    estimate = np.broadcast_to(everyone / everyone.sum(axis=-1, keepdims=True), table.shape)
    for kept in range(1, axes + 1):
        merged = table.sum(axis=tuple(range(1 + kept, 1 + axes)), keepdims=True) + PRIOR * estimate
        estimate = merged / merged.sum(axis=-1, keepdims=True)
    return np.broadcast_to(estimate, table.shape).reshape(-1, MAGNITUDES)


def cluster(distributions: Floats, weights: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Group distributions [N, 16] into classes by the bits that a wrong table costs (k-means under KL)."""
    means = distributions @ np.arange(MAGNITUDES)
    order = np.argsort(means)
    share = np.cumsum(weights[order]) / weights.sum()
    assigned = np.empty(len(means), np.int64)
    assigned[order] = np.minimum((share * CLASS_COUNT).astype(np.int64), CLASS_COUNT - 1)
    centres = np.full((CLASS_COUNT, MAGNITUDES), 1.0 / MAGNITUDES)
    for _ in range(40):
        for c in range(CLASS_COUNT):
            members = assigned == c
            if members.any():
                centre = (weights[members, None] * distributions[members]).sum(axis=0) + 1e-9
                centres[c] = centre / centre.sum()
        bits = -distributions @ np.log2(np.maximum(centres, 1e-6)).T
        nearest = bits.argmin(axis=1)
        if (nearest == assigned).all():
            break
        assigned = nearest
    return centres, assigned


def cumulative(distribution: Floats) -> tuple[int, ...]:
    """Turn a distribution of magnitudes [16] into cumulative integer frequencies of the signed symbols."""
    halves = np.repeat(distribution[1:-1] / 2, 2)
    symbols = np.concatenate([distribution[:1], halves, distribution[-1:]])
    frequencies = np.maximum(1, np.floor(symbols * (TOTAL - SYMBOL_COUNT)).astype(np.int64))
    frequencies[0] += TOTAL - frequencies.sum()
    return tuple(int(v) for v in np.concatenate([[0], np.cumsum(frequencies)]))


def train(tracks: list[StateTrack]) -> Tables:
    """Return tables learned from `tracks`: once from plain rounding, then from what a sender chooses by those."""
    tables = _learn([count(tracks, step_index, DeadZone) for step_index in range(len(STEPS))])
    for _ in range(SENDER_PASSES):
        choosers = [partial(FrameChooser, tables, step_index) for step_index in range(len(STEPS))]
        tables = _learn([count(tracks, s, chooser) for s, chooser in enumerate(choosers)])
    return tables


def _learn(counted: list[tuple[Floats, Floats]]) -> Tables:
    """Return the tables for counts of each step."""
    blocks = [
        (counts, smooth(counts, axes)) for pair in counted for counts, axes in zip(pair, (1, 3), strict=True)
    ]
    weights = np.concatenate([counts.sum(axis=1) for counts, _ in blocks]) + 1e-3
    centres, assigned = cluster(np.concatenate([d for _, d in blocks]), weights)
    order = np.argsort(centres @ np.arange(MAGNITUDES))
    rank = np.argsort(order)
    classes = tuple(cumulative(centres[c]) for c in order)
    maps, offset = [], 0
    for counts, _ in blocks:
        maps.append(bytes(rank[assigned[offset : offset + len(counts)]].tolist()))
        offset += len(counts)
    tables = Tables(classes, tuple(maps[0::2]), tuple(maps[1::2]), b"")
    return Tables.parse(tables.serialize())


def main() -> int:
    """Train from a folder of tracks and write the asset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tracks", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("protocol/assets") / ASSET)
    parser.add_argument("--leave-out", action="append", default=[], metavar="IDENTITY")
    options = parser.parse_args()
    model = FaceModel.load()
    read = [read_states(path, model) for path in sorted(options.tracks.glob("*.npz"))]
    tracks = [entry[1] for entry in read if entry is not None and entry[0] not in options.leave_out]
    asset = train(tracks).serialize()
    options.output.write_bytes(asset)
    print(
        f"{options.output}: {len(asset)} bytes, id {Tables.parse(asset).tables_id.hex()}, {len(tracks)} clips"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
