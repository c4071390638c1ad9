"""What a budget buys: voice, messages and their step, chosen so that everything on the wire stays below it.

Pure: a model of what a call sends, and a choice among what can be set. "Wire" is every byte with IP (v4) and UDP
headers, our direction only. The figures of the model are measured; the commands that print them are
`python -m mien.bench.payload_cost DIR` (payload), `mien bench budget` (whole calls against their budgets), and
`mien bench call` (headers by cause).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Final

from mien.call.carrier_cadence import pause_gap_ms
from mien.call.opus import FRAMES_MS, MAX_KBPS, MIN_KBPS, VoiceSettings
from mien.call.redundancy import NO_REPEATS, Redundancy
from mien.encoder.scene_encoder import SCENE_RATE
from mien.protocol.control import Carrier
from mien.protocol.errors import MienError
from mien.protocol.quantizer import Quality
from mien.protocol.repeats import MAX_REPEATS, REPEAT_STRIDE

TICK_MS: Final = 1000 / 30
VOICE_PACKET_BYTES: Final = 50  # IP and UDP 28, RTP 12, SRTP's seal 10
RIDE_BYTES: Final = 5  # of framing, in a packet that is sent anyway
MADE_PACKET_BYTES: Final = VOICE_PACKET_BYTES + 1 + RIDE_BYTES  # a packet that is made for a message
CHANNEL_BYTES: Final = 93  # IP and UDP 28, DTLS 37, SCTP 28
SACK_KBPS: Final = 1.7  # 93 bytes every 450 ms, for messages that come by the data channel
STUN_KBPS: Final = 0.4  # everything fixed in the dearest 5 s
REPORTS_KBPS: Final = 0.6  # and their SACKs
RTCP_KBPS: Final = 0.4
SCENE_HEADERS_KBPS: Final = 0.5  # 8 bytes a picture, of message and capsule
SCENE_FACTOR: Final = 1.1  # seconds that are dearer than others
SCENE_GAP_MS: Final = float(1000 / SCENE_RATE)

# Payload of a lively face (9 of 10 clips take less, in their dearest 5 s) at 30 ticks a second, by frames a message.
_FRAMES: Final = (1, 2, 3, 4, 6, 8, 10, 13, 16)
_PAYLOAD_KBPS: Final = {
    Quality.LOW: (3.25, 1.86, 1.45, 1.28, 1.09, 1.01, 0.99, 0.92, 0.89),
    Quality.NORMAL: (4.19, 2.46, 1.98, 1.81, 1.57, 1.47, 1.47, 1.40, 1.34),
    Quality.HIGH: (5.13, 3.21, 2.70, 2.52, 2.21, 2.16, 2.14, 2.03, 1.99),
}
_REPEAT_BITS: Final = {Quality.LOW: 28, Quality.NORMAL: 43, Quality.HIGH: 58}  # of a frame said again
_LAG_REPEAT_BITS: Final = {Quality.LOW: 34, Quality.NORMAL: 54, Quality.HIGH: 72}  # the same, from longer ago

# What is worth what, in points: the choice is the dearest in points that the budget pays.
_VOICE_POINTS: Final = ((6.0, 0.0), (8.0, 1.0), (10.0, 1.6), (12.0, 2.0), (16.0, 2.4), (24.0, 2.6))
_FRAME_POINTS: Final = {20: 0.35, 40: 0.3, 60: 0.2, 120: -0.3}
_QUALITY_POINTS: Final = {Quality.LOW: 0.0, Quality.NORMAL: 0.7, Quality.HIGH: 1.0}
_POINTS_PER_SECOND: Final = -2.5  # of waiting for a message to be complete

ALL_QUALITIES: Final = frozenset(Quality)
CHANNEL_FRAMES: Final = (6, 8, 10, 13, 16)
RIDE_GAPS_MS: Final = (40, 60, 120, 240, 480)
VOICE_KBPS: Final = (6.0, 8.0, 10.0, 12.0, 16.0, 24.0)
SILENCE_GAPS_MS: Final = (200, 320, 480)


@dataclass(frozen=True, slots=True)
class Situation:
    """What a plan is made for.

    `voice`: the most kbps and the shortest packets that may be used, None without a voice. `face`: whether there is
    one. `carriers`: those that messages can take. `qualities`: the steps to choose from. `redundancy`: what messages
    should repeat. `acknowledges`: their messages come by the data channel. `scene_kbps`: of a scene layer, without headers.
    """

    voice: VoiceSettings | None = None
    face: bool = True
    carriers: frozenset[Carrier] = frozenset({Carrier.DATACHANNEL})
    qualities: frozenset[Quality] = ALL_QUALITIES
    redundancy: Redundancy = NO_REPEATS
    acknowledges: bool = True
    scene_kbps: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent. `gap_ms`: between messages while somebody speaks, or always on the data channel.

    `silence_gap_ms`: between messages in packets that are made for them, while nobody speaks. The kbps are the model's
    for the dearest five seconds: `voice_kbps` with its packets' headers, `face_kbps` with what it adds; `ride_kbps` is
    what of that rides in packets of the audio line.
    """

    voice: VoiceSettings | None
    carrier: Carrier
    gap_ms: int
    silence_gap_ms: int
    quality: Quality
    redundancy: Redundancy
    voice_kbps: float
    face_kbps: float
    ride_kbps: float
    wire_kbps: float
    points: float

    @property
    def frames(self) -> int:
        """Frames of a message, at 30 ticks a second."""
        return max(1, round(self.gap_ms / TICK_MS))

    @property
    def text(self) -> str:
        """The plan in a few words, for a status line."""
        voice = f"voice {self.voice.kbps:g}k/{self.voice.frame_ms} ms" if self.voice else "no voice"
        way = "in voice packets" if self.carrier is Carrier.AUDIO else "data channel"
        return f"{voice}, face {self.quality.name.lower()} every {self.gap_ms} ms, {way}"


def best_plan(budget_kbps: float, situation: Situation) -> Plan:
    """Return the best plan that the budget pays by the model; the cheapest of all where it pays none."""
    plans: tuple[Plan, ...] = ()
    for copies in range(situation.redundancy.copies, -1, -1):  # fewer, where the budget does not pay all
        less = replace(situation.redundancy, copies=copies) if copies else NO_REPEATS
        plans = _all_plans(replace(situation, redundancy=less))
        paid = [plan for plan in plans if plan.wire_kbps <= budget_kbps]
        if paid:
            return max(paid, key=lambda plan: (plan.points, -plan.wire_kbps))
    return min(plans, key=lambda plan: plan.wire_kbps)


def least_kbps(situation: Situation) -> float:
    """Return what the cheapest plan takes."""
    return min(plan.wire_kbps for plan in _all_plans(replace(situation, redundancy=NO_REPEATS)))


def check_budget(budget_kbps: float, situation: Situation) -> None:
    """Raise `MienError` where no plan keeps the budget."""
    least = least_kbps(situation)
    if budget_kbps >= least:
        return
    text = f"--budget-kbps {budget_kbps:g} is too little: this call takes {least:.1f} kbps at least"
    free = least_kbps(replace(situation, qualities=ALL_QUALITIES))
    if free < least:
        text += f", {free:.1f} without --quality"
    if situation.scene_kbps:
        text += f", {least_kbps(replace(situation, scene_kbps=0.0)):.1f} without --scene"
    if situation.voice is not None:
        text += f", {least_kbps(replace(situation, voice=None)):.1f} without voice (--audio silence)"
    raise MienError(text)


def payload_kbps(quality: Quality, frames: float, redundancy: Redundancy = NO_REPEATS) -> float:
    """Return what a lively face takes without headers, in messages of so many frames."""
    plain = _interpolated(tuple(zip(_FRAMES, _PAYLOAD_KBPS[quality], strict=True)), frames)
    far = redundancy.lag or redundancy.stride > REPEAT_STRIDE
    bits = (_LAG_REPEAT_BITS if far else _REPEAT_BITS)[quality]
    repeats = (
        min(MAX_REPEATS, max(1.0, redundancy.copies * frames / redundancy.stride))
        if redundancy.copies
        else 0.0
    )
    return plain + repeats * bits / (frames * TICK_MS)


@lru_cache(maxsize=64)
def _all_plans(situation: Situation) -> tuple[Plan, ...]:
    return tuple(_plans(situation))


def _plans(situation: Situation) -> Iterator[Plan]:
    carrier = Carrier.AUDIO if Carrier.AUDIO in situation.carriers else Carrier.DATACHANNEL
    qualities = sorted(situation.qualities)
    for voice in _voices(situation):
        for gap_ms, silence_gap_ms in _gaps(voice, carrier, situation.redundancy):
            for quality in qualities if situation.face else qualities[:1]:
                yield _plan(situation, voice, carrier, gap_ms, silence_gap_ms, quality)


def _voices(situation: Situation) -> Iterator[VoiceSettings | None]:
    most = situation.voice
    if most is None:
        yield None
        return
    for kbps in sorted({*(k for k in VOICE_KBPS if k < most.kbps), most.kbps}):
        for frame_ms in FRAMES_MS:
            if frame_ms >= most.frame_ms and MIN_KBPS <= kbps <= MAX_KBPS:
                yield VoiceSettings(kbps, frame_ms, most.expected_loss_percent)


def _gaps(voice: VoiceSettings | None, carrier: Carrier, redundancy: Redundancy) -> Iterator[tuple[int, int]]:
    if carrier is Carrier.DATACHANNEL:
        for frames in CHANNEL_FRAMES if redundancy.frames is None else (redundancy.frames,):
            gap_ms = round(frames * TICK_MS)
            yield gap_ms, gap_ms
        return
    packet_ms = voice.frame_ms if voice else 1
    rides = sorted({-(-gap_ms // packet_ms) * packet_ms for gap_ms in RIDE_GAPS_MS}) if voice else (0,)
    for ride_ms in rides:
        for silence_ms in SILENCE_GAPS_MS:
            yield (ride_ms or silence_ms), silence_ms


def _plan(
    situation: Situation,
    voice: VoiceSettings | None,
    carrier: Carrier,
    gap_ms: int,
    silence_gap_ms: int,
    quality: Quality,
) -> Plan:
    fixed = STUN_KBPS + REPORTS_KBPS + (SACK_KBPS if situation.acknowledges else 0.0)
    fixed += SCENE_HEADERS_KBPS + SCENE_FACTOR * situation.scene_kbps if situation.scene_kbps else 0.0
    fixed += RTCP_KBPS if Carrier.AUDIO in situation.carriers or voice else 0.0
    voice_kbps = voice.kbps + 8 * VOICE_PACKET_BYTES / voice.frame_ms if voice else 0.0
    face_kbps = ride_kbps = least_kbps = 0.0
    if situation.face:

        def messages(every_ms: float, header_bytes: int) -> float:
            payload = payload_kbps(quality, every_ms / TICK_MS, situation.redundancy)
            return payload + 8 * header_bytes / every_ms

        ride_kbps = messages(gap_ms, RIDE_BYTES)
        if carrier is Carrier.DATACHANNEL:
            # A scene's picture takes along what the face has to say by then.
            face_kbps = messages(min(gap_ms, SCENE_GAP_MS) if situation.scene_kbps else gap_ms, CHANNEL_BYTES)
        elif voice is None:
            face_kbps = messages(silence_gap_ms, MADE_PACKET_BYTES)
        else:
            face_kbps = ride_kbps
            # A pause costs less than speech, but for the slowest voices.
            least_kbps = fixed + messages(pause_gap_ms(gap_ms, voice.frame_ms), MADE_PACKET_BYTES)
    return Plan(
        voice=voice,
        carrier=carrier,
        gap_ms=gap_ms,
        silence_gap_ms=silence_gap_ms,
        quality=quality,
        redundancy=situation.redundancy,
        voice_kbps=voice_kbps,
        face_kbps=face_kbps,
        ride_kbps=ride_kbps,
        wire_kbps=max(least_kbps, fixed + voice_kbps + face_kbps),
        points=round(_points(voice, quality, gap_ms, silence_gap_ms), 6),
    )


def _points(voice: VoiceSettings | None, quality: Quality, gap_ms: int, silence_gap_ms: int) -> float:
    points = _QUALITY_POINTS[quality]
    points += _POINTS_PER_SECOND * (gap_ms + (silence_gap_ms if voice is None else silence_gap_ms / 4)) / 1000
    if voice is not None:
        points += _interpolated(_VOICE_POINTS, voice.kbps) + _FRAME_POINTS[voice.frame_ms]
    return points


def _interpolated(points: tuple[tuple[float, float], ...], at: float) -> float:
    """Return a value of a curve through points, level beyond its ends."""
    for (low, a), (high, b) in pairwise(points):
        if at <= high:
            return a + (b - a) * max(0.0, at - low) / (high - low)
    return points[-1][1]
