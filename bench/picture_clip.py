"""Measures one clip: our pictures and the rivals', a row for each, and what a person will look at."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from PIL import Image

from mien.bench.akd import Retracker
from mien.bench.picture_drawing import Talk, code, draw, enrol
from mien.bench.picture_footage import Footage, Part, Sampling, divide, shown_moments
from mien.bench.picture_judge import Judge, Pictures
from mien.bench.picture_metrics import Picture
from mien.bench.picture_rows import EQUAL, OURS_GENERATED, Row, Variant, append_row
from mien.bench.rivals import RIVALS, Rival, encode
from mien.decoder.output import VideoSink
from mien.encoder.enroll import Enrolment
from mien.encoder.identity import open_embedder
from mien.protocol.errors import MienError
from mien.protocol.quantizer import Quality

SHOWN_MOMENTS: Final = 3
FILM_S: Final = 4
STILL_QUALITY: Final = 92
ORIGINAL: Final = "original"
# Of a rate that is as small as ours: how much of it packet headers may take, which bounds the frame rate.
HEADERS_SHARE: Final = 0.4
RTP_BYTES: Final = 51  # around a picture that fits into one packet
LEAST_KBPS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be measured on a clip. Where `shown`, pictures and films are kept beside the rows."""

    clip: Path
    variants: tuple[Variant, ...]
    sampling: Sampling
    out: Path
    bundle: Path
    shown: bool
    references: int | None = None
    rows: Path = field(default=Path("rows.jsonl"))


def measure(job: Job) -> str:
    """Measure a clip and append its rows. Returns why it was left out; empty where it was not."""
    try:
        enrolled, footage = divide(job.clip, job.sampling)
        with closing(enrolled), Retracker(job.bundle) as retracker:
            _Clip(job, enrolled, footage, retracker).measure()
    except MienError as error:
        return f"{job.clip.name}: left out: {error}"
    return ""


class _Clip:
    """One clip at work: what several rows need is made once."""

    def __init__(self, job: Job, enrolled: Part, footage: Footage, retracker: Retracker) -> None:
        self._job, self._enrolled, self._footage, self._retracker = job, enrolled, footage, retracker
        self._enrolment: Enrolment | None = None
        self._talks: dict[tuple[str, float], Talk] = {}

    def measure(self) -> None:
        """Measure all variants, one size after the other."""
        for size in sorted({v.size_px for v in self._job.variants}):
            if not self._footage.has_detail(size):
                continue
            originals = self._footage.at(size)
            judge = Judge(originals, self._job.sampling, self._retracker, open_embedder())
            if self._job.shown:
                self._keep(f"{size}-{ORIGINAL}", judge, originals, filmed=True)
            for variant in self._job.variants:
                if variant.size_px == size:
                    self._measure(variant, judge, originals)

    def _measure(self, variant: Variant, judge: Judge, originals: list[Picture]) -> None:
        if variant.is_ours:
            self._measure_ours(variant, judge)
        elif variant.mode == EQUAL:
            self._measure_equal(variant, judge, originals)
        else:
            clip = encode(
                originals,
                self._footage.rate,
                rival_of(variant.coder, variant.size_px, variant.mode),
                variant.target_kbps,
                cache=self._job.out / "coded" if variant.mode == "best" else None,
            )
            kbps = clip.payload_kbps, clip.wire_kbps
            self._finish(variant, judge, clip.frames, kbps, {"note": clip.note})

    def _measure_equal(self, variant: Variant, judge: Judge, originals: list[Picture]) -> None:
        """Code video at what ours takes on the wire, at few frames per second: headers would take all of it else."""
        ours = self._talk("normal", variant.target_kbps).wire_kbps
        most_fps = HEADERS_SHARE * ours * 1000 / (8 * RTP_BYTES)
        every = max(1, round(float(self._footage.rate) / most_fps))
        rate = self._footage.rate / every
        target = max(LEAST_KBPS, ours - 8 * RTP_BYTES * float(rate) / 1000)
        rival = rival_of(variant.coder, variant.size_px, "realtime")
        clip = encode(originals[::every], rate, rival, target)
        held = [clip.frames[number // every] for number in range(len(originals))]
        extra = {"fps": round(float(rate), 2), "note": clip.note}
        self._finish(variant, judge, held, (clip.payload_kbps, clip.wire_kbps), extra)

    def _measure_ours(self, variant: Variant, judge: Judge) -> None:
        talk, enrolment = self._talk(variant.mode, variant.target_kbps), self._enrolled_once()
        avatar = enrolment.avatar
        extra = {
            "references": len(avatar.references),
            "avatar_bytes": len(enrolment.data),
            "messages": talk.messages,
            "audio_wire_kbps": round(talk.audio_wire_kbps, 3),
        }
        generated = variant.coder == OURS_GENERATED
        with draw(avatar, talk, variant.size_px, generator=generated) as drawn:
            if len(drawn) != len(self._footage):
                raise MienError(f"{len(drawn)} pictures for {len(self._footage)} frames")
            self._finish(variant, judge, drawn, (talk.payload_kbps, talk.wire_kbps), extra)

    def _enrolled_once(self) -> Enrolment:
        if self._enrolment is None:
            self._enrolment = enrol(self._enrolled, self._job.references)
        return self._enrolment

    def _talk(self, quality: str, scene_kbps: float = 0) -> Talk:
        key = quality, scene_kbps
        if key not in self._talks:
            avatar = self._enrolled_once().avatar
            self._talks[key] = code(self._footage, avatar, Quality[quality.upper()], scene_kbps)
        return self._talks[key]

    def _finish(
        self,
        variant: Variant,
        judge: Judge,
        pictures: Pictures,
        kbps: tuple[float, float],
        extra: dict[str, Any],
    ) -> None:
        """Judge pictures, keep some, and write the row last: what has a row is complete."""
        figures = judge.judge(pictures)
        if self._job.shown:
            filmed = variant.is_ours or variant.mode == EQUAL
            self._keep(variant.text, judge, pictures, filmed=filmed)
        row = Row(
            clip=self._job.clip.stem,
            variant=variant,
            sampling=self._job.sampling.text,
            payload_kbps=kbps[0],
            wire_kbps=kbps[1],
            frames=judge.frames,
            figures=figures,
            extra=extra,
        )
        append_row(self._job.rows, row)

    def _keep(self, name: str, judge: Judge, pictures: Pictures, *, filmed: bool) -> None:
        folder = self._job.out / "pictures" / self._job.clip.stem
        folder.mkdir(parents=True, exist_ok=True)
        for number in shown_moments(judge.moments, SHOWN_MOMENTS):
            Image.fromarray(pictures[number]).save(
                still_path(self._job.out, self._job.clip.stem, name, number), quality=STILL_QUALITY
            )
        if not filmed:
            return
        count = min(len(self._footage), round(FILM_S * self._footage.rate))
        first = [pictures[n] for n in range(count)]
        write_film(film_path(self._job.out, self._job.clip.stem, name), first, self._footage.rate)


def rival_of(family: str, size_px: int, effort: str) -> Rival:
    """Return a rival by what it is."""
    return next(r for r in RIVALS if (r.family, r.size, r.effort) == (family, size_px, effort))


def write_film(path: Path, pictures: Sequence[Picture], rate: Fraction) -> None:
    """Write pictures of one size as an MP4."""
    height, width, _ = pictures[0].shape
    with VideoSink(path, width=width, height=height, rate=rate) as sink:
        for picture in pictures:
            sink.write(picture)


def still_path(out: Path, clip: str, name: str, number: int) -> Path:
    """Return where a picture lies; `name` is a variant's text or a size and "original"."""
    return out / "pictures" / clip / f"{name}-{number:05d}.webp"


def film_path(out: Path, clip: str, name: str) -> Path:
    """Return where a short film lies."""
    return out / "pictures" / clip / f"{name}.mp4"
