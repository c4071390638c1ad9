"""The rows of the picture bench: one JSON line for each clip, size and coder, kept so that a stopped run goes on."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import mien.decoder
import mien.encoder
import mien.models
import mien.protocol
from mien.bench.provenance import provenance

OURS: Final = "W"
OURS_WITH_SCENE: Final = "W+scene"  # painted without weights
OURS_GENERATED: Final = "S"
TIERS: Final = (OURS, OURS_WITH_SCENE, OURS_GENERATED)  # each stands on the one before it
# What our pictures are made of: code, shaders, weights and tables.
_SOURCES: Final = (mien.protocol, mien.models, mien.encoder, mien.decoder)
_SUFFIXES: Final = (".py", ".glsl", ".npz", ".bin", ".onnx")
EQUAL: Final = "equal"  # the mode of a rival that gets no more of the wire than we do
BARE: Final = "bare_"  # before the name of a figure that was taken before the badge was drawn


@dataclass(frozen=True, slots=True, order=True)
class Variant:
    """What makes a row's pictures: at which size, by which coder, how, at which rate.

    `coder` is a tier of ours or a rival's family; `mode` a quality of ours, "realtime", "best" or "equal"
    (as much of the wire as ours takes); `target_kbps` the payload that a rival, or our scene layer, is asked for, 0
    where nobody asks. With "equal" it is that of the scene layer whose stream has the same rate, 0: W's.
    """

    size_px: int
    coder: str
    mode: str
    target_kbps: float = 0.0

    @property
    def is_ours(self) -> bool:
        """Whether an avatar was drawn, not a video decoded."""
        return self.coder in TIERS

    @property
    def depends_on_ours(self) -> bool:
        """Whether other code of ours can give another row."""
        return self.is_ours or self.mode == EQUAL

    @property
    def text(self) -> str:
        """A name for files and logs."""
        return f"{self.size_px}-{self.coder}-{self.mode}-{self.target_kbps:g}"


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One line. `figures` as of `mien.bench.akd.summarise`; `extra` what only some rows have."""

    clip: str
    variant: Variant
    sampling: str
    payload_kbps: float
    wire_kbps: float
    frames: int
    figures: dict[str, float]
    extra: dict[str, Any]
    code: str = ""

    def figure(self, name: str) -> float | None:
        """Return a figure, None where it was not taken. Video has no badge: it is the same before and after."""
        if name not in self.figures and not self.variant.is_ours:
            name = name.removeprefix(BARE)
        return self.figures.get(name)

    def to_json(self) -> str:
        """Return the line."""
        return json.dumps(
            {
                "kind": "clip",
                "clip": self.clip,
                "size_px": self.variant.size_px,
                "coder": self.variant.coder,
                "mode": self.variant.mode,
                "target_kbps": self.variant.target_kbps,
                "sampling": self.sampling,
                "payload_kbps": round(self.payload_kbps, 3),
                "wire_kbps": round(self.wire_kbps, 3),
                "frames": self.frames,
                "figures": self.figures,
                "extra": self.extra,
                "code": code_digest(),
                **provenance(),
            }
        )

    @classmethod
    def from_json(cls, line: str) -> "Row":
        """Read it. Raises `ValueError` for a line that is not one, such as one cut short."""
        try:
            data = json.loads(line)
            variant = Variant(
                int(data["size_px"]), str(data["coder"]), str(data["mode"]), float(data["target_kbps"])
            )
            return cls(
                clip=str(data["clip"]),
                variant=variant,
                sampling=str(data["sampling"]),
                payload_kbps=float(data["payload_kbps"]),
                wire_kbps=float(data["wire_kbps"]),
                frames=int(data["frames"]),
                figures={str(k): float(v) for k, v in data["figures"].items()},
                extra=dict(data["extra"]),
                code=str(data.get("code", "")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a row of the picture bench: {error}") from error


def read_rows(path: Path, sampling: str) -> dict[tuple[str, Variant], Row]:
    """Return the rows that still hold: of this sampling, and, where they depend on ours, of the present code."""
    if not path.exists():
        return {}
    present = code_digest()
    out = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = Row.from_json(line)
        except ValueError:
            continue  # a run that was stopped while it wrote
        if row.sampling == sampling and (not row.variant.depends_on_ours or row.code == present):
            out[row.clip, row.variant] = row
    return out


def append_row(path: Path, row: Row) -> None:
    """Append a row in one piece: several processes write to one file."""
    data = (row.to_json() + "\n").encode()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        if _ends_torn(path):
            data = b"\n" + data
        os.write(handle, data)
    finally:
        os.close(handle)


def _ends_torn(path: Path) -> bool:
    """Return whether the last line was cut short."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


@cache
def code_digest() -> str:
    """Return a digest of all that our pictures depend on."""
    digest = hashlib.sha256()
    for package in _SOURCES:
        folder = Path(package.__path__[0])
        for path in sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def count_rows(path: Path) -> int:
    """Return how many lines there are, cheaply."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def variants_of(
    sizes_px: Iterable[int],
    qualities: Iterable[str],
    rivals: Iterable[str],
    mode_rates: dict[str, list[float]],
    *,
    tiers: Iterable[str] = (OURS,),
    scenes_kbps: Sequence[float] = (),
) -> list[Variant]:
    """Return all variants: ours of each tier, size, quality and scene rate, each rival at each size, mode and rate."""
    qualities, rivals, tiers = list(qualities), list(rivals), list(tiers)
    out = []
    for size in sizes_px:
        for tier in tiers:
            scenes = [0.0] if tier == OURS else scenes_kbps
            out += [Variant(size, tier, quality, kbps) for quality in qualities for kbps in scenes]
        for mode, rates in mode_rates.items():
            out += [Variant(size, rival, mode, rate) for rival in rivals for rate in rates]
    return out
