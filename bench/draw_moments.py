"""Draws some moments of a clip: `python draw_moments.py CLIP OUT --cut 150 --at 8,60 --films 0-75 --size 512`.

It stands alone and uses little of the product, so that another version of the product can run it, too: the faults
page draws its "before" with it. Frame 0 of OUT is the first one after the clip's first 60 %, which is enrolled.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from mien.decoder.artist import Artist
from mien.decoder.output import VideoSink
from mien.decoder.recording import read_recording
from mien.decoder.replay_schedule import make_schedule
from mien.encoder.capture import open_source
from mien.encoder.enroll import Settings, Window, enroll_in_detail
from mien.encoder.owner_key import OwnerKey
from mien.encoder.scene_sender import SceneSettings
from mien.encoder.source_recorder import record_source
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.avatar import Avatar
from mien.protocol.consent import Consent
from mien.protocol.log import open_log
from mien.protocol.quantizer import Quality

TIERS: Final = {
    "W": False,
    "S": True,
}  # whether with the scene layer, by the generator where a version has one


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to draw: single frames, and films from one frame to another, that one left out."""

    moments: frozenset[int]
    films: tuple[tuple[int, int], ...]

    @property
    def numbers(self) -> list[int]:
        """All frames, in their order."""
        return sorted(self.moments.union(*(range(*film) for film in self.films)))


def draw_moments(clip: Path, out: Path, *, cut: int, wanted: Wanted, size_px: int, scene_kbps: float) -> None:
    """Write OUT/<tier>/<number>.png and OUT/<tier>/<from>-<to>.mp4, `size_px` on the longer side.

    Frame 0 is the clip's frame `cut`; frames that it does not have are left out.
    """
    avatar = enrol(clip, cut)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "talk.mien"
        with closing(open_source(str(clip))) as source, closing(open_tracker()) as tracker:
            scene = SceneSettings(scene_kbps)
            record_source(
                source, tracker, avatar, str(log), quality=Quality.NORMAL, skip_frames=cut, scene=scene
            )
            rate = source.rate
        with open_log(str(log)) as reader:
            recording = read_recording(reader)
    schedule = make_schedule([s for s in recording.segments if len(s.track)], None)
    header = recording.header
    scale = size_px / max(header.width, header.height)
    width, height = (max(2, 2 * round(scale * side / 2)) for side in (header.width, header.height))
    for tier, with_scene in TIERS.items():
        (out / tier).mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            artist = Artist(avatar, width=width, height=height, scene=with_scene, test_fixture=False)
            stack.callback(artist.close)
            films = {
                film: stack.enter_context(
                    VideoSink(out / tier / "{}-{}.mp4".format(*film), width=width, height=height, rate=rate)
                )
                for film in wanted.films
            }
            for number in wanted.numbers:
                if number >= len(schedule):
                    break
                rgb = artist.draw(schedule[number])
                if number in wanted.moments:
                    Image.fromarray(rgb).save(out / tier / f"{number}.png")
                for (first, end), sink in films.items():
                    if first <= number < end:
                        sink.write(rgb)


def enrol(clip: Path, frames: int) -> Avatar:
    """Make an avatar of a clip's first frames that nobody keeps."""
    with closing(open_source(str(clip))) as source:
        made = enroll_in_detail(
            source,
            consent=Consent.test_fixture(given_unix_s=0),
            name="bench",
            key=OwnerKey.throw_away(),
            settings=Settings(window=Window(frames=frames)),
        )
    return made.avatar


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cut", type=int, required=True, help="how many frames are enrolled")
    parser.add_argument("--at", required=True, help="numbers of frames after them, with commas")
    parser.add_argument("--films", default="", help="films FROM-TO, with commas")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--scene", type=float, default=6, help="kbps of the scene layer")
    options = parser.parse_args()
    films = [text.split("-") for text in options.films.split(",") if text]
    wanted = Wanted(
        frozenset(int(text) for text in options.at.split(",")),
        tuple((int(first), int(end)) for first, end in films),
    )
    draw_moments(
        options.clip,
        options.out,
        cut=options.cut,
        wanted=wanted,
        size_px=options.size,
        scene_kbps=options.scene,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
