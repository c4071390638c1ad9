"""Notices when the person before the camera does not look like the avatar's owner: a hint against accidents.

It needs the `identity` extra (dlib and its face recognition network, `pip install 'mien[identity]'`); without it,
nothing is checked. The template is a biometric: it is made from the avatar's references on the owner's
machine, stays in the owner's private folder beside the key, and never goes into an avatar or onto the wire.
It authenticates nobody: keys do that.
"""

import contextlib
import importlib
import importlib.util
import logging
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from mien.encoder.tracker import Tracker, Tracking
from mien.models.pictures import decode_picture
from mien.protocol.avatar import Avatar
from mien.protocol.errors import MienError, WireError
from mien.protocol.private_files import private_folder, read_private, write_private
from mien.protocol.stream import TrackerId

log = logging.getLogger(__name__)

EMBEDDING_LENGTH: Final = 128
THRESHOLD: Final = 0.45  # Euclidean distance; above it two faces are more likely two people
CHECK_EVERY_US: Final = 5_000_000
RECHECK_US: Final = 60_000_000  # once the owner was recognised: a check costs as much as several frames
STRIKES: Final = 3  # checks in a row that must disagree: one odd frame is no stranger
CHIP_PX: Final = 150
CHIP_PADDING: Final = 0.25
# dlib's five points: the outer and inner corner of the eye on the viewer's right, of the one on the left, nose base.
FIVE_POINTS: Final = (263, 362, 33, 133, 2)
WEIGHTS: Final = "dlib_face_recognition_resnet_model_v1.dat"


class Embedder(Protocol):
    """Turns a face into a point; points of one person lie near each other."""

    @property
    def name(self) -> str:
        """Which network it is; templates of different ones cannot be compared."""

    def embed(self, rgb: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 [128] for the face at `landmarks`, float32 [478, 3], in uint8 [h, w, 3]."""


class DlibEmbedder:
    """dlib's ResNet, with the weights inside the package face-recognition-models."""

    name: Final = "dlib-resnet-v1"

    def __init__(self, dlib: Any, weights: Path) -> None:
        self._dlib = dlib
        self._network = dlib.face_recognition_model_v1(str(weights))

    def embed(self, rgb: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Embedder.embed`."""
        dlib = self._dlib
        points = [dlib.point(round(float(x)), round(float(y))) for x, y in landmarks[list(FIVE_POINTS), :2]]
        (left, top), (right, bottom) = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
        box = dlib.rectangle(round(float(left)), round(float(top)), round(float(right)), round(float(bottom)))
        shape = dlib.full_object_detection(box, points)
        chip = dlib.get_face_chip(np.ascontiguousarray(rgb), shape, size=CHIP_PX, padding=CHIP_PADDING)
        return np.array(self._network.compute_face_descriptor(chip), np.float32)


@cache
def open_embedder() -> Embedder | None:
    """Return the embedder of the `identity` extra, None where it is not installed; the log says so once."""
    # face_recognition_models itself cannot be imported without setuptools' old pkg_resources; its files can be found.
    found = importlib.util.find_spec("face_recognition_models")
    if found is None or importlib.util.find_spec("dlib") is None:
        log.info("nobody checks whether it is you before the camera: pip install 'mien[identity]' for that")
        return None
    for folder in found.submodule_search_locations or ():
        weights = Path(folder) / "models" / WEIGHTS
        if weights.is_file():
            try:
                return DlibEmbedder(importlib.import_module("dlib"), weights)
            except (ImportError, RuntimeError) as error:
                log.warning("dlib cannot be used, nobody checks whether it is you: %s", error)
                return None
    log.warning("face-recognition-models has no %s: nobody checks whether it is you", WEIGHTS)
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """What the avatar's owner looks like to a network. Its `repr` shows none of it.

     0       4           5               5 + n
    +-------+-----------+---------------+-----------------+
    | MIT1  | n, length | the network's | 128 x float32   |   big-endian; a private file, never sent
    |       | of name   | name, ASCII   |                 |
    +-------+-----------+---------------+-----------------+
    """

    MAGIC: ClassVar[bytes] = b"MIT1"
    MAX_BYTES: ClassVar[int] = 4 + 1 + 64 + 4 * EMBEDDING_LENGTH
    network: str
    embedding: NDArray[np.float32]

    def __repr__(self) -> str:
        return f"Template(network={self.network!r})"

    def distance(self, embedding: NDArray[np.float32]) -> float:
        """Return how unlike another face is; above `THRESHOLD` it is probably someone else's."""
        return float(np.linalg.norm(self.embedding - embedding))

    def serialize(self) -> bytes:
        """Return the file's bytes."""
        name = self.network.encode("ascii")
        return self.MAGIC + struct.pack("!B", len(name)) + name + self.embedding.astype(">f4").tobytes()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a template. Raises `WireError`."""
        length = data[4] if len(data) > 4 else 0
        if data[:4] != cls.MAGIC or not 1 <= length <= 64 or len(data) != 5 + length + 4 * EMBEDDING_LENGTH:
            raise WireError("the recognition template is damaged: enrol again, or delete it")
        embedding = np.frombuffer(data, ">f4", offset=5 + length).astype(np.float32)
        if not np.isfinite(embedding).all() or not data[5 : 5 + length].isascii():
            raise WireError("the recognition template is damaged: enrol again, or delete it")
        return cls(data[5 : 5 + length].decode("ascii"), embedding)


def make_template(avatar: Avatar, embedder: Embedder) -> Template:
    """Return the mean embedding of the avatar's references that were photographed."""
    made_up = dict(avatar.manifest.made_up)
    photographed = [r for r in avatar.references if r.slot not in made_up] or avatar.references[:1]
    found = [embedder.embed(decode_picture(r.picture), r.landmarks) for r in photographed]
    return Template(embedder.name, np.asarray(np.mean(found, axis=0), np.float32))


def template_path(avatar_id: bytes, folder: Path | None = None) -> Path:
    """Return where an avatar's template is kept, or would be."""
    return (folder or private_folder()) / f"recognition-{avatar_id.hex()[:16]}.template"


def save_template(template: Template, avatar_id: bytes, folder: Path | None = None) -> Path:
    """Keep a template, private to the user; return where. Raises `MienError`."""
    path = template_path(avatar_id, folder)
    write_private(path, template.serialize(), replace=True)
    return path


def load_template(avatar_id: bytes, folder: Path | None = None) -> Template | None:
    """Return an avatar's template, None without one. Raises `MienError` for one that is damaged or open to others."""
    data = read_private(template_path(avatar_id, folder), max_bytes=Template.MAX_BYTES)
    return None if data is None else Template.parse(data)


def delete_template(avatar_id: bytes, folder: Path | None = None) -> bool:
    """Delete an avatar's template; return whether there was one. Raises `MienError` where it cannot be."""
    path = template_path(avatar_id, folder)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise MienError(f"cannot delete {path}: {error.strerror}") from None
    return True


class IdentityWatch:
    """Compares the face before the camera with the template now and then. No I/O, no clock.

    `looks_like_owner` is None until it is known, then true or false.
    """

    def __init__(self, template: Template, embedder: Embedder) -> None:
        """Raises `ValueError` for a template of another network."""
        if template.network != embedder.name:
            raise ValueError(f"a template of {template.network} cannot be compared by {embedder.name}")
        self._template = template
        self._embedder = embedder
        self._next_us: int | None = None
        self._strikes = 0
        self.looks_like_owner: bool | None = None

    def observe(self, rgb: NDArray[np.uint8], landmarks: NDArray[np.float32], now_us: int) -> str | None:
        """Take a frame with one face; return a warning when it first turns out to be someone else's, else None.

        Costs a network's run every `CHECK_EVERY_US`, every `RECHECK_US` once the owner was seen, else nothing.
        """
        if self._next_us is not None and now_us < self._next_us:
            return None
        self._next_us = now_us + CHECK_EVERY_US
        if self._template.distance(self._embedder.embed(rgb, landmarks)) <= THRESHOLD:
            self._strikes, self.looks_like_owner = 0, True
            self._next_us = now_us + RECHECK_US
            return None
        self._strikes += 1
        if self._strikes < STRIKES or self.looks_like_owner is False:
            return None
        self.looks_like_owner = False
        return (
            "you do not look like this avatar's owner: is it the right avatar? Yours is made by mien enroll."
        )


def open_watch(avatar: Avatar, folder: Path | None = None) -> IdentityWatch | None:
    """Return a watch for an avatar, None where the extra or the template is missing. Never raises: it is a hint."""
    embedder = open_embedder()
    if embedder is None:
        return None
    with contextlib.suppress(ValueError):  # another network's template; WireError is a ValueError too
        try:
            template = load_template(avatar.avatar_id, folder)
        except MienError as error:
            log.warning("%s", error)
            return None
        return IdentityWatch(template, embedder) if template else None
    return None


class WatchedTracker:
    """A tracker that also lets an `IdentityWatch` look at frames with exactly one face."""

    def __init__(self, tracker: Tracker, watch: IdentityWatch, warn: Callable[[str], None]) -> None:
        self._tracker = tracker
        self._watch = watch
        self._warn = warn

    @property
    def tracker_id(self) -> TrackerId:
        """See `Tracker.tracker_id`."""
        return self._tracker.tracker_id

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        """See `Tracker.track`; now and then it takes some tens of milliseconds longer."""
        tracking = self._tracker.track(rgb, timestamp_us)
        if len(tracking.faces) == 1:
            warning = self._watch.observe(rgb, tracking.faces[0], timestamp_us)
            if warning:
                self._warn(warning)
        return tracking

    def close(self) -> None:
        """See `Tracker.close`."""
        self._tracker.close()


def watched(tracker: Tracker, avatar: Avatar | None, warn: Callable[[str], None]) -> Tracker:
    """Return the tracker, watched where the extra and the avatar's template are here; `warn` gets a line of text."""
    watch = open_watch(avatar) if avatar else None
    return WatchedTracker(tracker, watch, warn) if watch else tracker
