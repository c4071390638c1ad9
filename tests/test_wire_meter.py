"""The wire meter against bytes by hand, and against a packet socket beside a real connection."""

import asyncio
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import pytest
from aioice.ice import StunProtocol
from aioice.turn import TurnTransport
from aiortc import MediaStreamTrack, RTCConfiguration, RTCDataChannel, RTCPeerConnection
from aiortc.mediastreams import AudioStreamTrack
from hypothesis import given
from hypothesis import strategies as st

from mien.bench.packet_capture import PacketCapture, udp_length
from mien.call.datagram_shares import classify, is_rtcp, sctp_shares, voice_shares
from mien.call.opus_padding import put
from mien.call.riders import NOBODY, Rider, rider_of, rider_of_opus, scene_bytes
from mien.call.wire_cause import Cause, Direction, Share
from mien.call.wire_ledger import WireLedger
from mien.call.wire_meter import WireMeter
from mien.call.wire_tariff import tariff, tariffs_as_json
from mien.call.wire_totals import Flow, PathFlow, WireTotals
from mien.protocol.capsule import pack
from mien.protocol.message import Kind

PAYLOAD = b"c" * 42


def kind(payload_type: int) -> Cause:
    return Cause.VIDEO if payload_type == 97 else Cause.AUDIO


def record(kind: int, body: bytes = b"x" * 20) -> bytes:
    return struct.pack("!B2s2s6sH", kind, b"\xfe\xfd", bytes(2), bytes(6), len(body)) + body


def data_chunk(stream: int, user_data: bytes) -> bytes:
    return (
        struct.pack("!BBHLHHL", 0, 7, 16 + len(user_data), 1, stream, 0, 53)
        + user_data
        + b"\0" * (-len(user_data) % 4)
    )


SACK_CHUNK = struct.pack("!BBHLLHH", 3, 0, 16, 1, 1000, 0, 0)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"\x00\x01\x00\x00", Cause.STUN),
        (b"\x01\x01", Cause.STUN),
        (record(22), Cause.DTLS),
        (record(20) + record(22), Cause.DTLS),
        (record(21), Cause.DTLS),
        (record(23), None),
        (record(22) + record(23), None),
        (b"\x80\x60" + bytes(10), Cause.AUDIO),
        (b"\x80\xe1" + bytes(10), Cause.VIDEO),  # marker bit set on payload type 97
        (b"\x80\xc8" + bytes(10), Cause.RTCP),
        (b"\x81\xce" + bytes(10), Cause.RTCP),
        (b"\x80", Cause.OTHER),
        (b"\x40\x00", Cause.OTHER),
        (b"", Cause.OTHER),
    ],
)
def test_first_bytes_name_the_cause(data: bytes, cause: Cause | None) -> None:
    assert classify(data, kind) == cause


def test_rtcp_is_told_from_rtp_at_the_edges() -> None:
    assert [is_rtcp(bytes([0x80, second])) for second in (191, 192, 223, 224)] == [False, True, True, False]


def test_shares_of_a_bundled_packet() -> None:
    packet = bytes(12) + SACK_CHUNK + data_chunk(5, b"12345") + data_chunk(1, b"1")
    causes = {5: Cause.COEFFICIENTS}
    assert sctp_shares(packet, lambda s: causes.get(s, Cause.CONTROL)) == (
        Share(Cause.SACK, 16),
        Share(Cause.COEFFICIENTS, 24, 5),
        Share(Cause.CONTROL, 20, 1),
    )


def test_any_bytes_have_shares() -> None:
    packet = bytes(12) + data_chunk(5, b"12345") + SACK_CHUNK
    for end in range(len(packet)):
        shares = sctp_shares(packet[:end], lambda s: Cause.CONTROL)
        assert shares and all(s.weight > 0 for s in shares)
    assert sctp_shares(bytes(12) + b"\0\0\0\0" * 9, kind) == (Share(Cause.SCTP, 1),)  # a length of zero


def test_ledger_splits_a_datagram_exactly() -> None:
    ledger = WireLedger(0)
    shares = (Share(Cause.SACK, 16), Share(Cause.COEFFICIENTS, 24, 5), Share(Cause.CONTROL, 20, 1))
    ledger.enter(Direction.SENT, 125, shares, 500_000)
    totals = ledger.totals(1_000_000)
    assert {c: (f.datagrams, f.wire_bytes, f.payload_bytes) for c, f in totals.sent.items()} == {
        Cause.SACK: (0, 33, 0),
        Cause.COEFFICIENTS: (1, 51, 5),
        Cause.CONTROL: (0, 41, 1),
    }
    assert totals.total(Direction.SENT).wire_bytes == 125
    assert totals.kbps(Direction.SENT) == 1.0
    assert not totals.received


def test_ledger_corrects_a_cause_without_changing_the_total() -> None:
    ledger = WireLedger(0)
    entry = ledger.enter(Direction.RECEIVED, 93, (Share(Cause.OTHER, 1),), 0)
    ledger.enter(Direction.RECEIVED, 100, (Share(Cause.STUN, 1),), 0)
    ledger.assign(entry, (Share(Cause.SACK, 16),))
    totals = ledger.totals(1)
    assert {c: f.wire_bytes for c, f in totals.received.items()} == {Cause.STUN: 100, Cause.SACK: 93}


def test_window_forgets() -> None:
    ledger = WireLedger(0)
    for second in range(20):
        ledger.enter(
            Direction.SENT, 1000 if second < 10 else 125, (Share(Cause.AUDIO, 1),), second * 1_000_000
        )
    now_us = 20_000_000 - 1
    assert ledger.kbps(Direction.SENT, None, window_us=5_000_000, now_us=now_us) == pytest.approx(1.0)
    assert ledger.kbps(Direction.SENT, Cause.AUDIO, window_us=5_000_000, now_us=now_us) == pytest.approx(1.0)
    assert ledger.kbps(Direction.SENT, Cause.VIDEO, window_us=5_000_000, now_us=now_us) == 0
    assert ledger.kbps(Direction.RECEIVED, None, window_us=5_000_000, now_us=now_us) == 0
    young = WireLedger(0)
    young.enter(Direction.SENT, 250, (Share(Cause.AUDIO, 1),), 0)
    assert young.kbps(Direction.SENT, None, window_us=5_000_000, now_us=2_000_000 - 1) == pytest.approx(1.0)


def test_difference_of_two_readings() -> None:
    ledger = WireLedger(0)
    ledger.enter(Direction.SENT, 100, (Share(Cause.SACK, 1),), 0)
    before = ledger.totals(1_000_000)
    ledger.enter(Direction.SENT, 125, (Share(Cause.SACK, 1),), 1_500_000)
    after = ledger.totals(2_000_000).since(before)
    assert (after.elapsed_us, after.sent[Cause.SACK].wire_bytes, after.sent[Cause.SACK].datagrams) == (
        1_000_000,
        125,
        1,
    )
    assert after.as_json()["sent"]["total"]["kbps"] == 1.0


# --- riders -----------------------------------------------------------------------------------------------------


MESSAGE = bytes([Kind.COEFFICIENTS << 4]) + b"m" * 41
SCENE = bytes([Kind.SCENE << 4]) + b"s" * 29
BOTH = pack([MESSAGE[:19], SCENE])  # 1 + 1 + 19 + 1 + 30
SPOKEN = b"\x48" + b"voice"  # SILK, 20 ms, one frame
TWICE = b"\x49" + b"voice" * 2  # two frames of the same length
# The number of frames, the length of the padding, two bytes of guard and one of magic come to the message.
RIDE_BYTES = 1 + 1 + 2 + 1


def rtp(payload: bytes, *, first: int = 0x80, more: bytes = b"") -> bytes:
    return bytes([first, 96]) + bytes(10) + more + payload


@pytest.mark.parametrize(
    ("packet", "rider"),
    [
        (put(SPOKEN, MESSAGE), Rider(RIDE_BYTES + 42, 42)),
        (put(TWICE, MESSAGE), Rider(RIDE_BYTES + 42, 42)),
        (put(SPOKEN, b""), Rider(RIDE_BYTES, 0)),
        (put(SPOKEN, b"m" * 300), Rider(RIDE_BYTES + 1 + 300, 300)),
        (put(b"\x48", MESSAGE, voice=False), Rider(1 + RIDE_BYTES + 42, 42, alone=True)),
        (put(SPOKEN, SCENE), Rider(RIDE_BYTES + 30, 30, scene_bytes=30)),
        (put(SPOKEN, BOTH), Rider(RIDE_BYTES + 52, 52, scene_bytes=30)),
        (put(SPOKEN, MESSAGE)[:-1], NOBODY),  # less padding than it says
        (bytes([0x4B, 0x41, 3]) + b"voice" + bytes(3), NOBODY),  # padding without a message is voice's own
        (SPOKEN, NOBODY),
        (b"\x4b", NOBODY),
        (b"", NOBODY),
    ],
)
def test_a_rider_is_what_the_packet_is_longer_by(packet: bytes, rider: Rider) -> None:
    assert rider_of_opus(packet) == rider
    extension = b"\xbe\xde\0\x01" + bytes(4)
    assert rider_of(rtp(packet)) == rider
    assert rider_of(rtp(packet, first=0x92, more=bytes(8) + extension)) == rider


@given(st.binary(max_size=64))
def test_any_packet_has_a_rider_within_it(data: bytes) -> None:
    for rider in (rider_of(data), rider_of_opus(data)):
        assert 0 <= rider.payload_bytes <= rider.wire_bytes <= len(data)


def test_a_rider_pays_for_itself_and_the_packet_stays_voice() -> None:
    """Also where it is longer than the voice: the packet would have been sent without it."""
    ledger = WireLedger(0)
    ledger.enter(Direction.SENT, 150, voice_shares(150, Rider(90, 80)), 0)
    ledger.enter(Direction.SENT, 60, voice_shares(60, NOBODY), 0)
    sent = ledger.totals(1_000_000).sent
    assert {c: (f.datagrams, f.wire_bytes, f.payload_bytes) for c, f in sent.items()} == {
        Cause.AUDIO: (2, 60 + 60, 0),
        Cause.COEFFICIENTS: (0, 90, 80),
    }


def test_face_and_scene_share_a_message() -> None:
    ledger = WireLedger(0)
    ledger.enter(Direction.SENT, 150, voice_shares(150, rider_of_opus(put(SPOKEN, BOTH))), 0)
    packet = bytes(12) + data_chunk(5, BOTH) + data_chunk(5, SCENE) + data_chunk(6, SCENE)
    shares = sctp_shares(packet, lambda s: Cause.COEFFICIENTS if s == 5 else Cause.CONTROL)
    assert shares == (
        Share(Cause.COEFFICIENTS, 68 - 68 * 30 // 52, 22),
        Share(Cause.SCENE, 68 * 30 // 52, 30),
        Share(Cause.SCENE, 48, 30),
        Share(Cause.CONTROL, 48, 30),  # another channel's bytes are nobody's message
    )
    sent = ledger.totals(1).sent
    assert sent[Cause.AUDIO] == Flow(1, 150 - RIDE_BYTES - 52, 0)
    scene_wire = (RIDE_BYTES + 52) * 30 // 52
    assert sent[Cause.SCENE] == Flow(0, scene_wire, 30)
    assert sent[Cause.COEFFICIENTS] == Flow(0, RIDE_BYTES + 52 - scene_wire, 22)


def test_broken_capsules_are_the_faces() -> None:
    for end in range(1, len(BOTH)):
        assert scene_bytes(BOTH[:end]) <= end
    assert [scene_bytes(m) for m in (b"", MESSAGE, SCENE, BOTH, BOTH[:20])] == [0, 0, 30, 30, 0]


def test_a_packet_that_was_made_for_its_rider_is_all_the_riders() -> None:
    ledger = WireLedger(0)
    ledger.enter(Direction.SENT, 110, voice_shares(110, Rider(60, 42, alone=True)), 0)
    assert ledger.totals(1).sent == {Cause.COEFFICIENTS: Flow(1, 110, 42)}


# --- other paths --------------------------------------------------------------------------------------------------


def test_what_the_same_datagrams_cost_elsewhere() -> None:
    """100 datagrams of 125 bytes over IPv4 in 10 s, each way."""
    ledger = WireLedger(0)
    for direction in Direction:
        for number in range(100):
            ledger.enter(direction, 125, (Share(Cause.AUDIO, 1),), number)
    totals = ledger.totals(10_000_000)
    sent, received = tariff(totals, Direction.SENT), tariff(totals, Direction.RECEIVED)
    assert sent.ipv4_kbps == received.ipv4_kbps == 10.0
    assert sent.ipv6_kbps == received.ipv6_kbps == pytest.approx(11.6)
    # a Refresh of 112 bytes each 500 s, a ChannelBind of 124 each 240 s, and their answers; 28 of headers each
    assert sent.turn_kbps == pytest.approx(10.32 + (140 / 500 + 152 / 240) * 0.008)
    assert received.turn_kbps == pytest.approx(10.32 + (88 / 500 + 80 / 240) * 0.008)
    assert sent.turn_ipv6_kbps == pytest.approx(11.92 + (160 / 500 + 172 / 240) * 0.008)
    assert tariffs_as_json(totals)["sent"]["ipv6_kbps"] == 11.6
    assert tariff(ledger.totals(0), Direction.SENT).turn_kbps == 0


def test_a_difference_knows_the_paths_too() -> None:
    ledger = WireLedger(0)
    for ipv6, relayed in ((True, False), (False, True), (True, True)):
        ledger.note_path(Direction.SENT, ipv6=ipv6, relayed=relayed)
    before = ledger.totals(1)
    ledger.note_path(Direction.SENT, ipv6=True, relayed=False)
    assert before.sent_path == PathFlow(2, 2)
    assert ledger.totals(2).since(before).sent_path == PathFlow(1, 0)


# --- beside a real connection ---------------------------------------------------------------------------------


@pytest.fixture
def packets() -> Iterator[PacketCapture]:
    try:
        sniffer = PacketCapture()
    except (AttributeError, PermissionError, OSError) as error:
        pytest.skip(f"no packet socket here ({error}): needs Linux and root")
    yield sniffer
    sniffer.close()


def test_what_a_capture_reads() -> None:
    udp = struct.pack("!HHHH", 5000, 6000, 12, 0) + b"data"
    ipv4 = (
        bytes([0x46, 0]) + struct.pack("!H", 36) + bytes(5) + bytes([17]) + bytes(14) + udp
    )  # with an option
    ipv6 = bytes([0x60, 0, 0, 0]) + struct.pack("!H", 12) + bytes([17, 64]) + bytes(32) + udp
    assert udp_length(ipv4) == (5000, 36)
    assert udp_length(ipv6) == (5000, 52)
    tcp = bytearray(ipv6)
    tcp[6] = 6
    for other in (b"", ipv4[:20], ipv6[:40], bytes(tcp), b"\x50" + ipv4[1:]):
        assert udp_length(other) is None


def ports(pc: RTCPeerConnection) -> set[int]:
    lines = pc.localDescription.sdp.splitlines()
    return {int(line.split()[5]) for line in lines if line.startswith("a=candidate:")}


async def talk(sender: RTCPeerConnection, receiver: RTCPeerConnection, *, messages: int) -> None:
    coefficients = sender.createDataChannel("mien-coefficients", ordered=False, maxRetransmits=0)
    control = sender.createDataChannel("mien-control")
    sender.addTrack(AudioStreamTrack())
    receiver.addTrack(AudioStreamTrack())
    await sender.setLocalDescription(await sender.createOffer())
    await receiver.setRemoteDescription(sender.localDescription)
    await receiver.setLocalDescription(await receiver.createAnswer())
    await sender.setRemoteDescription(receiver.localDescription)
    await opened(coefficients)
    await opened(control)
    for _ in range(messages):
        coefficients.send(PAYLOAD)
        await asyncio.sleep(0.05)
    control.send(b"hello")
    await asyncio.sleep(0.3)


class RidingTrack(MediaStreamTrack):
    """Opus packets that are coded already: every second one with a rider."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    async def recv(self) -> "av.Packet[Any]":
        await asyncio.sleep(0.02)
        packet = av.Packet(put(SPOKEN, MESSAGE) if self.count % 2 else SPOKEN)
        packet.pts, packet.time_base = 960 * self.count, Fraction(1, 48_000)
        self.count += 1
        return packet


async def ridden_talk() -> tuple[WireTotals, WireTotals]:
    sender, receiver = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
    meters = WireMeter(), WireMeter()
    for meter, pc in zip(meters, (sender, receiver), strict=True):
        meter.attach(pc)
    try:
        sender.addTrack(RidingTrack())
        await sender.setLocalDescription(await sender.createOffer())
        await receiver.setRemoteDescription(sender.localDescription)
        await receiver.setLocalDescription(await receiver.createAnswer())
        await sender.setRemoteDescription(receiver.localDescription)
        while meters[1].totals().received.get(Cause.AUDIO, Flow()).datagrams < 20:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    finally:
        await sender.close()
        await receiver.close()
    return meters[0].totals(), meters[1].totals()


def test_riders_of_a_real_connection() -> None:
    """Every second packet is longer than the others, and the meter finds by how much, at both ends."""
    sender, receiver = asyncio.run(ridden_talk())
    for flows in (sender.sent, receiver.received):
        riders, voice = flows[Cause.COEFFICIENTS], flows[Cause.AUDIO]
        count = riders.payload_bytes // len(MESSAGE)
        assert riders == Flow(0, (len(MESSAGE) + RIDE_BYTES) * count, len(MESSAGE) * count)
        assert abs(voice.datagrams - 2 * count) <= 1 < count
        # What is left is the same with and without a rider: IP + UDP, 12 RTP, the seal, perhaps an extension
        assert voice.wire_bytes % voice.datagrams == 0
        assert 28 + 12 + 6 + 10 <= voice.wire_bytes // voice.datagrams <= 48 + 20 + 6 + 16


async def opened(channel: RTCDataChannel) -> None:
    is_open = asyncio.Event()
    channel.on("open", is_open.set)
    if channel.readyState != "open":
        await asyncio.wait_for(is_open.wait(), 15)


async def metered_talk() -> tuple[WireTotals, WireTotals, set[int], set[int]]:
    sender, receiver = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
    meters = WireMeter(), WireMeter()
    for meter, pc in zip(meters, (sender, receiver), strict=True):
        meter.attach(pc)
    try:
        await talk(sender, receiver, messages=20)
        known = ports(sender), ports(receiver)
    finally:
        await sender.close()
        await receiver.close()
    return meters[0].totals(), meters[1].totals(), *known


def test_meter_agrees_with_a_packet_socket(packets: PacketCapture) -> None:
    sender, receiver, sender_ports, receiver_ports = asyncio.run(metered_talk())
    packets.close()
    for totals, own in ((sender, sender_ports), (receiver, receiver_ports)):
        captured = sum(packets.bytes_from[port] for port in own)
        assert captured > 5000
        assert totals.total(Direction.SENT).wire_bytes == pytest.approx(captured, rel=0.02)


def test_causes_of_a_real_connection() -> None:
    sender, receiver, _, _ = asyncio.run(metered_talk())
    sent, got = sender.sent[Cause.COEFFICIENTS], receiver.received[Cause.COEFFICIENTS]
    assert sent.datagrams == got.datagrams == 20
    assert sent.payload_bytes == got.payload_bytes == 20 * len(PAYLOAD)
    # 28 IP + UDP, 13 DTLS record, 8 + 16 AES-GCM, 12 SCTP, 16 DATA, and 2 to fill the chunk up to 44
    assert sender.overhead_bytes(Direction.SENT, Cause.COEFFICIENTS) == 93 + 2
    assert sender.received[Cause.SACK].wire_bytes == receiver.sent[Cause.SACK].wire_bytes
    assert receiver.sent[Cause.SACK].wire_bytes == 93 * receiver.sent[Cause.SACK].datagrams
    assert sender.sent[Cause.CONTROL].payload_bytes >= len(b"hello")
    for cause in (Cause.STUN, Cause.DTLS, Cause.AUDIO, Cause.SCTP):
        assert sender.sent[cause].wire_bytes > 0, cause
    for direction, other in ((Direction.SENT, Direction.RECEIVED), (Direction.RECEIVED, Direction.SENT)):
        assert sender.total(direction).wire_bytes == pytest.approx(receiver.total(other).wire_bytes, rel=0.02)
    assert Cause.OTHER not in sender.sent and Cause.OTHER not in receiver.received


def test_a_meter_counts_one_connection() -> None:
    async def attach_twice() -> None:
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        meter = WireMeter()
        meter.attach(pc)
        with pytest.raises(RuntimeError, match="one for each"):
            meter.attach(pc)
        await pc.close()

    asyncio.run(attach_twice())


@given(st.binary(max_size=200))
def test_any_datagram_has_a_cause(data: bytes) -> None:
    classify(data, kind)
    shares = sctp_shares(data, lambda stream: Cause.CONTROL)
    assert shares and all(share.weight > 0 for share in shares)


def test_a_relayed_datagram_costs_its_channel_header() -> None:
    """Through aioice's own TURN transport, over an allocation that is a stub."""

    class Open(asyncio.DatagramTransport):
        def is_closing(self) -> bool:
            return False

    class Allocation:
        transport = Open()
        receiver: object = None

        def __init__(self) -> None:
            self.sent: list[bytes] = []

        async def send_data(self, data: bytes, addr: tuple[str, int]) -> None:
            self.sent.append(data)

    class Silent(StunProtocol):
        def datagram_received(self, data: bytes | str, addr: tuple[object, ...]) -> None:
            pass

    async def relay() -> tuple[WireTotals, Allocation]:
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        meter = WireMeter()
        meter.attach(pc)
        pc.createDataChannel("mien-control")
        allocation = Allocation()
        assert pc.sctp is not None
        connection = pc.sctp.transport.transport._connection
        protocol = Silent(connection)
        protocol.transport = TurnTransport(allocation)  # type: ignore[arg-type,assignment]
        connection._protocols.append(protocol)
        protocol.transport.sendto(b"\x00\x01" + bytes(18), ("192.0.2.1", 9))
        await asyncio.sleep(0)
        allocation.receiver.datagram_received(b"\x01\x01" + bytes(18), ("2001:db8::1", 9))  # type: ignore[attr-defined]
        connection._protocols.clear()
        await pc.close()
        return meter.totals(), allocation

    totals, allocation = asyncio.run(relay())
    assert len(allocation.sent) == 1
    assert totals.sent[Cause.STUN].wire_bytes == 20 + 4 + 28
    assert totals.received[Cause.STUN].wire_bytes == 20 + 4 + 48
    assert (totals.sent_path, totals.received_path) == (PathFlow(0, 1), PathFlow(1, 1))
    direct = 8 / 1000 / (totals.elapsed_us / 1e6)  # kbps of one byte
    assert tariff(totals, Direction.SENT).ipv4_kbps == pytest.approx((20 + 28) * direct)
    assert tariff(totals, Direction.RECEIVED).ipv4_kbps == pytest.approx((20 + 28) * direct)
    assert tariff(totals, Direction.RECEIVED).ipv6_kbps == pytest.approx((20 + 48) * direct)
