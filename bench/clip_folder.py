"""A folder of videos to measure on."""

from pathlib import Path
from typing import Final

from mien.protocol.errors import MienError

CLIP_SUFFIXES: Final = (".mp4", ".webm", ".mov", ".mkv", ".avi")


def find_clips(folder: Path, only: str) -> list[Path]:
    """Return a folder's videos whose names hold `only` (several, separated by commas). Raises `MienError` for none."""
    if not folder.is_dir():
        raise MienError(f"{folder} is no folder: give --clips a folder of videos")
    wanted = [text for text in only.split(",") if text] or [""]
    clips = sorted(
        p for p in folder.iterdir() if p.suffix.lower() in CLIP_SUFFIXES and any(w in p.name for w in wanted)
    )
    if not clips:
        raise MienError(f"{folder} holds no such video ({', '.join(CLIP_SUFFIXES)})")
    return clips
