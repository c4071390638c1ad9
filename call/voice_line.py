"""Makes one connection's audio line ours: coded by us, described by us, played by us, and reported on seldom.

Messages ride along in its packets, both ways: they are taken out before a packet is played.

aiortc codes voice at 96 kbps, and keeps four packets back before it plays one: 240 ms at 60 ms a packet, and
the end of a sentence until the next one begins where pauses are not sent. What is done about that here is
done to the objects of one connection; nothing is patched for other connections.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Any, Final

import av
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpReceiver, RTCRtpSender
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcdtlstransport import SRTP_AES128_CM_SHA1_80, RTCDtlsTransport
from aiortc.rtp import AnyRtcpPacket, RtcpRrPacket, RtcpSrPacket, RtpPacket
from aiortc.stats import RTCRemoteInboundRtpStreamStats

from mien.call import clock, libopus
from mien.call.audio import VoiceTrack
from mien.call.carrier_cadence import Gaps
from mien.call.opus import MAX_PACKET_MS, RATE_HZ, VoiceSettings, audio_frame, packet_samples
from mien.call.opus_padding import take
from mien.call.queue_gauge import QueueGauge
from mien.call.voice_coder import SpokenCounts
from mien.call.voice_loss import LossWatch
from mien.call.voice_playout import READ_SAMPLES, VoicePlayout
from mien.call.voice_track import CodedVoiceTrack, Riders
from mien.protocol.errors import WireError

REPORT_EVERY_US: Final = 5_000_000  # RFC 3550 section 6.2; aiortc reports every second, for 1.6 kbps
READ_US: Final = READ_SAMPLES * 1_000_000 // RATE_HZ
MAX_BEHIND_US: Final = 200_000  # after a longer sleep the time in between is left out

_ASKED_BPS: Final = re.compile(r"^a=fmtp:[^\r\n]*\bmaxaveragebitrate=(\d{1,6})\b", re.MULTILINE)
_READS_REPEATS: Final = re.compile(r"^a=fmtp:[^\r\n]*\buseinbandfec=1\b", re.MULTILINE)


class VoiceLine:
    """The audio line of one connection. Make it before any offer, `run` it, and `describe` what is sent of it."""

    def __init__(
        self,
        pc: RTCPeerConnection,
        voice: MediaStreamTrack | None,
        settings: VoiceSettings,
        on_frame: Callable[[av.AudioFrame], None],
        *,
        riders: Riders | None = None,
        on_message: Callable[[bytes], None] | None = None,
    ) -> None:
        """`on_frame` gets the other side's voice, 20 ms of mono 48 kHz at a time, while there is any.

        `riders` have messages for the other side, `on_message` gets those from there.
        """
        self.source = voice
        self.received_bytes = 0  # of voice
        self._settings = settings
        self._on_frame = on_frame
        self._on_message = on_message
        self._coded = CodedVoiceTrack(voice, settings, riders) if voice else None
        self._without_voice = 0  # packets so far
        self.queue = QueueGauge()  # of their voice
        self.packets = 0  # that came, with a voice or without
        self._arrived = asyncio.Event()
        self._position = 0
        self.playout = VoicePlayout()
        transceiver = pc.addTransceiver(self._coded or "audio", "sendrecv" if voice else "recvonly")
        capabilities = RTCRtpSender.getCapabilities("audio").codecs
        transceiver.setCodecPreferences([c for c in capabilities if c.mimeType.lower() == "audio/opus"])
        self._sender = transceiver.sender
        self._reads_repeats = False  # the other side
        _report_seldom(transceiver.sender)
        _report_seldom(transceiver.receiver)
        _take_packets(transceiver.receiver, self._on_packet)

    def describe(self, sdp: str) -> str:
        """Return our description with what we want to hear (RFC 7587), and without header extensions for voice."""
        return describe_voice(sdp, self._settings)

    def heed(self, sdp: str) -> None:
        """Take what the other side's description asks for."""
        self._reads_repeats = _READS_REPEATS.search(sdp) is not None
        asked = _ASKED_BPS.search(sdp)
        if asked and self._coded is not None:
            self._coded.limit(int(asked[1]) / 1000)

    @property
    def most_kbps(self) -> float | None:
        """What was agreed on for our voice; None where we send none."""
        return self._coded.most_kbps if self._coded else None

    def pace(self, kbps: float, frame_ms: int) -> None:
        """Code our voice from its next frame on at this rate, in such packets."""
        if self._coded is not None:
            self._coded.pace(kbps, frame_ms)

    def space(self, gaps: Gaps) -> None:
        """Let messages ride in our packets so far apart."""
        if self._coded is not None:
            self._coded.space(gaps)

    @property
    def zero_timestamp_us(self) -> int | None:
        """When the sound at RTP timestamp 0 was, or would have been, made here; on `mien.call.clock`.

        `None` until a packet has left. Timestamps wrap after a day; then it is another time.
        """
        position = self._coded.newest_position if self._coded is not None else None
        if position is None or not isinstance(self.source, VoiceTrack):
            return None
        sender = vars(self._sender)
        if not sender["_RTCRtpSender__packet_count"]:
            return None
        timestamp: int = sender["_RTCRtpSender__rtp_timestamp"]
        return self.source.capture_us(position) - timestamp * 1_000_000 // RATE_HZ

    @property
    def sent(self) -> SpokenCounts:
        """What was said here so far."""
        return self._coded.counts if self._coded else SpokenCounts()

    async def run(self) -> None:
        """Play what arrives, and repeat what we say where it gets lost, until cancelled."""
        watch = asyncio.create_task(self._watch_losses(), name="voice losses")
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                await self._play()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch_losses(self) -> None:
        """Repeat our voice in its packets where the other side reads that, and its reports tell of losses."""
        if self._coded is None:
            return
        watch = LossWatch()
        while True:
            await asyncio.sleep(REPORT_EVERY_US / 1e6)
            for report in (await self._sender.getStats()).values():
                if isinstance(report, RTCRemoteInboundRtpStreamStats) and self._reads_repeats:
                    self._coded.expect_loss(
                        watch.on_report(
                            lost=report.packetsLost, came=report.packetsReceived, kbps=self._coded.kbps
                        )
                    )

    async def _play(self) -> None:
        due_us = clock.now_us()
        while (sound := self.playout.read(clock.now_us())) is not None:
            self._on_frame(audio_frame(sound, self._position))
            self._position += len(sound)
            due_us += READ_US
            behind_us = clock.now_us() - due_us
            if behind_us > MAX_BEHIND_US:
                due_us += behind_us
            await asyncio.sleep(max(0, -behind_us) / 1e6)

    def _on_packet(self, packet: RtpPacket) -> None:
        self.packets += 1
        now_us = clock.now_us()
        taken = take(packet.payload)
        if taken is not None and self._on_message is not None:
            self._on_message(taken.message)
        voice = taken.voice if taken is not None else packet.payload
        if voice is None:  # nothing to be heard, and no loss either: the playout is not to know of it
            self._without_voice += 1
            return
        self.received_bytes += len(voice)
        with contextlib.suppress(WireError):  # which the playout counts
            end = packet.timestamp + packet_samples(voice)
            self.queue.note(end * 1_000_000 // RATE_HZ, now_us)
        sequence = (packet.sequence_number - self._without_voice) % (1 << 16)
        self.playout.push(sequence, packet.timestamp, voice, arrival_us=now_us)
        self._arrived.set()


def describe_voice(sdp: str, settings: VoiceSettings) -> str:
    """Return a description whose audio section says what we want to hear.

    Header extensions (the section's name, the level) would cost 1 kbps: what is alone of its kind in a bundle
    is known by its payload type. Repeats (FEC) are asked for where they can be read: PyAV has no way to say so.
    """
    lines = []
    section = ""
    for line in sdp.splitlines():
        if line.startswith("m="):
            section = line[2:].split(" ")[0]
        if section == "audio" and line.startswith("a=extmap:"):
            continue
        lines.append(line)
        opus = re.match(r"a=rtpmap:(\d+) opus/", line, re.IGNORECASE) if section == "audio" else None
        if opus:
            rate = f"maxaveragebitrate={round(settings.kbps * 1000)}"
            repeats = f"useinbandfec={int(libopus.available())}"
            lines.append(f"a=fmtp:{opus[1]} minptime=20;{repeats};stereo=0;sprop-stereo=0;{rate}")
            lines.append(f"a=ptime:{settings.frame_ms}")
            lines.append(f"a=maxptime:{MAX_PACKET_MS}")
    return "\r\n".join(lines) + "\r\n"


class _PassingOn:
    """Stands where aiortc's jitter buffer stands, and keeps nothing: packets go to a playout of their own."""

    def __init__(self, on_packet: Callable[[RtpPacket], None]) -> None:
        self._on_packet = on_packet

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """Return that no picture is wanted and no frame is complete."""
        self._on_packet(packet)
        return False, None


def prefer_short_seal(transport: RTCDtlsTransport) -> None:
    """Seal packets of voice with 10 bytes (RFC 5764's AES-128 with HMAC-SHA1) rather than 16 (AES-GCM).

    Every WebRTC implementation has to have it (RFC 8827 section 6.5); 16.7 packets a second make 0.8 kbps of it.
    """
    others = [p for p in transport._srtp_profiles if p is not SRTP_AES128_CM_SHA1_80]
    transport._srtp_profiles = [SRTP_AES128_CM_SHA1_80, *others]


def _take_packets(receiver: RTCRtpReceiver, on_packet: Callable[[RtpPacket], None]) -> None:
    name = "_RTCRtpReceiver__jitter_buffer"
    if not hasattr(receiver, name):
        raise RuntimeError(
            "RTCRtpReceiver has no jitter buffer: this aiortc is not the one that is known here"
        )
    vars(receiver)[name] = _PassingOn(on_packet)


def _report_seldom(line: RTCRtpSender | RTCRtpReceiver) -> None:
    """Let a report pass every `REPORT_EVERY_US`, and everything that is none at once."""
    send: Any = line._send_rtcp
    last_us: int | None = None

    async def send_if_due(packets: AnyRtcpPacket | list[AnyRtcpPacket]) -> None:
        nonlocal last_us
        first = packets[0] if isinstance(packets, list) else packets
        if isinstance(first, RtcpSrPacket | RtcpRrPacket):
            now_us = clock.now_us()
            if last_us is not None and now_us - last_us < REPORT_EVERY_US:
                return
            last_us = now_us
        await send(packets)

    vars(line)["_send_rtcp"] = send_if_due
