"""Fuzzed: what a face travels as: stream headers, coefficient messages, packets of voice with a message in them."""

from functools import cache
from typing import Final

import numpy as np

from mien.bench.fuzz_samples import NOW_S, SIZE, avatar_file, make_renderer, messages, stream_header
from mien.bench.fuzz_target import Broken, Target, same
from mien.call.face_view import fit_view
from mien.call.opus_padding import put, take
from mien.decoder.framing import Framing
from mien.decoder.renderer import Renderer
from mien.models.face_model import FaceModel
from mien.protocol.avatar import parse_avatar
from mien.protocol.errors import WireError
from mien.protocol.message import CoefficientMessage
from mien.protocol.quantizer import from_steps
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader


def check_message(data: bytes) -> None:
    message = CoefficientMessage.parse(data)
    again = CoefficientMessage.parse(message.serialize())  # a body has one encoding only from our own encoder
    equal = np.array_equal(message.values, again.values) and np.array_equal(message.repeated, again.repeated)
    if not equal or (
        (message.tracked, message.repeats, message.still) != (again.tracked, again.repeats, again.still)
    ):
        raise Broken("accepted, but written and read again it is another")
    if not np.isfinite(from_steps(message.values, (32767,) * 6, message.step_index)).all():
        raise Broken("accepted with values that are not finite")


def ridden_packets() -> list[bytes]:
    """Packets of a voice that nobody has, with messages in them: of every code, with a voice and without."""
    sound = bytes(range(1, 41))
    packets = (b"\x18" + sound, b"\x19" + sound, b"\x1a\x07" + sound, b"\x0b\x83\x03\x11" + sound, b"\x08")
    return [
        put(packet, message, voice=len(packet) > 1)
        for packet, message in zip(packets, messages(), strict=False)
    ]


def check_ridden_packet(data: bytes) -> None:
    """A packet of voice, as it comes: what is in it, and what it then is."""
    taken = take(data)
    if taken is None:
        raise WireError("no message in it")
    again = take(put(b"\x08" if taken.voice is None else taken.voice, taken.message))
    if again is None or again.message != taken.message or again.voice != (taken.voice or b"\x08"):
        raise Broken("taken out, put in and taken out again it is another")


def check_messages_drawn(data: bytes) -> None:
    """From a message to a picture: whatever the values, there is one."""
    message = CoefficientMessage.parse(data)
    rows = from_steps(message.values, stream_header().rest_pose, message.step_index)
    rgb = sample_renderer().render(FaceState.from_coefficients(rows[-1]))
    if rgb.shape != (SIZE, SIZE, 3):
        raise Broken(f"drawn as {rgb.shape}")


@cache
def sample_renderer() -> Renderer:
    return make_renderer(parse_avatar(avatar_file(), now_unix_s=NOW_S))


def check_stream_header(data: bytes) -> None:
    same(data, StreamHeader.parse(data).serialize())


def check_stream_drawn(data: bytes) -> None:
    """Whatever framing a stream claims, there is a picture."""
    header = StreamHeader.parse(data)
    width, height = fit_view(header.width, header.height, SIZE)
    framing = Framing(float(header.unit_px), header.width, header.height)
    avatar = parse_avatar(avatar_file(), now_unix_s=NOW_S)
    renderer = Renderer(avatar, FaceModel.load(), width=width, height=height, stream=framing, backend="numpy")
    pose = (np.array(header.rest_pose) / 1000).astype(np.float32)
    renderer.render(FaceState(pose, np.zeros(30, np.float32)))


TARGETS: Final[tuple[Target, ...]] = (
    Target("message", "coefficient messages", lambda: list(messages()), check_message),
    Target(
        "message-drawn",
        "coefficient messages, to the picture",
        lambda: list(messages()),
        check_messages_drawn,
        20,
    ),
    Target("opus-padding", "messages in packets of voice", ridden_packets, check_ridden_packet),
    Target("stream", "stream headers", lambda: [stream_header().serialize()], check_stream_header),
    Target(
        "stream-drawn",
        "stream headers, to the picture",
        lambda: [stream_header().serialize()],
        check_stream_drawn,
        20,
    ),
)
