"""A log's scene is drawn the same however its pictures are asked for."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mien.decoder.renderer import Renderer
from mien.decoder.scene import Drawing
from mien.decoder.scene_decoder import ScenePicture
from mien.decoder.scene_painter import ScenePainter, SceneReplay
from mien.encoder.scene_encoder import SceneEncoder
from mien.encoder.scene_privacy import ScenePrivacy
from mien.models.face_model import FaceModel
from mien.protocol.scene import ScenePacker
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader
from tests.picture_fixtures import SIZE, UNIT_PX, made_up_avatar, state
from tests.scene_samples import TICK_RATE, moving_frame
from tests.stream_samples import stream_header

HOURS = 1 << 20  # a tick that does not fit the message's field


def header() -> StreamHeader:
    avatar_id = made_up_avatar().avatar_id[:8]
    return stream_header(stream=1, avatar_id=avatar_id, unit_px=UNIT_PX, width=SIZE, height=SIZE)


def renderer() -> Renderer:
    return Renderer(made_up_avatar(), FaceModel.load(), width=SIZE, height=SIZE, backend="numpy")


def messages(first: int, last: int) -> list[tuple[int, bytes]]:
    encoder = SceneEncoder(
        width=SIZE, height=SIZE, tick_rate=TICK_RATE, kbps=8, privacy=ScenePrivacy(show_face=True)
    )
    packer = ScenePacker(1)
    out = []
    for tick in range(first, last):
        unit = encoder.encode(tick, *moving_frame(tick - first))
        if unit is not None:
            out += [(tick - 5, m) for m in packer.messages(unit)]
    encoder.close()
    return out


def face_at(position: Fraction) -> FaceState:
    return state(x=0.2 * float(np.sin(float(position) / 9)))


def pictures(replay: SceneReplay, ticks: list[int]) -> dict[int, NDArray[np.uint8]]:
    return {tick: replay.render(face_at, Fraction(tick)) for tick in ticks}


def test_forwards_in_strides_and_backwards_draw_the_same() -> None:
    sent = messages(0, 40)
    forward = pictures(SceneReplay(sent, renderer(), header()), list(range(40)))
    strides = pictures(SceneReplay(sent, renderer(), header()), list(range(0, 40, 6)))
    backward = pictures(SceneReplay(sent, renderer(), header()), [38, 37, 38, 20, 3])
    for some in (strides, backward):
        assert all((forward[tick] == picture).all() for tick, picture in some.items())
    plain = renderer()
    moved = [np.abs(plain.render(face_at(Fraction(t))).astype(int) - forward[t]).mean() for t in forward]
    assert min(moved) > 1


def test_before_the_first_picture_comes_near_nothing_is_corrected() -> None:
    sent = messages(HOURS, HOURS + 10)
    replay, plain = SceneReplay(sent, renderer(), header()), renderer()
    drawn = {
        tick: replay.render(face_at, Fraction(tick)) for tick in (HOURS - 9, HOURS - 5, HOURS, HOURS + 2)
    }
    untouched = [(plain.render(face_at(Fraction(t))) == picture).all() for t, picture in drawn.items()]
    assert untouched == [True, True, False, False]


def test_bytes_that_are_none_are_passed_over() -> None:
    sent = messages(0, 10)
    spoiled = [(0, b"\x41\xff\x00"), *sent[:1], (0, b""), *sent[1:]]
    for tick in (0, 6):
        a = SceneReplay(sent, renderer(), header()).render(face_at, Fraction(tick))
        b = SceneReplay(spoiled, renderer(), header()).render(face_at, Fraction(tick))
        assert (a == b).all()


def test_a_flood_of_pictures_costs_few_drawings() -> None:
    painted = []

    class Counting(Renderer):
        def paint(self, drawing: Drawing) -> NDArray[np.uint8]:
            painted.append(drawing)
            return super().paint(drawing)

    counting = Counting(made_up_avatar(), FaceModel.load(), width=SIZE, height=SIZE, backend="numpy")
    painter = ScenePainter(counting, header(), most_at_once=3)
    for tick in range(100):
        painter.add(ScenePicture(tick, moving_frame(0)[0], face=True))
    painter.render(face_at, Fraction(99), state())
    assert len(painted) == 4


def test_a_picture_waits_for_its_face_and_is_dropped_after_it() -> None:
    painter = ScenePainter(renderer(), header())
    plain = renderer().render(state())
    painter.add(ScenePicture(4, moving_frame(0)[0], face=True))

    def unknown(position: Fraction) -> None:
        return None

    assert (painter.render(unknown, Fraction(3), state()) == plain).all()
    assert not (painter.render(face_at, Fraction(4), state()) == plain).all()
    late = ScenePainter(renderer(), header())
    late.add(ScenePicture(4, moving_frame(0)[0], face=True))
    assert (late.render(unknown, Fraction(5), state()) == plain).all()
    assert (late.render(face_at, Fraction(5), state()) == plain).all()
