"""The recognition template: private, bounded, only a hint; tested with a made-up network."""

import os
import random
import stat
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.encoder import identity
from mien.encoder.identity import (
    CHECK_EVERY_US,
    RECHECK_US,
    IdentityWatch,
    Template,
    delete_template,
    load_template,
    make_template,
    open_watch,
    save_template,
    template_path,
    watched,
)
from mien.encoder.tracker import Tracking
from mien.protocol.avatar import Avatar, parse_avatar
from mien.protocol.errors import MienError, WireError
from mien.protocol.stream import TrackerId
from tests.avatar_samples import CREATED, sample

LANDMARKS = np.zeros((478, 3), np.float32)
ADA, EVE = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)


class MadeUpEmbedder:
    """Sees nothing but how bright a picture is."""

    name = "made-up"

    def __init__(self) -> None:
        self.runs = 0

    def embed(self, rgb: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        self.runs += 1
        return np.full(128, float(rgb.mean()) / 255, np.float32)


def avatar() -> Avatar:
    return parse_avatar(sample(), now_unix_s=CREATED)


def test_round_trip_and_modes(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    template = make_template(avatar(), MadeUpEmbedder())
    assert load_template(avatar().avatar_id, folder) is None
    path = save_template(template, avatar().avatar_id, folder)
    found = load_template(avatar().avatar_id, folder)
    assert found is not None
    assert np.array_equal(found.embedding, template.embedding)
    assert found.network == "made-up"
    if hasattr(os, "getuid"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        with pytest.raises(MienError, match="mode 644"):
            load_template(avatar().avatar_id, folder)
    assert delete_template(avatar().avatar_id, folder)
    assert not delete_template(avatar().avatar_id, folder)


def test_repr_shows_no_biometrics() -> None:
    assert repr(Template("n", np.full(128, 0.123, np.float32))) == "Template(network='n')"


def test_damaged_templates() -> None:
    data = Template("made-up", np.arange(128, dtype=np.float32)).serialize()
    assert Template.parse(data).serialize() == data
    for size in range(len(data)):
        with pytest.raises(WireError):
            Template.parse(data[:size])
    rng = random.Random(1)
    for _ in range(2000):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] = rng.randrange(256)
        try:
            assert np.isfinite(Template.parse(bytes(damaged)).embedding).all()
        except WireError:
            continue
    with pytest.raises(WireError):
        Template.parse(Template("n", np.full(128, np.inf, np.float32)).serialize())


def test_the_template_is_not_in_the_avatar(tmp_path: Path) -> None:
    template = make_template(avatar(), MadeUpEmbedder())
    for kind in (">f4", "<f4", ">f2", "<f2"):
        assert template.embedding[:8].astype(kind).tobytes() not in sample()


def test_the_owner_is_recognised() -> None:
    watch = IdentityWatch(Template("made-up", np.zeros(128, np.float32)), MadeUpEmbedder())
    assert watch.looks_like_owner is None
    assert watch.observe(ADA, LANDMARKS, 0) is None
    assert watch.looks_like_owner is True


def test_a_stranger_is_reported_once_after_three_looks() -> None:
    watch = IdentityWatch(Template("made-up", np.zeros(128, np.float32)), MadeUpEmbedder())
    said = [watch.observe(EVE, LANDMARKS, i * CHECK_EVERY_US) for i in range(6)]  # every five seconds
    assert [text is not None for text in said] == [False, False, True, False, False, False]
    assert watch.looks_like_owner is False
    assert watch.observe(ADA, LANDMARKS, 7 * CHECK_EVERY_US) is None
    assert watch.looks_like_owner is True


def test_one_odd_frame_is_no_stranger() -> None:
    watch = IdentityWatch(Template("made-up", np.zeros(128, np.float32)), MadeUpEmbedder())
    pictures = [ADA, EVE, EVE, ADA, EVE, EVE, ADA]
    assert all(watch.observe(rgb, LANDMARKS, i * RECHECK_US) is None for i, rgb in enumerate(pictures))


def test_it_looks_now_and_then_only() -> None:
    embedder = MadeUpEmbedder()
    watch = IdentityWatch(Template("made-up", np.zeros(128, np.float32)), embedder)
    for frame in range(300):  # ten seconds
        watch.observe(ADA, LANDMARKS, frame * 33_333)
    assert embedder.runs == 1  # the owner was recognised: once a minute is enough
    for frame in range(300):
        watch.observe(EVE, LANDMARKS, 70_000_000 + frame * 33_333)
    assert embedder.runs == 1 + 2


class OneFace:
    tracker_id = TrackerId.FACE_MESH

    def __init__(self, faces: int) -> None:
        self.faces = faces
        self.closed = False

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        return Tracking((LANDMARKS,) * self.faces)

    def close(self) -> None:
        self.closed = True


def test_a_watched_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(identity, "open_embedder", MadeUpEmbedder)
    warnings: list[str] = []
    plain = OneFace(1)
    assert watched(plain, avatar(), warnings.append) is plain  # no template
    assert watched(plain, None, warnings.append) is plain
    save_template(Template("made-up", np.zeros(128, np.float32)), avatar().avatar_id)
    for faces, expected in ((1, 1), (2, 0), (0, 0)):
        warnings.clear()
        inner = OneFace(faces)
        tracker = watched(inner, avatar(), warnings.append)
        for i in range(6):
            assert len(tracker.track(EVE, i * CHECK_EVERY_US).faces) == faces
        assert len(warnings) == expected
        assert tracker.tracker_id is TrackerId.FACE_MESH
        tracker.close()
        assert inner.closed


def test_templates_of_another_network_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Template("another", np.zeros(128, np.float32))
    with pytest.raises(ValueError, match="cannot be compared"):
        IdentityWatch(other, MadeUpEmbedder())
    folder = tmp_path / "home"
    monkeypatch.setattr(identity, "open_embedder", MadeUpEmbedder)
    assert open_watch(avatar(), folder) is None
    save_template(other, avatar().avatar_id, folder)
    assert open_watch(avatar(), folder) is None
    save_template(make_template(avatar(), MadeUpEmbedder()), avatar().avatar_id, folder)
    assert open_watch(avatar(), folder) is not None
    template_path(avatar().avatar_id, folder).write_bytes(b"junk")
    assert open_watch(avatar(), folder) is None


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity.open_embedder.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    try:
        assert identity.open_embedder() is None
        assert open_watch(avatar(), tmp_path) is None
    finally:
        identity.open_embedder.cache_clear()


def test_with_the_extra() -> None:
    embedder = identity.open_embedder()
    if embedder is None:
        pytest.skip("the identity extra is not installed")
    template = make_template(avatar(), embedder)
    from mien.models.pictures import decode_picture

    reference = avatar().references[0]
    assert template.distance(embedder.embed(decode_picture(reference.picture), reference.landmarks)) < 0.45
