"""What each part of the coefficient code saves, at equal error: `python -m mien.bench.payload_floor TRACKS_DIR`.

TRACKS_DIR is what `mien.bench.track_corpus` writes; leave out the people that the tables learned from. Each variant codes the last 40 % of every clip at three
qualities; its row says by how many percent its rate differs from that of the first row at equal error, averaged over the errors
that both reach (Bjontegaard's delta rate, on straight lines). `--tables FILE` adds tables that
`mien.models.train_tables` made in another way, to be compared with those of the package.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mien.bench.rate_quality import CodedPart, TrackedClip, coded_part, errors
from mien.protocol.message import TICK_MODULUS, CoefficientMessage
from mien.protocol.quantizer import MAX_VALUE, Quality, from_steps, to_steps
from mien.protocol.rate_distortion import FrameChooser
from mien.protocol.state import FaceState
from mien.protocol.stream import TrackerId
from mien.protocol.tables import Tables

MESSAGE_SECONDS: Final = (0.2, 0.08, 0.04)  # the data channel's, and two cadences of the audio carrier
JUDGED: Final = 2  # one frame of so many has its error measured

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """A way to code. `together`: frames of a message are chosen together; `search`: chosen at all, else rounded."""

    name: str
    tables: Tables
    search: bool = True
    together: bool = True
    short: bool = True


def load_clip(path: Path) -> CodedPart | None:
    """Read a clip's tracks and fit its last part; `None` where it is too short or holds too few faces."""
    with np.load(path, allow_pickle=False) as data:
        landmarks = np.asarray(data["landmarks"], np.float32)
        rate = Fraction(float(data["rate"])).limit_denominator(1001)
        width, height = (int(v) for v in data["size"])
    times = np.array([round(i / rate * 1_000_000) for i in range(len(landmarks))], np.int64)
    return coded_part(TrackedClip(path.stem, landmarks, times, rate, width, height, TrackerId.UNKNOWN, 0.0))


def batches(count: int, frames: float) -> Iterator[tuple[int, int]]:
    """Cut `count` ticks into messages of `frames` each on average: first tick, and the one behind the last."""
    end, due = 0, 0.0
    while end < count:
        due = max(due + frames, end + 1.0)
        start, end = end, min(count, int(due + 1e-9))
        yield start, end


def code(
    variant: Variant, part: CodedPart, quality: Quality, message_seconds: float
) -> tuple[float, tuple[float, ...]]:
    """Return payload kbps, and the total, mouth and eyes NME in percent."""
    header, step = part.header, int(quality)
    rate, size = float(header.tick_rate), 0
    values: list[list[int]] = []
    for start, end in batches(len(part.states), message_seconds * rate):
        states = part.states[start:end]
        found = choose(variant, [to_steps(s, header.rest_pose, step) for s in states if s.tracked], step)
        batch: list[list[int]] = []
        for state in states:
            batch.append(found.pop(0) if state.tracked else batch[-1] if batch else [0] * 36)
        # A long head tells the ticks once a second.
        short = variant.short and int(start / rate) == int(max(0, start - 1) / rate) and start > 0
        message = CoefficientMessage(
            stream=0,
            first_tick=start % (512 if short else TICK_MODULUS),
            step_index=step,
            values=np.array(batch, np.int16),
            tracked=tuple(s.tracked for s in states),
            short=short,
        )
        size += len(message.serialize(variant.tables))
        values += batch
    judged = part.tracked[::JUDGED]
    rows = from_steps(np.array(values, np.int16)[judged], header.rest_pose, step)
    truth = part.truth(judged)
    found_errors = errors(part.placed([FaceState.from_coefficients(r) for r in rows]), truth, truth)
    return part.kbps(size), (found_errors.total, found_errors.mouth, found_errors.eyes)


def choose(variant: Variant, targets: Sequence[Floats], step_index: int) -> list[list[int]]:
    """Return the integers of a message's tracked frames."""
    if not variant.search:
        return [np.clip(np.rint(t), -MAX_VALUE, MAX_VALUE).astype(int).tolist() for t in targets]
    chooser = FrameChooser(variant.tables, step_index)
    one_by_one = [chooser.choose(target) for target in targets]
    return list(chooser.together()) if variant.together else one_by_one


def curve(variant: Variant, parts: Sequence[CodedPart], message_seconds: float) -> Floats:
    """Return, for each quality, kbps (geometric mean over clips) and the three NMEs (mean), float64 [3, 4]."""
    rows = []
    for quality in Quality:
        coded = [code(variant, part, quality, message_seconds) for part in parts]
        kbps, nmes = np.array([k for k, _ in coded]), np.array([e for _, e in coded])
        rows.append([float(np.exp(np.log(kbps).mean())), *nmes.mean(axis=0)])
    return np.array(rows)


def delta_rate(reference: Floats, other: Floats, column: int) -> float:
    """Return by how many percent `other` costs more than `reference` at equal error (`column` of the curves)."""
    curves = [c[np.argsort(c[:, column])] for c in (reference, other)]
    low = max(c[0, column] for c in curves)
    high = min(c[-1, column] for c in curves)
    if low >= high:
        return float("nan")
    grid = np.linspace(low, high, 50)
    logs = [np.interp(grid, c[:, column], np.log(c[:, 0])) for c in curves]
    return 100 * float(np.exp((logs[1] - logs[0]).mean()) - 1)


def variants(others: Sequence[Path]) -> list[Variant]:
    """Return the shipped code and what it would be without one of its parts, then other tables."""
    tables = Tables.load()
    return [
        Variant("as shipped", tables),
        Variant("long heads only", tables, short=False),
        Variant("frames chosen one by one", tables, together=False),
        Variant("rounded", tables, search=False),
        *(Variant(path.stem, Tables.parse(path.read_bytes())) for path in others),
    ]


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m mien.bench.payload_floor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tracks", type=Path, metavar="TRACKS_DIR")
    parser.add_argument("--tables", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--leave-out", action="append", default=[], metavar="NAME", help="of a clip")
    options = parser.parse_args(arguments)
    paths = [p for p in sorted(options.tracks.glob("*.npz")) if p.stem not in options.leave_out]
    parts = [part for part in map(load_clip, paths) if part is not None]
    if not parts:
        parser.error(f"{options.tracks} holds no clip with enough faces")
    table = Table(title=f"{len(parts)} clips: payload at equal error, % against the first row")
    for heading in ("variant", "message", "low", "normal", "high kbps", "NME", "total", "mouth", "eyes"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for seconds in MESSAGE_SECONDS:
        reference: Floats | None = None
        for variant in variants(options.tables):
            found = curve(variant, parts, seconds)
            reference = found if reference is None else reference
            deltas = [f"{delta_rate(reference, found, column):+.1f}" for column in (1, 2, 3)]
            rates = [f"{kbps:.3f}" for kbps in found[:, 0]]
            row = (variant.name, f"{1000 * seconds:.0f} ms", *rates, f"{found[1, 1]:.3f}", *deltas)
            table.add_row(*row)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
