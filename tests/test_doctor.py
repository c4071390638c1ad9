"""`mien doctor` says what is there, what is missing and how to get it, and its exit status says whether it will do."""

import json
import os
import sys
from pathlib import Path

import pytest

from mien.cli import main
from mien.commands import doctor
from mien.commands.doctor import State


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))


def test_report_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    names = [finding["name"] for finding in report["findings"]]
    assert names[:3] == ["python", "tracker", "opengl"] and "owner key" in names
    missing = [f for f in report["findings"] if f["state"] == "missing"]
    assert report["usable"] == (not missing) and status == (1 if missing else 0)
    assert all(f["advice"] for f in report["findings"] if f["state"] != "fine")


def test_report_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "mediapipe_version", lambda: None)
    monkeypatch.setattr(doctor, "run_probe", lambda command: None)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "x tracker" in out and "make setup" in out
    assert "NumPy" in out and "libegl-mesa0" in out
    assert "not usable" in out


@pytest.mark.parametrize(
    ("version", "bundle", "state", "words"),
    [
        ("0.10.31", "/m/face_landmarker.task", State.FINE, "FaceLandmarker"),
        ("0.10.31", None, State.MISSING, "without its bundle"),
        ("0.10.21", None, State.REDUCED, "FaceMesh"),
        ("1.2.2", None, State.MISSING, "1.2.2"),
        (None, None, State.MISSING, "not installed"),
    ],
)
def test_tracker(
    monkeypatch: pytest.MonkeyPatch, version: str | None, bundle: str | None, state: State, words: str
) -> None:
    monkeypatch.setattr(doctor, "mediapipe_version", lambda: version)
    monkeypatch.setattr(doctor, "find_model", lambda name: bundle and Path(bundle))
    finding = doctor.check_tracker()
    assert finding.state == state and words in finding.found
    assert bool(finding.advice) == (state != State.FINE)


@pytest.mark.parametrize(
    ("answer", "words"),
    [("llvmpipe (LLVM 15) | 4.5", "drawn by the processor"), ("NVIDIA RTX | 4.6", "graphics card")],
)
def test_opengl(monkeypatch: pytest.MonkeyPatch, answer: str, words: str) -> None:
    monkeypatch.setattr(doctor, "run_probe", lambda command: answer)
    assert words in doctor.check_opengl().found


def test_owner_key(tmp_path: Path) -> None:
    from mien.encoder.owner_key import owner_key

    assert "none yet" in doctor.check_owner_key().found
    key = owner_key()
    finding = doctor.check_owner_key()
    assert finding.state == State.FINE and key.public_key.hex()[:16] in finding.found
    if os.name == "posix":
        (tmp_path / "home" / "owner.key").chmod(0o644)
        assert doctor.check_owner_key().state == State.REDUCED


def test_probe_survives_crash_silence_and_absence() -> None:
    assert doctor.run_probe([sys.executable, "-c", "print('one'); print('two')"]) == "one"
    assert doctor.run_probe([sys.executable, "-c", "import os; os.abort()"]) is None
    assert doctor.run_probe([sys.executable, "-c", "pass"]) is None
    assert doctor.run_probe(["no-such-program-anywhere"]) is None


def test_probe_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBE_S", 0.2)
    assert doctor.run_probe([sys.executable, "-c", "import time; time.sleep(30)"]) is None


def test_codecs_that_the_call_needs_are_here() -> None:
    assert doctor.check_codecs().state == State.FINE


def test_missing_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.NEEDED_CODECS, "no-such-codec", "w")
    finding = doctor.check_codecs()
    assert finding.state == State.MISSING and "no-such-codec" in finding.found
