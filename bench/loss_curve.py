"""What packet loss does to the shown face: a clip's messages over a `Link`, the receiver, the error at each moment.

No sockets and no waiting: on the data channel a message leaves when the frame that completes it was taken, in
voice packets when a packet is due, so a run takes no longer than its arithmetic, and the same seed gives the same
figures. What the sender's and the receiver's machines take is not in the delay.

A clip is judged as a part of a call, not as its beginning: before it runs its own first two seconds, backwards, in
which the receiver learns how long to wait, and the losses to come in bursts. Nothing of them is judged.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.bench.impairment import GilbertElliott, Link, Loss, Profile, RandomLoss
from mien.bench.rate_quality import DATACHANNEL_BYTES, TrackedClip, enrol_clip
from mien.call.redundancy import NO_REPEATS, Redundancy
from mien.decoder.playout import PlayoutSettings, Shown, Status
from mien.decoder.receiver import Receiver
from mien.encoder.sender import FaceSender
from mien.encoder.tracker import Tracking
from mien.models.face_model import FaceModel, project
from mien.models.landmark_sets import LIPS, inter_pupil_px
from mien.protocol.message import MAX_FRAMES_PER_MESSAGE
from mien.protocol.quantizer import Quality
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader

Landmarks = NDArray[np.float32]

BURST_PACKETS: Final = 5.0
SHARES: Final = (0.0, 0.05, 0.1, 0.2, 0.3)
RENDER_RATE: Final = 30
LEAD_IN_US: Final = 2_000_000
START_US: Final = 1_000_000_000  # of the receiver's clock: that it is not the sender's must not matter


@dataclass(frozen=True, slots=True)
class Carriage:
    """How messages travel: in messages of the data channel, or in every so many-th packet of a voice."""

    name: str
    packet_ms: int | None = None  # of the voice; None: the data channel
    every: int = 1  # packet carries a message

    @property
    def span(self) -> int | None:
        """The frames of a message, about, where packets cut them."""
        return None if self.packet_ms is None else max(1, round(self.packet_ms * self.every * 30 / 1000))


DATA_CHANNEL: Final = Carriage("data channel")
CARRIAGES: Final = (DATA_CHANNEL, Carriage("audio 60 ms", 60), Carriage("audio 40 ms", 40))
VOICE_BYTES: Final = 28 + 12 + 10 + 5  # IP, UDP, RTP and its seal, and what frames a message in the padding
VOICE_KBPS: Final = 12


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
    """A clip's coded part: its packets with the times at which they leave, and where the face really was."""

    name: str
    quality: Quality
    header: StreamHeader
    neutral: Landmarks  # [478, 3], model space
    carriage: Carriage
    redundancy: Redundancy
    packets: tuple[tuple[int, int, bytes | None], ...]  # when each leaves, its bytes, the message in it
    truth: dict[int, Landmarks]  # [478, 2] in pixels, by tick
    start_us: int  # of tick 0
    end_us: int


@dataclass(frozen=True, slots=True)
class LossResult:
    """One clip under one pattern, over all seeds.

    Errors are mean 2-D distances in percent of the inter-pupil distance, shown against tracked at the shown
    moment. `concealed`: share of pictures that were made up, until the last message was due. `held`: share that
    show no later moment than the picture before them: nobody made anything up, but a face stood still that did not.
    `delay_ms`: from a moment to its picture, median; the link's own delay is in it. `lost`: share of packets that
    did get lost.
    """

    clip: str
    quality: str
    carriage: str
    copies: int
    lag: int
    kind: str
    loss: float
    lost: float
    pictures: int
    nme: float
    nme_p95: float
    mouth_nme: float
    concealed: float
    held: float
    delay_ms: float
    payload_kbps: float
    seeds: int


def code_clip(
    clip: TrackedClip,
    quality: Quality,
    carriage: Carriage = DATA_CHANNEL,
    redundancy: Redundancy = NO_REPEATS,
) -> CodedClip | None:
    """Enrol on the first 60 %, code the last 40 %; `None` where too few frames hold one face."""
    enrolled = enrol_clip(clip)
    if enrolled is None:
        return None
    cut, found, header = enrolled.cut, enrolled.found, enrolled.header
    sender = FaceSender(header, enrolled.fitter, quality=quality, source_rate=clip.rate)
    if carriage.packet_ms is not None:
        sender.set_frames_per_message(MAX_FRAMES_PER_MESSAGE)
    elif redundancy.frames is not None:
        sender.set_frames_per_message(max(1, round(redundancy.frames * header.tick_rate / 30)))
    sender.set_repeats(redundancy.copies, redundancy.lag, span=carriage.span, stride=redundancy.stride)
    clock = _PacketClock(carriage, sender)
    truth = {}
    times_us = clip.times_us[cut:] - clip.times_us[cut]
    lead_in = range(min(int(np.searchsorted(times_us, LEAD_IN_US)), len(times_us) - 1), 0, -1)
    start_us = int(times_us[lead_in.start])  # of the clip itself
    moments = [(start_us - int(times_us[n]), n, False) for n in lead_in]
    moments += [(start_us + int(time_us), n, True) for n, time_us in enumerate(times_us)]
    for now_us, n, judged in moments:
        landmarks, ok = clip.landmarks[cut + n], found[cut + n]
        clock.advance(now_us)
        clock.take(sender.on_tracking(now_us, Tracking((landmarks,) if ok else ())), now_us)
        if judged and ok and sender.frame_tick is not None:
            truth[sender.frame_tick] = landmarks[:, :2]
    end_us = moments[-1][0]
    clock.take(sender.finish(), end_us)
    return CodedClip(
        name=clip.name,
        quality=quality,
        header=header,
        neutral=enrolled.neutral,
        carriage=carriage,
        redundancy=redundancy,
        packets=tuple(clock.packets),
        truth=truth,
        start_us=0,
        end_us=end_us,
    )


class _PacketClock:
    """Says which packets leave when: each message its own, or the voice's at their times."""

    def __init__(self, carriage: Carriage, sender: FaceSender) -> None:
        self.packets: list[tuple[int, int, bytes | None]] = []
        self._carriage = carriage
        self._sender = sender
        self._due_us: int | None = None

    def advance(self, now_us: int) -> None:
        """Let the voice packets leave that are due before a frame that is taken now."""
        if self._carriage.packet_ms is None:
            return
        period_us = 1000 * self._carriage.packet_ms
        if self._due_us is None:
            self._due_us = now_us + period_us
        while self._due_us < now_us:
            rides = len(self.packets) % self._carriage.every == 0
            message = self._sender.cut() if rides else None
            size = VOICE_BYTES + VOICE_KBPS * self._carriage.packet_ms // 8 + len(message or b"")
            self.packets.append((self._due_us, size, message))
            self._due_us += period_us

    def take(self, messages: list[bytes], now_us: int) -> None:
        """Let messages leave that are complete by themselves."""
        self.packets += [(now_us, DATACHANNEL_BYTES + len(m), m) for m in messages]


def measure_loss(
    clip: CodedClip, pattern: LossPattern, path: Profile, *, seeds: int, settings: PlayoutSettings
) -> LossResult:
    """Send the clip `seeds` times; `path` is everything about the link but its loss."""
    first = zlib.crc32(clip.name.encode()) % 1000 * seeds  # so that clips do not meet the same losses
    links = [Link(replace(path, loss=pattern.model), seed=first + n) for n in range(seeds)]
    runs = [_Run(clip, link, settings) for link in links]
    errors = np.concatenate([run.errors() for run in runs])
    delays_us = list(chain.from_iterable(run.delays_us for run in runs))
    pictures = sum(run.pictures for run in runs)
    seconds = (clip.end_us - clip.start_us) / 1e6
    return LossResult(
        clip=clip.name,
        quality=clip.quality.name.lower(),
        carriage=clip.carriage.name,
        copies=clip.redundancy.copies,
        lag=clip.redundancy.lag,
        kind=pattern.kind,
        loss=pattern.share,
        lost=round(sum(r.link.counts.lost for r in runs) / (seeds * len(clip.packets)), 4),
        pictures=pictures,
        nme=_rounded(np.mean, errors[:, 0]),
        nme_p95=_rounded(lambda e: np.percentile(e, 95), errors[:, 0]),
        mouth_nme=_rounded(np.mean, errors[:, 1]),
        concealed=round(sum(r.concealed for r in runs) / pictures, 4) if pictures else 0.0,
        held=round(sum(r.held for r in runs) / pictures, 4) if pictures else 0.0,
        delay_ms=round(float(np.median(delays_us)) / 1000, 1) if delays_us else 0.0,
        payload_kbps=round(8 * sum(len(m) for _, _, m in clip.packets if m) / seconds / 1000, 3),
        seeds=seeds,
    )


class _Run:
    """One pass of the clip. Pictures are drawn until the last message has arrived where none is lost."""

    def __init__(self, clip: CodedClip, link: Link, settings: PlayoutSettings) -> None:
        self.link = link
        self.delays_us: list[int] = []
        self.pictures = 0
        self.concealed = 0
        self.held = 0
        self._clip = clip
        self._states: list[FaceState] = []
        self._truths: list[Landmarks] = []
        self._tick: Fraction | None = None
        self._play(Receiver(clip.header, settings=settings))

    def _play(self, receiver: Receiver) -> None:
        clip = self._clip
        arrivals = sorted(
            (START_US + arrival_us, number)
            for number, (left_us, size, message) in enumerate(clip.packets)
            for arrival_us in self.link.send(left_us, size)
            if message is not None
        )
        waiting = iter(arrivals)
        following = next(waiting, None)
        for picture in range((clip.end_us - clip.start_us) * RENDER_RATE // 1_000_000):
            now_us = clip.start_us + picture * 1_000_000 // RENDER_RATE
            while following is not None and following[0] <= START_US + now_us:
                receiver.on_message(clip.packets[following[1]][2] or b"", following[0])
                following = next(waiting, None)
            self._judge(receiver.show(START_US + now_us), now_us)

    def errors(self) -> NDArray[np.float64]:
        """Return the error of each picture, float64 [n, 2]: of all points, and of the mouth's."""
        clip, header = self._clip, self._clip.header
        rows = []
        for state, truth in zip(self._states, self._truths, strict=True):
            vertices = FaceModel.load().vertices(clip.neutral, state.expression)
            points = project(
                vertices, state.pose, unit_px=float(header.unit_px), width=header.width, height=header.height
            )
            distances = 100 * np.linalg.norm(points[:, :2] - truth, axis=1) / inter_pupil_px(truth)
            rows.append((float(distances.mean()), float(distances[list(LIPS)].mean())))
        return np.array(rows, np.float64).reshape(-1, 2)

    def _judge(self, shown: Shown, now_us: int) -> None:
        before, self._tick = self._tick, shown.tick
        if shown.tick is None:
            return
        truth = self._truth_at(float(shown.tick))
        if truth is None or shown.status is Status.UNTRACKED:
            return
        self.pictures += 1
        self.concealed += shown.status in (Status.CONCEALED, Status.LOST)
        self.held += before is not None and shown.tick <= before
        moment_us = self._clip.start_us + round(shown.tick / self._clip.header.tick_rate * 1_000_000)
        self.delays_us.append(now_us - moment_us)
        self._states.append(shown.state)
        self._truths.append(truth)

    def _truth_at(self, tick: float) -> Landmarks | None:
        """The tracked face at a moment between two frames; `None` where either of them held none."""
        before = int(np.floor(tick))
        one, other = self._clip.truth.get(before), self._clip.truth.get(before + 1)
        if one is None or other is None:
            return one if tick == before else None
        return one + (other - one) * np.float32(tick - before)


def _rounded(figure: Callable[[NDArray[np.float64]], Any], values: NDArray[np.float64]) -> float:
    return round(float(figure(values)), 4) if len(values) else float("nan")
