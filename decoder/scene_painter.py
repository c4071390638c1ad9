"""Draws an avatar's states with a stream's scene pictures: the renderer draws, the scene layer corrects."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.decoder.renderer import Renderer
from mien.decoder.scene_decoder import SceneDecoder, ScenePicture
from mien.decoder.scene_layer import SceneLayer, corrected
from mien.models.generator_fields import Network
from mien.protocol.errors import WireError
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader

# A picture is used this long before its time, which is how far apart they are, to go over into it smoothly. A
# receiver has it by then: it is sent at once, while the coefficients of its time wait for their message to be complete,
# and for the playout.
AHEAD_S: Final = Fraction(2, 15)
MAX_WAITING: Final = 16
MAX_DRAWN: Final = 6

StateAt = Callable[[Fraction], FaceState | None]


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """A state, its picture, and the mesh's vertices [v, 3] in the picture's pixels."""

    state: FaceState
    rgb: NDArray[np.uint8]
    positions: NDArray[np.float32]


class ScenePainter:
    """One stream's. Use it from the renderer's thread.

    `most_at_once`: of pictures that are due together, the older ones are left out beyond so many: each costs a drawing.
    """

    def __init__(
        self,
        renderer: Renderer,
        stream: StreamHeader,
        *,
        most_at_once: int = MAX_WAITING,
        generator: Network | None = None,
    ) -> None:
        self._renderer = renderer
        self._most_at_once = most_at_once
        self._ahead = int(AHEAD_S * stream.tick_rate)
        self._layer = SceneLayer(
            width=renderer.width,
            height=renderer.height,
            stream_width=stream.width,
            stream_height=stream.height,
            tick_rate=stream.tick_rate,
            generator=generator,
        )
        self._waiting: deque[ScenePicture] = deque(maxlen=MAX_WAITING)
        self._drawn: deque[_Drawn] = deque(maxlen=MAX_DRAWN)
        self.plain: NDArray[np.uint8] | None = None  # the latest picture without the scene

    @property
    def known_from(self) -> int:
        """Positions before this tick cannot be drawn as they were."""
        return self._layer.known_from

    def add(self, picture: ScenePicture) -> None:
        """Take a picture; of too many that wait for their time, the oldest go."""
        self._waiting.append(picture)

    def reaches(self, position: Fraction) -> bool:
        """Return whether later pictures can be left for later."""
        return bool(self._waiting) and self._waiting[-1].tick > position + self._ahead

    def render(self, state_at: StateAt, position: Fraction, state: FaceState) -> NDArray[np.uint8]:
        """Return RGB uint8 [height, width, 3] for a position in ticks and its state.

        `state_at` gives the face at others; None where it is not known (any more, or yet): a picture of such a tick
        waits for its time, and is of no use after it.
        """
        due = sum(picture.tick <= position + self._ahead for picture in self._waiting)
        for _ in range(due - self._most_at_once):
            self._waiting.popleft()
        while self._waiting and self._waiting[0].tick <= position + self._ahead:
            face = state_at(Fraction(self._waiting[0].tick))
            if face is None and self._waiting[0].tick > position:
                break
            picture = self._waiting.popleft()
            if face is not None:
                drawn = self._drawn_of(face)
                self._layer.add(picture, drawn.rgb, drawn.positions)
        now = self._drawn_of(state)
        self.plain = now.rgb
        blend = self._layer.blend(now.positions, position)
        if blend is None:
            return now.rgb
        correct = self._renderer.corrector or corrected
        return correct(now.rgb, blend)

    def _drawn_of(self, state: FaceState) -> _Drawn:
        """Return what is drawn of a state. One that was drawn ahead, for its scene picture, is not drawn again."""
        for drawn in self._drawn:
            if drawn.state is state:
                return drawn
        drawing = self._renderer.pose(state)
        self._drawn.append(_Drawn(state, self._renderer.paint(drawing), drawing.positions))
        return self._drawn[-1]


class SceneReplay:
    """Feeds a painter from a log's scene messages, as far as each position asks for.

    Positions should go forward: far back means from the beginning again.
    """

    def __init__(
        self,
        messages: Sequence[tuple[int, bytes]],
        renderer: Renderer,
        stream: StreamHeader,
        *,
        generator: Network | None = None,
    ) -> None:
        """`messages` as in `mien.decoder.recording.Segment.scene`."""
        self._all, self._renderer, self._stream, self._generator = messages, renderer, stream, generator
        self._rewind()

    def _rewind(self) -> None:
        self._messages: Iterator[tuple[int, bytes]] = iter(self._all)
        self._painter = ScenePainter(self._renderer, self._stream, generator=self._generator)
        self._decoder = SceneDecoder(self._stream.stream)

    def render(self, state_at: Callable[[Fraction], FaceState], position: Fraction) -> NDArray[np.uint8]:
        """Return RGB uint8 [height, width, 3] for a position in ticks; `state_at` gives the face at any."""
        if position < self._painter.known_from:
            self._rewind()
        while not self._painter.reaches(position) and (item := next(self._messages, None)) is not None:
            tick, message = item
            self._decoder.note_tick(tick)
            try:
                pictures = self._decoder.decode(message)
            except WireError:
                continue  # counted by whoever read the log
            for picture in pictures:
                self._painter.add(picture)
        return self._painter.render(state_at, position, state_at(position))
