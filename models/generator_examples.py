"""Examples that the generator can learn one person from: what was seen, what was drawn, and what it should have been.

Made by `mien.decoder.tuning_examples`, on the player's own path; learned from by `mien.models.generator_tuning`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.models.generator_fields import place_in_face

Floats = NDArray[np.float32]

TICKS: Final = 3  # the first is only there to be the one before
FRAMES: Final = 3
SCALE: Final = 2  # pixels of the pictures for each place of the grid, each way
BASE_PLANES: Final = 6  # flow 2, light 3, paint 1


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """A few seconds of one person. n frames, k ticks with scene pictures, s scenes, [gh, gw] places.

    `truth`, `drawn` uint8 [n, 2 gh, 2 gw, 3]; `outside` uint8 [n, gh, gw], 0 in the face's oval; `positions` float32
    [n, v, 2], grid pixels; `tick_frames` [k], the frame of each tick. `left` int32 [n], the number of the tick before
    a frame (never the last one); `share` float32 [n], how far the frame is from there to the next; `to_left`,
    `to_right` float16 [n, ., ., 2], where each place was or will be at these ticks, less itself, grid pixels, on a
    coarse grid; `to_before` [k, ., ., 2] likewise, from a tick to the one before. `seen` uint8 [s, k, gh, gw, 3]: the
    scenes' pictures; `base` float16 [s, k, gh, gw, 6]: flow, light and paint of the correction without weights.
    """

    truth: NDArray[np.uint8]
    drawn: NDArray[np.uint8]
    outside: NDArray[np.uint8]
    positions: Floats
    tick_frames: NDArray[np.int32]
    left: NDArray[np.int32]
    share: Floats
    to_left: NDArray[np.float16]
    to_right: NDArray[np.float16]
    to_before: NDArray[np.float16]
    seen: NDArray[np.uint8]
    base: NDArray[np.float16]

    @property
    def grid(self) -> tuple[int, int]:
        """Width and height of the grid."""
        return self.outside.shape[2], self.outside.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Three ticks and three frames between the last two of them. Arrays are [., planes, h, w], float32.

    `seen`, `small`, `truth_small` [3 ticks, 3, .]; `base` [3, 9, .] as `Correction.fields`; `outside` [3, 1, .];
    `place` [3, 2, .]; `before_motion` [3, 2, .]; `drawn`, `truth` [3 frames, 3, 2 h, 2 w]; `frame_outside` [3, 1, .];
    `to_left`, `to_right` [3, 2, .]; `share` [3].
    """

    seen: Floats
    small: Floats
    truth_small: Floats
    base: Floats
    outside: Floats
    place: Floats
    before_motion: Floats
    drawn: Floats
    truth: Floats
    frame_outside: Floats
    to_left: Floats
    to_right: Floats
    share: Floats


def choose(examples: Examples, rng: np.random.Generator, *, crop: int) -> Piece:
    """Cut a piece of at most `crop` places each way out of examples at random: scene, time and place."""
    scene = int(rng.integers(len(examples.seen)))
    last = int(rng.integers(TICKS - 1, len(examples.tick_frames)))
    between = np.flatnonzero(examples.left == last - 1)
    first = int(rng.integers(max(1, len(between) - FRAMES + 1)))
    frames = [int(between[min(first + i, len(between) - 1)]) for i in range(FRAMES)]
    sides = [min(crop, side) for side in examples.grid[::-1]]
    corner = [int(rng.integers(side - cut + 1)) for side, cut in zip(examples.grid[::-1], sides, strict=True)]
    rows, columns = (slice(at, at + cut) for at, cut in zip(corner, sides, strict=True))
    return piece_of(examples, scene, last, frames, rows, columns)


def piece_of(
    examples: Examples, scene: int, last: int, frames: Sequence[int], rows: slice, columns: slice
) -> Piece:
    """Return the piece whose last tick is number `last`, of these rows and columns of the grid.

    Each of `frames` has the tick number `last - 1` as the one before it.
    """
    width, height = examples.grid
    ticks = range(last - TICKS + 1, last + 1)
    at = [int(examples.tick_frames[k]) for k in ticks]
    large = slice(SCALE * rows.start, SCALE * rows.stop), slice(SCALE * columns.start, SCALE * columns.stop)

    def cut(values: NDArray[np.generic]) -> Floats:
        whole = np.asarray(values[rows, columns], np.float32)
        return np.asarray((whole if whole.ndim == 3 else whole[..., None]).transpose(2, 0, 1))

    def small(picture: NDArray[np.uint8]) -> Floats:
        return cut(np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)))

    def motion(values: NDArray[np.float16]) -> Floats:
        return cut(np.asarray(cv2.resize(np.asarray(values, np.float32), (width, height))))

    def picture(values: NDArray[np.uint8]) -> Floats:
        return np.asarray(values[large].transpose(2, 0, 1), np.float32)

    seen = [cut(examples.seen[scene, k]) for k in ticks]
    return Piece(
        seen=np.stack(seen),
        small=np.stack([small(examples.drawn[n]) for n in at]),
        truth_small=np.stack([small(examples.truth[n]) for n in at]),
        base=np.stack(
            [np.concatenate([cut(examples.base[scene, k]), s]) for k, s in zip(ticks, seen, strict=True)]
        ),
        outside=np.stack([cut(examples.outside[n]) / 255 for n in at]).astype(np.float32),
        place=np.stack([cut(place_in_face(examples.positions[n], width, height)) for n in at]),
        before_motion=np.stack([motion(examples.to_before[k]) for k in ticks]),
        drawn=np.stack([picture(examples.drawn[n]) for n in frames]),
        truth=np.stack([picture(examples.truth[n]) for n in frames]),
        frame_outside=np.stack([cut(examples.outside[n]) / 255 for n in frames]).astype(np.float32),
        to_left=np.stack([motion(examples.to_left[n]) for n in frames]),
        to_right=np.stack([motion(examples.to_right[n]) for n in frames]),
        share=np.asarray([examples.share[n] for n in frames], np.float32),
    )
