"""Enrolment end to end: a made-up clip of the test portrait, errors that say what to do, and the command."""

import io
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

import mien.commands.enroll as command
from mien.cli import main
from mien.encoder.appearance import FrameQuality, measure_appearance
from mien.encoder.capture import Frame
from mien.encoder.enroll import (
    POOL_FRAMES,
    Enrolment,
    Footage,
    Settings,
    Window,
    enroll,
    enroll_in_detail,
    measured_again,
)
from mien.encoder.layer_packing import LayerBudget, PackedReference, pack_avatar
from mien.encoder.matte import GrabCutMatter, guided_filter, keep_connected, open_matter
from mien.encoder.reference_sheet import draw_reference_sheet
from mien.encoder.tracker import Tracking
from mien.encoder.tracker_choice import open_tracker
from mien.models.appearance_code import CODE_LENGTH, AppearanceCode, Region, to_linear, to_srgb
from mien.models.pictures import decode_matte, decode_picture
from mien.protocol.avatar import MAX_FIRST_BYTES, AvatarAssembler, assemble, parse_avatar
from mien.protocol.consent import Consent, ConsentKind
from mien.protocol.errors import MienError, WireError
from mien.protocol.stream import TrackerId
from tests.avatar_samples import CREATED, TEST_KEY, content, declaration, portrait

SIZE = 192
CONSENT = Consent.of_self(CREATED)


def nod(index: int) -> NDArray[np.float64]:
    """Return the affine map [2, 3] from the portrait to frame `index`: the head sways and tilts."""
    angle, scale = 12 * np.sin(index / 7), SIZE / 256 * (1 + 0.06 * np.sin(index / 5))
    turn = cv2.getRotationMatrix2D((128, 110), float(angle), float(scale))
    turn[:, 2] += np.array([SIZE / 2, SIZE * 110 / 256]) - (128, 110) + (8 * np.sin(index / 11), 0)
    return np.asarray(turn, np.float64)


def frame(index: int) -> Frame:
    rgb, _ = portrait()
    picture = cv2.warpAffine(
        rgb, nod(index), (SIZE, SIZE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    return Frame(np.asarray(picture, np.uint8), round(index * 1e6 / 30), index)


def face_of(index: int) -> NDArray[np.float32]:
    _, landmarks = portrait()
    turn = nod(index)
    flat = landmarks[:, :2] @ turn[:, :2].T + turn[:, 2]
    depth = landmarks[:, 2] * np.sqrt(abs(np.linalg.det(turn[:, :2])))
    return np.column_stack([flat, depth]).astype(np.float32)


class MadeUpTracker:
    """Knows where the face is, since it knows how the clip was made; some frames have no face, some two.

    It goes by the time, so a still one, which is not told it, finds nothing.
    """

    tracker_id = TrackerId.UNKNOWN

    def __init__(
        self, none: tuple[int, ...] = (), several: tuple[int, ...] = (), *, still: bool = False
    ) -> None:
        self._none, self._several, self._still = none, several, still
        self.closed = False

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        index = round(timestamp_us * 30 / 1e6)
        if self._still or index in self._none:
            return Tracking(())
        face = face_of(index)
        return Tracking((face, face + 3)) if index in self._several else Tracking((face,))

    def close(self) -> None:
        self.closed = True


def clip(count: int) -> Iterator[Frame]:
    return (frame(i) for i in range(count))


def run(source: Any, tracker: MadeUpTracker | None = None, **changes: Any) -> Enrolment:
    options: dict[str, Any] = {"consent": CONSENT, "name": "Ada", "key": TEST_KEY}
    return enroll_in_detail(source, tracker=tracker or MadeUpTracker(), **(options | changes))


@pytest.fixture(scope="module")
def enrolled() -> Enrolment:
    return run(clip(60), MadeUpTracker(none=(3, 4), several=(9,)), settings=Settings(reference_px=256))


def test_references_are_measured_once_more_by_themselves() -> None:
    class Lagging(MadeUpTracker):
        def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
            index = round(timestamp_us * 30 / 1e6)
            return Tracking((face_of(index) + np.array([2, 0, 0], np.float32),))

    class Still(MadeUpTracker):
        """Tells frames apart by their pixels, as one that looks at a picture does."""

        def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
            (index,) = (i for i in range(30) if np.array_equal(frame(i).rgb, rgb))
            return Tracking((face_of(index),))

    without, with_still = (run(clip(30), Lagging(), still=still) for still in (None, Still()))
    assert without.reference_frames == with_still.reference_frames
    for one, other, number in zip(
        without.avatar.references, with_still.avatar.references, without.reference_frames, strict=True
    ):
        if one.slot in dict(without.avatar.manifest.made_up):
            continue
        true = face_of(number)[:, 0]
        assert np.abs(other.landmarks[:, 0] - true).mean() < 0.5 < np.abs(one.landmarks[:, 0] - true).mean()


def test_another_face_or_none_is_no_second_measurement() -> None:
    class Elsewhere(MadeUpTracker):
        def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
            return Tracking((face_of(0) + np.array([60, 0, 0], np.float32),))

    for still in (MadeUpTracker(none=(0,)), MadeUpTracker(several=(0,)), Elsewhere()):
        assert np.array_equal(measured_again(still, frame(0).rgb, face_of(0), SIZE), face_of(0))


def test_what_is_made_up_takes_room_among_what_is_drawn() -> None:
    for reference_px, most in ((512, 8), (256, 6)):
        made = run(clip(60), settings=Settings(reference_px=reference_px)).avatar
        photographed = len(made.references) - len(made.manifest.made_up)
        assert len(made.references) <= 8 and 3 <= photographed <= most
        assert made.manifest.made_up  # the portrait's mouth stays as it is


def test_a_clip_becomes_an_avatar(enrolled: Enrolment) -> None:
    avatar = parse_avatar(enrolled.data, now_unix_s=CREATED + 1)
    manifest = avatar.manifest
    assert (manifest.name, manifest.consent, manifest.owner) == ("Ada", CONSENT, TEST_KEY.public_key)
    assert manifest.created_unix_s == CREATED
    assert (avatar.width, avatar.height) == (SIZE, SIZE)
    assert avatar.complete
    assert avatar.rings is not None
    assert avatar.appearance.shape == (CODE_LENGTH,)
    assert (enrolled.frames, enrolled.without_face, enrolled.several_faces) == (60, 2, 1)
    assert 3 <= len(avatar.references) - len(avatar.manifest.made_up) <= 6
    assert [r.slot for r in avatar.references] == list(range(len(avatar.references)))
    assert not {3, 4, 9} & set(enrolled.reference_frames)


def test_neutral_is_the_portrait_upright(enrolled: Enrolment) -> None:
    neutral = enrolled.avatar.neutral
    eyes = neutral[473, :2] - neutral[468, :2]
    assert np.linalg.norm(eyes) == pytest.approx(1, abs=0.01)
    assert eyes[0] > 0.9
    assert neutral[152, 1] > 1 > neutral[10, 1]


def test_references_lie_where_the_face_is(enrolled: Enrolment) -> None:
    made_up = dict(enrolled.avatar.manifest.made_up)
    for r, index in zip(enrolled.avatar.references, enrolled.reference_frames, strict=True):
        if r.slot in made_up:
            continue
        assert (
            np.abs(r.landmarks - face_of(index))[:, :2].max() < 0.1
        )  # depth is the person's, not the tracker's
        shown, wanted = decode_picture(r.picture).astype(float), frame(index).rgb.astype(float)
        assert np.abs(shown - wanted).mean() < 8
        matte = decode_matte(r.matte)
        x, y = r.landmarks[1, :2].astype(int)
        assert matte[y, x] > 200


def test_a_face_from_ten_kilobytes(enrolled: Enrolment) -> None:
    whole = assemble(enrolled.data, now_unix_s=CREATED)
    assert len(whole.head.data) + len(whole.bodies[0]) <= MAX_FIRST_BYTES
    first = AvatarAssembler(whole.head.data, now_unix_s=CREATED)
    first.add_layer(0, whole.bodies[0])
    assert first.avatar is not None
    assert first.avatar.references[0].size == (SIZE, SIZE)


def test_the_same_clip_gives_the_same_bytes(enrolled: Enrolment) -> None:
    again = enroll(
        clip(60),
        consent=CONSENT,
        name="Ada",
        key=TEST_KEY,
        tracker=MadeUpTracker(none=(3, 4), several=(9,)),
        settings=Settings(reference_px=256),
    )
    assert again == enrolled.data


def test_the_sheet_shows_every_reference(enrolled: Enrolment) -> None:
    sheet = draw_reference_sheet(enrolled.data, now_unix_s=CREATED)
    assert sheet.shape == (22 + 3 * 256, 256 * (1 + len(enrolled.avatar.references)), 3)


def test_one_photo() -> None:
    one = run([frame(0)])
    assert one.avatar.manifest.made_up == ((1, "open mouth"), (2, "shut lids"))
    assert len(one.avatar.references) == 3
    assert one.avatar.rings is not None
    assert any("one picture only" in text for text in one.warnings)


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    run(clip(5), progress=lambda stage, done, total: told.append((stage, done, total)))
    assert ("looking at the face", 5, 0) in told
    assert len({stage for stage, _, _ in told}) >= 4


def test_a_window() -> None:
    part = run(clip(60), settings=Settings(window=Window(start_us=500_000, end_us=1_000_000)))
    assert part.frames == 15
    assert all(15 <= n < 30 for n in part.reference_frames)
    part = run(clip(60), settings=Settings(window=Window(frames=12)))
    assert part.frames == 12
    assert max(part.reference_frames) < 12


def test_test_fixtures_are_loopback_only() -> None:
    fixture = run(clip(3), consent=Consent.test_fixture(CREATED))
    assert fixture.avatar.manifest.uses == ("loopback",)
    assert fixture.avatar.is_test_fixture


def test_the_tracker_of_the_caller_stays_open() -> None:
    tracker = MadeUpTracker()
    run(clip(3), tracker)
    assert not tracker.closed


def test_the_pool_is_bounded() -> None:
    footage = Footage()
    rgb, landmarks = np.zeros((32, 32, 3), np.uint8), face_of(0) / np.float32(6)
    for i in range(4 * POOL_FRAMES + 10):
        footage.add(i, rgb, landmarks, 256)
        assert len(footage.pool) <= POOL_FRAMES
    tracks = [entry[0] for entry in footage.pool]
    assert tracks == list(range(0, len(footage.tracks), footage.stride))
    assert len(tracks) > POOL_FRAMES // 4


# --- errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tracker", "count", "text"),
    [
        (MadeUpTracker(none=tuple(range(9))), 9, "no face in 9 frames: face the camera"),
        (MadeUpTracker(several=tuple(range(9))), 9, "several faces in 9 of 9 frames: .* be alone"),
        (MadeUpTracker(), 0, "no frame to enrol from"),
    ],
)
def test_nothing_to_enrol(tracker: MadeUpTracker, count: int, text: str) -> None:
    with pytest.raises(MienError, match=text):
        run(clip(count), tracker)


def test_pictures_that_cannot_be_used() -> None:
    def changed(change: Any) -> Iterator[Frame]:
        return (replace(frame(i), rgb=change(frame(i).rgb)) for i in range(4))

    with pytest.raises(MienError, match="too dark: put a light"):
        run(changed(lambda rgb: (rgb * 0.05).astype(np.uint8)))
    with pytest.raises(MienError, match="overexposed"):
        run(changed(lambda rgb: np.full_like(rgb, 252)))
    with pytest.raises(MienError, match="blurred: wipe the lens"):
        run(changed(lambda rgb: np.asarray(cv2.GaussianBlur(rgb, (0, 0), 9), np.uint8)))


def test_a_face_too_small() -> None:
    class Small(MadeUpTracker):
        def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
            return Tracking((super().track(rgb, timestamp_us).faces[0] / np.float32(4),))

    with pytest.raises(MienError, match="come nearer"):
        run(clip(3), Small())


def test_a_size_that_changes() -> None:
    frames = [frame(0), replace(frame(1), rgb=frame(1).rgb[:100])]
    with pytest.raises(MienError, match="size changed"):
        run(frames)


def test_a_name_that_cannot_be() -> None:
    with pytest.raises(WireError, match="character"):
        run(clip(2), name="a\nb")


# --- the parts ------------------------------------------------------------------------------------------------


def test_matte_of_the_portrait() -> None:
    rgb, landmarks = portrait()
    matte = GrabCutMatter().mattes([rgb], [landmarks])[0]
    assert matte.shape == rgb.shape[:2]
    assert np.array_equal(matte, GrabCutMatter().mattes([rgb], [landmarks])[0])
    points = landmarks[[1, 10, 152, 234, 454, 5], :2].astype(int)
    assert matte[points[:, 1], points[:, 0]].min() > 180
    assert matte[:30, :30].mean() < 60
    assert 0.2 < (matte > 127).mean() < 0.9


def test_matte_of_a_picture_of_one_colour_is_the_prior() -> None:
    _, landmarks = portrait()
    matte = GrabCutMatter().mattes([np.full((256, 256, 3), 90, np.uint8)], [landmarks])[0]
    assert matte[int(landmarks[1, 1]), int(landmarks[1, 0])] > 200


def test_a_matter_is_always_there() -> None:
    matter = open_matter()
    assert matter.name
    matter.close()


def test_guided_filter_keeps_a_constant_and_follows_an_edge() -> None:
    guide = np.zeros((32, 32), np.float32)
    guide[:, 16:] = 1
    assert guided_filter(guide, np.full((32, 32), 0.5, np.float32), 4) == pytest.approx(
        np.full((32, 32), 0.5), abs=1e-4
    )
    shifted = np.zeros((32, 32), np.float32)
    shifted[:, 18:] = 1  # the mask's edge two pixels beside the picture's
    filtered = guided_filter(guide, shifted, 4)
    assert filtered[16, 17] > 0.5  # the edge of the mask has moved to the picture's
    assert filtered[16, 15] < 0.25


def test_islands_go_and_holes_fill() -> None:
    person = np.zeros((40, 40), bool)
    person[10:30, 10:30] = True
    person[15, 15] = False
    person[2, 2] = True
    sure = np.zeros_like(person)
    sure[20, 20] = True
    kept = keep_connected(person, sure)
    assert kept[15, 15]
    assert not kept[2, 2]
    assert kept.sum() == 400


def test_appearance_of_the_portrait() -> None:
    rgb, landmarks = portrait()
    matte = GrabCutMatter().mattes([rgb], [landmarks])[0]
    quality = FrameQuality(100.0, 0.5, 0.0)
    code = measure_appearance([rgb], [landmarks], [matte], [quality])
    skin, background = code.mean[Region.SKIN], code.mean[Region.BACKGROUND]
    assert skin[0] > skin[1] > skin[2] > 0.05  # warm
    assert code.share[Region.SKIN] > 0.05
    assert background.min() > 0
    assert code.mean[Region.SCLERA].mean() > code.mean[Region.IRIS].mean()
    back = AppearanceCode.from_vector(code.to_vector())
    assert np.array_equal(back.mean, code.mean)
    assert back.sharpness == pytest.approx(np.log1p(100), abs=1e-4)
    assert all(0 <= v <= 255 for v in back.srgb(Region.SKIN))


def test_a_closed_mouth_is_guessed() -> None:
    rgb, landmarks = portrait()
    closed = landmarks.copy()
    closed[13, :2] = closed[14, :2]
    code = measure_appearance(
        [rgb], [closed], [np.full(rgb.shape[:2], 255, np.uint8)], [FrameQuality(1, 0.5, 0)]
    )
    assert code.share[Region.MOUTH] == 0
    assert code.mean[Region.MOUTH].mean() < code.mean[Region.SKIN].mean()


@pytest.mark.parametrize("bad", [np.zeros(3), np.full(CODE_LENGTH, np.nan), np.zeros((CODE_LENGTH, 1))])
def test_appearance_codes_that_are_none(bad: NDArray[np.float64]) -> None:
    with pytest.raises(WireError):
        AppearanceCode.from_vector(bad.astype(np.float32))


def test_linear_light_and_back() -> None:
    values = np.arange(256, dtype=np.uint8)
    assert np.rint(255 * to_srgb(to_linear(values))).astype(int).tolist() == list(range(256))


def test_a_first_picture_fits_whatever_it_shows() -> None:
    rng = np.random.default_rng(9)
    noise = rng.integers(0, 256, (256, 256, 3)).astype(np.uint8)
    _, landmarks = portrait()
    worst = PackedReference(noise, landmarks, rng.integers(0, 256, (256, 256)).astype(np.uint8))
    packed = pack_avatar(
        [worst],
        neutral=content().neutral,
        appearance=np.zeros(CODE_LENGTH, np.float32),
        rings=None,
        declaration=declaration(),
        signer=TEST_KEY,
        budget=LayerBudget(total=60_000, quality=80),
    )
    whole = assemble(packed.data, now_unix_s=CREATED)
    assert len(whole.head.data) + len(whole.bodies[0]) <= MAX_FIRST_BYTES
    assert packed.picture_quality < 80
    assert len(packed.data) <= 60_000


# --- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def photo(folder: Path) -> Path:
    rgb, _ = portrait()
    path = folder / "photo.png"
    Image.fromarray(rgb).save(path)
    return path


def test_no_terminal_and_no_flag(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enroll", str(photo(tmp_path)), "-o", str(tmp_path / "me.avatar")]) == 2
    assert "--consent self" in capsys.readouterr().err
    assert not (tmp_path / "me.avatar").exists()
    assert not home.exists()  # not even a key is made


@pytest.mark.parametrize("kind", ["test-fixture", "other"])
def test_other_kinds_of_consent_cannot_be_given(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SystemExit) as error:
        main(["enroll", str(photo(tmp_path)), "-o", str(tmp_path / "me.avatar"), "--consent", kind])
    assert error.value.code == 2


@pytest.mark.parametrize(
    ("answer", "agreed"), [("yes\n", True), ("YES \n", True), ("y\n", False), ("\n", False)]
)
def test_a_terminal_is_asked(answer: str, agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Keyboard(answer))
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=300)
    if agreed:
        assert command._consent(None, console, CREATED) == CONSENT
    else:
        with pytest.raises(MienError, match="no consent"):
            command._consent(None, console, CREATED)
    assert "I agree to an avatar of myself" in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--until", "1.5"], "fraction"),
        (["--until", "0.5", "--start-s", "1"], "choose one"),
        (["--end-s", "1", "--start-s", "2"], "start < end"),
        (["--seconds", "0"], "more than 0"),
        (["--references", "17"], "1 to 16"),
        (["--expires-days", "0"], "1 to 36500"),
    ],
)
def test_options_that_make_no_sense(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    base = ["enroll", str(photo(tmp_path)), "-o", str(tmp_path / "me.avatar"), "--consent", "self"]
    assert main([*base, *arguments]) == 2
    assert text in capsys.readouterr().err


def test_the_command(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        open_tracker(still=True).close()
    except MienError as error:
        pytest.skip(f"no face tracker here: {error}")
    out, sheet = tmp_path / "me.avatar", tmp_path / "sheet.png"
    base = ["enroll", str(photo(tmp_path)), "-o", str(out), "--consent", "self", "--name", "Ada"]
    assert main([*base, "--preview", str(sheet), "--json", "--expires-days", "30"]) == 0
    summary = json.loads(capsys.readouterr().out)
    avatar = parse_avatar(out.read_bytes(), now_unix_s=CREATED)
    assert summary["bytes"] == out.stat().st_size
    assert summary["first_picture_bytes"] <= MAX_FIRST_BYTES
    assert summary["owner"] == avatar.manifest.owner_fingerprint
    assert summary["consent"] == "self"
    assert avatar.manifest.consent.kind is ConsentKind.SELF
    assert avatar.manifest.expires_unix_s == avatar.manifest.created_unix_s + 30 * 86_400
    assert Image.open(sheet).size == (256 * (1 + len(avatar.references)), 22 + 3 * 256)
    if hasattr(os, "getuid"):
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert main([*base, "--until", "1"]) == 0  # again, with the same key
    text = capsys.readouterr().out
    assert summary["owner"] in text
    assert "at 40 kbps" in text
