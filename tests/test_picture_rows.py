"""Rows of the picture bench: kept line by line, read again, and only those that still hold."""

from pathlib import Path

import pytest

from mien.bench import picture_rows
from mien.bench.picture_rows import Row, Variant, append_row, count_rows, read_rows, variants_of

OURS = Variant(256, "W", "normal")
RIVAL = Variant(256, "VP9", "realtime", 20.0)


def row(variant: Variant, *, clip: str = "a", sampling: str = "quick") -> Row:
    return Row(clip, variant, sampling, 1.5, 5.25, 20, {"akd": 1.25}, {"note": ""})


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_rows(path, "quick") == {} and count_rows(path) == 0
    append_row(path, row(OURS))
    append_row(path, row(RIVAL))
    found = read_rows(path, "quick")
    assert set(found) == {("a", OURS), ("a", RIVAL)} and count_rows(path) == 2
    back = found["a", RIVAL]
    assert back.wire_kbps == 5.25 and back.figures == {"akd": 1.25} and back.variant == RIVAL


def test_a_line_cut_short_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, row(OURS))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])  # stopped while it wrote
    append_row(path, row(RIVAL))
    assert set(read_rows(path, "quick")) == {("a", OURS), ("a", RIVAL)}


def test_other_sampling_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, row(OURS, sampling="full"))
    assert read_rows(path, "quick") == {}


def test_our_pictures_by_other_code_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, row(OURS))
    append_row(path, row(RIVAL))
    append_row(path, row(Variant(256, "VP9", "equal")))  # as much of the wire as ours took then
    monkeypatch.setattr(picture_rows, "code_digest", lambda: "changed")
    assert set(read_rows(path, "quick")) == {("a", RIVAL)}


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", '{"size_px": "x"}', "7"])
def test_what_is_no_row(line: str) -> None:
    with pytest.raises(ValueError):
        Row.from_json(line)


def test_video_has_no_badge_and_ours_is_not_guessed() -> None:
    ours = Row("a", OURS, "", 1, 5, 20, {"ssim": 0.8, "bare_ssim": 0.82, "gmsd": 0.1}, {})
    video = Row("a", RIVAL, "", 1, 5, 20, {"ssim": 0.7}, {})
    assert (ours.figure("bare_ssim"), video.figure("bare_ssim")) == (0.82, 0.7)
    assert ours.figure("bare_gmsd") is None and video.figure("bare_gmsd") is None


def test_variants() -> None:
    found = variants_of([256], ["normal"], ["VP9", "x264"], {"realtime": [10.0, 20.0]})
    assert len(found) == 1 + 2 * 2 and found[0].is_ours
    assert len({v.text for v in found}) == len(found)
