"""What enrolment makes up from one photo: an open mouth, shut lids; and which photos it refuses."""

from dataclasses import replace
from functools import cache
from typing import Any

import cv2
import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.commands.inspect import report_avatar
from mien.encoder.capture import Frame
from mien.encoder.completion import OPEN, PARTED, complete, mouth_gap, moved, with_gap
from mien.encoder.enroll import Enrolment, Settings, enroll_in_detail
from mien.encoder.layer_packing import PackedReference
from mien.encoder.mouth_interior import measure_colours, paint_interior
from mien.encoder.photo_checks import photo_warnings
from mien.encoder.picture_warp import bend
from mien.encoder.reference_depth import Fitted
from mien.encoder.shut_lids import lid_gaps, paint_shut, shut
from mien.encoder.tracker import Tracking
from mien.models.face_model import FaceModel
from mien.models.fit import estimate_neutral
from mien.models.topology import INNER_LIPS
from mien.protocol.avatar import assemble
from mien.protocol.consent import Consent
from mien.protocol.errors import MienError, WireError
from mien.protocol.manifest import MadeUp, Manifest
from mien.protocol.stream import TrackerId
from tests.avatar_samples import CREATED, TEST_KEY, declaration, portrait

SKIN = np.array([0.45, 0.28, 0.2])


class Shown:
    """A tracker that knows the face."""

    tracker_id = TrackerId.UNKNOWN

    def __init__(self, *faces: NDArray[np.float32]) -> None:
        self._faces = faces

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        return Tracking(self._faces)

    def close(self) -> None:
        pass


def enrol(*faces: NDArray[np.float32], settings: Settings | None = None) -> Enrolment:
    rgb, _ = portrait()
    consent = Consent.test_fixture(CREATED)
    return enroll_in_detail(
        [Frame(rgb, 0, 0)], consent=consent, name="", key=TEST_KEY, tracker=Shown(*faces), settings=settings
    )


@cache
def enrolled() -> Enrolment:
    return enrol(portrait()[1])


@cache
def astronaut() -> tuple[PackedReference, Fitted]:
    rgb, landmarks = portrait()
    model = FaceModel.load()
    neutral = estimate_neutral(landmarks[None], model)
    size = rgb.shape[0]
    unit = float(np.linalg.norm(landmarks[468, :2] - landmarks[473, :2]))
    fitted = Fitted(model, neutral, unit_px=unit, width=size, height=size)
    deep, _ = fitted.with_depth(landmarks)
    return PackedReference(rgb, deep, np.full(rgb.shape[:2], 255, np.uint8)), fitted


def with_mouth(gap: float) -> PackedReference:
    """Return the astronaut with landmarks of a mouth open by `gap`; the picture is left as it is."""
    reference, fitted = astronaut()
    state = fitted.fit(reference.landmarks)
    wanted = with_gap(fitted.model, fitted.neutral, state, gap)
    return replace(reference, landmarks=moved(reference.landmarks, state, wanted, fitted))


def test_a_smile_lacks_an_open_mouth_and_shut_lids() -> None:
    reference, fitted = astronaut()
    made = complete([reference], fitted, SKIN)
    assert [one.kind for one in made] == [MadeUp.OPEN_MOUTH, MadeUp.SHUT_LIDS]
    opened, lids = (one.reference for one in made)
    assert mouth_gap(opened.landmarks) == pytest.approx(OPEN, abs=0.05)
    assert mouth_gap(reference.landmarks) < 0.5 * OPEN
    assert max(lid_gaps(lids.landmarks)) < 0.01
    assert min(lid_gaps(reference.landmarks)) > 0.1


def test_closed_lips_also_lack_parted_ones() -> None:
    made = complete([with_mouth(0.0)], astronaut()[1], SKIN)
    assert {one.kind for one in made} == set(MadeUp)
    parted = next(one.reference for one in made if one.kind is MadeUp.PARTED_LIPS)
    assert mouth_gap(parted.landmarks) == pytest.approx(PARTED, abs=0.05)


def test_what_was_seen_is_not_made_up() -> None:
    reference, fitted = astronaut()
    blink = replace(reference, landmarks=shut(reference.landmarks))
    assert complete([reference, with_mouth(0.35), blink], fitted, SKIN) == []
    assert len(complete([reference] * 7, fitted, SKIN)) == 1  # more would not be drawn
    assert complete([reference] * 8, fitted, SKIN) == []


def test_an_open_mouth_has_teeth_above_the_dark() -> None:
    opened = complete([astronaut()[0]], astronaut()[1], SKIN)[0].reference
    points = opened.landmarks
    column = [
        opened.rgb[int(y), int(points[13, 0])].astype(int)
        for y in np.linspace(points[13, 1], points[14, 1], 41)
    ]
    bright = np.array([c.sum() for c in column])
    teeth, below = bright[4:16].max(), bright[16:30].min()
    assert teeth > 2 * below
    tooth = column[4 + int(np.argmax(bright[4:16]))]
    assert tooth.max() - tooth.min() < 0.45 * tooth.max()  # white, more or less
    assert bright[30:].max() > 1.3 * below  # tongue and lower teeth


def test_upper_teeth_stay_with_the_head() -> None:
    rgb, _ = portrait()
    colours = measure_colours(rgb, with_mouth(0.0).landmarks, SKIN)
    closed = with_mouth(0.0).landmarks
    edges = []
    for gap in (0.3, 0.45):
        points = with_mouth(gap).landmarks
        painted = paint_interior(rgb, points, closed, colours)
        x = int(points[13, 0])
        rows = np.arange(int(points[13, 1]) + 1, int(points[14, 1]))
        bright = painted[rows, x].astype(int).sum(1)
        top = int(np.argmax(bright[: len(bright) // 2]))
        edges.append(rows[top + int(np.argmax(bright[top:] < 0.5 * bright[top]))])
    assert abs(edges[0] - edges[1]) <= 3


def test_nothing_changes_far_from_what_moves() -> None:
    reference, _ = astronaut()
    bent = bend(reference.rgb, reference.landmarks, with_mouth(0.4).landmarks)
    chin = reference.landmarks[152, :2].astype(int)
    assert np.abs(bent.astype(int) - reference.rgb)[: int(reference.landmarks[6, 1])].mean() < 1
    assert (
        np.abs(bent.astype(int) - reference.rgb)[chin[1] - 6 : chin[1] + 6, chin[0] - 9 : chin[0] + 9].mean()
        > 3
    )
    np.testing.assert_array_equal(
        bend(reference.rgb, reference.landmarks, reference.landmarks), reference.rgb
    )


def test_shut_eyes_are_skin_with_a_line_of_lashes() -> None:
    reference, _ = astronaut()
    painted = paint_shut(reference.rgb, reference.landmarks)
    points = shut(reference.landmarks)
    for iris, meet in ((468, 145), (473, 374)):
        x, y = reference.landmarks[iris, :2].astype(int)
        line = painted[int(points[meet, 1]) - 1 : int(points[meet, 1]) + 2, x].astype(int).sum(1).min()
        lid = painted[y - 3 : y, x].astype(int).sum(1).mean()
        assert line < 0.75 * lid
        skin = painted[int(points[meet, 1]) + 14, x].astype(int).sum()
        assert 0.6 * skin < lid < 1.4 * skin
    brow = int(reference.landmarks[[105, 334], 1].min())
    np.testing.assert_array_equal(painted[: brow - 8], reference.rgb[: brow - 8])


def test_made_up_references_are_marked_and_signed() -> None:
    enrolment = enrolled()
    avatar = enrolment.avatar
    assert avatar.manifest.made_up == ((1, "open mouth"), (2, "shut lids"))
    assert len(avatar.references) == 3 == len(enrolment.reference_frames)
    report = report_avatar(assemble(enrolment.data, now_unix_s=CREATED))
    assert [r["made_up"] for r in report["references"]] == [None, "open mouth", "shut lids"]
    alone = enrol(portrait()[1], settings=Settings(complete=False))
    assert alone.avatar.manifest.made_up == ()
    assert len(alone.avatar.references) == 1
    assert any("open mouth and shut lids were painted" in text for text in enrolment.warnings)


def test_manifest_keeps_the_marks() -> None:
    manifest = enrolled().avatar.manifest
    again = Manifest.parse(manifest.serialize())
    assert again == manifest
    for wrong in (((16, "x"),), ((1, "x"), (1, "y")), ((1, ""),), ((1, "x" * 33),)):
        with pytest.raises(WireError, match="made-up"):
            replace(manifest, made_up=wrong)
    assert declaration().made_up == ()


def test_marks_of_later_versions_are_kept_and_wrong_ones_refused() -> None:
    manifest = enrolled().avatar.manifest
    fields = msgpack.unpackb(manifest.serialize()[32:])

    def with_later(later: Any) -> bytes:
        return manifest.owner + bytes(msgpack.packb(fields | {"later": later}))

    plain = Manifest.parse(with_later({"something": [1, 2]}))
    assert plain == replace(manifest, made_up=())
    assert Manifest.parse(with_later({"made-up": [[2, "a hat"]]})).made_up == ((2, "a hat"),)
    for wrong in ("x", [[1]], [[True, "x"]], [["x", 1]], [1], [[0, "a"]] * 2, [[n, "a"] for n in range(17)]):
        with pytest.raises(WireError):
            Manifest.parse(with_later({"made-up": wrong}))


@pytest.mark.parametrize(
    ("faces", "text"),
    [
        ((), "no face in the photo"),
        ((portrait()[1], portrait()[1] + 3), "several faces: cut yours out"),
        (
            (portrait()[1] * np.float32(0.3),),
            "only .* pixels tall, 48 are needed: take the photo from nearer",
        ),
        ((shut(portrait()[1]),), "the eyes are shut in the photo: choose one with open eyes"),
    ],
)
def test_photos_that_cannot_be_used(faces: tuple[NDArray[np.float32], ...], text: str) -> None:
    with pytest.raises(MienError, match=text):
        enrol(*faces)


def test_photos_that_could_be_better() -> None:
    _, landmarks = portrait()
    plain = photo_warnings(landmarks, yaw_deg=3, pitch_deg=-4, made_up=())
    assert len(plain) == 1
    turned = photo_warnings(landmarks, yaw_deg=-22, pitch_deg=25, made_up=("shut lids",))
    assert "turned by 22 degrees" in turned[1]
    assert "nodded by 25" in turned[2]
    wink = landmarks.copy()
    wink[list(range(150, 160))] = shut(landmarks)[list(range(150, 160))]
    wink[[33, 7, 163, 144, 145, 246, 161, 160]] = shut(landmarks)[[33, 7, 163, 144, 145, 246, 161, 160]]
    assert any("one eye is shut" in text for text in photo_warnings(wink, yaw_deg=0, pitch_deg=0, made_up=()))


def test_lips_are_where_the_inside_is_painted() -> None:
    rgb, _ = portrait()
    points = with_mouth(0.4).landmarks
    painted = paint_interior(rgb, points, with_mouth(0.0).landmarks, measure_colours(rgb, points, SKIN))
    mask = np.zeros(rgb.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.rint(points[list(INNER_LIPS), :2]).astype(np.int32)], 1)
    outside = cv2.dilate(mask, np.ones((5, 5), np.uint8)) == 0
    np.testing.assert_array_equal(painted[outside], rgb[outside])
    assert (painted != rgb)[mask > 0].mean() > 0.9
