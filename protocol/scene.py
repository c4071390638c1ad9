"""The scene message: a small coded picture of what the face model cannot carry, whole or in fragments.

`SPEC-scene.md` says it for a second implementation. A scene is a stream of AV1 temporal units, each coded from the
ones before it, so units count: after a lost one nothing is shown until one that decodes alone (a refresh).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from mien.protocol.errors import WireError
from mien.protocol.message import MAX_MESSAGE_BYTES, Kind

MAX_FRAGMENTS: Final = 8
UNIT_MODULUS: Final = 256
TICK_MODULUS: Final = 1 << 16
# A temporal unit begins with this delimiter; it says nothing, so it is not sent.
DELIMITER: Final = b"\x12\x00"
# Units that came early wait for those before them; more of them mean that one is lost.
MAX_WAITING: Final = 2
_REFRESH: Final = 0x80
_LAST: Final = 0x40
_FACE: Final = 0x20
_SPARE: Final = 0x18


@dataclass(frozen=True, slots=True)
class SceneUnit:
    """One coded picture: the AV1 temporal unit `data` (without its delimiter) of the frame at `tick`.

    `refresh`: it decodes without those before it. `face`: the face is in it; else the face's oval is filled
    with a plane of colour. `tick` counts as the coefficients' ticks do.
    """

    tick: int
    data: bytes
    refresh: bool = False
    face: bool = False


@dataclass(frozen=True, slots=True)
class SceneMessage:
    """A unit's fragment.

     0      1                                    2      4
    +------+------+---+------+------+------+----------+------+------+-------------------+
    | kind |stream| r | last | face | 0 0  | fragment | tick | unit | data, to the end  |   big-endian
    | = 4  |      |   |      |      |      |          |      |      |                   |
    +------+------+---+------+------+------+----------+------+------+-------------------+
      4 bit  4 bit 1    1      1      2      3          u16    u8     1 byte or more

    `unit` counts the stream's units modulo 256, `tick` is the unit's modulo 2^16, fragments count from 0.
    """

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("!BBHB")
    stream: int
    tick: int
    unit: int
    data: bytes
    fragment: int = 0
    last: bool = True
    refresh: bool = False
    face: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.stream <= 15 and 0 <= self.tick < TICK_MODULUS and 0 <= self.unit < UNIT_MODULUS):
            raise WireError(
                f"stream {self.stream}, tick {self.tick} or unit {self.unit} of a scene is out of range"
            )
        if not 0 <= self.fragment < MAX_FRAGMENTS:
            raise WireError(f"scene fragment is {self.fragment}, expected 0 to {MAX_FRAGMENTS - 1}")
        if not self.last and self.fragment == MAX_FRAGMENTS - 1:
            raise WireError(f"scene unit has more than {MAX_FRAGMENTS} fragments")
        if not 1 <= len(self.data) <= MAX_MESSAGE_BYTES - self.LAYOUT.size:
            raise WireError(
                f"scene fragment holds {len(self.data)} bytes, expected 1 to {MAX_MESSAGE_BYTES - self.LAYOUT.size}"
            )

    def serialize(self) -> bytes:
        """Return the message's bytes."""
        flags = self.refresh * _REFRESH | self.last * _LAST | self.face * _FACE | self.fragment
        return self.LAYOUT.pack(Kind.SCENE << 4 | self.stream, flags, self.tick, self.unit) + self.data

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a message. Raises `WireError` for bytes that are none."""
        if not cls.LAYOUT.size < len(data) <= MAX_MESSAGE_BYTES:
            raise WireError(
                f"scene message is {len(data)} bytes, expected {cls.LAYOUT.size + 1} to {MAX_MESSAGE_BYTES}"
            )
        first, flags, tick, unit = cls.LAYOUT.unpack_from(data)
        if first >> 4 != Kind.SCENE:
            raise WireError(f"scene message has kind {first >> 4}, expected {int(Kind.SCENE)}")
        if flags & _SPARE:
            raise WireError(f"spare bits of a scene message are {(flags & _SPARE) >> 3}, expected 0")
        return cls(
            stream=first & 15,
            tick=tick,
            unit=unit,
            data=data[cls.LAYOUT.size :],
            fragment=flags & (MAX_FRAGMENTS - 1),
            last=bool(flags & _LAST),
            refresh=bool(flags & _REFRESH),
            face=bool(flags & _FACE),
        )


class ScenePacker:
    """Numbers units and cuts them into messages."""

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self._next = 0

    def messages(self, unit: SceneUnit, *, max_bytes: int = MAX_MESSAGE_BYTES) -> list[bytes]:
        """Return the unit's messages, each of at most `max_bytes`. Raises `WireError` for one that is too large."""
        room = min(max_bytes, MAX_MESSAGE_BYTES) - SceneMessage.LAYOUT.size
        parts = [unit.data[at : at + room] for at in range(0, len(unit.data), room)] if room > 0 else []
        if not 1 <= len(parts) <= MAX_FRAGMENTS:
            raise WireError(
                f"scene unit of {len(unit.data)} bytes does not fit {MAX_FRAGMENTS} messages of {max_bytes}"
            )
        number, self._next = self._next, (self._next + 1) % UNIT_MODULUS
        return [
            SceneMessage(
                stream=self._stream,
                tick=unit.tick % TICK_MODULUS,
                unit=number,
                data=part,
                fragment=at,
                last=at == len(parts) - 1,
                refresh=unit.refresh,
                face=unit.face,
            ).serialize()
            for at, part in enumerate(parts)
        ]


class SceneAssembler:
    """Gives a stream's units back in order, each that can be decoded; what follows a lost one waits for a refresh."""

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self._fragments: dict[int, list[SceneMessage]] = {}  # unfinished units, by number counted on
        self._whole: dict[int, SceneUnit] = {}  # units that came before their turn
        self._next: int | None = None  # the unit that can be decoded next, counted on; None: only a refresh
        self._newest_unit = 0
        self._newest_tick: int | None = None
        self.lost = 0  # times that something was lost

    @property
    def wants_refresh(self) -> bool:
        """Whether units keep coming that nothing can be made of."""
        return self._next is None

    @property
    def held(self) -> int:
        """How many messages wait to become units that can be decoded."""
        return len(self._whole) + sum(len(parts) for parts in self._fragments.values())

    def note_tick(self, tick: int) -> None:
        """Say about which tick the stream is at: a scene that begins late tells only a tick's low 16 bits."""
        self._newest_tick = max(tick, self._newest_tick or 0)

    def add(self, data: bytes) -> Sequence[SceneUnit]:
        """Take a message; return the units that can be decoded now. Raises `WireError` for bytes that are none."""
        message = SceneMessage.parse(data)
        if message.stream != self._stream:
            raise WireError(f"scene message belongs to stream {message.stream}, expected {self._stream}")
        number = self._extend(message.unit)
        if number in self._whole or (self._next is not None and number < self._next):
            return ()  # a copy, or too late
        parts = self._fragments.setdefault(number, [])
        if message.fragment not in [part.fragment for part in parts]:
            parts.append(message)
        unit = self._join(parts)
        if unit is not None:
            del self._fragments[number]
            self._whole[number] = unit
        units = tuple(self._in_order())
        self._forget()
        return units

    def _join(self, parts: list[SceneMessage]) -> SceneUnit | None:
        parts.sort(key=lambda part: part.fragment)
        if not parts[-1].last or len(parts) != parts[-1].fragment + 1:
            return None
        first = parts[0]
        return SceneUnit(
            self._tick(first.tick), b"".join(p.data for p in parts), refresh=first.refresh, face=first.face
        )

    def _in_order(self) -> Iterator[SceneUnit]:
        refreshed = [number for number, unit in self._whole.items() if unit.refresh]
        if refreshed and (self._next is None or max(refreshed) > self._next):
            # What it does not need is not waited for.
            self._next = max(refreshed)
        while self._next is not None and self._next in self._whole:
            yield self._whole.pop(self._next)
            self._next += 1

    def _forget(self) -> None:
        """Give up what waits in vain."""
        oldest = self._newest_unit - MAX_WAITING
        floor = oldest if self._next is None else self._next
        self._whole = {n: unit for n, unit in self._whole.items() if n >= floor}
        if self._next is not None and len(self._whole) >= MAX_WAITING:
            self._next = None
            self.lost += 1
        floor = max(floor, oldest - MAX_WAITING)
        self._fragments = {n: parts for n, parts in self._fragments.items() if n >= floor}

    def _extend(self, low: int) -> int:
        """Return the number nearest to the newest whose low 8 bits are `low`; it may be far in the past."""
        offset = (low - self._newest_unit + UNIT_MODULUS // 2) % UNIT_MODULUS - UNIT_MODULUS // 2
        number = self._newest_unit + offset
        self._newest_unit = max(self._newest_unit, number)
        return number

    def _tick(self, low: int) -> int:
        if self._newest_tick is None:
            self._newest_tick = low
            return low
        offset = (low - self._newest_tick + TICK_MODULUS // 2) % TICK_MODULUS - TICK_MODULUS // 2
        tick = max(0, self._newest_tick + offset)
        self._newest_tick = max(self._newest_tick, tick)
        return tick
