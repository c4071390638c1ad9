"""The choice of the best face tracker that is present."""

import importlib.metadata
from typing import Final

from mien.encoder.tracker import Tracker
from mien.models.store import FACE_LANDMARKER, find_model
from mien.protocol.errors import MienError

LANDMARKER_VERSION: Final = "0.10.31"  # of mediapipe; later ones send statistics home
FACE_MESH_VERSION: Final = "0.10.21"  # of mediapipe; the last one with the FaceMesh models in its wheel


def open_tracker(*, still: bool = False) -> Tracker:
    """Open the best tracker that is present.

    `still` is for photographs that have nothing to do with one another: every picture is searched afresh.
    Raises `MienError` where none is present; the text says how to get one.
    """
    version = mediapipe_version()
    bundle = find_model(FACE_LANDMARKER.name)
    if version == LANDMARKER_VERSION and bundle is not None:
        from mien.encoder.tracker_landmarker import FaceLandmarkerTracker

        return FaceLandmarkerTracker(bundle, still=still)
    if version == FACE_MESH_VERSION:
        from mien.encoder.tracker_face_mesh import FaceMeshTracker

        return FaceMeshTracker(still=still)
    raise MienError(explain_absence(version))


def mediapipe_version() -> str | None:
    """Return the version of the installed mediapipe, None without one. Does not import it."""
    try:
        return importlib.metadata.version("mediapipe")
    except importlib.metadata.PackageNotFoundError:
        return None


def explain_absence(version: str | None) -> str:
    """Say why no tracker can be opened with mediapipe `version` (None: not installed), and what to do."""
    if version == LANDMARKER_VERSION:
        return (
            f"mediapipe {version} is here, but its model bundle {FACE_LANDMARKER.file_name} is not: run "
            "`mien models fetch`, or put the file in a folder and name that folder in MIEN_MODELS"
        )
    if version is None:
        return (
            f"no face tracker is installed: run `make setup` in the checkout, or `pip install "
            f"mediapipe=={LANDMARKER_VERSION}` and `mien models fetch`"
        )
    return (
        f"mediapipe {version} is not a version that mien uses (later ones report usage over the network): "
        f"`pip install mediapipe=={LANDMARKER_VERSION}` and `mien models fetch`"
    )
