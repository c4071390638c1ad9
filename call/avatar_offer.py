"""Offers our avatar, proves that it is ours, and sends its layers in small chunks while the call runs."""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final

from mien.call import clock
from mien.call.peer import CONTROL, TRANSFER, Peer
from mien.call.spare_pace import SparePace
from mien.call.token_bucket import TokenBucket
from mien.protocol.avatar import AvatarAssembler, Signer
from mien.protocol.control import AvatarVerdict, OwnerProof, proof_transcript
from mien.protocol.transfer import AvatarSender, Chunk, TransferMessage

logger = logging.getLogger(__name__)

# What a message of the data channel costs besides its content: SCTP, DTLS, UDP and IP headers.
MESSAGE_OVERHEAD_BYTES: Final = 93
CHUNK_COST_BYTES: Final = Chunk.LAYOUT.size + MESSAGE_OVERHEAD_BYTES
CHUNK_BYTES: Final = 1000
MAX_BACKLOG_BYTES: Final = 4 * CHUNK_BYTES  # nothing may wait longer behind an avatar than this takes
NARROW_KBPS: Final = 16.0  # below, a chunk of the usual length would fill a second
NARROW_CHUNK_BYTES: Final = 400
LEAST_CHUNK_BYTES: Final = 200  # of which headers make a third of what is sent
SPARE_CHECK_S: Final = 0.1
IDLE_S: Final = 0.05
LATER_SHARE: Final = 0.6  # of the rate, once the face moves: coefficients take the rest


class AvatarOffer:
    """One avatar for one call. `run` sends whatever the other side wants, at `kbps` on the wire.

    What makes a first picture may take all of that, because nothing else of a face is sent before it is there;
    what makes it better takes its time.
    """

    def __init__(
        self,
        avatar: AvatarAssembler,
        signer: Signer | None,
        peer: Peer,
        *,
        kbps: float,
        spare_kbps: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """`spare_kbps`: what anything else leaves of the rate; it bounds what comes after the first picture."""
        self._sender = AvatarSender(avatar)
        self._avatar = avatar
        self._signer = signer
        self._peer = peer
        self._bytes_per_s = kbps * 1000 / 8
        self._spare_kbps = spare_kbps
        self._pace = SparePace(least_bytes=LEAST_CHUNK_BYTES + CHUNK_COST_BYTES)
        self._chunk_bytes = CHUNK_BYTES if kbps >= NARROW_KBPS else NARROW_CHUNK_BYTES
        self._wanted = asyncio.Event()
        self.verdict: int | None = None  # of the other side; a number of `Verdict`
        self.sent_bytes = 0  # of layers

    def open(self, challenge: bytes) -> None:
        """Offer the avatar and prove, with the other side's `challenge`, that the owner's key is here."""
        proof = self._proof(challenge)
        if proof is not None:
            self._peer.send(CONTROL, proof.serialize())
        self._peer.send(TRANSFER, self._sender.offer().serialize())

    def on_answer(self, message: TransferMessage) -> None:
        """Take what the other side says about the transfer. Raises `WireError`."""
        self._sender.receive(message)
        self._wanted.set()

    def on_verdict(self, message: AvatarVerdict) -> None:
        """Take whether the other side shows the avatar."""
        if message.avatar_id == self._avatar.avatar_id:
            self.verdict = message.verdict

    @property
    def judged(self) -> bool:
        """Whether the other side has looked at the avatar, so that it can use coefficients, or never will."""
        return self.verdict is not None

    @property
    def delivered(self) -> bool:
        """Whether the other side has everything."""
        return self._sender.done

    async def run(self) -> None:
        """Send chunks as they are wanted and as the rate allows, until cancelled."""
        start_us = clock.now_us()
        bucket = _bucket(self._bytes_per_s, chunks=1, now_us=start_us)
        moving = False
        while True:
            if self.judged and not moving:
                moving = True
                bucket = _bucket(self._bytes_per_s * LATER_SHARE, chunks=0, now_us=clock.now_us())
            chunk = self._sender.next_chunk(await self._length(later=moving))
            if chunk is None:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            await self._room_for(chunk, bucket)
            if self._peer.send(TRANSFER, chunk.serialize()):
                self.sent_bytes += len(chunk.data)

    async def _length(self, *, later: bool) -> int:
        """Return how long the next chunk may be; later ones wait until something is spare."""
        if not later:
            return self._chunk_bytes
        while True:
            cost = self._pace.affordable_bytes(self._spare_kbps(), clock.now_us())
            if cost:
                return round(min(cost - CHUNK_COST_BYTES, self._chunk_bytes))
            await asyncio.sleep(SPARE_CHECK_S)

    async def _room_for(self, chunk: Chunk, bucket: TokenBucket) -> None:
        cost = len(chunk.data) + CHUNK_COST_BYTES
        self._pace.take(cost, clock.now_us())
        while not bucket.take(cost, now_us=clock.now_us()):  # noqa: ASYNC110  time is what is waited for
            await asyncio.sleep(max(bucket.wait_us(cost, now_us=clock.now_us()) / 1e6, 0.001))
        while self._peer.backlog_bytes(TRANSFER) > MAX_BACKLOG_BYTES:  # noqa: ASYNC110  aiortc tells of nothing
            await asyncio.sleep(IDLE_S)

    def _proof(self, challenge: bytes) -> OwnerProof | None:
        owner = self._avatar.manifest.owner
        if self._signer is None or self._signer.public_key != owner:
            logger.warning("this avatar's owner key is not here, so the other side will not show the avatar")
            return None
        transcript = proof_transcript(
            challenge=challenge,
            prover_fingerprint=self._peer.local_fingerprint(),
            verifier_fingerprint=self._peer.remote_fingerprint(),
            avatar_id=self._avatar.avatar_id,
        )
        return OwnerProof(self._avatar.avatar_id, owner, self._signer.sign(transcript))


def _bucket(bytes_per_s: float, *, chunks: int, now_us: int) -> TokenBucket:
    """Return a bucket with so many chunks in it: two at once keep voice waiting for half a second on a thin link.

    Two are what it holds, so that nothing is lost where the loop wakes up late.
    """
    chunk = CHUNK_BYTES + CHUNK_COST_BYTES
    bucket = TokenBucket(rate_per_s=bytes_per_s, burst=2 * chunk, now_us=now_us)
    bucket.take((2 - chunks) * chunk, now_us=now_us)
    return bucket
