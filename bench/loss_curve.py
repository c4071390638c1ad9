"""What packet loss does to the shown face: a clip's messages over a `Link`, the receiver, the error at each moment.

No sockets and no waiting: a message leaves when the frame that completes it was taken, so a run takes no longer
than its arithmetic, and the same seed gives the same figures. What the sender's and the receiver's machines
take is not in the delay.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.bench.impairment import GilbertElliott, Link, Loss, Profile, RandomLoss
from mien.bench.rate_quality import DATACHANNEL_BYTES, TrackedClip, enrol_clip
from mien.decoder.playout import PlayoutSettings, Shown, Status
from mien.decoder.receiver import Receiver
from mien.encoder.sender import FaceSender
from mien.encoder.tracker import Tracking
from mien.models.face_model import FaceModel, project
from mien.models.landmark_sets import LIPS, inter_pupil_px
from mien.protocol.quantizer import Quality
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader

Landmarks = NDArray[np.float32]

BURST_PACKETS: Final = 5.0
SHARES: Final = (0.0, 0.05, 0.1, 0.2, 0.3)
RENDER_RATE: Final = 30
START_US: Final = 1_000_000_000  # of the receiver's clock: that it is not the sender's must not matter


@dataclass(frozen=True, slots=True)
class LossPattern:
    """A kind of loss at one share."""

    kind: str  # "random" or "bursts"
    share: float

    @property
    def model(self) -> Loss | None:
        """What the link is to do."""
        if self.share == 0:
            return None
        if self.kind == "random":
            return RandomLoss(self.share)
        return GilbertElliott.bursts(self.share, BURST_PACKETS)


PATTERNS: Final = tuple(
    LossPattern(kind, share) for kind in ("random", "bursts") for share in SHARES if share or kind == "random"
)


@dataclass(frozen=True, slots=True, eq=False)
class CodedClip:
    """A clip's coded part: its messages with the times at which they leave, and where the face really was."""

    name: str
    quality: Quality
    header: StreamHeader
    neutral: Landmarks  # [478, 3], model space
    history: bool
    messages: tuple[tuple[int, bytes], ...]
    truth: dict[int, Landmarks]  # [478, 2] in pixels, by tick
    start_us: int  # of tick 0
    end_us: int


@dataclass(frozen=True, slots=True)
class LossResult:
    """One clip under one pattern, over all seeds.

    Errors are mean 2-D distances in percent of the inter-pupil distance, shown against tracked at the shown
    moment. `concealed`: share of pictures that were made up, until the last message was due. `delay_ms`: from a
    moment to its picture, median; the link's own delay is in it. `lost`: share of messages that did get lost.
    """

    clip: str
    quality: str
    history: bool
    kind: str
    loss: float
    lost: float
    pictures: int
    nme: float
    nme_p95: float
    mouth_nme: float
    concealed: float
    delay_ms: float
    payload_kbps: float
    seeds: int


def code_clip(clip: TrackedClip, quality: Quality, *, history: bool = False) -> CodedClip | None:
    """Enrol on the first 60 %, code the last 40 %; `None` where too few frames hold one face.

    `history`: each message repeats the one before it, coarsely.
    """
    enrolled = enrol_clip(clip)
    if enrolled is None:
        return None
    cut, found, header = enrolled.cut, enrolled.found, enrolled.header
    sender = FaceSender(header, enrolled.fitter, quality=quality, source_rate=clip.rate)
    sender.repeat_history(history)
    messages: list[tuple[int, bytes]] = []
    truth = {}
    times_us = [int(t) for t in clip.times_us[cut:]]
    for time_us, landmarks, ok in zip(times_us, clip.landmarks[cut:], found[cut:], strict=True):
        messages += [(time_us, m) for m in sender.on_tracking(time_us, Tracking((landmarks,) if ok else ()))]
        if ok and sender.frame_tick is not None:
            truth[sender.frame_tick] = landmarks[:, :2]
    messages += [(times_us[-1], m) for m in sender.finish()]
    return CodedClip(
        clip.name,
        quality,
        header,
        enrolled.neutral,
        history,
        tuple(messages),
        truth,
        times_us[0],
        times_us[-1],
    )


def measure_loss(
    clip: CodedClip, pattern: LossPattern, path: Profile, *, seeds: int, settings: PlayoutSettings
) -> LossResult:
    """Send the clip `seeds` times; `path` is everything about the link but its loss."""
    runs = [_Run(clip, Link(replace(path, loss=pattern.model), seed=seed), settings) for seed in range(seeds)]
    errors = np.array(list(chain.from_iterable(run.errors for run in runs))).reshape(-1, 2)
    delays_us = list(chain.from_iterable(run.delays_us for run in runs))
    pictures = sum(run.pictures for run in runs)
    seconds = (clip.end_us - clip.start_us) / 1e6
    return LossResult(
        clip=clip.name,
        quality=clip.quality.name.lower(),
        history=clip.history,
        kind=pattern.kind,
        loss=pattern.share,
        lost=round(sum(r.link.counts.lost for r in runs) / (seeds * len(clip.messages)), 4),
        pictures=pictures,
        nme=_rounded(np.mean, errors[:, 0]),
        nme_p95=_rounded(lambda e: np.percentile(e, 95), errors[:, 0]),
        mouth_nme=_rounded(np.mean, errors[:, 1]),
        concealed=round(sum(r.concealed for r in runs) / pictures, 4) if pictures else 0.0,
        delay_ms=round(float(np.median(delays_us)) / 1000, 1) if delays_us else 0.0,
        payload_kbps=round(8 * sum(len(m) for _, m in clip.messages) / seconds / 1000, 3),
        seeds=seeds,
    )


class _Run:
    """One pass of the clip. Pictures are drawn until the last message has arrived where none is lost."""

    def __init__(self, clip: CodedClip, link: Link, settings: PlayoutSettings) -> None:
        self.link = link
        self.errors: list[tuple[float, float]] = []  # all, mouth
        self.delays_us: list[int] = []
        self.pictures = 0
        self.concealed = 0
        self._clip = clip
        self._play(Receiver(clip.header, settings=settings))

    def _play(self, receiver: Receiver) -> None:
        clip = self._clip
        arrivals = sorted(
            (START_US + arrival_us, number)
            for number, (left_us, data) in enumerate(clip.messages)
            for arrival_us in self.link.send(left_us, len(data) + DATACHANNEL_BYTES)
        )
        waiting = iter(arrivals)
        following = next(waiting, None)
        for picture in range((clip.end_us - clip.start_us) * RENDER_RATE // 1_000_000):
            now_us = clip.start_us + picture * 1_000_000 // RENDER_RATE
            while following is not None and following[0] <= START_US + now_us:
                receiver.on_message(clip.messages[following[1]][1], following[0])
                following = next(waiting, None)
            self._judge(receiver.show(START_US + now_us), now_us)

    def _judge(self, shown: Shown, now_us: int) -> None:
        if shown.tick is None:
            return
        truth = self._truth_at(float(shown.tick))
        if truth is None or shown.status is Status.UNTRACKED:
            return
        self.pictures += 1
        self.concealed += shown.status in (Status.CONCEALED, Status.LOST)
        moment_us = self._clip.start_us + round(shown.tick / self._clip.header.tick_rate * 1_000_000)
        self.delays_us.append(now_us - moment_us)
        self.errors.append(self._error(shown.state, truth))

    def _truth_at(self, tick: float) -> Landmarks | None:
        """The tracked face at a moment between two frames; `None` where either of them held none."""
        before = int(np.floor(tick))
        one, other = self._clip.truth.get(before), self._clip.truth.get(before + 1)
        if one is None or other is None:
            return one if tick == before else None
        return one + (other - one) * np.float32(tick - before)

    def _error(self, state: FaceState, truth: Landmarks) -> tuple[float, float]:
        clip, header = self._clip, self._clip.header
        vertices = FaceModel.load().vertices(clip.neutral, state.expression)
        points = project(
            vertices, state.pose, unit_px=float(header.unit_px), width=header.width, height=header.height
        )
        distances = 100 * np.linalg.norm(points[:, :2] - truth, axis=1) / inter_pupil_px(truth)
        return float(distances.mean()), float(distances[list(LIPS)].mean())


def _rounded(figure: Callable[[NDArray[np.float64]], Any], values: NDArray[np.float64]) -> float:
    return round(float(figure(values)), 4) if len(values) else float("nan")
