"""The generator's network in PyTorch, and its export. Training only: the player runs the exported file.

A U-Net over a quarter of the grid's places: pixels are folded into planes, so that it sees them all and costs little.
"""

import io
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mien.models.generator_fields import FINE_PLANES, INPUT_PLANES, INPUTS

WIDTHS: Final = (24, 40, 64)
LAST_WIDTH: Final = 12  # of the planes at the grid's own resolution
FIRST_SEEN: Final = 0.5  # logits at the start, against 0 for what is lit
FIRST_HELD: Final = -1.0
FIRST_FINE: Final = -0.5
FIRST_PAINT: Final = -2.0
OPSET: Final = 17
# What a network that has seen few people says is followed in part: halfway between it and the correction without
# weights less is wrong than with either. Found on five clips that it had not learned from.
FOLLOWED: Final = 0.5
BASE_PAINT: Final = list(INPUTS).index("paint")


class Block(nn.Module):
    """Two convolutions around which what came in is led."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[b, width, h, w] in and out."""
        out: Tensor = x + self.second(F.relu(self.first(F.relu(x))))
        return out


class Generator(nn.Module):
    """[b, INPUT_PLANES, h, w] to [b, OUTPUT_PLANES, h, w], h and w divisible by 8. See `generator_fields`."""

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        a, b, c = widths
        planes = 4 * FINE_PLANES + INPUT_PLANES - FINE_PLANES
        self.enter = nn.Conv2d(planes, a, 3, padding=1)
        self.block_a = Block(a)
        self.down_b = nn.Conv2d(a, b, 3, stride=2, padding=1)
        self.block_b = nn.Sequential(Block(b), Block(b))
        self.down_c = nn.Conv2d(b, c, 3, stride=2, padding=1)
        self.block_c = nn.Sequential(Block(c), Block(c), Block(c))
        self.up_b = nn.Conv2d(c, b, 1)
        self.out_b = Block(b)
        self.up_a = nn.Conv2d(b, a, 1)
        self.out_a = Block(a)
        self.flow = nn.Conv2d(a, 2, 3, padding=1)
        self.widen = nn.Conv2d(a, 4 * LAST_WIDTH, 1)
        self.mix = nn.Conv2d(LAST_WIDTH + FINE_PLANES, LAST_WIDTH, 3, padding=1)
        self.decide = nn.Conv2d(LAST_WIDTH, 8, 3, padding=1)
        for head in (self.decide, self.flow):
            nn.init.normal_(head.weight, std=1e-3)
            nn.init.zeros_(head.bias)
        with torch.no_grad():
            assert self.decide.bias is not None
            first = (0, 0, 0, FIRST_SEEN, FIRST_HELD, FIRST_FINE, FIRST_HELD, FIRST_PAINT)
            self.decide.bias[:] = torch.tensor(first)

    def forward(self, x: Tensor) -> Tensor:
        """Decide."""
        sharp = x[:, :FINE_PLANES]
        smooth = F.avg_pool2d(x[:, FINE_PLANES:], 2)
        a = self.enter(torch.cat([F.pixel_unshuffle(sharp, 2), smooth], 1))
        a = self.block_a(a)
        b = self.block_b(self.down_b(F.relu(a)))
        c = self.block_c(self.down_c(F.relu(b)))
        b = self.out_b(b + F.interpolate(self.up_b(c), scale_factor=2, mode="nearest"))
        a = F.relu(self.out_a(a + F.interpolate(self.up_a(b), scale_factor=2, mode="nearest")))
        flow = F.interpolate(torch.tanh(self.flow(a)), scale_factor=2, mode="bilinear", align_corners=False)
        wide = F.pixel_shuffle(self.widen(a), 2)
        out = self.decide(F.relu(self.mix(torch.cat([wide, sharp], 1))))
        return torch.cat(
            [out[:, :3], flow, parts_of(out[:, 3:5]), parts_of(out[:, 5:7]), out[:, 7:].sigmoid()], 1
        )


def parts_of(logits: Tensor) -> Tensor:
    """Return the shares of two [b, 2, h, w] beside a third, whose logit is 0."""
    return torch.cat([logits, torch.zeros_like(logits[:, :1])], 1).softmax(1)[:, :2]


class Cautious(nn.Module):
    """A network that is followed in part, and else the correction without weights; so it is played."""

    def __init__(self, network: nn.Module, followed: float = FOLLOWED) -> None:
        super().__init__()
        self.network = network
        self._followed = followed

    def forward(self, x: Tensor) -> Tensor:
        """As the network, in part. An answer of 0 is the base correction, all but its paint."""
        first = sum(list(INPUTS.values())[:BASE_PAINT])
        out = self.network(x) * self._followed
        base = (1 - self._followed) * x[:, first : first + 1]
        return torch.cat([out[:, :-1], out[:, -1:] + base], 1)


def exported(network: nn.Module, *, half: bool = True) -> bytes:
    """Return the network as an ONNX file; its weights as float16 where `half`, computed with as float32."""
    from mien.models.generator_export import with_half_weights

    network = network.eval()
    out = io.BytesIO()
    torch.onnx.export(
        network,
        (torch.zeros(1, INPUT_PLANES, 128, 128),),
        out,
        input_names=["situation"],
        output_names=["decision"],
        dynamic_axes={"situation": {2: "height", 3: "width"}, "decision": {2: "height", 3: "width"}},
        opset_version=OPSET,
        dynamo=False,
    )
    return with_half_weights(out.getvalue()) if half else out.getvalue()
