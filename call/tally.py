"""Adds up what the parts of a call have counted."""

from mien.call.outgoing import OutgoingFace
from mien.call.peer import Peer
from mien.call.reports import Reports
from mien.call.statistics import SentStatistics


def sent_statistics(
    outgoing: OutgoingFace | None,
    *,
    unsent: int,
    camera_pixels: int,
    video_packets: int,
    reports: Reports,
    seconds: float,
) -> SentStatistics:
    """Return our side; before the connection stands there is no `outgoing`, and nothing was sent."""
    if outgoing is None:
        return SentStatistics()
    return SentStatistics(
        frames=outgoing.frames,
        frames_left_out=outgoing.frames_left_out,
        fps=outgoing.frames / seconds if seconds else 0.0,
        cpu_ms_per_frame=outgoing.cpu_us / 1000 / max(1, outgoing.frames),
        messages=outgoing.messages,
        message_bytes=outgoing.message_bytes,
        messages_unsent=unsent,
        avatar_bytes=outgoing.offer.sent_bytes if outgoing.offer else 0,
        avatar_verdict=outgoing.offer.verdict if outgoing.offer else None,
        camera_pixels=camera_pixels,
        video_packets=video_packets,
        rungs=tuple(outgoing.changes),
        reported_lost=reports.their_lost,
        reported_latency_ms=reports.their_latency_ms,
    )


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
