"""Examples for a fine-tune, on the player's own path: what it would draw and see of a person at each instant."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from typing import Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from mien.decoder.framing import Framing
from mien.decoder.generator import Generator
from mien.decoder.recording import Segment
from mien.decoder.renderer import Renderer
from mien.decoder.scene_decoder import ScenePicture, open_decoder, rgb_of
from mien.decoder.scene_layer import Correction, MeshNow, SceneLayer, indices, outside_face
from mien.decoder.scene_painter import ScenePainter
from mien.models.face_model import FaceModel
from mien.models.generator_examples import SCALE, TICKS, Examples
from mien.models.generator_fields import DIVISOR
from mien.protocol.avatar import Avatar
from mien.protocol.errors import MienError
from mien.protocol.scene import DELIMITER, SceneUnit

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]

DRAWN_AREA: Final = 256 * 256  # pixels
MOTION_SHARE: Final = 4  # the mesh's motion is kept on a grid so many times coarser


def drawn_size(width: int, height: int) -> tuple[int, int]:
    """Return width and height at which a source is drawn to be learned from, and judged: in its own shape."""
    scale = (DRAWN_AREA / (width * height)) ** 0.5
    return max(2, 2 * round(scale * width / 2)), max(2, 2 * round(scale * height / 2))


def scene_pictures(units: Sequence[SceneUnit]) -> Iterator[ScenePicture]:
    """Decode a scene."""
    decoder = open_decoder()
    for unit in units:
        rgb = rgb_of(decoder.decode(av.Packet(DELIMITER + unit.data)))
        if rgb is not None:
            yield ScenePicture(unit.tick, rgb, unit.face)


class Play:
    """A talk to be played to learn from it, or to judge by it: an avatar, its states, scenes, and the original.

    `places`: the position in ticks of each of the originals, RGB uint8 of `drawn_size`.
    """

    def __init__(
        self,
        avatar: Avatar,
        segment: Segment,
        scenes: Sequence[Sequence[SceneUnit]],
        originals: Sequence[Picture],
    ) -> None:
        """Raises `MienError` where they do not fit together."""
        self._avatar, self._segment, self._scenes = avatar, segment, scenes
        self._originals = originals
        self._places = [place for _, place in segment.source_frames()]
        if len(self._places) != len(originals):
            raise MienError(f"{len(self._places)} places for {len(originals)} pictures")
        self._size = drawn_size(segment.stream.width, segment.stream.height)

    def examples(self, tell: Callable[[], None] = lambda: None) -> Examples:
        """Return what can be learned from. `tell` is called for each frame that was drawn. Raises `MienError`."""
        with closing(self._renderer()) as renderer:
            states = [self._segment.track.state_at(place) for place in self._places]
            drawn, positions = [], []
            for state in states:
                drawing = renderer.pose(state)
                drawn.append(renderer.paint(drawing))
                positions.append(np.asarray(drawing.positions, np.float32))
                tell()
        numbers = {int(place): n for n, place in enumerate(self._places) if place.denominator == 1}
        scenes = [self._corrections(scene, drawn, positions, numbers) for scene in self._scenes]
        # All are coded at the same ticks, but for one that kept a picture back.
        ticks = sorted(set.intersection(*(set(scene) for scene in scenes)))
        if len(ticks) < TICKS:
            raise MienError(f"{len(ticks)} pictures of a scene, {TICKS} are needed: a longer clip gives more")
        return self._together(
            [[scene[t] for t in ticks] for scene in scenes], ticks, drawn, positions, numbers
        )

    def judged(
        self, generator: Generator | None, scene: int, *, step: int
    ) -> Iterator[tuple[Picture, Picture]]:
        """Draw the talk with one of its scenes; give every `step`-th picture, as painted and as it was."""
        with closing(self._renderer()) as renderer:
            painter = ScenePainter(renderer, self._segment.stream, generator=generator)
            waiting = scene_pictures(self._scenes[scene])
            due = next(waiting, None)
            for number, place in enumerate(self._places):
                while due is not None and not painter.reaches(place):
                    painter.add(due)
                    due = next(waiting, None)
                rgb = painter.render(self._segment.track.state_at, place, self._segment.track.state_at(place))
                if number % step == step - 1:
                    yield rgb, self._originals[number]

    def _renderer(self) -> Renderer:
        stream = self._segment.stream
        framing = Framing(float(stream.unit_px), stream.width, stream.height)
        width, height = self._size
        return Renderer(self._avatar, FaceModel.load(), width=width, height=height, stream=framing)

    def _corrections(
        self,
        units: Sequence[SceneUnit],
        drawn: Sequence[Picture],
        positions: Sequence[Floats],
        numbers: dict[int, int],
    ) -> dict[int, Correction]:
        """Return the corrections without weights, by tick."""
        stream = self._segment.stream
        layer = SceneLayer(
            width=self._size[0],
            height=self._size[1],
            stream_width=stream.width,
            stream_height=stream.height,
            tick_rate=stream.tick_rate,
        )
        out: dict[int, Correction] = {}
        for picture in scene_pictures(units):
            number = numbers.get(picture.tick)
            if number is None:
                continue
            layer.add(picture, drawn[number], positions[number])
            if layer.newest is not None and layer.newest.tick == picture.tick:
                out[picture.tick] = layer.newest
        return out

    def _together(
        self,
        scenes: Sequence[Sequence[Correction]],
        ticks: Sequence[int],
        drawn: Sequence[Picture],
        positions: Sequence[Floats],
        numbers: dict[int, int],
    ) -> Examples:
        height, width = scenes[0][0].paint.shape
        grid = width, height
        if width % DIVISOR or height % DIVISOR:
            raise MienError(f"a scene of {width} x {height} is none that the generator looks at")
        first, last = numbers[ticks[0]], numbers[ticks[-1]]
        kept = range(first, last)  # a frame at the last tick has no tick after it
        scale = np.array([width / self._size[0], height / self._size[1]], np.float32)
        placed = [
            np.concatenate([p[:, :2] * scale, p[:, 2:]], 1).astype(np.float32)
            for p in positions[first : last + 1]
        ]
        tick_frames = np.array([numbers[tick] - first for tick in ticks], np.int32)
        left = np.searchsorted(tick_frames, np.arange(len(kept)), side="right") - 1
        meshes = [MeshNow(each, grid) for each in placed]

        def motion(now: int, then: int) -> NDArray[np.float16]:
            apart = meshes[now].was_at(placed[then]) - indices(*grid)
            small = max(2, width // MOTION_SHARE), max(2, height // MOTION_SHARE)
            return np.asarray(cv2.resize(apart, small, interpolation=cv2.INTER_AREA), np.float16)

        def fit(picture: Picture) -> Picture:
            size = SCALE * width, SCALE * height
            if picture.shape[1::-1] == size:
                return picture
            return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)

        return Examples(
            truth=np.stack([fit(self._originals[n]) for n in range(first, last + 1)]),
            drawn=np.stack([fit(drawn[n]) for n in range(first, last + 1)]),
            outside=np.stack([np.rint(255 * outside_face(p, grid)[..., 0]) for p in placed]).astype(np.uint8),
            positions=np.stack([p[:, :2] for p in placed]),
            tick_frames=tick_frames,
            left=left.astype(np.int32),
            share=np.array(
                [_share(self._places[n], ticks[k], ticks[k + 1]) for n, k in zip(kept, left, strict=True)],
                np.float32,
            ),
            to_left=np.stack([motion(n, int(tick_frames[k])) for n, k in enumerate(left)]),
            to_right=np.stack([motion(n, int(tick_frames[k + 1])) for n, k in enumerate(left)]),
            to_before=np.stack(
                [motion(int(n), int(tick_frames[max(k - 1, 0)])) for k, n in enumerate(tick_frames)]
            ),
            seen=np.stack([[np.rint(c.picture).astype(np.uint8) for c in scene] for scene in scenes]),
            base=np.stack([[c.fields()[..., :6].astype(np.float16) for c in scene] for scene in scenes]),
        )


def _share(place: Fraction, before: int, after: int) -> float:
    return float((place - before) / (after - before))
