"""Where `mien replay` puts its pictures: a video, a folder of frames, a contact sheet."""

from fractions import Fraction
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mien.bench.contact_sheet import Moment, contact_sheet, spread
from mien.decoder.output import VideoSink, save_png
from mien.protocol.errors import MienError

SHEET_COLUMNS: Final = 8
Picture = NDArray[np.uint8]  # [height, width, 3], RGB


class Sink(Protocol):
    """Takes the pictures in order, each with its time from the first one."""

    def write(self, rgb: Picture, time_us: int) -> None:
        """Append a picture."""

    def close(self) -> None:
        """Finish the file."""


class Video:
    """An MP4."""

    def __init__(self, path: str, *, width: int, height: int, rate: Fraction) -> None:
        self._sink = VideoSink(path, width=width, height=height, rate=rate)

    def write(self, rgb: Picture, time_us: int) -> None:
        """Append a picture, shown from `time_us` on."""
        self._sink.write(rgb, time_us=time_us)

    def close(self) -> None:
        """Finish the file."""
        self._sink.close()


class Frames:
    """A folder of PNG files, numbered from 0; their times are not kept."""

    def __init__(self, path: str) -> None:
        self._folder = Path(path)
        self._count = 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MienError(f"cannot make the folder {path}: {error.strerror}") from error

    def write(self, rgb: Picture, time_us: int) -> None:
        """Write the next file."""
        save_png(self._folder / f"{self._count:06d}.png", rgb)
        self._count += 1

    def close(self) -> None:
        """Nothing to finish."""


class Sheet:
    """A contact sheet of moments spread over the whole."""

    def __init__(self, path: str, *, total: int) -> None:
        self._path = path
        self._wanted = set(spread(SHEET_COLUMNS, total))
        self._count = 0
        self._moments: list[Moment] = []

    def write(self, rgb: Picture, time_us: int) -> None:
        """Keep the picture if it is one of those that the sheet shows."""
        if self._count in self._wanted:
            self._moments.append(Moment(time_us / 1e6, (rgb.copy(),)))
        self._count += 1

    def close(self) -> None:
        """Draw the sheet."""
        if self._moments:
            save_png(self._path, contact_sheet(self._moments, ["avatar"], title=Path(self._path).stem))


def open_sink(path: str, *, width: int, height: int, rate: Fraction, total: int) -> Sink:
    """Return what the name of the output asks for. Raises `MienError` for a kind that is not known."""
    suffix = Path(path).suffix.lower()
    if Path(path).is_dir() or suffix == "":
        return Frames(path)
    if suffix == ".mp4":
        return Video(path, width=width, height=height, rate=rate)
    if suffix == ".png":
        return Sheet(path, total=total)
    raise MienError(f"{path}: expected a name that ends in .mp4 or .png, or a folder")
