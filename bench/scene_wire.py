"""What a talk costs on the wire, one way, as a call sends it: faces and scenes go through the call's own carriers.

The call packs a scene's picture and what the face has to say by then into one message; how often the face speaks
follows from that, and from when packets of voice leave. So messages are not counted as a log has them: the tracked
faces are coded anew, each message cut when the call would cut it. SACKs and STUN are a whole call's (`mien bench call`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bench.rate_carriers import voice_packet
from mien.bench.rate_quality import DATACHANNEL_BYTES
from mien.call.carrier_cadence import CarrierCadence, Sound
from mien.call.carrier_choice import CarrierWish
from mien.call.carriers import Carriers
from mien.call.opus import SAMPLES_PER_MS
from mien.call.opus_padding import MAX_CARRIER_BYTES, MAX_OVERHEAD_BYTES, overhead_bytes
from mien.encoder.sender import FaceSender
from mien.encoder.tracker import Tracker, Tracking
from mien.protocol.codec import frames_per_batch
from mien.protocol.control import Carrier, CarrierHeard
from mien.protocol.message import MAX_FRAMES_PER_MESSAGE
from mien.protocol.scene import TICK_MODULUS, SceneMessage
from mien.protocol.stream import TrackerId

VOICE_MS: Final = 60  # of sound in a packet of voice, as a call has it by default
_BOTH: Final = (int(Carrier.DATACHANNEL), int(Carrier.AUDIO))

Scene = Mapping[int, list[bytes]]  # the messages of a scene's pictures, by tick modulo 2^16


class Overheard:
    """A `Tracker` that keeps what it has said, and when."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.said: list[tuple[int, Tracking]] = []

    @property
    def tracker_id(self) -> TrackerId:
        """Which tracker it is."""
        return self._tracker.tracker_id

    def track(self, rgb: NDArray[np.uint8], timestamp_us: int) -> Tracking:
        """Track a frame."""
        tracking = self._tracker.track(rgb, timestamp_us)
        self.said.append((timestamp_us, tracking))
        return tracking

    def close(self) -> None:
        """Close the tracker."""
        self._tracker.close()


@dataclass(frozen=True, slots=True)
class Sent:
    """What left: how many messages, their bytes, and the same with all headers."""

    messages: int = 0
    payload_bytes: int = 0
    wire_bytes: int = 0

    def plus(self, message: bytes, wire_bytes: int) -> "Sent":
        """Return it with one message more."""
        return Sent(self.messages + 1, self.payload_bytes + len(message), self.wire_bytes + wire_bytes)


def scene_by_tick(messages: Iterable[bytes]) -> dict[int, list[bytes]]:
    """Return a scene's messages by their picture's tick modulo 2^16."""
    out: dict[int, list[bytes]] = {}
    for message in messages:
        out.setdefault(SceneMessage.parse(message).tick, []).append(message)
    return out


def sent_by_channel(sender: FaceSender, said: Iterable[tuple[int, Tracking]], scene: Scene) -> Sent:
    """Return what a call sends over the data channel for such faces and scenes. `sender` is one that is new."""
    line = _Line(sender, scene, CarrierWish.DATACHANNEL)
    for time_us, tracking in from_zero(said):
        line.look_at(time_us, tracking)
    line.end()
    return line.sent


def sent_by_audio(
    sender: FaceSender, said: Iterable[tuple[int, Tracking]], scene: Scene, *, voice_ms: int = VOICE_MS
) -> Sent:
    """Return what a call sends in packets of a voice that speaks without a pause: by how much they grow."""
    line = _Line(sender, scene, CarrierWish.AUDIO)
    leaves_us = 0
    for time_us, tracking in from_zero(said):
        while leaves_us < time_us:
            line.voice_leaves(leaves_us, voice_ms)
            leaves_us += 1000 * voice_ms
        line.look_at(time_us, tracking)
    line.end()
    line.voice_leaves(leaves_us, voice_ms)
    return line.sent


def from_zero(said: Iterable[tuple[int, Tracking]]) -> Iterator[tuple[int, Tracking]]:
    """Give what was said with its times counted from the first."""
    start_us: int | None = None
    for time_us, tracking in said:
        start_us = time_us if start_us is None else start_us
        yield time_us - start_us, tracking


class _Line:
    """One side of a call, without a network: what its carriers send is counted."""

    def __init__(self, sender: FaceSender, scene: Scene, wish: CarrierWish) -> None:
        self._sender, self._scene = sender, scene
        self._cadence = CarrierCadence()
        self.sent = Sent()
        on_audio = wish is CarrierWish.AUDIO
        self._carriers = Carriers(wish, audio=on_audio, line=on_audio, tell=_to_nobody)
        self._carriers.open(_BOTH, self._by_channel, 0)
        self._carriers.carry(self, 0)
        if on_audio:  # the other side has heard of it
            self._carriers.board(0, 0)
            self._carriers.on_report(CarrierHeard(int(Carrier.AUDIO), 1, 0), 0)

    def cut(self) -> bytes | None:
        """Return the message that was begun."""
        return self._sender.cut()

    def use_carrier(self, carrier: Carrier) -> None:
        """Let messages be complete for the data channel, be cut for packets of voice."""
        by_audio = carrier is Carrier.AUDIO
        frames = MAX_FRAMES_PER_MESSAGE if by_audio else frames_per_batch(self._sender.header)
        self._sender.set_frames_per_message(frames)

    def look_at(self, time_us: int, tracking: Tracking) -> None:
        """A frame was tracked."""
        for message in self._sender.on_tracking(time_us, tracking):
            self._carriers.send(message)
        tick = self._sender.frame_tick
        if tick is not None and (messages := self._scene.get(tick % TICK_MODULUS)):
            self._carriers.send_scene(messages)

    def voice_leaves(self, time_us: int, voice_ms: int) -> None:
        """A packet of voice leaves."""
        position = time_us * SAMPLES_PER_MS // 1000
        if not self._cadence.may_ride(position, Sound.SPEECH):
            return
        packet = voice_packet(voice_ms)
        room = MAX_CARRIER_BYTES - MAX_OVERHEAD_BYTES - len(packet)
        message = self._carriers.board(time_us, room)
        if message is not None:
            self._cadence.note_carried(position)
            self.sent = self.sent.plus(message, overhead_bytes(packet, message))

    def end(self) -> None:
        """The face says its last."""
        for message in self._sender.finish():
            self._carriers.send(message)

    def _by_channel(self, message: bytes) -> bool:
        self.sent = self.sent.plus(message, len(message) + DATACHANNEL_BYTES)
        return True


def _to_nobody(text: str) -> None:
    """Nobody reads what this call tells."""
