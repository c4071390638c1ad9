"""How coefficient messages travel: one interface for the data channel and the packets of the voice.

Which of them takes our messages is decided in `carrier_choice`; when one rides in a packet, in `carrier_cadence`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from mien.call.carrier_cadence import RideAllowance
from mien.call.carrier_choice import CarrierChoice, CarrierWatch, CarrierWish
from mien.protocol.capsule import MAX_MESSAGES, pack
from mien.protocol.control import Carrier, CarrierHeard
from mien.protocol.errors import WireError
from mien.protocol.message import MAX_MESSAGE_BYTES

MAX_WAITING: Final = 4  # messages that were complete before a packet left; older ones are of no use
MAX_SCENE_WAITING: Final = 16  # messages of scene pictures; the oldest go first, and are asked for again
RIDE_BYTES: Final = 5  # of framing around a message in a packet of voice
DISAPPOINTED_US: Final = (
    3_000_000  # after so long without an answer, whoever insisted on the audio carrier is told
)


class Face(Protocol):
    """Whoever makes our messages."""

    def cut(self) -> bytes | None:
        """Return the message that was begun; `None` where nothing is to be said, or nothing may be."""

    def use_carrier(self, carrier: Carrier) -> None:
        """Make messages for this carrier: complete ones for the data channel, ones to be cut for the voice's packets."""


@dataclass(frozen=True, slots=True)
class CarrierCounts:
    """Coefficient messages of one direction that went by one carrier, without headers."""

    messages: int = 0
    message_bytes: int = 0

    def plus(self, size: int) -> "CarrierCounts":
        """Return the counts with one message more."""
        return CarrierCounts(self.messages + 1, self.message_bytes + size)


class Carriers:
    """Both ways of one call. Lives on the event loop; times are on `mien.call.clock`."""

    def __init__(self, wish: CarrierWish, *, audio: bool, line: bool, tell: Callable[[str], None]) -> None:
        """`audio`: the call has an audio line; `line`: packets of ours go on it. `tell` is what the user reads."""
        self._wish = wish
        self._audio = audio
        self._tell = tell
        self._choice = CarrierChoice(wish, line=audio and line)
        self._watch = CarrierWatch()
        self._current = Carrier.DATACHANNEL
        self._send: Callable[[bytes], bool] | None = None
        self._face: Face | None = None
        self._face_us: int | None = None
        self._told_disappointment = False
        self.allowance = RideAllowance()
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._scene: deque[bytes] = deque(maxlen=MAX_SCENE_WAITING)
        self.sent = {carrier: CarrierCounts() for carrier in Carrier}
        self.received = {carrier: CarrierCounts() for carrier in Carrier}

    # --- our messages -----------------------------------------------------------------------------------------

    @property
    def current(self) -> Carrier:
        """The carrier that our messages take."""
        return self._current

    @property
    def offered(self) -> tuple[Carrier, ...]:
        """The carriers from which we take messages, as our hello says."""
        if self._audio and self._wish is not CarrierWish.DATACHANNEL:
            return Carrier.DATACHANNEL, Carrier.AUDIO
        return (Carrier.DATACHANNEL,)

    def open(self, their_carriers: tuple[int, ...], send: Callable[[bytes], bool], now_us: int) -> None:
        """The other side has said hello. `send` is the data channel."""
        self._send = send
        self._choice.on_hello(their_carriers, now_us)
        if self._wish is CarrierWish.AUDIO and not self._choice.possible:
            self._tell(f"carrier: the data channel; in packets of the voice it cannot be: {self._choice.why}")

    def carry(self, face: Face, now_us: int) -> None:
        """There are messages from now on, and these are who makes them."""
        self._face, self._face_us = face, now_us
        face.use_carrier(self._current)

    def send(self, message: bytes) -> bool:
        """Send a complete message. False where it cannot leave."""
        if self._current is Carrier.AUDIO:
            self._waiting.append(message)
            return True
        return self._send_by_channel(message)

    def send_scene(self, messages: Sequence[bytes]) -> None:
        """Send a scene picture's messages, together with what the face has to say by now."""
        self._scene.extend(messages)
        if self._current is Carrier.AUDIO:
            return
        face = self._face.cut() if self._face is not None else None
        while (message := self._with_scene(face, MAX_MESSAGE_BYTES)) is not None:
            self._send_by_channel(message)
            face = None

    def _with_scene(self, face: bytes | None, room_bytes: int) -> bytes | None:
        """Return a face's message and as much of the scene as there is room for; what never has is sent by itself."""
        parts = [] if face is None else [face]
        while self._scene and len(parts) < MAX_MESSAGES:
            together = _packed([*parts, self._scene[0]])
            if together is not None and len(together) <= room_bytes:
                parts.append(self._scene.popleft())
            elif len(parts) <= 1:
                self._send_by_channel(self._scene.popleft())
            else:
                break
        return _packed(parts)

    def board(self, now_us: int, room_bytes: int) -> bytes | None:
        """Return the message that rides in a packet of voice that leaves now. What is too long for it is sent."""
        self._choice.on_line(now_us)
        if self._face is None:
            return None
        self._settle(now_us)
        if self._current is not Carrier.AUDIO:
            return b"" if self._choice.may_probe(now_us) else None
        if not self.allowance.is_open(now_us):
            return None  # what is not cut now goes with the next message
        message = self._waiting.popleft() if self._waiting else self._face.cut()
        if message is not None and len(message) > room_bytes:
            self._send_by_channel(message)
            message = None
        if message is not None:
            self.allowance.note(len(message) + RIDE_BYTES)  # of the face; a scene is the user's own wish
        message = self._with_scene(message, room_bytes)
        if message is None:
            return None
        self._choice.on_sent(now_us)
        self.sent[Carrier.AUDIO] = self.sent[Carrier.AUDIO].plus(len(message))
        return message

    # --- their messages ---------------------------------------------------------------------------------------

    def on_message(self, carrier: Carrier, size: int, now_us: int) -> CarrierHeard | None:
        """Take in that a message of so many bytes has come; return what is to be said about it."""
        if size == 0 and carrier is Carrier.AUDIO:
            return self._watch.on_probe(now_us)
        self.received[carrier] = self.received[carrier].plus(size)
        return self._watch.on_message(carrier, now_us)

    # --- both -------------------------------------------------------------------------------------------------

    def on_report(self, report: CarrierHeard, now_us: int) -> None:
        """The other side says what it heard."""
        self._choice.on_report(report, now_us)
        self._settle(now_us)

    def advance(self, now_us: int) -> CarrierHeard | None:
        """Let time pass; return what is to be said about their messages."""
        self._settle(now_us)
        self._notice_disappointment(now_us)
        return self._watch.advance(now_us)

    def _settle(self, now_us: int) -> None:
        """Change over where the choice has changed."""
        self._choice.advance(now_us)
        if self._face is None or self._choice.current is self._current:
            return
        self._current = self._choice.current
        self._face.use_carrier(self._current)
        if self._current is Carrier.AUDIO:
            self._tell("carrier: your face rides in the packets of your voice")
            return
        self._tell(f"carrier: your face takes the data channel: {self._choice.why}")
        while self._waiting:
            self._send_by_channel(self._waiting.popleft())
        while self._scene:
            self._send_by_channel(self._scene.popleft())

    def _notice_disappointment(self, now_us: int) -> None:
        late = self._face_us is not None and now_us - self._face_us > DISAPPOINTED_US
        if not late or self._told_disappointment or self._wish is not CarrierWish.AUDIO:
            return
        self._told_disappointment = True
        if self._choice.possible and self._current is not Carrier.AUDIO:
            self._tell("carrier: the data channel; what we put into packets of the voice does not arrive")

    def _send_by_channel(self, message: bytes) -> bool:
        if self._send is None or not self._send(message):
            return False
        self.sent[Carrier.DATACHANNEL] = self.sent[Carrier.DATACHANNEL].plus(len(message))
        return True


def _packed(messages: Sequence[bytes]) -> bytes | None:
    """Return messages as one; None where there are none, or where they cannot be one."""
    try:
        return pack(messages) if messages else None
    except WireError:
        return None
