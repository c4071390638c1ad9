"""Trains the generator: `python -m mien.bench.generator_train SHARDS OUT --minutes N`.

Seeded and resumable: a run goes on where the last one ended, with whatever shards are there now. OUT holds
`state.pt` (weights, their moving average, optimiser), `losses.csv`, `losses.png` and `generator.onnx`; they are
written every two minutes, at the end, and when it is asked to end (SIGTERM).
"""

import argparse
import csv
import signal
import sys
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from mien.bench.generator_samples import FRAMES, TICKS, Batch, Clip, choose, load_clips, varied
from mien.models.generator_loss import Parts, Weights, luma, picture_parts, restless_part, ssim
from mien.models.generator_net import Cautious, Generator, exported
from mien.models.generator_painting import carried, composed, corrected, fields_of, input_of

LEARNING_RATE: Final = 2e-3
LAST_SHARE: Final = 0.05  # of the learning rate at the end of `decay_steps`
AVERAGE: Final = 0.995
LARGE_EVERY: Final = 4  # steps
MAX_NORM: Final = 1.0
NOTE_EVERY: Final = 20
KEEP_EVERY_S: Final = 120


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train."""

    batch: int = 2
    seed: int = 1
    decay_steps: int = 1500
    warm_up: int = 30
    rough: bool = True  # bfloat16 in the network: half the time where a processor knows it
    weights: Weights = field(default_factory=Weights)


def loss_of(
    network: Callable[[Tensor], Tensor], batch: Batch, weights: Weights, *, large: bool = True
) -> Parts:
    """Return what is wrong with what the network makes of pieces.

    `large`: in frames painted at full size between two ticks; else on the grid, at the ticks, for half the time.
    """
    corrections: list[Tensor] = []
    for tick in range(TICKS):
        before = None
        if tick:
            before = carried(corrections[-1].detach(), batch.before_motion[tick])
        situation = batch.situation(tick, before)
        with torch.set_grad_enabled(tick > 0 and torch.is_grad_enabled()):
            corrections.append(fields_of(situation, network(input_of(situation))))
    if large:
        truth, drawn = (
            batch.truth,
            torch.stack([painted(batch, corrections, frame) for frame in range(FRAMES)]),
        )
    else:
        pairs = zip(batch.small, corrections, strict=True)
        truth, drawn = batch.truth_small, torch.stack([corrected(small, fields) for small, fields in pairs])
    first = 0 if large else 1  # the first tick's correction learns nothing
    named = picture_parts(drawn[first:].flatten(0, 1), truth[first:].flatten(0, 1), weights, small=not large)
    named["restless"] = restless_part(drawn, truth, weights)
    named |= small_parts(batch, corrections, weights)
    return Parts(named)


def painted(batch: Batch, corrections: list[Tensor], frame: int) -> Tensor:
    """Return a frame between the last two corrections."""
    share = batch.share[frame][:, None, None, None]
    left = carried(corrections[-2], batch.to_left[frame])
    right = carried(corrections[-1], batch.to_right[frame])
    fields = (1 - share) * left + share * right
    outside = batch.frame_outside[frame]
    fields = torch.cat([fields[:, :2] * outside, fields[:, 2:5], fields[:, 5:6] * outside, fields[:, 6:]], 1)
    return composed(batch.drawn[frame], fields)


def small_parts(batch: Batch, corrections: list[Tensor], weights: Weights) -> dict[str, Tensor]:
    """Return what is wrong with the fields themselves: the restored picture, and the flow."""
    made, truth = torch.cat(corrections[1:]), batch.truth_small[1:].flatten(0, 1)
    flow, outside = batch.true_flow[1:].flatten(0, 1), batch.outside[1:].flatten(0, 1)
    face = batch.face.repeat(TICKS - 1)[:, None, None, None]
    known = torch.maximum(outside, face)
    wrong = ((made[:, 6:9] - truth).abs() * known).mean() / 32
    unlike = ((1 - ssim(luma(made[:, 6:9]), luma(truth))) * known[..., 5:-5, 5:-5]).mean()
    apart = ((made[:, :2] - flow[:, :2]).abs().clamp(max=4) * flow[:, 2:3] * outside).mean()
    return {"restored": weights.restored * (wrong + unlike), "flow": weights.flow * apart}


class Trainer:
    """A network in training, with all that is needed to go on later."""

    def __init__(self, plan: Plan) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.network = Generator().to(memory_format=torch.channels_last)
        self.average = deepcopy(self.network)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), LEARNING_RATE, weight_decay=1e-4)
        self.step = 0

    def take(self, batch: Batch) -> dict[str, float]:
        """Learn from a batch; return the loss and its parts."""
        for group in self.optimiser.param_groups:
            group["lr"] = LEARNING_RATE * self._pace()
        self.optimiser.zero_grad()

        def network(x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.plan.rough):
                return self.network(x.contiguous(memory_format=torch.channels_last)).float()

        large = self.step % LARGE_EVERY == 0
        parts = loss_of(network, batch, self.plan.weights, large=large)
        parts.total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_NORM)
        self.optimiser.step()
        self.step += 1
        keep = min(AVERAGE, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        return {"total": float(parts.total.detach())} | {k: float(v.detach()) for k, v in parts.named.items()}

    def _pace(self) -> float:
        done = min(1.0, self.step / self.plan.decay_steps)
        falling = LAST_SHARE + (1 - LAST_SHARE) * 0.5 * (1 + float(np.cos(np.pi * done)))
        return min(1.0, (self.step + 1) / self.plan.warm_up) * falling

    def state(self) -> dict[str, object]:
        """Return all of it, for `load`."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }

    def load(self, path: Path) -> None:
        """Go on from a state that was saved."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])


def next_batch(clips: Mapping[str, Clip], plan: Plan, step: int) -> Batch:
    """Return the batch of a step: the same for the same clips, seed and step."""
    rng = np.random.default_rng([plan.seed, step])
    names = sorted(clips)
    chosen = rng.choice(len(names), plan.batch, replace=len(names) < plan.batch)
    return Batch.of([varied(choose(clips[names[i]], rng), rng) for i in chosen])


def main() -> int:
    """Train for some minutes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = Plan()
    parser.add_argument("shards", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--batch", type=int, default=usual.batch)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--decay-steps", type=int, default=usual.decay_steps)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(Plan(batch=options.batch, seed=options.seed, decay_steps=options.decay_steps))
    state = options.out / "state.pt"
    if state.exists():
        trainer.load(state)
    train_for(60 * options.minutes, trainer, options.shards, options.out, Console(stderr=True))
    return 0


def keep(trainer: Trainer, out: Path) -> None:
    """Write what is needed to go on, and the network as it would be played now."""
    part = out / "state.part"
    torch.save(trainer.state(), part)
    part.replace(out / "state.pt")
    (out / "generator.onnx").write_bytes(exported(Cautious(trainer.average)))
    draw_losses(out / "losses.csv", out / "losses.png")


def train_for(seconds: float, trainer: Trainer, shards: Path, out: Path, console: Console) -> None:
    """Train, note the losses, keep what was learned, and take in shards as they come."""
    end, kept = time.monotonic() + seconds, time.monotonic()
    asked_to_stop: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked_to_stop.append(number))
    clips: dict[str, Clip] = {}
    load_clips(shards, clips)
    console.print(f"{len(clips)} shards, from step {trainer.step}")
    columns = [TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()]
    noted: list[dict[str, float]] = []
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=seconds)
        while (left := end - time.monotonic()) > 0 and not asked_to_stop:
            noted.append(trainer.take(next_batch(clips, trainer.plan, trainer.step)))
            progress.update(task, completed=seconds - left)
            if len(noted) == NOTE_EVERY:
                note(out / "losses.csv", trainer.step, noted)
                progress.update(
                    task,
                    description=f"step {trainer.step} loss {np.mean([n['total'] for n in noted]):.3f}",
                )
                noted.clear()
            if time.monotonic() > kept + KEEP_EVERY_S:
                keep(trainer, out)
                load_clips(shards, clips)
                kept = time.monotonic()
    keep(trainer, out)
    signal.signal(signal.SIGTERM, before)


def note(path: Path, step: int, losses: list[dict[str, float]]) -> None:
    """Append the mean of some steps' losses."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", *losses[0]])
        writer.writerow([step, *(round(float(np.mean([n[k] for n in losses])), 5) for k in losses[0])])


def draw_losses(table: Path, picture: Path) -> None:
    """Draw the curve of all steps so far, where matplotlib is there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    if not table.exists():
        return
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name in [n for n in rows[0] if n != "step"]:
        axes.plot([int(r["step"]) for r in rows], [float(r[name]) for r in rows], label=name)
    axes.set(xlabel="step", ylabel="loss, weighed", yscale="log")
    axes.legend(ncols=2, fontsize="small")
    figure.savefig(picture)


if __name__ == "__main__":
    sys.exit(main())
