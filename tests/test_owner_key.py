"""The owner key: made once, private, and never replaced by itself."""

import os
import stat
from pathlib import Path

import pytest

from mien.encoder.owner_key import (
    KEY_NAME,
    MAX_KEY_BYTES,
    OwnerKey,
    load_owner_key,
    owner_key,
)
from mien.protocol.errors import MienError
from mien.protocol.private_files import private_folder, write_private

posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="file modes mean something on POSIX only")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "home"


def test_made_once_then_found(folder: Path) -> None:
    assert load_owner_key(folder) is None
    first = owner_key(folder)
    again = load_owner_key(folder)
    assert again is not None
    assert again.public_key == first.public_key == owner_key(folder).public_key
    assert owner_key(folder / "other").public_key != first.public_key


def test_signs(folder: Path) -> None:
    key = owner_key(folder)
    signature = key.sign(b"hello")
    key.private.public_key().verify(signature, b"hello")
    assert len(signature) == 64


def test_seed_vector() -> None:  # RFC 8032, 7.1, test 1
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = OwnerKey.from_seed(seed)
    assert key.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974")


def test_repr_keeps_the_secret() -> None:
    key = OwnerKey.from_seed(b"\x07" * 32)
    assert "07" * 4 not in repr(key)
    assert "\\x07" not in repr(key)


@posix
def test_modes(folder: Path) -> None:
    owner_key(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / KEY_NAME).stat().st_mode) == 0o600
    assert sorted(os.listdir(folder)) == [KEY_NAME]  # no temporary file is left


@posix
def test_loose_modes_are_refused(folder: Path) -> None:
    owner_key(folder)
    (folder / KEY_NAME).chmod(0o640)
    with pytest.raises(MienError, match=r"mode 640.*chmod 600"):
        owner_key(folder)
    (folder / KEY_NAME).chmod(0o600)
    folder.chmod(0o755)
    with pytest.raises(MienError, match=r"mode 755.*chmod 700"):
        owner_key(folder)
    with pytest.raises(MienError, match="mode 755"):
        load_owner_key(folder)


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_damaged_key_is_reported_and_kept(folder: Path, data: bytes) -> None:
    write_private(folder / KEY_NAME, data, replace=True)
    with pytest.raises(MienError, match="damaged"):
        owner_key(folder)
    assert (folder / KEY_NAME).read_bytes() == data


def test_huge_key_is_not_read(folder: Path) -> None:
    write_private(folder / KEY_NAME, b"x" * (MAX_KEY_BYTES + 1), replace=True)
    with pytest.raises(MienError, match="more than"):
        load_owner_key(folder)


@posix
def test_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    write_private(tmp_path / "elsewhere" / "key", b"x", replace=True)
    owner_key(folder)
    (folder / KEY_NAME).unlink()
    (folder / KEY_NAME).symlink_to(tmp_path / "elsewhere" / "key")
    with pytest.raises(MienError, match="cannot read"):
        load_owner_key(folder)


def test_first_writer_wins(folder: Path) -> None:
    assert write_private(folder / "x", b"one", replace=False)
    assert not write_private(folder / "x", b"two", replace=False)
    assert (folder / "x").read_bytes() == b"one"
    assert write_private(folder / "x", b"three", replace=True)
    assert (folder / "x").read_bytes() == b"three"


def test_where_it_lives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MIEN_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert private_folder() == tmp_path / ".local" / "share" / "mien"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert private_folder() == tmp_path / ".local" / "share" / "mien"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert private_folder() == tmp_path / "data" / "mien"
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "mine"))
    assert private_folder() == tmp_path / "mine"


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(MienError, match="not a folder"):
        owner_key(tmp_path / "home")
