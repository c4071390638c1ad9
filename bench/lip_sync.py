"""How well lips and voice go together: a face that opens its jaw on a tone, computed without a network or waiting.

Messages and voice packets go over a `Link`, through the playouts of face and voice and what aligns them, at the times
of a clock that is only a number. What a machine is busy with does not matter; what it takes does not count. The same
in a real call is in `lip_sync_call`.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bench.impairment import Link, Profile
from mien.call.carrier_cadence import CarrierCadence, Sound
from mien.call.incoming import placeholder
from mien.call.lip_sync import LipSync, SeenFace, Skew
from mien.call.opus import RATE_HZ, VoiceSettings
from mien.call.settings import MOST_DELAY_WITH_VOICE_US
from mien.call.voice_coder import VoiceCoder, VoicePacket
from mien.call.voice_playout import READ_SAMPLES, READ_US, VoicePlayout
from mien.decoder.playout import PlayoutSettings, Status
from mien.decoder.receiver import Receiver
from mien.encoder.synthetic_source import tone_at, tone_start_s, toning_at
from mien.models.face_model import FaceModel
from mien.protocol.codec import MessageEncoder
from mien.protocol.control import Carrier, VoiceClock
from mien.protocol.errors import MienError
from mien.protocol.message import MAX_FRAMES_PER_MESSAGE
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader

ZERO_US: Final = 1_000_000_000  # of the clock, when the script begins
SETTLE_S: Final = 5.0
CLOCK_COMES_US: Final = 1_000_000  # the sender's word on its clock, after the beginning
TIMESTAMP_ZERO: Final = (1 << 32) - 150_000  # of the voice: it wraps after 3 s
HEADER_BYTES: Final = 60
PICTURE_US: Final = 33_333
COMPOSITING_US: Final = 9_000
LIPS: Final = (13, 14)  # the middles of their inner margins
CHIN: Final = 152
SOFT: Final = 0.12  # of the tone: between tones the voice goes on, so that no pause lets it be moved unheard
LOUD: Final = 0.5  # of the way from soft to loud: where the tone begins
BLOCK: Final = 48  # samples of an envelope's step
PITCH_HZ: Final = 130.0
MOST_LATE_US: Final = 1_200_000


@dataclass(frozen=True, slots=True)
class Opening:
    """One tone, in microseconds of the call's clock: when it was made, when the jaw was seen to open, when it was heard."""

    made_us: int
    seen_us: int
    heard_us: int

    @property
    def skew_us(self) -> int:
        """How much later it was seen than heard."""
        return self.seen_us - self.heard_us


@dataclass(frozen=True, slots=True)
class Openings:
    """The tones of a call's steady part."""

    openings: tuple[Opening, ...]

    @property
    def skews_ms(self) -> NDArray[np.float64]:
        """Of each opening: how much later it was seen than heard."""
        return np.array([o.skew_us / 1000 for o in self.openings])

    @property
    def face_ms(self) -> float:
        """From making to seeing, median."""
        return float(np.median([(o.seen_us - o.made_us) / 1000 for o in self.openings]))


@dataclass(frozen=True, slots=True)
class ComputedSync(Openings):
    """What a computed call gave, and what the receiver itself thinks of it."""

    told: Skew
    concealed: float  # share of the pictures
    filled: float  # share of the sound


def computed_sync(
    path: Profile,
    *,
    carrier: Carrier = Carrier.AUDIO,
    voice: VoiceSettings | None = None,
    seconds: float = 20.0,
    settle_s: float = SETTLE_S,
    seed: int = 1,
    aligned: bool = True,
) -> ComputedSync:
    """Compute a call of a face and its voice, one way. `aligned`: False leaves each of them to its own."""
    call = _ComputedCall(path, carrier, voice or VoiceSettings(), seconds=seconds, seed=seed, aligned=aligned)
    call.run()
    return ComputedSync(
        call.taken.openings(ZERO_US, ZERO_US + round(settle_s * 1e6), ZERO_US + round((seconds - 1) * 1e6)),
        call.sync.skew,
        call.concealed / max(1, call.pictures),
        call.voice.counts.filled_samples / max(1, call.voice.counts.played_samples),
    )


class _ComputedCall:
    """The sender's frames and sound, the link, the receiver's pictures and sound, in the order of their times."""

    def __init__(
        self,
        path: Profile,
        carrier: Carrier,
        voice: VoiceSettings,
        *,
        seconds: float,
        seed: int,
        aligned: bool,
    ) -> None:
        header = _header()
        self._link = Link(path, seed=seed)
        self._carrier = carrier
        self._end_us = ZERO_US + round(seconds * 1e6)
        self._aligned = aligned
        self._due: list[tuple[int, int, Callable[[int], None]]] = []
        self._numbers = 0
        frames = MAX_FRAMES_PER_MESSAGE if carrier is Carrier.AUDIO else None
        self._encoder = MessageEncoder(header, frames_per_message=frames)
        self._coder = VoiceCoder(voice)
        self._cadence = CarrierCadence()
        self._packets = 0
        self._open = open_jaw()
        self._receiver = Receiver(header, settings=PlayoutSettings(most_delay_us=MOST_DELAY_WITH_VOICE_US))
        self._reading = False
        self.voice = VoicePlayout()
        self.sync = LipSync()
        self.taken = SeenAndHeard()
        self.pictures = 0
        self.concealed = 0

    def run(self) -> None:
        """Let the time pass."""
        self._at(ZERO_US, lambda now_us: self._take_frame(0, now_us))
        self._at(ZERO_US + READ_US, lambda now_us: self._take_sound(0, now_us))
        self._at(ZERO_US, self._draw)
        if self._aligned:
            clock = VoiceClock(0, 0, TIMESTAMP_ZERO)
            self._at(ZERO_US + CLOCK_COMES_US, lambda now_us: self.sync.on_clock(clock))
        while self._due and self._due[0][0] < self._end_us:
            now_us, _, do = heapq.heappop(self._due)
            do(now_us)

    def _at(self, time_us: int, do: Callable[[int], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._due, (time_us, self._numbers, do))

    # --- the sender -------------------------------------------------------------------------------------------

    def _take_frame(self, tick: int, now_us: int) -> None:
        jaw = toning_at((now_us - ZERO_US) / 1e6).jaw
        message = self._encoder.push(tick, FaceState(np.zeros(6, np.float32), np.float32(jaw) * self._open))
        if message is not None:
            self._send(now_us, len(message), lambda at_us: self._on_message(message, at_us))
        self._at(ZERO_US + (tick + 1) * 100_000 // 3, lambda at_us: self._take_frame(tick + 1, at_us))

    def _take_sound(self, number: int, now_us: int) -> None:
        """Twenty milliseconds are over, and whole packets leave."""
        sound = tone_sound(now_us - READ_US - ZERO_US, READ_SAMPLES)
        packets = self._coder.push(sound, number * READ_SAMPLES)
        for packet in packets:
            self._send_packet(packet, self._ride(packet), now_us)
        pause = None if packets else self._coder.pause_packet()
        if pause is not None and (message := self._ride(pause)) is not None:
            self._coder.note_sent(pause)
            self._send_packet(pause, message, now_us)
        self._at(now_us + READ_US, lambda at_us: self._take_sound(number + 1, at_us))

    def _ride(self, packet: VoicePacket) -> bytes | None:
        """Return the message that rides in a packet, if one does."""
        sound = Sound.SPEECH if packet.spoken else Sound.PAUSE
        if self._carrier is not Carrier.AUDIO or not self._cadence.may_ride(packet.position, sound):
            return None
        message = self._encoder.flush()
        if message is not None:
            self._cadence.note_carried(packet.position)
        return message

    def _send_packet(self, packet: VoicePacket, message: bytes | None, now_us: int) -> None:
        number = self._packets
        self._packets += 1

        def come(at_us: int) -> None:
            if message is not None:
                self._on_message(message, at_us)
            timestamp = (TIMESTAMP_ZERO + packet.position) % (1 << 32)
            self.voice.push(number % (1 << 16), timestamp, packet.data, arrival_us=at_us)
            if not self._reading:
                self._reading = True
                self._at(at_us, self._read)

        self._send(now_us, len(packet.data) + len(message or b""), come)

    def _send(self, now_us: int, size: int, come: Callable[[int], None]) -> None:
        for at_us in self._link.send(now_us, size + HEADER_BYTES):
            self._at(at_us, come)

    # --- the receiver -----------------------------------------------------------------------------------------

    def _on_message(self, message: bytes, at_us: int) -> None:
        self._receiver.on_message(message, at_us)

    def _read(self, now_us: int) -> None:
        sound = self.voice.read(now_us)
        self._reading = sound is not None
        if sound is not None:
            self.taken.hear(now_us, sound)
            self._at(now_us + READ_US, self._read)

    def _draw(self, now_us: int) -> None:
        shown = self._receiver.show(now_us)
        offset_us = self._receiver.offset_us
        seen_us = now_us + COMPOSITING_US
        self.pictures += 1
        self.concealed += shown.status in (Status.CONCEALED, Status.LOST)
        if shown.tick is not None and offset_us is not None:
            self.taken.see(seen_us, shown.state)
            face = SeenFace(shown.tick, offset_us, now_us, seen_us, live=shown.status is Status.LIVE)
            self._at(seen_us, lambda at_us: self._align(face, at_us))
        self._at(now_us + PICTURE_US, self._draw)

    def _align(self, face: SeenFace, now_us: int) -> None:
        rate = self._receiver.header.tick_rate
        floor_us = self.sync.on_picture(face, self.voice, stream=0, tick_rate=rate, now_us=now_us)
        if floor_us is not None:
            self._receiver.wait_at_least(floor_us, now_us=now_us)


def _header() -> StreamHeader:
    return replace(placeholder(), unit_px=Fraction(60), width=256, height=256)


def open_jaw(parted: float = 0.35) -> NDArray[np.float32]:
    """Return the likeliest expression, float32 [30], that parts the lips by so many inter-pupil distances."""
    gap, likely = lip_gap(), np.square(FaceModel.load().deviation)
    return np.asarray(parted / float(likely @ np.square(gap)) * likely * gap, np.float32)


class SeenAndHeard:
    """What came out: pictures and sound, with their times, in microseconds of one clock."""

    def __init__(self) -> None:
        self._gap = lip_gap()
        self._seen: list[tuple[int, float]] = []  # when each picture was there, how open its lips were
        self._heard: list[tuple[int, NDArray[np.int16]]] = []

    @property
    def begun(self) -> bool:
        """Whether something was seen, and something heard."""
        return bool(self._seen and self._heard)

    def see(self, now_us: int, state: FaceState) -> None:
        """A picture of a face is there, until the next one."""
        self._seen.append((now_us, float(self._gap @ state.expression)))

    def hear(self, now_us: int, samples: NDArray[np.int16]) -> None:
        """Sound begins, int16 at 48 kHz."""
        self._heard.append((now_us, samples))

    def openings(self, begins_us: int, from_us: int, to_us: int) -> tuple[Opening, ...]:
        """Return the tones that were made in a time and both seen and heard; the script begins at `begins_us`.

        Raises `MienError` where there is none.
        """
        seen, heard = _rises(*self._seen_curve()), _rises(*self._heard_curve())
        found, number = [], 0
        while (made_us := begins_us + round(tone_start_s(number) * 1e6)) < to_us:
            number += 1
            first = [
                next((t for t in times if -50_000 < t - made_us < MOST_LATE_US), None)
                for times in (seen, heard)
            ]
            if made_us >= from_us and first[0] is not None and first[1] is not None:
                found.append(Opening(made_us, first[0], first[1]))
        if not found:
            raise MienError(f"{len(seen)} openings were seen and {len(heard)} heard, none of them together")
        return tuple(found)

    def _seen_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A picture stands until the next one: it is seen at the middle of that time."""
        times, gaps = np.array(self._seen, np.float64).T
        return (times[:-1] + times[1:]) / 2, gaps[:-1]

    def _heard_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        times, levels = [], []
        for start_us, samples in self._heard:
            blocks = np.abs(samples[: len(samples) // BLOCK * BLOCK].astype(float)).reshape(-1, BLOCK)
            levels.append(blocks.mean(1))
            times.append(start_us + (np.arange(len(blocks)) + 0.5) * BLOCK * 1e6 / RATE_HZ)
        smooth = np.ones(8) / 8  # a period of the voice
        return np.concatenate(times), np.convolve(np.concatenate(levels), smooth, "same")


def tone_sound(start_us: int, count: int) -> NDArray[np.int16]:
    """Return int16 [count] of the sound that goes with `toning_at`, 48 kHz: a vowel, which a coder takes for speech."""
    times_s = start_us / 1e6 + np.arange(count) / RATE_HZ
    wave = np.zeros(count)
    for harmonic in range(1, 24):
        nearest = min(abs(harmonic * PITCH_HZ - formant) for formant in (700.0, 1220.0, 2600.0))
        wave += np.sin(2 * np.pi * PITCH_HZ * harmonic * times_s) / (1 + (nearest / 120) ** 2)
    loud = np.array([tone_at(float(t)) for t in times_s[::BLOCK]])
    return np.asarray(6000 * wave * np.where(np.repeat(loud, BLOCK)[:count], 1.0, SOFT), np.int16)


def lip_gap() -> NDArray[np.float32]:
    """Return float32 [30]: how much each number of the expression parts the lips, in the face model's units."""
    model = FaceModel.load()
    upper, lower = LIPS
    down = np.sign(model.mean[CHIN, 1] - model.mean[lower, 1])
    return np.asarray(down * (model.basis[:, lower, 1] - model.basis[:, upper, 1]), np.float32)


def _rises(times: NDArray[np.float64], values: NDArray[np.float64]) -> list[int]:
    """Return when a curve rises through the middle between its low and its high level, in whole microseconds."""
    low, high = np.percentile(values, [25, 95])
    middle = low + LOUD * (high - low)
    above = values > middle
    rises = np.flatnonzero(~above[:-1] & above[1:])
    parts = (middle - values[rises]) / (values[rises + 1] - values[rises])
    return [round(t) for t in times[rises] + parts * (times[rises + 1] - times[rises])]
