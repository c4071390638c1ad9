"""The folders stay at top level: what pyproject says, what the type checker sees and what a wheel holds must agree."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
CONFIG: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS: dict[str, Any] = CONFIG["tool"]["setuptools"]
NOT_PACKAGED = {"tests", "scripts", "docs", "typings", "web", "build", "dist"}
# Modules that need what only some machines have; there they may fail to import, for that reason alone.
OPTIONAL = {"mediapipe", "glfw", "matplotlib", "onnx", "torch"}


def package_folders() -> dict[str, str]:
    """Return {package: folder} of every folder with an __init__.py that should be in the wheel."""
    top = [p for p in ROOT.iterdir() if (p / "__init__.py").exists() and p.name not in NOT_PACKAGED]
    found = {("mien" if p.name == "mien" else f"mien.{p.name}"): p.name for p in top}
    found |= {f"mien.{p.parent.name}": f"mien/{p.parent.name}" for p in (ROOT / "mien").glob("*/__init__.py")}
    return found


def test_packages_are_the_folders() -> None:
    assert SETUPTOOLS["package-dir"] == package_folders()
    assert sorted(SETUPTOOLS["packages"]) == sorted(package_folders())


def test_folders_are_flat_and_typed() -> None:
    for folder in package_folders().values():
        assert (ROOT / folder / "py.typed").exists(), folder
        if folder != "mien":  # a sub-package stays green in an editable install while the wheel lacks it
            nested = [p for p in (ROOT / folder).glob("*/**/*.py")]
            assert nested == [], folder


def test_type_checker_links() -> None:
    links = {p.name: os.readlink(p) for p in (ROOT / "typings" / "mien").iterdir()}
    wanted = {p.name: f"../../mien/{p.name}" for p in (ROOT / "mien").glob("*.py")}
    for package, folder in package_folders().items():
        if package != "mien":
            wanted[package.removeprefix("mien.")] = os.path.relpath(ROOT / folder, ROOT / "typings" / "mien")
    wanted["commands"] = "../../mien/commands"
    wanted |= {"py.typed": "../../mien/py.typed"} if "py.typed" in links else {}
    assert {n: os.path.normpath(t) for n, t in links.items()} == {
        n: os.path.normpath(t) for n, t in wanted.items()
    }
    assert all((ROOT / "typings" / "mien" / name).exists() for name in links)


def test_ruff_bans_every_bare_folder() -> None:
    """`import encoder` would load a second copy of every class."""
    bans = CONFIG["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert sorted(bans) == sorted(f for f in package_folders().values() if "/" not in f and f != "mien")


def locked() -> dict[str, str]:
    lines = [x for x in (ROOT / "requirements.lock").read_text().splitlines() if x and not x.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line) for line in lines), (
        "only exact versions"
    )
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}


def test_lock_file_pins_every_requirement() -> None:
    project = CONFIG["project"]
    extras = [r for needs in project["optional-dependencies"].values() for r in needs]
    pins = locked()
    for text in [*project["dependencies"], *extras, *CONFIG["build-system"]["requires"]]:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not in requirements.lock"
        assert requirement.specifier.contains(pins[name]), f"{text}, but {pins[name]} is locked"


def test_encoder_and_decoder_never_meet() -> None:
    allowed = {
        "protocol": {"protocol"},
        "models": {"protocol", "models"},
        "encoder": {"protocol", "models", "encoder"},
        "decoder": {"protocol", "models", "decoder"},
        "call": {"protocol", "models", "encoder", "decoder", "call"},
    }
    pattern = re.compile(r"^\s*(?:from|import)\s+mien\.(\w+)", re.MULTILINE)
    for folder, may in allowed.items():
        for path in (ROOT / folder).glob("*.py"):
            used = set(pattern.findall(path.read_text(encoding="utf-8")))
            assert used <= may, f"{path.relative_to(ROOT)} imports {sorted(used - may)}"


def test_protocol_is_light() -> None:
    """`import mien.protocol` stays in milliseconds: nothing heavy comes along."""
    heavy = (
        "{'cv2', 'av', 'mediapipe', 'moderngl', 'aiortc', 'skimage', 'scipy', 'matplotlib', 'PIL', 'rich'}"
    )
    names = [f"mien.protocol.{p.stem}" for p in (ROOT / "protocol").glob("*.py") if p.stem != "__init__"]
    code = f"import sys, {', '.join(names)}\nprint(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tree, so that no old build/ folder can lend it a file."""
    source = tmp_path_factory.mktemp("source") / "tree"
    dropped = shutil.ignore_patterns(
        ".*", "__pycache__", "node_modules", "*.egg-info", "build", "dist", "*.mp4"
    )
    shutil.copytree(ROOT, source, symlinks=True, ignore=dropped)
    out = tmp_path_factory.mktemp("wheel")
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(out)!r}))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return next(out.glob("*.whl"))


def test_wheel_holds_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = set()
    for package, folder in package_folders().items():
        inside = package.replace(".", "/")
        here = ROOT / folder
        wanted |= {f"{inside}/{p.name}" for p in (*here.glob("*.py"), here / "py.typed")}
        wanted |= {
            f"{inside}/{p.parent.name}/{p.name}"
            for sub in ("assets", "shaders", "traces")
            for p in (here / sub).glob("*")
            if p.is_file()
        }
    assert wanted - names == set(), "missing in the wheel"
    strangers = {n for n in names if not n.startswith("mien/") and ".dist-info/" not in n}
    assert strangers == set()
    assert any(n.endswith(".glsl") for n in names) and any("/models/assets/" in n for n in names)


def test_wheel_imports_on_its_own(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = f"""
import importlib, json, pathlib, sys
root = pathlib.Path({str(tmp_path)!r})
sys.path.insert(0, str(root))
problems, outside = [], []
for path in sorted(root.glob("mien/**/*.py")):
    parts = path.relative_to(root).with_suffix("").parts
    if parts[-1] in ("__init__", "__main__"):
        parts = parts[:-1]
    try:
        module = importlib.import_module(".".join(parts))
    except ImportError as error:
        if (error.name or "").split(".")[0] not in {OPTIONAL!r}:
            problems.append(f"{{'.'.join(parts)}}: {{error}}")
        continue
    if not module.__file__.startswith(str(root)):
        outside.append(module.__file__)
print(json.dumps([problems, outside]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines()[-1] == "[[], []]"
