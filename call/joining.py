"""How a call begins: meet, connect, say hello, and start to send."""

import asyncio
from functools import partial

import mien
from mien.call import clock
from mien.call.call_state import CallState
from mien.call.incoming import IncomingFace
from mien.call.outgoing import OutgoingFace
from mien.call.peer import COEFFICIENTS, Peer, PeerListener
from mien.call.rate_keeper import begin_control, first_transfer_kbps, spare_kbps
from mien.call.rendezvous import PeerLeft, Rendezvous
from mien.call.source_worker import SourceListener
from mien.call.wire_meter import WireMeter
from mien.protocol.control import (
    PROTOCOL_VERSION,
    AudioCodec,
    Bye,
    ByeReason,
    Hello,
    Rung,
)
from mien.protocol.errors import MienError
from mien.protocol.stream import StreamHeader


async def join(call: CallState, rendezvous: Rendezvous, listener: PeerListener) -> None:
    """Meet the other side and connect. Raises `MienError` where no call comes about."""
    call.tell("waiting for the other side")
    offers = await call.course.until_over(rendezvous.meet())
    call.course.begin_us = clock.now_us()
    call.meter = WireMeter()  # the time that nobody else was there does not count
    call.peer = _make_peer(call, listener)
    try:
        async with asyncio.timeout(call.settings.connect_s):
            await _shake_hands(call.peer, rendezvous, offers=offers)
            await call.course.until_over(call.course.connected.wait())
    except TimeoutError:
        raise MienError(
            f"no connection within {call.settings.connect_s:g} s: the two sides cannot reach one another. "
            "Across networks a TURN server is needed: --ice-server turn:HOST"
        ) from None
    except PeerLeft:
        raise MienError("the other side left before there was a connection") from None
    if call.course.is_over and not call.course.connected.is_set():
        raise MienError(f"no call came about: {call.course.ended}")


def say_hello(call: CallState) -> None:
    """The channels are open: say who we are and what we can."""
    assert call.peer is not None
    call.incoming = IncomingFace(
        call.peer,
        call.view,
        cache=call.cache,
        record=call.settings.record,
        tell=call.tell,
        now_us=clock.now_us(),
        tuning=call.settings.tuning,
    )
    call.say(
        Hello(
            protocol=PROTOCOL_VERSION,
            software=f"mien {mien.__version__}",
            challenge=call.incoming.challenge,
            carriers=call.carriers.offered,
            rungs=(Rung.STILL, Rung.AVATAR, Rung.VIDEO),
            codecs=(StreamHeader.VERSION,),
            audio=(AudioCodec.OPUS,) if call.settings.audio else (),
            budget_bps=round(1000 * (call.settings.rate.budget_kbps or 0)),
        )
    )


def take_hello(call: CallState, hello: Hello, listener: SourceListener) -> None:
    """The other side has said hello: the call begins, unless it speaks another version."""
    if call.hello is not None:
        call.counts["stray control"] += 1
        return
    call.hello = hello
    if hello.protocol != PROTOCOL_VERSION:
        call.say(Bye(ByeReason.VERSION))
        call.course.end(
            f"the other side ({hello.software}) speaks version {hello.protocol} of the call's protocol, "
            f"this one {PROTOCOL_VERSION}: update the older one"
        )
        return
    now_us = clock.now_us()
    call.course.connected_us = now_us
    call.liveness.start(now_us)
    call.reports.start(now_us)
    call.tell("connected" + (" on this machine" if call.peer and call.peer.is_loopback else ""))
    _begin_sending(call, hello, listener, now_us)
    call.course.connected.set()


def _make_peer(call: CallState, listener: PeerListener) -> Peer:
    return Peer(
        listener,
        gate=call.gate,
        meter=call.meter,
        voice=call.me.voice,
        audio=call.settings.audio,
        voice_settings=call.settings.voice,
        riders=call.carriers,
        addresses=call.settings.addresses,
        ice_servers=call.settings.ice_servers,
    )


async def _shake_hands(peer: Peer, rendezvous: Rendezvous, *, offers: bool) -> None:
    if offers:
        await rendezvous.send(await peer.offer())
        await peer.accept(await rendezvous.receive())
    else:
        await rendezvous.send(await peer.answer(await rendezvous.receive()))


def _begin_sending(call: CallState, hello: Hello, listener: SourceListener, now_us: int) -> None:
    assert call.peer is not None
    call.carriers.open(hello.carriers, partial(call.peer.send, COEFFICIENTS), now_us)
    call.outgoing = OutgoingFace(
        call.peer, call.gate, call.carriers, challenge=hello.challenge, tell=call.tell, now_us=now_us
    )
    begin_control(call, now_us)
    if call.avatar is not None:
        offer = call.outgoing.offer_avatar(
            call.avatar, call.me.signer, kbps=first_transfer_kbps(call), spare_kbps=partial(spare_kbps, call)
        )
        call.course.start(offer.run(), "avatar transfer")
    if call.me.source is not None and call.me.tracker is not None:
        call.outgoing.start(
            call.me.source,
            call.me.tracker,
            call.avatar,
            listener,
            sender=call.settings.sender,
            ladder=call.settings.ladder,
            allow_video=call.settings.allow_video,
        )
