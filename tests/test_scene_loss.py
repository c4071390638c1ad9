"""A scene and a face that share messages, over a line that loses some: who misses what, and for how long."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.call.carrier_choice import CarrierWish
from mien.call.carriers import Carriers
from mien.call.incoming import SCENE_PATIENCE_US
from mien.decoder.receiver import Receiver
from mien.encoder.scene_encoder import SceneEncoder
from mien.encoder.scene_privacy import ScenePrivacy
from mien.encoder.sender import FaceSender
from mien.encoder.tracker import Tracking
from mien.protocol.capsule import unpack
from mien.protocol.codec import MessageDecoder, frames_per_batch
from mien.protocol.control import Carrier, CarrierHeard
from mien.protocol.message import Kind, message_kind
from mien.protocol.scene import ScenePacker
from mien.protocol.state import FaceState
from tests.scene_samples import SIDE, TICK_RATE, moving_frame
from tests.stream_samples import stream_header

TICK_US = 1_000_000 / 30
WAY_US = 60_000  # one way
STRIDE = 4
HEADER = stream_header(tick_rate=TICK_RATE, width=SIDE, height=SIDE)
Lost = Callable[[int], bool]  # by a message's number


class Nodding:
    """A fitter whose faces never stand still."""

    def fit(self, landmarks: NDArray[np.float32]) -> FaceState:
        pose = np.zeros(6, np.float32)
        pose[:3] = np.sin(landmarks[0, :1] / 7)  # in all directions, so that no tick is left unsaid
        return FaceState(pose, np.zeros(30, np.float32))


@dataclass
class Seen:
    """What a receiver got: `faces` are ticks, `pictures` ticks with when they came, in ticks."""

    receiver: Receiver = field(default_factory=lambda: Receiver(HEADER))
    sent: int = 0
    arrived: list[bytes] = field(default_factory=list)
    pictures: list[tuple[int, int]] = field(default_factory=list)
    asked: int = 0

    @property
    def faces(self) -> set[int]:
        """The ticks that messages which arrived tell of."""
        decoder = MessageDecoder(HEADER)
        batches = [decoder.decode(m) for m in self.arrived if message_kind(m) != Kind.SCENE]
        return {b.first_tick + n for b in batches for n in range(len(b.states))}

    def longest_gap(self, until: int) -> int:
        """Return for how many ticks no picture came, at most."""
        came = [now for _, now in self.pictures] + [until]
        return int(np.diff(came).max())


class Line:
    """Both ends in virtual time, over one carrier."""

    def __init__(self, carrier: Carrier, lost: Lost) -> None:
        self.seen, self._lost, self._audio = Seen(), lost, carrier is Carrier.AUDIO
        self._sender = FaceSender(HEADER, Nodding())
        self._scene = SceneEncoder(
            width=SIDE,
            height=SIDE,
            tick_rate=Fraction(TICK_RATE),
            kbps=6,
            privacy=ScenePrivacy(show_face=True),
        )
        self._packer = ScenePacker(HEADER.stream)
        self._on_way: list[tuple[float, bytes]] = []
        self._refresh_us: float | None = None
        self._asked_us = -float(SCENE_PATIENCE_US)
        wish = CarrierWish.AUDIO if self._audio else CarrierWish.DATACHANNEL
        self._carriers = Carriers(wish, audio=self._audio, line=self._audio, tell=lambda text: None)
        self._carriers.open((0, 1), self._by_channel, 0)
        self._carriers.carry(self, 0)
        if self._audio:
            self._carriers.board(0, 0)
            self._carriers.on_report(CarrierHeard(int(Carrier.AUDIO), 1, 0), 0)
        self._now_us = 0.0

    def cut(self) -> bytes | None:
        return self._sender.cut()

    def use_carrier(self, carrier: Carrier) -> None:
        self._sender.set_frames_per_message(15 if carrier is Carrier.AUDIO else frames_per_batch(HEADER))

    def run(self, ticks: int) -> Seen:
        for tick in range(ticks):
            self._now_us = tick * TICK_US
            self._send(tick)
            self._receive(tick)
        self._scene.close()
        return self.seen

    def _send(self, tick: int) -> None:
        if self._refresh_us is not None and self._now_us >= self._refresh_us:
            self._refresh_us = None
            self._scene.refresh()
        rgb, points = moving_frame(tick)
        for message in self._sender.on_tracking(round(self._now_us), Tracking((points,))):
            self._carriers.send(message)
        unit = self._scene.encode(tick, rgb, points)
        if unit is not None:
            self._carriers.send_scene(self._packer.messages(unit))
        if self._audio and tick % 2 == 0:
            boarded = self._carriers.board(round(self._now_us), 1000)
            if boarded:
                self._by_channel(boarded)

    def _by_channel(self, message: bytes) -> bool:
        self.seen.sent += 1
        if not self._lost(self.seen.sent - 1):
            self._on_way.append((self._now_us + WAY_US, message))
        return True

    def _receive(self, tick: int) -> None:
        seen, receiver = self.seen, self.seen.receiver
        while self._on_way and self._on_way[0][0] <= self._now_us:
            came_us, capsule = self._on_way.pop(0)
            for message in unpack(capsule):
                assert receiver.on_message(message, round(came_us))
                seen.arrived.append(message)
        seen.pictures += [(picture.tick, tick) for picture in receiver.take_scene()]
        if receiver.wants_scene_refresh and self._now_us - self._asked_us >= SCENE_PATIENCE_US:
            seen.asked += 1
            self._asked_us = self._now_us
            self._refresh_us = self._now_us + WAY_US


def at_random(share: float, seed: int = 1) -> Lost:
    rng = np.random.default_rng(seed)
    lost = rng.random(4000) < share
    return lambda number: bool(lost[number])


@pytest.mark.parametrize("carrier", list(Carrier))
def test_without_loss_every_picture_comes_in_time_and_every_tick_is_told(carrier: Carrier) -> None:
    seen = Line(carrier, lambda number: False).run(120)
    assert [tick for tick, _ in seen.pictures] == list(range(0, 116 + 1, STRIDE))[: len(seen.pictures)]
    assert len(seen.pictures) >= 28 and seen.asked == 0
    assert (
        max(now - tick for tick, now in seen.pictures) <= 5
    )  # 60 ms of way, at most 60 for a packet of voice
    assert len(set(range(110)) - seen.faces) <= 3  # where it turns round, the face stands still


@pytest.mark.parametrize("carrier", list(Carrier))
def test_a_lost_message_costs_its_face_and_the_scene_until_the_next_refresh(carrier: Carrier) -> None:
    seen = Line(carrier, lambda number: 20 <= number < 22).run(240)
    missing = set(range(220)) - seen.faces
    assert 0 < len(missing) <= 2 * STRIDE
    assert seen.asked == 1
    # What was lost, two units that wait in vain, the way there and back, and the next unit.
    assert seen.longest_gap(240) <= 2 * STRIDE + 2 * STRIDE + 4 + 2 * STRIDE


@pytest.mark.parametrize("carrier", list(Carrier))
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_at_random_losses_the_scene_comes_back_again_and_again(carrier: Carrier, share: float) -> None:
    seen = Line(carrier, at_random(share)).run(900)
    assert seen.receiver.counts.bad_messages == 0
    assert len(seen.faces) > (1 - 1.3 * share) * 880
    # A picture holds for .6 s and fades until it is 1.6 s old.
    fresh = sum(1 for now in range(900) if any(0 <= now - came <= 18 for _, came in seen.pictures))
    assert fresh > (0.95 if share < 0.1 else 0.65) * 880
    assert seen.asked <= 900 * TICK_US / SCENE_PATIENCE_US


def test_who_joins_late_sees_nothing_until_a_refresh_and_then_all() -> None:
    seen = Line(Carrier.DATACHANNEL, lambda number: number < 31).run(240)
    assert seen.asked == 1 and seen.pictures
    first = seen.pictures[0][0]
    assert 31 * STRIDE <= first <= (31 + 3) * STRIDE
    assert [tick for tick, _ in seen.pictures] == list(
        range(first, first + STRIDE * len(seen.pictures), STRIDE)
    )
    assert 30 * STRIDE - 3 <= min(seen.faces) < first  # a face needs no refresh
