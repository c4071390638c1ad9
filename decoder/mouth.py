"""The inside of the mouth: a sheet that hangs behind the upper lip, as upper teeth do.

Where a mouth is open less far than in the reference that shows its inside, the lower lip covers the rest of the sheet:
teeth keep their size, and no dark gap is squeezed in below them. Where it is open farther, what lies below the
teeth is stretched, not the teeth. Lower teeth, where a reference shows them, go with the lower lip.

The mesh has two loops of vertices there, rim and core, each numbered as `INNER_LIPS`: from one corner along the lower
lip to the other and back along the upper. A column is a vertex of the upper lip, the one opposite it, and the two of
the core between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.models.topology import INNER_LIPS

RIM: Final = len(INNER_LIPS)
COLUMNS: Final = RIM // 2 + 1
# Numbers within a loop, by column.
LOWER: Final = np.arange(COLUMNS)
UPPER: Final = (RIM - LOWER) % RIM
# Behind the lips, so that closed lips cover it; and what the lower lip covers behind the chin, too.
RIM_DEPTH: Final = 0.03
SHEET_DEPTH: Final = 0.3
# How much a gap's direction is the face's own downwards, model units: lips that hardly part have none.
STEADY: Final = 0.02
LEAST_GAP: Final = 1e-4

# Where teeth are taken to end, a share of the gap, if it cannot be seen; and within what they are looked for.
TEETH_AT: Final = 0.4
TEETH_RANGE: Final = (0.15, 0.85)
FLOOR: Final = 0.65  # the lower end of what is stretched: so much of the way from the teeth to the lower lip
# How much of a stretch teeth take part in at least; where nothing dark lies below them, in all of it.
SHARED: Final = 0.25
SQUEEZED: Final = 0.2  # of the space between upper and lower teeth, what is left at least
# How much darker it is below teeth, a share of their brightness: none, and surely.
DARKER: Final = (0.2, 0.45)
PROFILE: Final = np.linspace(0.06, 0.94, 23)  # shares of the gap that are looked at
LEAST_SPACE: Final = 0.05  # between upper and lower teeth
AS_BRIGHT: Final = 0.7  # so near to the upper teeth's brightness are lower teeth, and no lips
LOWER_FROM: Final = 0.6  # what is bright above is a tongue, which gives way
MIDDLE: Final = slice(3, 8)  # of the columns: at the sides teeth lie in the shadow of the cheeks
LEAST_GAP_PX: Final = 4.0


@dataclass(frozen=True, slots=True)
class Teeth:
    """What is seen in a reference's gap, from the upper lip (0) to the lower (1).

    `end`: where the upper teeth end, and `dark_below` how surely something dark follows; `floor`: where the lower
    teeth, or what else goes with the lower lip, begin, and `lower` how surely these are teeth, 0 to 1.
    """

    end: float = TEETH_AT
    dark_below: float = 0.0
    floor: float = TEETH_AT + FLOOR * (1 - TEETH_AT)
    lower: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class MouthSheet:
    """The references' gaps [r, columns] in model units, and their teeth [r]: lays the sheet into any mouth."""

    gaps: NDArray[np.float64]
    ends: NDArray[np.float64]
    floors: NDArray[np.float64]
    lower: NDArray[np.float64]
    shared: NDArray[np.float64]  # how much of a stretch the teeth take part in, 0 to 1

    @classmethod
    def of(cls, lips: NDArray[np.floating], scales: Sequence[float], teeth: Sequence[Teeth]) -> "MouthSheet":
        """Measure the references' inner lips [r, 20, 3], placed, at the `scales` of their poses [r]."""
        gaps = np.stack([columns_of(loop, scale)[1] for loop, scale in zip(lips, scales, strict=True)])
        seen = np.array([[t.end, t.floor, t.lower, 1 - (1 - SHARED) * t.dark_below] for t in teeth])
        return cls(gaps, *seen.T)

    def lay(
        self, lips: NDArray[np.floating], scale: float, weights: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Return rim and core [40, 3] behind placed lips [20, 3], as references of these `weights` [r] show it."""
        direction, gap = columns_of(lips, scale)
        upper, lower = lips[UPPER], lips[LOWER]
        depths = np.einsum(
            "r,rdc->dc", weights, self.depths(gap)
        )  # [rows: teeth's end, floor, bottom; columns]
        along = direction * scale
        lateral = (lower - upper)[:, :2] - gap[:, None] * along
        behind = np.maximum(upper[:, 2], lower[:, 2]) + SHEET_DEPTH * scale
        rows = []
        for depth in depths:
            row = np.empty((COLUMNS, 3))
            share = (depth / np.maximum(depths[2], LEAST_GAP))[:, None]
            row[:, :2] = upper[:, :2] + depth[:, None] * along + share * lateral
            row[:, 2] = behind
            rows.append(row)
        teeth, floor, bottom = rows
        out = np.empty((2 * RIM, 3))
        out[LOWER], out[RIM + LOWER], out[RIM + UPPER] = bottom, floor, teeth
        out[UPPER] = upper + [0, 0, RIM_DEPTH * scale]
        corners = [0, COLUMNS - 1]
        out[corners] = out[[RIM, RIM + COLUMNS - 1]] = upper[corners] + [0, 0, RIM_DEPTH * scale]
        return out

    def depths(self, gap: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return how far below the upper lip the rows of each reference's sheet hang in gaps [columns]: [r, 3, columns].

        The rows are the end of the teeth, the lower end of what is stretched, and the bottom; model units.
        """
        own, ends, floors = self.gaps, self.ends[:, None], self.floors[:, None]
        more, less = np.maximum(gap - own, 0), np.maximum(own - gap, 0)
        grown = 1 + self.shared[:, None] * more / np.maximum(own, LEAST_GAP)
        teeth, under = ends * own * grown, (1 - floors) * own * grown
        # With lower teeth the space between is squeezed before anything goes under the lip.
        squeezed = self.lower[:, None] * np.minimum(less, (1 - SQUEEZED) * (floors - ends) * own)
        bottom = own + more - squeezed
        return np.stack([teeth, bottom - under, bottom], 1)


def columns_of(lips: NDArray[np.floating], scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the direction [2] in which placed lips [20, 3] part, and how far they do, [columns], in model units."""
    between = (lips[LOWER] - lips[UPPER])[:, :2]
    across = (lips[COLUMNS - 1] - lips[0])[:2]
    wide = max(float(np.linalg.norm(across)), 1e-9)
    down = np.array([-across[1], across[0]]) / wide
    mean = between.mean(0) / scale
    direction = STEADY * down + (mean if mean @ down > 0 else 0)  # lips that cross part no farther
    direction = direction / max(float(np.linalg.norm(direction)), 1e-9)
    return direction, np.asarray(np.maximum(between @ direction / scale, 0), np.float64)


def see_teeth(rgb: NDArray[np.uint8], lips: NDArray[np.floating]) -> Teeth:
    """Look where the upper teeth end in a picture [h, w, 3] with inner lips [20, 2] at these pixels."""
    upper, lower = lips[UPPER][MIDDLE, :2], lips[LOWER][MIDDLE, :2]
    if float(np.linalg.norm(lower - upper, axis=1).mean()) < LEAST_GAP_PX:
        return Teeth()
    at = (upper + PROFILE[:, None, None] * (lower - upper)).reshape(-1, 2).astype(int)
    height, width = rgb.shape[:2]
    green = rgb[
        np.clip(at[:, 1], 0, height - 1), np.clip(at[:, 0], 0, width - 1), 1
    ]  # tongue and gums have little
    bright = np.median(green.reshape(len(PROFILE), -1), axis=1).astype(np.float64)
    low, high = TEETH_RANGE
    top = int(np.argmax(np.where(high > PROFILE, bright, 0)))
    deepest = top + int(np.argmin(bright[top:]))
    limit = (bright[top] + bright[deepest]) / 2
    after = np.flatnonzero(bright[top:deepest] < limit)
    end = float(PROFILE[top + after[0]] if len(after) else PROFILE[deepest])
    end = float(np.clip(end, low, high))
    teeth = Teeth(end, darker(bright[top], bright[deepest]), end + FLOOR * (1 - end))
    as_bright = bright[deepest] + AS_BRIGHT * (bright[top] - bright[deepest])
    again = np.flatnonzero(bright[deepest:] > as_bright)
    if not len(again):
        return teeth
    floor = float(np.clip(PROFILE[deepest + again[0]], max(end + LEAST_SPACE, LOWER_FROM), 1.0))
    found = darker(float(bright[deepest:].max()), bright[deepest]) * teeth.dark_below
    return replace(teeth, floor=(1 - found) * teeth.floor + found * floor, lower=found)


def darker(bright: float, dark: float) -> float:
    """Return how surely one is dark beside the other, 0 to 1."""
    low, high = DARKER
    return float(np.clip(((bright - dark) / max(bright, 1.0) - low) / (high - low), 0, 1))
