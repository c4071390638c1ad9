"""When a message rides in a packet of voice, and when a packet is made for one: by the sound's own clock."""

from enum import Enum
from typing import Final

from mien.call.opus import RATE_HZ, SAMPLES_PER_MS

VOICE_GAP: Final = 60 * SAMPLES_PER_MS  # samples; with packets of 40 ms it becomes 80, of 120 ms 120
PAUSE_GAP: Final = 80 * SAMPLES_PER_MS
SILENCE_GAP: Final = 200 * SAMPLES_PER_MS
LONG_PAUSE: Final = 2 * RATE_HZ  # a pause that lasts longer is silence


class Sound(Enum):
    """What a packet that could take a message is there for."""

    SPEECH = "speech"
    PAUSE = "pause"
    MUTED = "muted"


class CarrierCadence:
    """Positions are samples at 48 kHz on the voice's clock, and never run backwards.

    While somebody speaks a message rides in a packet that leaves anyway. In a pause packets are made for messages,
    so that the face keeps moving as it did; in a longer silence fewer, which costs less and takes longer.
    """

    def __init__(self) -> None:
        self._carried_at: int | None = None
        self._spoken_at: int | None = None

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
            return VOICE_GAP
        long_ago = self._spoken_at is None or position - self._spoken_at > LONG_PAUSE
        return SILENCE_GAP if sound is Sound.MUTED or long_ago else PAUSE_GAP
