"""Files: frame count, times, sizes and colours survive."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mien.decoder.output import VideoSink, save_png
from mien.protocol.errors import MienError
from tests.picture_fixtures import smooth_picture


def read(path: Path) -> tuple[list[NDArray[np.uint8]], list[Fraction]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [Fraction(f.pts) * f.time_base for f in frames if f.pts is not None and f.time_base is not None]
    return [np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in frames], times


@pytest.mark.parametrize(
    "rate", [Fraction(25), Fraction(30000, 1001), Fraction(15), Fraction(24000, 1001), Fraction(17, 3)]
)
def test_every_frame_arrives_at_its_time(tmp_path: Path, rate: Fraction) -> None:
    with VideoSink(tmp_path / "a.mp4", width=64, height=48, rate=rate) as sink:
        for number in range(11):
            sink.write(np.full((48, 64, 3), 20 * number, np.uint8))
    pictures, times = read(tmp_path / "a.mp4")
    assert len(pictures) == 11
    assert times == [number / rate for number in range(11)]
    assert [round(float(p.mean()) / 20) for p in pictures] == list(range(11))


def test_given_times_are_kept(tmp_path: Path) -> None:
    given_us = [0, 33_333, 66_667, 66_667, 200_000]
    with VideoSink(tmp_path / "a.mp4", width=64, height=48, rate=Fraction(30)) as sink:
        for time_us in given_us:
            sink.write(np.zeros((48, 64, 3), np.uint8), time_us=time_us)
    _, times = read(tmp_path / "a.mp4")
    assert [float(t) for t in times] == pytest.approx([t / 1e6 for t in given_us], abs=2e-5)
    assert len(set(times)) == 5


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_colours_and_size_survive(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = np.ascontiguousarray(smooth_picture(3, 512)[: size[1], : size[0]])
    with VideoSink(tmp_path / "a.mp4", width=size[0], height=size[1], rate=Fraction(30)) as sink:
        for _ in range(3):
            sink.write(picture)
    (first, *_), _ = read(tmp_path / "a.mp4")
    assert first.shape == picture.shape
    assert np.abs(first.astype(float) - picture).mean() < 2


def test_another_size_is_refused(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "a.mp4", width=64, height=48, rate=Fraction(30)) as sink:
        with pytest.raises(ValueError, match="expected"):
            sink.write(np.zeros((64, 48, 3), np.uint8))
        sink.write(np.zeros((48, 64, 3), np.uint8))


def test_an_impossible_place_gets_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MienError, match="cannot write"):
        VideoSink(tmp_path / "none" / "a.mp4", width=64, height=48, rate=Fraction(30))
    with pytest.raises(MienError, match="cannot write"):
        save_png(tmp_path / "none" / "a.png", np.zeros((4, 4, 3), np.uint8))


def test_png_is_exact(tmp_path: Path) -> None:
    picture = smooth_picture(4)
    save_png(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), picture)
