"""`mien bench fuzz`: every truncation and seeded mutations of what comes from others, against every parser.

For each input a parser must answer, in bounded time and memory, with `WireError` or with something that it stands
behind (`fuzz_targets` names them, each with what it promises). Anything else is a finding. An input depends on the seed, the
target and its number alone, so a finding can be run again by itself.
"""

import argparse
import contextlib
import json
import logging
import random
import signal
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Final

from rich.console import Console

from mien.bench.fuzz_target import Broken, Target
from mien.bench.fuzz_targets import TARGETS
from mien.bench.mutations import mutate
from mien.bench.provenance import provenance
from mien.protocol.errors import MienError, WireError

EXAMPLE: Final = """examples:
  mien bench fuzz
  mien bench fuzz --count 2000 --target log --json
  mien bench fuzz --target message --seed 1 --number 1234
"""
DEFAULT_COUNT: Final = 100_000
HANG_S: Final = 20.0  # wall clock; a machine may be busy
MAX_CPU_S: Final = 2.0
MAX_PEAK_BYTES: Final = 48 << 20
MEMORY_EVERY: Final = 8  # measuring memory makes an input three times as slow
MAX_FINDINGS: Final = 10
MAX_CUTS: Final = 20_000  # of one sample: every length


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that a parser did not deal with."""

    target: str
    number: int  # negative: truncations
    problem: str
    data: str  # hexadecimal, at most 4 kB of it


@dataclass(slots=True)
class Outcome:
    """What happened to one target's inputs."""

    target: str
    inputs: int = 0
    accepted: int = 0
    rejected: int = 0
    slowest_ms: float = 0.0
    peak_kb: float = 0.0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--count",
        type=int,
        default=DEFAULT_COUNT,
        help="mutations for each parser, a part of it for the slow ones (default: 100000)",
    )
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument(
        "--target", action="append", choices=[t.name for t in TARGETS], help="only this one (repeatable)"
    )
    parser.add_argument(
        "--number", type=int, help="only the mutation with this number, to run a finding again"
    )
    parser.add_argument("--json", action="store_true", help="one JSON line for each parser")


def run(options: argparse.Namespace) -> int:
    """Run the bench: 0, or 1 where something was found."""
    if options.count < 0:
        raise MienError(f"--count {options.count}: expected 0 or more")
    console = Console(stderr=True)
    targets = [t for t in TARGETS if not options.target or t.name in options.target]
    logging.disable(logging.WARNING)  # they would tell what is wrong with each of a hundred thousand inputs
    try:
        outcomes = [tell(target, options, console) for target in targets]
    finally:
        logging.disable(logging.NOTSET)
    return int(any(outcome.findings for outcome in outcomes))


def tell(target: Target, options: argparse.Namespace, console: Console) -> Outcome:
    """Fuzz a target and print what came of it."""
    with console.status(f"{target.name}: {target.about}"):
        outcome = fuzz(target, seed=options.seed, count=target.scaled(options.count), only=options.number)
    if options.json:
        row = {"bench": "fuzz", "seed": options.seed, **asdict(outcome), **provenance()}
        print(json.dumps(row), flush=True)
    else:
        print(describe(outcome), flush=True)
    return outcome


def fuzz(
    target: Target, *, seed: int, count: int, only: int | None = None, max_cuts: int = MAX_CUTS
) -> Outcome:
    """Run the truncations of the samples (`max_cuts` of each, all if it has not more bytes) and `count` mutations."""
    outcome = Outcome(target.name)
    samples = target.samples()
    started = time.monotonic()
    for sample in samples:  # the positive control: a target whose samples fail tests nothing
        try:
            target.check(sample)
        except WireError as error:
            raise MienError(f"fuzz target {target.name}: its own sample is refused: {error}") from error
    for number, data in inputs(target, samples, seed=seed, count=count, only=only, max_cuts=max_cuts):
        problem = run_one(target, data, outcome, measure=number % MEMORY_EVERY == 0)
        if problem is not None:
            outcome.findings.append(Finding(target.name, number, problem, data[:4096].hex()))
            if len(outcome.findings) >= MAX_FINDINGS:
                break
    outcome.seconds = round(time.monotonic() - started, 1)
    return outcome


def inputs(
    target: Target, samples: list[bytes], *, seed: int, count: int, only: int | None, max_cuts: int
) -> Iterator[tuple[int, bytes]]:
    """Give (number, bytes); truncations have negative numbers."""
    if only is None:
        number = 0
        for sample in samples:
            for size in range(0, len(sample), -(-len(sample) // max_cuts)):
                number -= 1
                yield number, sample[:size]
    for number in range(count) if only is None else [only]:
        yield number, mutate(random.Random(f"{seed} {target.name} {number}"), samples)


def run_one(target: Target, data: bytes, outcome: Outcome, *, measure: bool) -> str | None:
    """Feed one input; return what is wrong with the answer, if anything is."""
    outcome.inputs += 1
    if measure:
        tracemalloc.start()
    before = time.process_time()
    try:
        with time_limit(HANG_S):
            target.check(data)
        outcome.accepted += 1
    except WireError:
        outcome.rejected += 1
    except Broken as broken:
        return str(broken)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
        return f"{type(error).__name__}: {error}"
    finally:
        elapsed = time.process_time() - before
        peak = 0
        if measure:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    outcome.slowest_ms = max(outcome.slowest_ms, round(elapsed * 1000, 1))
    outcome.peak_kb = max(outcome.peak_kb, round(peak / 1000, 1))
    if elapsed > MAX_CPU_S:
        return f"took {elapsed:.1f} s of CPU"
    if peak > MAX_PEAK_BYTES:
        return f"allocated {peak} bytes for {len(data)}"
    return None


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `Broken` inside when it takes longer. Only where there are POSIX timers, in the main thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Broken(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def describe(outcome: Outcome) -> str:
    """Return a line for a person, and one for each finding."""
    counts = f"{outcome.inputs:7} inputs: {outcome.rejected} refused, {outcome.accepted} accepted"
    costs = (
        f"slowest {outcome.slowest_ms:.0f} ms, peak {outcome.peak_kb / 1000:.1f} MB, {outcome.seconds:.0f} s"
    )
    lines = [f"{outcome.target:18} {counts}; {costs}; {len(outcome.findings)} findings"]
    lines += [f"  number {f.number}: {f.problem}\n    {f.data[:200]}" for f in outcome.findings]
    return "\n".join(lines)
