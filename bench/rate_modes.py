"""Our own code at each quality and carrier: rates, errors, times; and whether both sides hold the same state."""

import random
import statistics
import time
from dataclasses import dataclass
from typing import Final

from mien.bench.rate_carriers import DATACHANNEL, Carrier, checksum, send
from mien.bench.rate_quality import CodedPart, errors, nme
from mien.decoder.recording import Track
from mien.protocol.codec import MessageDecoder
from mien.protocol.quantizer import Quality
from mien.protocol.repeats import Repeats

CHECKED_LOSS: Final = 0.2
CHECKED_REPEATS: Final = Repeats(count=3, stride=2, lag=1)


@dataclass(frozen=True, slots=True)
class RateResult:
    """One clip at one quality over one carrier. Errors are in percent of the inter-pupil distance.

    `coding_nme`: decoded against fitted without quantising; `total_nme`, `mouth_nme`, `eyes_nme`: decoded
    against tracked. `wire_kbps` adds the carrier's headers, one way. `age_ms`: how old a message's first frame is
    when it leaves, median. `mismatches`: messages of `messages` after which both sides' states differ by CRC.
    Times are CPU milliseconds a frame.
    """

    clip: str
    quality: str
    carrier: str
    frames: int
    seconds: float
    tracked_share: float
    payload_kbps: float
    wire_kbps: float
    age_ms: float
    messages: int
    mismatches: int
    coding_nme: float
    fit_nme: float
    total_nme: float
    mouth_nme: float
    eyes_nme: float
    tracking_ms: float
    fit_ms: float
    encode_ms: float
    decode_ms: float


@dataclass(frozen=True, slots=True)
class StateCheck:
    """Messages that arrived although others got lost, and after how many of them the states differed by CRC."""

    clip: str
    carrier: str
    lost: int
    messages: int
    mismatches: int


def rate_mode(part: CodedPart, quality: Quality, carrier: Carrier = DATACHANNEL) -> RateResult:
    """Code and decode a clip's part."""
    started = time.process_time()
    sent = list(send(carrier, part.header, quality, part.states))
    encoded = time.process_time()
    decoder = MessageDecoder(part.header)
    batches = [decoder.decode(m.data) for m in sent]
    finished = time.process_time()
    track = Track()
    for batch in batches:
        track.add(batch)
    ticks = part.tracked
    truth = part.truth(ticks)
    fitted = part.placed([part.states[tick] for tick in ticks])
    received = part.placed([track.state_at(tick) for tick in ticks])
    found = errors(received, truth, truth)
    count = len(part.states)
    return RateResult(
        clip=part.clip.name,
        quality=quality.name.lower(),
        carrier=carrier.name,
        frames=count,
        seconds=round(part.seconds, 3),
        tracked_share=round(len(ticks) / count, 4),
        payload_kbps=round(part.kbps(sum(len(m.data) for m in sent)), 4),
        wire_kbps=round(part.kbps(sum(m.wire_bytes for m in sent)), 3),
        age_ms=round(1000 * statistics.median(m.age_s for m in sent), 1),
        messages=len(sent),
        mismatches=sum(checksum(b) != m.checksum for b, m in zip(batches, sent, strict=True)),
        coding_nme=nme(received, fitted, truth),
        fit_nme=nme(fitted, truth, truth),
        total_nme=found.total,
        mouth_nme=found.mouth,
        eyes_nme=found.eyes,
        tracking_ms=round(part.clip.tracking_ms, 3),
        fit_ms=round(part.fit_ms, 3),
        encode_ms=round(1000 * (encoded - started) / count, 4),
        decode_ms=round(1000 * (finished - encoded) / count, 4),
    )


def check_states(part: CodedPart, carrier: Carrier, *, seed: int = 0) -> StateCheck:
    """Lose a fifth of the messages of a stream that repeats, and compare the states after each that arrives."""
    chance = random.Random(seed)
    sent = list(send(carrier, part.header, Quality.NORMAL, part.states, repeats=CHECKED_REPEATS))
    arrived = [m for m in sent if chance.random() >= CHECKED_LOSS]
    decoder = MessageDecoder(part.header)
    wrong = sum(checksum(decoder.decode(m.data)) != m.checksum for m in arrived)
    return StateCheck(part.clip.name, carrier.name, len(sent) - len(arrived), len(arrived), wrong)
