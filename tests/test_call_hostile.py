"""A session against a peer that does not keep to the rules: it drops, counts and refuses, and the call goes on."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
import pytest

from mien.call.face_view import ShownPicture, ViewSettings
from mien.call.peer import COEFFICIENTS, CONTROL, TRANSFER, Addresses, Peer
from mien.call.rendezvous import local_pair
from mien.call.session import CallHooks, CallSession, CallSettings, Participant
from mien.call.statistics import CallStatistics
from mien.call.video_gate import VideoGate
from mien.encoder.stream_setup import make_stream_header
from mien.protocol.avatar import assemble
from mien.protocol.consent import ConsentKind
from mien.protocol.control import (
    AvatarVerdict,
    Bye,
    Carrier,
    Hello,
    OwnerProof,
    ReceiverReport,
    Rung,
    RungSwitch,
    StreamStart,
    Verdict,
    parse_control,
    proof_transcript,
)
from mien.protocol.errors import MienError
from mien.protocol.transfer import AvatarSender, Chunk, Offer, Refuse, parse_transfer
from tests.avatar_samples import CREATED, OTHER_KEY, TEST_KEY
from tests.call_samples import SIZE, PortraitSource, PortraitTracker, avatar_file

HELLO = Hello(1, "raw", bytes(32), (0,), (0, 2, 3), (1,), (), 0)


class RawPeer:
    """The far end, by hand: keeps what comes and sends any bytes."""

    def __init__(self) -> None:
        self.control: list[Any] = []
        self.transfer: list[Any] = []
        self.closed: list[str] = []
        self.opened = asyncio.Event()
        self.gate = VideoGate()
        self.peer = Peer(self, gate=self.gate, audio=False, addresses=Addresses.LOOPBACK)

    def on_open(self) -> None:
        self.opened.set()

    def on_control(self, data: bytes) -> None:
        self.control.append(parse_control(data))

    def on_coefficients(self, data: bytes, carrier: Carrier = Carrier.DATACHANNEL) -> None:
        pass

    def on_transfer(self, data: bytes) -> None:
        self.transfer.append(parse_transfer(data))

    def on_video(self, frame: Any) -> None:
        pass

    def on_audio(self, frame: Any) -> None:
        pass

    def on_closed(self, reason: str) -> None:
        self.closed.append(reason)

    def on_fault(self, error: Exception) -> None:
        raise error

    def said(self, kind: type) -> list[Any]:
        return [m for m in self.control if isinstance(m, kind)]

    def say(self, message: Any) -> None:
        self.peer.send(CONTROL, message.serialize())

    async def until(self, holds: Callable[[], object], *, limit_s: float = 8) -> None:
        for _ in range(round(limit_s * 100)):
            if holds():
                return
            await asyncio.sleep(0.01)
        pytest.fail("what was waited for did not happen")

    def offer_avatar(
        self, data: bytes, *, signer: Any = TEST_KEY, prover: bytes | None = None
    ) -> AvatarSender:
        """Announce a stream, prove and offer, as an honest peer does unless told otherwise."""
        avatar = assemble(data, now_unix_s=CREATED)
        assert avatar.avatar is not None
        header = make_stream_header(
            avatar.avatar,
            [],
            source_rate=PortraitSource.rate,
            width=SIZE,
            height=SIZE,
            tracker=PortraitTracker.tracker_id,
        )
        challenge = self.said(Hello)[0].challenge
        transcript = proof_transcript(
            challenge=challenge,
            prover_fingerprint=prover or self.peer.local_fingerprint(),
            verifier_fingerprint=self.peer.remote_fingerprint(),
            avatar_id=avatar.avatar_id,
        )
        self.say(StreamStart.of(header))
        self.say(OwnerProof(avatar.avatar_id, signer.public_key, signer.sign(transcript)))
        sender = AvatarSender(avatar)
        self.peer.send(TRANSFER, sender.offer().serialize())
        return sender

    async def send_layers(self, sender: AvatarSender, change: Callable[[Chunk], Chunk] = lambda c: c) -> None:
        for _ in range(800):
            if sender.done or sender.refused is not None:
                return
            if not self.transfer:
                await asyncio.sleep(0.01)
                continue
            answer = self.transfer.pop(0)
            if not isinstance(answer, Offer):  # the other side has an avatar too
                sender.receive(answer)
            while (chunk := sender.next_chunk()) is not None:
                self.peer.send(TRANSFER, change(chunk).serialize())


def against(
    script: Callable[[RawPeer], Awaitable[None]], *, me: Participant | None = None
) -> tuple[CallStatistics, list[ShownPicture]]:
    """Run a script on the far end of a session's call; return the session's figures and pictures."""
    pictures: list[ShownPicture] = []

    async def whole() -> CallStatistics:
        session = CallSession(
            me or Participant(),
            CallSettings(addresses=Addresses.LOOPBACK, audio=False, view=ViewSettings(longest_px=64)),
            CallHooks(on_picture=pictures.append),
        )
        here, there = local_pair()
        running = asyncio.create_task(session.run(here))
        raw = RawPeer()
        try:
            await there.send(await raw.peer.answer(await there.receive()))
            await raw.opened.wait()
            await raw.until(lambda: raw.said(Hello))
            await script(raw)
            if not running.done():
                raw.say(Bye(0))
            return await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await raw.peer.close()

    return asyncio.run(asyncio.wait_for(whole(), 25)), pictures


def test_an_honest_peer_by_hand() -> None:
    async def script(raw: RawPeer) -> None:
        raw.say(HELLO)
        await raw.send_layers(raw.offer_avatar(avatar_file()))
        await raw.until(lambda: raw.said(AvatarVerdict))

    figures, _ = against(script)
    assert figures.received.avatar_verdict == Verdict.SHOWN
    assert figures.ended == "the other side hung up"


def test_a_damaged_layer() -> None:
    def damage(chunk: Chunk) -> Chunk:
        if chunk.part != 0:
            return chunk
        return Chunk(chunk.transfer, chunk.part, chunk.offset, bytes([chunk.data[0] ^ 1]) + chunk.data[1:])

    async def script(raw: RawPeer) -> None:
        raw.say(HELLO)
        await raw.send_layers(raw.offer_avatar(avatar_file()), damage)
        await raw.until(lambda: raw.said(AvatarVerdict))
        assert raw.said(AvatarVerdict)[0].verdict == Verdict.DAMAGED
        await asyncio.sleep(0.3)

    figures, pictures = against(script)
    assert figures.received.avatar_verdict == Verdict.DAMAGED
    assert pictures and not any(p.avatar for p in pictures)


def test_a_changed_manifest_does_not_verify() -> None:
    async def script(raw: RawPeer) -> None:
        raw.say(HELLO)
        sender = raw.offer_avatar(avatar_file())
        await raw.until(lambda: raw.transfer)
        sender.receive(raw.transfer[0])
        head = bytearray(b"")
        first = sender.next_chunk()
        assert first is not None
        head += first.data
        head[-1] ^= 1
        raw.peer.send(TRANSFER, Chunk(first.transfer, first.part, 0, bytes(head)).serialize())
        await raw.until(lambda: raw.said(AvatarVerdict))
        await raw.until(lambda: any(isinstance(m, Refuse) for m in raw.transfer))

    figures, pictures = against(script)
    assert figures.received.avatar_verdict == Verdict.DAMAGED
    assert not any(p.avatar for p in pictures)


def test_an_avatar_that_is_signed_and_makes_no_sense() -> None:
    async def script(raw: RawPeer) -> None:
        raw.say(HELLO)
        await raw.send_layers(raw.offer_avatar(avatar_file(drawable=False)))
        await raw.until(lambda: [v for v in raw.said(AvatarVerdict) if v.verdict == Verdict.DAMAGED])
        await asyncio.sleep(0.2)

    figures, pictures = against(script)
    assert figures.received.avatar_verdict == Verdict.DAMAGED
    assert figures.ended == "the other side hung up"
    assert not pictures[-1].avatar


def test_a_relayed_proof_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof for another connection's certificates, as somebody in the middle would pass it on."""
    monkeypatch.setattr("mien.call.incoming.PROOF_WAIT_US", 300_000)

    async def script(raw: RawPeer) -> None:
        raw.say(HELLO)
        raw.offer_avatar(avatar_file(), prover=b"m" * 32)
        sender = AvatarSender(assemble(avatar_file(), now_unix_s=CREATED))
        await raw.send_layers(sender)
        await raw.until(lambda: raw.said(AvatarVerdict))

    figures, pictures = against(script)
    assert figures.received.avatar_verdict == Verdict.NOT_OWNER
    assert not any(p.avatar for p in pictures)


def test_the_proof_of_another_key() -> None:
    async def script(raw: RawPeer) -> None:
        raw.say(HELLO)
        await raw.send_layers(raw.offer_avatar(avatar_file(), signer=OTHER_KEY))
        await raw.until(lambda: raw.said(AvatarVerdict))

    figures, _ = against(script)
    assert figures.received.avatar_verdict == Verdict.NOT_OWNER


def test_a_test_fixture_from_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Peer, "is_loopback", property(lambda self: False))

    async def script(raw: RawPeer) -> None:
        raw.say(HELLO)
        await raw.send_layers(raw.offer_avatar(avatar_file(kind=ConsentKind.TEST_FIXTURE)))
        await raw.until(lambda: raw.said(AvatarVerdict))

    figures, pictures = against(script)
    assert figures.received.avatar_verdict == Verdict.NOT_PERMITTED
    assert not any(p.avatar for p in pictures)


def test_noise_on_every_channel() -> None:
    rng = random.Random(4)
    sent: Counter[str] = Counter()

    async def script(raw: RawPeer) -> None:
        raw.say(HELLO)
        await raw.send_layers(raw.offer_avatar(avatar_file()))
        await raw.until(lambda: raw.said(AvatarVerdict))
        for i in range(300):
            for label in (CONTROL, COEFFICIENTS, TRANSFER):
                sent[label] += raw.peer.send(label, rng.randbytes(rng.randint(1, 200)))
            if i % 20 == 0:
                await asyncio.sleep(0.01)
        raw.peer.send(CONTROL, msgpack.packb([99, {"a": 1}]))  # of a later version
        for label in (CONTROL, COEFFICIENTS, TRANSFER):
            raw.peer.send(label, bytes(1500))
            raw.peer._channels[label].send("text")
        raw.peer.send(TRANSFER, Offer(bytes(32), 100).serialize())
        raw.say(HELLO)  # a second one
        raw.say(ReceiverReport(*[(1 << 32) - 1] * 16))  # nonsense figures
        raw.say(RungSwitch(Rung.AUDIO, 200, False))
        await asyncio.sleep(0.5)

    figures, _ = against(script, me=Participant(avatar=avatar_file(), signer=TEST_KEY))
    assert figures.ended == "the other side hung up"
    assert sent[CONTROL] == sent[TRANSFER] == 300 and sent[COEFFICIENTS] > 50
    assert figures.received.control_malformed >= 290
    assert figures.received.transfer_malformed >= 290
    received = figures.received
    assert received.malformed + received.early + received.dropped + received.messages >= sent[COEFFICIENTS]
    assert received.messages <= 3  # noise may happen to be well formed


def test_a_flood_of_messages_is_bounded() -> None:
    async def script(raw: RawPeer) -> None:
        raw.say(HELLO)
        await raw.send_layers(raw.offer_avatar(avatar_file()))
        await raw.until(lambda: raw.said(AvatarVerdict))
        for _ in range(8):
            for _ in range(80):
                raw.peer._channels[COEFFICIENTS].send(bytes(200))
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.5)

    figures, _ = against(script)
    assert figures.ended == "the other side hung up"
    assert figures.received.malformed + figures.received.dropped > 50


def test_another_version_says_so() -> None:
    async def script(raw: RawPeer) -> None:
        raw.say(Hello(2, "mien 9.0", bytes(32), (0,), (0,), (1,), (), 0))
        await raw.until(lambda: raw.said(Bye))

    with pytest.raises(MienError, match="mien 9.0.*update the older"):
        against(script)


def test_a_peer_that_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.call.liveness.VANISHED_US", 700_000)

    async def script(raw: RawPeer) -> None:
        raw.say(HELLO)
        await asyncio.sleep(0.3)
        for protocol in raw.peer._sctp.transport.transport._connection._protocols:
            protocol.transport.abort()  # not a word more leaves this end
        await asyncio.sleep(1.5)

    figures, _ = against(script)
    assert figures.ended == "the other side vanished"


def test_video_that_was_not_announced_is_not_shown() -> None:
    async def script(raw: RawPeer) -> None:
        raw.say(HELLO)
        raw.gate.open()
        for frame in PortraitSource(1.5):
            raw.gate.offer(frame.rgb, frame.timestamp_us)
            await asyncio.sleep(1 / 30)

    figures, pictures = against(script)
    assert figures.received.video_frames > 5
    assert not any(p.rung is Rung.VIDEO for p in pictures)


def test_messages_without_an_end_and_too_many_channels_are_noticed() -> None:
    async def scenario() -> None:
        raw = RawPeer()
        assert raw.peer.check_health() is None
        raw.peer._sctp._advertised_rwnd = -(
            3 << 20
        )  # what collecting 4 MB of an unfinished message makes of it
        assert "without an end" in str(raw.peer.check_health())
        raw.peer._sctp._advertised_rwnd = 1 << 20
        for number in range(10, 20):
            raw.peer.connection.createDataChannel("x", negotiated=True, id=number)
        assert "too many channels" in str(raw.peer.check_health())
        await raw.peer.close()

    asyncio.run(asyncio.wait_for(scenario(), 10))
