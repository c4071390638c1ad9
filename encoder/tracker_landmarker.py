"""The face tracker of MediaPipe's official model bundle (FaceLandmarker)."""

import weakref
from pathlib import Path
from typing import Any, Final

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
from numpy.typing import NDArray

from mien.encoder.tracker import MAX_FACES, CrowdWatch, Tracking, largest_first, native_stderr_to_log
from mien.protocol.errors import MienError
from mien.protocol.state import LANDMARK_COUNT
from mien.protocol.stream import TrackerId

# MediaPipe follows one face in VIDEO mode: the crop of a frame comes from the landmarks of the last one,
# and a One Euro filter smooths them. In IMAGE mode the crop comes from the face detector, each time anew.
# The two crops differ systematically: landmarks by 0.8-2.0 % of the inter-pupil distance (mean over 240
# frames of four clips). One stream must keep to one of them; VIDEO is 1.7 ms cheaper and jitters half as much.
#
# The filter's strength depends on the time between frames, so that stretching the clock weakens it.
# Measured on the same clips (distance to unfiltered tracking and jitter in % of inter-pupil distance, lag in
# frames), and on six clips with the codec (median kbps of payload and total landmark error in %):
#   stretch     1          4          10         10 000
#   distance    1.1-1.6    .6-.75     .5-.6      0
#   lag         .3         .1         .1         0
#   jitter      .32-.58    .41-.59    .43-.60    .49-.78     (IMAGE: .51-.83)
#   codec       1.71 .65   1.66 .62   1.67 .61
# Pictures drawn from the codec, against the originals (12 clips, `mien bench picture`'s distance in %):
#   pictures    1.56       1.28       1.18       1.01
# Without any filter the mouth follows less well over time, and the head trembles.
CLOCK_STRETCH: Final = 10
STILL_STEP_MS: Final = 1_000_000  # so long ago that the filter forgets
STILL_ROUNDS: Final = 3  # crops that follow from one another, until they settle
MAX_STEP_MS: Final = 1000


class FaceLandmarkerTracker:
    """One face in VIDEO mode, and an occasional search for a second one."""

    tracker_id: TrackerId = TrackerId.FACE_LANDMARKER

    def __init__(self, bundle: Path, *, still: bool = False) -> None:
        """Load the model bundle. Raises `MienError` where MediaPipe refuses it."""
        self._still = still
        self._clock_ms = 0
        self._last_us: int | None = None
        self._found = False
        self._watch = CrowdWatch()
        try:
            with native_stderr_to_log():
                self._one = _open_landmarker(bundle, vision.RunningMode.VIDEO, faces=1)
                self._several = _open_landmarker(bundle, vision.RunningMode.IMAGE, faces=MAX_FACES)
                self._release = weakref.finalize(self, _close, self._one, self._several)
                self._warm_up()
        except (RuntimeError, ValueError, OSError) as error:
            raise MienError(
                f"MediaPipe cannot load {bundle}: {error}; `mien models fetch` gets it again"
            ) from error

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        """Find the faces in `rgb`; see `Tracker`."""
        rgb = np.ascontiguousarray(rgb)
        if self._still:
            return self._track_still(rgb)
        step_ms = 33 if self._last_us is None else (timestamp_us - self._last_us) // 1000
        self._last_us = timestamp_us
        self._clock_ms += CLOCK_STRETCH * (min(step_ms, MAX_STEP_MS) if step_ms > 0 else 33)
        if self._watch.due(timestamp_us):
            faces = self._search(rgb)
            self._watch.saw(len(faces), timestamp_us)
            if len(faces) > 1:
                return Tracking(largest_first(faces))
        followed = self._follow(rgb)
        if not followed and self._found:  # lost, or jumped: the second call asks the detector
            self._clock_ms += 1
            followed = self._follow(rgb)
        self._found = bool(followed)
        return Tracking(tuple(followed))

    def close(self) -> None:
        """Free both graphs."""
        self._release()

    def _track_still(self, rgb: NDArray[np.uint8]) -> Tracking:
        faces = self._search(rgb)
        if len(faces) > 1:
            return Tracking(largest_first(faces))
        self._forget(rgb.shape)
        found: list[NDArray[np.float32]] = []
        for _ in range(STILL_ROUNDS):  # a clip's crop, so that photo and clip measure a face alike
            self._clock_ms += STILL_STEP_MS
            found = self._follow(rgb)
        return Tracking(tuple(found))

    def _follow(self, rgb: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        result = self._one.detect_for_video(_image(rgb), self._clock_ms)
        return _landmarks(result, rgb.shape)

    def _search(self, rgb: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return _landmarks(self._several.detect(_image(rgb)), rgb.shape)

    def _forget(self, shape: tuple[int, ...]) -> None:
        self._clock_ms += STILL_STEP_MS
        self._follow(np.zeros(shape, np.uint8))  # a picture without a face

    def _warm_up(self) -> None:
        # The first inference compiles the graph and prints; better here than in the first frame's time.
        blank = np.zeros((64, 64, 3), np.uint8)
        self._clock_ms += STILL_STEP_MS
        self._follow(blank)
        self._search(blank)


def _close(*landmarkers: Any) -> None:
    for landmarker in landmarkers:
        try:
            landmarker.close()
        except RuntimeError:  # the interpreter is on its way out and MediaPipe's thread is gone
            landmarker._handle = None  # or its destructor tries again, and prints a traceback


def _open_landmarker(bundle: Path, mode: Any, *, faces: int) -> Any:
    # Read here: MediaPipe's own file reader fails on some paths, and its message does not say which.
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_buffer=bundle.read_bytes()), running_mode=mode, num_faces=faces
    )
    return vision.FaceLandmarker.create_from_options(options)


def _image(rgb: NDArray[np.uint8]) -> Any:
    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)


def _landmarks(result: Any, shape: tuple[int, ...]) -> list[NDArray[np.float32]]:
    height, width = shape[:2]
    size = np.array([width, height, width], np.float32)  # z is in units of the width, as x is
    faces = []
    for face in result.face_landmarks:
        values = np.fromiter((v for p in face for v in (p.x, p.y, p.z)), np.float32, 3 * len(face))
        if len(face) == LANDMARK_COUNT and np.isfinite(values).all():
            faces.append(values.reshape(LANDMARK_COUNT, 3) * size)
    return faces
