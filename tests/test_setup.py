"""The set-up script: what it decides, what it remembers, and that it agrees with the code that it installs."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mien.encoder.tracker_choice import FACE_MESH_VERSION, LANDMARKER_VERSION

ROOT = Path(__file__).parent.parent


@pytest.fixture
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "scripts" / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("bundle", "python", "system", "machine", "tracker"),
    [
        (True, (3, 11), "Linux", "x86_64", "landmarker"),
        (True, (3, 13), "Linux", "x86_64", "landmarker"),
        (True, (3, 12), "Darwin", "arm64", "landmarker"),
        (True, (3, 12), "Windows", "AMD64", "landmarker"),
        (False, (3, 11), "Linux", "x86_64", "face_mesh"),
        (False, (3, 12), "Linux", "x86_64", "face_mesh"),
        (False, (3, 13), "Linux", "x86_64", "none"),
        (True, (3, 12), "Darwin", "x86_64", "face_mesh"),  # the newer mediapipe has no package for it
        (True, (3, 13), "Darwin", "x86_64", "none"),
        (True, (3, 12), "Linux", "aarch64", "none"),
    ],
)
def test_decision(
    setup: ModuleType, bundle: bool, python: tuple[int, int], system: str, machine: str, tracker: str
) -> None:
    plan = setup.decide(bundle=bundle, python=python, system=system, machine=machine)
    assert plan.tracker == tracker
    assert (plan.advice == "") == (tracker == "landmarker")


def test_no_tracker_says_what_to_do(setup: ModuleType) -> None:
    advice = setup.decide(bundle=False, python=(3, 13), system="Linux", machine="x86_64").advice
    assert "PYTHON=python3.12" in advice and "MIEN_MODELS" in advice and "face_landmarker.task" in advice


def test_versions_agree_with_the_code(setup: ModuleType) -> None:
    assert f"mediapipe=={LANDMARKER_VERSION}" == setup.LANDMARKER
    assert f"mediapipe=={FACE_MESH_VERSION}" == setup.FACE_MESH


class FakeMachine:
    """Stands in for pip, mien and the network."""

    def __init__(
        self, setup: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, *, reachable: bool
    ) -> None:
        self.installed: list[list[str]] = []
        self.fetches = 0
        self.reachable = reachable
        self.bundle = False
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin" / "python").touch()
        monkeypatch.setattr(setup, "VENV", folder / ".venv")
        monkeypatch.setattr(setup, "pip", lambda venv, arguments: self.installed.append(arguments))
        monkeypatch.setattr(setup, "has_bundle", lambda: self.bundle)
        monkeypatch.setattr(setup, "mien", self.mien)
        monkeypatch.setattr(setup.platform, "system", lambda: "Linux")
        monkeypatch.setattr(setup.platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(setup.sys, "version_info", (3, 12, 1))

    def mien(self, *arguments: str) -> bool:
        assert arguments[:2] == ("models", "fetch")
        self.fetches += 1
        self.bundle = self.reachable
        return self.reachable


def test_open_network(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = FakeMachine(setup, monkeypatch, tmp_path, reachable=True)
    assert setup.set_up_tracker(fresh=True).tracker == "landmarker"
    assert machine.installed == [[setup.LANDMARKER]] and machine.fetches == 1
    assert setup.set_up_tracker(fresh=False).tracker == "landmarker"
    assert len(machine.installed) == 1 and machine.fetches == 1  # the second time costs nothing


def test_closed_network(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = FakeMachine(setup, monkeypatch, tmp_path, reachable=False)
    assert setup.set_up_tracker(fresh=True).tracker == "face_mesh"
    assert machine.installed[-1] == ["--no-deps", setup.FACE_MESH]
    assert not any("jax" in part or "opencv-contrib" in part for call in machine.installed for part in call)
    assert "out of reach" in capsys.readouterr().out
    assert setup.set_up_tracker(fresh=False).tracker == "face_mesh"
    assert machine.fetches == 1  # not asked again each time: that would be 10 s for every `make demo`
    machine.bundle = True  # somebody put it there
    assert setup.set_up_tracker(fresh=False).tracker == "landmarker"
    machine.bundle = False  # and took it away
    assert setup.set_up_tracker(fresh=False).tracker == "face_mesh"


def test_speech_clean_up_lives_beside_one_tracker_only(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = FakeMachine(setup, monkeypatch, tmp_path, reachable=True)
    landmarker, face_mesh = setup.Plan("landmarker", ""), setup.Plan("face_mesh", "why")
    assert setup.set_up_voice(face_mesh) and machine.installed == []
    assert setup.set_up_voice(landmarker)
    [[livekit, protobuf]] = machine.installed
    assert livekit.startswith("livekit==") and int(protobuf.removeprefix("protobuf==").split(".")[0]) >= 5
    assert not setup.set_up_voice(landmarker) and len(machine.installed) == 1
    assert not any(
        line.startswith("protobuf") for line in (ROOT / "requirements.lock").read_text().splitlines()
    )

    def fail(venv: Path, arguments: list[str]) -> None:
        raise setup.SetupError("no such wheel")

    monkeypatch.setattr(setup, "pip", fail)
    setup.set_up_voice(face_mesh)
    assert setup.set_up_voice(landmarker) and "going on without" in capsys.readouterr().out


def test_stamp(setup: ModuleType, tmp_path: Path) -> None:
    stamp = setup.Stamp(tmp_path)
    assert stamp.read("main") is None
    stamp.write("main", "a")
    stamp.write("tracker", "b")
    assert (stamp.read("main"), stamp.read("tracker")) == ("a", "b")
    for damage in ("", "[1]", "{", '{"main": 3}'):
        (tmp_path / "mien-setup.json").write_text(damage)
        assert stamp.read("main") is None


def test_fingerprint_covers_what_is_installed(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = setup.fingerprint()
    assert before == setup.fingerprint()
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==9\n")
    monkeypatch.setattr(setup, "LOCK", lock)
    assert setup.fingerprint() != before


def test_system_packages_without_rights(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup.sys, "platform", "linux")
    monkeypatch.setattr(setup, "missing_packages", lambda: ["libegl1", "libgl1"])
    monkeypatch.setattr(setup, "administrator", lambda: None)
    monkeypatch.setattr(setup.shutil, "which", lambda name: f"/usr/bin/{name}")
    setup.install_system_packages()
    assert "apt-get install -y --no-install-recommends libegl1 libgl1" in capsys.readouterr().out


def test_missing_packages_are_found_by_their_files(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> None:
        if name.startswith("libEGL"):
            raise OSError(name)

    monkeypatch.setattr(setup.ctypes, "CDLL", load)
    monkeypatch.setattr(setup.glob, "glob", lambda pattern: [])
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: object())
    assert setup.missing_packages() == ["libegl1", "libegl-mesa0", "libgl1-mesa-dri"]


def test_failing_command_shows_its_end(setup: ModuleType, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('first'); print('the reason'); raise SystemExit(3)"]
    with pytest.raises(setup.SetupError, match=r"(?s)ended with 3.*the reason"):
        setup.run_logged(command, tmp_path / "log")
    assert "the reason" in (tmp_path / "log").read_text()


def test_old_python_is_told(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup.sys, "version_info", (3, 9, 2))
    assert setup.main() == 1
    assert "3.11" in capsys.readouterr().out


def test_continuous_integration_calls_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith("exec make test")
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_lock_file_names_no_host(setup: ModuleType) -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text and "\n-" not in text
    assert setup.pinned("numpy").startswith("numpy==2.")
    with pytest.raises(setup.SetupError):
        setup.pinned("jax")
