"""`mien bench voice`: the measure of intelligibility, the sounds, the measurements and the report."""

import argparse
import json
import wave
from pathlib import Path

import numpy as np
import pytest

from mien.bench import voice, voice_measures
from mien.bench.intelligibility import extended_stoi
from mien.bench.room_sound import NOISES, clear_voice, echo_of, in_noise, level, with_pauses
from mien.bench.voice_measures import decode, encode, loss_rows, pause_rows, stoi_of
from mien.call.audio_processing import why_no_processing
from mien.call.opus import VoiceSettings
from mien.commands.bench import BENCHES
from mien.protocol.errors import MienError


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure at a few points only."""
    monkeypatch.setattr(voice_measures, "RATES_KBPS", (6.0, 12.0))
    monkeypatch.setattr(voice_measures, "FRAMES_MS", (60,))
    monkeypatch.setattr(voice_measures, "SNRS_DB", (5.0, 30.0))
    monkeypatch.setattr(voice_measures, "LOSSES", (0.0, 0.05, 0.2))
    monkeypatch.setattr(voice_measures, "CODINGS", ((12.0, 60), (16.0, 60)))


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    voice.add_arguments(parser)
    return parser.parse_args(words)


def test_intelligibility_falls_with_noise() -> None:
    said = clear_voice(3.0)
    assert extended_stoi(said, said) == pytest.approx(1.0)
    scores = [extended_stoi(said, in_noise(said, "pink", snr)) for snr in (30, 10, 0, -20)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.93 and scores[-1] < 0.25
    assert extended_stoi(said, said // 8) > 0.999  # the level does not matter
    assert np.isnan(extended_stoi(said[:9600], said[:9600]))
    with pytest.raises(ValueError, match="as many"):
        extended_stoi(said, said[:-1])


def test_pauses_do_not_count() -> None:
    said = clear_voice(3.0)
    heard = in_noise(said, "white", 10)
    half = len(said) // 2
    quiet = np.zeros(48_000, np.int16)
    apart = [np.concatenate([s[:half], quiet, s[half:]]) for s in (said, heard)]
    assert extended_stoi(*apart) == pytest.approx(extended_stoi(said, heard), abs=0.02)


def test_sounds() -> None:
    said = clear_voice(2.0)
    assert said.dtype == np.int16 and len(said) == 96_000 and 2000 < level(said) < 4000
    assert len(with_pauses(said, talk_s=1, pause_s=0.5)) == 3 * 48_000
    for kind in NOISES:
        noise = in_noise(said, kind, 10).astype(float) - said
        assert level(said) / np.sqrt(np.square(noise).mean()) == pytest.approx(10**0.5, rel=0.05)
    echo = echo_of(said, delay_ms=100)
    assert not echo[:4800].any() and echo[4800:6000].any()
    assert np.sqrt(np.square(echo).mean()) == pytest.approx(level(said) / 4, rel=0.01)


def test_coding_and_delay() -> None:
    said = clear_voice(3.0)
    packets = encode(said, VoiceSettings(24, 20))
    clean, gaps = decode(packets), decode(packets, [i % 5 == 2 for i in range(len(packets))])
    assert len(clean) == len(gaps) == len(said)
    assert stoi_of(said, clean) > 0.95 > stoi_of(said, gaps)


def test_losses_cost_and_repeats_help() -> None:
    rows = {(r.kbps, r.frame_ms, r.loss): r for r in loss_rows("it", clear_voice(4.0))}
    assert rows[12, 60, 0.2].stoi < rows[12, 60, 0.05].stoi < rows[12, 60, 0.0].stoi
    assert rows[16, 60, 0.2].stoi_repeating > rows[16, 60, 0.2].stoi


def test_pauses() -> None:
    rows = list(pause_rows("it", clear_voice(5.0), ["white"]))
    assert max(r.pauses_sent for r in rows) < 0.1 and max(r.speech_cut for r in rows) < 0.05


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert voice.run(options("--only", "rate", "--seconds", "4", "--out", str(tmp_path))) == 0
    rows = [json.loads(line) for line in (tmp_path / "voice.jsonl").read_text().splitlines()]
    assert len(rows) == 4 and {row["kind"] for row in rows} == {"rate"}
    by = {(r["kbps"], r["frame_ms"], r["pauses"]): r for r in rows}
    long = by[12, 60, False]
    assert long["wire_kbps"] == pytest.approx(long["payload_kbps"] + 50 * 8 / 60, rel=0.02)
    assert by[12, 60, True]["wire_kbps"] < 0.65 * long["wire_kbps"]
    assert "What a voice takes" in capsys.readouterr().out
    assert "<table" in (tmp_path / "voice.html").read_text()
    assert (tmp_path / "voice.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(bool(why_no_processing()), reason=why_no_processing())
def test_clean_up_rows(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ("--only", "noise", "--only", "echo", "--only", "cost", "--noise", "pink")
    assert voice.run(options(*kinds, "--seconds", "6", "--json")) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    noise = {row["snr_db"]: row for row in rows if row["kind"] == "noise"}
    assert noise[5]["runs"] and not noise[30]["runs"]
    assert noise[5]["stoi_with"] > noise[5]["stoi_without"] and noise[5]["quieter_db"] > 8
    assert noise[30]["stoi_with"] < noise[30]["stoi_without"]
    echo = [row for row in rows if row["kind"] == "echo"]
    assert all(row["return_loss_db"] > 20 and row["stoi_alone"] > 0.98 for row in echo)
    assert all(row["stoi_headphones"] > 0.98 and row["stoi_headphones_cancelled"] < 0.95 for row in echo)
    assert {row["what"] for row in rows if row["kind"] == "cost"} > {"voice activity"}


def test_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes(clear_voice(4.5).tobytes())
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:50_000])
    (tmp_path / "c.mp4").write_bytes(b"no film")
    assert voice.run(options("--clips", str(tmp_path), "--only", "pauses", "--noise", "white", "--json")) == 0
    found = capsys.readouterr()
    assert {json.loads(line)["clip"] for line in found.out.splitlines()} == {"a.wav"}
    assert "b.wav: no 4 s of a voice" in found.err
    with pytest.raises(MienError, match="no folder"):
        voice.run(options("--clips", str(tmp_path / "none")))
    with pytest.raises(MienError, match="--seconds"):
        voice.run(options("--seconds", "1"))
    assert "voice" in BENCHES
