"""`mien inspect`: what is in a log, an avatar or a tuning."""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from mien.commands.avatar_files import MAX_FILE_BYTES, read_file
from mien.commands.log_report import report_log
from mien.decoder.recording import read_recording
from mien.models.generator_asset import SHIPPED
from mien.protocol import avatar as avatar_format
from mien.protocol import tuning as tuning_format
from mien.protocol.avatar import AvatarAssembler, assemble
from mien.protocol.errors import MienError, WireError
from mien.protocol.log import open_log
from mien.protocol.log_records import MAGIC as LOG_MAGIC
from mien.protocol.manifest import LayerKind, fingerprint_of

EXAMPLE: Final = """examples:
  mien inspect talk.mien
  mien inspect me.avatar --json
  mien inspect me.tuning
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="a .mien log, an .avatar or a .tuning")
    parser.add_argument("--json", action="store_true", help="report as one JSON line")


def run(options: argparse.Namespace) -> int:
    """Run the verb: 0, or 1 for a file that is damaged (what can be said is said)."""
    start = read_start(options.file)
    if start == LOG_MAGIC:
        report, status = inspect_log(options.file)
    elif start == avatar_format.MAGIC:
        report, status = inspect_avatar(options.file)
    elif start == tuning_format.MAGIC:
        report, status = inspect_tuning(options.file)
    else:
        raise MienError(
            f"{options.file} is neither a mien log nor an avatar nor a tuning: its first bytes are others"
        )
    if options.json:
        print(json.dumps(report))
    else:
        show(report)
    return status


def read_start(path: str) -> bytes:
    """Return the first 8 bytes of a file, which tell what it is."""
    try:
        with Path(path).open("rb") as stream:
            return stream.read(8)
    except OSError as error:
        raise MienError(f"cannot read {path}: {error.strerror}") from error


def inspect_log(path: str) -> tuple[dict[str, Any], int]:
    """Return the report of a log, and 1 where it is damaged."""
    with open_log(path) as reader:
        recording = read_recording(reader)
    report = report_log(recording, file_bytes=Path(path).stat().st_size)
    return {"file": path, **report}, int(recording.damage is not None)


def inspect_avatar(path: str) -> tuple[dict[str, Any], int]:
    """Return the report of an avatar, and 1 where its signature or anything else is not in order."""
    data = read_file(path, max_bytes=MAX_FILE_BYTES)
    head = {"file": path, "kind": "avatar", "bytes": len(data)}
    try:
        assembler = assemble(data, now_unix_s=0)  # an expired one is in order too, and says so below
    except WireError as error:
        return {**head, "signature": "not verified", "problem": str(error)}, 1
    return {**head, **report_avatar(assembler)}, 0


def report_avatar(assembler: AvatarAssembler) -> dict[str, Any]:
    """Return what a verified avatar says about itself."""
    manifest, avatar = assembler.manifest, assembler.avatar
    expires = manifest.expires_unix_s
    return {
        "signature": "valid",
        "name": manifest.name,
        "owner": manifest.owner.hex(),
        "owner_fingerprint": manifest.owner_fingerprint,
        "avatar_id": assembler.avatar_id.hex(),
        "consent": {
            "kind": str(manifest.consent.kind),
            "statement": manifest.consent.statement,
            "given": day(manifest.consent.given_unix_s),
        },
        "uses": list(manifest.uses),
        "created": day(manifest.created_unix_s),
        "expires": None if expires is None else day(expires),
        "expired": expires is not None and time.time() >= expires,
        "tracker": manifest.tracker.name.lower(),
        "model_id": manifest.model_id.hex(),
        "frame": {"width": manifest.width, "height": manifest.height, "unit_px": float(manifest.unit_px)},
        "first_picture_bytes": len(assembler.head.data) + manifest.layers[0].size,
        "references": [
            {
                "slot": r.slot,
                "width": r.size[0],
                "height": r.size[1],
                "matte": bool(r.matte),
                "made_up": dict(manifest.made_up).get(r.slot),
            }
            for r in (avatar.references if avatar else ())
        ],
        "layers": [
            {"kind": layer_name(layer.kind), "slot": layer.slot, "bytes": layer.size}
            for layer in manifest.layers
        ],
    }


def inspect_tuning(path: str) -> tuple[dict[str, Any], int]:
    """Return the report of a tuning, and 1 where its signature or anything else is not in order."""
    data = read_file(path, max_bytes=tuning_format.MAX_TUNING_BYTES, what="tuning")
    head = {"file": path, "kind": "tuning", "bytes": len(data)}
    try:
        tuning = tuning_format.Tuning.parse(data)
    except WireError as error:
        return {**head, "signature": "not verified", "problem": str(error)}, 1
    return {
        **head,
        "signature": "valid",
        "owner": tuning.owner.hex(),
        "owner_fingerprint": fingerprint_of(tuning.owner),
        "avatar_id": tuning.avatar_id.hex(),
        "generator": tuning.generator.hex(),
        "for_this_version": SHIPPED is not None and SHIPPED.sha256 == tuning.generator.hex(),
        "created": day(tuning.created_unix_s),
        "values": sum(change.steps.size for change in tuning.changes),
        "changes": [
            {
                "name": change.name,
                "shape": "x".join(map(str, change.steps.shape)),
                "largest": round(float(abs(change.values).max()), 5),
            }
            for change in tuning.changes
        ],
    }, 0


def layer_name(kind: int) -> str:
    """Return the name of a layer's kind; one of a later version is a number."""
    return LayerKind(kind).name.lower() if kind in LayerKind._value2member_map_ else f"kind {kind}"


def day(unix_s: int) -> str:
    """Return a time as a person writes it, in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def show(report: dict[str, Any], *, indent: int = 0) -> None:
    """Print a report for a person: a line a field."""
    console = Console(highlight=False, soft_wrap=True)
    for key, value in report.items():
        name = " " * indent + key.replace("_", " ")
        if isinstance(value, dict):
            console.print(f"[bold]{name}[/bold]")
            show(value, indent=indent + 2)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            console.print(f"[bold]{name}[/bold]")
            for row in value:
                console.print(" " * indent + "  " + escape("  ".join(f"{k} {v}" for k, v in row.items())))
        else:
            console.print(f"[bold]{name}[/bold] {escape(str(value))}")
