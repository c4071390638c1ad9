"""The README's first screen is true: its Python runs, its commands and files exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mien.cli import VERBS
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.errors import MienError

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_runs(tmp_path: Path) -> None:
    try:
        open_tracker().close()
    except MienError as error:
        pytest.skip(str(error))
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    rate = re.fullmatch(r"(\d+\.\d+) kbps of payload\n", result.stdout)
    assert rate is not None and 0.3 < float(rate[1]) < 3
    assert (tmp_path / "face.png").stat().st_size > 10_000


def test_commands_exist() -> None:
    verbs = set(re.findall(r"(?:bin/|`)mien (\w+)", TEXT))
    assert {"enroll", "encode", "replay", "serve", "call", "bench", "doctor"} <= verbs <= set(VERBS)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make (\w+)", TEXT, re.MULTILINE))
    assert {"demo", "test", "setup"} <= targets
    assert all(f"\n{target}:" in makefile for target in targets)


def test_files_exist() -> None:
    for name in re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", TEXT):
        if not name.startswith(".venv"):
            assert (ROOT / name).exists(), name
