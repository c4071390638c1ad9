"""`mien bench picture`: what is planned, what is left to do after a stop, and the page."""

import argparse
import json
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from mien.bench import draw_moments, picture, picture_faults
from mien.bench.clip_folder import find_clips
from mien.bench.picture_clip import film_path, still_path, write_film
from mien.bench.picture_faults import Fault, read_faults, write_faults_page
from mien.bench.picture_footage import FULL, QUICK, Footage, Part, count_frames, divide
from mien.bench.picture_rows import Row, Variant, append_row, read_rows
from mien.bench.picture_summary import medians, summary_rows, table_of
from mien.bench.picture_tiers import aims_of, pairs_of_tiers, steps
from mien.decoder.output import VideoSink
from mien.encoder.capture import open_source
from mien.encoder.scene_encoder import USUAL_KBPS
from mien.protocol.errors import MienError
from tests.picture_fixtures import smooth_picture

OURS = Variant(256, "W", "normal")
WITH_SCENE = Variant(256, "W+scene", "normal", 6.0)
GENERATED = Variant(256, "S", "normal", 6.0)


def options(folder: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    picture.add_arguments(parser)
    return parser.parse_args(["--clips", str(folder), "--out", str(folder / "out"), *more])


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for name in ("anna", "ben"):
        with VideoSink(tmp_path / f"{name}.mp4", width=64, height=64, rate=Fraction(25)) as sink:
            for number in range(20):
                sink.write(smooth_picture(number, 64))
    return tmp_path


def test_a_clip_is_divided_at_three_fifths(clips: Path) -> None:
    assert count_frames(clips / "anna.mp4") == 20
    enrolled, coded = divide(clips / "anna.mp4", QUICK)
    whole = [frame.rgb for frame in open_source(str(clips / "anna.mp4"))]
    assert [frame.index for frame in enrolled] == list(range(12))
    assert len(coded) == 8
    assert all((a.rgb == b).all() for a, b in zip(coded, whole[12:], strict=True))
    assert [f.timestamp_us for f in coded] == [f.timestamp_us for f in coded]  # it can be read again
    assert coded.has_detail(64) and not coded.has_detail(256)


def test_too_short_a_clip_is_refused(clips: Path) -> None:
    source = open_source(str(clips / "anna.mp4"))
    with pytest.raises(MienError, match="short"):
        Footage(Part(source, range(18, 20)))


def test_compared_frames_have_neighbours() -> None:
    for frames in (3, 10, 500):
        chosen = QUICK.chosen(frames)
        assert chosen and min(chosen) >= 1 and max(chosen) <= frames - 2
        assert len(chosen) <= QUICK.moments and len(set(chosen)) == len(chosen)
    assert FULL.chosen(100)[:3] == [1, 4, 7]


def test_clips_are_found_by_parts_of_their_names(clips: Path) -> None:
    assert [c.stem for c in find_clips(clips, "")] == ["anna", "ben"]
    assert [c.stem for c in find_clips(clips, "be,x")] == ["ben"]
    with pytest.raises(MienError, match="no such video"):
        find_clips(clips, "carl")
    with pytest.raises(MienError, match="no folder"):
        find_clips(clips / "nowhere", "")


def test_a_quick_run_takes_some_clips_evenly_spread(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "QUICK_CLIPS", 1)
    assert [c.stem for c in picture.chosen_clips(options(clips))] == ["ben"]
    for more in (["--full"], ["--most", "0"], ["--most", "9"], ["--only", "a,b"]):
        assert [c.stem for c in picture.chosen_clips(options(clips, *more))] == ["anna", "ben"]
    with pytest.raises(MienError, match="--most -1"):
        picture.chosen_clips(options(clips, "--most", "-1"))


def test_quick_and_full_variants(clips: Path) -> None:
    quick = list(picture.chosen_variants(options(clips)))
    full = list(picture.chosen_variants(options(clips, "--full", "--quality", "low,normal")))
    assert quick[0] == OURS and Variant(512, "W", "normal") in quick
    assert len(set(quick)) == len(quick) < len(full) == len(set(full))
    assert {v.mode for v in full if not v.is_ours} == {"realtime", "best", "equal"}
    plain = picture.chosen_variants(options(clips, "--ours", "--sizes", "512", "--scene", "0"))
    assert [v.coder for v in plain] == ["W"]


def test_every_tier_at_every_scene_rate(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "shipped_generator", lambda: object())
    wanted = options(clips, "--ours", "--sizes", "512", "--scene", "6,5")
    assert [(v.coder, v.target_kbps) for v in picture.chosen_variants(wanted)] == [
        ("W", 0), ("W+scene", 5), ("W+scene", 6), ("S", 5), ("S", 6)
    ]  # fmt: skip
    monkeypatch.setattr(picture, "shipped_generator", lambda: None)  # as without ONNX Runtime
    assert {v.coder for v in picture.chosen_variants(wanted)} == {"W", "W+scene"}
    some = options(clips, "--ours", "--sizes", "512", "--tiers", "W+scene")
    assert [v.text for v in picture.chosen_variants(some)] == [f"512-W+scene-normal-{USUAL_KBPS:g}"]


def test_video_gets_the_rates_of_w_and_of_the_scene(clips: Path) -> None:
    equal = [v for v in picture.chosen_variants(options(clips, "--sizes", "256")) if v.mode == "equal"]
    assert {(v.coder, v.target_kbps) for v in equal} == {
        ("SVT-AV1", 0), ("SVT-AV1", USUAL_KBPS), ("VP9", 0), ("VP9", USUAL_KBPS)
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        ["--sizes", "300"], ["--sizes", "x"], ["--quality", "best"], ["--scene", "much"],
        ["--tiers", "N"], ["--tiers", "S", "--scene", "0"],
    ],
)  # fmt: skip
def test_wrong_options_are_named(clips: Path, wrong: list[str]) -> None:
    with pytest.raises(MienError, match=wrong[0]):
        list(picture.chosen_variants(options(clips, *wrong)))


def made_up(clip: str, variant: Variant, wire_kbps: float, akd: float, ssim: float) -> Row:
    figures = {"found": 1.0, "akd": akd, "ssim": ssim, "face_edge": 0.9}
    if variant.is_ours:
        figures["bare_ssim"] = ssim + 0.02
    extra = {"avatar_bytes": 90_000, "audio_wire_kbps": 1.5} if variant.is_ours else {"note": ""}
    return Row(clip, variant, QUICK.text, wire_kbps - 4, wire_kbps, 20, figures, extra)


def made_up_rows() -> list[Row]:
    rows = []
    for clip, worse in (("anna", 0.0), ("ben", 0.1)):
        rows.append(made_up(clip, OURS, 5.0, 1.0 + worse, 0.8))
        rows.append(made_up(clip, WITH_SCENE, 13.0, 1.0, 0.84 + worse))
        rows.append(made_up(clip, GENERATED, 13.0, 1.0, 0.9))
        for rate, akd, ssim in ((10.0, 4.0, 0.7), (20.0, 2.0, 0.85), (40.0, 0.5, 0.9)):
            variant = Variant(256, "SVT-AV1", "realtime", rate)
            rows.append(made_up(clip, variant, rate + 10, akd + worse, ssim))
            rows.append(made_up(clip, Variant(256, "VP9", "realtime", rate), 2 * rate + 20, akd, ssim))
        rows.append(made_up(clip, Variant(256, "SVT-AV1", "equal"), 5.5, 6.0, 0.6))
    return rows


def test_what_is_done_is_not_done_again(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = clips / "bundle"
    monkeypatch.setattr(picture, "find_model", lambda name: bundle)
    chosen = options(clips, "--ours", "--scene", "0")
    jobs = picture.plan(chosen)
    assert [job.clip.stem for job in jobs] == ["anna", "ben"] and all(job.shown for job in jobs)
    path = jobs[0].rows
    path.parent.mkdir()
    append_row(path, made_up("anna", OURS, 5, 1, 0.8))
    left = picture.unfinished(jobs, read_rows(path, QUICK.text))
    assert {(j.clip.stem, v.size_px) for j in left for v in j.variants} == {
        ("anna", 512), ("ben", 256), ("ben", 512)
    }  # fmt: skip
    assert len(picture.unfinished(jobs, read_rows(path, FULL.text))) == 2


def test_work_reports_what_was_left_out(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "find_model", lambda name: clips / "bundle")
    monkeypatch.setattr(picture, "measure", lambda job: "no face" if job.clip.stem == "ben" else "")
    jobs = picture.plan(options(clips, "--ours"))
    assert picture.work(jobs, 1, Console(quiet=True)) == ["no face"]


def test_medians_and_summary() -> None:
    rows = made_up_rows()
    found = medians([row for row in rows if row.variant == OURS])
    assert found["akd"] == pytest.approx(1.05) and found["wire_kbps"] == 5 and found["found"] == 1
    lines = summary_rows(rows)
    parity = next(
        line
        for line in lines
        if line["kind"] == "parity" and line["metric"] == "akd" and line["coder"] == "VP9"
    )
    assert 60 < parity["wire_kbps"] < 100 and parity["side"] == ""
    rate = next(
        line
        for line in lines
        if line["kind"] == "bd_rate" and line["metric"] == "ssim" and line["coder"] == "VP9"
    )
    assert rate["percent"] == pytest.approx(100)  # twice the rate at every score
    bare, whole = (
        next(
            line["wire_kbps"]
            for line in lines
            if (line["kind"], line.get("metric")) == ("parity", metric)
            and (line["coder"], line["tier"]) == ("SVT-AV1", "W")
        )
        for metric in ("bare_ssim", "ssim")
    )
    assert bare > whole > 20  # video has no badge: our picture before it needs more bits to be matched
    assert table_of(rows).row_count == 10


def test_tiers_are_compared_clip_by_clip() -> None:
    rows = made_up_rows()
    pairs = pairs_of_tiers({row.variant for row in rows})
    assert pairs == [(OURS, WITH_SCENE), (WITH_SCENE, GENERATED)]
    found = {step.metric: step for step in steps(rows, WITH_SCENE, GENERATED)}
    assert (found["ssim"].better, found["ssim"].clips) == (1, 2)
    assert found["ssim"].gain == pytest.approx(0.01) and found["ssim"].above == 0.9
    assert {step.metric: step.better for step in steps(rows, OURS, WITH_SCENE)}["akd"] == 1
    met = {aim.metric: aim.met(medians([r for r in rows if r.variant == GENERATED])[aim.metric])
           for aim in aims_of(GENERATED) if aim.metric in ("ssim", "akd", "wire_kbps", "audio_wire_kbps")}  # fmt: skip
    assert met == {"ssim": True, "akd": True, "wire_kbps": True, "audio_wire_kbps": True}
    assert not aims_of(GENERATED)[0].met(0.5) and not aims_of(Variant(256, "W", "low"))


def test_the_page_shows_figures_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from mien.bench.picture_report import write_report

    rows = made_up_rows()
    for name in ("256-original", OURS.text, GENERATED.text, Variant(256, "SVT-AV1", "equal").text):
        still = still_path(tmp_path, "anna", name, 7)
        still.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(smooth_picture(1, 64)).save(still)
        write_film(
            film_path(tmp_path, "anna", name), [smooth_picture(i, 256) for i in range(3)], Fraction(25)
        )
    page = write_report(rows, tmp_path).read_text("utf-8")
    assert (tmp_path / "rates-256.png").read_bytes().startswith(b"\x89PNG")
    assert "wire as W" in page and "Parity" in page and "+100 %" in page
    assert "ssim, no badge" in page and "1/2" in page and "S ≥ 0.86: met" in page
    assert "best effort, which" not in page  # nobody coded any
    assert page.count("data:image/webp") == 4 + 1 and page.count("data:video/mp4") == 2  # and the one on top
    frame = next(iter(open_source(str(tmp_path / "pictures/anna/256-side-by-side.mp4")))).rgb
    assert frame.shape[1] > 4 * 256 and np.ptp(frame) > 50


def test_faults_are_listed_with_a_verdict(tmp_path: Path) -> None:
    faults = read_faults()
    assert len({f.fault for f in faults}) == len(faults) > 8
    wrong = tmp_path / "faults.json"
    whole = {"fault": "x", "clip": "a", "at": [1], "film": [0, 5], "verdict": "gone", "note": ""}
    wrong.write_text(json.dumps([whole]))
    assert read_faults(wrong)[0].film == (0, 5)
    changes: list[dict[str, object]] = [
        {"verdict": "fine"}, {"at": []}, {"film": [5, 5]}, {"film": [1]}, {"at": ["x"]}
    ]  # fmt: skip
    for change in changes:
        wrong.write_text(json.dumps([whole | change]))
        with pytest.raises(MienError, match="faults"):
            read_faults(wrong)
    for text in ("{", "[{}]", "[7]"):
        wrong.write_text(text)
        with pytest.raises(MienError, match="faults"):
            read_faults(wrong)


def test_the_faults_page_shows_before_and_now(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault("a nose too long", "anna", (2, 5, 99), (1, 6), "better", "shorter now")
    monkeypatch.setattr(picture_faults, "read_faults", lambda: [fault])
    asked: list[list[str]] = []

    def draw(command: list[str], **more: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        for tier in ("W", "S"):
            folder = Path(command[4]) / tier
            folder.mkdir(parents=True, exist_ok=True)
            for number in (2, 5):
                Image.fromarray(smooth_picture(number, 64)).save(folder / f"{number}.png")
            write_film(
                folder / "1-6.mp4", [smooth_picture(number, 64) for number in range(1, 6)], Fraction(25)
            )
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", draw)
    for _ in range(2):
        page = write_faults_page(clips, clips / "out", clips / "old", Progress(disable=True))
    text = page.read_text("utf-8")
    pictures = 2 * (1 + 4)  # of two frames: the original, each tier before and now
    assert text.count("data:image/webp") == pictures + 1 + 5  # and the film's poster, and where it trembles
    assert "a nose too long: better" in text and "shorter now" in text and "before, S" in text
    assert len(asked) == 2  # not drawn again
    assert asked[0][asked[0].index("--cut") + 1] == "12"
    assert asked[0][asked[0].index("--films") + 1] == "1-6"
    (film,) = (clips / "out" / "faults").glob("*.mp4")
    frames = [frame.rgb for frame in open_source(str(film))]
    assert len(frames) == 5 and frames[0].shape[1] > 5 * picture_faults.FILM_PX


def test_what_trembles_is_seen_where_it_does() -> None:
    still = [np.full((64, 64, 3), 90, np.uint8) for _ in range(6)]
    restless = [frame.copy() for frame in still]
    for number, frame in enumerate(restless):
        frame[:32] += np.uint8(40 * (number % 2))
    level, where = picture_faults.trembling(restless)
    assert picture_faults.trembling(still)[0] == 0 and level == pytest.approx(40, abs=1)
    assert where[10].min() == 255 and where[-10].max() == 0


def test_moments_and_films_are_drawn_once_each() -> None:
    wanted = draw_moments.Wanted(frozenset({40, 3}), ((0, 4), (2, 6)))
    assert wanted.numbers == [0, 1, 2, 3, 4, 5, 40]
