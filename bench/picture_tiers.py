"""Which tier of ours beats the one below it, clip by clip, and whether each does what is asked of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Final

from mien.bench.picture_parity import goodness
from mien.bench.picture_rows import OURS, OURS_GENERATED, OURS_WITH_SCENE, TIERS, Row, Variant

COMPARED: Final = (
    "ssim", "face_ssim", "msssim", "gmsd", "psnr", "ssimulacra2", "edge", "face_edge", "akd", "mouth", "eyes",
    "blendshapes", "pose_deg", "gaze", "jaw_corr", "blink_corr", "flicker",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Aim:
    """What is asked of a tier's median over people that nothing was learned from."""

    tier: str
    size_px: int
    metric: str
    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        """Return whether a median does it."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def text(self) -> str:
        """The aim for a table."""
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


AIMS: Final = (
    Aim(OURS, 256, "akd", most=1.4),
    Aim(OURS, 256, "mouth", most=1.6),
    Aim(OURS, 256, "blendshapes", most=0.027),
    Aim(OURS, 256, "pose_deg", most=1.4),
    Aim(OURS, 256, "found", least=0.995),
    Aim(OURS, 256, "edge", least=0.93),
    Aim(OURS, 256, "face_edge", least=0.93),
    Aim(OURS, 256, "jaw_corr", least=0.92),
    Aim(OURS, 256, "blink_corr", least=0.90),
    Aim(OURS_WITH_SCENE, 256, "ssim", least=0.83),
    Aim(OURS_WITH_SCENE, 256, "edge", least=0.90),
    Aim(OURS_WITH_SCENE, 256, "flicker", most=0.25),
    Aim(OURS_GENERATED, 256, "ssim", least=0.86),
    Aim(OURS_GENERATED, 256, "face_ssim", least=0.84),
    Aim(OURS_GENERATED, 256, "gmsd", most=0.105),
    Aim(OURS_GENERATED, 256, "edge", least=0.90),
    Aim(OURS_GENERATED, 256, "akd", most=1.25),
    Aim(OURS_GENERATED, 256, "blendshapes", most=0.024),
    Aim(OURS_GENERATED, 256, "flicker", most=0.25),
    Aim(OURS_GENERATED, 256, "audio_wire_kbps", most=9.0),
    Aim(OURS_GENERATED, 256, "wire_kbps", most=15.0),
    Aim(OURS_GENERATED, 512, "ssim", least=0.88),
    Aim(OURS_GENERATED, 512, "face_ssim", least=0.85),
    Aim(OURS_GENERATED, 512, "edge", least=0.92),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A tier against the one below it by one metric: medians, mean gain (above 0: better), and clips where better."""

    metric: str
    below: float
    above: float
    gain: float
    better: int
    clips: int


def pairs_of_tiers(variants: Iterable[Variant]) -> list[tuple[Variant, Variant]]:
    """Return what stands on what: of one size and quality, a generated scene on the same scene without weights."""
    variants = sorted(v for v in variants if v.is_ours)
    out = []
    for above in variants:
        under = [
            v for v in variants if (v.size_px, v.mode) == (above.size_px, above.mode) and _under(v, above)
        ]
        out += [(max(under, key=lambda v: TIERS.index(v.coder)), above)] if under else []
    return sorted(out, key=lambda pair: (pair[0].size_px, TIERS.index(pair[1].coder), pair[1]))


def steps(rows: Sequence[Row], below: Variant, above: Variant) -> list[Step]:
    """Return how two variants compare on the clips that both have."""
    kept = {v: {row.clip: row for row in rows if row.variant == v} for v in (below, above)}
    clips = sorted(set(kept[below]) & set(kept[above]))
    out = []
    for metric in COMPARED:
        both = [(kept[below][clip].figure(metric), kept[above][clip].figure(metric)) for clip in clips]
        known = [(a, b) for a, b in both if a is not None and b is not None]
        if known:
            gains = [goodness(metric, b) - goodness(metric, a) for a, b in known]
            out.append(
                Step(
                    metric=metric,
                    below=median(a for a, _ in known),
                    above=median(b for _, b in known),
                    gain=mean(gains),
                    better=sum(gain > 0 for gain in gains),
                    clips=len(known),
                )
            )
    return out


def aims_of(variant: Variant) -> list[Aim]:
    """Return what is asked of a variant; of the coefficients' normal quality only."""
    wanted = variant.coder, variant.size_px
    return [aim for aim in AIMS if (aim.tier, aim.size_px) == wanted and variant.mode == "normal"]


def _under(below: Variant, above: Variant) -> bool:
    """Return whether a tier is lower and, if it has a scene, has the same."""
    lower = TIERS.index(below.coder) < TIERS.index(above.coder)
    return lower and below.target_kbps in (0.0, above.target_kbps)
