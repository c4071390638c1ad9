"""The video rivals judged as our own code is: landmarks tracked in their decoded pictures against the original's.

Both sides are tracked as a call tracks its camera, so the error of a picture that was not coded at all (`uncoded`)
is what scaling and the tracker's own tremor make: no rival can be better.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import av
import numpy as np

from mien.bench.rate_cache import Cache, tracking_id
from mien.bench.rate_quality import CodedPart, Errors, Landmarks, errors
from mien.bench.rivals import RIVALS, Picture, Rival, encode, fitted, missing
from mien.encoder.capture import Source
from mien.encoder.tracker import Tracker
from mien.protocol.errors import MienError
from mien.protocol.state import LANDMARK_COUNT

UNCODED: Final = "uncoded"
RATES_KBPS: Final = {256: (10.0, 20.0, 40.0), 512: (25.0, 60.0, 150.0)}
FRAMES: Final = 120  # of a clip's coded part
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class RivalResult:
    """One clip in one video codec at one rate. Errors are over the frames in which a face was found again.

    `found`: their share. `target_kbps` was asked for; rates of `uncoded` pictures are 0.
    """

    clip: str
    rival: str
    family: str
    size: int
    effort: str
    target_kbps: float
    payload_kbps: float
    wire_kbps: float
    frames: int
    found: float
    total_nme: float | None
    mouth_nme: float | None
    eyes_nme: float | None
    note: str = ""


def chosen(words: str) -> list[Rival]:
    """Return the rivals that `none`, `realtime`, `all` or a list of names and families stands for.

    A family alone is its real-time form. Raises `MienError` for a name that is none.
    """
    if words == "none":
        return []
    if words in ("realtime", "all"):
        return [r for r in RIVALS if words == "all" or r.effort == "realtime"]
    found: list[Rival] = []
    for word in words.lower().split(","):
        named = [
            r
            for r in RIVALS
            if word.strip() == r.name.lower() or (word.strip() == r.family.lower() and r.effort == "realtime")
        ]
        if not named:
            names = ", ".join(dict.fromkeys(r.family for r in RIVALS))
            raise MienError(
                f"--rivals {word.strip()!r}: expected none, realtime, all, or names of {names}, with a size "
                "and `best` if need be, as in 'SVT-AV1 512 best'"
            )
        found += [r for r in named if r not in found]
    return found


def present(rivals: Sequence[Rival]) -> tuple[list[Rival], list[str]]:
    """Return the rivals that this machine can run, and a line for each that it cannot."""
    lacks = {rival.name: missing(rival) for rival in rivals}
    return (
        [r for r in rivals if not lacks[r.name]],
        [f"{name}: left out: {lack}" for name, lack in lacks.items() if lack],
    )


class Footage:
    """The coded part's pictures at each size, read when they are first needed."""

    def __init__(self, open_clip: Callable[[], Source], part: CodedPart, clip_id: str, count: int) -> None:
        self.part, self.clip_id = part, clip_id
        self.ticks = range(min(count, len(part.frames)))
        self._open = open_clip
        self._pictures: dict[int, list[Picture]] = {}

    def pictures(self, size: int) -> list[Picture]:
        """Return RGB [size, size, 3] of every tick."""
        if not self._pictures:
            wanted = {self.part.frames[tick] for tick in self.ticks}
            sizes = sorted({rival.size for rival in RIVALS})
            self._pictures = {s: [] for s in sizes}
            with closing(self._open()) as source:
                for frame in source:
                    if frame.index in wanted:
                        for s in sizes:
                            self._pictures[s] += fitted([frame.rgb], s)
                    if frame.index >= max(wanted):
                        break
        return self._pictures[size]


class RivalBench:
    """Codes, tracks and compares. The tracker stays the caller's."""

    def __init__(self, tracker: Callable[[], Tracker], cache: Cache) -> None:
        """`tracker` opens it when a picture has to be tracked: a run that finds all in the cache needs none."""
        self._open_tracker = tracker
        self._tracker: Tracker | None = None
        self._cache = cache
        self._packets: Path | None = cache.folder

    def close(self) -> None:
        """Free the tracker."""
        if self._tracker is not None:
            self._tracker.close()

    def measure(self, footage: Footage, rival: Rival, rates_kbps: Sequence[float]) -> Iterator[RivalResult]:
        """Give a result for each rate, ascending. Rates below what the encoder's floor gave repeat that."""
        last: RivalResult | None = None
        for rate in sorted(rates_kbps):
            if last is not None and last.payload_kbps > rate:
                last = replace(last, target_kbps=rate, note=_missed(rate, last.payload_kbps))
            else:
                last = self._measured(footage, rival, rate)
            yield last

    def uncoded(self, footage: Footage, size: int) -> RivalResult:
        """Return what scaling alone does."""
        key = ["uncoded", _VERSION, footage.clip_id, len(footage.ticks), size, tracking_id()]
        kept = self._cache.find(key)
        if kept is None:
            found, error = self._compared(footage, footage.pictures(size), size)
            result = RivalResult(
                clip=footage.part.clip.name,
                rival=f"{UNCODED} {size}",
                family=UNCODED,
                size=size,
                effort="",
                target_kbps=0.0,
                payload_kbps=0.0,
                wire_kbps=0.0,
                frames=len(footage.ticks),
                found=found,
                total_nme=error.total if error else None,
                mouth_nme=error.mouth if error else None,
                eyes_nme=error.eyes if error else None,
            )
            kept = asdict(result)
            self._cache.keep(key, kept)
        return RivalResult(**kept)

    def _measured(self, footage: Footage, rival: Rival, rate_kbps: float) -> RivalResult:
        settings = [rival.codec, rival.size, rival.effort, rate_kbps, av.__version__, tracking_id()]
        key = ["rival", _VERSION, footage.clip_id, len(footage.ticks), *settings]
        kept = self._cache.find(key)
        if kept is None:
            frames = footage.pictures(rival.size)
            coded = encode(frames, footage.part.header.tick_rate, rival, rate_kbps, cache=self._packets)
            found, error = self._compared(footage, coded.frames, rival.size)
            result = RivalResult(
                clip=footage.part.clip.name,
                rival=rival.name,
                family=rival.family,
                size=rival.size,
                effort=rival.effort,
                target_kbps=rate_kbps,
                payload_kbps=round(coded.payload_kbps, 3),
                wire_kbps=round(coded.wire_kbps, 3),
                frames=len(frames),
                found=found,
                total_nme=error.total if error else None,
                mouth_nme=error.mouth if error else None,
                eyes_nme=error.eyes if error else None,
                note=coded.note,
            )
            kept = asdict(result)
            self._cache.keep(key, kept)
        return RivalResult(**kept)

    def _compared(
        self, footage: Footage, pictures: Sequence[Picture], size: int
    ) -> tuple[float, Errors | None]:
        """Return the share of faces that were found again, and how far off they are."""
        part = footage.part
        scale = np.array([part.header.width / size, part.header.height / size, 1], np.float32)
        again = self._track(pictures, float(1_000_000 / part.header.tick_rate))
        ticks = [t for t in footage.ticks if part.states[t].tracked]
        rows = [(t, face) for t in ticks if (face := again[t]) is not None]
        if not rows:
            return 0.0, None
        truth = part.truth([t for t, _ in rows])
        return round(len(rows) / len(ticks), 4), errors(
            np.array([face for _, face in rows]) * scale, truth, truth
        )

    def _track(self, pictures: Sequence[Picture], step_us: float) -> list[Landmarks | None]:
        if self._tracker is None:
            self._tracker = self._open_tracker()
        self._tracker.track(np.zeros_like(pictures[0]), 0)  # forget the clip before
        rows: list[Landmarks | None] = []
        for number, picture in enumerate(pictures, 1):
            faces = self._tracker.track(picture, round(number * step_us)).faces
            ok = bool(faces) and faces[0].shape == (LANDMARK_COUNT, 3)
            rows.append(faces[0] if ok else None)
        return rows


def _missed(target_kbps: float, got_kbps: float) -> str:
    return f"asked for {target_kbps:g}, got {got_kbps:.1f} kbps"
