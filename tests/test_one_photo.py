"""The bench of one-photo avatars: which frame is the photo, which frames are compared, what the table says."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.bench.akd import EYE_BLINK_LEFT, JAW_OPEN, Face
from mien.bench.one_photo import (
    LOOK_EVERY,
    PER_BIN,
    WITH,
    WITHOUT,
    PhotoRow,
    bin_name,
    bin_of,
    choose_photo,
    chosen_frames,
    summary,
    yaw_deg,
)


def face(yaw: float = 0.0, *, jaw: float = 0.0, blink: float = 0.0) -> Face:
    angle = np.radians(yaw)
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    shapes = np.zeros(52)
    shapes[JAW_OPEN], shapes[EYE_BLINK_LEFT] = jaw, blink
    return Face(np.zeros((478, 2)), shapes, rotation)


def test_the_photo_is_frontal_calm_and_awake() -> None:
    faces = {0: face(15), 4: face(2, blink=0.6), 8: face(3, jaw=0.4), 12: face(-4), 16: face(-9)}
    assert choose_photo(faces) == 12


def test_yaw_and_its_bins() -> None:
    assert yaw_deg(face(-17)) == pytest.approx(-17)
    assert [bin_of(face(yaw)) for yaw in (0, -9.9, 12, -25, 60)] == [10, 10, 20, 30, 30]
    assert [bin_name(top) for top in (0, 10, 20, 30)] == ["all", "0-10", "10-20", "20-30"]


def test_frames_are_spread_over_the_bins() -> None:
    faces = {LOOK_EVERY * n: face(n % 45) for n in range(200)}
    chosen = chosen_frames(faces, photo=0)
    counts = [sum(bin_of(faces[n]) == top for n in chosen) for top in (10, 20, 30)]
    assert counts == [PER_BIN] * 3
    assert all(abs(yaw_deg(faces[n])) < 30 for n in chosen)
    assert min(chosen) > LOOK_EVERY


def test_medians_by_bin_and_kind() -> None:
    rows = [
        PhotoRow(f"c{n}", kind, 10.0, 5, 1.0, {"akd": n + (kind == WITHOUT)}, 3, 1000)
        for n in range(3)
        for kind in (WITH, WITHOUT)
    ]
    lines = summary(rows)
    assert [(line["kind"], line["akd"], line["clips"], line["frames"]) for line in lines] == [
        (WITH, 1, 3, 15),
        (WITHOUT, 2, 3, 15),
    ]
    assert json.loads(rows[0].to_json())["figures"] == {"akd": 0}


def test_the_page_has_each_bin_and_the_sheets(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from mien.bench.one_photo_page import write_photo_page

    rows = [
        PhotoRow("a", kind, top, 5, 1.0, {"akd": top / 10, "mouth": 1.5}, 3, 1000)
        for top in (0.0, 10.0, 20.0)
        for kind in (WITH, WITHOUT)
    ]
    (tmp_path / "sheets").mkdir()
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "sheets" / "anna.png")
    page = write_photo_page(summary(rows), ["akd", "mouth", "identity"], tmp_path / "sheets", tmp_path)
    text = page.read_text("utf-8")
    assert all(word in text for word in ("10-20", "photo alone", "anna", "data:image/png", "data:image/webp"))
    assert ">identity<" not in text  # nobody measured it
