"""LPIPS and DISTS, where the user has the packages and the weights of their backbones: nothing is fetched here."""

import importlib
import importlib.util
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from mien.bench.picture_metrics import Picture

logger = logging.getLogger(__name__)

Measure = Callable[[Picture, Picture], float]
# Metric -> package, and the backbone's file as torchvision keeps it in torch hub's folder.
NEEDS: Final = {
    "lpips": ("lpips", "alexnet-owt-7be5be79.pth"),
    "dists": ("DISTS_pytorch", "vgg16-397923af.pth"),
}


@cache
def open_learned() -> dict[str, Measure]:
    """Return what can be measured here; 0 is equal, for both."""
    if importlib.util.find_spec("torch") is None:
        return {}
    torch: Any = importlib.import_module("torch")
    weights = Path(torch.hub.get_dir()) / "checkpoints"
    out = {}
    for name, (package, backbone) in NEEDS.items():
        if importlib.util.find_spec(package) is None or not (weights / backbone).is_file():
            logger.info("no %s: it needs the package %s and %s in %s", name, package, backbone, weights)
            continue
        module: Any = importlib.import_module(package)
        network = module.LPIPS(net="alex", verbose=False) if name == "lpips" else module.DISTS()
        out[name] = _measure(torch, network.eval(), symmetric=name == "lpips")
    return out


def _measure(torch: Any, network: Any, *, symmetric: bool) -> Measure:
    def tensor(picture: Picture) -> Any:
        values = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) / 255
        return torch.from_numpy(2 * values - 1 if symmetric else values)  # LPIPS takes -1 to 1

    def measure(original: Picture, drawn: Picture) -> float:
        with torch.no_grad():
            return float(network(tensor(original), tensor(drawn)))

    return measure
