"""What a bench has found out already, on disk, so that a run which was stopped goes on where it was.

An entry is found by everything that decides it: the clip's bytes, the settings, the code that tracks, the versions.
Entries hold people's landmarks and pictures: they stay in the folder that the user named.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

import mien.encoder
from mien.bench.provenance import provenance
from mien.bench.rate_quality import TrackedClip
from mien.protocol.stream import TrackerId

_VERSION: Final = 1


class Cache:
    """A folder of entries; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def find(self, key: Sequence[object]) -> dict[str, Any] | None:
        """Return the entry of a key, `None` where there is none."""
        if self.folder is None:
            return None
        try:
            found = json.loads(self._path(key, "json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def keep(self, key: Sequence[object], entry: dict[str, Any]) -> None:
        """Keep an entry."""
        if self.folder is not None:
            self._write(self._path(key, "json"), json.dumps(entry).encode())

    def find_clip(self, key: Sequence[object]) -> TrackedClip | None:
        """Return a tracked clip, `None` where there is none."""
        facts = self.find(key)
        if self.folder is None or facts is None:
            return None
        try:
            with np.load(self._path(key, "npz"), allow_pickle=False) as arrays:
                return TrackedClip(
                    name=facts["name"],
                    landmarks=arrays["landmarks"],
                    times_us=arrays["times_us"],
                    rate=Fraction(facts["rate"]),
                    width=facts["width"],
                    height=facts["height"],
                    tracker=TrackerId(facts["tracker"]),
                    tracking_ms=facts["tracking_ms"],
                )
        except (OSError, ValueError, KeyError):
            return None

    def keep_clip(self, key: Sequence[object], clip: TrackedClip) -> None:
        """Keep a tracked clip."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{os.getpid()}.npz"
        np.savez_compressed(partial, landmarks=clip.landmarks, times_us=clip.times_us)
        partial.replace(self._path(key, "npz"))
        facts = {"name": clip.name, "rate": str(clip.rate), "width": clip.width, "height": clip.height}
        self.keep(key, facts | {"tracker": int(clip.tracker), "tracking_ms": clip.tracking_ms})

    def _path(self, key: Sequence[object], suffix: str) -> Path:
        if self.folder is None:
            raise ValueError("nothing is kept")
        digest = hashlib.sha256(json.dumps([_VERSION, *key], default=str).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.{suffix}"

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_bytes(data)
        partial.replace(path)


@cache
def file_id(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def tracking_id() -> str:
    """Return what decides how faces are tracked: the code, and the libraries' versions."""
    digest = hashlib.sha256(provenance().get("mediapipe", "").encode())
    for folder in mien.encoder.__path__:
        for path in sorted(Path(folder).glob("tracker*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
