"""Reading `.avatar` and `.tuning` files that the user names, for the verbs that need one."""

import time
from pathlib import Path

from mien.protocol.avatar import MAX_HEAD_BYTES, AvatarAssembler, assemble
from mien.protocol.errors import MienError, WireError
from mien.protocol.manifest import MAX_AVATAR_BYTES
from mien.protocol.tuning import MAX_TUNING_BYTES, Tuning

MAX_FILE_BYTES = MAX_HEAD_BYTES + MAX_AVATAR_BYTES


def read_file(path: str, *, max_bytes: int, what: str = "avatar") -> bytes:
    """Return a file's bytes. Raises `MienError` for a file that is missing, unreadable or too big."""
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise MienError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > max_bytes:
        raise MienError(f"{path} has more than {max_bytes} bytes: that is no {what}")
    return data


def read_avatar(path: str) -> AvatarAssembler:
    """Read and verify a whole avatar. Raises `MienError` that names the file."""
    data = read_file(path, max_bytes=MAX_FILE_BYTES)
    try:
        return assemble(data, now_unix_s=int(time.time()))
    except WireError as error:
        raise WireError(f"{path}: {error}") from error


def read_tuning(path: str) -> tuple[bytes, Tuning]:
    """Read and verify a tuning; return its bytes, too. Raises `MienError` that names the file."""
    data = read_file(path, max_bytes=MAX_TUNING_BYTES, what="tuning")
    try:
        return data, Tuning.parse(data)
    except WireError as error:
        raise WireError(f"{path}: {error}") from error
