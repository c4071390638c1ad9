"""Which carrier our messages take, and what we tell the other side about those that it sends. No I/O, no clock.

The packets of the voice are the cheaper carrier, and a server between the two sides may take the messages out of
them without a word. So they are used once the other side has said that something arrives, and left again when it
says that nothing does, or when our voice line stands still. Meanwhile, and before, the data channel carries.
Times are integer microseconds of any clock that never runs backwards.
"""

from collections import deque
from enum import StrEnum
from typing import Final

from mien.protocol.control import Carrier, CarrierHeard

PROBE_US: Final = 2_000_000  # so long is tried whether anything arrives in packets of voice
PROBE_AGAIN_US: Final = 10_000_000  # after so long once more
LINE_STALLED_US: Final = 1_500_000  # a voice line that works asks for messages more often, also while muted
DEAF_REPORTS: Final = 2  # in a row, until the audio carrier is left
DEAF_SENT: Final = 2  # messages that must have been sent meanwhile
HOLD_US: Final = 5_000_000  # after leaving the audio carrier; doubled each time
MAX_HOLD_US: Final = 60_000_000
SILENT_US: Final = 2_500_000  # a face that is still says so once a second
SILENT_AGAIN_US: Final = 1_500_000
MAX_SILENT_REPORTS: Final = 4  # in a row: the other side may have nothing more to say
_MAX_U32: Final = (1 << 32) - 1


class CarrierWish(StrEnum):
    """What the user wants. AUTO: packets of voice where that is possible, without a word where it is not."""

    AUTO = "auto"
    AUDIO = "audio"
    DATACHANNEL = "datachannel"


class CarrierChoice:
    """Our messages' way. It begins with the data channel."""

    def __init__(self, wish: CarrierWish, *, line: bool) -> None:
        """`line`: whether there is an audio line that packets of ours could go on."""
        self._wish = wish
        self._line = line
        self._possible = False
        self._proved = 0  # messages that the other side had heard when it last said so
        self._fresh = False  # whether it has said so since the audio carrier was left
        self._probe_us = 0  # when the newest round of probes began
        self._line_us: int | None = None  # when the voice line last asked for a message
        self._hold_us = HOLD_US
        self._held_until_us = 0
        self._deaf = 0  # reports in a row
        self._sent_us: deque[int] = deque(maxlen=8)  # by the audio carrier
        self.current = Carrier.DATACHANNEL
        self.why = ""  # of the latest change, or of there being none; for a person

    def on_hello(self, carriers: tuple[int, ...], now_us: int) -> None:
        """The other side can take messages from these carriers."""
        self._possible = False
        if self._wish is CarrierWish.DATACHANNEL:
            self.why = "as asked"
        elif not self._line:
            self.why = "this side has no audio line"
        elif Carrier.AUDIO not in carriers:
            self.why = "the other side takes none from packets of voice"
        else:
            self._possible = True
            self._probe_us = now_us

    @property
    def possible(self) -> bool:
        """Whether the audio carrier may be tried."""
        return self._possible

    def on_line(self, now_us: int) -> None:
        """A packet of voice is about to leave, or could be made: the line works."""
        if self._line_us is None:
            self._probe_us = now_us
        self._line_us = now_us

    def may_probe(self, now_us: int) -> bool:
        """Return whether a packet is to tell the other side that messages could come this way."""
        if not self._possible or self._fresh or self.current is Carrier.AUDIO:
            return False
        if now_us - self._probe_us > PROBE_AGAIN_US:
            self._probe_us = now_us
        return now_us - self._probe_us <= PROBE_US

    def on_sent(self, now_us: int) -> None:
        """A message left in a packet of voice."""
        self._sent_us.append(now_us)

    def on_report(self, report: CarrierHeard, now_us: int) -> None:
        """The other side says what it heard."""
        if report.carrier != Carrier.AUDIO or not self._possible:
            return
        if report.silent_ms == 0:
            self._deaf = 0
            if report.messages > self._proved:
                self._proved, self._fresh = report.messages, True
        elif self.current is Carrier.AUDIO:
            since_us = now_us - 1000 * report.silent_ms
            if sum(us > since_us for us in self._sent_us) >= DEAF_SENT:
                self._deaf += 1
        self.advance(now_us)

    def advance(self, now_us: int) -> None:
        """Let time pass."""
        if self.current is Carrier.AUDIO:
            if self._deaf >= DEAF_REPORTS:
                self._leave("the other side finds no messages in the packets of voice any more", now_us)
            elif not self._line_works(now_us):
                self._leave("the voice line stands still", now_us)
        elif self._fresh and now_us >= self._held_until_us and self._line_works(now_us):
            self.current, self._deaf = Carrier.AUDIO, 0
            self._sent_us.clear()
            self.why = "they ride in the packets of the voice"

    def _line_works(self, now_us: int) -> bool:
        return self._line_us is not None and now_us - self._line_us <= LINE_STALLED_US

    def _leave(self, why: str, now_us: int) -> None:
        self.current, self.why = Carrier.DATACHANNEL, why
        self._fresh = False
        self._held_until_us = now_us + self._hold_us
        self._probe_us = self._held_until_us - PROBE_AGAIN_US
        self._hold_us = min(2 * self._hold_us, MAX_HOLD_US)


class CarrierWatch:
    """Their messages' ways, and what they are to be told about them."""

    def __init__(self) -> None:
        self._by_audio = 0
        self._audio_us = 0  # when the newest came in a packet of voice
        self._newest: Carrier | None = None  # which brought the newest
        self._told_us: int | None = None
        self._silent_reports = 0

    def on_message(self, carrier: Carrier, now_us: int) -> CarrierHeard | None:
        """Take in that a message came; return what to tell the other side."""
        self._newest = carrier
        if carrier is not Carrier.AUDIO:
            return None
        self._by_audio += 1
        self._audio_us = now_us
        if self._told_us is not None and self._silent_reports == 0:
            return None
        self._silent_reports = 0
        return self._report(0, now_us)

    def on_probe(self, now_us: int) -> CarrierHeard | None:
        """Take in that an empty message came, which is sent while the data channel carries the others."""
        newest, report = self._newest, self.on_message(Carrier.AUDIO, now_us)
        self._newest = newest
        return report or self._report_again(now_us)

    def advance(self, now_us: int) -> CarrierHeard | None:
        """Return what to tell the other side because nothing came."""
        if self._newest is not Carrier.AUDIO or self._silent_reports >= MAX_SILENT_REPORTS:
            return None
        silent_us = now_us - self._audio_us
        if silent_us < SILENT_US or (self._told_us or 0) + SILENT_AGAIN_US > now_us:
            return None
        self._silent_reports += 1
        return self._report(silent_us // 1000, now_us)

    def _report_again(self, now_us: int) -> CarrierHeard | None:
        """Whoever still probes has left the audio carrier, or missed what it was told."""
        if self._told_us is not None and now_us - self._told_us < SILENT_AGAIN_US:
            return None
        return self._report(0, now_us)

    def _report(self, silent_ms: int, now_us: int) -> CarrierHeard:
        self._told_us = now_us
        heard, silent_ms = min(self._by_audio, _MAX_U32), min(silent_ms, _MAX_U32)
        return CarrierHeard(int(Carrier.AUDIO), heard, silent_ms)
