"""The input that is always at hand: a public-domain portrait brought to life by a scripted motion.

The portrait is the photograph of an astronaut (NASA, public domain) inside the scikit-image distribution. The
motion is nobody's: sums of sines for the head, syllables for the jaw, a list of moments for blinks, brows and
gaze. What comes out are pixels like a camera's, and a tracker has to find the face in them like any other.

Two warps follow one another. The *expression* warp works in the still portrait: the lower lip and jaw, the
mouth's width, the lids, the brows and the irises each displace the picture by a field that fades to nothing
around them; the mouth and the eyes are openings, where the skin ends and something else is seen. The *head* warp
then turns the head in three dimensions about the neck and fades to nothing towards the shoulders and the border.
All fields are backward maps: they say for a pixel of the result where in the source its colour is.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from typing import Any, Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.encoder.capture import Frame
from mien.protocol.errors import MienError

SOURCE_NAME: Final = "synthetic source"

# Left, top and side, in pixels of the 512 x 512 photograph, of the square that is shown.
_CROP: Final = (100, 0, 256)

# Landmark numbers (MediaPipe's). Left and right are the viewer's.
_LEFT_EYE: Final = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133))
_RIGHT_EYE: Final = (
    (362, 398, 384, 385, 386, 387, 388, 466, 263),
    (362, 382, 381, 380, 374, 373, 390, 249, 263),
)
_LEFT_BROW: Final = (46, 53, 52, 65, 55)  # the lower edge
_RIGHT_BROW: Final = (285, 295, 282, 283, 276)
_LEFT_IRIS: Final = 468
_RIGHT_IRIS: Final = 473
_UPPER_LIP: Final = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)  # the inner margin
_LOWER_LIP: Final = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
_CHIN: Final = 152
_NOSE_BASE: Final = 2
_JAW: Final = (172, 397)
_FOREHEAD: Final = 10

_MOUTH_NEAR: Final = np.array([112, 52, 50], np.float32)  # the colour behind the lower lip
_MOUTH_DEEP: Final = np.array([44, 14, 16], np.float32)

_Field = NDArray[np.float32]  # [size_px, size_px]; or one row of it, [size_px], of one value a column
_Picture = NDArray[np.uint8]  # [size_px, size_px, 3], RGB
_Pixels = TypeVar("_Pixels", _Field, _Picture)


@dataclass(frozen=True, slots=True)
class Motion:
    """What the face does at one instant. Angles turn the head to the viewer's right, down and clockwise."""

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    shift_x: float = 0.0  # in inter-pupil distances, to the right
    shift_y: float = 0.0  # down
    jaw: float = 0.0  # -1: lips closed, 0: as photographed, 1: wide open
    mouth_width: float = 0.0  # -1: narrow, 1: broad
    blink: float = 0.0  # 0: as photographed, 1: closed
    brow: float = 0.0  # 0: as photographed, 1: raised
    gaze_x: float = 0.0  # -1: to the left, 1: to the right
    gaze_y: float = 0.0  # -1: up, 1: down


# --- the script -----------------------------------------------------------------------------------------------

_BLINK_PERIOD_S: Final = 2.9
_SENTENCE_S: Final = 3.7


def motion_at(time_s: float) -> Motion:
    """Return the script's motion. Any time is allowed, and the same time gives the same motion."""
    talking = _sentence(time_s)
    gaze_x, gaze_y = _gaze(time_s)
    return Motion(
        yaw_deg=6.0 * _sine(time_s, 0.17, 0.0) + 2.2 * _sine(time_s, 0.43, 0.3),
        pitch_deg=2.6 * _sine(time_s, 0.23, 0.6) + 1.4 * talking * _sine(time_s, 0.9, 0.1),
        roll_deg=2.4 * _sine(time_s, 0.13, 0.2) + 0.8 * _sine(time_s, 0.37, 0.7),
        shift_x=0.08 * _sine(time_s, 0.11, 0.4),
        shift_y=0.04 * _sine(time_s, 0.19, 0.9),
        jaw=_jaw(time_s, talking),
        mouth_width=talking * 0.9 * _sine(time_s, 1.7, 0.2),
        blink=_blink(time_s),
        brow=_bump(time_s % 5.3, 2.6, 0.55) + 0.35 * _bump(time_s % 3.1, 0.9, 0.3),
        gaze_x=gaze_x,
        gaze_y=gaze_y,
    )


_TONE_S: Final = 1.37  # from one tone to the next, on average
_TONE_LASTS_S: Final = 0.35
_JAW_MOVES_S: Final = 0.12


def tone_start_s(number: int) -> float:
    """Return when the script's tone of a number begins, 0 and up: at uneven distances, so that no two are confused."""
    return 0.7 + _TONE_S * number + 0.21 * math.sin(2.1 * number)


def tone_at(time_s: float) -> bool:
    """Return whether there is a tone in the sound that goes with `toning_at`."""
    near = max(0, round((time_s - 0.7) / _TONE_S))
    starts = (tone_start_s(number) for number in (max(0, near - 1), near, near + 1))
    return any(start <= time_s < start + _TONE_LASTS_S for start in starts)


def toning_at(time_s: float) -> Motion:
    """A second script, for measuring how sound and picture lie: the jaw is open while there is a tone, else shut.

    It is half open at the very begin of the tone and at its end.
    """
    near = max(0, round((time_s - 0.7) / _TONE_S))
    jaw = 0.0
    for number in (max(0, near - 1), near, near + 1):
        start = tone_start_s(number)
        opening = (time_s - start) / _JAW_MOVES_S + 0.5
        closing = (start + _TONE_LASTS_S - time_s) / _JAW_MOVES_S + 0.5
        jaw = max(jaw, min(opening, closing, 1.0))
    return Motion(yaw_deg=2.0 * _sine(time_s, 0.17, 0.0), jaw=jaw)


def _sine(time_s: float, rate_hz: float, turn: float) -> float:
    return math.sin(2 * math.pi * (rate_hz * time_s + turn))


def _bump(time_s: float, centre_s: float, half_width_s: float) -> float:
    """A smooth rise from 0 to 1 and back."""
    distance = abs(time_s - centre_s) / half_width_s
    return 0.5 + 0.5 * math.cos(math.pi * distance) if distance < 1 else 0.0


def _smoothstep(value: float) -> float:
    value = min(max(value, 0.0), 1.0)
    return value * value * (3 - 2 * value)


def _sentence(time_s: float) -> float:
    """1 while a sentence is spoken, 0 in the pause after it."""
    moment = time_s % _SENTENCE_S
    return _smoothstep(moment / 0.25) * _smoothstep((2.9 - moment) / 0.25)


def _jaw(time_s: float, talking: float) -> float:
    """Syllables at 3 to 4 Hz of uneven strength; the lips meet now and then."""
    phase = 3.1 * time_s + 0.35 * _sine(time_s, 0.7, 0.0)
    strength = 0.5 + 0.35 * _sine(time_s, 0.53, 0.15)
    opening = strength * math.sin(math.pi * phase) ** 2
    closing = 0.8 * _bump(time_s % 1.9, 1.2, 0.12)
    return talking * (opening - closing * (1 - opening))


def _blink(time_s: float) -> float:
    """90 ms down, 40 ms shut, 150 ms up; every fourth time twice."""
    moment, count = time_s % _BLINK_PERIOD_S, int(time_s // _BLINK_PERIOD_S)
    starts = (1.3, 1.75) if count % 4 == 3 else (1.3,)
    closed = 0.0
    for start in starts:
        closed = max(
            closed, min(_smoothstep((moment - start) / 0.09), _smoothstep((start + 0.28 - moment) / 0.15))
        )
    return closed


def _gaze(time_s: float) -> tuple[float, float]:
    """Fixations of 1.1 s joined by saccades of 60 ms."""
    targets = ((0.0, 0.0), (0.7, 0.1), (0.0, -0.2), (-0.8, 0.0), (0.1, 0.3), (0.0, 0.0), (-0.4, -0.3))
    count, moment = int(time_s // 1.1), time_s % 1.1
    old, new = targets[count % len(targets)], targets[(count + 1) % len(targets)]
    part = _smoothstep((moment - 1.04) / 0.06)
    return old[0] + part * (new[0] - old[0]), old[1] + part * (new[1] - old[1])


# --- the picture ----------------------------------------------------------------------------------------------


class LivingPortrait:
    """The portrait, ready to be moved. `size_px` is the side of its square pictures."""

    def __init__(self, size_px: int = 384) -> None:
        if not 128 <= size_px <= 1024 or size_px % _Head.STEP:
            raise ValueError(f"size_px is {size_px}, expected 128 to 1024 in steps of {_Head.STEP}")
        left, top, side = _CROP
        photograph = _photograph()[top : top + side, left : left + side]
        self.still: _Picture = cv2.resize(photograph, (size_px, size_px), interpolation=cv2.INTER_LANCZOS4)  # type: ignore[assignment]
        # Photograph to picture, and to where cv2.remap puts a pixel's centre: on whole numbers.
        landmarks = (_landmarks() - np.array([left, top, 0], np.float32)) * np.float32(size_px / side)
        landmarks[:, :2] -= 0.5
        unit_px = float(np.linalg.norm(landmarks[_LEFT_IRIS, :2] - landmarks[_RIGHT_IRIS, :2]))
        self._brows = _Brows(landmarks, unit_px=unit_px, size_px=size_px)
        self._eyes = tuple(
            _Eye(landmarks, upper, lower, brow, unit_px=unit_px)
            for (upper, lower), brow in ((_LEFT_EYE, _LEFT_BROW), (_RIGHT_EYE, _RIGHT_BROW))
        )
        self._mouth = _Mouth(landmarks, unit_px=unit_px, size_px=size_px)
        self._head = _Head(landmarks, unit_px=unit_px, size_px=size_px)

    def picture(self, motion: Motion) -> _Picture:
        """Return uint8 [size_px, size_px, 3], RGB."""
        rgb = self.still.copy()
        self._brows.paint(rgb, self.still, motion)
        for eye in self._eyes:
            eye.paint(rgb, self.still, motion, self._brows)
        self._mouth.paint(rgb, self.still, motion)
        return self._head.turn(rgb, motion)


@dataclass(frozen=True, slots=True, eq=False)
class _Box:
    """A rectangle of the picture, the part that one motion touches."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grid(self) -> tuple[_Field, _Field]:
        """Return x and y of every pixel centre, on whole numbers as cv2.remap counts them."""
        columns = np.arange(self.left, self.right, dtype=np.float32)
        x, y = np.meshgrid(columns, np.arange(self.top, self.bottom, dtype=np.float32))
        return x, y


class _Brows:
    """The brows: the forehead below the hair moves, less and less towards lids and temples."""

    def __init__(self, landmarks: NDArray[np.float32], *, unit_px: float, size_px: int) -> None:
        self._box = _Box(0, int(landmarks[_NOSE_BASE, 1]), 0, size_px)
        self._x, y = self._box.grid()
        self._y = y
        self._raised = np.zeros_like(y)
        for brow, (lid, _) in ((_LEFT_BROW, _LEFT_EYE), (_RIGHT_BROW, _RIGHT_EYE)):
            points = landmarks[list(brow)]
            across = np.abs(self._x - points[:, 0].mean()) / (
                0.5 * float(np.ptp(points[:, 0])) + 0.28 * unit_px
            )
            line = _curve(points, self._x[0])
            eyelid = np.minimum(_curve(landmarks[list(lid)], self._x[0]), line + 0.5 * unit_px)
            rising = _smooth((eyelid - y) / np.maximum(eyelid - line, 1))
            fading = _smooth((y - (line - 0.5 * unit_px)) / (0.4 * unit_px))
            self._raised = np.maximum(self._raised, _smooth(1 - across) * np.where(y > line, rising, fading))
        self._raised *= np.float32(0.07 * unit_px)

    def shift(self, motion: Motion, box: _Box) -> _Field:
        """Return the displacement downwards inside a box that lies within the brows' own."""
        return np.float32(motion.brow) * self._raised[box.area]

    def paint(self, rgb: _Picture, still: _Picture, motion: Motion) -> None:
        if motion.brow:
            rgb[self._box.area] = _sample(still, self._x, self._y + self.shift(motion, self._box))


class _Eye:
    """One eye: an opening with a lid that comes down over it and an iris that moves behind it."""

    def __init__(
        self,
        landmarks: NDArray[np.float32],
        upper: tuple[int, ...],
        lower: tuple[int, ...],
        brow: tuple[int, ...],
        *,
        unit_px: float,
    ) -> None:
        start, end = landmarks[upper[0], 0], landmarks[upper[-1], 0]
        top, bottom = landmarks[list(brow), 1].min(), landmarks[list(lower), 1].max()
        self._box = _Box(int(top) - 2, int(bottom) + 5, int(start) - 2, int(end) + 4)
        self._x, self._y = self._box.grid()
        columns = self._x[0]
        self._upper = _curve(landmarks[list(upper)], columns)
        self._lower = np.maximum(_curve(landmarks[list(lower)], columns), self._upper)
        self._top = np.minimum(_curve(landmarks[list(brow)], columns), self._upper - 2)
        across = np.clip((columns - start) / (end - start), 0, 1)
        self._reach = np.float32(0.075 * unit_px) * np.maximum(np.sin(np.float32(np.pi) * across), 0)
        self._open = (columns > start) & (columns < end)

    def paint(self, rgb: _Picture, still: _Picture, motion: Motion, brows: _Brows) -> None:
        """Draw the eyeball into the opening, then the lid over it."""
        part = rgb[self._box.area]
        if motion.gaze_x or motion.gaze_y:
            inside = _ramp(self._y - self._upper, 1.2) * _ramp(self._lower - self._y, 1.2)
            reach_x, reach_y = motion.gaze_x * self._reach, 0.5 * motion.gaze_y * self._reach
            eyeball = _sample(still, self._x - reach_x, self._y - reach_y)
            part = _blend(part, eyeball, np.where(self._open, inside, np.float32(0)))
        if motion.blink:
            height = self._lower - self._upper
            margin = self._upper + np.float32(motion.blink) * (height + np.minimum(height, 1.0))
            # The skin between brow and margin stretches; past the margin it goes on unstretched, for a soft edge.
            stretch = (margin - self._upper) / (margin - self._top)
            shift_y = (self._top - np.clip(self._y, self._top, margin)) * stretch
            lid = _sample(still, self._x, self._y + shift_y + brows.shift(motion, self._box))
            covered = _ramp(margin - self._y, 1.5) * (self._y > self._top)
            part = _blend(part, lid, np.where(self._open, covered, np.float32(0)))
        rgb[self._box.area] = part


class _Mouth:
    """The mouth: lips and jaw that part, and what is seen between them."""

    def __init__(self, landmarks: NDArray[np.float32], *, unit_px: float, size_px: int) -> None:
        chin, nose, neck = landmarks[_CHIN, 1], landmarks[_NOSE_BASE, 1], 0.75 * unit_px
        start, end = landmarks[_UPPER_LIP[0], 0], landmarks[_UPPER_LIP[-1], 0]
        centre, half_width = (start + end) / 2, (end - start) / 2
        jaw = (landmarks[_JAW[1], 0] - landmarks[_JAW[0], 0]) / 2
        reach = max(1.25 * jaw, half_width) + 1
        self._box = _Box(
            int(nose),
            min(int(chin + neck) + 1, size_px),
            int(centre - reach),
            min(int(centre + reach) + 1, size_px),
        )
        self._x, self._y = self._box.grid()
        columns, y = self._x[0], self._y
        self._upper = _curve(landmarks[list(_UPPER_LIP)], columns)
        self._lower = np.maximum(_curve(landmarks[list(_LOWER_LIP)], columns), self._upper)
        gap, middle = self._lower - self._upper, (self._upper + self._lower) / 2
        self._columns = (columns > start) & (columns < end)
        between = np.maximum(0, 1 - ((columns - centre) / half_width) ** 2)
        beside = _smooth((1.25 * jaw - np.abs(columns - centre)) / (0.75 * jaw))
        below = _smooth((chin + neck - y) / neck)
        falling = _smooth((y - nose) / (chin - nose)) * beside * below
        # The corners of the mouth go a part of the jaw's way, the middle of the lower lip all of it.
        self._jaw_px = np.float32(0.3 * unit_px)
        self._opening_upper: _Field = falling * (1 - between)
        self._opening_lower: _Field = falling + (below - falling) * between
        self._closing_upper = _smooth((y - nose) / (middle - nose)) * gap
        self._closing_lower = _smooth((chin - y) / (chin - middle)) * gap

    def paint(self, rgb: _Picture, still: _Picture, motion: Motion) -> None:
        """Draw the face above the line between the lips, the face below it, and what the lips leave open."""
        if not motion.jaw:
            return
        opening, closing = np.float32(max(motion.jaw, 0.0)) * self._jaw_px, np.float32(max(-motion.jaw, 0.0))
        upper_y = self._y - opening * self._opening_upper - 0.4 * closing * self._closing_upper
        lower_y = self._y - opening * self._opening_lower + 0.6 * closing * self._closing_lower
        # How far from the lips' margins a pixel is, measured in the portrait, where the margins are known.
        under_upper_lip, over_lower_lip = upper_y - self._upper, self._lower - lower_y
        face = _sample(still, self._x, upper_y)
        face = _blend(face, _sample(still, self._x, lower_y), _ramp(-over_lower_lip, 1.2))
        seen = _ramp(under_upper_lip, 1.2) * _ramp(over_lower_lip, 1.2)
        teeth = _ramp(self._lower - 0.5 - self._y, 1.5)[..., None]  # the upper ones: they stay with the skull
        depth = np.clip(over_lower_lip / self._jaw_px, 0, 1)[..., None]
        inside = _MOUTH_NEAR * (1 - depth) + _MOUTH_DEEP * depth
        inside += (still[self._box.area] - inside) * teeth
        rgb[self._box.area] = _blend(
            face, inside.astype(np.uint8), np.where(self._columns, seen, np.float32(0))
        )


class _Head:
    """The head, turned in three dimensions about the neck; on a grid of a quarter of the picture's resolution."""

    STEP: Final = 4

    def __init__(self, landmarks: NDArray[np.float32], *, unit_px: float, size_px: int) -> None:
        self._size_px, self._unit_px = size_px, unit_px
        self._full_places = np.dstack(_Box(0, size_px, 0, size_px).grid())
        grid = np.arange(0, size_px, self.STEP, dtype=np.float32) + (self.STEP - 1) / 2
        self._x, self._y = np.meshgrid(grid, grid)
        self._places = np.dstack([self._x, self._y])
        points = landmarks.copy()
        # A tracker's depth of a frontal face is shallow: half as much again turns the head by the angle it is told.
        points[:, 2] = 1.5 * (points[:, 2] - points[_FOREHEAD, 2])
        middle = (points[_FOREHEAD, :2] + points[_CHIN, :2]) / 2
        self._neck = np.array([middle[0], middle[1] + 1.6 * unit_px, 1.1 * unit_px], np.float32)
        # Hair, face and neck turn as one; what is around them is pulled along a little.
        across = (self._x - middle[0]) / (1.75 * unit_px)
        down = self._y - (middle[1] - 0.35 * unit_px)
        along = np.where(down < 0, down / (1.95 * unit_px), down / (2.05 * unit_px))
        self._weight: _Field = _smooth((1.6 - np.hypot(across, along)) / 0.65)
        self._depth = self._depth_field(points)
        mouth = (points[_UPPER_LIP[0]] + points[_UPPER_LIP[-1]]) / 2
        away = np.hypot((self._x - mouth[0]) / (0.95 * unit_px), (self._y - mouth[1]) / (0.6 * unit_px))
        self._broaden: _Field = (self._x - mouth[0]) * _smooth(1 - away)

    def _depth_field(self, points: NDArray[np.float32]) -> _Field:
        """Spread the landmarks' depths over the grid: near them their mean, far from them that of the ears."""
        total = np.full(self._x.shape, 1e-3, np.float32)
        depth = total * np.quantile(points[:, 2], 0.98).astype(np.float32)
        for x, y, z in points[:468]:
            column, row = int(x) // self.STEP, int(y) // self.STEP
            total[row, column] += 1
            depth[row, column] += z
        sigma = 0.14 * self._unit_px / self.STEP
        mean = _blur(depth, sigma) / _blur(total, sigma)
        return _blur(mean, sigma)

    def turn(self, rgb: _Picture, motion: Motion) -> _Picture:
        """Move the whole head."""
        away = self._displacement(motion)
        # Where it came from: u(p) = -d(p + u(p)). Six rounds leave 0.1 px at the widest
        # displacement of the script, 28 px of 384, and far less elsewhere.
        back = -away
        for _ in range(6):
            at = (self._places + back) / self.STEP - (self.STEP - 1) / (2 * self.STEP)
            back = -_remap(away, at, cv2.INTER_LINEAR)
        return _remap(
            rgb, self._full_places + cv2.resize(back, (self._size_px, self._size_px)), cv2.INTER_CUBIC
        )

    def _displacement(self, motion: Motion) -> NDArray[np.float32]:
        """Return how far each place of the grid moves, in x and y: [rows, columns, 2]."""
        x, y, z = self._x - self._neck[0], self._y - self._neck[1], self._depth - self._neck[2]
        yaw, pitch, roll = (math.radians(a) for a in (motion.yaw_deg, motion.pitch_deg, motion.roll_deg))
        turned_x = x * math.cos(yaw) - z * math.sin(yaw)
        z = x * math.sin(yaw) + z * math.cos(yaw)
        turned_y = y * math.cos(pitch) - z * math.sin(pitch)
        final_x = turned_x * math.cos(roll) - turned_y * math.sin(roll)
        final_y = turned_x * math.sin(roll) + turned_y * math.cos(roll)
        # Orthographic: one part in ten nearer is not seen at these angles.
        away_x = self._weight * (final_x - x + motion.shift_x * self._unit_px)
        away_y = self._weight * (final_y - y + motion.shift_y * self._unit_px)
        return np.dstack([away_x + 0.07 * motion.mouth_width * self._broaden, away_y])


def _curve(points: NDArray[np.float32], columns: _Field) -> _Field:
    """Return the height of a line through points, for each column; level beyond its ends."""
    order = np.argsort(points[:, 0])
    heights: _Field = np.interp(columns, points[order, 0], points[order, 1]).astype(np.float32)
    return heights


def _smooth(value: NDArray[Any]) -> _Field:
    value = np.clip(value, 0, 1)
    smooth: _Field = (value * value * (3 - 2 * value)).astype(np.float32)
    return smooth


def _ramp(distance_px: NDArray[Any], feather_px: float) -> _Field:
    """Return 0 outside and 1 inside of an edge, with a soft step at it."""
    ramp: _Field = np.clip(distance_px / feather_px + 0.5, 0, 1).astype(np.float32)
    return ramp


def _blur(field: _Field, sigma: float) -> _Field:
    return cv2.GaussianBlur(field, (0, 0), sigma).astype(np.float32, copy=False)


def _sample(source: _Picture, x: NDArray[Any], y: NDArray[Any]) -> _Picture:
    """Return the colours of `source` at the places (x, y) given for each pixel of the result."""
    return _remap(source, cv2.merge([x.astype(np.float32), y.astype(np.float32)]), cv2.INTER_CUBIC)


def _remap(source: _Pixels, places: NDArray[Any], how: int) -> _Pixels:
    """Return what `source` holds at places [h, w, 2] in x and y; beyond its border what is at the border."""
    found = cv2.remap(source, places, None, how, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return found.astype(source.dtype, copy=False)  # type: ignore[no-any-return]


def _blend(below: _Picture, above: _Picture, alpha: _Field) -> _Picture:
    part = alpha[..., None]
    blended: _Picture = (below * (1 - part) + above * part + np.float32(0.5)).astype(np.uint8)
    return blended


def _photograph() -> _Picture:
    try:
        from skimage import data
    except ImportError as error:  # the reason is worth more than a trace back
        raise MienError(f"the portrait comes with scikit-image, which cannot be imported: {error}") from error
    photograph: _Picture = data.astronaut()
    return photograph


def _landmarks() -> NDArray[np.float32]:
    """Return float32 [478, 3]: the portrait's landmarks in pixels of the photograph, found once by the tracker."""
    with resources.files("mien.encoder").joinpath("assets/astronaut_landmarks.npy").open("rb") as file:
        landmarks: NDArray[np.float32] = np.load(file, allow_pickle=False)
    return landmarks


# --- the source -----------------------------------------------------------------------------------------------


class SyntheticSource:
    """A `Source` of the living portrait: `seconds` of a script from `start_s` on, always the same pixels.

    `live`: frames come at their own time, as from a camera; those that nobody took in time are never drawn, and
    counted in `missed`. Otherwise all come as fast as they are taken.
    """

    name: Final = SOURCE_NAME

    def __init__(
        self,
        seconds: float,
        *,
        start_s: float = 0.0,
        rate: Fraction = Fraction(30),
        size_px: int = 384,
        live: bool = False,
        script: Callable[[float], Motion] = motion_at,
    ) -> None:
        self._script = script
        self._portrait = LivingPortrait(size_px)
        self._start_s = start_s
        self._closed = threading.Event()
        self.rate = rate
        self.live = live
        self.width = self.height = size_px
        self.frame_count = round(seconds * rate)
        self.missed = 0

    def __iter__(self) -> Iterator[Frame]:
        for count, index in enumerate(self._due_in_time() if self.live else range(self.frame_count)):
            if self._closed.is_set():
                return
            time_s = index / self.rate
            rgb = self._portrait.picture(self._script(self._start_s + float(time_s)))
            yield Frame(rgb=rgb, timestamp_us=round(time_s * 1_000_000), index=count)

    def _due_in_time(self) -> Iterator[int]:
        """Wait for each frame's time; leave out those that are more than a period late."""
        begin_s = time.monotonic()
        index = 0
        while index < self.frame_count:
            now = Fraction(time.monotonic() - begin_s) * self.rate  # in frames
            if now >= index + 1:
                late = min(math.floor(now), self.frame_count) - index
                self.missed += late
                index += late
                continue
            self._closed.wait(max(0.0, float((index - now) / self.rate)))
            yield index
            index += 1

    def close(self) -> None:
        """End a running iteration."""
        self._closed.set()
