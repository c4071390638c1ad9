"""Teaches the generator one person: a few hundred small steps from the weights that come with mien. Needs PyTorch.

What changes is kept near to what it was by the learning rate, by few steps and by a mean over them. Like its training,
it sees the pictures that the player would paint (`mien.models.generator_painting`).
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.models.generator_examples import FRAMES, TICKS, Examples, Piece, choose
from mien.models.generator_loss import (
    Weights,
    edge_energy,
    gradient_similarity,
    luma,
    picture_parts,
    restless_part,
    ssim,
)
from mien.models.generator_net import Cautious, Generator
from mien.models.generator_painting import Situations, carried, composed, fields_of, input_of
from mien.models.onnx_weights import weights_of
from mien.protocol.errors import MienError

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

HALF: Final = ".half"  # at the end of the names of arrays that are kept as float16
WRAPPED: Final = "network."  # before the names of one whose answer is followed in part
MARGIN: Final = 8  # places at a piece's border that count for nothing
MAX_NORM: Final = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How to tune. `mean`: share of the mean of the weights that stays at each step.

    `weights`: less is asked of the picture's energy than in training. A network that sees one person alone, and is
    asked to be as sharp as the truth, sharpens what it should not, and draws later frames worse (three people:
    SSIM -.001 with as much as in training, +.001 without).
    """

    steps: int = 400
    batch: int = 2
    crop: int = 64
    learning_rate: float = 6e-4
    warm_up: int = 10
    last_share: float = 0.05  # of the learning rate, at the end
    mean: float = 0.97
    seed: int = 1
    weights: Weights = field(default_factory=lambda: Weights(energy=0.7, edges=1.5))


class Tuner:
    """A generator that learns one person."""

    def __init__(self, model: bytes, plan: Plan | None = None) -> None:
        """`model`: the generator's ONNX file. Raises `MienError` where it is not the network that this version trains."""
        self.plan = plan or Plan()
        self._model = model
        self.network = network_of(model)
        self.network.train()
        self._first = [p.detach().clone() for p in self.network.parameters()]
        self._mean = [p.clone() for p in self._first]
        self._optimiser = torch.optim.Adam(self.network.parameters(), self.plan.learning_rate)
        self.step = 0

    def run(
        self,
        examples: Sequence[Examples],
        *,
        seconds: float,
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[float]:
        """Take the plan's steps, or as many as the time allows; return their losses."""
        losses: list[float] = []
        began = time.monotonic()
        while self.step < self.plan.steps:
            spent = time.monotonic() - began
            if losses and spent * (1 + 1 / len(losses)) > seconds:
                break
            # So that the rate falls to its end within the time that there is.
            done = max(self.step / self.plan.steps, spent / seconds)
            losses.append(self.take(self._batch(examples), done))
            tell(self.step, self.plan.steps)
        return losses

    def take(self, batch: "Batch", done: float) -> float:
        """Learn from a batch, `done` of all (0 to 1) being done; return its loss."""
        plan = self.plan
        falling = plan.last_share + (1 - plan.last_share) * 0.5 * (1 + float(np.cos(np.pi * done)))
        for group in self._optimiser.param_groups:
            group["lr"] = plan.learning_rate * min(1.0, (self.step + 1) / plan.warm_up) * falling
        self._optimiser.zero_grad()
        loss = loss_of(self.network, batch, plan.weights)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), MAX_NORM)
        if bool(torch.isfinite(norm)):  # one step that overflowed would be the end of all weights
            self._optimiser.step()
        keep = min(plan.mean, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, now in zip(self._mean, self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
        self.step += 1
        return float(loss.detach())

    def changes(self) -> dict[str, Floats]:
        """Return what was learned so far: what is to be added to which of the file's arrays."""
        names = {name.removesuffix(HALF): name for name in weights_of(self._model)}
        return {
            names[name]: np.asarray((mean - first).numpy(), np.float32)
            for (name, _), mean, first in zip(
                self.network.named_parameters(), self._mean, self._first, strict=True
            )
        }

    def _batch(self, examples: Sequence[Examples]) -> "Batch":
        rng = np.random.default_rng([self.plan.seed, self.step])
        chosen = examples[int(rng.integers(len(examples)))]
        return Batch.of([choose(chosen, rng, crop=self.plan.crop) for _ in range(self.plan.batch)])


def network_of(model: bytes) -> nn.Module:
    """Return the network of an exported generator, as it is played. Raises `MienError` where the two do not agree."""
    there = {name.removesuffix(HALF): weights for name, weights in weights_of(model).items()}
    wrapped = any(name.startswith(WRAPPED) for name in there)
    network: nn.Module = Cautious(Generator()) if wrapped else Generator()
    for name, parameter in network.named_parameters():
        weights = there.get(name)
        if weights is None or weights.shape != tuple(parameter.shape):
            raise MienError(
                f"the generator of this version cannot be tuned: {name} is not in its file as expected"
            )
        parameter.data = torch.from_numpy(weights.values(model))
    return network


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Pieces side by side: as in `Piece`, with the pieces as second dimension; `share` [3, b]."""

    seen: Tensor
    small: Tensor
    truth_small: Tensor
    base: Tensor
    outside: Tensor
    place: Tensor
    before_motion: Tensor
    drawn: Tensor
    truth: Tensor
    frame_outside: Tensor
    to_left: Tensor
    to_right: Tensor
    share: Tensor

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> "Batch":
        """Put pieces together."""
        return cls(
            **{
                f.name: torch.from_numpy(np.stack([getattr(piece, f.name) for piece in pieces], 1))
                for f in fields(cls)
            }
        )

    def situation(self, tick: int, before: Tensor | None) -> Situations:
        """Return what is known at a tick; the scenes' pictures do not show the face."""
        return Situations(
            seen=self.seen[tick],
            drawn=self.small[tick],
            base=self.base[tick],
            before=before,
            outside=self.outside[tick],
            place=self.place[tick],
            face=torch.zeros(self.seen.shape[1]),
        )


def loss_of(network: nn.Module, batch: Batch, weights: Weights) -> Tensor:
    """Return what is wrong with what the network makes of pieces."""
    corrections: list[Tensor] = []
    for tick in range(TICKS):
        before = carried(corrections[-1].detach(), batch.before_motion[tick]) if tick else None
        situation = batch.situation(tick, before)
        with torch.set_grad_enabled(tick > 0):
            corrections.append(fields_of(situation, network(input_of(situation))))
    pictures = torch.stack([painted(batch, corrections, frame) for frame in range(FRAMES)])
    inner = slice(2 * MARGIN, -2 * MARGIN)
    drawn, truth = pictures[..., inner, inner], batch.truth[..., inner, inner]
    parts = picture_parts(drawn.flatten(0, 1), truth.flatten(0, 1), weights)
    restored = weights.restored * restored_part(batch, corrections)
    return torch.stack([*parts.values(), restless_part(drawn, truth, weights), restored]).sum()


def painted(batch: Batch, corrections: Sequence[Tensor], frame: int) -> Tensor:
    """Return a frame between the last two corrections."""
    share = batch.share[frame][:, None, None, None]
    left = carried(corrections[-2], batch.to_left[frame])
    right = carried(corrections[-1], batch.to_right[frame])
    mixed = (1 - share) * left + share * right
    outside = batch.frame_outside[frame]
    mixed = torch.cat([mixed[:, :2] * outside, mixed[:, 2:5], mixed[:, 5:6] * outside, mixed[:, 6:]], 1)
    return composed(batch.drawn[frame], mixed)


def restored_part(batch: Batch, corrections: Sequence[Tensor]) -> Tensor:
    """Return what is wrong with the restored pictures, outside the face."""
    inner = slice(MARGIN, -MARGIN)
    made = torch.cat(list(corrections[1:]))[..., inner, inner][:, 6:9]
    truth = batch.truth_small[1:].flatten(0, 1)[..., inner, inner]
    outside = batch.outside[1:].flatten(0, 1)[..., inner, inner]
    wrong = ((made - truth).abs() * outside).mean() / 32
    unlike = ((1 - ssim(luma(made), luma(truth))) * outside[..., 5:-5, 5:-5]).mean()
    return wrong + unlike


@dataclass(frozen=True, slots=True)
class Verdict:
    """How good painted pictures are, means over them: as the picture bench measures it."""

    ssim: float
    gmsd: float
    edge: float  # sharpness: 1 is the original's

    @classmethod
    def of(cls, pairs: Iterable[tuple[Picture, Picture]]) -> "Verdict":
        """Measure (painted, original) pairs, RGB uint8 [h, w, 3]. Raises `ValueError` for none."""
        rows = [cls._of_one(*(_grey(picture) for picture in pair)) for pair in pairs]
        if not rows:
            raise ValueError("no picture to judge by")
        return cls(*(float(np.mean(column)) for column in zip(*rows, strict=True)))

    @staticmethod
    def _of_one(drawn: Tensor, truth: Tensor) -> tuple[float, float, float]:
        energy, wanted = (float(edge_energy(a).mean()) for a in (drawn, truth))
        similar = gradient_similarity(drawn, truth)
        return float(ssim(drawn, truth).mean()), float(similar.std(correction=0)), energy / max(wanted, 1e-3)


def _grey(picture: Picture) -> Tensor:
    return luma(torch.from_numpy(np.array(picture.transpose(2, 0, 1)[None], np.float32)))
