"""Draws some moments of a clip as pictures: `python draw_moments.py CLIP OUT --at 8,60 --size 512`.

It stands alone and uses little of the product, so that another version of the product can run it, too: the faults
page draws its "before" with it. Frame 0 of OUT is the first one after the clip's first 60 %, which is enrolled.
"""

import argparse
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from PIL import Image

from mien.decoder.artist import Artist
from mien.decoder.recording import read_recording
from mien.decoder.replay_schedule import make_schedule
from mien.encoder.capture import open_source
from mien.encoder.enroll import Settings, Window, enroll_in_detail
from mien.encoder.owner_key import OwnerKey
from mien.encoder.source_recorder import record_source
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.avatar import Avatar
from mien.protocol.consent import Consent
from mien.protocol.log import open_log
from mien.protocol.quantizer import Quality


def draw_moments(clip: Path, out: Path, *, cut: int, numbers: list[int], size_px: int) -> None:
    """Write the pictures of frames `cut` + `numbers` as OUT/<number>.png, `size_px` on the longer side."""
    avatar = enrol(clip, cut)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "talk.mien"
        with closing(open_source(str(clip))) as source, closing(open_tracker()) as tracker:
            record_source(source, tracker, avatar, str(log), quality=Quality.NORMAL, skip_frames=cut)
        with open_log(str(log)) as reader:
            recording = read_recording(reader)
    schedule = make_schedule([s for s in recording.segments if len(s.track)], None)
    header = recording.header
    scale = size_px / max(header.width, header.height)
    width, height = (max(2, 2 * round(scale * side / 2)) for side in (header.width, header.height))
    with closing(Artist(avatar, width=width, height=height, backend="auto")) as artist:
        for number in numbers:
            rgb = artist.draw(schedule[number])
            Image.fromarray(rgb).save(out / f"{number}.png")


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
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    numbers = [int(text) for text in options.at.split(",")]
    draw_moments(options.clip, options.out, cut=options.cut, numbers=numbers, size_px=options.size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
