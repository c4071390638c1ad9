"""The cache of other people's avatars: private, bounded, verified on the way back."""

import os
import stat
from pathlib import Path

import pytest

from mien.decoder.avatar_cache import AvatarCache
from mien.protocol.avatar import AvatarAssembler, assemble, sign_avatar
from mien.protocol.consent import ConsentKind
from mien.protocol.errors import MienError
from tests.avatar_samples import CREATED, TEST_KEY, content, own, sample, split

NOW = CREATED + 100


def person(name: str = "Ada", *, expires_unix_s: int | None = None) -> AvatarAssembler:
    data = sign_avatar(content(), own(name=name, expires_unix_s=expires_unix_s), TEST_KEY)
    return assemble(data, now_unix_s=CREATED)


@pytest.fixture
def cache(tmp_path: Path) -> AvatarCache:
    return AvatarCache(tmp_path / "avatars")


def test_store_and_load(cache: AvatarCache) -> None:
    whole = person()
    assert cache.load(whole.avatar_id, now_unix_s=NOW) is None
    assert cache.entries() == ()
    cache.store(whole)
    found = cache.load(whole.avatar_id, now_unix_s=NOW)
    assert found is not None
    assert found.serialize() == whole.serialize()
    assert [e.bytes_kept for e in cache.entries()] == [len(whole.serialize())]


def test_part_of_an_avatar(cache: AvatarCache) -> None:
    head, bodies = split(sample(kind=ConsentKind.SELF))
    part = AvatarAssembler(head, now_unix_s=NOW)
    part.add_layer(0, bodies[0])
    cache.store(part)
    found = cache.load(part.avatar_id, now_unix_s=NOW)
    assert found is not None
    assert found.avatar is not None
    assert found.missing() == ((1, 0), (2, 0), (3, 0))
    found.add_layer(2, bodies[2])
    cache.store(found)
    again = cache.load(part.avatar_id, now_unix_s=NOW)
    assert again is not None
    assert again.missing() == ((1, 0), (3, 0))


def test_modes(cache: AvatarCache) -> None:
    cache.store(person())
    for path in [cache.folder, *cache.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="file modes mean something on POSIX only")
def test_open_folders_are_refused(cache: AvatarCache) -> None:
    cache.store(person())
    cache.folder.chmod(0o755)
    with pytest.raises(MienError, match="mode 755"):
        cache.store(person("Eve"))


def test_fixtures_are_not_kept(cache: AvatarCache) -> None:
    cache.store(assemble(sample(), now_unix_s=NOW))
    assert cache.entries() == ()


def test_expired_avatars_go(cache: AvatarCache) -> None:
    short = person(expires_unix_s=NOW)
    cache.store(short)
    assert cache.load(short.avatar_id, now_unix_s=NOW - 1) is not None
    assert cache.load(short.avatar_id, now_unix_s=NOW) is None
    assert cache.entries() == ()


def test_damaged_layers_are_fetched_again(cache: AvatarCache) -> None:
    whole = person()
    cache.store(whole)
    (cache.folder / whole.avatar_id.hex() / "layer-02").write_bytes(b"x")
    found = cache.load(whole.avatar_id, now_unix_s=NOW)
    assert found is not None
    assert found.missing() == ((2, 0),)
    assert not (cache.folder / whole.avatar_id.hex() / "layer-02").exists()


def test_a_damaged_or_foreign_head_goes(cache: AvatarCache) -> None:
    ada, eve = person("Ada"), person("Eve")
    cache.store(ada)
    (cache.folder / ada.avatar_id.hex() / "head").write_bytes(eve.head.data)
    assert cache.load(ada.avatar_id, now_unix_s=NOW) is None
    cache.store(eve)
    (cache.folder / eve.avatar_id.hex() / "head").write_bytes(b"junk of some length, not a head at all")
    assert cache.load(eve.avatar_id, now_unix_s=NOW) is None
    assert cache.entries() == ()


def test_bounded(tmp_path: Path) -> None:
    size = len(person().serialize())
    cache = AvatarCache(tmp_path / "avatars", max_bytes=2 * size + 100)
    people = [person(name) for name in ("A", "B", "C")]
    for age, one in enumerate(people):
        cache.store(one)
        os.utime(cache.folder / one.avatar_id.hex() / "head", (CREATED + age, CREATED + age))
    cache.store(person("D"))
    assert [e.avatar_id for e in cache.entries()] == [person("D").avatar_id, people[2].avatar_id]


def test_one_avatar_larger_than_the_bound_stays(tmp_path: Path) -> None:
    cache = AvatarCache(tmp_path / "avatars", max_bytes=100)
    cache.store(person("A"))
    cache.store(person("B"))
    assert [e.avatar_id for e in cache.entries()] == [person("B").avatar_id]


def test_delete_and_clear(cache: AvatarCache) -> None:
    ada, eve = person("Ada"), person("Eve")
    cache.store(ada)
    cache.store(eve)
    assert cache.delete(ada.avatar_id)
    assert not cache.delete(ada.avatar_id)
    assert cache.clear() == 1
    assert cache.entries() == ()


def test_other_files_are_left_alone(cache: AvatarCache, tmp_path: Path) -> None:
    cache.store(person())
    (cache.folder / "notes.txt").write_text("mine")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("precious")
    (cache.folder / ("0" * 64)).symlink_to(tmp_path / "outside")
    assert cache.load(bytes(32), now_unix_s=NOW) is None
    assert not cache.delete(bytes(32))
    assert cache.clear() == 1
    assert (tmp_path / "outside" / "file").read_text() == "precious"
    assert (cache.folder / "notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="expected 32"):
        cache.load(b"../../etc", now_unix_s=NOW)
