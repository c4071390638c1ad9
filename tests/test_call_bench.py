"""`mien bench call`: short calls with a face that was tracked before; counts, never timings."""

import asyncio
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mien.bench.call_cases import Case, Limit, Role, Voice, all_cases
from mien.bench.call_page import (
    astray_note,
    call_tables,
    draw_call_plot,
    left_out_note,
    title_of,
    write_call_page,
)
from mien.bench.call_rows import GROUPS, Measured, measured, shown_rows
from mien.bench.call_voices import Voices
from mien.bench.packet_capture import PacketCapture
from mien.bench.played_face import PlayedSource, PlayedTracker, Take
from mien.bench.speech_sound import speech
from mien.bench.two_way_call import (
    Person,
    Side,
    SideResult,
    TwoWayCall,
    capture_percent,
    two_way_call,
)
from mien.call.carrier_choice import CarrierWish
from mien.call.opus import RATE_HZ, VoiceSettings
from mien.call.statistics import CallStatistics, ReceivedStatistics, SentStatistics
from mien.call.voice_activity import VoiceActivity
from mien.call.wire_cause import Cause, Direction
from mien.call.wire_tariff import tariff
from mien.call.wire_totals import Flow, WireTotals
from mien.cli import main
from mien.protocol.errors import MienError
from tests.avatar_samples import TEST_KEY
from tests.call_samples import PortraitSource, PortraitTracker, avatar_file


def take(seconds: float = 1.0) -> Take:
    return Take.of(PortraitSource(seconds), PortraitTracker(), max_frames=100)


# --- who is seen and heard ------------------------------------------------------------------------------------


def test_a_take_is_played_to_and_fro() -> None:
    played = take(0.2)
    assert len(played.trackings) == 6
    numbers = [played.trackings.index(played.at(n)) for n in range(12)]
    assert numbers == [0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0, 1]
    tracker = PlayedTracker(played, first=2)
    frames = list(PlayedSource(played, seconds=0.3))
    assert len(frames) == 9 and frames[0].rgb.shape == (played.height, played.width, 3)
    found = [played.trackings.index(tracker.track(f.rgb, f.timestamp_us)) for f in frames]
    assert found == [2, 3, 4, 5, 4, 3, 2, 1, 0]
    assert not frames[4].rgb.any()
    seen = [frame.rgb for frame in PlayedSource(played, seconds=0.3, seen_from=2)]
    assert [(a == played.picture_at(n)).all() for n, a in zip(found, seen, strict=True)] == [True] * 9
    assert seen[0].shape == frames[0].rgb.shape and seen[0].any()


def test_a_closed_source_ends() -> None:
    source = PlayedSource(take(0.2), seconds=100)
    frames = iter(source)
    next(frames)
    source.close()
    assert next(frames, None) is None


def test_a_take_without_a_face_is_refused() -> None:
    with pytest.raises(MienError, match="one face in 0 of 30 frames"):
        Take.of(PortraitSource(1, faces=2), PortraitTracker(), max_frames=100)


def test_the_test_voice_is_loud_seeded_and_speech() -> None:
    loud, pausing = speech(4.0), speech(4.0, pauses=True)
    assert loud.dtype == np.int16 and loud.shape == pausing.shape == (4 * RATE_HZ,)
    assert np.array_equal(loud, speech(4.0)) and not np.array_equal(loud, speech(4.0, seed=2))
    assert np.sqrt(np.mean(loud.astype(float) ** 2)) > 3000

    def heard(sound: "np.ndarray[tuple[int], np.dtype[np.int16]]") -> float:
        activity = VoiceActivity()
        return float(np.mean([activity.hear(sound[at : at + 960]) for at in range(0, len(sound), 960)]))

    assert heard(loud) == 1.0
    assert 0.5 < heard(pausing) < 0.97


def test_each_side_has_its_own_voice() -> None:
    voices = Voices(None)
    one, other = (voices.of(Voice.SPEECH, side) for side in (0, 1))
    assert one is not None and other is not None and not np.array_equal(one, other)
    quiet = voices.of(Voice.LISTENS, 0)
    assert quiet is not None and np.abs(quiet).max() < 100
    assert voices.of(Voice.NONE, 0) is None


# --- a call ---------------------------------------------------------------------------------------------------


def call(
    sides: tuple[Side, Side], carrier: CarrierWish, seconds: float = 1.5
) -> tuple[SideResult, SideResult]:
    person = Person(take(), avatar_file(), TEST_KEY)
    setting = TwoWayCall(person, sides, carrier, VoiceSettings(12, 60), seconds=seconds, settle_s=0.5)
    return asyncio.run(asyncio.wait_for(two_way_call(setting), 40))


def test_two_who_speak_and_are_seen() -> None:
    """Both carriers: on the data channel each message is a packet, on the audio carrier none is."""
    voice = speech(1.0)
    sides = Side(voice, face=True), Side(voice, face=True)
    try:
        capture = PacketCapture()
    except (AttributeError, OSError):
        capture = None
    for carrier in (CarrierWish.DATACHANNEL, CarrierWish.AUDIO):
        for side in call(sides, carrier, seconds=2.5 if carrier is CarrierWish.AUDIO else 1.5):
            sent = side.wire.sent
            assert sent[Cause.AUDIO].datagrams > 3
            assert sent[Cause.COEFFICIENTS].payload_bytes > 0 and side.payload_kbps > 0
            if carrier is CarrierWish.DATACHANNEL:
                assert sent[Cause.COEFFICIENTS].datagrams > 0 and sent[Cause.SACK].wire_bytes > 0  # some ride
            if capture is not None:
                percent = capture_percent(side, capture.bytes_from)
                assert percent is not None and abs(percent) < 1.0
            assert side.elsewhere.ipv6_kbps > side.elsewhere.turn_kbps > side.kbps()
            assert side.kbps() == pytest.approx(sum(side.kbps(*causes) for causes in GROUPS.values()))
    if capture is not None:
        capture.close()


def test_a_listener_and_one_without_a_face() -> None:
    speaker, listener = call(
        (Side(speech(1.0), face=True), Side(speech(1.0), muted=True)), CarrierWish.DATACHANNEL
    )
    assert Cause.AUDIO in speaker.wire.sent and Cause.AUDIO not in listener.wire.sent
    assert listener.payload_kbps == 0 and listener.frames_per_s == 0
    assert listener.wire.sent[Cause.SACK].datagrams > 0


# --- rows and reports -----------------------------------------------------------------------------------------


def result(voice_bytes: int, face_bytes: int) -> SideResult:
    """10 s with a packet of voice each 100 ms, and messages of the face riding in them."""
    flows = {Cause.AUDIO: Flow(100, voice_bytes, 0), Cause.STUN: Flow(2, 250, 0)}
    if face_bytes:
        flows[Cause.COEFFICIENTS] = Flow(0, face_bytes, face_bytes // 2)
    wire = WireTotals(10_000_000, flows, {})
    statistics = CallStatistics(1.0, 10.0, "", True, False, SentStatistics(), ReceivedStatistics(), wire, 0.0)
    return SideResult(
        wire=wire,
        payload_kbps=face_bytes / 2 * 8 / 1e4,
        elsewhere=tariff(wire, Direction.SENT),
        frames_per_s=30.0,
        frames_left_out=0,
        by_carrier={"audio": 98, "datachannel": 2},
        metered_bytes=wire.total(Direction.SENT).wire_bytes,
        ports=frozenset({1000}),
        statistics=statistics,
    )


CASE = Case(
    "spoken",
    (Role(Voice.SPEECH), Role(Voice.SPEECH)),
    CarrierWish.AUDIO,
    12.0,
    60,
    (Limit("total_kbps", 12.0), Limit("on_top_kbps", 1.0), Limit("extra_packets_per_s", 0.0)),
    without_face="silent film",
)


def rows() -> list[Measured]:
    with_face, without = (
        (result(10_000, 2_500), result(10_000, 5_000)),
        (result(10_000, 0), result(10_000, 0)),
    )
    return measured(CASE, with_face, without, {1000: 12_750})


def test_rows_hold_what_was_sent_and_judge_it() -> None:
    one, other = rows()
    assert (one.voice_kbps, one.face_kbps, one.stun_kbps, one.total_kbps) == (8.0, 2.0, 0.2, 10.2)
    assert (one.on_top_kbps, other.on_top_kbps) == (2.0, 4.0)
    assert (one.payload_kbps, one.forward_kbps, one.packets_per_s) == (1.0, 2.2, 10.2)
    assert (one.capture_percent, other.capture_percent) == (0.0, 19.608)
    assert [(v.what, v.kept) for v in one.verdicts] == [
        ("total_kbps", True),
        ("on_top_kbps", False),
        ("extra_packets_per_s", True),
    ]
    assert not other.verdicts[0].kept
    alone = measured(CASE, (result(10_000, 2_500),) * 2, None, {})[0]
    assert alone.on_top_kbps is None and alone.capture_percent is None
    assert [v.what for v in alone.verdicts] == ["total_kbps", "extra_packets_per_s"]


def test_the_dearer_side_is_shown_where_both_do_the_same() -> None:
    one, other = rows()
    assert shown_rows([one, other]) == [other]
    assert title_of(other) == "spoken"
    unlike = [replace(r, both_alike=False) for r in (one, other)]
    assert shown_rows(unlike) == unlike
    assert title_of(replace(one, both_alike=False, voice="listens")) == "spoken, listener"


def test_reports(tmp_path: Path) -> None:
    console = Console(record=True, width=120, file=(tmp_path / "table.txt").open("w"))
    console.print(*call_tables(rows()))
    text = console.export_text()
    assert "spoken" in text and "12.20" in text and "+4.00" in text
    pytest.importorskip("matplotlib")
    draw_call_plot(rows(), tmp_path / "call.png")
    write_call_page(rows(), tmp_path, "a note")
    page = (tmp_path / "call.html").read_text()
    assert "12.20" in page and "a note" in page and "ChannelData" in page and "data:image/png" in page


def test_a_face_on_the_wrong_way_is_told() -> None:
    row = rows()[0]
    assert row.astray_share == 0.02 and astray_note([row]) == ""
    assert "should have: spoken 20%." in astray_note([replace(row, astray_share=0.2)])


def test_a_slow_machine_is_told() -> None:
    row = rows()[0]
    assert row.voice_packets_per_s == 10.0
    right = replace(row, frame_ms=100)
    assert left_out_note([right]) == ""
    assert "too slow in 1 of 1 rows" in left_out_note([row])  # 60 ms of voice a packet would make 16.7
    assert "too slow in 1 of 2 rows" in left_out_note([right, replace(right, frames_left_out=40)])


def test_cases_are_complete() -> None:
    cases = all_cases()
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    for case in cases:
        assert case.without_face is None or case.without_face in names
        assert {limit.what for limit in case.limits} <= set(Measured.__dataclass_fields__)
    limits = {case.name: {v.what: v.at_most for v in case.limits} for case in cases}
    assert limits["speech 12k/40 on audio"] == {
        "total_kbps": 30,
        "on_top_kbps": 3.5,
        "extra_packets_per_s": 0,
    }
    assert limits["speech 8k/60 on datachannel"] == {"total_kbps": 21, "forward_kbps": 5.8, "sack_kbps": 1.8}
    assert limits["both muted on audio"] == {"total_kbps": 6}
    assert limits["faces and scenes of 5 kbps on datachannel"] == {"total_kbps": 15}
    assert limits["speech 12k/60 and scenes of 5 kbps on audio"] == {
        "on_top_kbps": 9,
        "extra_packets_per_s": 0,
    }
    assert {cause for causes in GROUPS.values() for cause in causes} == set(Cause)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seconds", "0.1"], "expected 1 to 600"),
        (["--at-once", "99"], "expected 1 to 8"),
        (["--case", "yodelling"], "there are: speech 12k/40, no face;"),
    ],
)
def test_options_that_make_no_sense(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "call", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_rows_are_json() -> None:
    data = json.loads(json.dumps(asdict(rows()[0])))
    assert data["verdicts"][1] == {"what": "on_top_kbps", "at_most": 1.0, "value": 2.0, "kept": False}
