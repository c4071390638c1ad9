"""Makes the link traces of the bench anew: `python -m mien.bench.make_link_traces bench/traces`.

The shapes are common knowledge about such links, the numbers nobody's measurement. EDGE: one to four time slots
of about 30 kbps in a coding scheme that follows the signal, a quarter of a second of delay, a second of nothing
when the cell changes. LTE: megabits that rise and fall within seconds, little delay, short handovers.
"""

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mien.bench.link_trace import LinkMoment, LinkTrace

STEP_US: Final = 200_000
ROWS: Final = 300  # one minute
SEED: Final = 1


def edge(rng: random.Random) -> LinkTrace:
    """Return a minute of an EDGE-like uplink."""
    slots, signal, moments = 2, 0.6, []
    stalls = _stalls(rng, count=3, shortest=4, longest=9)
    for row in range(ROWS):
        if row % 10 == 0:  # every 2 s the cell shares its slots out again
            slots = rng.choice((1, 1, 2, 2, 2, 3, 4))
        signal = _wander(rng, signal, 0.08, 0.2, 1.0)
        rate_kbps = 0 if row in stalls else round(slots * (9 + 36 * signal))
        delay_ms = round(220 + 180 * (1 - signal) + rng.uniform(0, 60))
        moments.append(LinkMoment(rate_kbps, 1000 * delay_ms, round(0.06 * (1 - signal) ** 2, 3)))
    return LinkTrace(STEP_US, tuple(moments))


def lte(rng: random.Random) -> LinkTrace:
    """Return a minute of an LTE-like uplink."""
    signal, moments = 0.7, []
    handovers = _stalls(rng, count=2, shortest=1, longest=1)
    for row in range(ROWS):
        signal = _wander(rng, signal, 0.1, 0.05, 1.0)
        rate_kbps = 0 if row in handovers else round(600 + 14_000 * signal**2)
        delay_ms = round(22 + 25 * (1 - signal) + rng.uniform(0, 8))
        moments.append(LinkMoment(rate_kbps, 1000 * delay_ms, round(0.004 * (1 - signal), 3)))
    return LinkTrace(STEP_US, tuple(moments))


MAKERS: Final[dict[str, Callable[[random.Random], LinkTrace]]] = {"edge": edge, "lte": lte}


def make(name: str) -> LinkTrace:
    """Return a trace, the same one every time."""
    return MAKERS[name](random.Random(f"{SEED} {name}"))


def main() -> None:
    """Write all traces to a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in MAKERS:
        (folder / f"{name}.csv").write_text(make(name).serialize(), encoding="utf-8")


def _stalls(rng: random.Random, *, count: int, shortest: int, longest: int) -> set[int]:
    """Return the rows of some stretches without service, in different parts of the minute."""
    rows: set[int] = set()
    part = ROWS // count
    for number in range(count):
        start = number * part + rng.randrange(part - longest)
        rows |= set(range(start, start + rng.randint(shortest, longest)))
    return rows


def _wander(rng: random.Random, value: float, step: float, lowest: float, highest: float) -> float:
    return min(highest, max(lowest, value + rng.uniform(-step, step)))


if __name__ == "__main__":
    main()
