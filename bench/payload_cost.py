"""What messages of a face cost without any header, by step, frames a message and repeats: the rate plan's table.

`python -m mien.bench.payload_cost DIR` prints it for a folder of tracks (npz files with `landmarks` [T, 478, 3],
`rate` and `size`), as medians over clips of the mean, and of the dearest five seconds.
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

from mien.bench.rate_quality import TrackedClip, enrol_clip
from mien.protocol.codec import MessageEncoder
from mien.protocol.quantizer import Quality
from mien.protocol.repeats import Repeats
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader, TrackerId

WINDOW_S: Final = 5.0
FRAMES: Final = (1, 2, 3, 4, 6, 8, 10, 13, 16)
REPEATS: Final = {
    "none": None,
    "half": Repeats(1),
    "one": Repeats(2),
    "three": Repeats(3),
    "lag 4": Repeats(3, lag=4),
}


@dataclass(frozen=True, slots=True, eq=False)
class CodedPart:
    """The states of a clip's coded part, by tick, and their stream."""

    header: StreamHeader
    states: tuple[FaceState, ...]


def load_part(path: Path) -> CodedPart | None:
    """Read a track and enrol on its first part; `None` where it is too short or holds too few faces."""
    with np.load(path, allow_pickle=False) as data:
        landmarks = np.asarray(data["landmarks"], np.float32)
        rate = Fraction(float(data["rate"])).limit_denominator(1001)
        width, height = (int(v) for v in data["size"])
    times = np.array([round(i / rate * 1_000_000) for i in range(len(landmarks))], np.int64)
    clip = TrackedClip(path.stem, landmarks, times, rate, width, height, TrackerId.UNKNOWN, 0.0)
    enrolled = enrol_clip(clip)
    if enrolled is None:
        return None
    states, last = [], FaceState.neutral()
    for face, found in zip(landmarks[enrolled.cut :], enrolled.found[enrolled.cut :], strict=True):
        state = enrolled.fitter.fit(face) if found else None
        states.append(state or FaceState(last.pose, last.expression, tracked=False))
        last = states[-1]
    return CodedPart(enrolled.header, tuple(states))


def message_bytes(
    part: CodedPart, quality: Quality, frames: int, repeats: Repeats | None
) -> NDArray[np.int64]:
    """Return the bytes that became due at each tick."""
    encoder = MessageEncoder(part.header, quality=quality, frames_per_message=frames)
    encoder.repeats = repeats
    sizes = [len(encoder.push(tick, state) or b"") for tick, state in enumerate(part.states)]
    return np.array(sizes, np.int64)


def mean_and_peak_kbps(sizes: NDArray[np.int64], ticks_per_s: float) -> tuple[float, float]:
    """Return kbps over all, and over the dearest window."""
    window = min(len(sizes), round(WINDOW_S * ticks_per_s))
    sums = np.convolve(sizes, np.ones(window, np.int64), "valid")
    per_tick = 8 * ticks_per_s / 1000
    return float(sizes.mean()) * per_tick, float(sums.max()) / window * per_tick


def rows(parts: Sequence[CodedPart], *, repeats: bool) -> Iterator[tuple[str, int, str, float, float, float]]:
    """Give quality, frames, repeats, the median of the clips' means, and median and 90 % of their dearest windows."""
    for quality in Quality:
        for frames in FRAMES:
            for name, what in REPEATS.items():
                if what is not None and not repeats:
                    continue
                figures = [
                    mean_and_peak_kbps(
                        message_bytes(part, quality, frames, what), float(part.header.tick_rate)
                    )
                    for part in parts
                ]
                means, peaks = np.array(figures).T
                yield (
                    quality.name.lower(),
                    frames,
                    name,
                    float(np.median(means)),
                    float(np.median(peaks)),
                    float(np.percentile(peaks, 90)),
                )


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m mien.bench.payload_cost", description=__doc__)
    parser.add_argument("tracks", type=Path, metavar="DIR")
    parser.add_argument("--max-frames", type=int, default=300, help="of each clip's coded part")
    parser.add_argument("--clips", type=int, default=8, help="so many, evenly picked")
    parser.add_argument("--repeats", action="store_true", help="with repeats, too")
    options = parser.parse_args(arguments)
    paths = sorted(options.tracks.glob("*.npz"))
    picked = paths[:: max(1, len(paths) // options.clips)][: options.clips]
    parts = [part for path in picked if (part := load_part(path)) is not None]
    parts = [CodedPart(part.header, part.states[: options.max_frames]) for part in parts]
    table = Table(title=f"payload kbps, {len(parts)} clips")
    for name in ("quality", "frames", "repeats", "mean", "peak 5 s", "peak 5 s, 90 %"):
        table.add_column(name, justify="right")
    for quality, frames, what, *figures in rows(parts, repeats=options.repeats):
        table.add_row(quality, str(frames), what, *(f"{figure:.2f}" for figure in figures))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
