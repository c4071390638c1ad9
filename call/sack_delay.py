"""Fewer acknowledgements: messages that are never sent again may be acknowledged late, several at a time.

aiortc answers every packet with a SACK, 93 bytes of wire for 50 of coefficients. What its sender needs one for
is to let go of what it holds, and to see that its retransmission timer (T3) need not fire. Coefficients are not
retransmitted, so a SACK may wait, but for less than that timer: 1 s or more in aiortc, which also learns from
the delays that it sees. Two packets on a channel that is retransmitted, a lone one of these after a moment, a
gap, a repetition, or a sender that skips what it gave up are answered as RFC 9260 section 6.2 has it.

Where we send data ourselves while an acknowledgement waits that would soon have to leave alone, it goes before the
data in their packet (RFC 9260 section 6.1): 16 bytes instead of 93.

Over a path that takes more than half a second the timer may fire before it has learned. Nothing is lost then:
the sender gives up messages that have arrived, and says so in one small packet.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from aiortc import RTCSctpTransport
from aiortc.rtcsctptransport import Chunk, DataChunk, ForwardTsnChunk, SackChunk

from mien.call import clock

logger = logging.getLogger(__name__)

PATIENT_US: Final = 450_000
PROMPT_US: Final = 40_000  # RFC 9260 allows 200 ms; a lone control message should not look like a slow path
PROMPT_PACKETS: Final = 2
# aiortc's window after a time-out is one full packet: more than this must not wait for acknowledgement.
MAX_WAITING_PACKETS: Final = 8
MAX_WAITING_BYTES: Final = 1160
# An acknowledgement that is due before so long takes the packet of data that leaves now; one of 200 ms ahead might
# still come in time for a later one, and acknowledge more.
SHARE_US: Final = 220_000
MAX_SHARED_BYTES: Final = 1000  # of data beside it, so that the packet stays as short as packets of data are


@dataclass(frozen=True, slots=True)
class Packet:
    """What one SCTP packet brought: bytes of user data, and whether any may be sent again if it gets lost.

    `irregular`: something is missing, came twice, or was given up.
    """

    bytes: int
    reliable: bool
    irregular: bool = False


class SackSchedule:
    """When to acknowledge. No I/O and no clock; times are integer microseconds."""

    def __init__(self) -> None:
        self._packets = 0  # not acknowledged yet
        self._bytes = 0
        self._reliable_packets = 0
        self.due_us: int | None = None  # None: everything is acknowledged

    def on_packet(self, packet: Packet, now_us: int) -> None:
        """Take in a packet with data; `due_us` says when it has to be acknowledged."""
        self._packets += 1
        self._bytes += packet.bytes
        self._reliable_packets += packet.reliable
        if (
            packet.irregular
            or self._reliable_packets >= PROMPT_PACKETS
            or self._packets >= MAX_WAITING_PACKETS
            or self._bytes > MAX_WAITING_BYTES
        ):
            due_us = now_us
        else:
            due_us = now_us + (PROMPT_US if packet.reliable else PATIENT_US)
        self.due_us = due_us if self.due_us is None else min(self.due_us, due_us)

    def shares(self, data_bytes: int, now_us: int) -> bool:
        """Return whether an acknowledgement should go along with so much data of ours that leaves now."""
        return self.due_us is not None and self.due_us - now_us <= SHARE_US and data_bytes <= MAX_SHARED_BYTES

    def on_sack(self) -> None:
        """A SACK leaves. It acknowledges everything."""
        self._packets = self._bytes = self._reliable_packets = 0
        self.due_us = None


class _Bundle(Chunk):
    """Two chunks for one packet."""

    def __init__(self, first: Chunk, second: Chunk) -> None:
        super().__init__()
        self._chunks = first, second

    def __bytes__(self) -> bytes:
        return b"".join(map(bytes, self._chunks))


class SackDelay:
    """Sends one association's acknowledgements by a `SackSchedule`. Attach it before anything is received."""

    def __init__(self, sctp: RTCSctpTransport, *, unreliable_streams: frozenset[int]) -> None:
        self._sctp = sctp
        self._unreliable_streams = unreliable_streams
        self._schedule = SackSchedule()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._arrived_bytes = 0  # in the packet that is being read
        self._arrived_reliable = False
        self._arrived_irregular = False
        self._fastest_s: float | None = None
        self._collecting = False  # an acknowledgement is made for a packet of data
        self._collected: SackChunk | None = None
        self._send_sack = sctp._send_sack
        self._send_chunk = sctp._send_chunk
        self._receive_data_chunk = sctp._receive_data_chunk
        self._receive_forward_tsn_chunk = sctp._receive_forward_tsn_chunk
        self._update_rto = sctp._update_rto
        vars(sctp).update(
            _send_sack=self._on_packet_read,
            _send_chunk=self._on_chunk,
            _receive_data_chunk=self._on_data_chunk,
            _receive_forward_tsn_chunk=self._on_forward_tsn_chunk,
            _update_rto=self._on_round_trip,
        )

    @property
    def round_trip_us(self) -> int:
        """The fastest acknowledgement of what we sent, 0 while there is none: the other side may delay them."""
        return round((self._fastest_s or 0) * 1e6)

    def close(self) -> None:
        """Acknowledge no more. The connection is closed already, or is about to be."""
        self._disarm()
        if self._task is not None:
            self._task.cancel()

    async def _on_data_chunk(self, chunk: DataChunk) -> None:
        repeated, gap = len(self._sctp._sack_duplicates), bool(self._sctp._sack_misordered)
        await self._receive_data_chunk(chunk)
        self._arrived_bytes += len(chunk.user_data)
        self._arrived_reliable |= chunk.stream_id not in self._unreliable_streams
        self._arrived_irregular |= gap or len(self._sctp._sack_duplicates) > repeated

    async def _on_chunk(self, chunk: Chunk) -> None:
        """A chunk is about to leave in a packet."""
        if self._collecting and isinstance(chunk, SackChunk):
            self._collected = chunk
            return
        if isinstance(chunk, DataChunk) and self._schedule.shares(len(chunk.user_data), clock.now_us()):
            self._disarm()
            self._collecting = True
            try:
                await self._acknowledge()  # which sends nothing, and so does not wait
            finally:
                self._collecting = False
            sack, self._collected = self._collected, None
            if sack is not None:
                await self._send_chunk(_Bundle(sack, chunk))
                return
        await self._send_chunk(chunk)

    async def _on_forward_tsn_chunk(self, chunk: ForwardTsnChunk) -> None:
        await self._receive_forward_tsn_chunk(chunk)
        self._arrived_irregular = True

    def _on_round_trip(self, seconds: float) -> None:
        self._fastest_s = seconds if self._fastest_s is None else min(self._fastest_s, seconds)
        self._update_rto(seconds)

    async def _on_packet_read(self) -> None:
        """aiortc has read a packet with data and wants to acknowledge it."""
        irregular = self._arrived_irregular or bool(self._sctp._sack_misordered)
        packet = Packet(self._arrived_bytes, self._arrived_reliable, irregular)
        self._arrived_bytes, self._arrived_reliable, self._arrived_irregular = 0, False, False
        self._sctp._sack_needed = False  # else aiortc would ask again after every packet without data
        now_us = clock.now_us()
        self._schedule.on_packet(packet, now_us)
        due_us = self._schedule.due_us
        assert due_us is not None
        self._disarm()
        if due_us <= now_us:
            await self._acknowledge()
        else:
            self._timer = asyncio.get_running_loop().call_later((due_us - now_us) / 1e6, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._task = asyncio.ensure_future(self._acknowledge_late())

    async def _acknowledge_late(self) -> None:
        if self._schedule.due_us is None or self._sctp.state != "connected":
            return
        try:
            await self._acknowledge()
        except ConnectionError:
            logger.debug("the connection went before its last data were acknowledged")

    async def _acknowledge(self) -> None:
        self._schedule.on_sack()
        await self._send_sack()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
