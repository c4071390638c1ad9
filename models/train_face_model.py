"""Learns the face model from landmark tracks: `python -m mien.models.train_face_model TRACKS_DIR`.

TRACKS_DIR holds one `.npz` for each clip or portrait, as `python -m mien.bench.track_corpus` writes them:
`landmarks` float32 [T, 478, 3] in pixels, nan where no face was found, and `identity`, a string that the
clips of one person share. Only aggregates leave this script: a person's track is personal data.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.models.alignment import align
from mien.models.face_model import ASSET, FaceModel
from mien.models.landmark_sets import LEFT_IRIS, OUTER_EYE_CORNERS, RIGHT_IRIS, Z_WEIGHT, vertex_weights
from mien.protocol.state import EXPRESSION_COUNT, LANDMARK_COUNT

Floats = NDArray[np.float64]

RIGID_COUNT: Final = 36
RIGID_LIMIT: Final = 0.02  # inter-pupil distances: a vertex that moves more with expression is not rigid
IDENTITY_COUNT: Final = 16
RIGHT_OUTER_EYE_CORNER, LEFT_OUTER_EYE_CORNER = OUTER_EYE_CORNERS
RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER, FOREHEAD, CHIN = 61, 291, 10, 152
MIN_CLIP_FRAMES: Final = 60  # shorter tracks teach identity only
MAX_CLIP_FRAMES: Final = 400  # of one clip, evenly spread: a long clip must not own the basis


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """The tracked frames of one clip or portrait: `landmarks` float64 [T, 478, 3] in pixels."""

    identity: str
    landmarks: Floats


def read_tracks(folder: Path, *, leave_out: frozenset[str] = frozenset()) -> list[Track]:
    """Read every `.npz` of `folder` whose identity is not in `leave_out`."""
    tracks = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            identity, landmarks = str(file["identity"]), file["landmarks"].astype(np.float64)
        landmarks = landmarks[np.isfinite(landmarks).all(axis=(1, 2))]
        if identity not in leave_out and len(landmarks):
            tracks.append(Track(identity, landmarks))
    return tracks


def train(tracks: list[Track]) -> bytes:
    """Return the asset learned from `tracks`."""
    clips = [t for t in tracks if len(t.landmarks) >= MIN_CLIP_FRAMES]
    mean, spread = _mean_face(clips)
    rigid = _rigid_points(mean, spread)
    mean = _upright(_unit(mean, rigid))
    neutrals = [_neutral(t.landmarks, mean, rigid) for t in tracks]
    shortest_first = sorted(zip(tracks, neutrals, strict=True), key=lambda pair: len(pair[0].landmarks))
    by_person = {track.identity: neutral for track, neutral in shortest_first}  # the longest track stands
    people = np.array([by_person[i] for i in sorted(by_person)])
    mean = people.mean(axis=0)
    basis, deviation = _expression_basis(clips, mean, rigid)
    return FaceModel.serialize_parts(
        mean=mean, basis=basis, deviation=deviation, identity=_identity_basis(people), rigid=rigid
    )


def _mean_face(clips: list[Track]) -> tuple[Floats, Floats]:
    """Generalised Procrustes over the clips' median faces: the mean and each vertex's motion [478]."""
    everywhere = np.arange(LANDMARK_COUNT)
    mean = _unit(clips[0].landmarks[0], everywhere)
    spread = np.ones(LANDMARK_COUNT)
    for _ in range(4):
        faces, motions = [], []
        for clip in clips:
            frames = clip.landmarks[:: max(1, len(clip.landmarks) // MAX_CLIP_FRAMES)]
            steady = np.argsort(spread)[: LANDMARK_COUNT // 2]
            posed = align(mean[steady], frames[:, steady]).undo(frames)
            faces.append(np.median(posed, axis=0))
            motions.append(((posed - faces[-1])[..., :2] ** 2).sum(axis=2).mean(axis=0))
        mean = _unit(np.mean(faces, axis=0), everywhere)
        spread = np.sqrt(np.mean(motions, axis=0))
    return mean, spread


def _rigid_points(mean: Floats, spread: Floats) -> NDArray[np.int64]:
    """Pick the points that move least and lie far from one another (farthest-point sampling)."""
    candidates = np.flatnonzero(spread[:RIGHT_IRIS] < RIGID_LIMIT)
    chosen = [int(candidates[np.argmin(spread[candidates])])]
    distance = np.full(len(candidates), np.inf)
    while len(chosen) < RIGID_COUNT:
        distance = np.minimum(distance, np.linalg.norm(mean[candidates] - mean[chosen[-1]], axis=1))
        chosen.append(int(candidates[np.argmax(distance / (spread[candidates] + 0.004))]))
    return np.array(sorted(chosen))


def _unit(face: Floats, origin: NDArray[np.int64]) -> Floats:
    centred = face - face[origin].mean(axis=0)
    unit: Floats = centred / np.linalg.norm(centred[RIGHT_IRIS, :2] - centred[LEFT_IRIS, :2])
    return unit


def _upright(face: Floats) -> Floats:
    """Turn a face so that its eyes are level and its forehead is straight above its chin, as seen from before it.

    The average of many tracks inherits the pose of the first one; a rotation vector of zero should mean that
    the person looks straight ahead.
    """
    across = face[LEFT_OUTER_EYE_CORNER] - face[RIGHT_OUTER_EYE_CORNER]
    across += face[LEFT_MOUTH_CORNER] - face[RIGHT_MOUTH_CORNER]
    across /= np.linalg.norm(across)
    down = face[CHIN] - face[FOREHEAD]
    down -= (down @ across) * across
    down /= np.linalg.norm(down)
    turned: Floats = face @ np.array([across, down, np.cross(across, down)]).T
    return turned


def _neutral(landmarks: Floats, mean: Floats, rigid: NDArray[np.int64]) -> Floats:
    neutral = mean
    for _ in range(3):
        neutral = _unit(np.median(align(neutral[rigid], landmarks[:, rigid]).undo(landmarks), axis=0), rigid)
    return neutral


def _expression_basis(clips: list[Track], mean: Floats, rigid: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Weighted PCA of what moves in each clip, every clip counting the same."""
    weights = np.sqrt(vertex_weights())[:, None] * np.array([1.0, 1.0, Z_WEIGHT])
    rows = []
    for clip in clips:
        frames = clip.landmarks[:: max(1, len(clip.landmarks) // MAX_CLIP_FRAMES)]
        neutral = _neutral(clip.landmarks, mean, rigid)
        moved = align(neutral[rigid], frames[:, rigid]).undo(frames) - neutral
        rows.append((moved * weights).reshape(len(frames), -1) / np.sqrt(len(frames)))
    stacked = np.concatenate(rows)
    # The right singular vectors by way of the small Gram matrix: rows are fewer than 10,000.
    _, singular, vt = np.linalg.svd(stacked, full_matrices=False)
    basis = vt[:EXPRESSION_COUNT].reshape(EXPRESSION_COUNT, LANDMARK_COUNT, 3) / weights
    signs = np.sign(basis.reshape(EXPRESSION_COUNT, -1).sum(axis=1))  # SVD leaves the sign open
    unit = np.sqrt(LANDMARK_COUNT)
    deviation = singular[:EXPRESSION_COUNT] / np.sqrt(len(clips)) / unit
    return basis * signs[:, None, None] * unit, deviation


def _identity_basis(people: Floats) -> Floats:
    """PCA of the people's neutrals [P, 478, 3], each component one standard deviation."""
    centred = (people - people.mean(axis=0)).reshape(len(people), -1)
    _, singular, vt = np.linalg.svd(centred, full_matrices=False)
    count = min(IDENTITY_COUNT, len(people) - 1)
    scaled: Floats = vt[:count] * singular[:count, None] / np.sqrt(len(people) - 1)
    return scaled.reshape(count, LANDMARK_COUNT, 3)


def main() -> int:
    """Train from a folder of tracks and write the asset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tracks", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("models/assets") / ASSET)
    parser.add_argument("--leave-out", action="append", default=[], metavar="IDENTITY")
    options = parser.parse_args()
    tracks = read_tracks(options.tracks, leave_out=frozenset(options.leave_out))
    asset = train(tracks)
    options.output.write_bytes(asset)
    model = FaceModel.parse(asset)
    people = len({t.identity for t in tracks})
    print(
        f"{options.output}: {len(asset)} bytes, id {model.model_id.hex()}, {len(tracks)} tracks of {people} people"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
