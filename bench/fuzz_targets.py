"""What is fuzzed: a table of parsers, each with samples that it accepts and a check of what it answers."""

import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mien.call.face_view import fit_view
from mien.call.opus_padding import put, take
from mien.call.signal_messages import (
    Joined,
    Left,
    Refused,
    Signal,
    SignalMessage,
    Welcome,
    parse_signal_message,
)
from mien.decoder.as_shown import ShownAgain
from mien.decoder.framing import Framing
from mien.decoder.playout import Playout, PlayoutSettings
from mien.decoder.recording import read_recording
from mien.decoder.renderer import Renderer
from mien.decoder.scene_decoder import MAX_SIDE, SceneDecoder, ScenePicture
from mien.decoder.stage import AvatarEvent, RungEvent, StageEvent, ViewEvent
from mien.encoder.scene_encoder import SceneEncoder
from mien.encoder.scene_privacy import ScenePrivacy
from mien.models.face_model import FaceModel, project
from mien.models.pictures import decode_matte, decode_picture, encode_matte, encode_picture
from mien.models.rings import default_rings
from mien.protocol import capsule, control
from mien.protocol.avatar import (
    Avatar,
    AvatarAssembler,
    AvatarContent,
    Declaration,
    Reference,
    assemble,
    parse_avatar,
    sign_avatar,
    sign_manifest,
)
from mien.protocol.codec import MessageEncoder
from mien.protocol.consent import DEFAULT_USES, Consent, ConsentKind
from mien.protocol.control import Rung, UnknownControl, parse_control
from mien.protocol.errors import WireError
from mien.protocol.log import (
    EventKind,
    EventRecord,
    FramesRecord,
    LogHeader,
    LogReader,
    LogWriter,
    MessageRecord,
    Origin,
    Record,
    RenderRecord,
    SourceFrame,
)
from mien.protocol.log_records import CRC_BYTES, FRAME, UnknownRecord, parse_record, serialize_record
from mien.protocol.manifest import OWNER_BYTES, Manifest
from mien.protocol.message import CoefficientMessage
from mien.protocol.quantizer import Quality, from_steps
from mien.protocol.repeats import Repeats
from mien.protocol.scene import SceneAssembler, SceneMessage, ScenePacker, SceneUnit
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader, TrackerId
from mien.protocol.tables import Tables
from mien.protocol.transfer import (
    HEAD_PART,
    ID_BYTES,
    AvatarReceiver,
    AvatarSender,
    Chunk,
    Done,
    Offer,
    RefusalReason,
    Refuse,
    TransferMessage,
    Want,
    parse_transfer,
)

NOW_S: Final = 1_800_000_000
SIZE: Final = 64
MEAN_FACE: Final = b"mean face"
DRAW_EVERY: Final = 16  # drawing an avatar takes a hundred times as long as reading it


class Broken(Exception):
    """A parser accepted what it should not have, or does not stand behind what it accepted."""


OPEN_SCENE: Final = ScenePrivacy(show_face=True)


@dataclass(frozen=True, slots=True)
class Target:
    """One parser. `check` raises `WireError` to refuse, returns to accept; anything else is a finding."""

    name: str
    about: str
    samples: Callable[[], list[bytes]]
    check: Callable[[bytes], None]
    cost: int = 1  # how many times fewer inputs than a cheap parser's

    def scaled(self, count: int) -> int:
        """Return how many mutations this target gets of `count`."""
        return -(-count // self.cost)


# --- Samples ------------------------------------------------------------------------------------------------


class TestKey:
    """An owner's key that everybody knows."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"mien fuzz").digest())

    @property
    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


@cache
def stream_header() -> StreamHeader:
    return StreamHeader(
        stream=1,
        tracker=TrackerId.FACE_LANDMARKER,
        model_id=FaceModel.load().model_id,
        tables_id=Tables.load().tables_id,
        avatar_id=assemble(avatar_file(), now_unix_s=NOW_S).avatar_id[:8],
        tick_rate=Fraction(30000, 1001),
        unit_px=Fraction(SIZE, 4),
        width=SIZE,
        height=SIZE,
        rest_pose=(10, -20, 30, 0, 5, -5),
    )


@cache
def messages() -> tuple[bytes, ...]:
    """Messages of each quality: a wandering face, a wild one, one that is lost on the way."""
    out = []
    for quality in Quality:
        for sigma in (0.003, 0.2):
            rng = np.random.default_rng(int(quality))
            encoder = MessageEncoder(stream_header(), quality=quality, frames_per_message=6)
            for tick in range(65533, 65539):
                values = rng.normal(0, sigma, 36).astype(np.float32)
                message = encoder.push(tick, FaceState.from_coefficients(values, tracked=tick % 5 > 0))
                out += [] if message is None else [message]
    return (*out, *overlapping_messages(), *still_messages())


def overlapping_messages() -> Iterator[bytes]:
    """Messages that repeat frames of earlier ones."""
    for sigma in (0.003, 0.2):
        rng = np.random.default_rng(5)
        encoder = MessageEncoder(stream_header(), frames_per_message=6)
        encoder.repeats = Repeats(3)
        for tick in range(18):
            message = encoder.push(
                tick, FaceState.from_coefficients(rng.normal(0, sigma, 36).astype(np.float32))
            )
            if message is not None and tick > 6:
                yield message


def still_messages() -> Iterator[bytes]:
    """What is sent of a face that does not move."""
    encoder = MessageEncoder(stream_header(), frames_per_message=2)
    for tick in range(6):
        message = encoder.push(tick, FaceState.from_coefficients(np.full(36, 0.02, np.float32)))
        if message is not None and tick > 2:
            yield message


@cache
def avatar_file() -> bytes:
    """A small avatar: three made-up pictures of the mean face, a matte, rings."""
    model = FaceModel.load()
    pose = np.zeros(6, np.float32)
    landmarks = project(model.mean, pose, unit_px=SIZE / 4, width=SIZE, height=SIZE)
    references = [
        Reference(encode_picture(made_up_face(landmarks, seed), quality=40), matte(), landmarks, slot)
        for slot, seed in enumerate((1, 2))
    ]
    content = AvatarContent(
        neutral=model.mean,
        appearance=np.linspace(-1, 1, 71).astype(np.float32),
        first=references[0],
        references=tuple(references),
        rings=default_rings(landmarks, pose, unit_px=SIZE / 4, width=SIZE, height=SIZE),
    )
    return sign_avatar(content, own_declaration(), TestKey())


def own_declaration() -> Declaration:
    return Declaration(
        name="fuzz",
        consent=Consent.of_self(NOW_S),
        uses=DEFAULT_USES[ConsentKind.SELF],
        created_unix_s=NOW_S,
        expires_unix_s=NOW_S + 1000,
        model_id=FaceModel.load().model_id,
        tracker=TrackerId.FACE_LANDMARKER,
        unit_px=Fraction(SIZE, 4),
        width=SIZE,
        height=SIZE,
    )


def made_up_face(landmarks: NDArray[np.float32], seed: int) -> NDArray[np.uint8]:
    """Return colour noise with an oval in the middle, uint8 [64, 64, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    (x0, y0), (x1, y1) = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    ImageDraw.Draw(image).ellipse((float(x0), float(y0), float(x1), float(y1)), fill=(200, 160, 140))
    return np.asarray(image, np.uint8)


@cache
def matte() -> bytes:
    return encode_matte(np.full((SIZE, SIZE), 255, np.uint8))


def log_header() -> LogHeader:
    return LogHeader(
        stream=stream_header(),
        origin=Origin.RECEIVED,
        source_rate=Fraction(60000, 1001),
        width=SIZE,
        height=SIZE,
        avatar_id=assemble(avatar_file(), now_unix_s=NOW_S).avatar_id,
        owner=hashlib.sha256(TestKey().public_key).digest(),
        writer="mien 0.1.0",
        created_unix_s=NOW_S,
    )


@cache
def log_records() -> tuple[bytes, ...]:
    """One record of each kind, and a few more."""
    events = [
        EventRecord(0, EventKind.SETTINGS, PlayoutSettings().serialize()),
        EventRecord(1, EventKind.STREAM, replace(stream_header(), stream=2).serialize()),
        EventRecord(2, EventKind.RUNG, RungEvent(Rung.AVATAR).serialize()),
        EventRecord(3, EventKind.PICTURE, b"\1\2\3\4"),
        EventRecord(4, EventKind.END),
    ]
    frames = FramesRecord(tuple(SourceFrame(n * 16_683, None if n % 2 else n // 2) for n in range(12)))
    plain: list[Record] = [
        frames,
        MessageRecord(200_000, messages()[0]),
        RenderRecord(210_000, 7),
        RenderRecord(226_000),
    ]
    return tuple(serialize_record(r) for r in [*plain, *events])


@cache
def log_file() -> bytes:
    stream = io.BytesIO()
    writer = LogWriter(stream, log_header())
    for n, message in enumerate(messages()[:4:2]):
        writer.frames([SourceFrame(200_000 * n + 33_000 * i, 6 * n + i) for i in range(6)])
        writer.message(message, time_us=200_000 * (n + 1))
        writer.render(200_000 * (n + 1) + 5, state_crc=n)
    writer.event(EventKind.STREAM, replace(stream_header(), stream=2).serialize(), time_us=900_000)
    return stream.getvalue() + log_records()[-1]


def control_messages() -> list[bytes]:
    identity = bytes(range(32))
    kinds: list[control.ControlMessage] = [
        control.Hello(1, "mien 0.1.0", identity, (0, 1), (0, 2, 3), (1,), (0,), 20_000),
        control.StreamStart.of(stream_header()),
        control.OwnerProof(identity, identity, identity * 2),
        control.AvatarVerdict(identity, 1),
        control.RungSwitch(Rung.VIDEO, 1, True),
        control.RecordingNotice(True),
        control.ReceiverReport(**{name: 7 << i for i, name in enumerate(control.ReceiverReport.CHECKS)}),
        control.Bye(0),
    ]
    return [m.serialize() for m in kinds]


def transfer_messages() -> list[bytes]:
    whole = assemble(avatar_file(), now_unix_s=NOW_S)
    sender = AvatarSender(whole)
    transfer = whole.avatar_id[:ID_BYTES]
    want = Want(transfer, ((HEAD_PART, 0), (0, 10), (1, 0)))
    sender.receive(want)
    chunks = [c for c in (sender.next_chunk(300) for _ in range(3)) if c is not None]
    kinds: list[TransferMessage] = [sender.offer(), want, *chunks, Done(transfer)]
    return [m.serialize() for m in [*kinds, Refuse(transfer, RefusalReason.DAMAGED)]]


def signal_messages() -> list[bytes]:
    peer = "0123456789abcdef"
    kinds: list[SignalMessage] = [
        Signal(peer, {"kind": "offer", "sdp": "v=0\r\n"}),
        Welcome(peer, (peer[::-1],)),
        Joined(peer),
        Left(peer),
        Refused("the room is full"),
    ]
    return [m.serialize().encode() for m in kinds]


# --- Checks -------------------------------------------------------------------------------------------------


def same(data: bytes, again: bytes) -> None:
    """Raise `Broken` unless what was accepted is written as it was read."""
    if data != again:
        raise Broken(f"accepted, but written again it is {again[:64].hex()}")


def check_message(data: bytes) -> None:
    message = CoefficientMessage.parse(data)
    again = CoefficientMessage.parse(message.serialize())  # a body has one encoding only from our own encoder
    same = np.array_equal(message.values, again.values) and np.array_equal(message.repeated, again.repeated)
    if not same or (
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


def make_renderer(avatar: Avatar) -> Renderer:
    header = stream_header()
    framing = Framing(float(header.unit_px), header.width, header.height)
    return Renderer(avatar, FaceModel.load(), width=SIZE, height=SIZE, stream=framing, backend="numpy")


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


def check_log_header(data: bytes) -> None:
    data = mend_crc(data)
    same(data, LogHeader.parse(data).serialize())


def mend_crc(data: bytes) -> bytes:
    """Return the bytes with the checksum that fits, so that what stands behind it is reached."""
    body = data[:-CRC_BYTES]
    return body + zlib.crc32(body).to_bytes(CRC_BYTES, "big")


def check_log_record(data: bytes) -> None:
    data = mend_crc(data)
    record = parse_record(data)
    if not isinstance(record, UnknownRecord):
        same(data, serialize_record(record))


def check_log_file(data: bytes) -> None:
    """What is read before the damage must be what was written."""
    reader = LogReader(io.BytesIO(data))
    read = b"".join(serialize_record(r) for r in reader.records())
    end = reader.damage.position if reader.damage else len(data)
    if not reader.unknown:
        same(data[reader.first_position : end], read)
    for segment in read_recording(reader).segments:
        frames = segment.source_frames()
        if [t for t, _ in frames] != sorted(t for t, _ in frames):
            raise Broken("the source's frames go back in time")
        if len(segment.track) and frames:
            segment.track.state_at(frames[-1][1])


def check_log_mended(data: bytes) -> None:
    """A log whose every record has a checksum that fits, so that the lookup behind it is reached."""
    check_log_file(mend_log(data))


def mend_log(data: bytes) -> bytes:
    """Return a good header, and the records behind where it was with checksums that fit."""
    at, out = log_header_size(), bytearray(log_header().serialize())
    data = bytes(out) + data[at:]
    while at + FRAME.size + CRC_BYTES <= len(data):
        size = FRAME.size + int.from_bytes(data[at + 1 : at + 3], "big") + CRC_BYTES
        record = data[at : at + size]
        out += mend_crc(record) if len(record) == size else record
        at += size
    return bytes(out)


def check_log_shown(data: bytes) -> None:
    """A received log with checksums that fit, repeated as shown."""
    reader = LogReader(io.BytesIO(mend_log(data)))
    for record in reader.records():
        if isinstance(record, EventRecord) and record.event == EventKind.VIEW:
            view = ViewEvent.parse(record.data)
            if max(view.width, view.height) > 4 * SIZE:
                raise WireError("a view too large to be drawn thousands of times")
    again = ShownAgain(reader, assemble(avatar_file(), now_unix_s=NOW_S), now_unix_s=NOW_S, backend="numpy")
    try:
        for picture in again.pictures():
            if picture.rgb.ndim != 3:
                raise Broken("a picture that is none")
    finally:
        again.close()


@cache
def shown_log() -> bytes:
    """A received log: view, avatar, rung, three messages and a few pictures."""
    whole = assemble(avatar_file(), now_unix_s=NOW_S)
    stream = io.BytesIO()
    writer = LogWriter(stream, log_header())
    writer.event(EventKind.SETTINGS, PlayoutSettings().serialize(), time_us=0)
    writer.event(EventKind.VIEW, ViewEvent(SIZE, SIZE, "numpy").serialize(), time_us=1)
    writer.event(EventKind.AVATAR, AvatarEvent.of(whole).serialize(), time_us=2)
    writer.event(EventKind.RUNG, RungEvent(Rung.AVATAR).serialize(), time_us=3)
    for n, message in enumerate(messages()[:3]):
        writer.message(message, time_us=200_000 * n)
        writer.render(200_000 * n + 100_000, state_crc=0)
    writer.event(EventKind.STREAM, replace(stream_header(), stream=2).serialize(), time_us=700_000)
    writer.render(800_000)
    return stream.getvalue()


@cache
def log_header_size() -> int:
    return len(log_header().serialize())


def check_avatar(data: bytes) -> None:
    """Nothing but the bytes that were signed may give an avatar."""
    parse_avatar(data, now_unix_s=NOW_S)
    if data != avatar_file():
        raise Broken("an avatar that nobody signed was accepted")


def check_avatar_chunks(data: bytes) -> None:
    """The same over the wire: whatever comes in chunks, only signed pictures are ever there to be drawn."""
    whole = assemble(avatar_file(), now_unix_s=NOW_S)
    receiver = AvatarReceiver(loopback=True)
    receiver.on_offer(AvatarSender(whole).offer(), None)
    at = 0
    for part, size in [
        (HEAD_PART, len(whole.head.data)),
        *enumerate(layer.size for layer in whole.manifest.layers),
    ]:
        body = data[at : at + size]
        at += size
        for offset in range(0, len(body), 700):
            chunk = Chunk(whole.avatar_id[:ID_BYTES], part, offset, body[offset : offset + 700])
            receiver.receive(chunk, now_unix_s=NOW_S)
    avatar = receiver.assembler.avatar if receiver.assembler else None
    if avatar is None:
        raise WireError(receiver.refused or "not complete")
    signed = {r.picture for r in (whole.avatar.references if whole.avatar else ())}
    signed.add(avatar_layers()[0])
    if any(r.picture not in signed and r.picture not in avatar_file() for r in avatar.references):
        raise Broken("a picture that nobody signed is there to be drawn")


@cache
def avatar_layers() -> tuple[bytes, ...]:
    bodies = assemble(avatar_file(), now_unix_s=NOW_S).bodies
    return tuple(bodies[i] for i in sorted(bodies))


def manifest_samples() -> list[bytes]:
    return [assemble(avatar_file(), now_unix_s=NOW_S).head.data[-len_of_manifest() :]]


@cache
def len_of_manifest() -> int:
    return len(assemble(avatar_file(), now_unix_s=NOW_S).manifest.serialize())


def check_manifest_resigned(data: bytes) -> None:
    """An owner who is hostile signs whatever they like."""
    key = TestKey()
    head = sign_manifest(key.public_key + data[OWNER_BYTES:], key)
    parsed = AvatarAssembler(head, now_unix_s=NOW_S).manifest
    again = Manifest.parse(parsed.serialize())
    if again != parsed:
        raise Broken("a manifest that was accepted reads differently when written again")
    check_drawn(head + b"".join(avatar_layers()), data)


def layer_samples() -> list[bytes]:
    """Each layer, with its index before it."""
    return [bytes([i]) + body for i, body in enumerate(avatar_layers())]


def check_layer_resigned(data: bytes) -> None:
    """A hostile owner's layers, each with the hash and signature that fit."""
    if not data:
        raise WireError("no layer")
    index, body = data[0] % len(avatar_layers()), data[1:]
    layers = [*avatar_layers()]
    layers[index] = body
    manifest = assemble(avatar_file(), now_unix_s=NOW_S).manifest
    table = [
        replace(layer, size=len(b), sha256=hashlib.sha256(b).digest())
        for layer, b in zip(manifest.layers, layers, strict=True)
    ]
    head = sign_manifest(replace(manifest, layers=tuple(table)).serialize(), TestKey())
    check_drawn(head + b"".join(layers), data)


def check_drawn(file: bytes, data: bytes) -> None:
    """Read the avatar, decode its pictures and, now and then, draw it."""
    avatar = parse_avatar(file, now_unix_s=NOW_S)
    if not np.isfinite(avatar.neutral).all() or not np.isfinite(avatar.appearance).all():
        raise Broken("an avatar with numbers that are not finite was accepted")
    for reference in avatar.references:
        decode_picture(reference.picture)
        if reference.matte:
            decode_matte(reference.matte)
    if zlib.crc32(data) % DRAW_EVERY == 0:
        renderer = make_renderer(avatar)
        renderer.render(FaceState.neutral())
        renderer.close()


def check_values_drawn(data: bytes) -> None:
    """A hostile owner's numbers: faces that are none, drawn or refused."""
    rng = np.random.default_rng([*data, 0])
    whole = parse_avatar(avatar_file(), now_unix_s=NOW_S)
    if data == MEAN_FACE:
        return
    width, height = (
        (int(rng.choice([1, 2, 63, 64, 500, 8192])) for _ in range(2)) if rng.random() < 0.3 else (SIZE, SIZE)
    )
    landmarks = hostile_points(rng, whole.references[0].landmarks, SIZE)
    picture = encode_picture(hostile_picture(rng, width, height), quality=20, effort=0)
    first = Reference(picture, b"", landmarks, 0)
    rings = whole.rings if whole.rings is not None and rng.random() < 0.5 else None
    if rings is not None and rng.random() < 0.5:
        rings = hostile_points(rng, rings, 1)
    content = AvatarContent(
        neutral=hostile_points(rng, whole.neutral, 1),
        appearance=hostile_points(rng, whole.appearance, 1),
        first=first,
        references=(replace(first, slot=1, landmarks=hostile_points(rng, landmarks, SIZE)),),
        rings=rings,
    )
    declaration = replace(
        own_declaration(),
        unit_px=Fraction(int(rng.choice([16, 17, 256, 65535])), 16),
        width=width,
        height=height,
    )
    avatar = parse_avatar(sign_avatar(content, declaration, TestKey()), now_unix_s=NOW_S)
    with np.errstate(all="ignore"):
        renderer = make_renderer(avatar)
    wild = rng.normal(0, 1, 36).astype(np.float32)
    for state in (FaceState.neutral(), FaceState.from_coefficients(wild)):
        if renderer.render(state).shape != (SIZE, SIZE, 3):
            raise Broken("drawn in another shape")
    renderer.close()


def hostile_points(
    rng: np.random.Generator, values: NDArray[np.float32], scale: float
) -> NDArray[np.float32]:
    """Return `values`, or as many of them collapsed, blown up, scattered, mirrored, or with single ones far off."""
    out: NDArray[np.floating]
    match rng.integers(12):
        case 0:
            out = np.zeros_like(values)
        case 1:
            out = np.full_like(values, rng.choice([-4, 4, 1e-3]) * scale)
        case 2:
            out = values * np.float32(rng.choice([1e-3, 0.1, 3.0, -1.0]))
        case 3:
            out = rng.normal(0, scale, values.shape)
        case 4:
            out = values.copy()
            out[rng.integers(len(out))] = rng.choice([-3, 3, 0]) * scale
        case 5:
            out = np.where(np.arange(values.shape[-1]) == 0, values, 0)  # a line
        case _:
            out = values
    return np.asarray(out, np.float32)


def hostile_picture(rng: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """Return noise of the frame's shape, at most 64 px."""
    scale = SIZE / max(width, height)
    shape = (max(1, round(height * scale)), max(1, round(width * scale)), 3)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def check_control(data: bytes) -> None:
    message = parse_control(data)
    if not isinstance(message, UnknownControl):
        same(data, message.serialize())


def check_transfer(data: bytes) -> None:
    message = parse_transfer(data)
    same(data, message.serialize())
    whole = assemble(avatar_file(), now_unix_s=NOW_S)
    sender, receiver = AvatarSender(whole), AvatarReceiver(loopback=True)
    receiver.on_offer(sender.offer(), None)
    if isinstance(message, Chunk):
        receiver.receive(message, now_unix_s=NOW_S)
    elif isinstance(message, Offer):
        receiver.on_offer(message, whole)
    else:
        sender.receive(message)
        sender.next_chunk()


@cache
def scene_units() -> tuple[SceneUnit, ...]:
    """Return some pictures of a scene, as SVT-AV1 codes them."""
    encoder = SceneEncoder(width=128, height=128, tick_rate=Fraction(10), kbps=5, privacy=OPEN_SCENE)
    rng = np.random.default_rng(2)
    small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    units = []
    for tick in range(4):
        picture = Image.fromarray(np.roll(small, tick, 1)).resize((128, 128))
        units.append(encoder.encode(tick, np.asarray(picture, np.uint8), None))
    encoder.close()
    return tuple(unit for unit in units if unit is not None)


def scene_messages() -> list[bytes]:
    packer = ScenePacker(0)
    return [m for unit in scene_units() for m in packer.messages(unit)]


def check_scene(data: bytes) -> None:
    same(data, SceneMessage.parse(data).serialize())
    SceneAssembler(data[0] & 15).add(data)


def check_scene_decoded(data: bytes) -> None:
    """Decode bytes as a picture that begins a scene, and as one within it."""
    if not data:
        raise WireError("no unit")
    decoder, packer = SceneDecoder(0), ScenePacker(0)
    pictures: list[ScenePicture] = []
    for unit in (SceneUnit(0, data, refresh=True), scene_units()[0], SceneUnit(1, data, refresh=True)):
        for message in packer.messages(unit):
            pictures += decoder.decode(message)
    if any(max(p.rgb.shape[:2]) > MAX_SIDE for p in pictures):
        raise Broken("a picture above the largest size was decoded")
    if decoder.failures:
        raise WireError("no picture")


def check_capsule(data: bytes) -> None:
    same(data, capsule.pack(capsule.unpack(data)))


def check_signal(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise WireError("not UTF-8, which the websocket refuses") from None
    message = parse_signal_message(text)
    if parse_signal_message(message.serialize()) != message:
        raise Broken("accepted, but written and read again it is another")


def check_settings(data: bytes) -> None:
    settings = PlayoutSettings.parse(data)
    if data[0] == PlayoutSettings.VERSION:  # an older one is read, and never written
        same(data, settings.serialize())
    playout = Playout(stream_header(), settings)
    playout.state_at(0)


def event_samples() -> list[bytes]:
    events: list[StageEvent] = [
        AvatarEvent(bytes(32), frozenset({0, 2})),
        RungEvent(Rung.STILL),
        ViewEvent(640, 480, "gl"),
    ]
    return [bytes([i]) + e.serialize() for i, e in enumerate(events)]


def check_event(data: bytes) -> None:
    if not data:
        raise WireError("no event")
    kind = (AvatarEvent, RungEvent, ViewEvent)[data[0] % 3]
    same(data[1:], kind.parse(data[1:]).serialize())


TARGETS: Final[tuple[Target, ...]] = (
    Target("message", "coefficient messages", lambda: list(messages()), check_message),
    Target(
        "message-drawn",
        "coefficient messages, to the picture",
        lambda: list(messages()),
        check_messages_drawn,
        20,
    ),
    Target("scene", "scene messages", scene_messages, check_scene),
    Target(
        "scene-decoded",
        "scene pictures, decoded",
        lambda: [scene_units()[0].data],
        check_scene_decoded,
        4,
    ),
    Target("capsule", "messages in one", lambda: [capsule.pack(scene_messages()[1:3])], check_capsule),
    Target("opus-padding", "messages in packets of voice", ridden_packets, check_ridden_packet),
    Target("stream", "stream headers", lambda: [stream_header().serialize()], check_stream_header),
    Target(
        "stream-drawn",
        "stream headers, to the picture",
        lambda: [stream_header().serialize()],
        check_stream_drawn,
        20,
    ),
    Target(
        "log-header", "log headers, checksum mended", lambda: [log_header().serialize()], check_log_header
    ),
    Target("log-record", "log records, checksum mended", lambda: list(log_records()), check_log_record),
    Target("log", "whole logs", lambda: [log_file()], check_log_file, 4),
    Target("log-mended", "whole logs, checksums mended", lambda: [log_file()], check_log_mended, 4),
    Target("log-shown", "received logs, as shown", lambda: [shown_log()], check_log_shown, 20),
    Target("settings", "playout settings", lambda: [PlayoutSettings().serialize()], check_settings),
    Target("event", "avatar, rung and view events", event_samples, check_event),
    Target("avatar", "avatars as they come", lambda: [avatar_file()], check_avatar),
    Target("avatar-chunks", "avatars as chunks", lambda: [avatar_file()], check_avatar_chunks, 4),
    Target("avatar-manifest", "manifests, signed again", manifest_samples, check_manifest_resigned, 4),
    Target("avatar-layer", "layers, hashed and signed again", layer_samples, check_layer_resigned, 4),
    Target(
        "avatar-values",
        "signed faces that are none, drawn",
        lambda: [MEAN_FACE],
        check_values_drawn,
        20,
    ),
    Target("control", "control messages", control_messages, check_control),
    Target("transfer", "avatar transfer messages", transfer_messages, check_transfer),
    Target("signal", "signalling messages", signal_messages, check_signal),
)
