"""What an enrolment has shown: each expression is told from the others, for any face, by frames that are sharp."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.encoder.enrolment_coverage import (
    ITEMS,
    Grade,
    Item,
    ItemCoverage,
    advice,
    amounts,
    features_of,
    measure_coverage,
    rest_of,
)
from mien.encoder.synthetic_source import Motion, SyntheticSource
from mien.encoder.tracker_choice import open_tracker
from mien.models.face_model import FaceModel
from mien.models.fit import estimate_neutral
from mien.protocol.errors import MienError
from tests.enrolment_faces import face

MODEL = FaceModel.load()


def features(tracks: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    stacked = np.stack(tracks)
    return features_of(stacked, estimate_neutral(stacked, MODEL), MODEL)


def clip(*shown: tuple[Item, float], likeness: float = 1.0) -> NDArray[np.float32]:
    """Half a clip at rest, then four frames of each."""
    tracks = [face(likeness=likeness)] * (4 * len(shown) + 8)
    for item, amount in shown:
        tracks += [face(item, amount, likeness=likeness)] * 4
    return features(tracks)


def covered(rows: NDArray[np.float32], sharpness: list[float] | None = None) -> dict[Item, ItemCoverage]:
    times = [round(i * 1e6 / 30) for i in range(len(rows))]
    sharp = [100.0] * len(rows) if sharpness is None else sharpness
    return {c.item: c for c in measure_coverage(rows, times, range(len(rows)), sharp)}


@pytest.mark.parametrize("likeness", [0.9, 1.0, 1.15])
@pytest.mark.parametrize("item", [item for item in ITEMS if item is not Item.REST])
def test_each_item_is_told_from_the_others(item: Item, likeness: float) -> None:
    rows = clip((item, 1.0), likeness=likeness)
    shown = dict(zip(ITEMS, amounts(rows[-1:], rest_of(rows))[0], strict=True))
    assert [i for i, amount in shown.items() if amount >= 1] == [item]


@pytest.mark.parametrize("likeness", [0.9, 1.0, 1.15])
def test_a_face_at_rest_shows_rest_only(likeness: float) -> None:
    found = covered(clip(likeness=likeness))
    assert found[Item.REST].grade is Grade.COVERED
    assert {c.grade for item, c in found.items() if item is not Item.REST} == {Grade.MISSING}


def test_everything_shown_is_covered_and_found_where_it_was() -> None:
    others = [item for item in ITEMS if item is not Item.REST]
    found = covered(clip(*((item, 1.0) for item in others)))
    assert {c.grade for c in found.values()} == {Grade.COVERED}
    first = 4 * len(others) + 8
    for number, item in enumerate(others):
        assert first + 4 * number <= found[item].best < first + 4 * (number + 1)
        assert found[item].time_us == round(found[item].best * 1e6 / 30)
    assert advice(tuple(found.values())) == ()


def test_half_an_expression_is_weak_and_so_is_one_frame_or_blur() -> None:
    assert covered(clip((Item.MOUTH_OPEN, 0.5)))[Item.MOUTH_OPEN].grade is Grade.WEAK
    rows = clip((Item.MOUTH_OPEN, 1.0))
    assert covered(rows)[Item.MOUTH_OPEN].grade is Grade.COVERED
    assert covered(rows[:-3])[Item.MOUTH_OPEN].grade is Grade.WEAK
    blurred = [100.0] * (len(rows) - 4) + [20.0] * 4
    assert covered(rows, blurred)[Item.MOUTH_OPEN].grade is Grade.WEAK


def test_the_sharpest_of_those_that_show_enough_is_best() -> None:
    rows = clip((Item.TURN_LEFT, 1.0))
    sharpness = [100.0] * len(rows)
    sharpness[-2] = 120.0
    assert covered(rows, sharpness)[Item.TURN_LEFT].best == len(rows) - 2


def test_advice_names_the_missing_first() -> None:
    found = covered(clip((Item.TEETH, 0.6), (Item.MOUTH_OPEN, 1.0)))
    lines = advice(tuple(found.values()))
    assert len(lines) == 10
    assert lines[-1].startswith("smile broadly") and lines[-1].endswith("(teeth: weak)")
    assert not any("open the mouth" in line for line in lines)


def test_a_photo_has_no_coverage() -> None:
    assert measure_coverage(clip()[:1], [0], [0], [100.0]) == ()


def test_numbers_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="1 frames, 2 times"):
        measure_coverage(clip()[:1], [0, 1], [0], [1.0])


def test_the_portrait_opens_its_mouth_and_closes_its_eyes() -> None:
    try:
        tracker = open_tracker()
    except MienError as error:
        pytest.skip(f"no face tracker here: {error}")

    def script(time_s: float) -> Motion:
        return Motion(jaw=1.0 if 2 <= time_s < 2.5 else -1.0, blink=1.0 if 3 <= time_s < 3.5 else 0.0)

    source = SyntheticSource(4.0, rate=Fraction(10), size_px=256, script=script)
    tracks = [tracker.track(f.rgb, f.timestamp_us).faces[0] for f in source]
    tracker.close()
    found = covered(features(tracks))
    for item, begin_s in ((Item.MOUTH_OPEN, 2), (Item.EYES_CLOSED, 3)):
        assert found[item].grade is not Grade.MISSING
        assert begin_s - 0.05 <= found[item].best / 10 <= begin_s + 0.65
    for item in (Item.TURN_LEFT, Item.TURN_RIGHT, Item.EYES_WIDE, Item.TEETH):
        assert found[item].grade is Grade.MISSING
