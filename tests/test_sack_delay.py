"""Delayed acknowledgements: the schedule, and what it does to a real association on loopback."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiortc.rtcsctptransport import DataChunk

from mien.call.peer import COEFFICIENTS, CONTROL, TRANSFER, Addresses, Peer
from mien.call.sack_delay import (
    MAX_SHARED_BYTES,
    MAX_WAITING_BYTES,
    MAX_WAITING_PACKETS,
    PATIENT_US,
    PROMPT_US,
    SHARE_US,
    Packet,
    SackSchedule,
)
from mien.call.video_gate import VideoGate
from mien.call.wire_cause import Cause, Direction
from mien.call.wire_meter import WireMeter
from mien.protocol.control import Carrier

COEFFICIENT = Packet(50, reliable=False)
LETTER = Packet(100, reliable=True)
NOW_US = 7_000_000


def after(*packets: Packet) -> SackSchedule:
    schedule = SackSchedule()
    for number, packet in enumerate(packets):
        schedule.on_packet(packet, NOW_US + number)
    return schedule


def test_coefficients_wait_counted_from_the_oldest() -> None:
    schedule = after(COEFFICIENT, COEFFICIENT, COEFFICIENT)
    assert schedule.due_us == NOW_US + PATIENT_US
    schedule.on_sack()
    assert schedule.due_us is None


def test_a_second_reliable_packet_is_answered_at_once() -> None:
    assert after(LETTER).due_us == NOW_US + PROMPT_US
    assert after(COEFFICIENT, LETTER).due_us == NOW_US + 1 + PROMPT_US
    assert after(LETTER, COEFFICIENT).due_us == NOW_US + PROMPT_US
    assert after(LETTER, COEFFICIENT, LETTER).due_us == NOW_US + 2


def test_a_sack_starts_the_count_again() -> None:
    schedule = after(LETTER, LETTER)
    schedule.on_sack()
    schedule.on_packet(LETTER, NOW_US)
    assert schedule.due_us == NOW_US + PROMPT_US


@pytest.mark.parametrize(
    "packets",
    [
        [Packet(50, reliable=False, irregular=True)],
        [COEFFICIENT] * MAX_WAITING_PACKETS,
        [Packet(MAX_WAITING_BYTES // 2 + 1, reliable=False)] * 2,
    ],
)
def test_gaps_and_floods_are_answered_at_once(packets: list[Packet]) -> None:
    assert after(*packets).due_us == NOW_US + len(packets) - 1
    assert len(packets) == 1 or after(*packets[:-1]).due_us == NOW_US + PATIENT_US


def test_an_acknowledgement_that_is_soon_due_goes_along_with_data() -> None:
    schedule = after(COEFFICIENT)
    assert not schedule.shares(50, NOW_US + PATIENT_US - SHARE_US - 1)
    assert schedule.shares(50, NOW_US + PATIENT_US - SHARE_US)
    assert not schedule.shares(MAX_SHARED_BYTES + 1, NOW_US + PATIENT_US)
    assert after(LETTER).shares(50, NOW_US)
    schedule.on_sack()
    assert not schedule.shares(50, NOW_US + PATIENT_US)


class Inbox:
    """A peer's listener that keeps what comes."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.coefficients: list[bytes] = []
        self.transfer: list[bytes] = []
        self.faults: list[Exception] = []

    def on_open(self) -> None:
        self.opened.set()

    def on_coefficients(self, data: bytes, carrier: Carrier = Carrier.DATACHANNEL) -> None:
        self.coefficients.append(data)

    def on_transfer(self, data: bytes) -> None:
        self.transfer.append(data)

    def on_fault(self, error: Exception) -> None:
        self.faults.append(error)

    def on_control(self, data: bytes) -> None: ...
    def on_video(self, frame: Any) -> None: ...
    def on_audio(self, frame: Any) -> None: ...
    def on_closed(self, reason: str) -> None: ...


class Pair:
    """Two connected peers; `one` is metered, and what its association repeats or gives up is counted."""

    def __init__(self) -> None:
        self.meter = WireMeter()
        self.inbox = Inbox()
        self._own = Inbox()
        self.one = Peer(
            self._own, gate=VideoGate(), meter=self.meter, audio=False, addresses=Addresses.LOOPBACK
        )
        self.other = Peer(self.inbox, gate=VideoGate(), audio=False, addresses=Addresses.LOOPBACK)
        self.timeouts = 0
        self.repeated = 0
        self._count(self.one)

    async def connect(self) -> None:
        await self.one.accept(await self.other.answer(await self.one.offer()))
        await asyncio.gather(self._own.opened.wait(), self.inbox.opened.wait())

    @property
    def unacknowledged(self) -> int:
        return len(self.one._sctp._sent_queue)

    @property
    def sacks(self) -> int:
        flow = self.meter.totals().flows(Direction.RECEIVED).get(Cause.SACK)
        return flow.datagrams if flow else 0

    async def close(self) -> None:
        await asyncio.gather(self.one.close(), self.other.close())

    def _count(self, peer: Peer) -> None:
        sctp = peer._sctp
        expired, send = sctp._t3_expired, sctp._send_chunk

        def count_expiry() -> None:
            self.timeouts += 1
            expired()

        async def count_repetition(chunk: Any) -> None:
            self.repeated += isinstance(chunk, DataChunk) and chunk._sent_count > 1
            await send(chunk)

        vars(sctp).update(_t3_expired=count_expiry, _send_chunk=count_repetition)


def with_pair(scenario: Callable[[Pair], Awaitable[None]]) -> None:
    async def run() -> None:
        pair = Pair()
        try:
            await asyncio.wait_for(pair.connect(), 10)
            await asyncio.wait_for(scenario(pair), 20)
        finally:
            await pair.close()

    asyncio.run(run())


async def until(condition: Callable[[], bool], limit_s: float) -> None:
    async def poll() -> None:
        while not condition():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.005)

    await asyncio.wait_for(poll(), limit_s)


def test_few_sacks_for_coefficients_and_no_repetition() -> None:
    async def scenario(pair: Pair) -> None:
        await until(lambda: pair.unacknowledged == 0, 3)
        pair.one.send(CONTROL, b"hello")
        await until(lambda: pair.unacknowledged == 0, 0.3)
        before = pair.sacks
        for number in range(15):
            assert pair.one.send(COEFFICIENTS, bytes([number]) * 50)
            await asyncio.sleep(0.15)
        await until(lambda: pair.unacknowledged == 0, 1)
        assert [data[0] for data in pair.inbox.coefficients] == list(range(15))
        assert 2 <= pair.sacks - before <= 7  # every fourth; aiortc itself sends 15
        assert pair.timeouts == pair.repeated == 0
        assert pair.one.round_trip_us < PATIENT_US / 2
        assert not pair.inbox.faults

    with_pair(scenario)


def test_reliable_channels_keep_their_speed() -> None:
    async def scenario(pair: Pair) -> None:
        await until(lambda: pair.unacknowledged == 0, 3)
        before = pair.sacks
        for number in range(160):
            assert pair.one.send(TRANSFER, bytes([number]) * 1000)
        await until(lambda: len(pair.inbox.transfer) == 160, 3)
        assert 80 <= pair.sacks - before <= 110
        await until(lambda: pair.unacknowledged == 0, 3)
        assert pair.one.send(COEFFICIENTS, b"c")
        assert pair.one.send(CONTROL, b"a lone one brings the rest with it")
        await until(lambda: pair.unacknowledged == 0, PATIENT_US / 2e6)
        assert pair.timeouts == pair.repeated == 0

    with_pair(scenario)


def test_a_gap_is_told_at_once() -> None:
    async def scenario(pair: Pair) -> None:
        await until(lambda: pair.unacknowledged == 0, 3)
        sctp = pair.one._sctp
        send = sctp._send_chunk
        dropped: list[DataChunk] = []

        async def drop_first(chunk: Any) -> None:
            if isinstance(chunk, DataChunk) and not dropped:
                dropped.append(chunk)
            else:
                await send(chunk)

        vars(sctp)["_send_chunk"] = drop_first
        before = pair.sacks
        pair.one.send(COEFFICIENTS, b"lost")
        for number in range(3):
            await asyncio.sleep(0.02)
            pair.one.send(COEFFICIENTS, bytes([number]))
            await until(lambda told=before + number: pair.sacks > told, 0.2)  # type: ignore[misc]
        await until(lambda: pair.unacknowledged == 0, 0.4)  # given up, and the other side knows
        assert len(dropped) == 1 and pair.timeouts == 0

    with_pair(scenario)


def test_hanging_up_before_an_acknowledgement(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(pair: Pair) -> None:
        await until(lambda: pair.unacknowledged == 0, 3)
        pair.one.send(COEFFICIENTS, b"last words")
        await until(lambda: bool(pair.inbox.coefficients), 1)
        await pair.close()
        await asyncio.sleep(PATIENT_US / 1e6 + 0.05)

    with caplog.at_level(logging.WARNING):
        with_pair(scenario)
    assert not caplog.records
