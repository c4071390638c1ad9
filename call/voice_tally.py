"""Adds up what a call's voice has counted, both ways."""

from typing import Any

from mien.call.opus import RATE_HZ
from mien.call.peer import Peer
from mien.call.statistics import VoiceReceived, VoiceSent, VoiceStatistics
from mien.call.voice_line import VoiceLine
from mien.call.voice_processing import VoiceProcessing


async def voice_statistics(peer: Peer | None, *, seconds: float) -> VoiceStatistics:
    """Return how the voice goes, or went. Its line can only be asked while the connection stands."""
    line = peer.voice_line if peer else None
    if peer is None or line is None:
        return VoiceStatistics()
    sender: dict[str, Any] = {}
    receiver: dict[str, Any] = {}
    for transceiver in peer.connection.getTransceivers():
        if transceiver.kind == "audio":
            sender |= {report.type: report for report in (await transceiver.sender.getStats()).values()}
            receiver |= {report.type: report for report in (await transceiver.receiver.getStats()).values()}
    return VoiceStatistics(
        sent=_sent(line, sender.get("remote-inbound-rtp"), seconds),
        received=_received(line, receiver.get("inbound-rtp"), seconds),
    )


def _sent(line: VoiceLine, report: Any, seconds: float) -> VoiceSent:
    counts, source = line.sent, line.source
    processing = getattr(source, "filter", None)
    treated = processing.treatments() if isinstance(processing, VoiceProcessing) else None
    return VoiceSent(
        packets=counts.packets,
        kbps=_kbps(counts.payload_bytes, seconds),
        speech_share=counts.spoken_frames / counts.frames if counts.frames else 0.0,
        reported_lost=max(0, report.packetsLost) if report else 0,
        reported_lost_share=report.fractionLost / 256 if report else 0.0,
        reported_jitter_ms=report.jitter / RATE_HZ * 1000 if report else 0.0,
        noise_suppression=treated.noise if treated else None,
        gain=treated.gain if treated else None,
        echo=treated.echo if treated else None,
        snr_db=treated.snr_db if treated else None,
    )


def _received(line: VoiceLine, report: Any, seconds: float) -> VoiceReceived:
    counts = line.playout.counts
    played = max(1, counts.played_samples)
    return VoiceReceived(
        packets=counts.packets,
        kbps=_kbps(line.received_bytes, seconds),
        lost=max(0, report.packetsLost) if report else 0,
        late=counts.late,
        skipped=counts.skipped,
        malformed=counts.malformed,
        played_s=counts.played_samples / RATE_HZ,
        repaired_share=counts.repaired_samples / played,
        filled_share=counts.filled_samples / played,
        wait_ms=line.playout.wait_us / 1000,
    )


def _kbps(count: int, seconds: float) -> float:
    return count * 8 / 1000 / seconds if seconds else 0.0
