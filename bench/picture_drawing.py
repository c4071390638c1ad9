"""Our side of the picture bench: enrol, code, and draw by the product's own path."""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mien.bench.picture_metrics import Picture
from mien.bench.scene_wire import Overheard, from_zero, scene_by_tick, sent_by_audio, sent_by_channel
from mien.decoder.artist import Artist
from mien.decoder.recording import Recording, read_recording
from mien.decoder.replay_schedule import make_schedule
from mien.encoder.capture import Source
from mien.encoder.enroll import Enrolment, Settings, enroll_in_detail
from mien.encoder.owner_key import OwnerKey
from mien.encoder.scene_sender import SceneSettings
from mien.encoder.sender import FaceSender
from mien.encoder.source_recorder import TrackedFrame, look_ahead, open_stream, record_source
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.avatar import Avatar
from mien.protocol.consent import Consent
from mien.protocol.log import open_log
from mien.protocol.quantizer import Quality

KEPT: Final = 8  # pictures that may be asked for again: as one with the badge, by a neighbour


@dataclass(frozen=True, slots=True, eq=False)
class Talk:
    """What was coded: its states and its scene, and what a call would send of it.

    `messages`, `payload_kbps` and `wire_kbps` by the data channel, `audio_wire_kbps` in the packets of a voice of 60
    ms that never pauses. In a log messages are longer than there.
    """

    recording: Recording
    messages: int
    payload_kbps: float
    wire_kbps: float
    audio_wire_kbps: float


def enrol(source: Source, references: int | None = None) -> Enrolment:
    """Make an avatar that lives only as long as this measurement. Raises `MienError`."""
    settings = Settings() if references is None else Settings(references=references)
    return enroll_in_detail(
        source,
        consent=Consent.test_fixture(given_unix_s=0),
        name="bench",
        key=OwnerKey.throw_away(),
        settings=settings,
    )


def code(source: Source, avatar: Avatar, quality: Quality, scene_kbps: float = 0) -> Talk:
    """Track and code a source, and read it back as a receiver would. Raises `MienError`."""
    scene = SceneSettings(scene_kbps) if scene_kbps else None
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "talk.mien"
        with closing(Overheard(open_tracker())) as tracker:
            record_source(source, tracker, avatar, str(log), quality=quality, scene=scene)
        with open_log(str(log)) as reader:
            recording = read_recording(reader)
    segments = recording.segments
    seconds = sum(len(s.source_frames()) for s in segments) / float(source.rate)
    pictures = scene_by_tick(message for s in segments for _, message in s.scene)

    def sender() -> FaceSender:
        tracked = (TrackedFrame(time_us, tracking) for time_us, tracking in from_zero(tracker.said))
        return open_stream(source, tracker, avatar, look_ahead(tracked), quality=quality)[0]

    by_channel = sent_by_channel(sender(), tracker.said, pictures)
    by_audio = sent_by_audio(sender(), tracker.said, pictures)
    return Talk(
        recording=recording,
        messages=by_channel.messages,
        payload_kbps=8 * by_channel.payload_bytes / seconds / 1000,
        wire_kbps=8 * by_channel.wire_bytes / seconds / 1000,
        audio_wire_kbps=8 * by_audio.wire_bytes / seconds / 1000,
    )


class Drawn:
    """The pictures of a talk at one size: number i is frame i of the part that was coded."""

    def __init__(self, talk: Talk, artist: Artist) -> None:
        self._schedule = make_schedule([s for s in talk.recording.segments if len(s.track)], None)
        self._artist = artist
        self._painted: dict[int, Picture] = {}  # the latest few

    def __len__(self) -> int:
        return len(self._schedule)

    def __getitem__(self, number: int) -> Picture:
        return self._artist.finish(self.bare(number), self._schedule[number])

    def bare(self, number: int) -> Picture:
        """Return a picture before the badge is drawn, which no viewer sees."""
        if number not in self._painted:
            while len(self._painted) >= KEPT:
                del self._painted[next(iter(self._painted))]
            self._painted[number] = self._artist.paint(self._schedule[number])
        return self._painted[number]


@contextmanager
def draw(avatar: Avatar, talk: Talk, size_px: int, *, generator: bool = True) -> Iterator[Drawn]:
    """Give the pictures as `mien replay --size` draws them, with the badge of a person's own avatar.

    `generator`: whether a scene is painted with it, where it can be run.
    """
    header = talk.recording.header
    scale = size_px / max(header.width, header.height)
    width, height = (max(2, 2 * round(scale * side / 2)) for side in (header.width, header.height))
    artist = Artist(
        avatar, width=width, height=height, backend="auto", test_fixture=False, generator=generator
    )
    with closing(artist):
        yield Drawn(talk, artist)
