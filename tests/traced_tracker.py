"""Run by tests in a process of its own: the best tracker that is present follows a portrait, and reports."""

import json
import sys

import numpy as np
import skimage.data

from mien.encoder.tracker_choice import mediapipe_version, open_tracker


def main() -> int:
    """Track 12 frames of a moving portrait; print one JSON line."""
    portrait = skimage.data.astronaut()
    still = open_tracker(still=True)
    face = still.track(portrait, 0).faces[0]
    still.close()
    tracker = open_tracker()
    last: list[list[float]] = []
    found = 0
    for index in range(12):
        moved = np.roll(portrait, 2 * index, axis=1)
        faces = tracker.track(moved, index * 33_333).faces
        found += len(faces)
        last = (faces[0] - np.array([2 * index, 0, 0], np.float32)).tolist()
    tracker.close()
    report = {
        "tracker": int(tracker.tracker_id),
        "mediapipe": mediapipe_version(),
        "found": found,
        "still": face.tolist(),
        "last": last,
    }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
