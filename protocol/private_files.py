"""Files that are the user's alone: the owner key, the recognition template, other people's avatars.

Folders have mode 0700 and files 0600; a file or folder that is open to others is refused, never read.
Writing is in one step: the old bytes or the new ones, never half of them.
"""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from mien.protocol.errors import MienError


def private_folder() -> Path:
    """Return the folder of the key and of whatever else is the user's alone; it may not exist yet."""
    home = os.environ.get("MIEN_HOME")
    if home:
        return Path(home)
    data = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification ignores relative paths.
    return (Path(data) if os.path.isabs(data) else Path.home() / ".local" / "share") / "mien"


def cache_folder() -> Path:
    """Return the folder of what can be had again: `$MIEN_HOME/cache`, or `$XDG_CACHE_HOME/mien`, or `~/.cache/mien`."""
    home = os.environ.get("MIEN_HOME")
    if home:
        return Path(home) / "cache"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if os.path.isabs(cache) else Path.home() / ".cache") / "mien"


def make_private_folder(folder: Path) -> None:
    """Create the folder with mode 0700. Raises `MienError` where it is someone else's or open to others."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.stat()
    except OSError as error:
        raise MienError(
            f"cannot use the folder {folder}: {error.strerror}. Set MIEN_HOME to another one."
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise MienError(f"{folder} is not a folder: move it away, or set MIEN_HOME to another place.")
    check_private(folder, found)


def check_private(path: Path, found: os.stat_result) -> None:
    """Raise `MienError` where `path` belongs to someone else or others may read or write it."""
    if not hasattr(os, "getuid"):  # Windows: the profile folder is the user's alone, and modes mean nothing
        return
    if found.st_uid != os.getuid():
        raise MienError(f"{path} belongs to user {found.st_uid}, not to you: give it back, or set MIEN_HOME.")
    if found.st_mode & 0o077:
        wanted = "700" if stat.S_ISDIR(found.st_mode) else "600"
        raise MienError(
            f"{path} has mode {stat.S_IMODE(found.st_mode):03o}, so others can get at it. "
            f"If it was yours alone until now: chmod {wanted} '{path}'"
        )


def write_private(path: Path, data: bytes, *, replace: bool) -> bool:
    """Write a file of mode 0600 in one step; return False where it existed and `replace` is false.

    Nobody ever sees half a file, and of two processes that both make one, one wins and the other is told.
    """
    make_private_folder(path.parent)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(name, path)
                return True
            try:
                os.link(name, path)  # unlike rename, fails where the name is taken
            except FileExistsError:
                return False
            return True
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
    except OSError as error:
        raise MienError(f"cannot write {path}: {error.strerror}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file of the user's own anywhere, mode 0600, in one step: the old one, or the new one, never half.

    Raises `MienError`. Unlike `write_private` it does not mind who can see the folder.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
    except OSError as error:
        raise MienError(f"cannot write {path}: {error.strerror}") from None


def read_private(path: Path, *, max_bytes: int) -> bytes | None:
    """Return a private file's bytes, None if there is none. Raises `MienError` for one that is open to others."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MienError(f"cannot read {path}: {error.strerror}") from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise MienError(f"{path} is not a plain file: move it away.")
        check_private(path, found)
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise MienError(f"{path} has more than {max_bytes} bytes, so it is damaged: move it away.")
    return data
