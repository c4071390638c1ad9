"""When to play which of the packets that came: a jitter buffer for one voice, that knows pauses from losses.

The sound waits as long as the packets' jitter asks for, or for the face that says it, and no longer. Whatever comes
too late makes it wait longer from then on. In a pause the wait becomes at once what it should be; while somebody
speaks a period of the voice is repeated or left out now and then (`time_stretch`), until it is. A packet that is
missing when its turn comes is filled in by the decoder: with what was heard last, and in a pause with its
background noise.

No I/O and no clock: times are integer microseconds of any clock that never runs backwards.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.call.libopus import has_repeat
from mien.call.opus import RATE_HZ, OpusDecoder, frame_samples, packet_samples
from mien.call.time_stretch import lengthen, shorten
from mien.protocol.errors import WireError

READ_SAMPLES: Final = 960  # 20 ms
CODER_DELAY_US: Final = 6_500  # of libopus: what it gives for a position began before it
LEAST_WAIT: Final = RATE_HZ * 20 // 1000  # samples; for what a scheduler does to both ends
MOST_WAIT: Final = RATE_HZ * 400 // 1000
STEADY_PACKETS: Final = 64  # jitter is what the newest so many show
MOST_HELD_BACK_US: Final = 400_000  # longer than its jitter asks for, for a face
MOST_HELD: Final = MOST_WAIT + RATE_HZ * 120 // 1000  # samples, where no face is waited for
MAX_HELD: Final = 64  # packets
GONE_US: Final = 1_200_000  # without a packet, three signs of life among them: muted, or gone
FADE: Final = RATE_HZ * 500 // 1000  # samples in which the background of who has gone fades
REPEATS_GONE: Final = 5 * RATE_HZ  # without a packet that repeats anything: there are none any more
RESYNC_SAMPLES: Final = 5 * RATE_HZ  # a jump of the times by more is another stream
READ_US: Final = READ_SAMPLES * 1_000_000 // RATE_HZ
WRONG_US: Final = 12_000  # from where on a wait is corrected while somebody speaks,
RIGHT_US: Final = 6_000  # until it is as near as that
STRETCH_EVERY: Final = RATE_HZ * 60 // 1000  # samples of speech
SMOOTHED_READS: Final = 8
JUMP_US: Final = 30_000  # what is heard earlier or later by more was moved, and not read unevenly


@dataclass(slots=True)
class VoiceCounts:
    """What became of the packets."""

    packets: int = 0
    malformed: int = 0
    late: int = 0  # came after their turn and were not played
    skipped: int = 0  # came in time, but behind more than is ever kept waiting
    filled_samples: int = 0  # played without a packet: pauses and losses
    stretched_samples: int = 0  # repeated or left out while somebody spoke
    repaired_samples: int = 0  # played from the repeat in the next packet
    played_samples: int = 0


class VoicePlayout:
    """`push` what comes, `read` 20 ms every 20 ms."""

    def __init__(self) -> None:
        self.counts = VoiceCounts()
        self.air_us = 0  # from `read` until the sound is in the air: what the loudspeaker takes
        self._face: tuple[int, int] | None = None  # the sound of a timestamp is to be heard at a time
        self._reset()

    def _reset(self) -> None:
        self._decoder = OpusDecoder()
        self._held: dict[int, bytes] = {}  # packets by where their sound begins
        self._loudness = 1.0
        self._first_words: set[int] = (
            set()
        )  # of the held ones, those that follow a pause: nothing is missing before
        self._repeats_until = 0  # position up to which packets with repeats are expected
        self._repeat_samples = 0  # how much such a packet repeats
        self._next: int | None = None  # where the next sound to be decoded begins; None: nothing is played
        self._played_to = 0  # end of the newest packet that was decoded
        self._newest_end = 0
        self._newest_sequence = 0
        self._transits_us: deque[int] = deque(maxlen=STEADY_PACKETS)
        self._sound = np.zeros(0, np.int16)  # decoded, not read yet
        self._heard_us = 0
        self._due_us: int | None = None  # when the next 20 ms will be read
        self._origin_us: int | None = None  # when position 0 would have been heard, at the present wait
        self._correcting = False
        self._since_stretch = 0  # samples

    @property
    def playing(self) -> bool:
        """Whether `read` gives anything."""
        return self._next is not None

    @property
    def speaking(self) -> bool:
        """Whether what was read last came in packets: no pause."""
        return self.playing and self._next is not None and self._next - len(self._sound) < self._played_to

    @property
    def wait_us(self) -> int:
        """How long sound waits at least, for the jitter that was seen."""
        if not self._transits_us:
            return LEAST_WAIT * 1_000_000 // RATE_HZ
        return self._own_origin_us - min(self._transits_us)

    def wait_until(self, timestamp: int, heard_us: int | None) -> None:
        """Let the sound of an RTP timestamp be heard no sooner than at a time, for a face; None: without a face.

        What that asks for beyond `MOST_HELD_BACK_US` is too much, and left out.
        """
        self._face = None if heard_us is None else (timestamp, heard_us - self.air_us)

    def earliest_us(self, timestamp: int) -> int | None:
        """Return when the sound of an RTP timestamp is heard without any face; None where no packet has come."""
        if not self._transits_us:
            return None
        return self._own_origin_us + self._time_us(timestamp) + self.air_us

    def heard_us(self, timestamp: int) -> int | None:
        """Return when the sound of an RTP timestamp is heard as things are; None where nothing is played."""
        if self._origin_us is None:
            return None
        return self._origin_us + self._time_us(timestamp) + self.air_us

    @property
    def _own_origin_us(self) -> int:
        """When position 0 would have to be heard so that the latest of the newest packets come in time."""
        soonest, latest = min(self._transits_us), max(self._transits_us)
        most_us, least_us = (samples * 1_000_000 // RATE_HZ for samples in (MOST_WAIT, LEAST_WAIT))
        repeats = self._repeat_samples if self._newest_end < self._repeats_until else 0
        repeats_us = repeats * 1_000_000 // RATE_HZ  # a repeat comes with the next packet
        return min(latest + least_us + repeats_us, soonest + most_us)

    @property
    def _wanted_origin_us(self) -> int:
        own_us = self._own_origin_us
        if self._face is None:
            return own_us
        timestamp, heard_us = self._face
        return max(own_us, min(heard_us - self._time_us(timestamp), own_us + MOST_HELD_BACK_US))

    def _time_us(self, timestamp: int) -> int:
        """Return when the sound of an RTP timestamp comes out of the decoder that began with position 0."""
        position = self._newest_end + _difference(timestamp, self._newest_end)
        return position * 1_000_000 // RATE_HZ + CODER_DELAY_US

    def push(self, sequence: int, timestamp: int, packet: bytes, *, arrival_us: int) -> None:
        """Take a packet with its RTP sequence number (16 bits) and timestamp (32 bits, 48 kHz)."""
        self.counts.packets += 1
        try:
            length = packet_samples(packet)
        except WireError:
            self.counts.malformed += 1
            return
        if self._next is not None and abs(_difference(timestamp, self._newest_end)) > RESYNC_SAMPLES:
            self._reset()
        if self._next is None:
            self._newest_end = timestamp
        start = self._newest_end + _difference(timestamp, self._newest_end)
        self._heard_us, self._loudness = arrival_us, 1.0
        self._transits_us.append(arrival_us - start * 1_000_000 // RATE_HZ)
        follows = (sequence - self._newest_sequence) % (1 << 16) == 1
        after_pause = follows and start > self._newest_end
        if self._next is None:
            self._next = self._played_to = self._aligned(arrival_us)
        elif len(packet) > 1:
            self._place(start, arrival_us, after_pause=after_pause)
        if start + length > self._newest_end:
            self._newest_end, self._newest_sequence = start + length, sequence
        if len(packet) > 1:
            self._hold(start, packet, arrival_us)
            self._note_repeat(start, packet, after_pause=after_pause)

    def _aligned(self, now_us: int) -> int:
        """Return what must be decoded next so that everything is heard when it should be."""
        due_us = max(now_us, self._due_us or 0)
        return (due_us - self._wanted_origin_us) * RATE_HZ // 1_000_000 + len(self._sound)

    def _place(self, start: int, now_us: int, *, after_pause: bool) -> None:
        """Move what is played next to suit sound that begins at `start`; only where nothing is said."""
        assert self._next is not None
        if after_pause and not self._held:
            self._next = max(self._played_to, min(start, self._aligned(now_us)))
        elif self._played_to <= start < self._next <= start + MOST_WAIT:
            self._next = start

    def _hold(self, start: int, packet: bytes, now_us: int) -> None:
        assert self._next is not None
        if start < self._next:
            self.counts.late += 1
            return
        self._held[start] = packet
        held_back = (self._wanted_origin_us - self._own_origin_us) * RATE_HZ // 1_000_000
        if self._newest_end - self._next > MOST_HELD + held_back or len(self._held) > MAX_HELD:
            self._next = max(self._next, min(start, self._aligned(now_us)))
            self._drop_passed()

    def _note_repeat(self, start: int, packet: bytes, *, after_pause: bool) -> None:
        if after_pause and start in self._held:
            self._first_words.add(start)
        if has_repeat(packet):
            self._repeat_samples = frame_samples(packet)
            self._repeats_until = start + REPEATS_GONE

    def read(self, now_us: int) -> NDArray[np.int16] | None:
        """Return the next 20 ms, int16 [960] at 48 kHz; None while there is no voice at all."""
        if self._next is None:
            return None
        gone = now_us - self._heard_us > GONE_US
        self._due_us = now_us + READ_US
        self._note_origin(now_us - (self._next - len(self._sound)) * 1_000_000 // RATE_HZ)
        while len(self._sound) < READ_SAMPLES:
            self._sound = np.concatenate([self._sound, self._decode_next()])
        sound, self._sound = self._sound[:READ_SAMPLES], self._sound[READ_SAMPLES:]
        self.counts.played_samples += READ_SAMPLES
        return self._fading(sound) if gone else sound

    def _fading(self, sound: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return what is heard of who has gone: the background, softer and softer, and then nobody plays."""
        begin, self._loudness = self._loudness, max(0.0, self._loudness - READ_SAMPLES / FADE)
        shown = np.asarray(sound * np.linspace(begin, self._loudness, READ_SAMPLES), np.int16)
        if not self._loudness:
            self._reset()
        return shown

    def _note_origin(self, origin_us: int) -> None:
        """Smooth over that reads do not come like clockwork."""
        if self._origin_us is None or abs(origin_us - self._origin_us) > JUMP_US:
            self._origin_us = origin_us
        else:
            self._origin_us += (origin_us - self._origin_us) // SMOOTHED_READS

    def _decode_next(self) -> NDArray[np.int16]:
        assert self._next is not None
        packet = self._held.pop(self._next, None)
        if packet is not None:
            try:
                sound = self._decoder.decode(packet)
            except WireError:
                self.counts.malformed += 1
            else:
                self._next = self._played_to = self._next + len(sound)
                self._drop_passed()
                return self._stretched(sound)
        gap = min((start - self._next for start in self._held), default=READ_SAMPLES)
        repaired = self._repaired(gap)
        if repaired is not None:
            self.counts.repaired_samples += gap
            self._next = self._played_to = self._next + gap
            return repaired
        sound = self._decoder.fill()[:gap]
        self.counts.filled_samples += len(sound)
        self._next += len(sound)
        return sound

    def _repaired(self, gap: int) -> NDArray[np.int16] | None:
        """Return what the next packet repeats of the sound right before it, `gap` samples; None where nothing."""
        assert self._next is not None
        following = self._held.get(self._next + gap)
        if following is None or self._next + gap in self._first_words or gap > frame_samples(following):
            return None
        try:
            sound = self._decoder.repair(following)
        except WireError:
            return None
        return None if sound is None or len(sound) < gap else sound[-gap:]

    def _stretched(self, sound: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return speech a little longer or shorter, where it waits too little or too long."""
        self._since_stretch += len(sound)
        if self._origin_us is None or self._since_stretch < STRETCH_EVERY:
            return sound
        wrong_us = self._wanted_origin_us - self._origin_us
        self._correcting = abs(wrong_us) > (RIGHT_US if self._correcting else WRONG_US)
        if not self._correcting:
            return sound
        change = lengthen if wrong_us > 0 else shorten
        changed = change(sound, abs(wrong_us) * RATE_HZ // 1_000_000)
        longer = len(changed) - len(sound)
        if longer:
            self.counts.stretched_samples += abs(longer)
            self._origin_us += longer * 1_000_000 // RATE_HZ
            self._since_stretch = 0
        return changed

    def _drop_passed(self) -> None:
        """Let go of packets whose turn is over: a stranger's may overlap."""
        assert self._next is not None
        passed = [start for start in self._held if start < self._next]
        self.counts.skipped += len(passed)
        for start in passed:
            del self._held[start]
        self._first_words &= self._held.keys()


def _difference(timestamp: int, position: int) -> int:
    """Return how far a 32-bit timestamp is ahead of a position that wraps nowhere."""
    return (timestamp - position + (1 << 31)) % (1 << 32) - (1 << 31)
