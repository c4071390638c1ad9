"""`mien doctor`: what this machine has, what is missing, how to get it."""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from mien import __version__
from mien.encoder.tracker import native_stderr_to_log
from mien.encoder.tracker_choice import (
    FACE_MESH_VERSION,
    LANDMARKER_VERSION,
    explain_absence,
    mediapipe_version,
)
from mien.models.store import FACE_LANDMARKER, find_model
from mien.protocol.errors import MienError

EXAMPLE: Final = """examples:
  mien doctor
  mien doctor --json
"""
PROBE_S: Final = 20.0
GL_PROBE: Final = (
    "import moderngl\n"
    "context = moderngl.create_standalone_context(backend='egl')\n"
    "print(context.info['GL_RENDERER'], '|', context.info['GL_VERSION'])\n"
)
GL_PACKAGES: Final = "sudo apt-get install libegl1 libgl1 libegl-mesa0 libgl1-mesa-dri"
NEEDED_CODECS: Final = {"libx264": "w", "h264": "r", "libopus": "w", "libvpx": "w"}
WELCOME_CODECS: Final = ("libsvtav1", "libx265", "libvpx-vp9")  # rivals in the bench


class State(StrEnum):
    """How a finding stands."""

    FINE = "fine"
    REDUCED = "reduced"  # works, but something optional is missing
    MISSING = "missing"  # mien is not usable without it


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `advice` says how to get what is missing; empty where nothing is."""

    name: str
    state: State
    found: str
    advice: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--json", action="store_true", help="report as one JSON line")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns 0 where mien is usable, else 1."""
    findings = examine()
    usable = all(finding.state != State.MISSING for finding in findings)
    if options.json:
        report = {"mien": __version__, "usable": usable, "findings": [asdict(f) for f in findings]}
        print(json.dumps(report))
    else:
        tell(findings, usable=usable)
    return 0 if usable else 1


def examine() -> list[Finding]:
    """Look at everything. No camera and no microphone is switched on, nothing is asked over the network."""
    checks: tuple[Callable[[], Finding], ...] = (
        check_python,
        check_tracker,
        check_opengl,
        check_window,
        check_codecs,
        check_cameras,
        check_sound,
        check_voice,
        check_inference,
        check_node,
        check_owner_key,
    )
    return [check() for check in checks]


def tell(findings: list[Finding], *, usable: bool) -> None:
    """Print the report for people."""
    console = Console(soft_wrap=True, highlight=False)
    width = max(len(finding.name) for finding in findings)
    marks = {State.FINE: ("+", "green"), State.REDUCED: ("o", "yellow"), State.MISSING: ("x", "bold red")}
    for finding in findings:
        mark, style = marks[finding.state]
        console.print(Text.assemble((mark, style), f" {finding.name:<{width}}  {finding.found}"))
        if finding.advice:
            console.print(Text(f"  {'':<{width}}  -> {finding.advice}"))
    console.print("mien is usable here" if usable else "mien is not usable here: see the lines marked x")


def check_python() -> Finding:
    """Python and the machine."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    if sys.version_info < (3, 11):  # noqa: UP036 - someone may run the source without installing it
        return Finding("python", State.MISSING, found, "install Python 3.11 or later")
    return Finding("python", State.FINE, found)


def check_tracker() -> Finding:
    """The face tracker and its models."""
    version = mediapipe_version()
    if version == LANDMARKER_VERSION:
        bundle = find_model(FACE_LANDMARKER.name)
        if bundle is None:
            return Finding(
                "tracker", State.MISSING, f"mediapipe {version} without its bundle", explain_absence(version)
            )
        return Finding("tracker", State.FINE, f"FaceLandmarker (mediapipe {version}, {bundle})")
    if version == FACE_MESH_VERSION:
        return Finding(
            "tracker",
            State.REDUCED,
            f"FaceMesh (mediapipe {version}, models inside)",
            "for the official bundle: `mien models fetch` with a network, then `make setup` again",
        )
    return Finding(
        "tracker", State.MISSING, f"mediapipe {version or 'is not installed'}", explain_absence(version)
    )


def check_opengl() -> Finding:
    """Off-screen OpenGL, probed in a process of its own: a broken driver may crash it."""
    answer = run_probe([sys.executable, "-c", GL_PROBE])
    if answer is None:
        return Finding(
            "opengl",
            State.REDUCED,
            "no off-screen OpenGL (EGL): pictures are drawn with NumPy, slowly",
            GL_PACKAGES,
        )
    if "llvmpipe" in answer or "softpipe" in answer or "swrast" in answer.lower():
        return Finding("opengl", State.FINE, f"{answer} (drawn by the processor)")
    return Finding("opengl", State.FINE, f"{answer} (graphics card)")


def check_window() -> Finding:
    """A display to show the other person on."""
    display = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    if sys.platform == "linux" and not display:
        return Finding("window", State.REDUCED, "no display: pictures go to files", "start a desktop session")
    if importlib.util.find_spec("glfw") is None:
        return Finding(
            "window", State.REDUCED, "a display, but no package glfw", "pip install 'mien[window]'"
        )
    return Finding("window", State.FINE, f"display {display}" if display else "the system's own")


def check_codecs() -> Finding:
    """Video and sound codecs that PyAV brings."""
    import av

    def has(name: str, mode: str) -> bool:
        try:
            av.codec.Codec(name, "w" if mode == "w" else "r")
        except (ValueError, av.error.FFmpegError):
            return False
        return True

    missing = [name for name, mode in NEEDED_CODECS.items() if not has(name, mode)]
    rivals = [name for name in WELCOME_CODECS if has(name, "w")]
    found = f"PyAV {av.__version__}: H.264, Opus, VP8" + (
        f"; for the bench {', '.join(rivals)}" if rivals else ""
    )
    if missing:
        found = f"PyAV {av.__version__} without {', '.join(missing)}"
        return Finding("codecs", State.MISSING, found, "pip install --force-reinstall --only-binary av av")
    return Finding("codecs", State.FINE, found)


def check_cameras() -> Finding:
    """Cameras, by name only: opening one would switch its light on."""
    if sys.platform != "linux":
        return Finding(
            "camera", State.FINE, "not looked for on this system; `--input camera` tries the first"
        )
    devices = sorted(Path("/dev").glob("video*"))
    if not devices:
        return Finding("camera", State.REDUCED, "none", "plug one in, or use a clip or a photo instead")
    closed = [device for device in devices if not os.access(device, os.R_OK | os.W_OK)]
    names = ", ".join(f"camera:{device.name.removeprefix('video')}" for device in devices)
    if closed:
        advice = "sudo usermod -aG video $USER, then log out and in again"
        return Finding("camera", State.REDUCED, f"{names}; this user may not use {closed[0]}", advice)
    return Finding("camera", State.FINE, names)


def check_sound() -> Finding:
    """Microphone and loudspeaker, through PortAudio."""
    try:
        with native_stderr_to_log():  # ALSA prints about every card that is not there
            import sounddevice

            devices = list(sounddevice.query_devices())
    except OSError as error:
        how = (
            "sudo apt-get install libportaudio2"
            if sys.platform == "linux"
            else "pip install --force-reinstall sounddevice"
        )
        return Finding("sound", State.REDUCED, f"no PortAudio ({error})", how)
    microphones = sum(device["max_input_channels"] > 0 for device in devices)
    speakers = sum(device["max_output_channels"] > 0 for device in devices)
    found = f"{microphones} microphones, {speakers} loudspeakers"
    if microphones and speakers:
        return Finding("sound", State.FINE, found)
    return Finding("sound", State.REDUCED, found, "calls then run without one's own voice, or silently")


def check_voice() -> Finding:
    """What cleans a voice of echo and noise."""
    from mien.call.audio_processing import ADVICE, why_no_processing

    reason = why_no_processing()
    if reason:
        return Finding("speech clean-up", State.REDUCED, reason.partition(";")[0].partition(": ")[2], ADVICE)
    return Finding(
        "speech clean-up",
        State.FINE,
        f"livekit {importlib.metadata.version('livekit')}: echo, noise and level of a microphone",
    )


def check_inference() -> Finding:
    """ONNX Runtime, what it can run on, and the generator on the fastest of it."""
    from mien.decoder.generator import HOW_TO_GET, PROVIDERS, load_runtime, open_shipped

    try:
        runtime = load_runtime()
    except MienError:
        return Finding(
            "generator", State.REDUCED, "no ONNX Runtime: scenes are painted without it", HOW_TO_GET
        )
    there = [name for provider, name in PROVIDERS.items() if provider in runtime.get_available_providers()]
    found = f"ONNX Runtime {runtime.__version__} for {', '.join(there)}"
    try:
        generator = open_shipped()
    except MienError as error:
        return Finding("generator", State.REDUCED, f"{found}; {error}", "scenes are painted without it")
    if generator is None:
        return Finding("generator", State.FINE, f"{found}; this version comes without a generator")
    return Finding(
        "generator",
        State.FINE,
        f"{found}; runs on the {generator.device} in {generator.run_ms:.1f} ms a scene picture",
    )


def check_node() -> Finding:
    """Node and npm, for the tests of the browser's code."""
    versions = {name: run_probe([name, "--version"]) for name in ("node", "npm") if shutil.which(name)}
    missing = [name for name in ("node", "npm") if not versions.get(name)]
    if missing:
        return Finding(
            "node",
            State.REDUCED,
            f"no {' and no '.join(missing)}",
            "only the tests of web/ need it: nodejs.org",
        )
    return Finding("node", State.FINE, f"node {versions['node']}, npm {versions['npm']}")


def check_owner_key() -> Finding:
    """The key that signs one's avatars."""
    from mien.encoder.owner_key import load_owner_key
    from mien.protocol.private_files import private_folder

    try:
        key = load_owner_key()
    except MienError as error:
        return Finding("owner key", State.REDUCED, "refused", str(error))
    if key is None:
        return Finding("owner key", State.FINE, f"none yet; `mien enroll` makes one in {private_folder()}")
    return Finding("owner key", State.FINE, f"{key.public_key.hex()[:16]}... in {private_folder()}")


def run_probe(command: list[str]) -> str | None:
    """Return the first line that a command prints, None where it fails or takes longer than `PROBE_S`."""
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=PROBE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = result.stdout.splitlines()
    return lines[0].strip() if result.returncode == 0 and lines else None
