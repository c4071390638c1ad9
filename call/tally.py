"""Adds up what the parts of a call have counted."""

from collections.abc import Mapping

from mien.call.call_state import CallState
from mien.call.carriers import CarrierCounts
from mien.call.face_view import ViewCounts
from mien.call.peer import COEFFICIENTS, Peer
from mien.call.statistics import CallStatistics, RateStatistics, ReceivedStatistics, SentStatistics
from mien.call.voice_tally import voice_statistics
from mien.protocol.control import Carrier


async def call_statistics(call: CallState) -> CallStatistics:
    """Return how the call goes, or went. Path and streams can only be asked while the connection stands."""
    video_sent, video_received = await video_packets(call.peer)
    connected_us = call.course.connected_us
    return CallStatistics(
        connect_s=(connected_us - call.course.begin_us) / 1e6 if connected_us else None,
        seconds=call.course.seconds,
        ended=call.course.ended,
        loopback=call.peer.is_loopback if call.peer else False,
        camera_live=call.gate.is_open or (call.outgoing is not None and call.outgoing.scene_live),
        sent=_sent(call, video_sent),
        received=_received(call, await call.view.counts(), video_received),
        wire=call.meter.totals(),
        round_trip_ms=call.round_trip_us / 1000,
        voice=await voice_statistics(call.peer, seconds=call.course.seconds),
        rate=_rate(call),
    )


def _rate(call: CallState) -> RateStatistics:
    if call.rate is None:
        return RateStatistics()
    return RateStatistics(
        budget_kbps=call.rate.budget_kbps,
        plan=call.rate.plan.text,
        plan_kbps=call.rate.plan.wire_kbps,
        mean_kbps=call.rate.mean_kbps,
        most_kbps=call.rate.most_kbps,
        changes=tuple(call.plans),
    )


def _sent(call: CallState, packets: int) -> SentStatistics:
    outgoing = call.outgoing
    if outgoing is None:  # before the connection stands nothing was sent
        return SentStatistics()
    seconds, report = call.course.seconds, call.reports.their_report
    return SentStatistics(
        frames=outgoing.frames,
        frames_left_out=outgoing.frames_left_out,
        fps=outgoing.frames / seconds if seconds else 0.0,
        cpu_ms_per_frame=outgoing.cpu_us / 1000 / max(1, outgoing.frames),
        messages=outgoing.messages,
        message_bytes=outgoing.message_bytes,
        messages_unsent=call.peer.dropped[f"{COEFFICIENTS} unsent"] if call.peer else 0,
        carrier=call.carriers.current.name.lower(),
        by_carrier=_by_name(call.carriers.sent),
        avatar_bytes=outgoing.offer.sent_bytes if outgoing.offer else 0,
        avatar_verdict=outgoing.offer.verdict if outgoing.offer else None,
        camera_pixels=call.gate.passed_pixels,
        scene_messages=outgoing.scene_messages,
        scene_bytes=outgoing.scene_bytes,
        video_packets=packets,
        rungs=tuple(outgoing.changes),
        reported_lost=call.reports.their_lost,
        reported_latency_ms=call.reports.their_latency_ms,
        reported_mean_run=call.reports.our_loss.mean_run,
        reported_by_audio=report.by_audio if report else 0,
        reported_audio_packets=report.audio_packets if report else 0,
    )


def _received(call: CallState, view: ViewCounts, packets: int) -> ReceivedStatistics:
    incoming, seconds = call.incoming, call.course.seconds
    return ReceivedStatistics(
        messages=view.messages,
        scene_messages=view.scene_messages,
        scene_bytes=view.scene_bytes,
        scene_pictures=view.scene_pictures,
        by_carrier=_by_name(call.carriers.received),
        malformed=view.malformed,
        early=incoming.counts["early messages"] if incoming else 0,
        dropped=call.view.overrun + (call.peer.dropped[COEFFICIENTS] if call.peer else 0),
        lost=call.reports.lost,
        late_ticks=view.late,
        jitter_ms=call.jitter_us / 1000,
        latency=call.reports.latency,
        lip_sync=call.lip_sync.skew,
        control_malformed=call.counts["control malformed"],
        transfer_malformed=call.counts["transfer malformed"],
        pictures=view.pictures,
        fps=view.pictures / seconds if seconds else 0.0,
        backend=view.backend,
        avatar_bytes=incoming.received_bytes if incoming else 0,
        avatar_verdict=incoming.verdict if incoming else None,
        first_face_s=call.course.since_connected(incoming.first_face_us) if incoming else None,
        video_frames=call.counts["video frames"],
        video_packets=packets,
        audio_frames=call.counts["audio frames"],
        rungs=tuple(call.their_rungs),
        recorded_by_other=bool(call.counts["recorded"]),
    )


def _by_name(counts: Mapping[Carrier, CarrierCounts]) -> dict[str, CarrierCounts]:
    return {carrier.name.lower(): by_one for carrier, by_one in counts.items()}


async def video_packets(peer: Peer | None) -> tuple[int, int]:
    """Return how many RTP packets of video were sent and received."""
    sent = received = 0
    for transceiver in peer.connection.getTransceivers() if peer else ():
        if transceiver.kind != "video":
            continue
        for report in (await transceiver.sender.getStats()).values():
            sent += report.packetsSent if report.type == "outbound-rtp" else 0
        for report in (await transceiver.receiver.getStats()).values():
            received += report.packetsReceived if report.type == "inbound-rtp" else 0
    return sent, received
