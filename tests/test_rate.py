"""The rate bench, on a scripted face that needs no tracker."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mien.bench import rate
from mien.bench.coefficient_codes import CODES, rate_codes
from mien.bench.rate_cache import Cache
from mien.bench.rate_carriers import CARRIERS, DATACHANNEL, Carrier, checksum, send
from mien.bench.rate_modes import check_states, rate_mode
from mien.bench.rate_quality import DATACHANNEL_BYTES, CodedPart, coded_part
from mien.bench.rate_report import check_line, write_report
from mien.bench.rate_rivals import Footage, RivalBench, RivalResult, chosen, present
from mien.bench.rate_summary import Results, of_modes, of_rivals, parity
from mien.bench.rivals import RIVALS, missing
from mien.encoder.capture import Frame
from mien.encoder.tracker import Tracking
from mien.protocol.codec import Batch, MessageDecoder
from mien.protocol.errors import MienError
from mien.protocol.quantizer import Quality
from mien.protocol.state import FaceState
from mien.protocol.stream import TrackerId
from tests.test_loss import scripted_clip


@cache
def part() -> CodedPart:
    made = coded_part(scripted_clip())
    assert made is not None
    return made


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda c: c.name)
def test_both_sides_hold_the_same_state(carrier: Carrier) -> None:
    result = rate_mode(part(), Quality.NORMAL, carrier)
    assert result.mismatches == 0 and result.messages > 50
    check = check_states(part(), carrier)
    assert check.mismatches == 0 and check.lost > 5 and check.messages > 40


def test_a_state_that_differs_has_another_checksum() -> None:
    state = part().states[0]
    batch = Batch(7, (state,))
    moved = state.coefficients() + np.eye(36, dtype=np.float32)[35] * np.float32(1e-3)
    others = [
        Batch(8, (state,)),
        Batch(7, (state,), still=True),
        Batch(7, (state,), history=((6, state),)),
        Batch(7, (FaceState(state.pose, state.expression, tracked=False),)),
        Batch(7, (FaceState.from_coefficients(moved),)),
    ]
    assert checksum(batch) == checksum(Batch(7, (state,)))
    assert len({checksum(b) for b in (batch, *others)}) == 6


def test_the_data_channel_pays_headers_and_the_audio_carrier_a_few_bytes() -> None:
    sent = {c.name: list(send(c, part().header, Quality.NORMAL, part().states)) for c in CARRIERS}
    growth = {name: {m.wire_bytes - len(m.data) for m in messages} for name, messages in sent.items()}
    assert growth[DATACHANNEL.name] == {DATACHANNEL_BYTES}
    assert growth[CARRIERS[1].name] == growth[CARRIERS[2].name] == {5}


def test_every_frame_arrives_in_time_on_every_carrier() -> None:
    for carrier, oldest_ms in zip(CARRIERS, (170, 65, 85), strict=True):
        sent = list(send(carrier, part().header, Quality.NORMAL, part().states))
        decoder = MessageDecoder(part().header)
        batches = [decoder.decode(m.data) for m in sent]
        ticks = [t for b in batches if not b.still for t in range(b.first_tick, b.first_tick + len(b.states))]
        assert ticks == sorted(set(ticks))
        assert all(b.first_tick + len(b.states) <= len(part().states) for b in batches)
        assert max(m.age_s for m in sent) * 1000 <= oldest_ms


def test_quality_buys_error_with_rate() -> None:
    low, normal, high = (rate_mode(part(), q) for q in Quality)
    assert low.payload_kbps < normal.payload_kbps < high.payload_kbps
    assert low.coding_nme > normal.coding_nme > high.coding_nme
    assert normal.wire_kbps > normal.payload_kbps + 3
    assert normal.tracked_share == pytest.approx(1 - 8 / 300, abs=1e-4)


def test_plain_codes_decode_to_what_they_say() -> None:
    header, states = part().header, part().states
    truth = np.array([s.coefficients() for s in states])
    decoded = {
        name: np.array([s.coefficients() for s in code(header, states)[1]]) for name, code in CODES.items()
    }
    assert all(values.shape == truth.shape for values in decoded.values())
    for name in ("float16, msgpack, each frame", "float16, msgpack"):
        assert np.abs(decoded[name] - truth).max() < 2e-3
    assert np.abs(decoded["int8"] - truth).max() < 2 * 0.0035 / 0.6
    assert np.array_equal(decoded["int8"], decoded["int8 + zlib"])
    assert np.array_equal(decoded["int8"], decoded["int8 + zlib, whole stream"])


def test_ours_is_far_below_plain_integers_whose_messages_stand_alone() -> None:
    ours = rate_mode(part(), Quality.NORMAL)
    codes = {r.code: r for r in rate_codes(part())}
    rates = [r.payload_kbps for r in codes.values()]
    assert rates == sorted(rates, reverse=True)
    # The scripted face leaves most coefficients exactly at rest, which zlib likes and no face does.
    assert ours.payload_kbps < codes["int8"].payload_kbps / 4
    assert codes["int8"].payload_kbps == pytest.approx(8 * 25 * 36 / 1000, rel=0.02)


def test_medians_and_sums() -> None:
    one = rate_mode(part(), Quality.NORMAL)
    worse = replace(one, total_nme=one.total_nme + 1, mismatches=2)
    (row,) = of_modes([one, worse])
    assert row["clips"] == 2 and row["mismatches"] == 2 and row["messages"] == 2 * one.messages
    assert row["total_nme"] == pytest.approx(one.total_nme + 0.5, abs=1e-3)
    assert row["total_nme_max"] == worse.total_nme
    assert check_line([one, worse], []).startswith("state checksum of sender and receiver: 2 mismatches")


def video(wire: float, error: float | None, name: str = "VP9 256", clip: str = "a") -> RivalResult:
    return RivalResult(
        clip, name, "VP9", 256, "realtime", wire - 10, wire - 10, wire, 10, 1.0, error, error, error
    )


def test_parity_lies_between_the_rates() -> None:
    rows = of_rivals([video(20, 4.0), video(40, 1.0), video(80, 0.9), video(30, 2, "x264 256")])
    found = parity(rows, "total_nme", 2.0)
    assert list(map(str, found.values())) == ["28.3", "30.0"]
    assert list(map(str, parity(rows, "total_nme", 0.5).values())) == ["> 80", "> 30"]


def test_a_clip_without_any_face_has_no_error_but_counts_as_lost() -> None:
    lost = replace(video(20, None), found=0.0)
    (row,) = of_rivals([video(20, 4.0, clip="b"), lost])
    assert row["total_nme"] == 4.0 and row["found"] == 0.5


def test_the_cache_gives_a_clip_back(tmp_path: Path) -> None:
    kept, key = Cache(tmp_path / "new"), ["clip", "x", None]
    assert kept.find_clip(key) is None
    clip = scripted_clip()
    kept.keep_clip(key, clip)
    again = kept.find_clip(key)
    assert again is not None and np.array_equal(again.landmarks, clip.landmarks, equal_nan=True)
    assert (again.name, again.rate, again.width, again.tracker) == (
        "scripted",
        Fraction(25),
        256,
        TrackerId.UNKNOWN,
    )
    assert kept.find_clip(["clip", "y", None]) is None
    for path in (tmp_path / "new").glob("*.npz"):
        path.write_bytes(b"PK")
    assert kept.find_clip(key) is None
    Cache(None).keep(key, {})
    assert Cache(None).find(key) is None


class ScriptedTracker:
    """Finds the clip's own landmarks, moved by 1 % of the picture, and loses every fourth face."""

    tracker_id = TrackerId.UNKNOWN

    def __init__(self) -> None:
        self.calls = 0

    def track(self, rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], timestamp_us: int) -> Tracking:
        self.calls += 1
        number = round(timestamp_us / 40_000) - 1
        if number < 0 or number % 4 == 3:
            return Tracking(())
        scale = np.float32(rgb.shape[0] / 256)
        face = part().truth([number])[0] * scale
        return Tracking((face + np.array([2.56 * scale, 0, 0], np.float32),))

    def close(self) -> None:
        pass


class ScriptedSource:
    """750 grey frames that change a little."""

    width = height = 256
    rate = Fraction(25)
    live = False
    name = "scripted"

    def __iter__(self) -> Iterator[Frame]:
        for index in range(750):
            yield Frame(np.full((256, 256, 3), index % 200, np.uint8), index * 40_000, index)

    def close(self) -> None:
        pass


def test_a_rival_is_judged_by_its_decoded_pictures(tmp_path: Path) -> None:
    vp9 = next(r for r in RIVALS if r.name == "VP9 256")
    if lack := missing(vp9):
        pytest.skip(lack)
    tracker = ScriptedTracker()
    bench = RivalBench(lambda: tracker, Cache(tmp_path))
    footage = Footage(ScriptedSource, part(), "id", 12)
    (result,) = bench.measure(footage, vp9, [50.0])
    assert result.frames == 12 and result.found == 0.75 and tracker.calls == 13
    truth = part().truth(range(12))
    pupils = np.linalg.norm(truth[:, 468, :2] - truth[:, 473, :2], axis=1).mean()
    assert result.total_nme == result.mouth_nme == pytest.approx(256 / pupils, rel=0.01)
    (again,) = RivalBench(lambda: pytest.fail("tracked again"), Cache(tmp_path)).measure(footage, vp9, [50.0])
    assert again == result
    assert bench.uncoded(footage, 512).total_nme == pytest.approx(result.total_nme, rel=1e-3)


def test_below_the_floor_nothing_is_coded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = RivalBench(lambda: pytest.fail("tracked"), Cache(None))
    asked = []

    def measured(footage: Footage, rival: object, kbps: float) -> RivalResult:
        asked.append(kbps)
        return replace(video(60, 3.0), target_kbps=kbps)

    monkeypatch.setattr(bench, "_measured", measured)
    footage = Footage(ScriptedSource, part(), "id", 12)
    results = list(bench.measure(footage, RIVALS[0], [40, 10, 60]))
    assert asked == [10, 60] and [r.target_kbps for r in results] == [10, 40, 60]
    assert results[1].note == "asked for 40, got 50.0 kbps"


def test_rivals_by_name() -> None:
    assert chosen("none") == [] and len(chosen("realtime")) == 10 and len(chosen("all")) == 20
    assert [r.name for r in chosen("svt-av1, VP9 512 best")] == ["SVT-AV1 256", "SVT-AV1 512", "VP9 512 best"]
    with pytest.raises(MienError, match="expected none, realtime, all"):
        chosen("h263")


def test_a_rival_that_is_missing_is_left_out_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mien.bench.rate_rivals.missing", lambda r: "no x265 here" if r.codec == "libx265" else ""
    )
    rivals, lines = present(chosen("realtime"))
    assert len(rivals) == 8 and lines == [f"x265 {s}: left out: no x265 here" for s in (256, 512)]


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    rate.add_arguments(parser)
    return parser.parse_args([*words, "--no-speed", "--no-call"])


def test_rows_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="the plots need the bench extra")
    monkeypatch.setattr(rate, "_tracked", lambda clip, bench: scripted_clip())
    assert rate.run(options("--json", "--out", str(tmp_path))) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [r["kind"] for r in rows]
    assert [kinds.count(k) for k in ("clip", "carrier", "code", "rival", "check")] == [3, 6, 5, 0, 3]
    assert [r["quality"] for r in rows if r["kind"] == "summary"] == ["low", "normal", "high"]
    assert all(r["command"].startswith("mien bench rate") for r in rows if r["kind"] == "clip")
    assert (tmp_path / "rate.jsonl").read_text(encoding="utf-8").count("\n") == len(rows)
    names = {p.name for p in tmp_path.iterdir()}
    assert {"rate.html", "rate.png", "rate_mouth.png", "rate_eyes.png", "rate_clips.png"} <= names
    assert "0 mismatches after" in (tmp_path / "rate.html").read_text(encoding="utf-8")


def test_the_page_has_videos_and_their_commands(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plots need the bench extra")
    videos = [video(20, 4.0), video(40, 0.1), replace(video(30, 2.0), effort="best", rival="VP9 256 best")]
    results = Results([rate_mode(part(), q) for q in Quality], list(rate_codes(part())), videos)
    paths = write_report(
        tmp_path, results, [], ["a sentence"], lambda **change: f"again {sorted(change.items())}"
    )
    assert [p.name for p in paths if p.stat().st_size > 5000] == [p.name for p in paths] and len(paths) == 6
    html = paths[-1].read_text(encoding="utf-8")
    assert "Video at our error" in html and "a sentence" in html and "best effort" in html
    assert "again [(&#x27;rates&#x27;, &#x27;10&#x27;), (&#x27;rivals&#x27;, &#x27;VP9 256&#x27;)]" in html


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--rates", "0"], "expected numbers of kbps"),
        (["--rates", "a"], "expected numbers of kbps"),
        (["--rivals", "h263"], "expected none"),
        (["--max-frames", "0"], "expected 1 or more"),
        (["--rival-frames", "0"], "expected 1 or more"),
        (["--clips", "/nowhere/at/all"], "is no folder"),
    ],
)
def test_options_that_make_no_sense_are_refused(words: list[str], text: str) -> None:
    with pytest.raises(MienError, match=text):
        rate.run(options(*words))


def test_a_row_names_the_command_that_measures_it(tmp_path: Path) -> None:
    given = options("--clips", "my clips", "--max-frames", "240", "--rates", "20")
    assert rate._command(given) == (
        "mien bench rate --clips 'my clips' --max-frames 240 --rates 20 --no-speed --no-call"
    )
    assert rate._command(given, only="c1.mp4", rivals="VP9 256", rates="35") == (
        "mien bench rate --clips 'my clips' --only c1.mp4 --max-frames 240 --rivals 'VP9 256' --rates 35 "
        "--no-speed --no-call"
    )


def test_a_call_that_fails_leaves_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(clip: Path | None, console: object) -> None:
        raise MienError("no face was shown")

    monkeypatch.setattr(rate, "_tracked", lambda clip, bench: scripted_clip())
    monkeypatch.setattr(rate, "_call", failing)
    parser = argparse.ArgumentParser()
    rate.add_arguments(parser)
    assert rate.run(parser.parse_args(["--no-speed"])) == 0
    out = capsys.readouterr().out
    assert "no figures of a call: no face was shown" in out and "mien normal, datachannel" in out
