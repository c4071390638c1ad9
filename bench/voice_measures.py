"""What `mien bench voice` measures, one function a question; each returns frozen rows."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bench.intelligibility import extended_stoi
from mien.bench.room_sound import as_samples, echo_of, in_noise, level, with_pauses
from mien.call.audio_processing import AudioProcessor
from mien.call.libopus import has_repeat
from mien.call.opus import FRAMES_MS, RATE_HZ, OpusDecoder, OpusEncoder, VoiceSettings, frame_samples
from mien.call.sound_device import Block
from mien.call.voice_activity import HOLD_MS, VoiceActivity
from mien.call.voice_coder import VoiceCoder
from mien.call.voice_loss import LEAST_PERCENT, NARROW_PERCENT, WIDE_KBPS
from mien.call.voice_processing import ProcessingSettings, Switch, VoiceProcessing

Samples = NDArray[np.int16]

RATES_KBPS: Final = (6.0, 8.0, 12.0, 16.0, 24.0)
HEADER_BYTES: Final = 28 + 12 + 10  # IPv4 and UDP, RTP, the seal of SRTP
SNRS_DB: Final = (0.0, 5.0, 10.0, 15.0, 20.0, 30.0)
LOSSES: Final = (0.0, 0.05, 0.1, 0.2, 0.3)
CODINGS: Final = ((8.0, 60), (12.0, 20), (12.0, 60), (16.0, 20), (16.0, 60), (24.0, 20), (24.0, 60))
BLOCK: Final = 960  # 20 ms
LISTENING_S: Final = 20  # to the other side, until both speak
MAX_DELAY: Final = 1920  # between what was said and what is heard


@dataclass(frozen=True, slots=True)
class RateRow:
    """What a voice takes. `pauses`: half of the time nobody speaks."""

    clip: str
    kbps: float
    frame_ms: int
    pauses: bool
    payload_kbps: float
    wire_kbps: float
    packets_per_s: float
    stoi: float


@dataclass(frozen=True, slots=True)
class NoiseRow:
    """Noise suppression, behind Opus at 12 kbps and 60 ms."""

    clip: str
    noise: str
    snr_db: float
    measured_db: float
    stoi_without: float
    stoi_with: float
    quieter_db: float  # the noise in pauses
    runs: bool  # whether `auto` suppresses


@dataclass(frozen=True, slots=True)
class EchoRow:
    """Echo cancellation in a room."""

    clip: str
    delay_ms: int
    return_loss_db: float  # ERLE: by how much the echo gets quieter while only the other side speaks
    stoi_without: float  # of the near voice while both speak, with the echo 12 dB below
    stoi_with: float
    stoi_alone: float  # of the near voice while nobody else speaks: what it costs where there is no echo
    stoi_headphones_cancelled: (
        float  # while both speak and no echo comes back, with a canceller all the same,
    )
    stoi_headphones: float  # and as a call does it, which notices


@dataclass(frozen=True, slots=True)
class CostRow:
    """What processing costs one core."""

    what: str
    us_per_10_ms: float


@dataclass(frozen=True, slots=True)
class LossRow:
    """Lost packets, with repeats (in-band FEC) and without."""

    clip: str
    kbps: float
    frame_ms: int
    loss: float
    payload_kbps: float
    payload_kbps_repeating: float
    stoi: float
    stoi_repeating: float


@dataclass(frozen=True, slots=True)
class PauseRow:
    """Whether pauses are told from speech. `sent`: of the time beyond the hold; `cut`: of loud speech."""

    clip: str
    noise: str
    snr_db: float
    pauses_sent: float
    speech_cut: float


def whole(sound: Samples, count: int) -> Samples:
    """Return a sound cut to a multiple of so many samples."""
    return sound[: len(sound) // count * count]


def encode(sound: Samples, settings: VoiceSettings) -> list[bytes]:
    """Return the packets of a sound."""
    encoder, size = OpusEncoder(settings), settings.frame_samples
    return [encoder.encode(sound[at : at + size]) for at in range(0, len(sound) - size + 1, size)]


def decode(packets: Sequence[bytes], lost: Sequence[bool] = ()) -> Samples:
    """Return what is heard; of a lost packet what the next one repeats, where that comes and does."""
    decoder, parts = OpusDecoder(), []
    missing = [*lost, *[False] * (len(packets) - len(lost))]
    length = len(OpusDecoder().decode(packets[0]))
    for index, packet in enumerate(packets):
        if not missing[index]:
            parts.append(decoder.decode(packet))
            continue
        comes = index + 1 < len(packets) and not missing[index + 1]
        repeats = frame_samples(packets[index + 1]) if comes and has_repeat(packets[index + 1]) else 0
        parts += [decoder.fill() for _ in range((length - repeats) // BLOCK)]
        repeated = decoder.repair(packets[index + 1]) if repeats else None
        if repeated is not None:
            parts.append(repeated)
    return np.concatenate(parts)


def stoi_of(said: Samples, heard: Samples) -> float:
    """Return how much is understood, whatever the delay."""
    count = min(len(said), len(heard)) - MAX_DELAY
    size = 1 << (2 * count).bit_length()
    spectrum = np.conj(np.fft.rfft(said[:count].astype(float), size)) * np.fft.rfft(
        heard.astype(float)[: count + MAX_DELAY], size
    )
    delay = int(np.argmax(np.fft.irfft(spectrum)[:MAX_DELAY]))
    return extended_stoi(said[:count], heard[delay : delay + count])


def payload_kbps(packets: Sequence[bytes], seconds: float) -> float:
    """Return the rate of the packets' bytes."""
    return sum(map(len, packets)) * 8 / 1000 / seconds


# --- rates --------------------------------------------------------------------------------------------------------


def rate_rows(clip: str, sound: Samples) -> Iterator[RateRow]:
    """Yield what each rate and frame length takes of speech, and of speech with pauses."""
    for kbps in RATES_KBPS:
        for frame_ms in FRAMES_MS:
            settings = VoiceSettings(kbps, frame_ms)
            understood = stoi_of(sound, decode(encode(whole(sound, settings.frame_samples), settings)))
            for pauses in (False, True):
                talk = with_pauses(sound) if pauses else sound
                coder, seconds = VoiceCoder(settings), len(talk) / 48_000
                packets = [
                    p.data for at in range(0, len(talk), BLOCK) for p in coder.push(talk[at : at + BLOCK], at)
                ]
                payload, per_s = payload_kbps(packets, seconds), len(packets) / seconds
                wire = payload + HEADER_BYTES * 8 / 1000 * per_s
                yield RateRow(clip, kbps, frame_ms, pauses, payload, wire, per_s, understood)


# --- clean-up -----------------------------------------------------------------------------------------------------


def noise_rows(clip: str, sound: Samples, noises: Sequence[str]) -> Iterator[NoiseRow]:
    """Yield what noise suppression does at each ratio of speech to noise. Raises `MienError` without the library."""
    said = with_pauses(whole(sound, BLOCK), talk_s=3.0, pause_s=0.6)
    pause = _beyond_speech(said)
    for noise in noises:
        for snr_db in SNRS_DB:
            mixed = in_noise(said, noise, snr_db)
            automatic = VoiceProcessing(microphone=False)
            _clean(automatic, mixed)
            treatments = automatic.treatments()
            cleaned = _clean(VoiceProcessing(ProcessingSettings(noise=Switch.ON), microphone=False), mixed)
            settings = VoiceSettings(12, 60)
            yield NoiseRow(
                clip,
                noise,
                snr_db,
                measured_db=treatments.snr_db if treatments.snr_db is not None else float("nan"),
                stoi_without=stoi_of(said, decode(encode(mixed, settings))),
                stoi_with=stoi_of(said, decode(encode(cleaned, settings))),
                quieter_db=_power_db(mixed[pause]) - _power_db(cleaned[pause]),
                runs=treatments.noise.on,
            )


def echo_rows(clip: str, sound: Samples) -> Iterator[EchoRow]:
    """Yield what echo cancellation does: the other side speaks, then both do. Raises `MienError`."""
    far = whole(sound, BLOCK)
    half = len(far) // 2 // BLOCK * BLOCK
    near = np.zeros(len(far))
    near[half:] = np.roll(far, half // 3)[half:]
    worn = [_in_headphones(far, switch) for switch in (Switch.ON, Switch.AUTO)]
    for delay_ms in (20, 70, 150):
        heard = as_samples(echo_of(far, delay_ms=delay_ms) + near)
        cleaned = _without_echo(far, heard, delay_ms)
        alone, both = slice(half // 2, half), slice(half, len(far))
        said = as_samples(near[both])
        yield EchoRow(
            clip,
            delay_ms,
            return_loss_db=_power_db(heard[alone]) - _power_db(cleaned[alone]),
            stoi_without=stoi_of(said, heard[both]),
            stoi_with=stoi_of(said, cleaned[both]),
            stoi_alone=stoi_of(far, _without_echo(np.zeros_like(far), far, delay_ms)),
            stoi_headphones_cancelled=worn[0],
            stoi_headphones=worn[1],
        )


def _in_headphones(sound: Samples, switch: Switch) -> float:
    """Return how much is understood of a voice while both speak, after a time in which only the other side did."""
    far = whole(with_pauses(np.tile(sound, -(-LISTENING_S * RATE_HZ // len(sound))), pause_s=1.2), BLOCK)
    said = whole(np.roll(sound, len(sound) // 3), BLOCK)
    far = np.concatenate([far, sound])[-len(far) :]
    near = np.zeros(len(far))
    near[-len(said) :] = said
    room = np.random.default_rng(1).normal(0, 8, len(far))
    cleaned = _without_echo(far, as_samples(near + room), 70, switch)
    return stoi_of(said, cleaned[-len(said) :])


def _without_echo(far: Samples, heard: Samples, delay_ms: int, switch: Switch = Switch.AUTO) -> Samples:
    played: deque[Block] = deque(maxlen=50)
    settings = ProcessingSettings(noise=Switch.OFF, gain=Switch.OFF, echo=switch)
    processing = VoiceProcessing(settings, microphone=True, played=played)
    parts = []
    for at in range(0, len(far), BLOCK):
        now_us = at * 1_000_000 // 48_000
        played.append(Block(far[at : at + BLOCK].tobytes(), now_us + delay_ms * 1000))
        parts.append(processing.clean(heard[at : at + BLOCK], captured_us=now_us))
    return np.concatenate(parts)


def cost_rows(sound: Samples) -> Iterator[CostRow]:
    """Yield what each kind of processing costs, and libopus. Raises `MienError` without the library."""
    sound = whole(sound, 2880)
    blocks = len(sound) / 480
    for name in ("echo", "noise", "gain"):
        processor = AudioProcessor(**{name: True})
        begin_ns = time.process_time_ns()
        if name == "echo":
            for at in range(0, len(sound), BLOCK):
                processor.far(sound[at : at + BLOCK])
                processor.near(sound[at : at + BLOCK])
        else:
            processor.near(sound)
        yield CostRow(f"{name} of livekit", (time.process_time_ns() - begin_ns) / 1000 / blocks)
    activity = VoiceActivity()
    begin_ns = time.process_time_ns()
    for at in range(0, len(sound), BLOCK):
        activity.hear(sound[at : at + BLOCK])
    yield CostRow("voice activity", (time.process_time_ns() - begin_ns) / 1000 / blocks)
    begin_ns = time.process_time_ns()
    packets = encode(sound, VoiceSettings(12, 60))
    yield CostRow("Opus encoder, 12 kbps, 60 ms", (time.process_time_ns() - begin_ns) / 1000 / blocks)
    begin_ns = time.process_time_ns()
    decode(packets)
    yield CostRow("Opus decoder", (time.process_time_ns() - begin_ns) / 1000 / blocks)


# --- losses and pauses --------------------------------------------------------------------------------------------


def loss_rows(clip: str, sound: Samples, *, seed: int = 1) -> Iterator[LossRow]:
    """Yield what losses at random do, without repeats and with those that a call switches on."""
    seconds = len(sound) / 48_000
    for kbps, frame_ms in CODINGS:
        plain = encode(sound, VoiceSettings(kbps, frame_ms))
        repeating = encode(
            sound, VoiceSettings(kbps, frame_ms, LEAST_PERCENT if kbps >= WIDE_KBPS else NARROW_PERCENT)
        )
        for loss in LOSSES:
            lost = np.random.default_rng(seed).random(len(plain)) < loss
            yield LossRow(
                clip,
                kbps,
                frame_ms,
                loss,
                payload_kbps(plain, seconds),
                payload_kbps(repeating, seconds),
                stoi_of(sound, decode(plain, lost.tolist())),
                stoi_of(sound, decode(repeating, lost.tolist())),
            )


def pause_rows(clip: str, sound: Samples, noises: Sequence[str]) -> Iterator[PauseRow]:
    """Yield how pauses are told from speech in noise."""
    said = whole(with_pauses(sound), 2880)
    power = np.square(said, dtype=np.float64).reshape(-1, BLOCK).mean(1)
    loud, pause = power > level(said) ** 2 / 100, _beyond_speech(said).reshape(-1, BLOCK)[:, 0]
    for noise in noises:
        for snr_db in (*SNRS_DB[1:], 40.0):
            mixed, activity = in_noise(said, noise, snr_db), VoiceActivity()
            sent = np.repeat(
                [activity.hear(mixed[at : at + 2880]) for at in range(0, len(mixed), 2880)], 2880 // BLOCK
            )
            yield PauseRow(clip, noise, snr_db, float(sent[pause].mean()), float((~sent[loud]).mean()))


def _beyond_speech(said: Samples) -> NDArray[np.bool_]:
    """Return which samples of a sound with silent pauses are later in one than speech is held."""
    silent = np.square(said, dtype=np.float64).reshape(-1, BLOCK).mean(1) < 1
    held = HOLD_MS // 20 + 4
    late = silent.copy()
    for shift in range(1, held):
        late[shift:] &= silent[:-shift]
        late[:shift] = False
    return np.repeat(late, BLOCK)


def _clean(processing: VoiceProcessing, sound: Samples) -> Samples:
    sound = whole(sound, BLOCK)
    parts = [
        processing.clean(sound[at : at + BLOCK], captured_us=at * 1_000_000 // 48_000)
        for at in range(0, len(sound), BLOCK)
    ]
    return np.concatenate(parts)


def _power_db(sound: Samples) -> float:
    return (
        10 * float(np.log10(np.square(sound, dtype=np.float64).mean() + 1e-3)) if len(sound) else float("nan")
    )
