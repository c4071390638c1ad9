"""What happens in a call because time passes: pictures are drawn, reports are sent, silence is noticed."""

import asyncio
import logging
from typing import Final

from mien.call import clock
from mien.call.call_state import CallState
from mien.call.face_view import ShownPicture
from mien.call.lip_sync import SeenFace
from mien.call.liveness import Silence
from mien.call.rate_keeper import RateKeeper
from mien.call.rendezvous import PeerLeft, Rendezvous
from mien.call.reports import Reception
from mien.call.wire_cause import Direction
from mien.decoder.playout import Status
from mien.protocol.control import Bye, ByeReason, Carrier, Rung
from mien.protocol.errors import MienError

logger = logging.getLogger(__name__)

TICK_S: Final = 0.1  # how often time is let pass


def start_clockwork(call: CallState, rendezvous: Rendezvous) -> None:
    """Let time pass until the call is over."""
    call.course.start(_tick_forever(call), "call tick")
    call.course.start(_draw_forever(call), "call pictures")
    call.course.start(_heed_signalling(call, rendezvous), "call signalling")


async def _tick_forever(call: CallState) -> None:
    keeper = RateKeeper(call)
    while not call.course.is_over:
        _tick(call, clock.now_us())
        keeper.advance(clock.now_us())
        await asyncio.sleep(TICK_S)


def _tick(call: CallState, now_us: int) -> None:
    assert call.peer is not None
    fault = call.peer.check_health()
    if fault is not None:
        call.say(Bye(ByeReason.FAULT))
        call.course.end(fault)
        return
    if call.outgoing is not None:
        call.outgoing.advance(now_us)
    _tell_voice_clock(call, now_us)
    heard = call.carriers.advance(now_us)
    if heard is not None:
        call.say(heard)
    if call.incoming is not None:
        call.incoming.advance(now_us)
        if call.incoming.arrivals is not None:
            arrivals = call.incoming.arrivals
            call.reports.note_missing(arrivals.missing, arrivals.messages, now_us=now_us)
    call.reports.note_queue(call.queue_us(now_us), now_us=now_us)
    if call.reports.is_due(now_us):
        call.course.start(_report(call), "receiver report")
    _notice_silence(call, now_us)


def _tell_voice_clock(call: CallState, now_us: int) -> None:
    """Tell the other side how our voice and our face lie to one another."""
    line = call.peer.voice_line if call.peer else None
    newest = call.outgoing.newest_stamp() if call.outgoing else None
    header = call.outgoing.header if call.outgoing else None
    if line is None or newest is None or header is None:
        return
    call.voice_clock.note_frame(header.stream, *newest, header.tick_rate)
    message = call.voice_clock.due(line.zero_timestamp_us, header.tick_rate, now_us)
    if message is not None:
        call.say(message)


def _notice_silence(call: CallState, now_us: int) -> None:
    silence = call.liveness.look(
        now_us,
        datagrams=call.meter.totals().total(Direction.RECEIVED).datagrams,
        expects_messages=call.counts["coefficient messages"] + call.counts["audio frames"] > 0,
    )
    if silence is Silence.VANISHED:
        call.course.end("the other side vanished")
    elif silence is Silence.BEGUN:
        call.tell("nothing comes from the other side")


async def _report(call: CallState) -> None:
    counts, now_us = await call.view.counts(), clock.now_us()
    arrivals = call.incoming.arrivals if call.incoming else None
    reception = Reception(
        received=counts.messages,
        malformed=counts.malformed,
        late=counts.late,
        jitter_us=call.jitter_us,
        missing=call.missing,
        runs=arrivals.runs if arrivals else 0,
        by_audio=call.carriers.received[Carrier.AUDIO].messages,
        audio_packets=call.peer.voice_line.packets if call.peer and call.peer.voice_line else 0,
        queue_us=call.queue_us(now_us),
    )
    sent = call.outgoing.messages if call.outgoing else 0
    coded = call.outgoing.newest_stamp() if call.outgoing else None
    call.say(call.reports.make(reception, sent=sent, coded=coded, now_us=now_us))


async def _draw_forever(call: CallState) -> None:
    period_s = 1 / call.settings.view.rate
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    while not call.course.is_over:
        picture = await call.view.picture(call.video)
        if picture is not None:
            _note_latency(call, picture)
            _align(call, picture)
            if call.incoming is not None:
                call.incoming.on_picture(picture)
            if call.hooks.on_picture is not None:
                call.hooks.on_picture(picture)
        due_s = max(due_s + float(period_s), loop.time())
        await asyncio.sleep(due_s - loop.time())


def _note_latency(call: CallState, picture: ShownPicture) -> None:
    rate = call.incoming.tick_rate if call.incoming else None
    if picture.avatar and picture.shown.status is Status.LIVE and rate and picture.shown.tick is not None:
        call.reports.note_picture(picture.shown.tick, rate, picture.composited_us)


def _align(call: CallState, picture: ShownPicture) -> None:
    """Let voice and face be heard and seen together."""
    line = call.peer.voice_line if call.peer else None
    header = call.incoming.header if call.incoming else None
    if line is None:
        return
    if not picture.avatar or picture.rung is not Rung.AVATAR:
        line.playout.wait_until(0, None)  # nobody is seen speaking, or the camera shows it
        return
    if header is None or picture.shown.tick is None or picture.offset_us is None:
        return
    if call.hooks.voice_delay_us is not None:
        line.playout.air_us = call.hooks.voice_delay_us()
    floor_us = call.lip_sync.on_picture(
        SeenFace(
            tick=picture.shown.tick,
            offset_us=picture.offset_us,
            render_us=picture.render_us,
            composited_us=picture.composited_us,
            live=picture.shown.status is Status.LIVE,
        ),
        line.playout,
        stream=header.stream,
        tick_rate=header.tick_rate,
        now_us=picture.composited_us,
    )
    if floor_us is not None:
        call.view.wait_at_least(floor_us)


async def _heed_signalling(call: CallState, rendezvous: Rendezvous) -> None:
    """Signalling is needed no more, but it tells at once when the other side's process is gone."""
    try:
        while True:
            await rendezvous.receive()
    except PeerLeft:
        call.liveness.left(clock.now_us())
    except MienError as error:
        logger.info("%s; the call goes on without it", error)
