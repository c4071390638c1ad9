"""Tracks clips and portraits for training: `python -m mien.bench.track_corpus INDEX.csv OUT_DIR`.

INDEX.csv has the columns `file` (relative to the index), `kind` (clip or portrait), `identity` and `train`;
only rows with `train` = yes are taken unless `--all` is given. The result, one `.npz` for each file, feeds
`mien.models.train_face_model` and `mien.protocol.train_tables`. It is personal data: keep it off the repository.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track as progress

from mien.encoder.capture import open_source
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.state import LANDMARK_COUNT


def track_file(path: Path, *, still: bool) -> tuple[NDArray[np.float32], float, tuple[int, int]]:
    """Return landmarks float32 [T, 478, 3] (nan where not exactly one face was found), frames per second, size."""
    source, tracker = open_source(str(path)), open_tracker(still=still)
    try:
        rows = []
        for frame in source:
            faces = tracker.track(frame.rgb, frame.timestamp_us).faces
            rows.append(faces[0] if len(faces) == 1 else np.full((LANDMARK_COUNT, 3), np.nan, np.float32))
        return np.array(rows, np.float32), float(source.rate), (source.width, source.height)
    finally:
        tracker.close()
        source.close()


def main() -> int:
    """Track every file of the index that is not tracked yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("index", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--all", action="store_true", help="also the rows that may only be measured")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with options.index.open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if options.all or r["train"] == "yes"]
    for row in progress(rows, description="tracking"):
        path = options.index.parent / row["file"]
        target = options.out / f"{path.stem}.npz"
        if target.exists():
            continue
        landmarks, rate, size = track_file(path, still=row["kind"] == "portrait")
        np.savez_compressed(target, landmarks=landmarks, identity=row["identity"], rate=rate, size=size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
