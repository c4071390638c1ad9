"""The stream header: what a receiver must know before the first coefficient message means anything."""

import struct
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import ClassVar, Final, Self

from mien.protocol.errors import WireError
from mien.protocol.state import POSE_COUNT

MAX_PICTURE_PX: Final = 8192


class TrackerId(IntEnum):
    """Which landmark tracker measured the face; two of them differ by an NME of 1.2-2.2 %."""

    UNKNOWN = 0
    FACE_LANDMARKER = 1  # the official bundle of 2023, through MediaPipe's Tasks API
    FACE_MESH = 2  # the models inside the mediapipe 0.10.21 wheel


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """Sent once on the control channel before a stream starts, and at the head of every log.

     0         1         2         3        4         12        20        28         32         36         38
    +---------+---------+---------+--------+---------+---------+---------+----------+----------+----------+
    | version | stream  | tracker | spare  | model   | tables  | avatar  | tick     | tick     | unit_px  |
    |  = 1    | 0 to 15 |         | = 0    | 8 bytes | 8 bytes | 8 bytes | rate num | rate den | u16 / 16 |
    +---------+---------+---------+--------+---------+---------+---------+----------+----------+----------+
     38      40       42                  54
    +-------+--------+-------------------+
    | width | height | rest pose: 6 x i16 |   big-endian; width and height of the picture that was tracked, in pixels
    +-------+--------+-------------------+

    `stream` distinguishes streams that follow one another in a call (another camera, another avatar); every
    message names its stream. `model_id`, `tables_id` and `avatar_id` are the first 8 bytes of a SHA-256:
    of the face model asset, of the entropy coder's tables, of the avatar's manifest. `unit_px` is the
    reference scale: pixels per model unit in 1/16. The rest pose, in thousandths, is where the head mostly
    is: messages code the pose relative to it.
    """

    VERSION: ClassVar[int] = 1
    LAYOUT: ClassVar[struct.Struct] = struct.Struct("!BBBB8s8s8sIIHHH6h")
    stream: int
    tracker: TrackerId
    model_id: bytes
    tables_id: bytes
    avatar_id: bytes
    tick_rate: Fraction
    unit_px: Fraction
    width: int
    height: int
    rest_pose: tuple[int, ...] = (0,) * POSE_COUNT

    def __post_init__(self) -> None:
        if not 0 <= self.stream <= 15:
            raise WireError(f"stream is {self.stream}, expected 0 to 15")
        for name in ("model_id", "tables_id", "avatar_id"):
            if len(getattr(self, name)) != 8:
                raise WireError(f"{name} is {len(getattr(self, name))} bytes, expected 8")
        rate = self.tick_rate
        if not 1 <= rate <= 30 or rate.numerator >= 1 << 32 or rate.denominator >= 1 << 32:
            raise WireError(f"tick rate is {rate} Hz, expected 1 to 30")
        if (self.unit_px * 16).denominator != 1 or not 16 <= self.unit_px * 16 < 1 << 16:
            raise WireError(f"unit_px is {self.unit_px}, expected 1 to 4095 in steps of 1/16")
        if not (1 <= self.width <= MAX_PICTURE_PX and 1 <= self.height <= MAX_PICTURE_PX):
            raise WireError(
                f"picture is {self.width} x {self.height}, expected 1 to {MAX_PICTURE_PX} each way"
            )
        if len(self.rest_pose) != POSE_COUNT or not all(-32768 <= v < 32768 for v in self.rest_pose):
            raise WireError(f"rest pose is {self.rest_pose}, expected 6 integers of 16 bits")

    def serialize(self) -> bytes:
        """Return the 54 bytes."""
        return self.LAYOUT.pack(
            self.VERSION,
            self.stream,
            self.tracker,
            0,
            self.model_id,
            self.tables_id,
            self.avatar_id,
            self.tick_rate.numerator,
            self.tick_rate.denominator,
            int(self.unit_px * 16),
            self.width,
            self.height,
            *self.rest_pose,
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a header. Raises `WireError` for anything that `serialize` would not have written."""
        if len(data) != cls.LAYOUT.size:
            raise WireError(f"stream header is {len(data)} bytes, expected {cls.LAYOUT.size}")
        version, stream, tracker, spare, model, tables, avatar, num, den, unit, width, height, *rest = (
            cls.LAYOUT.unpack(data)
        )
        if version != cls.VERSION:
            raise WireError(f"stream header has version {version}, expected {cls.VERSION}: update mien")
        if spare != 0:
            raise WireError(f"spare byte of the stream header is {spare}, expected 0")
        if tracker not in TrackerId._value2member_map_:
            raise WireError(f"tracker is {tracker}, expected one of {[int(t) for t in TrackerId]}")
        if den == 0 or Fraction(num, den).denominator != den:
            raise WireError(f"tick rate is {num}/{den}, expected a fraction in lowest terms")
        return cls(
            stream=stream,
            tracker=TrackerId(tracker),
            model_id=model,
            tables_id=tables,
            avatar_id=avatar,
            tick_rate=Fraction(num, den),
            unit_px=Fraction(unit, 16),
            width=width,
            height=height,
            rest_pose=tuple(rest),
        )
