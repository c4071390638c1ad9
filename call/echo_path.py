"""Whether what the loudspeaker plays comes back through the microphone, or goes into headphones. No clock inside.

An echo canceller takes away a good part of a voice that speaks at the same time as the other side, also where there is
no echo: then it has nothing to do, and harms. Two signs are looked for:

- While the other side is loud and nobody speaks here, the microphone hears an echo, or nothing but the room. If for
  most of such a time it is as quiet as it ever gets, there is no echo.
- If its loudness then follows the other side's from syllable to syllable, there is one again: the headphones were
  taken off.

Until something is known, there may be an echo.
"""

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

FRAME_US: Final = 20_000
LOUD: Final = 1e5  # mean square of 16-bit samples: 40 dB below full scale
SILENT: Final = 1e3
LOUD_US: Final = 120_000  # the other side is loud where it was on average for so long
FLOOR_FRAMES: Final = 1000  # 20 s
LEAST_FLOOR_FRAMES: Final = 250
FLOOR_PERCENTILE: Final = 3
LOUD_FRAMES: Final = 200  # 4 s of the other side
LEAST_LOUD_FRAMES: Final = 100
QUIET_PERCENTILE: Final = 40  # of the time in which the other side is loud nobody speaks here
AS_QUIET: Final = 2.0  # times the floor
QUIETEST: Final = 1.0
FOLLOWED_FRAMES: Final = 150  # 3 s
SMOOTHED: Final = 25  # frames: what is slower is no syllable, but whose turn it is
MOST_LAG: Final = 12  # frames from the loudspeaker's sound to its echo
FOLLOWS: Final = (
    0.65  # correlation of both loudnesses; two people who speak at the same time have less than .5
)
LEAST_SPREAD: Final = 0.5  # of the logarithm of the other side's power, for a correlation to mean something
JUDGE_EVERY: Final = 10  # frames


class EchoPath:
    """Tell it what is played and what the microphone hears; `heard` says whether there may be an echo.

    Times are integer microseconds of one clock; powers are mean squares of 16-bit samples.
    """

    def __init__(self) -> None:
        self.heard = True
        self._played: deque[tuple[int, float]] = deque()  # when it is in the air, its power
        self._floor: deque[float] = deque(maxlen=FLOOR_FRAMES)
        self._loud: deque[float] = deque(maxlen=LOUD_FRAMES)
        self._far: deque[float] = deque(maxlen=FOLLOWED_FRAMES + MOST_LAG)  # frame by frame
        self._near: deque[float] = deque(maxlen=FOLLOWED_FRAMES)
        self._frames = 0

    def play(self, samples: NDArray[np.int16], air_us: int) -> None:
        """Take what is in the air from a time on: int16, 20 ms."""
        self._played.append((air_us, power(samples)))

    def hear(self, samples: NDArray[np.int16], captured_us: int) -> None:
        """Take 20 ms of the microphone that began at a time, as they came."""
        while self._played and self._played[0][0] <= captured_us - LOUD_US:
            self._played.popleft()
        heard = power(samples)
        past = [(air_us, p) for air_us, p in self._played if air_us <= captured_us]
        self._floor.append(heard)
        if past and np.mean([p for _, p in past]) > LOUD:
            self._loud.append(heard)
        self._far.append(sum(p for air_us, p in past if air_us > captured_us - FRAME_US))
        self._near.append(heard)
        self._frames += 1
        if self._frames % JUDGE_EVERY == 0:
            self._judge()

    def _judge(self) -> None:
        if self.heard:
            self.heard = not self._is_as_quiet_as_the_room()
        elif self._follows():
            self.heard = True
            self._loud.clear()

    def _is_as_quiet_as_the_room(self) -> bool:
        if len(self._floor) < LEAST_FLOOR_FRAMES or len(self._loud) < LEAST_LOUD_FRAMES:
            return False
        floor = max(float(np.percentile(self._floor, FLOOR_PERCENTILE)), QUIETEST)
        return float(np.percentile(self._loud, QUIET_PERCENTILE)) < AS_QUIET * floor

    def _follows(self) -> bool:
        """Return whether the microphone's loudness is the other side's, a little later."""
        if len(self._far) < FOLLOWED_FRAMES + MOST_LAG:
            return False
        far, near = (syllables(np.array(powers)) for powers in (self._far, self._near))
        if far.std() < LEAST_SPREAD:
            return False
        parts = (far[MOST_LAG - lag : MOST_LAG - lag + FOLLOWED_FRAMES] for lag in range(MOST_LAG + 1))
        return max(correlation(part, near) for part in parts) > FOLLOWS


def power(samples: NDArray[np.int16]) -> float:
    """Return the mean square."""
    return float(np.square(samples, dtype=np.float64).mean()) if len(samples) else 0.0


def syllables(powers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how loud each frame is against half a second around it: natural logarithms of power."""
    loudness = np.log(powers + SILENT)
    around = np.pad(loudness, SMOOTHED // 2, mode="edge")
    return loudness - np.convolve(around, np.full(SMOOTHED, 1 / SMOOTHED), "valid")


def correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return Pearson's, 0 where one of them does not change."""
    a, b = one - one.mean(), other - other.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 1e-9 else 0.0
