"""What a result row needs so that it can be run again: commit, versions, machine."""

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import mien


@cache
def provenance() -> dict[str, str]:
    """Return commit (with `+` where files have changed since), versions and machine."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short", "HEAD")
    changed = "+" if commit and git("status", "--porcelain", "--untracked-files=no") else ""
    libraries = ("mediapipe", "numpy", "aiortc", "moderngl", "av")
    found = {name: _version(name) for name in libraries}
    return {
        "mien": mien.__version__,
        "commit": commit + changed,
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {platform.system()}",
        **{name: version for name, version in found.items() if version},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
