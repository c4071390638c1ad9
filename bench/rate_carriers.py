"""How each carrier cuts a face into messages while somebody speaks, and what one costs on the wire, one way.

Data channel: a message of a fifth of a second bears 93 bytes of headers. Audio: a message rides in a packet of
voice that leaves anyway, and costs what the packet grows by. SACKs and STUN are a whole call's (`mien bench call`).
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mien.bench.rate_quality import DATACHANNEL_BYTES
from mien.call.carrier_cadence import VOICE_GAP
from mien.call.opus import RATE_HZ, SAMPLES_PER_MS
from mien.call.opus_padding import overhead_bytes
from mien.protocol.codec import Batch, MessageEncoder
from mien.protocol.message import MAX_FRAMES_PER_MESSAGE
from mien.protocol.quantizer import Quality
from mien.protocol.repeats import Repeats
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader

_SILK_WIDEBAND_TOC: Final = {20: 0x48, 40: 0x50, 60: 0x58}  # RFC 6716 table 2, one frame, mono
_VOICE_KBPS: Final = 12


@dataclass(frozen=True, slots=True)
class Carrier:
    """What messages travel in. `voice_ms`: the duration of the voice's packets; None: no packets of voice."""

    name: str
    voice_ms: int | None = None


DATACHANNEL: Final = Carrier("datachannel")
CARRIERS: Final = (DATACHANNEL, Carrier("audio 60 ms", 60), Carrier("audio 40 ms", 40))


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message. `wire_bytes` with its headers; `age_s` of its oldest new frame when it left.

    `checksum` is of what the sender holds that the receiver will read.
    """

    data: bytes
    wire_bytes: int
    age_s: float
    checksum: int


def checksum(batch: Batch) -> int:
    """Return the CRC-32 of everything that a batch says."""
    crc = zlib.crc32(f"{batch.first_tick} {batch.still}".encode())
    for tick, state in (*batch.history, *enumerate(batch.states, batch.first_tick)):
        crc = zlib.crc32(state.coefficients().tobytes(), zlib.crc32(f"{tick} {state.tracked}".encode(), crc))
    return crc


def send(
    carrier: Carrier,
    header: StreamHeader,
    quality: Quality,
    states: Sequence[FaceState],
    *,
    repeats: Repeats | None = None,
) -> Iterator[SentMessage]:
    """Give the messages of `states`, one for each tick from 0 on, as the carrier would send them."""
    encoder = MessageEncoder(header, quality=quality)
    encoder.repeats = repeats
    if carrier.voice_ms is None:
        yield from _batched(encoder, header, states)
    else:
        encoder.frames_per_message = MAX_FRAMES_PER_MESSAGE
        yield from _riding(encoder, header, states, carrier.voice_ms)


def _batched(
    encoder: MessageEncoder, header: StreamHeader, states: Sequence[FaceState]
) -> Iterator[SentMessage]:
    for tick, state in enumerate(states):
        data = encoder.push(tick, state)
        if data is None and tick == len(states) - 1:
            data = encoder.flush(last=True)
        if data is not None:
            yield _sent(encoder, data, len(data) + DATACHANNEL_BYTES, float(tick / header.tick_rate), header)


def _riding(
    encoder: MessageEncoder, header: StreamHeader, states: Sequence[FaceState], voice_ms: int
) -> Iterator[SentMessage]:
    packet, step = voice_packet(voice_ms), voice_ms * SAMPLES_PER_MS
    position, waiting = 0, 0
    carried_at: int | None = None
    while waiting < len(states):
        while waiting < len(states) and waiting * RATE_HZ <= position * header.tick_rate:
            encoder.push(waiting, states[waiting])
            waiting += 1
        if carried_at is None or position - carried_at >= VOICE_GAP:
            data = encoder.flush(last=waiting == len(states))
            if data is not None:
                carried_at = position
                yield _sent(encoder, data, len(data) + _growth(packet, data), position / RATE_HZ, header)
        position += step
    data = encoder.flush(last=True)
    if data is not None:
        yield _sent(encoder, data, len(data) + _growth(packet, data), position / RATE_HZ, header)


def _sent(
    encoder: MessageEncoder, data: bytes, wire_bytes: int, left_s: float, header: StreamHeader
) -> SentMessage:
    batch = encoder.sent
    if batch is None:
        raise ValueError("an encoder that gave a message knows it")
    age_s = left_s - float(batch.first_tick / header.tick_rate)
    return SentMessage(data, wire_bytes, age_s, checksum(batch))


def _growth(packet: bytes, message: bytes) -> int:
    """Bytes by which a packet of voice grows beyond the message itself."""
    return overhead_bytes(packet, message) - len(message)


def voice_packet(voice_ms: int) -> bytes:
    """Return a packet of voice of this duration: an Opus frame of its size, of no meaning."""
    return bytes([_SILK_WIDEBAND_TOC[voice_ms]]) + b"\x55" * (_VOICE_KBPS * voice_ms // 8 - 1)
