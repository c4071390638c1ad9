"""`mien models`: which model files are here, and fetching those that are not."""

import argparse
import json
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Column, Table

from mien.models.store import MODELS, ModelFile, fetch_model, find_model, search_dirs
from mien.protocol.errors import MienError

EXAMPLE: Final = """examples:
  mien models list
  mien models fetch
  mien models fetch face_landmarker --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "action", choices=["list", "fetch"], help="list: what is here; fetch: get what is missing"
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help=f"which models (default: all): {', '.join(MODELS)}"
    )
    parser.add_argument("--json", action="store_true", help="report as one JSON line for each model")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns 0, or 1 from `list` where a model is missing."""
    names = options.names or list(MODELS)
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise MienError(f"there is no model {unknown[0]!r}; there are: {', '.join(MODELS)}")
    if options.action == "fetch":
        for name in names:
            fetch(name)
    places = {name: find_model(name) for name in names}
    if options.json:
        for name, path in places.items():
            print(json.dumps(describe(MODELS[name], path)))
    else:
        tell(places)
    return 0 if all(path is not None for path in places.values()) else 1


def fetch(name: str) -> Path:
    """Fetch one model, showing progress on standard error."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(MODELS[name].file_name, total=MODELS[name].size_bytes)
        return fetch_model(name, lambda done, _whole: progress.update(task, completed=done))


def describe(model: ModelFile, path: Path | None) -> dict[str, object]:
    """Return what a program wants to know of a model."""
    return {
        "name": model.name,
        "present": path is not None,
        "path": None if path is None else str(path),
        "size_bytes": model.size_bytes,
        "sha256": model.sha256,
        "licence": model.licence,
        "purpose": model.purpose,
        "url": model.url,
    }


def tell(places: dict[str, Path | None]) -> None:
    """Print a table for people."""
    table = Table("model", "for", "MB", "licence", Column("where", overflow="fold"))
    for name, path in places.items():
        model = MODELS[name]
        where = str(path) if path is not None else "missing: `mien models fetch`"
        table.add_row(name, model.purpose, f"{model.size_bytes / 1e6:.1f}", model.licence, where)
    console = Console()
    console.print(table)
    if None in places.values():
        console.print(f"looked in: {', '.join(map(str, search_dirs()))}", soft_wrap=True)
