"""When a message rides in a packet of voice, when a packet is made for one, and how much may ride. No clock inside."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from mien.call.opus import RATE_HZ, SAMPLES_PER_MS

# Samples. A message in each packet of 40 ms or more, in every other one of 20 ms: whoever pays for so many packets of
# voice wants to be seen soon, too.
VOICE_GAP: Final = 40 * SAMPLES_PER_MS
PAUSE_GAP_MS: Final = 80
QUICK_GAP_MS: Final = 40  # a plan of such messages
QUICK_PAUSE_GAP_MS: Final = 60
PAUSE_GAP: Final = PAUSE_GAP_MS * SAMPLES_PER_MS
SILENCE_GAP: Final = 200 * SAMPLES_PER_MS
LONG_PAUSE: Final = 2 * RATE_HZ  # a pause that lasts longer is silence
RIDE_KBPS: Final = 3.2  # a lively face in messages of two frames; nine of ten clips take less
REPEATING_RIDE_KBPS: Final = 4.6  # where messages repeat earlier ones
BURST_BYTES: Final = 240  # half a second of it, more or less


class Sound(Enum):
    """What a packet that could take a message is there for."""

    SPEECH = "speech"
    PAUSE = "pause"
    MUTED = "muted"


@dataclass(frozen=True, slots=True)
class Gaps:
    """Samples from one message to the next, at least: while somebody speaks, in a pause, in silence and while muted."""

    voice: int = VOICE_GAP
    pause: int = PAUSE_GAP
    silence: int = SILENCE_GAP

    @classmethod
    def of(cls, voice_ms: int, silence_ms: int, packet_ms: int = 60) -> "Gaps":
        """Return the gaps of a plan with such packets of voice; a pause is never livelier than speech."""
        pause_ms = pause_gap_ms(voice_ms, packet_ms)
        return cls(*(ms * SAMPLES_PER_MS for ms in (voice_ms, pause_ms, max(pause_ms, silence_ms))))


def pause_gap_ms(voice_gap_ms: int, packet_ms: int) -> int:
    """Return how far apart messages are in a pause, where they are so far apart in speech of such packets.

    Each of them needs a packet of its own there, so they are fewer; but not where messages are quick, because if some
    of them came later, all of them would be shown later.
    """
    quick = voice_gap_ms <= QUICK_GAP_MS
    return max(voice_gap_ms, QUICK_PAUSE_GAP_MS // packet_ms * packet_ms if quick else PAUSE_GAP_MS)


class CarrierCadence:
    """Positions are samples at 48 kHz on the voice's clock, and never run backwards.

    While somebody speaks a message rides in a packet that leaves anyway. In a pause packets are made for messages,
    so that the face keeps moving as it did; in a longer silence fewer, which costs less and takes longer.
    """

    def __init__(self) -> None:
        self._carried_at: int | None = None
        self._spoken_at: int | None = None
        self.gaps = Gaps()

    def may_ride(self, position: int, sound: Sound) -> bool:
        """Return whether a message may ride in a packet that leaves now, or a packet be made for one."""
        if sound is Sound.SPEECH:
            self._spoken_at = position
        return self.wait(position, sound) <= 0

    def wait(self, position: int, sound: Sound) -> int:
        """Return how many samples from now on it is until a message may ride; 0 or less: it may."""
        if self._carried_at is None:
            return 0
        return self._carried_at + self._gap(position, sound) - position

    def note_carried(self, position: int) -> None:
        """A message rides in the packet of this position."""
        self._carried_at = position

    def _gap(self, position: int, sound: Sound) -> int:
        if sound is Sound.SPEECH:
            return self.gaps.voice
        long_ago = self._spoken_at is None or position - self._spoken_at > LONG_PAUSE
        return self.gaps.silence if sound is Sound.MUTED or long_ago else self.gaps.pause


class RideAllowance:
    """How much may ride, on average: a face that is livelier than most rides in fewer packets, with more in each.

    Times are integer microseconds of any clock that never runs backwards.
    """

    def __init__(self) -> None:
        self.kbps = RIDE_KBPS
        self._debt_bytes = 0.0
        self._since_us: int | None = None

    def is_open(self, now_us: int) -> bool:
        """Return whether a message may ride now, however long it is."""
        passed_us = max(0, now_us - (now_us if self._since_us is None else self._since_us))
        self._since_us = now_us
        self._debt_bytes = max(0.0, self._debt_bytes - self.kbps * passed_us / 8000)
        return self._debt_bytes < BURST_BYTES

    def note(self, size: int) -> None:
        """So many bytes ride, framing included."""
        self._debt_bytes += size
