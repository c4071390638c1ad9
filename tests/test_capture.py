"""Capture: every kind of source gives upright RGB frames with honest timestamps, or an error that helps."""

import itertools
import os
import struct
import sys
import wave
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mien.encoder import capture
from mien.encoder.capture import Frame, open_source
from mien.protocol.errors import MienError

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (240, 240, 240)


def quarters(width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """Red top left, green top right, blue bottom left, white bottom right."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[: height // 2, : width // 2] = RED
    rgb[: height // 2, width // 2 :] = GREEN
    rgb[height // 2 :, : width // 2] = BLUE
    rgb[height // 2 :, width // 2 :] = WHITE
    return rgb


def corner_colours(rgb: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Top left, top right, bottom left, bottom right; each the nearest of the four that we paint."""
    height, width = rgb.shape[:2]
    found: list[tuple[int, ...]] = []
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        patch = rgb[height // 8 + y * height // 2 :, width // 8 + x * width // 2 :][
            : height // 4, : width // 4
        ]
        mean = patch.reshape(-1, 3).mean(0)
        found.append(min((RED, GREEN, BLUE, WHITE), key=lambda c: float(np.abs(mean - c).sum())))
    return found


def write_video(
    path: Path,
    frames: Sequence[NDArray[np.uint8]],
    *,
    codec: str = "mpeg4",
    pix_fmt: str = "yuv420p",
    pts_ms: Sequence[int] | None = None,
    rate: int = 25,
    aspect: Fraction | None = None,
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.time_base = Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for index, rgb in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            picture.pts = index * 1000 // rate if pts_ms is None else pts_ms[index]
            picture.time_base = Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def turn(path: Path, *, clockwise: int) -> None:
    """Write a rotation into the track header of an MP4 file, as phones do."""
    data = bytearray(path.read_bytes())
    a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise]
    one, two_30 = 1 << 16, 1 << 30
    matrix = struct.pack("!9i", a * one, b * one, 0, -b * one, a * one, 0, 0, 0, two_30)
    header = data.index(b"tkhd")
    identity = data.index(struct.pack("!9i", one, 0, 0, 0, one, 0, 0, 0, two_30), header)
    data[identity : identity + 36] = matrix
    path.write_bytes(data)


def test_video_frames_come_in_order(tmp_path: Path) -> None:
    frames = [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(10)]
    source = open_source(str(write_video(tmp_path / "a.mp4", frames)))
    assert (source.width, source.height, source.live, source.name) == (64, 48, False, "a.mp4")
    assert source.rate == 25
    got = list(source)
    assert [f.index for f in got] == list(range(10))
    assert [f.timestamp_us for f in got] == [i * 40_000 for i in range(10)]
    assert all(abs(float(f.rgb.mean()) - 20 * i) < 4 for i, f in enumerate(got))
    assert got[0].rgb.dtype == np.uint8 and got[0].rgb.flags.c_contiguous
    assert len(list(source)) == 10  # a file starts again


@pytest.mark.parametrize(
    ("clockwise", "corners"),
    [(90, [BLUE, RED, WHITE, GREEN]), (180, [WHITE, BLUE, GREEN, RED]), (270, [GREEN, WHITE, RED, BLUE])],
)
def test_rotation_is_applied(tmp_path: Path, clockwise: int, corners: list[tuple[int, ...]]) -> None:
    path = write_video(tmp_path / "phone.mp4", [quarters()] * 3)
    assert corner_colours(next(iter(open_source(str(path)))).rgb) == [RED, GREEN, BLUE, WHITE]
    turn(path, clockwise=clockwise)
    source = open_source(str(path))
    frame = next(iter(source))
    assert frame.rgb.shape == (source.height, source.width, 3)
    assert (source.width, source.height) == ((64, 48) if clockwise == 180 else (48, 64))
    assert corner_colours(frame.rgb) == corners


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p10le", "yuv444p", "yuv422p12le", "yuva420p", "bgr0", "bgra", "gbrp16le"]
)
def test_pixel_formats(tmp_path: Path, pix_fmt: str) -> None:
    path = write_video(tmp_path / "odd.mkv", [quarters(63, 49)] * 2, codec="ffv1", pix_fmt=pix_fmt)
    frames = list(open_source(str(path)))
    assert len(frames) == 2
    assert frames[0].rgb.shape == (49, 63, 3)
    assert corner_colours(frames[0].rgb) == [RED, GREEN, BLUE, WHITE]


def test_grey_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "grey.mkv", [quarters()] * 2, codec="ffv1", pix_fmt="gray")
    rgb = next(iter(open_source(str(path)))).rgb
    assert rgb.shape == (48, 64, 3)
    assert np.ptp(rgb.astype(int), axis=2).max() == 0


def test_square_pixels(tmp_path: Path) -> None:
    path = write_video(tmp_path / "tv.mp4", [quarters()] * 2, aspect=Fraction(3, 2))
    source = open_source(str(path))
    assert (source.width, source.height) == (96, 48)
    assert next(iter(source)).rgb.shape == (48, 96, 3)


def test_variable_frame_rate(tmp_path: Path) -> None:
    pts_ms = [500, 533, 600, 900, 933, 1500]
    path = write_video(tmp_path / "vfr.mkv", [quarters()] * 6, codec="ffv1", pts_ms=pts_ms)
    assert [f.timestamp_us for f in open_source(str(path))] == [(p - 500) * 1000 for p in pts_ms]


def test_truncated_video_plays_up_to_the_damage(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    frames = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(20)]
    data = write_video(tmp_path / "whole.mkv", frames, codec="ffv1").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    count = len(list(open_source(str(tmp_path / "cut.mkv"))))
    assert 5 <= count < 20


def test_damaged_video_never_raises_anything_else(tmp_path: Path) -> None:
    data = write_video(tmp_path / "whole.mp4", [quarters()] * 8).read_bytes()
    rng = np.random.default_rng(6)
    outcomes = set()
    for number in range(40):
        harmed = bytearray(data)
        for position in rng.integers(0, len(data), 20):
            harmed[position] = rng.integers(0, 256)
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(harmed)
        try:
            source = open_source(str(path))
            stamps = [f.timestamp_us for f in source]
        except MienError:
            outcomes.add("refused")
            continue
        outcomes.add("played")
        assert all(a < b for a, b in itertools.pairwise(stamps))
    assert outcomes == {"refused", "played"}


def test_close_ends_an_iteration(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "a.mp4", [quarters()] * 10)))
    frames: Iterator[Frame] = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []


def test_photo_lies_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    Image.fromarray(quarters()).save(tmp_path / "p.jpg", exif=exif, quality=95, subsampling=0)
    source = open_source(str(tmp_path / "p.jpg"))
    frames = list(source)
    assert (source.width, source.height, len(frames)) == (48, 64, 1)
    assert corner_colours(frames[0].rgb) == [BLUE, RED, WHITE, GREEN]


def test_photo_kinds(tmp_path: Path) -> None:
    clear = np.dstack([quarters(), np.zeros((48, 64), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert next(iter(open_source(str(tmp_path / "clear.png")))).rgb.min() == 255  # on white
    deep = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    rgb = next(iter(open_source(str(tmp_path / "deep.png")))).rgb
    assert abs(float(rgb.mean()) - 127.5) < 1 and rgb.min() == 0 and rgb.max() == 255
    Image.fromarray(quarters()).quantize(8).save(tmp_path / "palette.png")
    rgb = next(iter(open_source(str(tmp_path / "palette.png")))).rgb
    assert corner_colours(rgb) == [RED, GREEN, BLUE, WHITE]
    Image.fromarray(quarters(4000, 30)).save(tmp_path / "wide.png")
    assert open_source(str(tmp_path / "wide.png")).width == capture.MAX_PHOTO_PX


def test_folder_is_a_clip_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        Image.fromarray(np.full((20, 30, 3), number, np.uint8)).save(tmp_path / f"frame{number}.png")
    Image.fromarray(np.full((40, 60, 3), 11, np.uint8)).save(tmp_path / "frame11.png")  # another size
    (tmp_path / "notes.txt").write_text("not a picture")
    source = open_source(str(tmp_path))
    frames = list(source)
    assert [int(f.rgb[0, 0, 0]) for f in frames] == [1, 2, 10, 11]
    assert all(f.rgb.shape == (20, 30, 3) for f in frames)
    assert [f.timestamp_us for f in frames] == [0, 33333, 66667, 100000]


def test_animation_is_a_video(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.full((20, 20, 3), 50 * i, np.uint8)) for i in range(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    assert [f.timestamp_us for f in open_source(str(tmp_path / "a.gif"))] == [0, 100_000, 200_000]


def test_what_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.png").write_bytes(b"")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    (tmp_path / "folder").mkdir()
    for name, text in {
        "absent.mp4": "does not exist",
        "text.mp4": "not a video or a picture",
        "empty.png": "not a video or a picture",
        "sound.wav": "only sound",
        "folder": "holds no images",
    }.items():
        with pytest.raises(MienError, match=text):
            open_source(str(tmp_path / name))


def test_camera_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(MienError, match="no camera 97"):
        open_source("camera:97")


def test_camera_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "exists", lambda self: True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(MienError, match="usermod -aG video"):
        open_source("camera")


class FakeDevice:
    """A camera that gives `count` blue-green-red pictures, then nothing."""

    count = 3
    opens = True

    def __init__(self, number: int, backend: int) -> None:
        self.left = self.count
        self.released = False

    def isOpened(self) -> bool:
        return self.opens

    def set(self, key: int, value: float) -> bool:
        return True

    def get(self, key: int) -> float:
        return 29.97

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        self.left -= 1
        return (True, np.ascontiguousarray(quarters()[:, :, ::-1])) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def fake_camera(monkeypatch: pytest.MonkeyPatch) -> type[FakeDevice]:
    monkeypatch.setattr(cv2, "VideoCapture", FakeDevice)
    monkeypatch.setattr(capture, "_check_linux_camera", lambda number: None)
    monkeypatch.setattr(FakeDevice, "count", 3)
    monkeypatch.setattr(FakeDevice, "opens", True)
    return FakeDevice


def test_camera_frames(fake_camera: type[FakeDevice]) -> None:
    source = open_source("camera:1")
    assert (source.width, source.height, source.live, source.name) == (64, 48, True, "camera:1")
    assert source.rate == Fraction(2997, 100)
    frames = iter(source)
    first, second = next(frames), next(frames)
    assert corner_colours(first.rgb) == [RED, GREEN, BLUE, WHITE]
    assert first.timestamp_us == 0 < second.timestamp_us
    with pytest.raises(MienError, match="stopped sending"):
        next(frames)
    source.close()


def test_camera_close_ends_the_iteration(fake_camera: type[FakeDevice]) -> None:
    source = open_source("camera")
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []


def test_camera_that_is_busy(fake_camera: type[FakeDevice], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeDevice, "count", 0)
    with pytest.raises(MienError, match="another program"):
        open_source("camera")
