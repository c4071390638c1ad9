"""The avatar container: its vector, what it refuses, and that nothing unverified ever comes out of it."""

import hashlib
import io
import random
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mien.models.pictures import decode_matte, decode_picture, encode_picture, matte_of
from mien.protocol.avatar import (
    HEAD,
    MAX_FIRST_BYTES,
    SIGNATURE_CONTEXT,
    Avatar,
    AvatarAssembler,
    FirstLayer,
    Head,
    RingsLayer,
    assemble,
    parse_avatar,
    sign_avatar,
)
from mien.protocol.compact import (
    deflate_mesh,
    deflate_planes,
    inflate_mesh,
    inflate_planes,
    row_differences,
    sum_rows,
)
from mien.protocol.consent import Consent, ConsentKind, PermittedUse, check_text
from mien.protocol.errors import WireError
from mien.protocol.manifest import MAX_MANIFEST_BYTES, OWNER_BYTES, LayerKind, Manifest
from mien.protocol.stream import TrackerId
from mien.protocol.webp import webp_size
from tests.avatar_samples import (
    CREATED,
    OTHER_KEY,
    TEST_KEY,
    content,
    declaration,
    fields_of,
    own,
    portrait,
    reference,
    resign,
    sample,
    split,
    with_layers,
)

VECTOR = Path(__file__).parent / "vectors" / "test-fixture-1.avatar"
NOW = CREATED + 100


def read(data: bytes) -> Avatar:
    return parse_avatar(data, now_unix_s=NOW)


# --- the vector -----------------------------------------------------------------------------------------------


def test_vector() -> None:
    avatar = read(VECTOR.read_bytes())
    assert avatar.avatar_id.hex() == "8eb38750c4ddb57809cec5bfac5899dadd8a4897f2008f8de9e53dd33b088d95"
    manifest = avatar.manifest
    assert manifest.owner == TEST_KEY.public_key
    assert manifest.owner_fingerprint == "3338 3715 19b1 f91f"
    assert (manifest.name, manifest.consent.kind) == ("Test Portrait", ConsentKind.TEST_FIXTURE)
    assert (manifest.uses, manifest.created_unix_s, manifest.expires_unix_s) == (("loopback",), CREATED, None)
    assert (manifest.tracker, manifest.model_id.hex()) == (TrackerId.FACE_LANDMARKER, "0102030405060708")
    assert (avatar.unit_px * 16, avatar.width, avatar.height) == (Fraction(801), 256, 256)
    assert avatar.is_test_fixture
    assert avatar.complete
    neutral = (avatar.neutral * 1024).astype(">i4").tobytes()
    assert hashlib.sha256(neutral).hexdigest()[:32] == "a284b3522b08d4071e91731c2a97a013"
    found = [
        (r.slot, r.size, hashlib.sha256((r.landmarks * 8).astype(">i4").tobytes()).hexdigest()[:16])
        for r in avatar.references
    ]
    assert found == [(0, (96, 96), "79d276c762255d14"), (3, (64, 64), "7d30c7be914c662e")]
    assert avatar.references[0].landmarks[1].tolist() == [46.375, 49.5, -8.75]
    assert avatar.rings is not None
    assert avatar.rings[2].tolist() == [1.0, 1.125, 1.25, 1.375]
    assert np.allclose(avatar.appearance, np.linspace(0, 1, 20), atol=5e-4)


def test_vector_manifest_is_what_we_would_write() -> None:
    head, _ = split(VECTOR.read_bytes())
    assert Manifest.parse(head[HEAD.size :]).serialize() == head[HEAD.size :]


def test_vector_shows_the_portrait() -> None:
    picture = decode_picture(read(VECTOR.read_bytes()).references[0].picture)
    rgb, _ = portrait()
    small = np.asarray(Image.fromarray(rgb).resize((96, 96), Image.Resampling.BOX), np.float32)
    assert np.abs(picture - small).mean() < 12


# --- round trips ----------------------------------------------------------------------------------------------


def test_round_trip() -> None:
    avatar, c = read(sample()), content()
    assert np.abs(avatar.neutral - c.neutral).max() <= 0.5 / 1024 + 1e-6
    assert [r.slot for r in avatar.references] == [0, 3]
    for mine, theirs in zip(avatar.references, c.references, strict=True):
        assert (mine.picture, mine.matte) == (theirs.picture, theirs.matte)
        assert np.abs(mine.landmarks - theirs.landmarks).max() <= 1 / 16 + 1e-5
    assert avatar.rings is not None and c.rings is not None
    assert np.array_equal(avatar.rings, c.rings)


def test_first_layer_serialises_to_the_same_bytes() -> None:
    body = split(sample())[1][0]
    parsed = FirstLayer.parse(body, frame=(256, 256))
    assert FirstLayer.parse(parsed.serialize(), frame=(256, 256)).serialize() == parsed.serialize()


def test_whole_file_from_the_assembler() -> None:
    assert assemble(sample(), now_unix_s=NOW).serialize() == sample()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-32767, 32767), min_size=1, max_size=40), st.integers(0, 2**31))
def test_planes_round_trip(few: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).choice(np.array(few), (478, 3)).astype(np.int64)
    assert np.array_equal(inflate_mesh(deflate_mesh(values), "test"), values)
    assert np.array_equal(sum_rows(row_differences(values)), values)
    assert np.abs(row_differences(values)).max() <= 32767
    table = values.reshape(239, 6)
    assert np.array_equal(inflate_planes(deflate_planes(table), "test", rows=239, columns=6), table)


def test_planes_refuse_what_they_cannot_hold() -> None:
    with pytest.raises(WireError, match="int16"):
        deflate_planes(np.full((478, 3), 32768, np.int64))


def test_rings_round_trip_in_steps_of_a_512th() -> None:
    values = np.linspace(-63, 63, 24, dtype=np.float32).reshape(4, 6)
    back = RingsLayer.parse(RingsLayer(values).serialize()).values
    assert np.abs(back - values).max() <= 0.5 / 512
    with pytest.raises(WireError, match="64 units"):
        RingsLayer(np.array([[64.1]], np.float32)).serialize()
    with pytest.raises(WireError, match="a table"):
        RingsLayer(np.zeros((2, 2, 2), np.float32)).serialize()


# --- damage ---------------------------------------------------------------------------------------------------


def test_every_truncation() -> None:
    data = sample()
    for size in range(len(data)):
        with pytest.raises(WireError):
            read(data[:size])


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "begins with"), (11, "begins with"), (60, "cut short"), (400, "cut short"), (500, "cut short")],
)
def test_truncation_texts(size: int, text: str) -> None:
    with pytest.raises(WireError, match=text):
        read(sample()[:size])


def test_tail_is_refused() -> None:
    with pytest.raises(WireError, match="tail"):
        read(sample() + b"\0")


def test_any_changed_byte_is_noticed() -> None:
    rng = random.Random(1)
    data = sample()
    for _ in range(2000):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        with pytest.raises(WireError):
            read(bytes(damaged))


def test_random_bytes() -> None:
    rng = random.Random(2)
    for _ in range(500):
        data = rng.randbytes(rng.randrange(400))
        with pytest.raises(WireError):
            read(data)
        with pytest.raises(WireError):
            read(sample()[:12] + data)


def mutated_fields(rng: random.Random) -> dict[str, Any]:
    """Return the sample's manifest with one value replaced by something odd."""
    fields = fields_of(sample())
    odd: list[Any] = [
        None,
        True,
        -1,
        0,
        1 << 31,
        1 << 63,
        0.5,
        "",
        "x" * 600,
        b"",
        b"\0" * 32,
        [],
        [[]],
        {},
        {"a": 1},
        "\u202e",
    ]
    value = rng.choice(odd)
    where = rng.randrange(4)
    key = rng.choice(list(fields))
    if where == 0:
        fields[key] = value
    elif where == 1:
        del fields[key]
    elif where == 2:
        fields[rng.choice(["later", "expires", "unknown"])] = value
    else:
        rows = [v for v in fields.values() if isinstance(v, list)] + fields["layers"]
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = value
    return fields


def test_manifests_mutated_and_signed_again() -> None:
    rng = random.Random(3)
    bodies = split(sample())[1]
    accepted = 0
    for _ in range(1000):
        data = resign(mutated_fields(rng), bodies)
        try:
            avatar = read(data)
        except WireError:
            continue
        accepted += 1
        assert avatar.manifest.owner == TEST_KEY.public_key
        assert avatar.complete
    assert 0 < accepted < 500  # some changes are harmless, such as an odd name


def test_manifest_bytes_mutated_and_signed_again() -> None:
    rng = random.Random(4)
    head, bodies = split(sample())
    signed = head[HEAD.size :]
    from mien.protocol.avatar import sign_manifest

    for _ in range(1000):
        damaged = bytearray(signed)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(OWNER_BYTES, len(damaged))
            damaged[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        try:
            avatar = read(sign_manifest(bytes(damaged), TEST_KEY) + b"".join(bodies))
        except WireError:
            continue
        assert avatar.manifest.owner == TEST_KEY.public_key
        assert avatar.complete


def test_layers_mutated_and_signed_again() -> None:
    rng = random.Random(5)
    outcomes = {True: 0, False: 0}
    for _ in range(1500):
        bodies = list(split(sample())[1])
        index = rng.randrange(len(bodies))
        body = bytearray(bodies[index])
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(body))
            body[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        bodies[index] = bytes(body) or b"\0"
        try:
            avatar = read(with_layers(bodies))
        except WireError:
            outcomes[False] += 1
            continue
        outcomes[True] += 1
        check_bounds(avatar)
    assert outcomes[True] > 20  # a change inside a picture's bits is the owner's own business
    assert outcomes[False] > 20


def check_bounds(avatar: Avatar) -> None:
    """Assert what every accepted avatar promises, however hostile its owner."""
    assert np.isfinite(avatar.neutral).all()
    assert np.abs(avatar.neutral).max() <= 4
    assert np.isfinite(avatar.appearance).all()
    assert avatar.rings is None or np.isfinite(avatar.rings).all()
    for r in avatar.references:
        assert r.landmarks.shape == (478, 3)
        assert np.abs(r.landmarks).max() <= 4096
        width, height = r.size
        try:
            rgb = decode_picture(r.picture)
        except WireError:
            continue
        assert rgb.shape == (height, width, 3)


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text(max_size=9)
        | st.binary(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_msgpack_is_a_manifest_or_refused(value: Any) -> None:
    with pytest.raises(WireError):
        Manifest.parse(bytes(32) + msgpack.packb(value))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_layers_or_refused(data: bytes) -> None:
    for parse in (
        RingsLayer.parse,
        lambda d: FirstLayer.parse(d, frame=(256, 256)),
        webp_size,
        Manifest.parse,
    ):
        try:
            parse(data)
        except WireError:
            continue


# --- the signature --------------------------------------------------------------------------------------------


def test_signature_of_another_key_is_refused() -> None:
    head, bodies = split(sample())
    signature = OTHER_KEY.sign(SIGNATURE_CONTEXT + head[HEAD.size :])
    forged = head[:12] + signature + head[HEAD.size :] + b"".join(bodies)
    with pytest.raises(WireError, match="signature does not verify"):
        read(forged)


def test_signature_without_its_context_is_refused() -> None:
    head, bodies = split(sample())
    bare = head[:12] + TEST_KEY.sign(head[HEAD.size :]) + head[HEAD.size :] + b"".join(bodies)
    with pytest.raises(WireError, match="signature"):
        read(bare)


def test_signature_is_checked_before_the_manifest_is_read() -> None:
    head, _ = split(sample())
    with pytest.raises(WireError, match="signature"):
        Head.parse(head[:-1] + b"\xc1", now_unix_s=NOW)


def test_another_owner_makes_another_avatar() -> None:
    stolen = resign(fields_of(sample()), split(sample())[1], OTHER_KEY)
    assert read(stolen).avatar_id != read(sample()).avatar_id
    assert read(stolen).manifest.owner == OTHER_KEY.public_key


# --- the manifest ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("schema", 2, "schema 2"),
        ("schema", True, "bool"),
        ("name", "a\nb", "U\\+000A"),
        ("name", "a\u202eb", "U\\+202E"),
        ("name", "x" * 65, "65 bytes"),
        ("name", " x", "space"),
        ("consent", ["parent", "yes", 0], "consent is 'parent'"),
        ("consent", ["self", "", 0], "empty"),
        ("consent", ["self", "yes"], "2 entries"),
        ("uses", ["call"], "test fixture permits"),
        ("uses", ["loopback", "loopback"], "each once"),
        ("created", -1, "created"),
        ("model", b"1234567", "7 bytes"),
        ("tracker", 9, "tracker is 9"),
        ("frame", [0, 256, 256], "unit_px"),
        ("frame", [801, 9000, 256], "9000"),
        ("layers", [], "0 layers"),
        ("layers", [[2, 0, 10, b"\0" * 32]], "first layer"),
        ("layers", [[1, 0, 10, b"\0" * 31]], "31 bytes"),
        ("layers", [[1, 0, 20_000, b"\0" * 32]], "20000"),
        (
            "layers",
            [[1, 0, 9, b"\0" * 32], [2, 1, 9, b"\0" * 32], [2, 1, 9, b"\0" * 32]],
            "same kind and slot",
        ),
        ("layers", [[1, 0, 9, b"\0" * 32], [2, 16, 9, b"\0" * 32]], "slot"),
        ("layers", [[1, 0, 9, b"\0" * 32], *[[77, 0, 2 << 20, b"\0" * 32]] * 3], "at most"),
        ("layers", [[1, 0, 9, b"\0" * 32]] + [[77, 0, 9, b"\0" * 32]] * 40, "41 layers"),
        ("unknown", 1, "unknown key"),
        ("later", 1, "dict"),
        ("expires", CREATED, "after its creation"),
    ],
)
def test_what_a_manifest_must_not_say(key: str, value: Any, text: str) -> None:
    fields = fields_of(sample()) | {key: value}
    with pytest.raises(WireError, match=text):
        read(resign(fields, split(sample())[1]))


def test_each_key_is_needed() -> None:
    for key in fields_of(sample()):
        fields = fields_of(sample())
        del fields[key]
        with pytest.raises(WireError, match=f"lacks '{key}'"):
            read(resign(fields, split(sample())[1]))


def test_a_key_twice_is_refused() -> None:
    fields = fields_of(sample())
    packed = msgpack.packb(fields)
    twice = bytes([packed[0] + 1]) + packed[1:] + msgpack.packb("name") + msgpack.packb("Eve")
    with pytest.raises(WireError, match="twice"):
        Manifest.parse(TEST_KEY.public_key + twice)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(WireError):
        Manifest.parse(bytes(32) + b"\x81\xa5later" + b"\x91" * 3000 + b"\x90")
    with pytest.raises(WireError, match="expected 33 to"):
        Manifest.parse(bytes(MAX_MANIFEST_BYTES + 1))


def test_later_versions_may_add() -> None:
    fields = fields_of(sample())
    fields["later"] = {"revocation": "https://example.org", "n": [1, 2]}
    fields["layers"].append([200, 0, 5, hashlib.sha256(b"extra").digest()])
    avatar = read(resign(fields, [*split(sample())[1], b"extra"]))
    assert avatar.complete
    assert len(avatar.references) == 2


def test_expiry() -> None:
    data = sign_avatar(content(), own(expires_unix_s=CREATED + 10), TEST_KEY)
    assert parse_avatar(data, now_unix_s=CREATED + 9).manifest.expires_unix_s == CREATED + 10
    with pytest.raises(WireError, match="expired"):
        parse_avatar(data, now_unix_s=CREATED + 10)


def test_permitted_uses() -> None:
    fixture = read(sample()).manifest
    person = read(sample(kind=ConsentKind.SELF)).manifest
    assert [fixture.permits(use) for use in PermittedUse] == [False, False, True]
    assert [person.permits(use) for use in PermittedUse] == [True, True, True]
    assert person.consent == Consent.of_self(CREATED)


@pytest.mark.parametrize("name", ["Zoë", "علی‌رضا", "👩‍💻", "李", ""])
def test_names_of_people(name: str) -> None:
    assert read(sign_avatar(content(), own(name=name), TEST_KEY)).manifest.name == name


@pytest.mark.parametrize(
    "code", [0, 9, 0x1B, 0x7F, 0x85, 0xAD, 0x200B, 0x200F, 0x2029, 0x2066, 0xFEFF, 0xE0041]
)
def test_characters_that_hide(code: int) -> None:
    with pytest.raises(WireError, match="character"):
        check_text("a name", f"a{chr(code)}b", max_bytes=64, empty=False)


def test_signing_refuses_what_readers_refuse() -> None:
    with pytest.raises(WireError, match="U\\+0007"):
        sign_avatar(content(), declaration(name="\a"), TEST_KEY)
    big = replace(content(), first=reference(256, quality=95))
    with pytest.raises(WireError, match=f"at most {MAX_FIRST_BYTES}|expected 1 to"):
        sign_avatar(big, declaration(), TEST_KEY)
    with pytest.raises(WireError, match="finite"):
        sign_avatar(
            replace(content(), neutral=np.full((478, 3), np.nan, np.float32)), declaration(), TEST_KEY
        )
    with pytest.raises(WireError, match="finite"):
        sign_avatar(replace(content(), appearance=np.array([1e9], np.float32)), declaration(), TEST_KEY)


# --- the layers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0])
def test_a_face_without_a_size_is_refused(scale: float) -> None:
    odd = np.clip(content().neutral * np.float32(scale), -4, 4)
    with pytest.raises(WireError, match="pupils"):
        sign_avatar(replace(content(), neutral=odd), declaration(), TEST_KEY)


def test_a_zlib_bomb_is_stopped() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)[:65_000]
    with pytest.raises(WireError, match="does not decompress to"):
        inflate_mesh(bomb, "the bomb")


def test_zlib_with_a_tail_is_refused() -> None:
    good = deflate_mesh(np.zeros((478, 3), np.int64))
    for bad in (good + b"\0", good[:-1], good[:-4] + b"\0\0\0\0", b""):
        with pytest.raises(WireError):
            inflate_mesh(bad, "the landmarks")


def test_rings_bounds() -> None:
    good = RingsLayer(np.zeros((2, 3), np.float32)).serialize()
    sizes = (b"", b"\0", b"\0\0\0\3", b"\0\2\0\0", b"\xff\xff\xff\xff", b"\0\2\0\4")
    for bad in [size + good[4:] for size in sizes] + [good[:-1], good + b"\0"]:
        with pytest.raises(WireError):
            RingsLayer.parse(bad)


def test_a_picture_of_another_shape_is_refused() -> None:
    rgb, landmarks = portrait()
    wide = replace(reference(96), picture=encode_picture(np.ascontiguousarray(rgb[:128]), quality=20))
    with pytest.raises(WireError, match="not the shape"):
        sign_avatar(replace(content(), references=(wide,)), declaration(), TEST_KEY)
    assert landmarks.shape == (478, 3)


# --- the assembler --------------------------------------------------------------------------------------------


def test_layers_in_any_order() -> None:
    head, bodies = split(sample())
    for seed in range(6):
        order = list(range(len(bodies)))
        random.Random(seed).shuffle(order)
        assembler = AvatarAssembler(head, now_unix_s=NOW)
        for done, index in enumerate(order):
            assert not assembler.complete
            assembler.add_layer(index, bodies[index])
            assert (assembler.avatar is not None) == (0 in order[: done + 1])
        avatar = assembler.avatar
        assert avatar is not None
        assert avatar.complete
        assert [r.size for r in avatar.references] == [(96, 96), (64, 64)]
        assert assembler.serialize() == sample()


def test_a_face_after_the_first_layer() -> None:
    head, bodies = split(sample())
    assembler = AvatarAssembler(head, now_unix_s=NOW)
    assert assembler.avatar is None
    assembler.add_layer(0, bodies[0])
    avatar = assembler.avatar
    assert avatar is not None
    assert not avatar.complete
    assert [(r.slot, r.size) for r in avatar.references] == [(0, (64, 64))]
    assert avatar.rings is None
    assert assembler.missing() == ((1, 0), (2, 0), (3, 0))
    assembler.add_layer(2, bodies[2])
    assert assembler.avatar is not None
    assert assembler.avatar.references[0].size == (96, 96)  # the bigger picture took the small one's place
    with pytest.raises(WireError, match="not complete"):
        assembler.serialize()


def test_chunks() -> None:
    head, bodies = split(sample())
    assembler = AvatarAssembler(head, now_unix_s=NOW)
    assert not assembler.add_chunk(0, 0, bodies[0][:1000])
    assert assembler.missing()[0] == (0, 1000)
    with pytest.raises(WireError, match="expected 1000"):
        assembler.add_chunk(0, 1001, b"x")
    with pytest.raises(WireError, match="which has"):
        assembler.add_chunk(0, 1000, bodies[0][1000:] + b"x")
    assert assembler.add_chunk(0, 1000, bodies[0][1000:])
    assert assembler.avatar is not None
    assert not assembler.add_chunk(0, 0, b"x")  # here already
    with pytest.raises(WireError, match="the avatar has 4"):
        assembler.add_chunk(4, 0, b"x")


def test_a_damaged_layer_is_dropped_and_can_come_again() -> None:
    head, bodies = split(sample())
    assembler = AvatarAssembler(head, now_unix_s=NOW)
    damaged = bodies[0][:-1] + bytes([bodies[0][-1] ^ 1])
    with pytest.raises(WireError, match="hash"):
        assembler.add_chunk(0, 0, damaged)
    assert assembler.avatar is None
    assert assembler.missing()[0] == (0, 0)
    assert assembler.add_chunk(0, 0, bodies[0])
    assert assembler.avatar is not None


# --- pictures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 7), (64, 48), (1024, 2)])
@pytest.mark.parametrize("lossless", [False, True])
def test_webp_size(width: int, height: int, lossless: bool) -> None:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (90, 20, 200)).save(out, "WEBP", lossless=lossless)
    assert webp_size(out.getvalue()) == (width, height)
    assert decode_picture(out.getvalue()).shape == (height, width, 3)


def test_webp_with_metadata_or_alpha_is_refused() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a place and a time"
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "WEBP", exif=exif)
    with pytest.raises(WireError, match="VP8X"):
        webp_size(out.getvalue())
    out = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 9)).save(out, "WEBP")
    with pytest.raises(WireError, match="VP8X"):
        webp_size(out.getvalue())


def test_encoded_pictures_carry_no_metadata() -> None:
    for r in content().references:
        assert b"EXIF" not in r.picture
        assert webp_size(r.matte) == (r.size[0] // 2, r.size[1] // 2)
        assert decode_matte(r.matte).max() > 200
        assert matte_of(r, width=30, height=20).shape == (20, 30)
        assert (matte_of(replace(r, matte=b""), width=3, height=2) == 255).all()


def test_pictures_too_large_are_not_decoded() -> None:
    out = io.BytesIO()
    Image.new("RGB", (1025, 4)).save(out, "WEBP")
    with pytest.raises(WireError, match="1025 x 4"):
        decode_picture(out.getvalue())


def test_mutated_pictures() -> None:
    rng = random.Random(6)
    data = content().references[0].picture
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 5)):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        try:
            decode_picture(bytes(damaged))
        except WireError:
            continue
    for size in range(len(data)):
        with pytest.raises(WireError):
            decode_picture(data[:size])


def test_kinds_of_layers_keep_their_numbers() -> None:
    assert {kind.name: int(kind) for kind in LayerKind} == {"FIRST": 1, "PICTURE": 2, "RINGS": 3}


# --- SPEC-avatar.md, read by hand -----------------------------------------------------------------------------


def mesh_by_the_spec(data: bytes) -> list[list[int]]:
    raw = zlib.decompress(data)
    assert len(raw) == 2868
    values = [(raw[i] << 8) | raw[1434 + i] for i in range(1434)]
    signed = [u // 2 if u % 2 == 0 else -((u + 1) // 2) for u in values]
    return [[signed[i], signed[478 + i], signed[956 + i]] for i in range(478)]


def test_the_spec_is_enough_to_read_a_file() -> None:
    data = VECTOR.read_bytes()
    size = int.from_bytes(data[10:12], "big")
    manifest = data[76 : 76 + size]
    Ed25519PublicKey.from_public_bytes(manifest[:32]).verify(
        data[12:76], b"mien avatar manifest 1\0" + manifest
    )
    layers = msgpack.unpackb(manifest[32:])["layers"]
    at, bodies = 76 + size, []
    for _, _, length, digest in layers:
        bodies.append(data[at : at + length])
        assert hashlib.sha256(bodies[-1]).digest() == digest
        at += length
    assert at == len(data)
    first = bodies[0]
    neutral = mesh_by_the_spec(first[2 : 2 + int.from_bytes(first[:2], "big")])
    avatar = read(data)
    assert np.array_equal(np.array(neutral) / 1024, avatar.neutral)
    body = bodies[2]  # a picture layer is one reference
    p = [int.from_bytes(body[i : i + 4], "big", signed=True) for i in range(0, 48, 4)]
    n = int.from_bytes(body[48:50], "big")
    rest = mesh_by_the_spec(body[50 : 50 + n])
    landmarks = [
        [
            (
                rest[i][a]
                + (
                    (sum(p[4 * a + k] * neutral[i][k] for k in range(3)) + 1024 * p[4 * a + 3] + 16384)
                    // 32768
                )
            )
            / 8
            for a in range(3)
        ]
        for i in range(478)
    ]
    assert np.array_equal(np.array(landmarks, np.float32), avatar.references[0].landmarks)
    length = int.from_bytes(body[50 + n : 54 + n], "big")
    assert body[54 + n : 54 + n + length] == avatar.references[0].picture
