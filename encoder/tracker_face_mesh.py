"""The face tracker for closed networks: FaceMesh, whose models are inside the mediapipe 0.10.21 wheel."""

import weakref
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.encoder.tracker import MAX_FACES, CrowdWatch, Tracking, largest_first, native_stderr_to_log
from mien.protocol.errors import MienError
from mien.protocol.state import LANDMARK_COUNT
from mien.protocol.stream import TrackerId

STILL_ROUNDS: Final = 3  # crops that follow from one another, until they settle


class FaceMeshTracker:
    """One face followed from frame to frame, and an occasional search for a second one.

    Its landmarks differ from `FaceLandmarkerTracker`'s by 1.2-2.2 % of the inter-pupil distance; it knows
    no clock and does not smooth.
    """

    tracker_id: TrackerId = TrackerId.FACE_MESH

    def __init__(self, *, still: bool = False) -> None:
        """Load the models of the wheel. Raises `MienError` where this mediapipe has none."""
        self._still = still
        self._found = False  # in the last frame
        self._quiet: set[tuple[bool, tuple[int, ...]]] = set()
        self._watch = CrowdWatch()
        try:
            with native_stderr_to_log():
                self._one = _open_mesh(faces=1, follow=True)
                self._several = _open_mesh(faces=MAX_FACES, follow=False)
                self._release = weakref.finalize(self, _close, self._one, self._several)
                blank = np.zeros((64, 64, 3), np.uint8)
                self._follow(blank)  # the first inference prints; better here than in the first frame's time
                self._search(blank)
        except (ImportError, AttributeError, RuntimeError, OSError) as error:
            raise MienError(f"this mediapipe has no FaceMesh: {error}; run `make setup` again") from error

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        """Find the faces in `rgb`; see `Tracker`."""
        rgb = np.ascontiguousarray(rgb)
        if self._still or self._watch.due(timestamp_us):
            faces = self._search(rgb)
            self._watch.saw(len(faces), timestamp_us)
            if len(faces) > 1:
                return Tracking(largest_first(faces))
        if self._still:
            self._follow(np.zeros_like(rgb))  # a picture without a face: forget the last one
            for _ in range(STILL_ROUNDS - 1):
                self._follow(rgb)
        followed = self._follow(rgb)
        if not followed and self._found:  # lost, or jumped: the second call asks the detector
            followed = self._follow(rgb)
        self._found = bool(followed)
        return Tracking(tuple(followed))

    def close(self) -> None:
        """Free both graphs."""
        self._release()

    def _follow(self, rgb: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return self._run(self._one, rgb)

    def _search(self, rgb: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return self._run(self._several, rgb)

    def _run(self, mesh: Any, rgb: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        key = (mesh is self._one, rgb.shape)
        if key in self._quiet:
            return _landmarks(mesh.process(rgb), rgb.shape)
        with native_stderr_to_log():  # MediaPipe prints at the first face of each size
            faces = _landmarks(mesh.process(rgb), rgb.shape)
        if faces:
            self._quiet.add(key)
        return faces


def _close(*meshes: Any) -> None:
    for mesh in meshes:
        mesh.close()


def _open_mesh(*, faces: int, follow: bool) -> Any:
    # Imported here: it takes a second, prints, and drags matplotlib in.
    from mediapipe.python.solutions.face_mesh import FaceMesh

    return FaceMesh(static_image_mode=not follow, max_num_faces=faces, refine_landmarks=True)


def _landmarks(result: Any, shape: tuple[int, ...]) -> list[NDArray[np.float32]]:
    height, width = shape[:2]
    size = np.array([width, height, width], np.float32)  # z is in units of the width, as x is
    faces = []
    for face in result.multi_face_landmarks or ():
        points = face.landmark
        values = np.fromiter((v for p in points for v in (p.x, p.y, p.z)), np.float32, 3 * len(points))
        if len(points) == LANDMARK_COUNT and np.isfinite(values).all():
            faces.append(values.reshape(LANDMARK_COUNT, 3) * size)
    return faces
