"""Paints the inside of an open mouth that no picture shows: teeth, tongue and the dark behind them.

Nobody's teeth: rows of usual widths (Wheeler's averages over the distance of the pupils), lit as the person is. The
upper row stays with the head, whatever the lips do; the lower row and the tongue stay with the lower lip.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.models.appearance_code import to_linear, to_srgb
from mien.models.topology import INNER_LIPS

Floats = NDArray[np.float64]

HALF: Final = len(INNER_LIPS) // 2
CORNERS: Final = (INNER_LIPS[0], INNER_LIPS[HALF])
LOWER: Final = INNER_LIPS[: HALF + 1]
UPPER: Final = (INNER_LIPS[0], *INNER_LIPS[:HALF:-1], INNER_LIPS[HALF])
FINER: Final = 4  # painted so many times finer, then averaged
# Lengths are shares of the distance of the pupils (63 mm).
UPPER_EDGES: Final = np.array(
    [0.0, 0.135, 0.235, 0.325, 0.39, 0.44, 0.48]
)  # between the teeth, from the middle
LOWER_EDGES: Final = np.array([0.0, 0.084, 0.175, 0.265, 0.34, 0.40, 0.45])
UPPER_LENGTHS: Final = np.array([0.0, -0.014, -0.004, -0.018, -0.024, -0.03])  # against the middle ones
UPPER_BELOW: Final = 0.075  # how far the upper teeth reach below the line of closed lips
LEAST_UPPER: Final = 0.03  # and at least so far below the upper lip
MOST_UPPER: Final = 0.15  # a tooth's length
LOWER_SHOWN: Final = (0.02, 0.05)  # of the lower teeth above the lip: little opened, wide
WIDE: Final = 0.4  # an opening that is wide
GAP: Final = 0.006  # between two teeth
CROWN: Final = 0.01  # over which a tooth's free edge is rounded
LIP_SHADE: Final = (0.5, 0.04)  # light under the lips, and how far in it is less
FADE: Final = (0.12, 0.42)  # teeth lie in less light farther from the middle
FADED: Final = 0.22
# Linear light against the skin's luminance.
ENAMEL: Final = np.array(
    [1.22, 0.95, 0.80]
)  # of its luminance; like the two below near what seven people have
TONGUE: Final = np.array([0.66, 0.27, 0.22])
DARK: Final = np.array([0.055, 0.018, 0.017])
LOWER_LIGHT: Final = 0.72
LUMINANCE: Final = np.array([0.2126, 0.7152, 0.0722])
USUAL_SKIN: Final = np.array([1.57, 0.87, 0.60])  # in the same light, of its own luminance
TEETH_ON_SKIN: Final = 1.2  # luminance of well lit enamel against the skin's
MOST_WHITE: Final = 0.75
SHOWN_GAP: Final = 0.05  # an opening of the photo in which its own teeth may be seen
TOOTH_SATURATION: Final = 0.45


@dataclass(frozen=True, slots=True, eq=False)
class MouthColours:
    """Linear light of enamel, tongue and the dark behind, [3] each."""

    enamel: Floats
    tongue: Floats
    dark: Floats


def measure_colours(
    rgb: NDArray[np.uint8], landmarks: NDArray[np.floating], skin: NDArray[np.floating]
) -> MouthColours:
    """Return how mouth parts look in the light of a picture whose skin has the mean linear colour `skin` [3].

    Where the picture itself shows teeth, they are its own colour.
    """
    luminance = max(float(skin @ LUMINANCE), 1e-3)
    # Much of what a skin's colour departs from the usual skin's is the light's.
    tint = np.clip(skin / luminance / USUAL_SKIN, 0.5, 2.0) ** 0.7
    enamel = own_teeth(rgb, landmarks)
    if enamel is None:
        enamel = ENAMEL * tint
        enamel *= min(TEETH_ON_SKIN * luminance, MOST_WHITE) / float(enamel @ LUMINANCE)
    return MouthColours(enamel, TONGUE * tint * luminance, DARK * tint * luminance)


def own_teeth(rgb: NDArray[np.uint8], landmarks: NDArray[np.floating]) -> Floats | None:
    """Return the linear colour [3] of the teeth that a picture shows, None where it shows none."""
    unit = pupil_distance(landmarks)
    if float(landmarks[14, 1] - landmarks[13, 1]) < SHOWN_GAP * unit:
        return None
    mask = np.zeros(rgb.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.rint(landmarks[list(INNER_LIPS), :2]).astype(np.int32)], 1)
    inside = to_linear(rgb[mask > 0]).astype(np.float64)
    if len(inside) < 20:
        return None
    value, least = inside.max(1), inside.min(1)
    pale = inside[(value - least) < TOOTH_SATURATION * value]
    if len(pale) < 0.1 * len(inside):
        return None
    bright = pale[(pale @ LUMINANCE) >= np.quantile(pale @ LUMINANCE, 0.7)]
    return np.asarray(bright.mean(0), np.float64) if float(bright.mean()) > 0.05 else None


def pupil_distance(landmarks: NDArray[np.floating]) -> float:
    """Return the distance of the pupils of landmarks [478, 3], in their unit; depth counts, turned heads keep it."""
    return max(1e-6, float(np.linalg.norm(landmarks[468] - landmarks[473])))


def paint_interior(
    rgb: NDArray[np.uint8],
    landmarks: NDArray[np.floating],
    rest: NDArray[np.floating],
    colours: MouthColours,
) -> NDArray[np.uint8]:
    """Return the picture, uint8 [h, w, 3], with an inside painted into the open mouth of `landmarks` [478, 3].

    `rest` [478, 3] is the same head, in the same place, with its lips closed: it says where the upper teeth are.
    """
    lips = landmarks[list(INNER_LIPS), :2].astype(np.float64)
    height, width = rgb.shape[:2]
    low = np.clip(np.floor(lips.min(0)) - 2, 0, [width, height]).astype(int)
    high = np.clip(np.ceil(lips.max(0)) + 3, 0, [width, height]).astype(int)
    size = high - low
    if (size < 3).any():
        return rgb
    fine = np.zeros((size[1] * FINER, size[0] * FINER), np.uint8)
    cv2.fillPoly(fine, [np.rint((lips - low) * FINER).astype(np.int32)], 255)
    y, x = (np.mgrid[0 : size[1] * FINER, 0 : size[0] * FINER] + 0.5) / FINER
    places = np.stack([x + low[0], y + low[1]], 2)
    painted = _paint(places, landmarks, rest, colours)
    painted *= _lip_shade(fine, pupil_distance(landmarks) * FINER)[..., None]
    shape = (int(size[0]), int(size[1]))
    inside = cv2.resize(fine.astype(np.float32) / 255, shape, interpolation=cv2.INTER_AREA)[..., None]
    small = cv2.resize(painted.astype(np.float32), shape, interpolation=cv2.INTER_AREA)
    out = rgb.copy()
    part = to_linear(rgb[low[1] : high[1], low[0] : high[0]])
    mixed = part + inside * (small - part)
    out[low[1] : high[1], low[0] : high[0]] = np.rint(255 * to_srgb(np.asarray(mixed, np.float32)))
    return out


def _paint(
    places: Floats, landmarks: NDArray[np.floating], rest: NDArray[np.floating], colours: MouthColours
) -> Floats:
    """Return linear light [h, w, 3] at places [h, w, 2] of the picture, as if there were no lips."""
    unit = pupil_distance(landmarks)
    left, right = (landmarks[i, :2].astype(np.float64) for i in CORNERS)
    along = (right - left) / max(float(np.linalg.norm(right - left)), 1e-6)
    down = np.array([-along[1], along[0]])
    # The middle is the head's: below the nose, not halfway between corners that speech pulls about.
    middle = np.array([(landmarks[[13, 14, 0, 17], :2].mean(0) - left) @ along, 0.0])

    def local(points: Floats) -> Floats:
        return np.asarray(
            (np.stack([(points - left) @ along, (points - left) @ down], -1) - middle) / unit, np.float64
        )

    upper, lower = (local(landmarks[list(row), :2].astype(np.float64)) for row in (UPPER, LOWER))
    at = local(places)
    x, y = at[..., 0], at[..., 1]
    squeeze = _turned(landmarks)  # teeth of a head that is turned are narrower
    rim_up, rim_low = float(np.interp(0, *upper.T)), float(np.interp(0, *lower.T))
    line = float(local(rest[[13, 14], :2].mean(0).astype(np.float64))[1])
    opening = max(rim_low - rim_up, 1e-3)
    shown_low = np.interp(opening, [0.05, WIDE], LOWER_SHOWN)
    edge_up = float(np.clip(line + UPPER_BELOW, rim_up + LEAST_UPPER, rim_up + MOST_UPPER))
    edge_up = min(edge_up, rim_up + 0.8 * opening)
    edge_low = max(rim_low - shown_low, edge_up + 0.004)
    out = np.broadcast_to(colours.dark, (*x.shape, 3)).copy()
    _lay(out, *_tongue(x, y, edge_up, rim_low, opening, colours))
    _lay(out, *_row(x / squeeze, edge_low - y, LOWER_EDGES, np.zeros(6), 0.18, LOWER_LIGHT, colours))
    _lay(out, *_row(x / squeeze, y - edge_up, UPPER_EDGES, UPPER_LENGTHS, 0.22, 1.0, colours))
    return out


def _row(
    x: Floats,
    beyond: Floats,
    edges: Floats,
    lengths: Floats,
    arch: float,
    light: float,
    colours: MouthColours,
) -> tuple[Floats, Floats]:
    """Return a row of teeth: colour [h, w, 3] and how much of it covers [h, w].

    `beyond` is how far a place lies beyond the free edge of the middle teeth (below 0: on the tooth).
    """
    away = np.abs(x)
    tooth = np.clip(np.searchsorted(edges, away, side="right") - 1, 0, len(edges) - 2)
    start, wide = edges[tooth], np.diff(edges)[tooth]
    across = np.clip(2 * (away - start) / wide - 1, -1, 1)  # -1 to 1 over the tooth
    # The row curves away from the lips, and each tooth's corner is round.
    edge = -arch * away**2 + lengths[tooth] - CROWN * np.abs(across) ** 4
    depth = beyond - edge
    cover = _smooth(-depth, -0.004, 0.006)
    body = 1 - 0.10 * across**2 - 0.10 * _smooth(-depth, 0.06, 0.16)  # darker towards sides and gum
    seam = 1 - 0.32 * np.exp(-(((1 - np.abs(across)) * wide / 2 / GAP) ** 2))
    fade = 1 - (1 - FADED) * _smooth(away, *FADE)
    shade = light * body * seam * fade
    # Enamel is a little clear at the free edge: what is behind it darkens it.
    shade *= 1 - 0.12 * np.exp(-(((depth + 0.004) / 0.010) ** 2))
    colour = shade[..., None] * colours.enamel
    return np.asarray(colour, np.float64), np.asarray(cover * (away < edges[-1]), np.float64)


def _tongue(
    x: Floats, y: Floats, edge_up: float, rim_low: float, opening: float, colours: MouthColours
) -> tuple[Floats, Floats]:
    """Return the tongue: colour [h, w, 3] and how much of it covers [h, w]."""
    rise = 0.62 * max(rim_low - edge_up, 0.0)
    wide = 0.30 + 0.10 * min(opening / WIDE, 1.0)
    top = rim_low - rise * np.sqrt(np.clip(1 - (x / wide) ** 2, 0, 1))
    cover = _smooth(y - top, -0.005, 0.03) * (np.abs(x) < wide)
    # Light comes from the front: the tip is bright, the back is not; a groove runs along the middle.
    light = 0.30 + 0.70 * _smooth(y - top, 0.0, max(0.6 * rise, 0.02))
    light *= 1 - 0.18 * np.exp(-((x / 0.02) ** 2))
    light *= 1 - 0.55 * _smooth(np.abs(x), 0.55 * wide, wide)
    return np.asarray(light[..., None] * colours.tongue, np.float64), np.asarray(cover, np.float64)


def _lay(out: Floats, colour: Floats, cover: Floats) -> None:
    """Lay a colour over what is there."""
    out += cover[..., None] * (colour - out)


def _lip_shade(mask: NDArray[np.uint8], unit: float) -> NDArray[np.float64]:
    """Return how much light reaches places behind lips, [h, w], from a mask of the opening."""
    least, reach = LIP_SHADE
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5).astype(np.float64) / (reach * unit)
    return np.asarray(least + (1 - least) * _smooth(distance, 0, 1), np.float64)


def _turned(landmarks: NDArray[np.floating]) -> float:
    """Return how much narrower than from the front things across the face look: 1 from the front."""
    flat = float(np.linalg.norm(landmarks[468, :2] - landmarks[473, :2]))
    return max(0.5, flat / pupil_distance(landmarks))


def _smooth(value: Floats, low: float, high: float) -> Floats:
    t = np.clip((value - low) / max(high - low, 1e-9), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float64)
