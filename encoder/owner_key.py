"""The owner's Ed25519 key: made on first use, kept private to the user.

It lives in the user's data folder, `$MIEN_HOME` or `$XDG_DATA_HOME/mien` or `~/.local/share/mien`, as
`owner.key`: PKCS #8 in PEM, unencrypted, mode 0600, in a folder of mode 0700.
"""

import contextlib
import logging
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from mien.protocol.errors import MienError

KEY_NAME: Final = "owner.key"
MAX_KEY_BYTES: Final = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class OwnerKey:
    """An Ed25519 key pair that signs avatars (a `mien.protocol.avatar.Signer`). Its `repr` shows no secret."""

    private: Ed25519PrivateKey

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the public key."""
        return self.private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature."""
        return self.private.sign(message)

    @classmethod
    def from_seed(cls, seed: bytes) -> "OwnerKey":
        """Return the key of a 32-byte seed: for tests and the demo's throw-away keys."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def throw_away(cls) -> "OwnerKey":
        """Return a new key that is stored nowhere."""
        return cls(Ed25519PrivateKey.generate())


def private_folder() -> Path:
    """Return the folder of the key and of whatever else is the user's alone; it may not exist yet."""
    home = os.environ.get("MIEN_HOME")
    if home:
        return Path(home)
    data = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification ignores relative paths.
    return (Path(data) if os.path.isabs(data) else Path.home() / ".local" / "share") / "mien"


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


def load_owner_key(folder: Path | None = None) -> OwnerKey | None:
    """Return the stored key, None if there is none yet.

    Raises `MienError` where the key is open to others or damaged: it is never replaced by itself, because
    every avatar that it signed would then belong to nobody.
    """
    path = (folder or private_folder()) / KEY_NAME
    if path.parent.is_dir():
        check_private(path.parent, path.parent.stat())
    data = read_private(path, max_bytes=MAX_KEY_BYTES)
    if data is None:
        return None
    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise MienError(
            f"the owner key {path} is damaged. Restore it from a backup; or move it away, "
            "and a new key is made (avatars signed with the old one stay valid but are no longer yours to renew)."
        )
    return OwnerKey(private)


def owner_key(folder: Path | None = None) -> OwnerKey:
    """Return the stored key, made now if there is none. Raises `MienError`."""
    folder = folder or private_folder()
    make_private_folder(folder)
    key = load_owner_key(folder)
    if key is not None:
        return key
    made = OwnerKey.throw_away()
    pem = made.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    if write_private(folder / KEY_NAME, pem, replace=False):
        log.info("made an owner key in %s", folder)
        return made
    found = load_owner_key(folder)  # another process was faster
    if found is None:
        raise MienError(f"the owner key in {folder} came and went: try again")
    return found
