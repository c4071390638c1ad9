"""Payload against landmark error on a clip: enrol on its first part, code the rest, compare."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.decoder.recording import Track
from mien.encoder.capture import Source
from mien.encoder.tick_clock import TickClock, tick_rate_for
from mien.encoder.tracker_choice import open_tracker
from mien.models.face_model import FaceModel, project
from mien.models.fit import Fitter, estimate_neutral, reference_scale, rest_pose
from mien.models.landmark_sets import EYES, IRISES, LIPS, inter_pupil_px
from mien.protocol.codec import MessageDecoder, MessageEncoder, frames_per_batch
from mien.protocol.quantizer import Quality
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


@dataclass(frozen=True, slots=True)
class RateResult:
    """One clip at one quality. Errors are mean 2-D distances in percent of the inter-pupil distance.

    `coding_nme`: decoded against fitted without quantising; `total_nme`, `mouth_nme`, `eyes_nme`: decoded
    against tracked. `wire_kbps` adds the data channel's headers, one way. Times are CPU milliseconds a frame.
    """

    clip: str
    quality: str
    frames: int
    seconds: float
    tracked_share: float
    payload_kbps: float
    wire_kbps: float
    coding_nme: float
    fit_nme: float
    total_nme: float
    mouth_nme: float
    eyes_nme: float
    tracking_ms: float
    fit_ms: float
    encode_ms: float
    decode_ms: float


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


def rate_quality(clip: TrackedClip, quality: Quality) -> RateResult | None:
    """Enrol on the first 60 %, code the last 40 %; `None` where too few frames hold one face."""
    enrolled = enrol_clip(clip)
    if enrolled is None:
        return None
    cut, found, fitter, header = enrolled.cut, enrolled.found, enrolled.fitter, enrolled.header
    model = FaceModel.load()

    started = time.process_time()
    states = _hold_lost([fitter.fit(f) if ok else None for f, ok in _test_part(clip, cut, found)])
    fit_ms = 1000 * (time.process_time() - started) / len(states)

    clock = TickClock(header.tick_rate, source_rate=clip.rate)
    ticks = [clock.tick_of(int(t)) for t in clip.times_us[cut:]]
    kept = [(state, frame) for state, frame, tick in zip(states, clip.landmarks[cut:], ticks, strict=True)
            if tick is not None]  # fmt: skip
    started = time.process_time()
    messages = list(_encode(header, quality, [state for state, _ in kept]))
    encoded = time.process_time()
    decoder = MessageDecoder(header)
    batches = [decoder.decode(data) for data in messages]
    finished = time.process_time()
    track = Track()
    for batch in batches:
        track.add(batch)
    decoded = [track.state_at(tick) for tick in range(len(kept))]

    def place(state: FaceState) -> Landmarks:
        vertices = model.vertices(enrolled.neutral, state.expression)
        return project(
            vertices, state.pose, unit_px=float(header.unit_px), width=clip.width, height=clip.height
        )

    tracked = [i for i, (state, _) in enumerate(kept) if state.tracked]
    truth = np.array([kept[i][1] for i in tracked])
    fitted = np.array([place(kept[i][0]) for i in tracked])
    received = np.array([place(decoded[i]) for i in tracked])
    seconds = len(kept) / float(header.tick_rate)
    bits = 8 * sum(len(m) for m in messages)
    return RateResult(
        clip=clip.name,
        quality=quality.name.lower(),
        frames=len(kept),
        seconds=round(seconds, 3),
        tracked_share=round(len(tracked) / len(kept), 4),
        payload_kbps=round(bits / seconds / 1000, 4),
        wire_kbps=round((bits + 8 * DATACHANNEL_BYTES * len(messages)) / seconds / 1000, 3),
        coding_nme=_nme(received, fitted, truth),
        fit_nme=_nme(fitted, truth, truth),
        total_nme=_nme(received, truth, truth),
        mouth_nme=_nme(received[:, LIPS], truth[:, LIPS], truth),
        eyes_nme=_nme(received[:, EYES + IRISES], truth[:, EYES + IRISES], truth),
        tracking_ms=round(clip.tracking_ms, 3),
        fit_ms=round(fit_ms, 3),
        encode_ms=round(1000 * (encoded - started) / len(kept), 4),
        decode_ms=round(1000 * (finished - encoded) / len(kept), 4),
    )


def _test_part(clip: TrackedClip, cut: int, found: NDArray[np.bool_]) -> Iterator[tuple[Landmarks, bool]]:
    return zip(clip.landmarks[cut:], (bool(f) for f in found[cut:]), strict=True)


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


def _encode(header: StreamHeader, quality: Quality, states: list[FaceState]) -> Iterator[bytes]:
    encoder = MessageEncoder(header, quality=quality, frames_per_message=frames_per_batch(header))
    for tick, state in enumerate(states):
        message = encoder.push(tick, state)
        if message is not None:
            yield message
    last = encoder.flush(last=True)
    if last is not None:
        yield last


def _nme(a: Landmarks, b: Landmarks, truth: Landmarks) -> float:
    """Mean over frames of the mean 2-D distance, in percent of the frame's inter-pupil distance."""
    distance = np.linalg.norm(a[..., :2] - b[..., :2], axis=-1).mean(axis=1)
    return round(100 * float(np.mean(distance / inter_pupil_px(truth))), 4)
