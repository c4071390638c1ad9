"""Lays the face that is shown over the face that is seen: the landmarks move as a whole by what the two differ.

A tracker says where landmarks are to one or two percent of the distance between the eyes; by how much it errs depends on
how the head is turned, and stays alike for seconds. The references are carried by those landmarks, so skin and hair
are drawn that much beside where they are. A few times a second the sender therefore draws its own avatar in the state
that it has sent, measures by optical flow (DIS: Kroeger et al., 2016) how far the skin lies from the camera's, and
learns from it, as a linear function of the turn of the head, which similarity (shift, turn, size) brings the one onto
the other. All landmarks are moved by it before they are fitted: not a bit more is sent, and expression stays
what the tracker says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.encoder.sender import LandmarkFitter
from mien.models.topology import EYE_LOOPS, FACE_OVAL, OUTER_LIPS
from mien.protocol.avatar import Avatar
from mien.protocol.state import LANDMARK_COUNT, FaceState
from mien.protocol.stream import StreamHeader

Floats = NDArray[np.float64]

GLANCE_US: Final = 200_000  # from one comparison to the next
SPARE: Final = 20  # of the time between two comparisons, one part is for them, where time matters
VIEW_PX: Final = 192  # longer side of the pictures that are compared; more showed nothing more
# What moves by itself says nothing of where the face is: lips and eyes, so much larger, are left out.
LIPS_GROWTH: Final = 1.15
EYES_GROWTH: Final = 1.2
# A flow vector counts half where the way there and back misses by so much; where it is so long: pixels.
CLOSURE_PX: Final = 1.0
FAR_PX: Final = 6.0
SMOOTH_PX: Final = 8.0
LEAST_TRUST: Final = 0.15  # mean weight in the face below which the two pictures have nothing in common
# Memory: what is kept of the past from one comparison to the next, and how firmly the learned is drawn to zero: the
# constant part, and what depends on the turn of the head (in units of `TURN`).
KEPT: Final = 0.97
RIDGE: Final = (0.5, 2.0, 2.0, 2.0)
TURN: Final = 0.25
FIT_RIDGE: Final = 1e-2
MOST: Final = 0.08  # of the distance between the outer eye corners: more is a mistake


class View(Protocol):
    """What the other side sees in a state."""

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """The picture, [h, w, 3]."""

    @property
    def landmarks(self) -> NDArray[np.float32]:
        """Where its landmarks are, [478, 2] pixels."""


class OwnView(Protocol):
    """Draws one's own avatar."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is drawn."""

    def draw(self, state: FaceState) -> View:
        """Return what the other side sees."""

    def close(self) -> None:
        """Free what it holds."""


# Opens a view of an avatar for a stream, of a width and a height.
OpenView = Callable[[Avatar, StreamHeader, tuple[int, int]], OwnView]


def can_align(avatar: Avatar) -> bool:
    """Return whether an avatar's skin tells where a face is: one photo's shape is too rough away from its own pose."""
    made_up = dict(avatar.manifest.made_up)
    return sum(reference.slot not in made_up for reference in avatar.references) > 1


def glance_size(width: int, height: int) -> tuple[int, int]:
    """Return width and height at which pictures of such a shape are compared; even, never enlarged."""
    shrink = min(1.0, VIEW_PX / max(width, height))
    across, down = (max(16, 2 * round(shrink * side / 2)) for side in (width, height))
    return across, down


class Glances:
    """Says when it is time to compare again."""

    def __init__(self) -> None:
        self._next_us: int | None = None

    def due(self, timestamp_us: int) -> bool:
        """Return whether the frame of that time is to be compared; then the next one is some time away."""
        if self._next_us is not None and timestamp_us < self._next_us:
            return False
        self._next_us = timestamp_us + GLANCE_US
        return True

    def took(self, spent_us: int) -> None:
        """Wait longer where comparing took long: it is not what a machine is for."""
        if self._next_us is not None:
            self._next_us += max(0, SPARE * spent_us - GLANCE_US)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Landmarks of a frame, [478, 3] in its pixels, as tracked, and the state that was made of them."""

    landmarks: Floats
    state: FaceState


class AligningFitter:
    """A fitter that learns where the avatar's face lies beside the camera's, and takes it into account.

    `fit` is for every frame, `compare` for some. The view is opened by the first `compare`; that, the others and
    `close` belong on one thread, which may be another one than that of `fit`.
    """

    def __init__(
        self, fitter: LandmarkFitter, open_view: Callable[[], OwnView], *, width: int, height: int
    ) -> None:
        """`width` and `height` are those of the frames that landmarks are pixels of."""
        self._fitter, self._open_view = fitter, open_view
        self._frame = np.array([width, height], np.float64)
        self._view: OwnView | None = None
        self._learned = Learned()
        self.last: Fitted | None = None  # of the latest `fit`; None where it failed

    def fit(self, landmarks: NDArray[np.float32]) -> FaceState:
        """Return the state of landmarks, float32 [478, 3], moved by what was learned. Raises as the fitter does."""
        self.last = None
        if landmarks.shape != (LANDMARK_COUNT, 3) or not np.isfinite(landmarks).all():
            return self._fitter.fit(landmarks)  # it says what is wrong
        moved = np.array(landmarks)
        moved[:, :2] += self._learned.shift(landmarks.astype(np.float64))
        state = self._fitter.fit(moved)
        self.last = Fitted(landmarks.astype(np.float64), state)
        return state

    def compare(self, rgb: NDArray[np.uint8], fitted: Fitted) -> None:
        """Learn from a frame that was fitted, RGB uint8 [h, w, 3] of the view's size. Raises `MienError` without view."""
        if self._view is None:
            self._view = self._open_view()
        drawn = self._view.draw(fitted.state)
        if drawn.rgb.shape != rgb.shape:
            raise ValueError(f"a frame of {rgb.shape} to compare with a view of {drawn.rgb.shape}")
        apart, trust = difference(rgb, drawn)
        if trust.mean() >= LEAST_TRUST:
            self._learned.learn(fitted.landmarks, apart / (self._view.size / self._frame), trust)

    def close(self) -> None:
        """Free the view."""
        if self._view is not None:
            self._view.close()
            self._view = None


def difference(rgb: NDArray[np.uint8], drawn: View) -> tuple[Floats, Floats]:
    """Return how far the seen face lies from the drawn one at its landmarks, [478, 2] pixels, and trust [478]."""
    seen, shown = (np.asarray(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), np.uint8) for p in (rgb, drawn.rgb))
    dis, none = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM), np.empty(0, np.float32)
    forth = np.asarray(dis.calc(seen, shown, none), np.float32)
    back = np.asarray(dis.calc(shown, seen, none), np.float32)
    height, width = seen.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    returned = cv2.remap(back, columns + forth[..., 0], rows + forth[..., 1], cv2.INTER_LINEAR)
    closure = np.linalg.norm(forth + returned, axis=2)
    mask = skin_mask(drawn.landmarks, width, height)
    weight = mask / (1 + (closure / CLOSURE_PX) ** 2) / (1 + (np.linalg.norm(forth, axis=2) / FAR_PX) ** 2)
    mass = cv2.GaussianBlur(weight, (0, 0), SMOOTH_PX)
    flow = cv2.GaussianBlur(forth * weight[..., None], (0, 0), SMOOTH_PX) / np.maximum(mass, 0.02)[..., None]
    x, y = (np.clip(drawn.landmarks[:, i], 0, n - 1).astype(np.float32) for i, n in ((0, width), (1, height)))
    at = cv2.remap(np.ascontiguousarray(flow, np.float32), x[None], y[None], cv2.INTER_LINEAR)[0]
    trust = cv2.remap(np.asarray(weight, np.float32), x[None], y[None], cv2.INTER_LINEAR)[0]
    return -np.asarray(at, np.float64), np.asarray(trust, np.float64)


def skin_mask(landmarks: NDArray[np.floating], width: int, height: int) -> NDArray[np.float32]:
    """Return float32 [height, width]: 1 on the face, 0 elsewhere and on lips and eyes."""
    mask = np.zeros((height, width), np.float32)
    holes = [(OUTER_LIPS, LIPS_GROWTH, 0.0), *((loop, EYES_GROWTH, 0.0) for loop in EYE_LOOPS)]
    for points, growth, value in ((FACE_OVAL, 1.0, 1.0), *holes):
        outline = np.asarray(landmarks[list(points), :2], np.float64)
        middle = outline.mean(0)
        outline = np.clip(middle + growth * (outline - middle), -4096, 4096)
        hull = cv2.convexHull(np.rint(outline * 16).astype(np.int32))
        cv2.fillConvexPoly(mask, hull, value, cv2.LINE_AA, 4)
    return mask


class Learned:
    """The similarity as a linear function of how the head is turned, by least squares that forget."""

    def __init__(self) -> None:
        self._normal: Floats = np.diag(RIDGE)
        self._target: Floats = np.zeros((len(RIDGE), 4))
        self._parts: Floats = np.zeros((len(RIDGE), 4))
        self._usual: Floats | None = None  # turn of the head at the first comparison

    def shift(self, landmarks: Floats) -> Floats:
        """Return by how much landmarks [478, 3] are to be moved, [478, 2] pixels."""
        if self._usual is None:
            return np.zeros((LANDMARK_COUNT, 2))
        unit = eye_distance(landmarks)
        return unit * (columns_of(landmarks) @ (self._terms(landmarks) @ self._parts))

    def learn(self, landmarks: Floats, apart: Floats, trust: Floats) -> None:
        """Take that, after `shift`, the face still lay beside by `apart` [478, 2] pixels, with trust [478]."""
        if self._usual is None:
            self._usual = turn_of(landmarks)
        unit = eye_distance(landmarks)
        wanted: Floats = (self.shift(landmarks) + apart) / unit
        columns, weight = columns_of(landmarks), trust[:, None, None]
        normal = np.einsum("vdp,vdq->pq", columns * weight, columns) + FIT_RIDGE * np.eye(4)
        found: Floats = np.linalg.solve(normal, np.einsum("vdp,vd->p", columns * weight, wanted))
        parts: Floats = np.clip(found, -MOST, MOST)
        terms = self._terms(landmarks)
        fresh: Floats = (1 - KEPT) * np.diag(RIDGE) + np.outer(terms, terms)
        self._normal = np.asarray(KEPT * self._normal + fresh, np.float64)
        self._target = np.asarray(KEPT * self._target + np.outer(terms, parts), np.float64)
        self._parts = np.asarray(np.linalg.solve(self._normal, self._target), np.float64)

    def _terms(self, landmarks: Floats) -> Floats:
        # Not carried further than it was seen: a line through measurements means nothing far from them.
        usual = turn_of(landmarks) if self._usual is None else self._usual
        turn = np.clip((turn_of(landmarks) - usual) / TURN, -2, 2)
        return np.concatenate([[1.0], turn])


def columns_of(landmarks: Floats) -> Floats:
    """Return [478, 2, 4]: what shift (2), size and turn of 1 move each landmark by, in distances between the eyes."""
    points = landmarks[:, :2]
    x, y = ((points - points[list(FACE_OVAL)].mean(0)) / eye_distance(landmarks)).T
    zero, one = np.zeros_like(x), np.ones_like(x)
    return np.stack([np.stack([one, zero, x, -y], 1), np.stack([zero, one, y, x], 1)], 1)


def eye_distance(landmarks: Floats) -> float:
    """Return the distance between the outer eye corners, pixels, at least 1."""
    return max(1.0, float(np.linalg.norm(landmarks[263, :2] - landmarks[33, :2])))


def turn_of(landmarks: Floats) -> Floats:
    """Return roughly how the head is turned, [3]: depth across the eyes and from chin to brow, and their slope."""
    across, down = landmarks[263] - landmarks[33], landmarks[152] - landmarks[10]
    return np.array([across[2], down[2], across[1]]) / eye_distance(landmarks)
