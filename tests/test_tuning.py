"""The tuning's file: its vector, what it refuses, and that it changes nothing but the weights that it names."""

import hashlib
import json
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mien.cli import main
from mien.decoder import tuned_generator
from mien.decoder.avatar_cache import TUNING_NAME, AvatarCache
from mien.decoder.tuned_generator import generator_for, tuned_model
from mien.models import generator_asset
from mien.models.generator_asset import SHIPPED
from mien.models.onnx_weights import weights_of, with_added
from mien.protocol.avatar import AvatarAssembler, assemble
from mien.protocol.consent import ConsentKind
from mien.protocol.errors import MienError, WireError
from mien.protocol.tuning import (
    HEAD,
    MAGIC,
    MAX_STEPS,
    MAX_TUNING_BYTES,
    MAX_VALUES,
    SIGNATURE_CONTEXT,
    Change,
    Tuning,
    fitted,
)
from tests.avatar_samples import CREATED, OTHER_KEY, TEST_KEY, sample

VECTOR = Path(__file__).parent / "vectors" / "tuning-1.tuning"
NOW = CREATED + 100


def me() -> AvatarAssembler:
    return assemble(sample(kind=ConsentKind.SELF), now_unix_s=NOW)


def small(**changes: object) -> Tuning:
    """Return the tuning of the vector: three rows of a convolution and a bias."""
    steps = np.arange(-12, 12, dtype=np.int8).reshape(3, 2, 2, 2)
    fields: dict[str, object] = {
        "owner": TEST_KEY.public_key,
        "generator": hashlib.sha256(b"some generator").digest(),
        "avatar_id": hashlib.sha256(b"some avatar").digest(),
        "created_unix_s": CREATED,
        "changes": (
            Change("network.enter.weight.half", steps, np.array([0.5, 0, 0.001], np.float32)),
            Change("network.enter.bias", np.array([127, -127], np.int8), np.array([1, 2**-12], np.float32)),
        ),
    }
    return Tuning(**(fields | changes))  # type: ignore[arg-type]


def signed(body: bytes) -> bytes:
    """Return a file with this body: what a hostile owner could make."""
    signature = TEST_KEY.sign(SIGNATURE_CONTEXT + body)
    return HEAD.pack(MAGIC, 1, 0, len(body), signature) + body


def body_of(data: bytes) -> bytes:
    return data[HEAD.size :]


def test_vector() -> None:
    tuning = Tuning.parse(VECTOR.read_bytes())
    assert tuning.owner == TEST_KEY.public_key and tuning.created_unix_s == CREATED
    assert tuning.generator == hashlib.sha256(b"some generator").digest()
    assert tuning.avatar_id == hashlib.sha256(b"some avatar").digest()
    first, second = tuning.changes
    assert (first.name, second.name) == ("network.enter.weight.half", "network.enter.bias")
    assert first.steps.ravel().tolist() == list(range(-12, 12)) and first.steps.shape == (3, 2, 2, 2)
    assert first.values[0].ravel().tolist() == [-6, -5.5, -5, -4.5, -4, -3.5, -3, -2.5]
    assert not first.values[1].any() and first.values[2].max() == pytest.approx(0.011)
    assert second.values.tolist() == [127, -127 / 4096]


def test_what_we_write_is_the_vector() -> None:
    ours, kept = body_of(small().serialize(TEST_KEY)), body_of(VECTOR.read_bytes())
    at = kept.index(b"\x78\xda")  # zlib, whose bytes may differ from one version to another
    assert ours[:at] == kept[:at] and zlib.decompress(ours[at:]) == zlib.decompress(kept[at:])


def test_round_trip() -> None:
    data = small().serialize(TEST_KEY)
    assert Tuning.parse(data).serialize(TEST_KEY) == data


def test_values_are_rounded_by_half_a_step_at_most() -> None:
    values = np.random.default_rng(1).normal(0, 1e-3, (5, 4, 3, 3)).astype(np.float32)
    values[2] = 0
    change = Change.of("a", values)
    step = np.abs(values).reshape(5, -1).max(1) / MAX_STEPS
    apart = np.abs(change.values - values).reshape(5, -1).max(1)
    assert (apart <= 0.501 * step).all() and not change.values[2].any()


def test_what_is_large_is_rounded_more_coarsely() -> None:
    rng = np.random.default_rng(2)
    values = {f"w{i}": rng.normal(0, 1e-3, (256, 256, 3, 1)).astype(np.float32) for i in range(3)}
    ids = {"owner": TEST_KEY.public_key, "generator": bytes(32), "avatar_id": bytes(32)}
    tuning = fitted(values, created_unix_s=CREATED, **ids)
    assert 1 <= max(int(np.abs(change.steps).max()) for change in tuning.changes) < MAX_STEPS
    assert len(tuning.serialize(TEST_KEY)) <= MAX_TUNING_BYTES
    too_many = {f"w{i}": values["w0"] for i in range(11)}
    with pytest.raises(WireError, match="changes 2162688 values"):
        fitted(too_many, created_unix_s=CREATED, **ids)


# --- refusals -------------------------------------------------------------------------------------------------


def test_every_truncation_and_every_changed_byte_is_refused() -> None:
    data = small().serialize(TEST_KEY)
    for size in range(len(data)):
        with pytest.raises(WireError):
            Tuning.parse(data[:size])
    rng = random.Random(3)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        with pytest.raises(WireError):
            Tuning.parse(bytes(changed))


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [(0, b"P", "no tuning"), (8, b"\x02", "version 2, expected 1"), (9, b"\x01", "spare byte")],
)
def test_heads_that_are_none(at: int, value: bytes, said: str) -> None:
    data = bytearray(small().serialize(TEST_KEY))
    data[at : at + 1] = value
    with pytest.raises(WireError, match=said):
        Tuning.parse(bytes(data))


def test_it_is_signed_by_its_owner() -> None:
    with pytest.raises(WireError, match="another key"):
        small().serialize(OTHER_KEY)
    body = body_of(small().serialize(TEST_KEY))
    forged = HEAD.pack(MAGIC, 1, 0, len(body), OTHER_KEY.sign(SIGNATURE_CONTEXT + body)) + body
    with pytest.raises(WireError, match="signature does not verify"):
        Tuning.parse(forged)
    # The same bytes signed for something else are not signed for this.
    forged = HEAD.pack(MAGIC, 1, 0, len(body), TEST_KEY.sign(b"mien avatar manifest 1\0" + body)) + body
    with pytest.raises(WireError, match="signature does not verify"):
        Tuning.parse(forged)


def hostile(
    *, name: bytes = b"a", shape: tuple[int, ...] = (1, 2), scales: bytes = b"", steps: bytes = b"\1\1"
) -> bytes:
    ids = TEST_KEY.public_key + bytes(64) + struct.pack("!QH", CREATED, 1)
    scales = scales or struct.pack("!f", 0.5)
    head = bytes([len(name)]) + name + struct.pack(f"!B{len(shape)}H", len(shape), *shape)
    return signed(ids + head + scales + zlib.compress(steps))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (hostile(name=b"../x y"), "plain letters"),
        (hostile(name=b""), "plain letters"),
        (hostile(shape=()), "0 dimensions"),
        (hostile(shape=(1, 1, 1, 1, 1)), "5 dimensions"),
        (hostile(shape=(1, 0)), "shape"),
        (hostile(shape=(1, 65535, 65535)), "shape"),
        (hostile(scales=struct.pack("!f", float("nan"))), "scale of a"),
        (hostile(scales=struct.pack("!f", -1)), "scale of a"),
        (hostile(scales=struct.pack("!f", 1.5)), "scale of a"),
        (hostile(steps=b"\x80\x01"), "leave -127 to 127"),
        (hostile(steps=b"\1"), "does not decompress to 2"),
        (hostile(steps=b"\1" * 3), "does not decompress to 2"),
        (hostile(steps=b"\0" * 5_000_000), "does not decompress to 2"),
        (signed(TEST_KEY.public_key + bytes(64) + struct.pack("!QH", CREATED, 0)), "0 changes"),
        (signed(TEST_KEY.public_key + bytes(64) + struct.pack("!QH", CREATED, 60_000)), "60000 changes"),
        (signed(TEST_KEY.public_key + bytes(64) + struct.pack("!QH", 1 << 60, 1)), "ends early"),
    ],
)
def test_what_a_hostile_owner_could_sign(data: bytes, said: str) -> None:
    with pytest.raises(WireError, match=said):
        Tuning.parse(data)


def test_nothing_larger_than_the_bound_is_looked_at() -> None:
    with pytest.raises(WireError, match="at most 500000"):
        Tuning.parse(MAGIC + bytes(MAX_TUNING_BYTES))


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_any_signed_bytes(rest: bytes) -> None:
    try:
        tuning = Tuning.parse(signed(TEST_KEY.public_key + rest))
    except WireError:
        return
    assert sum(change.steps.size for change in tuning.changes) <= MAX_VALUES


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_damage_inside_a_signed_body(patch: bytes, at: int) -> None:
    body = bytearray(body_of(small().serialize(TEST_KEY)))
    at = 32 + at % (len(body) - 32)
    body[at : at + len(patch)] = patch
    try:
        tuning = Tuning.parse(signed(bytes(body)))
    except WireError:
        return
    assert all(np.isfinite(change.values).all() for change in tuning.changes)


# --- whose it is ----------------------------------------------------------------------------------------------


def test_it_belongs_to_one_avatar_of_its_owner() -> None:
    whole = me()
    small(avatar_id=whole.avatar_id).check_belongs(whole.manifest, whole.avatar_id)
    with pytest.raises(WireError, match="belongs to the avatar"):
        small().check_belongs(whole.manifest, whole.avatar_id)
    with pytest.raises(WireError, match="not signed by the avatar's owner"):
        small(owner=OTHER_KEY.public_key).check_belongs(whole.manifest, whole.avatar_id)


# --- the generator --------------------------------------------------------------------------------------------


def shipped_bytes() -> bytes:
    assert SHIPPED is not None
    return SHIPPED.read()


def tuning_of(whole: AvatarAssembler, changes: dict[str, NDArray[np.float32]] | None = None) -> Tuning:
    """Return a tuning of the shipped generator that changes its first array."""
    model = shipped_bytes()
    name, weights = next(iter(weights_of(model).items()))
    return fitted(
        changes or {name: np.full(weights.shape, 0.01, np.float32)},
        owner=TEST_KEY.public_key,
        generator=hashlib.sha256(model).digest(),
        avatar_id=whole.avatar_id,
        created_unix_s=CREATED,
    )


def test_only_the_named_weights_change() -> None:
    model = shipped_bytes()
    before = weights_of(model)
    assert len(before) > 4
    tuning = tuning_of(me())
    after = tuned_model(tuning)
    assert len(after) == len(model)
    for name, weights in weights_of(after).items():
        apart = np.abs(weights.values(after) - before[name].values(model))
        assert apart.max() == pytest.approx(0.01 if name == tuning.changes[0].name else 0, abs=2e-3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nobody": np.ones(3, np.float32)}, "none of that name"),
        ({"first": np.ones((2, 2), np.float32)}, "has one of"),
    ],
)
def test_changes_of_something_else_are_refused(changes: dict[str, NDArray[np.float32]], said: str) -> None:
    name = next(iter(weights_of(shipped_bytes())))
    renamed = {name if key == "first" else key: values for key, values in changes.items()}
    with pytest.raises(WireError, match=said):
        tuned_model(tuning_of(me(), renamed))


def test_another_version_of_the_generator_is_told() -> None:
    with pytest.raises(WireError, match="another version of the generator"):
        tuned_model(small())


def test_without_a_generator_there_is_nothing_to_tune(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator_asset, "SHIPPED", None)
    with pytest.raises(MienError, match="without a generator"):
        tuned_model(small())


def test_weights_that_overflow_are_refused() -> None:
    model = shipped_bytes()
    name, weights = next((n, w) for n, w in weights_of(model).items() if w.dtype.itemsize == 2)
    with pytest.raises(WireError, match="not finite"):
        with_added(model, {name: np.full(weights.shape, 1e6, np.float32)})


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=80))
def test_files_that_are_no_network(data: bytes) -> None:
    with pytest.raises(WireError):
        weights_of(data)


def test_the_tuned_generator_is_taken_and_else_the_one_for_everybody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.delenv("MIEN_GENERATOR", raising=False)
    avatar = me().avatar
    assert avatar is not None
    everybody = generator_for(avatar)
    assert generator_for(avatar, [small()]) is everybody  # another avatar's
    tuned = generator_for(avatar, [tuning_of(me())])
    assert tuned is not None and tuned is not everybody
    other = generator_for(avatar, [small(avatar_id=avatar.avatar_id)])
    assert other is everybody and "another version of the generator" in caplog.text
    monkeypatch.setenv("MIEN_GENERATOR", "off")
    assert generator_for(avatar, [tuning_of(me())]) is None


def test_one_tuning_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bytes] = []

    def opening(model: bytes) -> object:
        opened.append(model)
        return object()

    monkeypatch.setattr(tuned_generator, "Generator", opening)
    avatar, tuning = me().avatar, tuning_of(me())
    assert avatar is not None
    assert generator_for(avatar, [tuning]) is generator_for(avatar, [tuning])
    assert len(opened) == 1


# --- the cache and the commands -------------------------------------------------------------------------------


def test_the_cache_keeps_it_beside_its_avatar(tmp_path: Path) -> None:
    cache, whole = AvatarCache(tmp_path / "avatars"), me()
    data = small(avatar_id=whole.avatar_id).serialize(TEST_KEY)
    assert not cache.store_tuning(data, whole)  # the avatar is not kept
    cache.store(whole)
    assert cache.tuning(whole) is None
    assert cache.store_tuning(data, whole)
    found = cache.tuning(whole)
    assert found is not None and found.serialize(TEST_KEY) == data
    assert cache.load(whole.avatar_id, now_unix_s=NOW) is not None
    with pytest.raises(WireError, match="belongs to the avatar"):
        cache.store_tuning(small().serialize(TEST_KEY), whole)
    cache.delete(whole.avatar_id)
    assert cache.tuning(whole) is None


def test_a_damaged_tuning_in_the_cache_goes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, whole = AvatarCache(tmp_path / "avatars"), me()
    cache.store(whole)
    path = cache.folder / whole.avatar_id.hex() / TUNING_NAME
    for data in (b"nothing", small().serialize(TEST_KEY)):
        path.write_bytes(data)
        path.chmod(0o600)
        assert cache.tuning(whole) is None and not path.exists()
    assert "of no use" in caplog.text


def test_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "me.tuning"
    path.write_bytes(small().serialize(TEST_KEY))
    assert main(["inspect", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["signature"] == "valid" and report["kind"] == "tuning" and report["values"] == 26
    assert report["owner_fingerprint"] == "3338 3715 19b1 f91f" and not report["for_this_version"]
    assert report["changes"][0]["shape"] == "3x2x2x2"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert main(["inspect", str(path)]) == 1
    assert "does not verify" in capsys.readouterr().out
