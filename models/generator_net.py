"""The generator's network in PyTorch, and its export. Training only: the player runs the exported file.

A U-Net over a quarter of the grid's places: pixels are folded into planes, so that it sees them all and costs little.
"""

import io
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mien.models.generator_fields import FINE_PLANES, INPUT_PLANES, OUTPUT_PLANES

WIDTHS: Final = (24, 40, 64)
FINE_OUTPUTS: Final = 5  # restored 3, share, paint: for each place; the flow is smooth
FIRST_SHARE: Final = -1.5  # logits at the start: little is taken from the picture
FIRST_PAINT: Final = -3.0
OPSET: Final = 17
# What a network that has seen few people says is followed in part: of each output plane. Found on three clips that it
# had not learned from: all of it is a little too much on a still, well known background, and less gains as much.
FOLLOWED: Final = (1.0, 1.0, 1.0, 0.6, 0.6, 0.6, 1.0)


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
        self.fine = nn.Conv2d(a, 4 * FINE_OUTPUTS, 3, padding=1)
        self.flow = nn.Conv2d(a, 2, 3, padding=1)
        for head in (self.fine, self.flow):
            nn.init.normal_(head.weight, std=1e-3)
            nn.init.zeros_(head.bias)
        with torch.no_grad():
            assert self.fine.bias is not None
            self.fine.bias[12:16] = FIRST_SHARE
            self.fine.bias[16:20] = FIRST_PAINT

    def forward(self, x: Tensor) -> Tensor:
        """Decide."""
        folded = F.pixel_unshuffle(x[:, :FINE_PLANES], 2)
        smooth = F.avg_pool2d(x[:, FINE_PLANES:], 2)
        a = self.block_a(self.enter(torch.cat([folded, smooth], 1)))
        b = self.block_b(self.down_b(F.relu(a)))
        c = self.block_c(self.down_c(F.relu(b)))
        b = self.out_b(b + F.interpolate(self.up_b(c), scale_factor=2, mode="nearest"))
        a = F.relu(self.out_a(a + F.interpolate(self.up_a(b), scale_factor=2, mode="nearest")))
        fine = F.pixel_shuffle(self.fine(a), 2)
        flow = F.interpolate(torch.tanh(self.flow(a)), scale_factor=2, mode="bilinear", align_corners=False)
        return torch.cat([fine[:, :3], flow, torch.sigmoid(fine[:, 3:])], 1)


class Cautious(nn.Module):
    """A network whose flow and share are followed in part; so it is played."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("followed", torch.tensor(FOLLOWED)[None, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """As the network's, in part."""
        return self.network(x) * self.followed


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
    assert OUTPUT_PLANES == FINE_OUTPUTS + 2
    return with_half_weights(out.getvalue()) if half else out.getvalue()
