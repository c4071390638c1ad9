"""What a fine-tune learns from and is judged by: stretches of the owner's clip, coded as in a call.

Scenes are coded as by default: without the face. The clip's first part is learned from. It is cut in two; an avatar made of either half is drawn moving as the other one
does, because an avatar's references match the frames that they were taken from as no later frame will. The clip's
last part is nobody's to learn from: on it the tuned generator is compared with the one for everybody.
"""

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.encoder.capture import Frame, Source
from mien.encoder.enroll import Settings, Window, enroll_in_detail
from mien.encoder.owner_key import OwnerKey
from mien.encoder.scene_encoder import SceneEncoder
from mien.encoder.source_recorder import record_source
from mien.encoder.tracker import Tracker, Tracking
from mien.protocol.avatar import Avatar
from mien.protocol.consent import Consent
from mien.protocol.errors import MienError
from mien.protocol.log import FramesRecord, LogReader
from mien.protocol.quantizer import Quality
from mien.protocol.scene import SceneUnit
from mien.protocol.stream import TrackerId

LEAST_S: Final = 5.0  # of the clip with a face
MOST_S: Final = 60.0
LEARNED_SHARE: Final = 0.76
STRETCH_S: Final = 3.0
MOST_STRETCHES: Final = 2  # of each half
JUDGED_S: Final = 5.0
SCENE_KBPS: Final = (5.0, 4.0, 7.0)  # the first is the one that is judged by
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames of the clip, and the frames of which the avatar is made that they are drawn with."""

    drawn: range
    enrolled: range


@dataclass(frozen=True, slots=True, eq=False)
class Talk:
    """A stretch as a receiver gets it: an avatar, the log's bytes, scenes, and the frames as they were.

    `scenes`: of each of `SCENE_KBPS`. `originals`: RGB uint8 [h, w, 3], of the size that was asked for.
    """

    avatar: Avatar
    log: bytes
    scenes: tuple[tuple[SceneUnit, ...], ...]
    originals: tuple[NDArray[np.uint8], ...]


@dataclass(frozen=True, slots=True)
class Division:
    """What of a clip is for what."""

    learned: tuple[Stretch, ...]
    judged: Stretch


def divide(frames: int, rate: Fraction) -> Division:
    """Divide a clip of so many frames. Raises `MienError` for one that is too short."""
    frames = min(frames, int(MOST_S * rate))
    seconds = frames / float(rate)
    if seconds < LEAST_S:
        raise MienError(
            f"a fine-tune needs {LEAST_S:g} seconds of you, half of them to learn from twice and some to judge by; "
            f"this is {seconds:.1f}: use a longer clip, or leave out --finetune"
        )
    end = int(LEARNED_SHARE * frames)
    halves = range(end // 2), range(end // 2, end)
    learned = [
        Stretch(part, other)
        for half, other in (halves, halves[::-1])
        for part in _spread(half, int(STRETCH_S * rate))
    ]
    judged = range(end, min(frames, end + int(JUDGED_S * rate)))
    return Division(tuple(learned), Stretch(judged, halves[1]))


def _spread(frames: range, length: int) -> Iterator[range]:
    """Give stretches of at most this length, evenly spread."""
    count = min(MOST_STRETCHES, max(1, len(frames) // length))
    each = len(frames) // count
    for number in range(count):
        start = frames.start + number * each + max(0, each - length) // 2
        yield range(start, start + min(length, each))


class Remembered:
    """A tracker that says again what it said of a clip's frames, by their time. It tracks what it has not seen yet."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._said: dict[int, Tracking] = {}

    @property
    def tracker_id(self) -> TrackerId:
        """Which tracker it is."""
        return self._tracker.tracker_id

    @property
    def frames(self) -> int:
        """How many frames it has seen."""
        return len(self._said)

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        """Find the faces of a frame."""
        if timestamp_us not in self._said:
            self._said[timestamp_us] = self._tracker.track(rgb, timestamp_us)
        return self._said[timestamp_us]

    def close(self) -> None:
        """Nothing: whoever opened the tracker closes it."""


class Windowed:
    """The part of a clip that an enrolment's window leaves, as a source. Times and numbers stay the clip's."""

    live = False

    def __init__(self, source: Source, window: Window) -> None:
        self.width, self.height, self.rate, self.name = source.width, source.height, source.rate, source.name
        self._source, self._window = source, window

    def __iter__(self) -> Iterator[Frame]:
        window = self._window
        later = (frame for frame in self._source if frame.timestamp_us >= window.start_us)
        for frame in islice(later, window.frames):
            if window.end_us is not None and frame.timestamp_us >= window.end_us:
                return
            yield frame

    def close(self) -> None:
        """Nothing: whoever opened the clip closes it."""


class Part:
    """Some frames of a clip, as a source. Times and numbers stay the clip's."""

    live = False

    def __init__(self, source: Source, frames: range) -> None:
        self.width, self.height, self.rate, self.name = source.width, source.height, source.rate, source.name
        self._source, self._frames = source, frames

    def __iter__(self) -> Iterator[Frame]:
        return islice(iter(self._source), self._frames.start, self._frames.stop)

    def close(self) -> None:
        """Nothing: whoever opened the clip closes it."""


class TalkMaker:
    """Codes stretches of one clip. Avatars of a part are made once; they are signed by nobody, and not kept."""

    def __init__(self, source: Source, tracker: Tracker, settings: Settings, tell: Tell) -> None:
        """`settings`: of the avatar that the tuning is for; the avatars made here are like it."""
        self._source, self._tracker, self._tell = source, tracker, tell
        self._settings = replace(settings, window=Window(), expires_unix_s=None)
        self._avatars: dict[range, Avatar] = {}

    def talk(self, stretch: Stretch, size: tuple[int, int]) -> Talk:
        """Code a stretch; `size` is width and height that the originals are wanted in.

        Raises `MienError` where no avatar can be made of the frames, or no face is found in them.
        """
        avatar = self._avatar_of(stretch.enrolled)
        part = Part(self._source, stretch.drawn)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "talk.mien"
            record_source(part, self._tracker, avatar, str(path), quality=Quality.NORMAL)
            log = path.read_bytes()
        with LogReader(io.BytesIO(log)) as reader:
            tick_rate = reader.header.stream.tick_rate
            records = [record for record in reader.records() if isinstance(record, FramesRecord)]
        ticks = [frame.tick for record in records for frame in record.frames]
        originals = []
        with contextlib.ExitStack() as stack:
            encoders = [stack.enter_context(closing(self._encoder(kbps, tick_rate))) for kbps in SCENE_KBPS]
            scenes: list[list[SceneUnit]] = [[] for _ in encoders]
            for frame, tick in zip(part, ticks, strict=True):
                originals.append(
                    np.asarray(cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
                )
                if tick is None:
                    continue
                faces = self._tracker.track(frame.rgb, frame.timestamp_us).faces
                for encoder, units in zip(encoders, scenes, strict=True):
                    unit = encoder.encode(tick, frame.rgb, faces[0] if len(faces) == 1 else None)
                    if unit is not None:
                        units.append(unit)
        return Talk(avatar, log, tuple(map(tuple, scenes)), tuple(originals))

    def _encoder(self, kbps: float, tick_rate: Fraction) -> SceneEncoder:
        return SceneEncoder(
            width=self._source.width, height=self._source.height, tick_rate=tick_rate, kbps=kbps
        )

    def _avatar_of(self, frames: range) -> Avatar:
        if frames not in self._avatars:
            enrolment = enroll_in_detail(
                Part(self._source, frames),
                consent=Consent.test_fixture(
                    given_unix_s=0
                ),  # it leaves this machine as little as a test picture
                name="",
                key=OwnerKey.throw_away(),
                tracker=self._tracker,
                settings=self._settings,
                progress=self._tell,
            )
            self._avatars[frames] = enrolment.avatar
        return self._avatars[frames]
