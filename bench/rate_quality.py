"""A clip for the rate bench: tracked, its first part enrolled, the rest fitted; and the error of what is decoded."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.encoder.capture import Source
from mien.encoder.tick_clock import TickClock, tick_rate_for
from mien.encoder.tracker_choice import open_tracker
from mien.models.face_model import FaceModel, project
from mien.models.fit import Fitter, estimate_neutral, reference_scale, rest_pose
from mien.models.landmark_sets import EYES, IRISES, LIPS, inter_pupil_px
from mien.protocol.state import LANDMARK_COUNT, FaceState
from mien.protocol.stream import StreamHeader, TrackerId
from mien.protocol.tables import Tables

Landmarks = NDArray[np.float32]

ENROLMENT_SHARE: Final = 0.6
DATACHANNEL_BYTES: Final = 93  # IP + UDP + DTLS + SCTP headers around one message, measured with aiortc
MIN_FRAMES: Final = 30
REST_FRAMES: Final = 30  # of the coded part, known before the stream starts: the first second


@dataclass(frozen=True, slots=True, eq=False)
class TrackedClip:
    """A clip's landmarks float32 [T, 478, 3] (nan: not one face) at `times_us`, and what tracking cost."""

    name: str
    landmarks: Landmarks
    times_us: NDArray[np.int64]
    rate: Fraction
    width: int
    height: int
    tracker: TrackerId
    tracking_ms: float


def track_clip(source: Source, *, name: str, max_frames: int | None = None) -> TrackedClip:
    """Track every frame of `source` as a sender does."""
    tracker = open_tracker()
    rows, times, spent = [], [], []
    try:
        for frame in source:
            started = time.process_time()
            faces = tracker.track(frame.rgb, frame.timestamp_us).faces
            spent.append(time.process_time() - started)
            rows.append(faces[0] if len(faces) == 1 else np.full((LANDMARK_COUNT, 3), np.nan, np.float32))
            times.append(frame.timestamp_us)
            if len(rows) == max_frames:
                break
        return TrackedClip(
            name=name,
            landmarks=np.array(rows, np.float32).reshape(-1, LANDMARK_COUNT, 3),
            times_us=np.array(times, np.int64),
            rate=source.rate,
            width=source.width,
            height=source.height,
            tracker=tracker.tracker_id,
            tracking_ms=1000 * float(np.median(spent)) if spent else 0.0,
        )
    finally:
        tracker.close()


@dataclass(frozen=True, slots=True, eq=False)
class EnrolledClip:
    """A clip whose first `cut` frames were enrolled: who it is, and the stream that codes the rest.

    `found` bool [T]: frames with exactly one face. `neutral` float32 [478, 3], model space.
    """

    cut: int
    found: NDArray[np.bool_]
    neutral: Landmarks
    fitter: Fitter
    header: StreamHeader


def enrol_clip(clip: TrackedClip) -> EnrolledClip | None:
    """Enrol on the first 60 %; `None` where too few frames of either part hold one face."""
    cut = round(ENROLMENT_SHARE * len(clip.landmarks))
    found = np.asarray(np.isfinite(clip.landmarks).all(axis=(1, 2)))
    if found[:cut].sum() < MIN_FRAMES // 2 or found[cut:].sum() < MIN_FRAMES // 2:
        return None
    model = FaceModel.load()
    neutral = estimate_neutral(clip.landmarks[:cut], model)
    unit_px = reference_scale(clip.landmarks[:cut], neutral, model)
    fitter = Fitter(model, neutral, unit_px=float(unit_px), width=clip.width, height=clip.height)
    first = clip.landmarks[cut : cut + REST_FRAMES][found[cut : cut + REST_FRAMES]]
    header = StreamHeader(
        stream=0,
        tracker=clip.tracker,
        model_id=model.model_id,
        tables_id=Tables.load().tables_id,
        avatar_id=bytes(8),
        tick_rate=tick_rate_for(clip.rate),
        unit_px=unit_px,
        width=clip.width,
        height=clip.height,
        rest_pose=rest_pose([fitter.fit(f) for f in first] or [FaceState.neutral()]),
    )
    return EnrolledClip(cut, found, neutral, fitter, header)


@dataclass(frozen=True, slots=True)
class Errors:
    """Mean 2-D distances over frames, in percent of the frame's inter-pupil distance."""

    total: float
    mouth: float
    eyes: float


@dataclass(frozen=True, slots=True, eq=False)
class CodedPart:
    """The part of a clip that is coded, one entry for each tick: fitted states and tracked landmarks.

    `frames` are their places in the clip. Ticks without a face repeat the state before, untracked.
    """

    clip: TrackedClip
    enrolled: EnrolledClip
    states: tuple[FaceState, ...]
    frames: tuple[int, ...]
    fit_ms: float

    @property
    def header(self) -> StreamHeader:
        """The stream's."""
        return self.enrolled.header

    @property
    def seconds(self) -> float:
        """How long the part lasts."""
        return len(self.states) / float(self.header.tick_rate)

    @property
    def tracked(self) -> list[int]:
        """The ticks at which a face was tracked."""
        return [tick for tick, state in enumerate(self.states) if state.tracked]

    def truth(self, ticks: Sequence[int]) -> Landmarks:
        """Return the tracked landmarks, float32 [n, 478, 3], at ticks that have them."""
        return self.clip.landmarks[[self.frames[tick] for tick in ticks]]

    def placed(self, states: Sequence[FaceState]) -> Landmarks:
        """Return where states put the landmarks, float32 [n, 478, 3], image space."""
        model, header = FaceModel.load(), self.header
        return np.array(
            [
                project(
                    model.vertices(self.enrolled.neutral, state.expression),
                    state.pose,
                    unit_px=float(header.unit_px),
                    width=header.width,
                    height=header.height,
                )
                for state in states
            ]
        )

    def kbps(self, byte_count: int) -> float:
        """Return the rate of so many bytes over the part."""
        return 8 * byte_count / self.seconds / 1000


def coded_part(clip: TrackedClip) -> CodedPart | None:
    """Enrol on the first 60 %, fit the last 40 %; `None` where too few frames hold one face."""
    enrolled = enrol_clip(clip)
    if enrolled is None:
        return None
    cut = enrolled.cut
    started = time.process_time()
    fitted = [
        enrolled.fitter.fit(landmarks) if ok else None
        for landmarks, ok in zip(clip.landmarks[cut:], enrolled.found[cut:], strict=True)
    ]
    fit_ms = 1000 * (time.process_time() - started) / len(fitted)
    clock = TickClock(enrolled.header.tick_rate, source_rate=clip.rate)
    ticks = [clock.tick_of(int(t)) for t in clip.times_us[cut:]]
    kept = [n for n, tick in enumerate(ticks) if tick is not None]
    states = _hold_lost(fitted)
    return CodedPart(clip, enrolled, tuple(states[n] for n in kept), tuple(cut + n for n in kept), fit_ms)


def errors(a: Landmarks, b: Landmarks, truth: Landmarks) -> Errors:
    """Return how far `a` is from `b`, both [n, 478, >= 2]; `truth` gives the inter-pupil distance."""
    eyes = EYES + IRISES
    return Errors(nme(a, b, truth), nme(a[:, LIPS], b[:, LIPS], truth), nme(a[:, eyes], b[:, eyes], truth))


def nme(a: Landmarks, b: Landmarks, truth: Landmarks) -> float:
    """Mean over frames of the mean 2-D distance, in percent of the frame's inter-pupil distance."""
    distance = np.linalg.norm(a[..., :2] - b[..., :2], axis=-1).mean(axis=1)
    return round(100 * float(np.mean(distance / inter_pupil_px(truth))), 4)


def _hold_lost(states: list[FaceState | None]) -> list[FaceState]:
    """Give frames without a face the last state, untracked."""
    last = FaceState.neutral()
    filled = []
    for state in states:
        if state is None:
            filled.append(FaceState(last.pose, last.expression, tracked=False))
        else:
            last = state
            filled.append(state)
    return filled
