"""Learns the entropy coder's tables from landmark tracks: `python -m mien.models.train_tables TRACKS_DIR`.

TRACKS_DIR is what `mien.bench.track_corpus` writes. Each clip's coefficients are quantised as the sender does
it, at every step of the format. Weights for the means and spreads of `mien.protocol.expectation` are fitted by
gradient descent, and the distributions that they choose among are counted. Only these leave the script.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.models.face_model import FaceModel
from mien.models.fit import Fitter, estimate_neutral, reference_scale, rest_pose
from mien.protocol.expectation import MOST, bit_lengths
from mien.protocol.quantizer import MAX_VALUE, STEPS, to_steps
from mien.protocol.range_coder import TOTAL
from mien.protocol.rate_distortion import FrameChooser
from mien.protocol.repeats import REPEAT_STRIDE
from mien.protocol.state import COEFFICIENT_COUNT, FaceState
from mien.protocol.tables import (
    ASSET,
    BEFORE,
    CLASS_COUNT,
    ESCAPE,
    FIRST,
    FRACTIONS,
    LARGEST,
    PHASES,
    REPEAT_PHASE,
    SOURCES,
    SPREAD_SHIFT,
    SPREADS,
    SYMBOL_COUNT,
    WEIGHT_BITS,
    WITHIN,
    Tables,
)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DEAD_ZONE: Final = 0.15  # in steps
SENDER_PASSES: Final = 2
MAX_TICK_RATE: Final = 30
MIN_CLIP_FRAMES: Final = 60
MAX_CLIP_FRAMES: Final = 300  # of one clip
REST_SECONDS: Final = 1.0  # what is known of a face when its stream begins
REPEATED_TICKS: Final = 6  # before a message, of which every second is repeated
ROUNDS: Final = 600  # of gradient descent; half as many in each later pass
RATE: Final = 0.02
BATCH: Final = 2500  # rows
SHRINK: Final = (0.015, 0.006, 0.0)  # bits for a unit of a mean's weight, a spread's, and a bias
PARTS: Final = ("means", "before")
LOWEST_SPREAD: Final = -4.0  # log2 of the width of the narrowest distribution
PRIOR: Final = 60.0  # samples' worth of belief in the logistic distribution

_UPPER: Final = np.triu(np.ones((COEFFICIENT_COUNT, COEFFICIENT_COUNT)), 1)
# Which sources [SOURCES, 36 sources, 36 targets] are known when a target is coded.
ALLOWED: Final = np.stack([_UPPER, _UPPER, np.ones_like(_UPPER)])


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
    tick_rate = min(float(rate), MAX_TICK_RATE)
    known = states[: round(REST_SECONDS * tick_rate)]
    return identity, StateTrack(states, rest_pose(known), max(1, round(tick_rate / 5)))


class DeadZone:
    """Rounds, with a dead zone around the frame before: for the first pass, which has no tables to ask.

    `first`: the integers that the first frame is told relative to.
    """

    def __init__(self, first: list[int] | None = None) -> None:
        self._values = first or [0] * COEFFICIENT_COUNT
        self._zone = DEAD_ZONE if first else 0.0

    def choose(self, target: Floats) -> list[int]:
        """Return the integers [36] for `target`, float64 [36] in steps."""
        difference = target - np.array(self._values)
        steps = np.sign(difference) * np.floor(np.abs(difference) + 0.5 - self._zone)
        self._values = np.clip(np.array(self._values) + steps, -MAX_VALUE, MAX_VALUE).astype(int).tolist()
        self._zone = DEAD_ZONE
        return self._values


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Frames that a sender coded, one a row: what stood before each, and what came.

    `steps`, `phases` int64 [n]; `differences` (from the frame before), `motions` and `recents` (see
    `mien.protocol.expectation`) int64 [n, 36]; `weights` float64 [n].
    """

    steps: Integers
    phases: Integers
    differences: Integers
    motions: Integers
    recents: Integers
    weights: Floats

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, rows: NDArray[np.bool_] | Integers) -> "Samples":
        return Samples(*(getattr(self, f.name)[rows] for f in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence["Samples"]) -> "Samples":
        """Return the rows of all parts."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def sample_message(
    values: list[list[int]], step_index: int, weight: float, *, after: list[int] | None
) -> Samples:
    """Return the rows of frames that follow one another in a message; `after`: of repeats behind a first frame."""
    place = np.array(after or [0] * COEFFICIENT_COUNT)
    motion = recent = np.zeros(COEFFICIENT_COUNT, np.int64)
    rows: list[tuple[Integers, Integers, Integers]] = []
    for number, frame in enumerate(np.array(values, np.int64)):
        difference = frame - place
        rows.append((difference, motion, recent))
        if number or after:
            motion, recent = difference, (recent >> 1) + 2 * np.abs(difference)
        place = frame
    count = len(rows)
    phases = np.full(count, REPEAT_PHASE) if after else np.minimum(np.arange(count), 2)
    differences, motions, recents = (np.array(column) for column in zip(*rows, strict=True))
    steps, weights = np.full(count, step_index), np.full(count, weight)
    return Samples(steps, phases, differences, motions, recents, weights)


def choose_message(targets: Sequence[Floats], step_index: int, tables: Tables | None) -> list[list[int]]:
    """Return the integers of a message's frames, by plain rounding where there are no tables yet."""
    if tables is None:
        rounding = DeadZone()
        return [rounding.choose(target) for target in targets]
    chooser = FrameChooser(tables, step_index)
    for target in targets:
        chooser.choose(target)
    return chooser.together()


def sample(tracks: Sequence[StateTrack], step_index: int, tables: Tables | None) -> Samples:
    """Return what a sender codes of `tracks`: by plain rounding where there are no `tables` yet."""
    parts = []
    for track in tracks:
        size = track.frames_per_message
        targets = [to_steps(state, track.rest_pose, step_index) for state in track.states]
        weight = 1 / math.sqrt(len(targets))
        for start in range(0, len(targets) - size + 1, size):
            values = choose_message(targets[start : start + size], step_index, tables)
            parts.append(sample_message(values, step_index, weight, after=None))
            earlier = targets[max(0, start - REPEATED_TICKS) : start][::-REPEAT_STRIDE]
            if not earlier:
                continue
            repeat = FrameChooser.of_repeats(tables, step_index, values[0]) if tables else DeadZone(values[0])
            repeated = [repeat.choose(target) for target in earlier]
            parts.append(sample_message(repeated, step_index, weight, after=values[0]))
    return Samples.joined(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Of the means and spreads, as `Tables` has them, in units of 1."""

    means: Floats
    spreads: Floats
    biases: Floats

    @property
    def parts(self) -> tuple[Floats, Floats, Floats]:
        """The three arrays."""
        return self.means, self.spreads, self.biases


def features(samples: Samples) -> tuple[list[tuple[int, Floats]], list[tuple[int, Floats]]]:
    """Return what means and spreads are sums over, each with its source, for rows of either the first phase or not."""
    within = FIRST if not samples.phases[0] else WITHIN

    def held(integers: Integers) -> Floats:
        return np.clip(integers, -MOST, MOST).astype(np.float64)

    signed = [(within, held(samples.differences))]
    sizes = [(within, bit_lengths(samples.differences).astype(np.float64))]
    if within == WITHIN:
        signed.append((BEFORE, held(samples.motions)))
        sizes.append((BEFORE, bit_lengths(samples.recents).astype(np.float64)))
    return signed, sizes


def loss_gradient(mean: Floats, spread: Floats, difference: Floats) -> tuple[Floats, Floats, Floats]:
    """Return bits, and their derivatives by mean and spread, under a rounded logistic distribution.

    Its width is 2^spread; a little of the probability is spread wide, for outliers.
    """
    width = np.exp2(np.clip(spread, -4.0, 6.0))
    away = difference - mean
    side, far = np.sign(away), -np.abs(away)  # on the side where nothing cancels
    upper, lower = (far + 0.5) / width, (far - 0.5) / width
    high, low = 1 / (1 + np.exp(-np.maximum(upper, -700.0))), 1 / (1 + np.exp(-np.maximum(lower, -50.0)))
    slope_high, slope_low = high * (1 - high), low * (1 - low)
    wide = 0.005 / 16 * np.exp(far / 8)
    total = 0.995 * np.maximum(high - low, 0.0) + wide + 1e-9
    by_total = -1 / (math.log(2) * total)
    by_mean = by_total * side * (0.995 * (slope_high - slope_low) / width + wide / 8)
    by_spread = by_total * 0.995 * -math.log(2) * (upper * slope_high - lower * slope_low)
    return -np.log2(total), by_mean, by_spread


def gradient(weights: Weights, samples: Samples) -> Weights:
    """Return the gradient of the mean bits a frame of `samples`, all of the first phase or none of them."""
    signed, sizes = features(samples)
    mean = sum((x @ weights.means[s] for s, x in signed), np.zeros((len(samples), COEFFICIENT_COUNT)))
    spread = weights.biases[samples.steps, samples.phases]
    spread = spread + sum(x @ weights.spreads[s] for s, x in sizes)
    _, by_mean, by_spread = loss_gradient(mean, spread, samples.differences.astype(np.float64))
    share = (samples.weights / samples.weights.sum())[:, None]
    by_mean, by_spread = by_mean * share, by_spread * share
    result = Weights(*(np.zeros_like(part) for part in weights.parts))
    for s, x in signed:
        result.means[s] = (x.T @ by_mean) * ALLOWED[s]
    for s, x in sizes:
        result.spreads[s] = (x.T @ by_spread) * ALLOWED[s]
    np.add.at(result.biases, (samples.steps, samples.phases), by_spread)
    return result


def start_weights(samples: Samples) -> Weights:
    """Return weights that only know how large differences are on average."""
    shape = (SOURCES, COEFFICIENT_COUNT, COEFFICIENT_COUNT)
    biases = np.zeros((len(STEPS), PHASES, COEFFICIENT_COUNT))
    for step_index in range(len(STEPS)):
        for phase in range(PHASES):
            rows = samples.differences[(samples.steps == step_index) & (samples.phases == phase)]
            if len(rows):
                biases[step_index, phase] = np.log2(np.abs(rows).mean(axis=0) * 0.7 + 0.12)
    return Weights(np.zeros(shape), np.zeros(shape), biases)


def fit(
    samples: Samples, weights: Weights, *, rounds: int, rate: float, without: Sequence[str] = ()
) -> Weights:
    """Return better weights: Adam (Kingma, Ba, 2015) on random rows, small weights preferred.

    `without`: parts, of `PARTS`, that stay 0, to see what they are worth.
    """
    chance = np.random.default_rng(0)
    is_first = samples.phases == 0
    halves = [samples[is_first], samples[~is_first]]
    parts = [part.copy() for part in weights.parts]
    first_moments, second_moments = ([np.zeros_like(part) for part in parts] for _ in range(2))
    for n in range(rounds):
        found = [gradient(Weights(*parts), h[chance.integers(0, len(h), BATCH)]) for h in halves if len(h)]
        pace = rate * (0.5 + 0.5 * math.cos(math.pi * n / rounds))
        for i, (part, shrink) in enumerate(zip(parts, SHRINK, strict=True)):
            slope = sum(g.parts[i] for g in found) + shrink * np.sign(part)
            first_moments[i] = 0.9 * first_moments[i] + 0.1 * slope
            second_moments[i] = 0.999 * second_moments[i] + 0.001 * slope**2
            mean, square = first_moments[i] / (1 - 0.9 ** (n + 1)), second_moments[i] / (1 - 0.999 ** (n + 1))
            part -= pace * mean / (np.sqrt(square) + 1e-8)
        if "means" in without:
            parts[0][:] = 0
        if "before" in without:
            parts[0][BEFORE], parts[1][BEFORE] = 0, 0
    return Weights(*parts)


def count_classes(samples: Samples, tables: Tables) -> Floats:
    """Return weighted counts of symbols [CLASS_COUNT, SYMBOL_COUNT] under the weights of `tables`."""
    counts = np.zeros((CLASS_COUNT, SYMBOL_COUNT))
    for half in (samples[samples.phases == 0], samples[samples.phases > 0]):
        if not len(half):
            continue
        signed, sizes = features(half)
        mean = sum(x.astype(np.int64) @ tables.means[s] for s, x in signed)
        spread = tables.biases[half.steps, half.phases] + sum(
            x.astype(np.int64) @ tables.spreads[s] for s, x in sizes
        )
        whole = (mean + (1 << WEIGHT_BITS >> 1)) >> WEIGHT_BITS
        part = mean - (whole << WEIGHT_BITS)
        number = FRACTIONS * np.clip(spread >> SPREAD_SHIFT, 0, SPREADS - 1)
        number = number + np.abs(part) * FRACTIONS // ((1 << WEIGHT_BITS >> 1) + 1)
        missing = np.where(part < 0, whole - half.differences, half.differences - whole)
        size = np.abs(missing)
        symbols = np.where(size > LARGEST, ESCAPE, 2 * size - (missing > 0))
        weights = np.broadcast_to((half.weights / samples.weights.mean())[:, None], symbols.shape)
        np.add.at(counts, (number, symbols), weights)
    return counts


def prior() -> Floats:
    """Return what each class's distribution would be were differences logistic, [CLASS_COUNT, SYMBOL_COUNT]."""
    width = np.exp2(LOWEST_SPREAD + (np.arange(SPREADS) + 0.5) / (1 << WEIGHT_BITS - SPREAD_SHIFT))
    fraction = (np.arange(FRACTIONS) + 0.5) / FRACTIONS / 2
    symbols = np.arange(ESCAPE)
    missing = np.where(symbols & 1, (symbols + 1) // 2, -(symbols // 2))
    away = (missing - fraction[:, None])[None] / width[:, None, None]
    half = 0.5 / width[:, None, None]
    inner = (np.tanh((away + half) / 2) - np.tanh((away - half) / 2)) / 2
    escape = np.maximum(1 - inner.sum(axis=-1, keepdims=True), 1e-5)
    both = np.concatenate([inner, escape], axis=-1).reshape(CLASS_COUNT, SYMBOL_COUNT) + 2e-5
    distribution: Floats = both / both.sum(axis=1, keepdims=True)
    return distribution


def cumulative(distribution: Floats) -> tuple[int, ...]:
    """Turn a distribution of symbols into cumulative integer frequencies."""
    frequencies = np.maximum(1, np.floor(distribution * (TOTAL - SYMBOL_COUNT)).astype(np.int64))
    frequencies[0] += TOTAL - frequencies.sum()
    return tuple(int(v) for v in np.concatenate([[0], np.cumsum(frequencies)]))


def make_tables(samples: Samples, weights: Weights) -> Tables:
    """Round the weights, and count the distributions that they choose among."""

    def rounded(part: Floats) -> Integers:
        return np.clip(np.round(part * (1 << WEIGHT_BITS)), -32767, 32767).astype(np.int64)

    belief = prior()
    blank = tuple(cumulative(row) for row in belief)
    biases = rounded(weights.biases - LOWEST_SPREAD)
    tables = Tables(blank, rounded(weights.means), rounded(weights.spreads), biases, b"")
    counts = count_classes(samples, tables) + PRIOR * belief
    classes = tuple(cumulative(row) for row in counts / counts.sum(axis=1, keepdims=True))
    return Tables.parse(replace(tables, classes=classes).serialize())


def train(tracks: Sequence[StateTrack], *, rounds: int = ROUNDS, without: Sequence[str] = ()) -> Tables:
    """Return tables learned from `tracks`: once from plain rounding, then from what a sender chooses by those."""
    tables, weights, rate = None, None, RATE
    for number in range(1 + SENDER_PASSES):
        samples = Samples.joined([sample(tracks, s, tables) for s in range(len(STEPS))])
        weights = fit(
            samples, weights or start_weights(samples), rounds=rounds >> number, rate=rate, without=without
        )
        tables, rate = make_tables(samples, weights), RATE / 2
    if tables is None:
        raise ValueError("there is at least one pass")
    return tables


def main() -> int:
    """Train from a folder of tracks and write the asset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tracks", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("protocol/assets") / ASSET)
    parser.add_argument("--leave-out", action="append", default=[], metavar="IDENTITY")
    parser.add_argument("--without", action="append", default=[], choices=PARTS, help="for comparisons")
    options = parser.parse_args()
    model = FaceModel.load()
    read = [read_states(path, model) for path in sorted(options.tracks.glob("*.npz"))]
    tracks = [entry[1] for entry in read if entry is not None and entry[0] not in options.leave_out]
    asset = train(tracks, without=options.without).serialize()
    options.output.write_bytes(asset)
    print(
        f"{options.output}: {len(asset)} bytes, id {Tables.parse(asset).tables_id.hex()}, {len(tracks)} clips"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
