"""Enrolment: from a clip, a photo or the camera to a signed avatar.

Every frame with exactly one face is tracked; pictures are kept in a bounded pool, scaled to the size that
references may have. Then the person's neutral face is estimated, references are chosen, mattes cut, ring
anchors calibrated, colours measured, and all of it is packed into layers and signed.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.encoder.appearance import FrameQuality, frame_quality, measure_appearance
from mien.encoder.completion import MOST_REFERENCES, complete, missing
from mien.encoder.enrolment_coverage import Item, ItemCoverage, features_of, measure_coverage
from mien.encoder.enrolment_guide import Guide
from mien.encoder.layer_packing import LayerBudget, PackedReference, pack_avatar
from mien.encoder.matte import Matter, open_matter
from mien.encoder.occlusion import occlusion
from mien.encoder.photo_checks import check_photo, photo_warnings
from mien.encoder.reference_depth import Fitted
from mien.encoder.reference_selection import (
    NAMES,
    coverage,
    face_features,
    rest_distances,
    select_references,
    upright,
)
from mien.encoder.ring_calibration import calibrate_rings, with_offsets_of_first
from mien.encoder.tracker import Tracker
from mien.encoder.tracker_choice import open_tracker
from mien.models.alignment import align
from mien.models.appearance_code import Region
from mien.models.face_model import FaceModel
from mien.models.fit import estimate_neutral, reference_scale
from mien.models.topology import FACE_OVAL
from mien.protocol.avatar import Avatar, Declaration, Signer, parse_avatar
from mien.protocol.consent import DEFAULT_USES, Consent
from mien.protocol.errors import MienError
from mien.protocol.stream import TrackerId

if TYPE_CHECKING:
    from mien.encoder.capture import Frame

log = logging.getLogger(__name__)

REFERENCE_SIZES_PX: Final = (256, 512)
# By the references' longer side; of small ones more would not fit into the file without getting soft.
DEFAULT_REFERENCES: Final = {256: 6, 512: 8}
POOL_FRAMES: Final = 320  # at 512 x 512 a quarter of a gigabyte
MIN_FACE_PX: Final = 48  # height of the face oval
SMALL_FACE_PX: Final = 96
MIN_EXPOSURE: Final = 0.08
MAX_EXPOSURE: Final = 0.95
MIN_SHARPNESS: Final = 4.0
SOFT_SHARPNESS: Final = 12.0

SAME_FACE: Final = 0.05  # of its height: so far apart two measurements of one face are at most

LOOKING: Final = "looking at the face"  # the first stage of `Progress`

Progress = Callable[[str, int, int], None]  # what is being done, how far, of how much (0: not known)


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a source is enrolled: frames from `start_us` on and before `end_us`, at most `frames` of them."""

    start_us: int = 0
    end_us: int | None = None
    frames: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """How an enrolment is made: the references' longer side and number, the part of the source to use.

    `references` None: `DEFAULT_REFERENCES`. What must be made up takes room among those that are drawn.
    """

    reference_px: int = 512
    references: int | None = None
    window: Window = field(default_factory=Window)
    expires_unix_s: int | None = None
    complete: bool = True  # make up references for what was never seen (`mien.encoder.completion`)


@dataclass(frozen=True, slots=True, eq=False)
class Enrolment:
    """The signed file, the avatar in it, and what a person may want to know about how it came about."""

    data: bytes
    avatar: Avatar
    frames: int
    without_face: int
    several_faces: int
    reference_frames: tuple[
        int, ...
    ]  # numbers of the source's frames; for a made-up one, what it was made from
    coverage: dict[str, tuple[float, float, float, float]]
    picture_quality: int
    first_quality: int
    matter: str
    warnings: tuple[str, ...]
    items: tuple[ItemCoverage, ...] = ()  # `best` counts the source's frames; none for a photo


def enroll(
    source: Iterable["Frame"],
    *,
    consent: Consent,
    name: str,
    key: Signer,
    tracker: Tracker | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Return the bytes of a signed `.avatar` file made from `source`; see `enroll_in_detail`."""
    enrolment = enroll_in_detail(
        source, consent=consent, name=name, key=key, tracker=tracker, settings=settings, progress=progress
    )
    return enrolment.data


def enroll_in_detail(
    source: Iterable["Frame"],
    *,
    consent: Consent,
    name: str,
    key: Signer,
    tracker: Tracker | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
    guide: Guide | None = None,
    still: Tracker | None = None,
) -> Enrolment:
    """Make an avatar from the frames of `source`, signed by `key`, created at the time of the consent.

    Without `tracker` the best present one is opened and closed again. `still` measures the chosen pictures once more,
    each by itself: a tracker that follows a face lags behind quick lips. Without it a still tracker is opened where
    `tracker` is not given either. A `guide` sees every frame, ends the collection
    when it is done, and its best pictures are considered as references. Raises `MienError` where the source
    shows no face, several, or none that could be used, or where nobody followed the guide; the text says what to do.
    """
    settings = settings or Settings()
    tell = progress or _silent
    with ExitStack() as stack:
        if tracker is None:
            tracker = stack.enter_context(closing(open_tracker()))
            still = still or stack.enter_context(closing(open_tracker(still=True)))
        footage = collect(source, tracker, settings, tell, guide)
        if still is not None and len(footage.tracks) == 1:  # all that is known of the face comes from it
            footage.tracks[0] = measured_again(still, footage.pool[0][1], footage.tracks[0], footage.width)
        matter = stack.enter_context(closing(open_matter()))
        return _make(footage, consent, name, key, tracker.tracker_id, settings, matter, tell, still)


@dataclass(slots=True, eq=False)
class Footage:
    """What was collected: all tracks, and a bounded pool of pictures spread over them."""

    width: int = 0
    height: int = 0
    frames: int = 0
    without_face: int = 0
    several_faces: int = 0
    tracks: list[NDArray[np.float32]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # the source's frame number of each track
    times_us: list[int] = field(default_factory=list)
    pool: list[tuple[int, NDArray[np.uint8], FrameQuality]] = field(
        default_factory=list
    )  # (track, picture, quality)
    stride: int = 1
    pinned: dict[Item, tuple[int, NDArray[np.uint8], FrameQuality]] = field(default_factory=dict)

    def add(
        self,
        number: int,
        rgb: NDArray[np.uint8],
        landmarks: NDArray[np.float32],
        max_px: int,
        *,
        time_us: int = 0,
    ) -> None:
        """Take a frame with one face. The pool halves its density whenever it is full."""
        index = len(self.tracks)
        self.tracks.append(landmarks)
        self.numbers.append(number)
        self.times_us.append(time_us)
        if index % self.stride:
            return
        self.pool.append((index, scaled_down(rgb, max_px), frame_quality(rgb, landmarks)))
        if len(self.pool) > POOL_FRAMES:
            self.stride *= 2
            self.pool = [entry for entry in self.pool if entry[0] % self.stride == 0]

    def pin(self, items: Iterable[Item], rgb: NDArray[np.uint8], max_px: int) -> None:
        """Keep the picture of the frame that was added last as the best one of `items`, one for each."""
        index, landmarks = len(self.tracks) - 1, self.tracks[-1]
        entry = (index, scaled_down(rgb, max_px), frame_quality(rgb, landmarks))
        self.pinned.update(dict.fromkeys(items, entry))

    def settle(self) -> None:
        """Put the pinned pictures into the pool, in the order of the frames."""
        whole = {entry[0]: entry for entry in (*self.pinned.values(), *self.pool)}
        self.pool = [whole[index] for index in sorted(whole)]


def collect(
    source: Iterable["Frame"],
    tracker: Tracker,
    settings: Settings,
    tell: Progress,
    guide: Guide | None = None,
) -> Footage:
    """Track the window's frames. Raises `MienError` where none of them has exactly one face, or it cannot be used."""
    footage = Footage()
    window = settings.window
    for frame in source:
        if window.end_us is not None and frame.timestamp_us >= window.end_us:
            break
        if frame.timestamp_us < window.start_us:
            continue
        if window.frames is not None and footage.frames >= window.frames:
            break
        height, width = frame.rgb.shape[:2]
        if footage.frames and (width, height) != (footage.width, footage.height):
            raise MienError(
                f"the picture's size changed to {width} x {height} on the way: enrol from one size"
            )
        footage.width, footage.height = width, height
        footage.frames += 1
        faces = tracker.track(frame.rgb, frame.timestamp_us).faces
        if not faces:
            footage.without_face += 1
        elif len(faces) > 1:
            footage.several_faces += 1
        else:
            footage.add(frame.index, frame.rgb, faces[0], settings.reference_px, time_us=frame.timestamp_us)
        if guide is not None:
            best = guide.see(frame, faces)
            if best:
                footage.pin(best, frame.rgb, settings.reference_px)
        tell(LOOKING, footage.frames, window.frames or 0)
        if guide is not None and guide.done:
            break
    footage.settle()
    _check(footage)
    if guide is not None:
        guide.check_alive()
    return footage


def _check(footage: Footage) -> None:
    """Raise `MienError` where nothing useful was collected."""
    if footage.frames == 0:
        raise MienError("there was no frame to enrol from: choose a part of the clip that exists")
    if not footage.tracks:
        if footage.several_faces == footage.frames == 1:
            raise MienError("the photo shows several faces: cut yours out, an avatar is of one person")
        if footage.several_faces > footage.without_face:
            raise MienError(
                f"several faces in {footage.several_faces} of {footage.frames} frames: "
                "an avatar is of one person, so be alone in the picture"
            )
        if footage.frames == 1:
            raise MienError(
                "no face in the photo: take one that shows the whole face from the front, in good light, the head a "
                "quarter of the picture's height or more"
            )
        raise MienError(
            f"no face in {footage.frames} frames: face the camera, with light from the front, "
            "and let the head fill a quarter of the picture's height or more"
        )
    tall = float(np.median([np.ptp(t[list(FACE_OVAL), 1]) for t in footage.tracks]))
    if tall < MIN_FACE_PX:
        remedy = "take the photo from nearer" if footage.frames == 1 else "come nearer to the camera"
        raise MienError(f"the face is only {tall:.0f} pixels tall, {MIN_FACE_PX} are needed: {remedy}")
    if footage.frames == 1:
        check_photo(footage.tracks[0])
    qualities = [quality for _, _, quality in footage.pool]
    exposure = float(np.median([q.exposure for q in qualities]))
    if exposure < MIN_EXPOSURE:
        raise MienError("the face is too dark: put a light in front of you, not behind, and try again")
    if exposure > MAX_EXPOSURE:
        raise MienError("the face is overexposed: take light away from it, or lower the camera's exposure")
    if float(np.quantile([q.sharpness for q in qualities], 0.75)) < MIN_SHARPNESS:
        raise MienError("the face is blurred: wipe the lens, hold still, let the camera focus, and try again")


def _warnings(
    footage: Footage, chosen: int, features: NDArray[np.float32], made_up: tuple[str, ...]
) -> tuple[str, ...]:
    """Return what the user should know about an avatar that can be made, but could be better."""
    found: list[str] = []
    if len(footage.tracks) == 1:
        yaw, pitch = (float(features[0, NAMES.index(name)]) for name in ("yaw", "pitch"))
        found += photo_warnings(footage.tracks[0], yaw_deg=yaw, pitch_deg=pitch, made_up=made_up)
    elif chosen < 4:
        found.append(
            f"the face hardly moves, so {chosen} references say all: talk, blink and turn your head for more"
        )
    elif float(np.quantile(features[:, 3], 0.99)) < 0.08:
        found.append("the mouth never opens, so its inside is guessed: say a few words next time")
    if len(footage.tracks) < 0.5 * footage.frames:
        found.append(f"only {len(footage.tracks)} of {footage.frames} frames showed exactly one face")
    if float(np.median([np.ptp(t[list(FACE_OVAL), 1]) for t in footage.tracks])) < SMALL_FACE_PX:
        found.append("the face is small in the picture: nearer gives more detail")
    if float(np.quantile([q.sharpness for _, _, q in footage.pool], 0.75)) < SOFT_SHARPNESS:
        found.append("the face is soft: more light, or a camera in focus, gives more detail")
    return tuple(found)


def _make(
    footage: Footage,
    consent: Consent,
    name: str,
    key: Signer,
    tracker_id: TrackerId,
    settings: Settings,
    matter: Matter,
    tell: Progress,
    still: Tracker | None,
) -> Enrolment:
    model = FaceModel.load()
    tracks = np.stack(footage.tracks)
    tell("estimating the neutral face", 0, 0)
    neutral = estimate_neutral(tracks, model)
    unit_px = reference_scale(tracks, neutral, model)
    indices = [index for index, _, _ in footage.pool]
    pictures = [picture for _, picture, _ in footage.pool]
    scale = pictures[0].shape[1] / footage.width
    landmarks = np.asarray(tracks[indices] * scale, np.float32)
    placed = align(
        neutral[model.rigid].astype(np.float64), tracks[indices][:, model.rigid].astype(np.float64)
    )
    shapes = placed.undo(tracks[indices].astype(np.float64))
    frontal = upright(neutral)
    features = face_features(shapes @ frontal.T, placed.rotation @ frontal.T)
    covered = occlusion(pictures, list(landmarks), features[:, :3])
    pooled = zip(footage.pool, covered, strict=True)
    qualities = [replace(quality, covered=float(share)) for (_, _, quality), share in pooled]
    tell("choosing reference pictures", 0, 0)
    pinned = {index for index, _, _ in footage.pinned.values()}
    chosen = _choose(
        landmarks,
        settings,
        lambda count: select_references(
            features,
            rest_distances(shapes, neutral),
            qualities,
            count=count,
            wanted=[entry for entry, index in enumerate(indices) if index in pinned],
        ),
    )
    if still is not None and len(pictures) > 1:
        for entry in chosen:
            landmarks[entry] = measured_again(
                still, pictures[entry], landmarks[entry], pictures[entry].shape[1]
            )
    height, width = pictures[0].shape[:2]
    fitted = Fitted(model, neutral, unit_px=float(unit_px) * scale, width=width, height=height)
    deepened = [fitted.with_depth(landmarks[entry]) for entry in chosen]
    tell("cutting out the person", 0, 0)
    shown, places = [pictures[entry] for entry in chosen], [points for points, _ in deepened]
    mattes = matter.mattes(shown, places)
    packed = [PackedReference(*one) for one in zip(shown, places, mattes, strict=True)]
    code = measure_appearance(shown, places, mattes, [qualities[entry] for entry in chosen])
    tell("measuring how hair and shoulders follow", 0, 0)
    poses = np.stack([fitted.fit(points).pose for points in landmarks])
    poses[chosen] = [state.pose for _, state in deepened]  # as the renderer will fit them
    rings = calibrate_rings(pictures, landmarks, poses, unit_px=float(unit_px) * scale, references=chosen)
    made = complete(packed, fitted, code.mean[Region.SKIN]) if settings.complete else []
    rings = with_offsets_of_first(rings, len(packed), len(made))
    tell("packing", 0, 0)
    declaration = Declaration(
        name=name,
        consent=consent,
        uses=tuple(DEFAULT_USES[consent.kind]),
        created_unix_s=consent.given_unix_s,
        expires_unix_s=settings.expires_unix_s,
        model_id=model.model_id,
        tracker=tracker_id,
        unit_px=unit_px,
        width=footage.width,
        height=footage.height,
        made_up=tuple((len(packed) + at, str(one.kind)) for at, one in enumerate(made)),
    )
    result = pack_avatar(
        [*packed, *(one.reference for one in made)],
        neutral=neutral,
        appearance=code.to_vector(),
        rings=rings,
        declaration=declaration,
        signer=key,
        budget=LayerBudget.for_size(settings.reference_px),
    )
    return Enrolment(
        data=result.data,
        avatar=parse_avatar(result.data, now_unix_s=consent.given_unix_s),
        frames=footage.frames,
        without_face=footage.without_face,
        several_faces=footage.several_faces,
        reference_frames=tuple(
            footage.numbers[indices[entry]] for entry in [*chosen, *(chosen[0] for _ in made)]
        ),
        coverage=coverage(features, chosen),
        picture_quality=result.picture_quality,
        first_quality=result.first_quality,
        matter=matter.name,
        warnings=_warnings(footage, len(chosen), features, tuple(str(one.kind) for one in made)),
        items=_items(footage, features_of(tracks, neutral, model), qualities),
    )


def _choose(
    landmarks: NDArray[np.float32], settings: Settings, select: Callable[[int], list[int]]
) -> list[int]:
    """Return which entries of the pool, with `landmarks` [n, 478, 3], become references; `select` chooses so many."""
    count = settings.references
    if count is None:
        count = DEFAULT_REFERENCES.get(settings.reference_px, max(DEFAULT_REFERENCES.values()))
    chosen = select(count)
    if not settings.complete:
        return chosen
    while len(chosen) > 1 and len(chosen) + len(missing(list(landmarks[chosen]))) > MOST_REFERENCES:
        chosen = select(len(chosen) - 1)
    return chosen


def measured_again(
    still: Tracker, rgb: NDArray[np.uint8], landmarks: NDArray[np.float32], width: int
) -> NDArray[np.float32]:
    """Return a picture's landmarks [478, 3], pixels of it at `width`, measured by itself.

    They are `landmarks` as they were where that finds another face, or none.
    """
    faces = still.track(rgb, 0).faces
    if len(faces) != 1:
        return landmarks
    again = np.asarray(faces[0] * (width / rgb.shape[1]), np.float32)
    apart = float(np.linalg.norm(again[:, :2] - landmarks[:, :2], axis=1).mean())
    return again if apart < SAME_FACE * np.ptp(landmarks[list(FACE_OVAL), 1]) else landmarks


def _items(
    footage: Footage, features: NDArray[np.float32], qualities: list[FrameQuality]
) -> tuple[ItemCoverage, ...]:
    """Return how well the wanted poses and expressions are covered; `best` counts the source's frames."""
    pictured = [index for index, _, _ in footage.pool]
    found = measure_coverage(features, footage.times_us, pictured, [q.sharpness for q in qualities])
    return tuple(replace(one, best=footage.numbers[one.best]) for one in found)


def scaled_down(rgb: NDArray[np.uint8], max_px: int) -> NDArray[np.uint8]:
    """Return the picture with its longer side at most `max_px`, a copy."""
    height, width = rgb.shape[:2]
    shrink = max_px / max(height, width)
    if shrink >= 1:
        return rgb.copy()
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
