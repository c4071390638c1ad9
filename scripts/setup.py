"""Make a checkout ready to use: system libraries, `.venv`, everything pinned, and a face tracker.

    python3 scripts/setup.py            what `make setup` runs
    python3 scripts/setup.py --both     also `.venv-face-mesh`, in which the tests run the other tracker

Needs nothing but Python, asks nothing, and does nothing where everything is done already.

MediaPipe is not among mien's dependencies in pyproject.toml, because which version can be installed is
known only here: 0.10.31 has no models inside and needs the official bundle, which may be out of reach;
0.10.21 has models inside, wants a NumPy of the past and 800 MB of what it does not need, and runs without
either when it is installed alone. The two cannot share an environment.
"""

from __future__ import annotations

import argparse
import ctypes
import glob
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
SECOND_VENV = ROOT / ".venv-face-mesh"
OLDEST_PYTHON = (3, 11)

LANDMARKER = "mediapipe==0.10.31"
FACE_MESH = "mediapipe==0.10.21"
FACE_MESH_NEWEST_PYTHON = (3, 12)
# What FaceMesh really imports of its declared dependencies. Its protobuf is older than any other's.
FACE_MESH_NEEDS = ("absl-py", "attrs", "flatbuffers", "matplotlib", "protobuf==4.25.9")
# Speech clean-up, which cannot live with that protobuf: where FaceMesh is the tracker, calls do without it.
VOICE_NEEDS = ("protobuf==7.36.2",)

# Debian's package, and the file whose presence shows that it (or its like elsewhere) is installed.
DEBIAN_LIBRARIES = {
    "libegl1": "libEGL.so.1",
    "libgl1": "libGL.so.1",
    "libegl-mesa0": "libEGL_mesa.so.0",
    "libglib2.0-0": "libgthread-2.0.so.0",
}
DEBIAN_FILES = {"libgl1-mesa-dri": ("/usr/lib/*/dri/*swrast*.so", "/usr/lib/*/libgallium-*.so")}


class Plan(NamedTuple):
    """Which tracker to install. `tracker` is "landmarker", "face_mesh" or "none"; `advice` is for the user."""

    tracker: str
    advice: str


def decide(*, bundle: bool, python: tuple[int, int], system: str, machine: str) -> Plan:
    """Choose the tracker. `bundle`: the official model bundle is on this machine; the others are this machine's."""
    intel_mac = system == "Darwin" and machine == "x86_64"
    if system == "Linux" and machine not in ("x86_64", "AMD64"):
        return Plan(
            "none",
            f"MediaPipe has no packages for Linux on {machine} that mien can use: take an x86-64 machine",
        )
    if bundle and not intel_mac:
        return Plan("landmarker", "")
    if python <= FACE_MESH_NEWEST_PYTHON:
        why = "this Mac has no newer MediaPipe" if intel_mac else "the official model bundle is out of reach"
        return Plan("face_mesh", f"{why}: taking the FaceMesh models, which come inside their package")
    needed = ".".join(map(str, FACE_MESH_NEWEST_PYTHON))
    return Plan(
        "none",
        "no face tracker: the official model bundle is out of reach, and the tracker that does without it needs "
        f"Python {needed} or older. Either `make setup PYTHON=python{needed}`, or put face_landmarker.task into a "
        "folder, name that folder in MIEN_MODELS, and run `make setup` again",
    )


def main() -> int:
    """Do what is left to do. Returns 0 when the checkout is ready."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        say(
            f"mien needs Python 3.11 or later, this is {platform.python_version()}: `make setup PYTHON=python3.11`"
        )
        return 1
    parser = argparse.ArgumentParser(description="Make the checkout ready to use.")
    parser.add_argument(
        "--both", action="store_true", help="also the environment of the second tracker, for the tests"
    )
    options = parser.parse_args()
    start_s = time.monotonic()
    try:
        fresh = set_up_main()
        plan = set_up_tracker(fresh=fresh)
        if plan.tracker == "none":
            return 1
        fresh = set_up_voice(plan) or fresh
        if options.both:
            fresh = set_up_second(plan) or fresh
    except SetupError as error:
        say(f"setup failed: {error}")
        return 1
    if not fresh:
        say(f"==> .venv is ready ({plan.tracker} tracker)")
    else:
        say(
            f"==> ready in {time.monotonic() - start_s:.0f} s; `.venv/bin/mien doctor` says what else this machine has"
        )
    return 0


class SetupError(Exception):
    """Something that stops the set-up. The text says what to do."""


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


# ---- the environment -------------------------------------------------------------------------------------------


def set_up_main() -> bool:
    """Bring `.venv` up to date. Returns whether there was anything to do."""
    stamp = Stamp(VENV)
    key = fingerprint()
    if stamp.read("main") == key and python_of(VENV).exists():
        return False
    install_system_packages()
    make_venv(VENV)
    say("==> installing mien and the checkers (pinned in requirements.lock)")
    pip(VENV, [pinned("setuptools")])  # here, because a separate build environment would take the newest
    pip(VENV, ["--no-build-isolation", "-e", f"{ROOT}[bench,dev]"])
    stamp.write("main", key)
    stamp.write("made", str(time.time_ns()))
    return True


def set_up_tracker(*, fresh: bool) -> Plan:
    """Install the tracker that fits. Asks the network only where nothing was decided before."""
    stamp = Stamp(VENV)
    before = stamp.read("tracker")
    bundle = has_bundle()
    if not bundle and (fresh or before != "face_mesh"):
        say("==> fetching the face tracker's model bundle (3.8 MB; 10 s to the first answer)")
        bundle = mien("models", "fetch", "face_landmarker")
    plan = decide(
        bundle=bundle, python=sys.version_info[:2], system=platform.system(), machine=platform.machine()
    )
    if plan.tracker != before:
        if plan.advice:
            say(f"==> {plan.advice}")
        if plan.tracker == "landmarker":
            say(f"==> installing the face tracker ({LANDMARKER})")
            pip(VENV, [LANDMARKER])
        elif plan.tracker == "face_mesh":
            say(f"==> installing the face tracker ({FACE_MESH}, without what it does not need)")
            pip(VENV, list(FACE_MESH_NEEDS))
            pip(VENV, ["--no-deps", FACE_MESH])
        stamp.write("tracker", plan.tracker)
        stamp.write("made", str(time.time_ns()))
    elif plan.tracker == "none":
        say(f"==> {plan.advice}")
    return plan


def set_up_voice(plan: Plan) -> bool:
    """Install speech clean-up where it can live beside the tracker. Never fatal. Returns whether there was anything to do."""
    stamp = Stamp(VENV)
    wanted = f"{plan.tracker} {fingerprint()}"
    if stamp.read("voice") == wanted:
        return False
    if plan.tracker == "landmarker":
        say("==> installing speech clean-up (livekit)")
        try:
            pip(VENV, [pinned("livekit"), *VOICE_NEEDS])
        except SetupError as error:
            say(f"==> going on without speech clean-up: {error}")
    stamp.write("voice", wanted)
    return True


def set_up_second(plan: Plan) -> bool:
    """Make the environment in which the tests run FaceMesh. Returns whether there was anything to do."""
    if plan.tracker != "landmarker" or sys.version_info[:2] > FACE_MESH_NEWEST_PYTHON:
        return False  # FaceMesh is the main tracker already, or cannot be had
    stamp = Stamp(SECOND_VENV)
    key = f"{fingerprint()} {Stamp(VENV).read('made')}"  # it leans on the main environment
    if stamp.read("main") == key and python_of(SECOND_VENV).exists():
        return False
    make_venv(SECOND_VENV)
    say(f"==> installing the second face tracker for the tests ({FACE_MESH}, in {SECOND_VENV.name})")
    # Only what differs goes in; all else is looked up in the main environment, after this one's own.
    link = site_packages(SECOND_VENV) / "main_environment.pth"
    link.write_text(f"import site; site.addsitedir({str(site_packages(VENV))!r})\n")
    pip(SECOND_VENV, list(FACE_MESH_NEEDS))
    pip(SECOND_VENV, ["--no-deps", FACE_MESH])
    stamp.write("main", key)
    return True


def fingerprint() -> str:
    """Return what the environment was made from; another value means: make it again."""
    digest = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", LOCK, Path(__file__)):
        digest.update(path.read_bytes() + b"\0")
    digest.update(f"{ROOT} {sys.version}".encode())  # an environment cannot be moved
    return digest.hexdigest()


class Stamp:
    """Remembers, inside an environment, what was done to it."""

    def __init__(self, venv: Path) -> None:
        self._path = venv / "mien-setup.json"

    def read(self, name: str) -> str | None:
        """Return what was written under `name`, None where nothing was."""
        value = self._load().get(name)
        return value if isinstance(value, str) else None

    def write(self, name: str, value: str) -> None:
        """Remember `value`."""
        self._path.write_text(json.dumps({**self._load(), name: value}) + "\n")

    def _load(self) -> dict[str, object]:
        try:
            values = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}


def python_of(venv: Path) -> Path:
    """Return the environment's interpreter."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def site_packages(venv: Path) -> Path:
    """Return the folder that the environment's packages are in."""
    if os.name == "nt":
        return venv / "Lib" / "site-packages"
    return venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def make_venv(venv: Path) -> None:
    """Make the environment, or make it anew where it is broken or of another Python."""
    probe = "import sys, pip; print(sys.version)"
    if python_of(venv).exists():
        answer = run_quiet([str(python_of(venv)), "-c", probe])
        if answer is not None and answer.strip() == sys.version.strip():
            return
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupError(
            "this Python cannot make environments: `sudo apt-get install python3-venv`, then again"
        )
    say(f"==> making {venv.name} with Python {platform.python_version()}")
    run_logged([sys.executable, "-m", "venv", "--clear", str(venv)], Path(os.devnull))


def pip(venv: Path, arguments: list[str]) -> None:
    """Install with the locked versions. Raises `SetupError` with the end of pip's output."""
    command = [str(python_of(venv)), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    run_logged(
        [*command, "-c", str(LOCK), *arguments], venv / "setup.log", show=("Downloading ", "Obtaining ")
    )


def pinned(name: str) -> str:
    """Return the lock file's requirement for `name`."""
    for line in LOCK.read_text().splitlines():
        if line.startswith(f"{name}=="):
            return line
    raise SetupError(f"requirements.lock does not pin {name}")


def has_bundle() -> bool:
    """Say whether the tracker's model bundle is on this machine."""
    return run_quiet([str(python_of(VENV)), "-m", "mien", "models", "list", "face_landmarker"]) is not None


def mien(*arguments: str) -> bool:
    """Run `mien` with its output shown. Returns whether it succeeded."""
    command = [str(python_of(VENV)), "-m", "mien", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, cwd=ROOT, check=False).returncode == 0


# ---- the system ------------------------------------------------------------------------------------------------


def install_system_packages() -> None:
    """Install the missing libraries where we may; else print the line that does. Never fatal."""
    if sys.platform != "linux":
        return
    missing = missing_packages()
    if not missing:
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if shutil.which("apt-get") is None:
        say(f"==> missing libraries, Debian's names for them: {' '.join(missing)}; install your system's")
        return
    rights = administrator()
    if rights is None:
        say(f"==> missing system libraries; as administrator, run: apt-get update && {' '.join(install)}")
        return
    say(f"==> installing system libraries: {' '.join(missing)}")
    patience = ["-o", "DPkg::Lock::Timeout=60", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", *patience, "update"], [*install[:1], *patience, *install[1:]]):
        result = subprocess.run(
            [*rights, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            errors="replace",
            check=False,
        )
        if result.returncode != 0:
            say("\n".join(result.stdout.splitlines()[-5:]))
    still = missing_packages()
    if still:
        say(
            f"==> could not install {' '.join(still)}; going on without (pictures are then drawn without OpenGL)"
        )


def missing_packages() -> list[str]:
    """Return Debian's names of what is not on this machine."""
    missing = [] if importlib.util.find_spec("ensurepip") else ["python3-venv"]
    for package, library in DEBIAN_LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    return missing + [p for p, patterns in DEBIAN_FILES.items() if not any(map(glob.glob, patterns))]


def administrator() -> list[str] | None:
    """Return what to put before a command to run it as root without being asked; None where we may not."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is not None and run_quiet(["sudo", "-n", "true"]) is not None:
        return ["sudo", "-n"]
    return None


# ---- processes -------------------------------------------------------------------------------------------------


def run_quiet(command: list[str]) -> str | None:
    """Return what the command printed, None where it failed."""
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError:
        return None
    return result.stdout if result.returncode == 0 else None


def run_logged(command: list[str], log: Path, *, show: tuple[str, ...] = ()) -> None:
    """Run the command, its output into `log`; lines that begin with one of `show` are printed as they come.

    Raises `SetupError` with the end of the output where it fails.
    """
    tail: list[str] = []
    with log.open("a", encoding="utf-8") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            text=True,
            errors="replace",
        )
        pipe: IO[str] | None = process.stdout
        for line in pipe or ():
            out.write(line)
            tail = [*tail[-24:], line.rstrip()]
            if show and line.lstrip().startswith(show):
                say(f"    {line.strip()}")
        status = process.wait()
    if status != 0:
        raise SetupError("\n".join([f"`{' '.join(command)}` ended with {status}:", *tail]))


if __name__ == "__main__":
    sys.exit(main())
