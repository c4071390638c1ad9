"""Leads a person before a camera through an enrolment: from tracked frames to the next request and live coverage."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from mien.encoder.appearance import frame_quality
from mien.encoder.enrolment_coverage import ITEMS, Item, amounts, features_of, rest_of
from mien.encoder.enrolment_script import CHALLENGES, HOLD_REST_US, Answer, Script, followed
from mien.encoder.reference_selection import NAMES
from mien.models.face_model import FaceModel
from mien.models.fit import estimate_neutral
from mien.protocol.errors import MienError

if TYPE_CHECKING:
    from mien.encoder.capture import Frame

REQUESTS: Final = {
    Item.REST: "Look straight at the camera, face relaxed, mouth closed.",
    Item.MOUTH_OPEN: "Open your mouth wide.",
    Item.TEETH: "Smile broadly, show your teeth.",
    Item.EYES_CLOSED: "Close your eyes for a second, then open them.",
    Item.EYES_WIDE: "Open your eyes wide.",
    Item.BROWS_RAISED: "Raise your eyebrows.",
    Item.GAZE_LEFT: "Hold your head still and look to your left.",
    Item.GAZE_RIGHT: "Hold your head still and look to your right.",
    Item.GAZE_UP: "Hold your head still and look up.",
    Item.GAZE_DOWN: "Hold your head still and look down.",
    Item.TURN_LEFT: "Turn your head to your left, about 30 degrees.",
    Item.TURN_RIGHT: "Turn your head to your right, about 30 degrees.",
}

MIN_REST_FRAMES: Final = 5  # the fewest whose median is a face at rest
STILL_FRAMES: Final = 12
# What counts as holding still while rest is measured, largest change: head in degrees, lips in pupils' distances.
STILL: Final = {"yaw": 6.0, "pitch": 6.0, "mouth_open": 0.08}
MAX_REST_YAW_DEG: Final = 15.0
SHARPER: Final = 1.1  # a picture must be so much better to replace another one


@dataclass(frozen=True, slots=True, eq=False)
class _Rest:
    """The person's neutral face, float32 [478, 3] of model space, and their features at rest, [12]."""

    neutral: NDArray[np.float32]
    features: NDArray[np.float64]


class Guide:
    """Watches an enrolment's frames. `changed` is called after each, with the frame, so that it can be shown."""

    def __init__(
        self,
        order: Iterable[Item],
        *,
        limit_us: int,
        changed: Callable[["Guide", "Frame"], None] | None = None,
    ) -> None:
        self.script = Script(order, limit_us=limit_us)
        self._changed = changed
        self._model = FaceModel.load()
        self._rest: _Rest | None = None
        self._recent: list[tuple[int, NDArray[np.float32]]] = []  # before rest is known: (time, landmarks)
        self._sharpest: dict[Item, float] = {}
        self._stopped = False
        self.faces = 0  # in the last frame

    @property
    def done(self) -> bool:
        """Whether all is shown, the time is over, or `stop` was called."""
        return self._stopped or self.script.done

    def stop(self) -> None:
        """End here, as if the time were over."""
        self._stopped = True

    def see(self, frame: "Frame", faces: tuple[NDArray[np.float32], ...]) -> tuple[Item, ...]:
        """Take the next frame and its faces [478, 3] in pixels. Return the items of which it is the best picture yet."""
        self.faces = len(faces)
        shown = self._shown(frame.timestamp_us, faces[0]) if len(faces) == 1 else None
        self.script.observe(frame.timestamp_us, shown)
        if self._rest is None and self.script.asked is not Item.REST:
            self._settle_rest()
        best = self._best(frame.rgb, faces[0], shown) if shown else ()
        if self._changed is not None:
            self._changed(self, frame)
        return best

    def check_alive(self) -> None:
        """Raise `MienError` where what the camera showed did not follow the requests as a person does."""
        if followed(self.script.answers):
            return
        met = sum(a.answered for a in self.script.answers if a.item in CHALLENGES)
        raise MienError(
            "this camera did not show a living person who follows the requests: "
            f"{met} of {len(CHALLENGES)} of turning left, turning right, opening the mouth and closing the eyes "
            "were done when asked for. No avatar was made. Try again with your face well lit and alone in the "
            "picture, doing one thing at a time; or enrol from a clip of yourself: mien enroll CLIP --consent self"
        )

    @property
    def answers(self) -> tuple[Answer, ...]:
        """What became of the requests so far."""
        return self.script.answers

    def _shown(self, now_us: int, landmarks: NDArray[np.float32]) -> dict[Item, float] | None:
        if not np.isfinite(landmarks).all():
            return None
        if self._rest is None:
            self._recent = [entry for entry in self._recent if entry[0] >= now_us - HOLD_REST_US]
            self._recent.append((now_us, landmarks))
            return {Item.REST: float(self._still())}
        row = amounts(features_of(landmarks[None], self._rest.neutral, self._model), self._rest.features)[0]
        return dict(zip(ITEMS, row.tolist(), strict=True))

    def _still(self) -> bool:
        """Whether the recent frames show a face that holds still, towards the camera."""
        tracks = np.stack([landmarks for _, landmarks in self._recent[-STILL_FRAMES:]])
        features = features_of(tracks, self._model.mean, self._model)
        moved = [np.ptp(features[:, NAMES.index(name)]) <= most for name, most in STILL.items()]
        return all(moved) and abs(float(features[-1, NAMES.index("yaw")])) <= MAX_REST_YAW_DEG

    def _settle_rest(self) -> None:
        """Take the recent frames for the face at rest: it held still, or never will."""
        if len(self._recent) < MIN_REST_FRAMES:
            return
        tracks = np.stack([landmarks for _, landmarks in self._recent])
        neutral = estimate_neutral(tracks, self._model)
        self._rest = _Rest(neutral, rest_of(features_of(tracks, neutral, self._model)))
        self._recent.clear()

    def _best(
        self, rgb: NDArray[np.uint8], landmarks: NDArray[np.float32], shown: dict[Item, float]
    ) -> tuple[Item, ...]:
        reached = [item for item, amount in shown.items() if amount >= 1]
        if self._rest is None or not reached:
            return ()
        sharpness = frame_quality(rgb, landmarks).sharpness
        better = tuple(i for i in reached if sharpness > SHARPER * self._sharpest.get(i, 0.0))
        self._sharpest.update(dict.fromkeys(better, sharpness))
        return better
