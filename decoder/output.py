"""Files to draw into: an MP4 with exact frame times, and single pictures as PNG."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.protocol.errors import MienError

CLOCK_HZ: Final = 90_000  # every common frame rate's period is a whole number of these
CRF: Final = "15"  # fine enough that the file's own loss disappears beside the codec's


class VideoSink:
    """Writes RGB pictures of one size to an MP4 (H.264). A context manager; `close` finishes the file.

    `rate` is frames per second, nominal where frame times are given one by one.
    """

    def __init__(self, path: Path | str, *, width: int, height: int, rate: Fraction) -> None:
        """Open the file. Raises `MienError` where it cannot be written."""
        if width < 2 or height < 2 or rate <= 0:
            raise MienError(f"a video of {width} x {height} at {rate} fps cannot be written")
        self.width, self.height, self.rate, self.frames = width, height, Fraction(rate), 0
        self._last = -1
        try:
            Path(path).open("wb").close()  # av opens it only with the first frame: too late for a clear error
            self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        except OSError as error:
            raise MienError(f"cannot write {path}: {error.strerror or error}") from error
        self._stream = self._container.add_stream("libx264", rate=self.rate)
        self._stream.width, self._stream.height = width, height
        # 4:2:0 is what every player takes, but it has even sizes only.
        self._stream.pix_fmt = "yuv420p" if width % 2 == 0 and height % 2 == 0 else "yuv444p"
        self._stream.options = {"crf": CRF, "preset": "veryfast"}
        clock = CLOCK_HZ if (CLOCK_HZ / self.rate).denominator == 1 else self.rate.numerator * 1000
        self._time_base = Fraction(1, clock)
        self._stream.codec_context.time_base = self._time_base
        self._stream.time_base = self._time_base

    def write(self, rgb: NDArray[np.uint8], *, time_us: int | None = None) -> None:
        """Append RGB uint8 [height, width, 3], shown from `time_us` (default: frame number / rate) on.

        Times grow from frame to frame; one that does not is moved just past its predecessor.
        """
        if rgb.shape != (self.height, self.width, 3):
            raise ValueError(f"picture is {rgb.shape}, expected {(self.height, self.width, 3)}")
        seconds = self.frames / self.rate if time_us is None else Fraction(time_us, 1_000_000)
        self._last = max(round(seconds / self._time_base), self._last + 1)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts, frame.time_base = self._last, self._time_base
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Write what is buffered and finish the file. A second call does nothing."""
        if self._container is None:
            return
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._container = None  # type: ignore[assignment]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def save_png(path: Path | str, rgb: NDArray[np.uint8]) -> None:
    """Write RGB uint8 [h, w, 3]. Raises `MienError` where the file cannot be written."""
    try:
        Image.fromarray(rgb).save(path, format="PNG")
    except OSError as error:
        raise MienError(f"cannot write {path}: {error.strerror or error}") from error
