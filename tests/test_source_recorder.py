"""The log of a source, without the command around it."""

import time
from pathlib import Path

import pytest

from mien.decoder.recording import read_recording
from mien.encoder.source_recorder import record_source
from mien.protocol.avatar import Avatar, assemble
from mien.protocol.errors import MienError
from mien.protocol.log import open_log
from mien.protocol.quantizer import Quality
from tests.call_samples import PortraitSource, PortraitTracker, avatar_file


def avatar() -> Avatar:
    whole = assemble(avatar_file(), now_unix_s=int(time.time())).avatar
    assert whole is not None
    return whole


def test_the_frames_after_those_skipped_are_recorded_and_told(tmp_path: Path) -> None:
    path, told = str(tmp_path / "talk.mien"), list[str]()
    counts = record_source(
        PortraitSource(1),
        PortraitTracker(),
        avatar(),
        path,
        quality=Quality.NORMAL,
        skip_frames=12,
        on_frame=lambda: told.append("frame"),
    )
    assert counts.frames == counts.tracked == len(told) == 18
    with open_log(path) as reader:
        (segment,) = read_recording(reader).segments
    assert segment.source_frames()[0][0] == 0  # times count from the first frame that was not skipped
    assert len(segment.source_frames()) == 18


def test_no_log_is_left_where_there_is_no_face(tmp_path: Path) -> None:
    path = tmp_path / "talk.mien"
    with pytest.raises(MienError, match="several faces in 15 frames"):
        record_source(
            PortraitSource(0.5, faces=2), PortraitTracker(), avatar(), str(path), quality=Quality.LOW
        )
    assert not path.exists()
