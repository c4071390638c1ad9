"""Keeps the avatars of the people one talks with, so that a face is there at once the next time.

One folder for each avatar, named by the hex of its id, holding the signed head and every layer that has arrived:
a transfer that broke off goes on where it was. Whatever is read back is verified like bytes from the network.
Test fixtures are not kept. A tuning (`mien.protocol.tuning`) that the owner gave by another way lies beside the avatar
that it belongs to, as `tuning`, and goes with it.
"""

import contextlib
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mien.protocol.avatar import MAX_HEAD_BYTES, AvatarAssembler, ExpiredError
from mien.protocol.consent import ConsentKind
from mien.protocol.errors import MienError, WireError
from mien.protocol.private_files import cache_folder, make_private_folder, read_private, write_private
from mien.protocol.tuning import MAX_TUNING_BYTES, Tuning

log = logging.getLogger(__name__)

DEFAULT_MAX_BYTES: Final = 64 << 20
MAX_ENTRIES: Final = 512
HEAD_NAME: Final = "head"
TUNING_NAME: Final = "tuning"
_ID: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CachedAvatar:
    """One line of what the cache holds. `used_unix_s` is when the avatar was last stored or loaded."""

    avatar_id: bytes
    bytes_kept: int
    used_unix_s: int


class AvatarCache:
    """Verified avatars on disk, private to the user, at most `max_bytes` of them; the longest unused goes first."""

    def __init__(self, folder: Path | None = None, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        """`folder` is created when something is first stored; the default is in the user's cache folder."""
        self.folder = folder or cache_folder() / "avatars"
        self._max_bytes = max_bytes

    def load(self, avatar_id: bytes, *, now_unix_s: int) -> AvatarAssembler | None:
        """Return what is kept of an avatar, verified again; None if nothing is, or it has expired.

        Damaged files are deleted. Raises `MienError` where the folder is open to others.
        """
        entry = self._entry(avatar_id)
        if not entry.is_dir() or entry.is_symlink():
            return None
        make_private_folder(entry)  # it exists: checks its mode
        try:
            head = read_private(entry / HEAD_NAME, max_bytes=MAX_HEAD_BYTES)
            if head is None:
                return None
            assembler = AvatarAssembler(head, now_unix_s=now_unix_s)
            if assembler.avatar_id != avatar_id:
                raise WireError("the kept avatar is another one")
        except ExpiredError:
            self.delete(avatar_id)
            return None
        except WireError as error:
            log.warning("a kept avatar was damaged and is deleted: %s", error)
            self.delete(avatar_id)
            return None
        self._load_layers(entry, assembler)
        with contextlib.suppress(OSError):
            os.utime(entry / HEAD_NAME)
        return assembler

    def store(self, assembler: AvatarAssembler) -> None:
        """Keep what `assembler` has. Cheap to call after each layer: what is there is not written again.

        Raises `MienError` where the folder cannot be written.
        """
        if assembler.manifest.consent.kind is ConsentKind.TEST_FIXTURE:
            return
        make_private_folder(self.folder)
        entry = self._entry(assembler.avatar_id)
        write_private(entry / HEAD_NAME, assembler.head.data, replace=True)
        for index, body in assembler.bodies.items():
            path = entry / _layer_name(index)
            if not path.is_file() or path.stat().st_size != len(body):
                write_private(path, body, replace=True)
        self._trim(keep=assembler.avatar_id)

    def tuning(self, assembler: AvatarAssembler) -> Tuning | None:
        """Return the tuning that lies beside a kept avatar, None without one. One that is not in order is deleted.

        Raises `MienError` where the folder or the file is open to others.
        """
        path = self._entry(assembler.avatar_id) / TUNING_NAME
        if not path.parent.is_dir() or path.parent.is_symlink():
            return None
        make_private_folder(path.parent)  # it exists: checks its mode
        data = read_private(path, max_bytes=MAX_TUNING_BYTES)
        if data is None:
            return None
        try:
            tuning = Tuning.parse(data)
            tuning.check_belongs(assembler.manifest, assembler.avatar_id)
        except WireError as error:
            log.warning("a kept tuning is of no use and is deleted: %s", error)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return tuning

    def store_tuning(self, data: bytes, assembler: AvatarAssembler) -> bool:
        """Keep a tuning beside its avatar; return whether that avatar is kept at all.

        Raises `WireError` for one that does not verify or belongs to another, `MienError` where it cannot be written.
        """
        Tuning.parse(data).check_belongs(assembler.manifest, assembler.avatar_id)
        entry = self._entry(assembler.avatar_id)
        if not entry.is_dir() or entry.is_symlink():
            return False
        write_private(entry / TUNING_NAME, data, replace=True)
        return True

    def entries(self) -> tuple[CachedAvatar, ...]:
        """Return what is kept, the last used first. Files that the cache did not make are not looked at."""
        found: list[CachedAvatar] = []
        with contextlib.suppress(FileNotFoundError):
            for entry in self.folder.iterdir():
                if _ID.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
                    found.append(_describe(entry))
        return tuple(sorted(found, key=lambda e: (-e.used_unix_s, e.avatar_id)))

    def delete(self, avatar_id: bytes) -> bool:
        """Delete an avatar; return whether there was one. Raises `MienError` where it cannot be."""
        entry = self._entry(avatar_id)
        if entry.is_symlink() or not entry.is_dir():
            return False
        try:
            shutil.rmtree(entry)
        except OSError as error:
            raise MienError(f"cannot delete {entry}: {error.strerror}") from None
        return True

    def clear(self) -> int:
        """Delete every avatar; return how many there were."""
        return sum(self.delete(entry.avatar_id) for entry in self.entries())

    def _entry(self, avatar_id: bytes) -> Path:
        if len(avatar_id) != 32:
            raise ValueError(f"an avatar's id is {len(avatar_id)} bytes, expected 32")
        return self.folder / avatar_id.hex()

    def _load_layers(self, entry: Path, assembler: AvatarAssembler) -> None:
        for index, layer in enumerate(assembler.manifest.layers):
            path = entry / _layer_name(index)
            try:
                body = read_private(path, max_bytes=layer.size)
                if body is not None:
                    assembler.add_layer(index, body)
            except MienError as error:
                log.warning("a layer of a kept avatar was damaged and is deleted: %s", error)
                with contextlib.suppress(OSError):
                    path.unlink()

    def _trim(self, *, keep: bytes) -> None:
        entries = self.entries()
        kept_bytes, kept = 0, 0
        for entry in sorted(entries, key=lambda e: e.avatar_id != keep):  # stable: the last used first
            kept_bytes, kept = kept_bytes + entry.bytes_kept, kept + 1
            if entry.avatar_id != keep and (kept_bytes > self._max_bytes or kept > MAX_ENTRIES):
                self.delete(entry.avatar_id)
                kept_bytes, kept = kept_bytes - entry.bytes_kept, kept - 1


def _layer_name(index: int) -> str:
    return f"layer-{index:02d}"


def _describe(entry: Path) -> CachedAvatar:
    total, used = 0, 0
    for file in entry.iterdir():
        with contextlib.suppress(OSError):
            found = file.lstat()
            total += found.st_size
            if file.name == HEAD_NAME:
                used = int(found.st_mtime)
    return CachedAvatar(bytes.fromhex(entry.name), total, used)
