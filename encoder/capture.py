"""Where pictures come from: a camera, a video file, a photo, a folder of images, all as upright RGB frames."""

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Protocol

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mien.protocol.errors import MienError
from mien.protocol.stream import MAX_PICTURE_PX

logger = logging.getLogger(__name__)

DEFAULT_RATE: Final = Fraction(30)
MAX_RATE: Final = 1000  # more is a time base in disguise
MAX_PHOTO_PX: Final = 2048  # longer sides are scaled down: a face needs no more, and trackers slow down
IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif"})
CAMERA_SPEC: Final = re.compile(r"camera(?::(\d{1,3}))?|/dev/video(\d{1,3})")
CAMERA_SIZE: Final = (1280, 720)
CAMERA_PATIENCE: Final = 10  # empty reads in a row before we say that the camera sends nothing


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture. `rgb` is uint8 [height, width, 3], upright, with square pixels.

    `timestamp_us` counts from the source's first frame and strictly increases; `index` counts frames.
    """

    rgb: NDArray[np.uint8]
    timestamp_us: int
    index: int


class Source(Protocol):
    """A stream of frames of one size. A file can be iterated again, and starts again; a camera goes on."""

    @property
    def width(self) -> int:
        """Width of every frame in pixels."""

    @property
    def height(self) -> int:
        """Height of every frame in pixels."""

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average; the timestamps tell how they really lie."""

    @property
    def live(self) -> bool:
        """Whether frames come at their own time and are lost when nobody takes them."""

    @property
    def name(self) -> str:
        """What to call the source in front of its user."""

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Free the device or file; a running iteration ends. May be called from another thread."""


def open_source(spec: str) -> Source:
    """Open `spec`: "camera", "camera:N", a video file, a photo, or a folder of images.

    Raises `MienError` where it is missing, forbidden or not a picture; the text says what to do.
    """
    camera = CAMERA_SPEC.fullmatch(spec)
    if camera is not None:
        return CameraSource(int(camera[1] or camera[2] or 0))
    path = Path(spec).expanduser()
    try:
        if path.is_dir():
            return ImageSource(_images_of(path), name=path.name, rate=DEFAULT_RATE)
        if not path.exists():
            raise MienError(
                f"{spec} does not exist; expected a video, a photo, a folder of images, or `camera`"
            )
        if not os.access(path, os.R_OK):
            raise MienError(f"{spec} may not be read by this user; `chmod u+r` it")
    except OSError as error:
        raise MienError(f"{spec} cannot be opened: {error.strerror}") from error
    if _is_still_image(path):
        return ImageSource((path,), name=path.name, rate=DEFAULT_RATE)
    return VideoSource(path)


class ImageSource:
    """A photo, or the images of a folder as a clip. Images of another size are scaled to the first one's."""

    live = False

    def __init__(self, paths: tuple[Path, ...], *, name: str, rate: Fraction) -> None:
        """Read the first image's size. `paths` must not be empty. Raises `MienError`."""
        self.name = name
        self.rate = rate
        self._paths = paths
        self._closed = False
        first = _read_image(paths[0])
        self.height, self.width = first.shape[:2]

    def __iter__(self) -> Iterator[Frame]:
        """Yield every image; raises `MienError` at one that cannot be read."""
        for index, path in enumerate(self._paths):
            if self._closed:
                return
            rgb = _read_image(path)
            if rgb.shape[:2] != (self.height, self.width):
                rgb = np.asarray(
                    Image.fromarray(rgb).resize((self.width, self.height), Image.Resampling.LANCZOS)
                )
            yield Frame(rgb, round(index * 1_000_000 / self.rate), index)

    def close(self) -> None:
        """Stop a running iteration."""
        self._closed = True


class VideoSource:
    """A video file, through PyAV."""

    live = False

    def __init__(self, path: Path) -> None:
        """Decode the first frame to learn how the video lies. Raises `MienError`."""
        self.name = path.name
        self._path = path
        self._closed = False
        with self._open() as container:
            stream = container.streams.video[0]
            self.rate = _rate_of(stream)
            first = next(self._decoded(container), None)
            if first is None:
                raise MienError(
                    f"{path} holds no frame that can be decoded; play it elsewhere to see if it is whole"
                )
            self._turns = _quarter_turns(first)
            self._stored_size = _square_pixel_size(first, stream)
            width, height = self._stored_size
            self.width, self.height = (height, width) if self._turns % 2 else (width, height)

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame that decodes, from the start; damage inside the file is skipped and logged."""
        with self._open() as container:
            time_base = container.streams.video[0].time_base
            first_pts: int | None = None
            last_us = -1
            for index, picture in enumerate(self._decoded(container)):
                if self._closed:
                    return
                if picture.pts is None or time_base is None:
                    timestamp_us = round(index * 1_000_000 / self.rate)
                else:
                    first_pts = picture.pts if first_pts is None else first_pts
                    timestamp_us = round((picture.pts - first_pts) * time_base * 1_000_000)
                last_us = max(timestamp_us, last_us + 1)  # a broken clock must not step back
                yield Frame(self._upright(picture), last_us, index)

    def close(self) -> None:
        """Stop a running iteration."""
        self._closed = True

    def _open(self) -> Any:
        try:
            container = av.open(str(self._path))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MienError(
                f"{self._path} is not a video or a picture that FFmpeg can read ({error}); convert it to MP4"
            ) from error
        if not container.streams.video:
            container.close()
            raise MienError(f"{self._path} holds no picture, only sound")
        container.streams.video[0].thread_type = "AUTO"
        return container

    def _decoded(self, container: Any) -> Iterator[av.VideoFrame]:
        stream = container.streams.video[0]
        damaged = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
                pictures = packet.decode()
            except StopIteration:
                break
            except EOFError:  # av.error.EOFError too: some decoders say it when they are flushed
                break
            except av.error.InvalidDataError as error:
                damaged += 1
                logger.debug("%s: %s", self._path, error)
                continue
            except av.error.FFmpegError as error:
                logger.warning("%s: reading stopped: %s", self._path, error)
                break
            yield from (picture for picture in pictures if isinstance(picture, av.VideoFrame))
        if damaged:
            logger.warning("%s: %d damaged packets were skipped", self._path, damaged)

    def _upright(self, picture: av.VideoFrame) -> NDArray[np.uint8]:
        width, height = self._stored_size
        if (picture.width, picture.height) != (width, height):
            picture = picture.reformat(width=width, height=height)
        rgb = picture.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        return np.ascontiguousarray(np.rot90(rgb, self._turns)) if self._turns else rgb


class CameraSource:
    """A camera of this machine, through OpenCV (V4L2 on Linux). It starts when it is opened."""

    live = True

    def __init__(self, number: int) -> None:
        """Open camera `number` at 1280 x 720 or what it can do. Raises `MienError`."""
        self.name = f"camera:{number}"
        if sys.platform == "linux":
            _check_linux_camera(number)
        import cv2  # half a second, and only cameras need it

        backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
        self._device = cv2.VideoCapture(number, backend)
        self._to_rgb = cv2.COLOR_BGR2RGB
        self._cv2 = cv2
        self._lock = threading.Lock()
        self._closed = False
        self._next_index = 0
        self._start_us: int | None = None
        if not self._device.isOpened():
            raise MienError(_no_camera(number))
        # Raw 720p does not fit through USB 2 at 30 Hz; motion JPEG does.
        self._device.set(cv2.CAP_PROP_FOURCC, float(cv2.VideoWriter.fourcc(*"MJPG")))
        self._device.set(cv2.CAP_PROP_FRAME_WIDTH, CAMERA_SIZE[0])
        self._device.set(cv2.CAP_PROP_FRAME_HEIGHT, CAMERA_SIZE[1])
        self._device.set(cv2.CAP_PROP_FPS, float(DEFAULT_RATE))
        self._device.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # an old frame is worth less than a missing one
        first = self._read()
        if first is None:
            self.close()
            raise MienError(
                f"camera {number} opened but sends no picture: another program may be using it, or its shutter "
                "or privacy switch is on"
            )
        self.height, self.width = first.shape[:2]
        reported = self._device.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(reported).limit_denominator(1001) if 1 <= reported <= MAX_RATE else DEFAULT_RATE

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames until `close`. Raises `MienError` where the camera goes away."""
        last_us = -1
        while not self._closed:
            rgb = self._read()
            if self._closed:
                return
            if rgb is None:
                raise MienError(
                    f"{self.name} stopped sending pictures: was it unplugged, or taken by another program?"
                )
            now_us = time.monotonic_ns() // 1000
            self._start_us = now_us if self._start_us is None else self._start_us
            last_us = max(now_us - self._start_us, last_us + 1)
            if rgb.shape[:2] != (self.height, self.width):
                rgb = self._cv2.resize(rgb, (self.width, self.height)).astype(np.uint8, copy=False)
            yield Frame(rgb, last_us, self._next_index)
            self._next_index += 1

    def close(self) -> None:
        """Switch the camera off."""
        self._closed = True
        with self._lock:  # not while a read is under way
            self._device.release()

    def _read(self) -> NDArray[np.uint8] | None:
        for _ in range(CAMERA_PATIENCE):
            with self._lock:
                if self._closed:
                    return None
                fine, bgr = self._device.read()
            if fine and bgr is not None and bgr.ndim == 3:
                return self._cv2.cvtColor(bgr, self._to_rgb).astype(np.uint8, copy=False)
        return None


def _images_of(folder: Path) -> tuple[Path, ...]:
    paths = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    images = tuple(sorted(paths, key=_natural_order))
    if not images:
        raise MienError(
            f"{folder} holds no images; expected files that end in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return images


def _natural_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort frame2 before frame10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(p), "") if p.isdecimal() and p.isascii() else (-1, p) for p in parts], path.name


def _is_still_image(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) == 1
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return False
    except Image.DecompressionBombError as error:
        raise MienError(f"{path} is too large a picture: {error}") from error


def _read_image(path: Path) -> NDArray[np.uint8]:
    """Return the image upright, without transparency, at most `MAX_PHOTO_PX` a side: uint8 [height, width, 3]."""
    try:
        with Image.open(path) as stored:
            image = ImageOps.exif_transpose(stored)
            if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more: Pillow would clip
                image = _to_8_bits(image)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("RGB")
            image.thumbnail((MAX_PHOTO_PX, MAX_PHOTO_PX), Image.Resampling.LANCZOS)
            return np.array(image)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise MienError(
            f"{path} cannot be read as a picture ({error}); save it again as JPEG or PNG"
        ) from error
    except Image.DecompressionBombError as error:
        raise MienError(f"{path} is too large a picture: {error}") from error


def _to_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image, np.float64)
    top = 65535.0 if image.mode.startswith("I") else max(float(values.max()), 1e-9)
    return Image.fromarray(np.clip(values / top * 255.0, 0, 255).round().astype(np.uint8))


def _rate_of(stream: Any) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate is not None and Fraction(1, 10) <= rate <= MAX_RATE:
            return Fraction(rate)
    return DEFAULT_RATE


def _quarter_turns(picture: av.VideoFrame) -> int:
    """Return how many quarter turns counter-clockwise bring the picture upright."""
    return round(picture.rotation / 90) % 4


def _square_pixel_size(picture: av.VideoFrame, stream: Any) -> tuple[int, int]:
    """Return width and height as they are shown, before rotation."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    width, height = picture.width, picture.height
    if aspect and aspect != 1 and Fraction(1, 4) <= aspect <= 4:
        width = max(1, round(width * aspect))
    if max(width, height) > MAX_PICTURE_PX:
        raise MienError(
            f"the video is {width} x {height}, more than {MAX_PICTURE_PX} a side; scale it down first"
        )
    return width, height


def _check_linux_camera(number: int) -> None:
    device = Path(f"/dev/video{number}")
    if not device.exists():
        raise MienError(_no_camera(number))
    if not os.access(device, os.R_OK | os.W_OK):
        raise MienError(
            f"{device} may not be used by this user: run `sudo usermod -aG video $USER`, then log out and in again"
        )


def _no_camera(number: int) -> str:
    present = (
        sorted(p.name.removeprefix("video") for p in Path("/dev").glob("video*"))
        if os.name == "posix"
        else []
    )
    if present:
        return f"there is no camera {number} that opens; present: {', '.join(f'camera:{n}' for n in present)}"
    if sys.platform == "darwin":
        return (
            f"camera {number} does not open: allow this terminal to use it in System Settings > Privacy & Security "
            "> Camera"
        )
    return f"there is no camera {number} on this machine: plug one in, or name a video, a photo or a folder instead"
