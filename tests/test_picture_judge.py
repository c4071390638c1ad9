"""The judge of the picture bench, with a tracker that finds the face where the test put it."""

from typing import cast

import numpy as np
import pytest

from mien.bench.akd import Face, Retracker
from mien.bench.picture_footage import QUICK
from mien.bench.picture_judge import Judge
from mien.bench.picture_metrics import Picture
from mien.decoder.badge import Badge, draw_badge
from tests.picture_fixtures import smooth_picture

SIZE_PX = 128


class SteadyTracker:
    """Finds one face in every picture, always at the same place."""

    def face(self, picture: Picture) -> Face:
        landmarks = np.random.default_rng(0).uniform(0.4, 0.7, (478, 2)) * SIZE_PX
        return Face(landmarks, np.zeros(52), np.eye(3))


class Badged(list[Picture]):
    """Equal to the original but for the badge."""

    def __getitem__(self, number: int) -> Picture:  # type: ignore[override]
        out = self.bare(number).copy()
        draw_badge(out, Badge.AVATAR)
        return out

    def bare(self, number: int) -> Picture:
        return list(self)[number]


@pytest.fixture
def originals() -> list[Picture]:
    return [smooth_picture(number, SIZE_PX) for number in range(6)]


def judge(originals: list[Picture]) -> Judge:
    return Judge(originals, QUICK, cast(Retracker, SteadyTracker()), None)


def test_a_badge_counts_and_what_was_before_it_is_told_beside(originals: list[Picture]) -> None:
    found = judge(originals).judge(Badged(originals))
    assert found["bare_ssim"] == pytest.approx(1) and found["bare_gmsd"] == pytest.approx(0, abs=1e-3)
    assert found["ssim"] < 0.99 and found["gmsd"] > 0.02 and found["bare_psnr"] > found["psnr"] + 10
    assert found["face_ssim"] == pytest.approx(1)  # the badge is not in the face


def test_pictures_without_a_badge_have_no_figures_beside(originals: list[Picture]) -> None:
    found = judge(originals).judge(originals)
    assert found["ssim"] == pytest.approx(1) and not any(name.startswith("bare_") for name in found)
