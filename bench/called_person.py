"""Who is seen in a measured call: the test picture, or a clip. Enrolled on one part, tracked in another."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mien.bench.played_face import Take
from mien.bench.two_way_call import Person
from mien.encoder.capture import Frame, Source, open_source
from mien.encoder.enroll import enroll_in_detail
from mien.encoder.excerpt import Excerpt
from mien.encoder.owner_key import OwnerKey
from mien.encoder.synthetic_source import SyntheticSource
from mien.encoder.tracker import Tracker
from mien.protocol.consent import Consent
from mien.protocol.errors import MienError

ENROLMENT_SHARE: Final = 0.6  # of a clip
MAX_ENROL_S: Final = 20.0
MAX_TAKE_FRAMES: Final = 600
SYNTHETIC_ENROL_S: Final = 4.0
SYNTHETIC_TAKE_S: Final = 8.0
SYNTHETIC_TAKE_AT_S: Final = 100.0  # another part of the script than the one that is enrolled


def called_person(clip: Path | None, tracker: Tracker) -> Person:
    """Enrol and track. Raises `MienError` for a clip without a face, or that cannot be read."""
    enrolled, played = parts(clip)
    key = OwnerKey.throw_away()
    avatar = enrol(enrolled, key, tracker)
    return Person(Take.of(played, tracker, max_frames=MAX_TAKE_FRAMES), avatar, key)


def enrol(frames: Iterable[Frame], key: OwnerKey, tracker: Tracker) -> bytes:
    """Return an avatar that is good for this measurement only."""
    consent = Consent.test_fixture(given_unix_s=0)
    return enroll_in_detail(frames, consent=consent, name="bench", key=key, tracker=tracker).data


def parts(clip: Path | None) -> tuple[Source, Source]:
    """Return what is enrolled, and what is played. Decodes a clip once, to know how long it is."""
    if clip is None:
        return (
            SyntheticSource(SYNTHETIC_ENROL_S),
            SyntheticSource(SYNTHETIC_TAKE_S, start_s=SYNTHETIC_TAKE_AT_S),
        )
    times_us = [frame.timestamp_us for frame in open_source(str(clip))]
    split = int(ENROLMENT_SHARE * len(times_us))
    if split < 2 or len(times_us) - split < 2:
        raise MienError(f"{clip} has {len(times_us)} frames, too few for a call")
    split_s, end_s = times_us[split] / 1e6, times_us[-1] / 1e6 + 1
    return (
        Excerpt(open_source(str(clip)), max(0.0, split_s - MAX_ENROL_S), split_s),
        Excerpt(open_source(str(clip)), split_s, end_s),
    )
