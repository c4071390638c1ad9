"""Judges a sequence of pictures against the originals, at the moments that were chosen."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mien.bench.akd import Face, FrameScore, Retracker, score, summarise
from mien.bench.learned_metrics import open_learned
from mien.bench.picture_footage import Sampling
from mien.bench.picture_metrics import Picture, compared, flicker, open_ssimulacra2
from mien.bench.picture_rows import BARE
from mien.encoder.identity import Embedder
from mien.protocol.errors import MienError

# What the badge covers is missing from these figures of a whole picture.
BADGED: Final = ("psnr", "ssim", "msssim", "gmsd", "edge")


class Pictures(Protocol):
    """Pictures by their number."""

    def __getitem__(self, number: int) -> Picture: ...


@runtime_checkable
class BadgedPictures(Pictures, Protocol):
    """Pictures with a badge; they were there before it, too."""

    def bare(self, number: int) -> Picture: ...


class Judge:
    """Holds the originals at one size and what was found in them."""

    def __init__(
        self,
        originals: Sequence[Picture],
        sampling: Sampling,
        retracker: Retracker,
        embedder: Embedder | None,
    ) -> None:
        """Find the faces. Raises `MienError` where no moment shows one."""
        self._originals, self._retracker, self._embedder = originals, retracker, embedder
        moments = sampling.chosen(len(originals))
        self._faces = {
            number: face for number in moments if (face := retracker.face(originals[number])) is not None
        }
        if not self._faces:
            raise MienError("no face in the original's last part")
        self._deep = {number for at, number in enumerate(self._faces) if at % sampling.deep == 0}
        self._calm = {number: originals[number - 1 : number + 2] for number in self._faces}
        self._points = {
            number: self._embedded(originals[number], self._faces[number]) for number in self._deep
        }

    @property
    def frames(self) -> int:
        """How many moments are judged."""
        return len(self._faces)

    @property
    def moments(self) -> list[int]:
        """The numbers of the frames that are judged."""
        return list(self._faces)

    def judge(self, pictures: Pictures) -> dict[str, float]:
        """Return the figures (`mien.bench.akd.summarise`) of pictures that are numbered as the originals are.

        Where they have a badge, those figures that it takes part in are there once more as of the pictures before it:
        `bare_ssim` and so on.
        """
        out = summarise([self._score(number, pictures) for number in self._faces])
        if isinstance(pictures, BadgedPictures):
            bare = summarise([self._bare_score(number, pictures) for number in self._faces])
            out |= {BARE + name: bare[name] for name in (*BADGED, "ssimulacra2") if name in bare}
        return out

    def _score(self, number: int, pictures: Pictures) -> FrameScore:
        original = self._originals[number]
        size = original.shape[0]
        three = [compared(pictures[number + step], size) for step in (-1, 0, 1)]
        drawn = three[1]
        again = self._retracker.face(drawn)
        out = score(original, drawn, self._faces[number], again)
        out = replace(out, flicker=flicker(self._calm[number], three))
        if number in self._deep:
            measure = open_ssimulacra2()
            out = replace(
                out,
                ssimulacra2=float("nan") if measure is None else measure(original, drawn),
                identity=self._identity(number, drawn, again),
            )
            learned: dict[str, Any] = {name: of(original, drawn) for name, of in open_learned().items()}
            out = replace(out, **learned)
        return out

    def _bare_score(self, number: int, pictures: BadgedPictures) -> FrameScore:
        original = self._originals[number]
        drawn = compared(pictures.bare(number), original.shape[0])
        out = score(original, drawn, self._faces[number], None)
        measure = open_ssimulacra2() if number in self._deep else None
        return out if measure is None else replace(out, ssimulacra2=measure(original, drawn))

    def _identity(self, number: int, drawn: Picture, again: Face | None) -> float:
        point = self._points[number]
        if point is None or again is None:
            return float("nan")
        other = self._embedded(drawn, again)
        return float("nan") if other is None else 1 - float(np.linalg.norm(point - other))

    def _embedded(self, picture: Picture, face: Face) -> NDArray[np.float32] | None:
        if self._embedder is None:
            return None
        return self._embedder.embed(picture, face.landmarks.astype(np.float32))
