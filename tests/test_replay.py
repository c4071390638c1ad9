"""From a source to a log to pictures: the verbs encode, inspect and replay, and the replay of a call as shown."""

import asyncio
import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mien.call import clock
from mien.call.face_view import FaceView, ShownPicture, ViewSettings
from mien.cli import main
from mien.decoder import artist
from mien.decoder.as_shown import ShownAgain
from mien.encoder.capture import Frame
from mien.encoder.owner_key import OwnerKey
from mien.encoder.scene_sender import check_own_likeness
from mien.encoder.stream_setup import make_stream_header, owner_fingerprint
from mien.models.face_model import FaceModel
from mien.models.generator_fields import OUTPUT_PLANES
from mien.protocol.avatar import AvatarAssembler, AvatarContent, assemble, sign_avatar
from mien.protocol.codec import MessageEncoder
from mien.protocol.control import Rung
from mien.protocol.errors import MienError
from mien.protocol.log import LogHeader, Origin, RenderRecord, open_log
from mien.protocol.log_records import serialize_record
from mien.protocol.state import FaceState
from mien.protocol.stream import TrackerId
from tests.avatar_samples import CREATED, OTHER_KEY, TEST_KEY, own, reference
from tests.call_samples import PortraitSource, PortraitTracker, avatar_file

NOW_S = CREATED + 1


@pytest.fixture
def me(tmp_path: Path) -> str:
    path = tmp_path / "me.avatar"
    path.write_bytes(avatar_file())
    return str(path)


class Clip(PortraitSource):
    """The portrait at any rate; `dark` frames show nobody."""

    def __init__(
        self, seconds: float, *, rate: Fraction = Fraction(30), dark: range = range(0), late_us: int = 0
    ) -> None:
        super().__init__(seconds)
        self.rate = rate
        self._count = round(seconds * rate)
        self._dark = dark
        self._late_us = late_us

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            rgb = np.zeros_like(frame.rgb) if frame.index in self._dark else frame.rgb
            yield Frame(rgb, self._late_us + round(frame.index * 1e6 / self.rate), frame.index)


@pytest.fixture
def encode(tmp_path: Path, me: str, monkeypatch: pytest.MonkeyPatch) -> "Encode":
    return Encode(tmp_path / "talk.mien", me, monkeypatch)


class Encode:
    """`mien encode` of a made-up clip; returns the exit status."""

    def __init__(self, path: Path, avatar: str, patch: pytest.MonkeyPatch) -> None:
        self.path = path
        self._avatar = avatar
        self._patch = patch

    def __call__(self, clip: PortraitSource, *extra: str) -> int:
        self._patch.setattr("mien.commands.encode.open_source", lambda spec: clip)
        self._patch.setattr("mien.commands.encode.open_tracker", PortraitTracker)
        return main(["encode", "clip.mp4", "--avatar", self._avatar, "-o", str(self.path), *extra])


def inspect(path: Path | str, capsys: pytest.CaptureFixture[str], *, status: int = 0) -> dict[str, object]:
    capsys.readouterr()
    assert main(["inspect", str(path), "--json"]) == status
    report: dict[str, object] = json.loads(capsys.readouterr().out)
    return report


def frames_of(path: Path) -> list[tuple[int, NDArray[np.uint8]]]:
    with av.open(str(path)) as container:
        return [
            (round(float(f.time or 0) * 1e6), np.asarray(f.to_ndarray(format="rgb24"), np.uint8))
            for f in container.decode(video=0)
        ]


def test_encode_inspect_replay(
    encode: Encode, me: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(Clip(2, rate=Fraction(24000, 1001), late_us=5_000_000)) == 0
    assert "48 frames, 2.00 s, payload" in capsys.readouterr().out
    report = inspect(encode.path, capsys)
    assert report["frames"] == report["ticks"] == 48
    assert report["duration_s"] == pytest.approx(48 * 1001 / 24000, abs=1e-3)
    assert report["messages"] == 10  # of 5 frames
    assert report["finished"] is True and report["damage"] is None and report["origin"] == "source"
    size = report["message_bytes"]
    assert isinstance(size, int)
    assert report["payload_kbps"] == pytest.approx(size * 8 / 2.002 / 1000, abs=2e-3)
    assert report["wire_kbps"] == {
        "datachannel_ipv4": pytest.approx((size + 930) * 8 / 2.002 / 1000, abs=2e-3),
        "datachannel_ipv6": pytest.approx((size + 1130) * 8 / 2.002 / 1000, abs=2e-3),
        "audio": pytest.approx((size + 50) * 8 / 2.002 / 1000, abs=2e-3),
    }
    assert report["carriers"] == {}  # it came by none
    out = tmp_path / "out.mp4"
    assert main(["replay", str(encode.path), "--avatar", me, "-o", str(out), "--backend", "numpy"]) == 0
    frames = frames_of(out)
    assert len(frames) == 48
    assert frames[0][1].shape == (128, 128, 3)
    assert [t for t, _ in frames] == pytest.approx([n * 1e6 * 1001 / 24000 for n in range(48)], abs=20)
    # The portrait sways by 4 px: the pictures must follow, and show the portrait.
    assert np.abs(frames[0][1].astype(int) - frames[15][1].astype(int)).mean() > 2


def test_outputs_sizes_and_rates(
    encode: Encode, me: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(Clip(0.5)) == 0
    replay = ["replay", str(encode.path), "--avatar", me, "--backend", "numpy", "-o"]
    assert main([*replay, str(tmp_path / "frames"), "--size", "64"]) == 0
    pictures = sorted((tmp_path / "frames").iterdir())
    assert [p.name for p in pictures] == [f"{n:06d}.png" for n in range(15)]
    assert Image.open(pictures[0]).size == (64, 64)
    assert main([*replay, str(tmp_path / "sheet.png"), "--size", "48x64"]) == 0
    assert Image.open(tmp_path / "sheet.png").size[0] > 8 * 48
    assert main([*replay, str(tmp_path / "slow.mp4"), "--fps", "10", "--size", "64"]) == 0
    assert [t for t, _ in frames_of(tmp_path / "slow.mp4")] == [0, 100_000, 200_000, 300_000, 400_000]
    capsys.readouterr()
    assert main([*replay, str(tmp_path / "x.mp4"), "--json", "--size", "64"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["frames"], report["width"], report["renderer"]) == (15, 64, "numpy")


def test_sources_faster_than_the_ticks_keep_their_frames(
    encode: Encode, me: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(Clip(0.5, rate=Fraction(60))) == 0
    report = inspect(encode.path, capsys)
    assert (report["frames"], report["ticks"], report["tick_rate"]) == (30, 15, 30.0)
    out = tmp_path / "out.mp4"
    assert main(["replay", str(encode.path), "--avatar", me, "-o", str(out), "--backend", "numpy"]) == 0
    assert len(frames_of(out)) == 30


def test_the_first_part_can_be_left_out(encode: Encode, capsys: pytest.CaptureFixture[str]) -> None:
    assert encode(Clip(1), "--from", "0.6") == 0
    assert inspect(encode.path, capsys)["frames"] == 12
    assert encode(Clip(1), "--from", "1") == 2
    assert "expected a fraction" in capsys.readouterr().err


def test_frames_without_a_face_hold_the_picture(
    encode: Encode, me: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(Clip(1, dark=range(10, 20))) == 0
    assert "no face in 10 frames" in capsys.readouterr().err
    report = inspect(encode.path, capsys)
    assert (report["frames"], report["ticks_without_face"]) == (30, 10)
    folder = tmp_path / "frames"
    assert main(["replay", str(encode.path), "--avatar", me, "-o", str(folder), "--backend", "numpy"]) == 0
    pictures = [np.asarray(Image.open(p)) for p in sorted(folder.iterdir())]
    assert len(pictures) == 30
    assert all(np.array_equal(p, pictures[9]) for p in pictures[10:20])
    assert not np.array_equal(pictures[20], pictures[9])


def test_a_clip_without_a_face_is_refused_and_leaves_nothing(
    encode: Encode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(Clip(0.3, dark=range(100))) == 2
    assert "no face was found in the 9 frames of portrait" in capsys.readouterr().err
    assert not encode.path.exists()
    assert encode(PortraitSource(0.3, faces=2)) == 2
    assert "several faces in 9 frames" in capsys.readouterr().err


def test_a_scene_layer_goes_along_and_is_drawn(
    encode: Encode, me: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(Clip(1.0, dark=range(20, 23)), "--scene", "5") == 0
    assert "+ scene" in capsys.readouterr().out
    report = inspect(encode.path, capsys)
    assert report["scene_messages"] == 8  # the one that was due while nobody was seen came later
    assert report["bad_messages"] == 0 and report["messages"] == 5
    pictures = {}
    for tier in (None, "S", "W"):
        out = tmp_path / str(tier)
        extra = [] if tier is None else ["--tier", tier]
        args = ["replay", str(encode.path), "--avatar", me, "-o", str(out), "--size", "96", *extra]
        assert main([*args, "--backend", "numpy"]) == 0
        pictures[tier] = [np.asarray(Image.open(p), int) for p in sorted(out.iterdir())]
    for plain, scene, default in zip(pictures["W"], pictures["S"], pictures[None], strict=True):
        assert (scene == default).all()
        assert 0.2 < np.abs(plain - scene).mean() < 20


def test_any_size_and_rate_come_from_the_same_stream(
    encode: Encode, me: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(Clip(1.0), "--scene", "5") == 0
    capsys.readouterr()
    pictures: dict[str, list[NDArray[np.int_]]] = {}
    for size, fps in (("64", None), ("128", None), ("160x90", "60")):
        out = tmp_path / size
        args = [
            "replay",
            str(encode.path),
            "--avatar",
            me,
            "-o",
            str(out),
            "--size",
            size,
            "--backend",
            "numpy",
        ]
        assert main([*args, *(["--fps", fps] if fps else []), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["tier"] == "S"
        pictures[size] = [np.asarray(Image.open(p), int) for p in sorted(out.iterdir())]
    assert [len(pictures[s]) for s in ("64", "128", "160x90")] == [30, 30, 60]
    assert pictures["160x90"][0].shape == (90, 160, 3)
    halved = [p.reshape(64, 2, 64, 2, 3).mean((1, 3)) for p in pictures["128"]]
    above = slice(0, 38)  # the badge, whose letters are no smaller in a small picture
    for large, small in zip(halved, pictures["64"], strict=True):
        assert np.corrcoef(large[above].ravel(), small[above].ravel())[0, 1] > 0.97
    wide = pictures["160x90"]
    # Every other picture lies between its neighbours: two steps together are no shorter than the way past it.
    steps = [np.abs(b - a).mean() for a, b in pairwise(wide)]
    jumps = [np.abs(b - a).mean() for a, b in pairwise(wide[::2])]
    assert np.mean(jumps) > 0.2 and np.mean(steps) < 0.8 * np.mean(jumps)


def test_the_generator_can_be_left_out(
    encode: Encode,
    me: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Brightening:
        device = "test"

        def __call__(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
            out = np.zeros((1, OUTPUT_PLANES, *planes.shape[2:]), np.float32)
            out[:, :3], out[:, 5] = 1, 1
            return out

    monkeypatch.setattr(artist, "shipped_generator", Brightening)
    assert encode(Clip(0.5), "--scene", "5") == 0
    capsys.readouterr()
    args = ["replay", str(encode.path), "--avatar", me, "--size", "64", "--backend", "numpy", "--json"]
    mean = {}
    for switch in ("on", "off"):
        out = tmp_path / switch
        assert main([*args, "-o", str(out), "--generator", switch]) == 0
        assert json.loads(capsys.readouterr().out)["generator"] == ("test" if switch == "on" else None)
        mean[switch] = np.mean([np.asarray(Image.open(p), int) for p in sorted(out.iterdir())])
    assert mean["on"] > mean["off"] + 5
    assert main([*args[:-1], "-o", str(tmp_path / "said"), "--tier", "W"]) == 0
    assert "tier W\n" in capsys.readouterr().out


def test_a_scene_needs_its_owners_face(
    encode: Encode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def strangers(tracker: object, avatar: object, warn: Callable[[str], None]) -> object:
        warn("you do not look like this avatar's owner")
        return tracker

    monkeypatch.setattr("mien.commands.encode.watched", strangers)
    assert encode(Clip(0.5), "--scene", "5") == 0
    report = inspect(encode.path, capsys)
    assert report["scene_messages"] == 0 and report["messages"] == 3


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--scene", "2"], "expected 3 to 20"),
        (["--scene-face"], "add it"),
        (["--scene-background", "blur"], "add it"),
    ],
)
def test_scene_refusals(
    encode: Encode, extra: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(Clip(0.1), *extra) == 2
    assert said in capsys.readouterr().err


def test_no_scene_with_a_likeness_that_is_not_the_senders() -> None:
    picture = assemble(Path("tests/vectors/test-fixture-1.avatar").read_bytes(), now_unix_s=NOW_S)
    with pytest.raises(MienError, match="nobody's own likeness"):
        check_own_likeness(picture.manifest)


def test_what_is_not_there_says_so(encode: Encode, me: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert encode(Clip(0.1)) == 0
    for tier, said in (("N", "--tier N is not there yet"), ("S", "has no scene layer")):
        assert main(["replay", str(encode.path), "--avatar", me, "-o", "x.mp4", "--tier", tier]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--size", "huge"], "expected source, a number"),
        (["--size", "99999"], "expected 2 to 8192"),
        (["--fps", "0"], "expected more than 0"),
        (["--as-shown"], "made from a source"),
        (["--as-shown", "--fps", "5"], "leave out --fps"),
    ],
)
def test_refusals(
    encode: Encode, me: str, extra: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(Clip(0.1)) == 0
    assert main(["replay", str(encode.path), "--avatar", me, "-o", "x.mp4", *extra]) == 2
    assert said in capsys.readouterr().err


def test_the_output_must_not_be_the_input_or_of_an_unknown_kind(
    encode: Encode, me: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"precious")
    assert main(["encode", str(clip), "--avatar", me, "-o", str(clip)]) == 2
    assert clip.read_bytes() == b"precious"
    assert encode(Clip(0.1)) == 0
    assert main(["replay", str(encode.path), "--avatar", me, "-o", "x.gif", "--backend", "numpy"]) == 2
    assert "expected a name that ends in .mp4 or .png" in capsys.readouterr().err


def another_avatar(key: OwnerKey) -> bytes:
    content = AvatarContent(FaceModel.load().mean, np.zeros(3, np.float32), reference(64))
    return sign_avatar(content, own(name="other", model_id=FaceModel.load().model_id), key)


def test_another_owners_face_is_refused_and_another_avatar_of_the_same_warned_of(
    encode: Encode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(Clip(0.2)) == 0
    theirs, mine = tmp_path / "theirs.avatar", tmp_path / "mine.avatar"
    theirs.write_bytes(another_avatar(OTHER_KEY))
    mine.write_bytes(another_avatar(TEST_KEY))
    out = tmp_path / "out.mp4"
    assert main(["replay", str(encode.path), "--avatar", str(theirs), "-o", str(out)]) == 2
    assert "one person's motion is not put on another's face" in capsys.readouterr().err
    assert not out.exists()
    assert (
        main(["replay", str(encode.path), "--avatar", str(mine), "-o", str(out), "--backend", "numpy"]) == 0
    )
    assert "another avatar of the same owner" in capsys.readouterr().err


def test_a_damaged_log_replays_up_to_the_damage_and_says_so(
    encode: Encode, me: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert encode(Clip(1)) == 0
    data = encode.path.read_bytes()
    encode.path.write_bytes(data[: len(data) // 2])
    report = inspect(encode.path, capsys, status=1)
    damage = report["damage"]
    assert isinstance(damage, dict)
    assert damage["position"] + damage["lost_bytes"] == len(data) // 2
    assert damage["reason"] == "the file ends inside a record"
    frames = report["frames"]
    assert isinstance(frames, int) and 6 <= frames < 30
    out = tmp_path / "out.mp4"
    assert main(["replay", str(encode.path), "--avatar", me, "-o", str(out), "--backend", "numpy"]) == 0
    assert "bytes, from byte" in capsys.readouterr().err
    assert len(frames_of(out)) == frames


def test_inspect_tells_an_avatar(me: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = inspect(me, capsys)
    assert report["signature"] == "valid" and report["name"] == "Ada" and report["expired"] is False
    consent, layers = report["consent"], report["layers"]
    assert isinstance(consent, dict) and consent["kind"] == "self"
    assert isinstance(layers, list) and layers[0]["kind"] == "first"
    data = bytearray(Path(me).read_bytes())
    assert sum(layer["bytes"] for layer in layers) < len(data) == report["bytes"]
    data[200] ^= 1
    Path(me).write_bytes(data)
    report = inspect(me, capsys, status=1)
    assert report["signature"] == "not verified" and "signature does not verify" in str(report["problem"])
    expired = tmp_path / "old.avatar"
    expired.write_bytes(avatar_file(expires_unix_s=NOW_S))
    report = inspect(expired, capsys)
    assert report["expired"] is True and report["signature"] == "valid"


def test_inspect_for_a_person(encode: Encode, me: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert encode(Clip(0.2)) == 0
    assert main(["inspect", str(encode.path)]) == 0
    assert main(["inspect", me]) == 0
    said = capsys.readouterr().out
    assert "payload kbps" in said and "signature valid" in said
    assert main(["inspect", __file__]) == 2
    assert "neither a mien log nor an avatar" in capsys.readouterr().err


# --- As shown -----------------------------------------------------------------------------------------------


async def call(log: Path, whole: AvatarAssembler, size: tuple[int, int] | None = None) -> list[ShownPicture]:
    """Run a peer's picture for a second: an avatar that grows by a layer, loss, a fade to the still and back."""
    first = AvatarAssembler(whole.head.data, now_unix_s=NOW_S)
    first.add_layer(0, whole.bodies[0])
    assert whole.avatar is not None and first.avatar is not None
    stream = make_stream_header(
        whole.avatar, [], source_rate=Fraction(30), width=128, height=128, tracker=TrackerId.UNKNOWN
    )
    header = LogHeader(
        stream,
        Origin.RECEIVED,
        Fraction(30),
        128,
        128,
        whole.avatar_id,
        owner_fingerprint(whole.avatar),
        "0.1.0",
    )
    faults: list[Exception] = []
    view = FaceView(
        ViewSettings(longest_px=64, size=size, backend="numpy"),
        on_fault=faults.append,
        on_unusable=faults.append,
    )
    view.start(stream, record=(log, header))
    encoder = MessageEncoder(stream, frames_per_message=3)
    shown = []
    rng = np.random.default_rng(3)
    view.use_avatar(first.avatar, frozenset({0}))
    view.set_rung(Rung.AVATAR)
    for tick in range(45):
        values = 0.1 * np.sin(tick / 5 + np.arange(36)).astype(np.float32)
        message = encoder.push(tick, FaceState.from_coefficients(values, tracked=tick % 17 > 3))
        if message is not None and rng.random() > 0.2:
            view.message(message, clock.now_us())
        if tick == 15:
            view.use_avatar(whole.avatar, frozenset({0, 1}))
        if tick == 25:
            view.set_rung(Rung.STILL)
        if tick == 35:
            view.set_rung(Rung.AVATAR)
        picture = await view.picture(None)
        assert picture is not None
        shown.append(picture)
        await asyncio.sleep(0.01)
    await view.close()
    assert faults == []
    return shown


def whole_of(path: str) -> AvatarAssembler:
    return assemble(Path(path).read_bytes(), now_unix_s=NOW_S)


def test_a_view_may_have_a_shape_of_its_own(tmp_path: Path, me: str) -> None:
    log = tmp_path / "call.mien"
    shown = asyncio.run(call(log, whole_of(me), size=(96, 54)))
    assert all(picture.rgb.shape == (54, 96, 3) for picture in shown)
    with open_log(str(log)) as reader:
        again = ShownAgain(reader, whole_of(me), now_unix_s=NOW_S)
        assert all(picture.rgb.shape == (54, 96, 3) for picture in again.pictures())
        again.close()
    assert again.agreement.pictures_equal == again.agreement.pictures > 0


def test_a_call_is_repeated_to_the_bit(me: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "call.mien"
    live = asyncio.run(call(log, whole_of(me)))
    with open_log(str(log)) as reader:
        again = ShownAgain(reader, whole_of(me), now_unix_s=NOW_S)
        pictures = list(again.pictures())
        again.close()
    assert len(pictures) == len(live) == 45
    for picture, was in zip(pictures, live, strict=True):
        assert picture.shown.checksum() == was.shown.checksum()
        assert np.array_equal(picture.rgb, was.rgb)
    agreement = again.agreement
    assert (agreement.states, agreement.states_equal) == (45, 45)
    assert (agreement.pictures, agreement.pictures_equal) == (45, 45)
    assert len({p.rgb.tobytes() for p in pictures}) > 20
    out = tmp_path / "call.mp4"
    assert main(["replay", str(log), "--avatar", me, "-o", str(out), "--as-shown", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["states_equal"] == report["pictures_equal"] == 45
    assert len(frames_of(out)) == 45
    assert (
        main(["replay", str(log), "--avatar", me, "-o", str(out), "--backend", "numpy"]) == 0
    )  # the source's ticks


def test_a_replay_that_differs_says_so_and_fails(
    me: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "call.mien"
    asyncio.run(call(log, whole_of(me)))
    with open_log(str(log)) as reader:
        render = next(r for r in reader.records() if isinstance(r, RenderRecord))
        position = reader.position
    data = bytearray(log.read_bytes())
    wrong = serialize_record(RenderRecord(render.time_us, (render.state_crc or 0) ^ 1))
    data[position : position + len(wrong)] = wrong
    log.write_bytes(data)
    assert main(["replay", str(log), "--avatar", me, "-o", str(tmp_path / "x.mp4"), "--as-shown"]) == 1
    assert "44 of 45 states" in capsys.readouterr().out
