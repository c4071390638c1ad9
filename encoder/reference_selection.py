"""Chooses which frames of an enrolment become reference pictures: sharp ones that cover what the face did.

A frame is a point in a space of what the eye notices: the head's turn, the opening of mouth and lids, the mouth's
width and place, the brows, the gaze. Frames are thinned until no two are nearer than a step, so that a minute of
listening does not outvote one blink. The first reference is the most central one: frontal, eyes open, mouth nearly
closed. A mouth wide open and closed eyes follow, if there are such, since no other picture can show them; the rest are
those points to which all others are nearest (k-medoids).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.encoder.appearance import FrameQuality

THINNING_STEP: Final = 0.35  # in the weighted space, where 1 is a difference that everybody sees
MAX_POINTS: Final = 400
SHARP_ENOUGH: Final = 0.55  # of the clip's upper quartile
OUTLIERS: Final = 2  # frames at either end of a feature that may be slips of the tracker
MAX_CLIPPED: Final = 0.25
MAX_COVERED: Final = 0.02


@dataclass(frozen=True, slots=True)
class Feature:
    """One axis of the space. `step` is how much of it counts as 1."""

    name: str
    step: float


FEATURES: Final = (
    Feature("yaw", 8.0),  # degrees, positive: the nose points to the viewer's right
    Feature("pitch", 8.0),  # degrees, positive: the nose points down
    Feature("roll", 25.0),  # degrees, positive: clockwise as the viewer sees it
    Feature("mouth_open", 0.1),  # gap of the inner lips / inter-pupil distance
    Feature("mouth_width", 0.12),  # corner to corner / inter-pupil distance
    Feature("mouth_tilt", 0.15),  # the viewer's right corner lower than the left / inter-pupil distance
    Feature("mouth_shift", 0.15),  # the mouth's middle right of the nose / inter-pupil distance
    Feature("lids_left", 0.1),  # lid gap / eye width; left is the viewer's
    Feature("lids_right", 0.1),
    Feature("brows", 0.1),  # brow height above the eye corners / inter-pupil distance
    Feature("gaze_x", 0.2),  # iris from the middle of the eye / eye width
    Feature("gaze_y", 0.2),
)
NAMES: Final = tuple(feature.name for feature in FEATURES)
# What is drawn from one reference each.
TURN: Final = ("yaw", "pitch", "roll")
REGIONS: Final = (
    ("mouth_open", "mouth_width", "mouth_tilt", "mouth_shift"),
    ("lids_left", "gaze_x", "gaze_y"),
    ("lids_right", "gaze_x", "gaze_y"),
    ("brows",),
)
TURN_SHARE: Final = 0.35  # how much the turn of the head counts in what is seen of a region
WHOLE_SHARE: Final = 0.1  # and what the other regions show
SWAPS: Final = 10  # rounds


def upright(neutral: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rotation [3, 3] that makes a neutral face [478, 3] upright and frontal.

    Model space leans as the people did from whom the model was learned. Here x runs along eyes and mouth corners,
    y from the forehead's top (10) to the chin (152).
    """
    n = np.asarray(neutral, np.float64)
    x = (n[[263, 291, 454]] - n[[33, 61, 234]]).sum(0)
    x /= np.linalg.norm(x)
    y = n[152] - n[10]
    y -= (y @ x) * x
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)])


def face_features(shapes: NDArray[np.floating], rotations: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return float32 [T, 12], in the units of `FEATURES`.

    `shapes` [T, 478, 3] are landmarks with the head's pose taken off: upright and frontal, inter-pupil distance
    about 1; `rotations` [T, 3, 3] turn such a head as it was in each frame.
    """
    s = np.asarray(shapes, np.float64)
    r = np.asarray(rotations, np.float64)
    nose = -r[:, :, 2]  # where the face's front, -z of model space, points
    yaw = np.degrees(np.arctan2(nose[:, 0], -nose[:, 2]))
    pitch = np.degrees(np.arctan2(nose[:, 1], -nose[:, 2]))
    roll = np.degrees(np.arctan2(r[:, 1, 0], r[:, 0, 0]))

    def distance(a: int, b: int) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(s[:, a, :2] - s[:, b, :2], axis=1))

    corners = s[:, [33, 133, 362, 263], 1].mean(1)
    brows = corners - s[:, [105, 66, 334, 296], 1].mean(1)
    left_width, right_width = distance(33, 133), distance(362, 263)
    middles = (s[:, [33, 362]] + s[:, [133, 263]]) / 2
    gaze = (
        (s[:, [468, 473], :2] - middles[:, :, :2]) / np.stack([left_width, right_width], 1)[:, :, None]
    ).mean(1)
    columns = [
        yaw,
        pitch,
        roll,
        distance(13, 14),
        distance(61, 291),
        s[:, 291, 1] - s[:, 61, 1],
        s[:, [61, 291], 0].mean(1) - s[:, 2, 0],
        distance(159, 145) / left_width,
        distance(386, 374) / right_width,
        brows,
        gaze[:, 0],
        gaze[:, 1],
    ]
    return np.stack(columns, 1).astype(np.float32)


def usable(qualities: Sequence[FrameQuality]) -> NDArray[np.bool_]:
    """Return which frames are sharp, well exposed and not covered, compared with the clip's better ones: bool [T].

    One at least is.
    """
    sharpness = np.array([q.sharpness for q in qualities])
    clipped = np.array([q.clipped for q in qualities])
    exposure = np.array([q.exposure for q in qualities])
    covered = np.array([q.covered for q in qualities])
    good = sharpness >= SHARP_ENOUGH * np.quantile(sharpness, 0.75)
    good &= clipped <= max(MAX_CLIPPED, float(np.quantile(clipped, 0.5)))
    good &= np.abs(exposure - np.median(exposure)) <= 0.15
    good &= covered <= max(MAX_COVERED, float(np.quantile(covered, 0.25)))
    if not good.any():
        good[int(np.argmax(sharpness))] = True
    return np.asarray(good)


def rest_distances(shapes: NDArray[np.floating], neutral: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return how far each face [T, 478, 3] is from `neutral` [478, 3], both in model space: float32 [T], RMS, 2-D."""
    gap = np.asarray(shapes, np.float64)[:, :, :2] - np.asarray(neutral, np.float64)[:, :2]
    return np.asarray(np.sqrt((gap**2).sum(2).mean(1)), np.float32)


def select_references(
    features: NDArray[np.float32],
    rest: NDArray[np.float32],
    qualities: Sequence[FrameQuality],
    *,
    count: int,
    wanted: Sequence[int] = (),
) -> list[int]:
    """Return up to `count` frame numbers, the most central first, then in the order of what each adds.

    `rest` is each frame's distance from the neutral face (`rest_distances`). `wanted` are frames that thinning keeps:
    the best ones of what the person was asked to show. Fewer come back where the clip shows fewer different faces. Raises `ValueError` without a frame.
    """
    if not len(features) or not len(features) == len(qualities) == len(rest):
        raise ValueError(f"{len(features)} frames, {len(rest)} distances and {len(qualities)} qualities")
    scaled = _scaled(features)
    sharpness = np.array([q.sharpness for q in qualities])
    pool = np.flatnonzero(usable(qualities))
    centre = central_frame(features, rest, qualities, pool)
    asked = [frame for frame in wanted if frame != centre and frame in pool]
    points = thin(scaled, pool, sharpness, keep=[centre, *asked])
    fixed = [centre, *_extremes(scaled, points, centre)][:count]
    return _cover(_region_gaps(scaled[points]), points, fixed, count)


def central_frame(
    features: NDArray[np.float32],
    rest: NDArray[np.float32],
    qualities: Sequence[FrameQuality],
    pool: NDArray[np.intp],
) -> int:
    """Return the frame of `pool` that is most frontal, with open eyes, a nearly closed mouth, gaze ahead, and sharp."""
    f = dict(zip(NAMES, features[pool].T.astype(np.float64), strict=True))
    sharpness = np.log1p([qualities[i].sharpness for i in pool])
    lids = np.minimum(f["lids_left"], f["lids_right"])
    # Pitch is relative: cameras stand above or below, and people look at the screen.
    cost = (f["yaw"] / 10) ** 2 + ((f["pitch"] - np.median(f["pitch"])) / 10) ** 2
    cost += (rest[pool] / 0.05) ** 2
    cost += (f["mouth_tilt"] / 0.06) ** 2 + (f["mouth_shift"] / 0.06) ** 2
    cost += (f["roll"] / 15) ** 2
    # Wide eyes are as wrong as narrow ones: the usual open eye is the upper half's median.
    cost += ((lids - np.quantile(lids, 0.75)) / 0.06) ** 2
    cost += (np.maximum(0, f["mouth_open"] - 0.03) / 0.05) ** 2
    cost += ((f["mouth_width"] - np.median(f["mouth_width"])) / 0.15) ** 2
    cost += ((f["brows"] - np.median(f["brows"])) / 0.08) ** 2
    cost += ((f["gaze_x"] - np.median(f["gaze_x"])) / 0.12) ** 2
    cost += (np.array([qualities[i].covered for i in pool]) / 0.01) ** 2
    cost -= 1.0 * (sharpness - np.median(sharpness))
    return int(pool[int(np.argmin(cost))])


def thin(
    scaled: NDArray[np.float64],
    pool: NDArray[np.intp],
    sharpness: NDArray[np.float64],
    *,
    keep: Sequence[int],
) -> NDArray[np.intp]:
    """Return frames of `pool` no two of which are nearer than `THINNING_STEP`; the sharper one stays; all of `keep` do."""
    order = pool[np.argsort(-sharpness[pool], kind="stable")]
    kept = list(keep)
    step = THINNING_STEP**2
    for index in order:
        if len(kept) >= MAX_POINTS:
            break
        if (((scaled[kept] - scaled[index]) ** 2).sum(1)).min() > step:
            kept.append(int(index))
    return np.array(kept)


def coverage(
    features: NDArray[np.float32], chosen: Sequence[int]
) -> dict[str, tuple[float, float, float, float]]:
    """Return per feature (least and greatest of the clip, but for outliers, then of the chosen frames)."""
    low, high = _limits(features)
    mine = features[list(chosen)]
    return {
        name: (float(low[i]), float(high[i]), float(mine[:, i].min()), float(mine[:, i].max()))
        for i, name in enumerate(NAMES)
    }


def _scaled(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the space: each feature in its steps, held within the clip's limits, so that outliers do not pull."""
    low, high = _limits(features)
    return np.asarray(np.clip(features, low, high) / np.array([f.step for f in FEATURES]), np.float64)


def _limits(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the third least and third greatest value of each feature: a blink has three frames, a slip has not."""
    ordered = np.sort(features, axis=0)
    rank = min(OUTLIERS, (len(features) - 1) // 4)
    return ordered[rank], ordered[-1 - rank]


def _extremes(scaled: NDArray[np.float64], points: NDArray[np.intp], centre: int) -> list[int]:
    """Return the frames with the widest mouth and the most closed eyes, each where it differs visibly from the centre.

    Of several the one that is otherwise most like the centre, so that nothing else speaks against using it.
    """
    gap = scaled[points] - scaled[centre]
    mouth, lids = NAMES.index("mouth_open"), [NAMES.index("lids_left"), NAMES.index("lids_right")]
    found: list[int] = []
    for amount, axes in ((gap[:, mouth], [mouth]), (-gap[:, lids].max(1), lids)):
        rest = np.delete(gap, axes, axis=1)
        best = int(np.argmax(amount - 0.3 * np.sqrt((rest**2).sum(1))))
        if amount[best] >= 1 and int(points[best]) not in found:
            found.append(int(points[best]))
    return found


def _cover(gaps: NDArray[np.float64], points: NDArray[np.intp], fixed: list[int], count: int) -> list[int]:
    """k-medoids, the `fixed` frames among them: greedy, then swaps while they help; `gaps` as from `_region_gaps`."""
    chosen = [int(np.flatnonzero(points == frame)[0]) for frame in fixed]
    while len(chosen) < min(count, len(points)):
        cost = _costs(gaps, chosen)
        cost[chosen] = np.inf
        chosen.append(int(np.argmin(cost)))
    for _ in range(SWAPS):
        better = False
        for slot in range(len(fixed), len(chosen)):
            cost = _costs(gaps, [c for i, c in enumerate(chosen) if i != slot])
            best = int(np.argmin(cost))
            if cost[best] < cost[chosen[slot]] - 1e-9 and best not in chosen:
                chosen[slot], better = best, True
        if not better:
            break
    return [int(points[i]) for i in _by_use(gaps, chosen)]


def _region_gaps(place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each of points [n, features] is from each as a picture of one region: [regions, n, n], squared.

    A renderer takes each region from the reference that shows it best, so each is covered by itself; how the head
    is turned counts for all, and the rest of the face a little.
    """
    names = list(NAMES)

    def squared(features: Sequence[str]) -> NDArray[np.float64]:
        part = place[:, [names.index(name) for name in features]]
        return np.asarray(((part[:, None] - part[None]) ** 2).sum(2))

    turned = squared(TURN)
    own = np.stack([squared(features) for features in REGIONS])
    whole = own.sum(0)
    return np.concatenate(
        [own + TURN_SHARE * turned + WHOLE_SHARE * whole, (turned + WHOLE_SHARE * whole)[None]]
    )


def _costs(gaps: NDArray[np.float64], chosen: list[int]) -> NDArray[np.float64]:
    """Return for each point what is left of all gaps, if it is chosen in addition: [n]."""
    if not chosen:
        return np.asarray(gaps.sum((0, 1)))
    nearest = gaps[:, :, chosen].min(2)
    return np.asarray(np.minimum(gaps, nearest[:, :, None]).sum((0, 1)))


def _by_use(gaps: NDArray[np.float64], chosen: list[int]) -> list[int]:
    """Order the chosen so that each next one helps most: a slow link shows the difference early."""
    ordered, rest = [chosen[0]], list(chosen[1:])
    while rest:
        cost = _costs(gaps, ordered)
        best = min(rest, key=lambda c: float(cost[c]))
        ordered.append(best)
        rest.remove(best)
    return ordered
