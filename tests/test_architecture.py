"""The arrows between folders run one way, and heavy libraries stay behind the door that needs them."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "protocol": {"protocol"},
    "models": {"models", "protocol"},
    "encoder": {"encoder", "models", "protocol"},
    "decoder": {"decoder", "models", "protocol"},
    "call": {"call", "decoder", "encoder", "models", "protocol"},
    "bench": {"bench", "call", "decoder", "encoder", "models", "protocol"},
}
ONLY_IN = {
    "aiortc": {"call"},
    "websockets": {"call"},
    "mediapipe": {"encoder", "bench"},
    "moderngl": {"decoder"},
    "onnxruntime": {"decoder", "bench"},
    "torch": {"models", "bench"},
}


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_folders_import_only_what_lies_below(folder: str) -> None:
    wrong = [
        f"{path.name}: {name}"
        for path in sorted((ROOT / folder).glob("*.py"))
        for name in imports(path)
        if name.startswith("mien.") and name.split(".")[1] not in MAY_IMPORT[folder]
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_heavy_libraries_have_one_home(library: str) -> None:
    found = {
        folder
        for folder in MAY_IMPORT
        for path in (ROOT / folder).glob("*.py")
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert found <= ONLY_IN[library]


def test_no_module_imports_itself_in_a_circle() -> None:
    modules = {
        f"mien.{path.parent.name}.{path.stem}": path
        for folder in MAY_IMPORT
        for path in (ROOT / folder).glob("*.py")
        if path.stem != "__init__"
    }
    edges = {name: [i for i in imports(path) if i in modules] for name, path in modules.items()}
    finished: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in finished:
            for target in edges[name]:
                visit(target, (*trail, name))
            finished.add(name)

    for name in edges:
        visit(name, ())


def test_the_protocol_loads_without_heavy_libraries() -> None:
    code = (
        "import sys, mien.protocol.codec, mien.protocol.log, mien.protocol.avatar\n"
        "heavy = {'mediapipe', 'moderngl', 'av', 'cv2', 'aiortc', 'PIL', 'torch', 'websockets'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
