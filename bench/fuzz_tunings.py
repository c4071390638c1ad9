"""Fuzzed: tunings as they come, and those of an owner who is hostile and signs whatever they like."""

from functools import cache
from typing import Final

import numpy as np

from mien.bench.fuzz_samples import KNOWN_KEY, NOW_S
from mien.bench.fuzz_target import Broken, Target
from mien.protocol.errors import WireError
from mien.protocol.tuning import HEAD, MAGIC, MAX_VALUES, SIGNATURE_CONTEXT, VERSION, Change, Tuning


@cache
def tuning_file() -> bytes:
    """Return a small tuning."""
    rng = np.random.default_rng(1)
    changes = (
        Change.of("network.enter.weight.half", rng.normal(0, 1e-3, (6, 5, 3, 3)).astype(np.float32)),
        Change.of("network.enter.bias", rng.normal(0, 1e-3, 6).astype(np.float32)),
    )
    return Tuning(KNOWN_KEY.public_key, bytes(32), bytes(32), NOW_S, changes).serialize(KNOWN_KEY)


def check_tuning(data: bytes) -> None:
    """Nothing but the bytes that were signed may give a tuning."""
    Tuning.parse(data)
    if data != tuning_file():
        raise Broken("a tuning that nobody signed was accepted")


def check_tuning_resigned(body: bytes) -> None:
    """Whatever an owner signs, what comes out is bounded and finite, and can be written again."""
    body = KNOWN_KEY.public_key + body[32:]
    head = HEAD.pack(MAGIC, VERSION, 0, len(body), KNOWN_KEY.sign(SIGNATURE_CONTEXT + body))
    tuning = Tuning.parse(head + body)
    if sum(change.steps.size for change in tuning.changes) > MAX_VALUES:
        raise Broken("a tuning of too many values was accepted")
    if not all(np.isfinite(change.values).all() for change in tuning.changes):
        raise Broken("a tuning adds what is not finite")
    try:
        again = Tuning.parse(tuning.serialize(KNOWN_KEY))
    except WireError as error:
        raise Broken(f"what was read cannot be written again: {error}") from error
    if [c.name for c in again.changes] != [c.name for c in tuning.changes]:
        raise Broken("what was written again is something else")


TARGETS: Final[tuple[Target, ...]] = (
    Target("tuning", "tunings as they come", lambda: [tuning_file()], check_tuning),
    Target(
        "tuning-body", "tunings, signed again", lambda: [tuning_file()[HEAD.size :]], check_tuning_resigned
    ),
)
