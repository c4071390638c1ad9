"""`mien enroll --finetune`: after the avatar, teach the generator its owner; keep that only where it draws better."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mien.decoder.generator import Generator
from mien.decoder.recording import read_recording
from mien.decoder.tuned_generator import tuned_model
from mien.decoder.tuning_examples import Play, drawn_size
from mien.encoder.capture import Source
from mien.encoder.enroll import Enrolment, Settings
from mien.encoder.tuning_talk import Remembered, TalkMaker, Windowed, divide
from mien.models.generator_asset import SHIPPED
from mien.models.generator_examples import Examples
from mien.protocol.avatar import Signer
from mien.protocol.errors import MienError
from mien.protocol.log import LogReader
from mien.protocol.private_files import write_whole
from mien.protocol.tuning import Tuning, fitted

if TYPE_CHECKING:
    from mien.models.generator_tuning import Plan, Verdict

Tell = Callable[[str, int, int], None]

DEFAULT_MINUTES: Final = 4.0
MINUTES: Final = (0.05, 120.0)
JUDGED_STEP: Final = 2  # one of so many frames is compared
SHARES: Final = (0.3, 0.6, 1.0)  # of what was learned: all of it may be too much of one clip
LEAST_GAIN: Final = 0.001  # of SSIM or GMSD, for a tuning to be worth a file
MOST_SOFTENED: Final = 0.02  # sharpness that a tuning may cost
THREADS: Final = 2
EXTRA: Final = "pip install 'mien[training]'"


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of it: how well either draws the part of the clip that nothing was learned from; the tuning, if kept."""

    everybody: "Verdict"
    tuned: "Verdict"
    steps: int
    share: float  # of what was learned that is followed
    tuning: Tuning | None

    def as_json(self) -> dict[str, Any]:
        """Return it for a report."""
        return {
            "kept": self.tuning is not None,
            "steps": self.steps,
            "share": self.share,
            "everybody": {k: round(v, 4) for k, v in asdict(self.everybody).items()},
            "tuned": {k: round(v, 4) for k, v in asdict(self.tuned).items()},
        }


def check_possible(source: Source, minutes: float) -> None:
    """Raise `MienError` where a fine-tune cannot be made, before anything else is: with what to do about it."""
    if not MINUTES[0] <= minutes <= MINUTES[1]:
        raise MienError(f"--finetune-minutes {minutes:g}: expected {MINUTES[0]:g} to {MINUTES[1]:g}")
    if SHIPPED is None:
        raise MienError("this version of mien comes without a generator: leave out --finetune")
    if source.live:
        raise MienError(
            "--finetune looks at the pictures again and again, so it needs a clip: record one, then enrol from it"
        )
    for package in ("torch", "onnxruntime"):
        if find_spec(package) is None:
            raise MienError(f"--finetune needs the training extra ({package} is missing): {EXTRA}")


def finetune(
    source: Source,
    tracker: Remembered,
    settings: Settings,
    enrolment: Enrolment,
    key: Signer,
    *,
    minutes: float,
    tell: Tell,
    plan: "Plan | None" = None,
) -> Outcome:
    """Learn the person of an enrolment that has just been made of `source`, seen by `tracker`.

    Raises `MienError` where the clip is too short, or shows too little.
    """
    import torch

    from mien.models.generator_tuning import Tuner, Verdict

    torch.set_num_threads(max(1, min(THREADS, os.cpu_count() or 1)))
    assert SHIPPED is not None
    model = SHIPPED.read()
    tuner = Tuner(model, plan)
    division = divide(tracker.frames, source.rate)
    size = drawn_size(source.width, source.height)
    maker = TalkMaker(Windowed(source, settings.window), tracker, settings, tell)
    examples: list[Examples] = []
    stretches = [*division.learned, division.judged]
    for number, stretch in enumerate(stretches):
        talk = maker.talk(stretch, size)
        tell("drawing what to learn from", number, len(stretches))
        with LogReader(io.BytesIO(talk.log)) as reader:
            play = Play(talk.avatar, read_recording(reader).segments[0], talk.scenes, talk.originals)
        if stretch is not division.judged:
            examples.append(play.examples())
    losses = tuner.run(examples, seconds=60 * minutes, tell=lambda done, total: tell("learning", done, total))
    changes = tuner.changes()

    def tuning_of(share: float) -> Tuning:
        return fitted(
            {name: np.asarray(share * change, np.float32) for name, change in changes.items()},
            owner=key.public_key,
            generator=hashlib.sha256(model).digest(),
            avatar_id=enrolment.avatar.avatar_id,
            created_unix_s=enrolment.avatar.manifest.created_unix_s,
        )

    # How far to go is chosen on the first half of what nothing was learned from; the second half decides.
    tunings = [tuning_of(share) for share in SHARES]
    networks = [model, *(tuned_model(tuning) for tuning in tunings)]
    verdicts = []
    for number, network in enumerate(networks):
        tell("comparing", number, len(networks))
        pairs = list(play.judged(Generator(network), 0, step=JUDGED_STEP))
        half = len(pairs) // 2
        verdicts.append((Verdict.of(pairs[:half]), Verdict.of(pairs[half:])))
    (chosen_by, everybody), *others = verdicts
    best = max(range(len(others)), key=lambda n: gain(others[n][0], chosen_by))
    tuned = others[best][1]
    kept = tunings[best] if is_better(tuned, everybody) else None
    return Outcome(everybody, tuned, len(losses), SHARES[best], kept)


def gain(tuned: "Verdict", everybody: "Verdict") -> float:
    """Return how much better a tuning draws, in structure and gradients together; nothing makes up for softness."""
    soft = tuned.edge < everybody.edge - MOST_SOFTENED
    return (tuned.ssim - everybody.ssim) + (everybody.gmsd - tuned.gmsd) - float(soft)


def is_better(tuned: "Verdict", everybody: "Verdict") -> bool:
    """Return whether a tuning is worth a file: better in structure or gradients, worse in neither, and not soft."""
    ssim, gmsd = tuned.ssim - everybody.ssim, everybody.gmsd - tuned.gmsd
    return gain(tuned, everybody) > 0 and min(ssim, gmsd) >= 0 and max(ssim, gmsd) >= LEAST_GAIN


@dataclass(frozen=True, slots=True)
class Wish:
    """Where the tuning goes, if one is kept, and for how long may be learned."""

    path: Path
    minutes: float


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a fine-tune: as JSON-ready values, and in lines for a person."""

    report: dict[str, Any]
    lines: tuple[str, ...]


def tune_and_write(
    wish: Wish,
    source: Source,
    tracker: Remembered,
    settings: Settings,
    enrolment: Enrolment,
    key: Signer,
    tell: Tell | None,
) -> Told:
    """Fine-tune and write what is worth it. The avatar is written already, whatever becomes of this."""
    wish.path.unlink(missing_ok=True)  # one that is there belongs to the avatar before
    try:
        outcome = finetune(
            source, tracker, settings, enrolment, key, minutes=wish.minutes, tell=tell or _silent
        )
        data = outcome.tuning.serialize(key) if outcome.tuning else b""
        if data:
            write_whole(wish.path, data)
    except MienError as error:
        return Told({"kept": False, "problem": str(error)}, (f"no fine-tune: {error}",))
    except KeyboardInterrupt:
        return Told({"kept": False, "problem": "interrupted"}, ("no fine-tune: interrupted",))
    report = outcome.as_json() | {"file": str(wish.path) if data else None, "bytes": len(data)}
    return Told(report, tuple(told(outcome, wish.path, len(data))))


def told(outcome: Outcome, path: Path, size_bytes: int) -> Iterator[str]:
    """Give lines for a person."""
    everybody, tuned = outcome.everybody, outcome.tuned
    kept = outcome.tuning is not None
    if kept:
        yield f"{path}: {size_bytes:,} bytes; give it to those you call, by another way than a call"
    else:
        yield "fine-tune: not kept, the generator for everybody draws the rest of the clip as well"
    yield f"  learned      {outcome.steps} steps; then compared on the end of the clip, without and with it:"
    for name, before, after, hint in (
        ("structure", everybody.ssim, tuned.ssim, "SSIM, 1 is perfect"),
        ("gradients", everybody.gmsd, tuned.gmsd, "GMSD, 0 is perfect"),
        ("sharpness", everybody.edge, tuned.edge, "1 is the clip's"),
    ):
        yield f"  {name:<13}{before:.4f} and {after:.4f} ({hint})"


def _silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
