"""The owner's Ed25519 key: made on first use, kept private to the user.

It lives in the user's data folder, `$MIEN_HOME` or `$XDG_DATA_HOME/mien` or `~/.local/share/mien`, as
`owner.key`: PKCS #8 in PEM, unencrypted, mode 0600, in a folder of mode 0700.
"""

import logging
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
from mien.protocol.private_files import (
    check_private,
    make_private_folder,
    private_folder,
    read_private,
    write_private,
)

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
