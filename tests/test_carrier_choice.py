"""Which carrier messages take, and when a message rides: times and positions are given, nothing is waited for."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.call.carrier_cadence import (
    BURST_BYTES,
    RIDE_KBPS,
    CarrierCadence,
    Gaps,
    RideAllowance,
    Sound,
)
from mien.call.carrier_choice import (
    DEAF_REPORTS,
    HOLD_US,
    LINE_STALLED_US,
    MAX_HOLD_US,
    MAX_SILENT_REPORTS,
    PROBE_AGAIN_US,
    PROBE_US,
    SILENT_AGAIN_US,
    SILENT_US,
    CarrierChoice,
    CarrierWatch,
    CarrierWish,
)
from mien.call.carriers import MAX_WAITING, CarrierCounts, Carriers
from mien.call.opus import RATE_HZ
from mien.protocol.control import Carrier, CarrierHeard

BOTH = (Carrier.DATACHANNEL, Carrier.AUDIO)
MS = RATE_HZ // 1000
SECOND_US = 1_000_000
START_US = 50 * SECOND_US


def heard(messages: int, silent_ms: int = 0) -> CarrierHeard:
    return CarrierHeard(Carrier.AUDIO, messages, silent_ms)


# --- when a message rides -------------------------------------------------------------------------------------


def rides_in_speech(frame_ms: int, seconds: int = 6) -> list[int]:
    cadence, found = CarrierCadence(), []
    for position in range(0, seconds * RATE_HZ, frame_ms * MS):
        if cadence.may_ride(position, Sound.SPEECH):
            cadence.note_carried(position)
            found.append(position // MS)
    return found


def test_in_speech_messages_ride_in_every_packet_but_the_shortest() -> None:
    for frame_ms, gap_ms in ((20, 40), (40, 40), (60, 60), (120, 120)):
        found = rides_in_speech(frame_ms)
        assert {b - a for a, b in pairwise(found)} == {gap_ms}


def test_in_a_pause_every_80_ms_and_in_silence_every_200() -> None:
    cadence, found = CarrierCadence(), []
    assert cadence.may_ride(0, Sound.SPEECH)
    cadence.note_carried(0)
    for ms in range(20, 6000, 20):
        if cadence.may_ride(ms * MS, Sound.PAUSE):
            cadence.note_carried(ms * MS)
            found.append(ms)
    gaps = [b - a for a, b in zip([0, *found], found, strict=False)]
    silent = [gap for gap, ms in zip(gaps, found, strict=True) if ms > 2200]
    assert set(gaps[:25]) == {80} and set(silent) == {200}
    assert gaps.index(200) == 25  # 2 s


def test_muted_every_200_ms_from_the_start() -> None:
    cadence = CarrierCadence()
    assert cadence.may_ride(0, Sound.SPEECH)
    cadence.note_carried(0)
    assert not cadence.may_ride(199 * MS, Sound.MUTED) and cadence.may_ride(200 * MS, Sound.MUTED)


def test_what_did_not_ride_may_ride_with_the_next_packet() -> None:
    cadence = CarrierCadence()
    cadence.note_carried(0)
    assert not cadence.may_ride(20 * MS, Sound.SPEECH)
    assert cadence.may_ride(40 * MS, Sound.SPEECH) and cadence.may_ride(60 * MS, Sound.SPEECH)
    assert cadence.wait(30 * MS, Sound.SPEECH) == 10 * MS


def test_gaps_of_a_plan() -> None:
    assert Gaps.of(60, 200) == Gaps(60 * MS, 80 * MS, 200 * MS)
    assert Gaps.of(40, 200, 20) == Gaps(
        40 * MS, 60 * MS, 200 * MS
    )  # where all messages are quick, those of pauses are
    assert Gaps.of(40, 200, 40) == Gaps(40 * MS, 40 * MS, 200 * MS)
    assert Gaps.of(240, 320) == Gaps(240 * MS, 240 * MS, 320 * MS)
    assert Gaps.of(240, 200).silence == 240 * MS  # never livelier than a pause


def test_a_lively_face_rides_in_fewer_packets() -> None:
    def kbps(size: Callable[[int], int], seconds: int = 20) -> float:
        """Messages of `size(ms)` bytes for the ms since the one before, offered every 60 ms."""
        allowance, carried, waiting_ms = RideAllowance(), 0, 0
        for ms in range(0, 1000 * seconds, 60):
            waiting_ms += 60
            if allowance.is_open(START_US + 1000 * ms):
                allowance.note(size(waiting_ms))
                carried += size(waiting_ms)
                waiting_ms = 0
        return carried * 8 / 1000 / seconds

    assert kbps(lambda ms: 22) == pytest.approx(22 * 8 / 60, rel=0.01)  # 2.9 kbps: every packet
    assert RIDE_KBPS <= kbps(lambda ms: 20 + ms // 4) <= RIDE_KBPS + BURST_BYTES * 8 / 20_000 + 0.05


# --- which carrier --------------------------------------------------------------------------------------------


def proved(wish: CarrierWish = CarrierWish.AUTO) -> CarrierChoice:
    choice = CarrierChoice(wish, line=True)
    choice.on_hello(BOTH, START_US)
    choice.on_line(START_US)
    choice.on_report(heard(1), START_US + 100)
    assert choice.current is Carrier.AUDIO
    return choice


def test_where_the_audio_carrier_cannot_be_it_is_not_tried() -> None:
    for wish, line, theirs, why in (
        (CarrierWish.DATACHANNEL, True, BOTH, "as asked"),
        (CarrierWish.AUTO, False, BOTH, "no audio line"),
        (CarrierWish.AUDIO, True, (Carrier.DATACHANNEL,), "the other side"),
        (CarrierWish.AUTO, True, (), "the other side"),
    ):
        choice = CarrierChoice(wish, line=line)
        choice.on_hello(theirs, START_US)
        choice.on_line(START_US)
        assert not choice.possible and not choice.may_probe(START_US) and why in choice.why
        choice.on_report(heard(5), START_US)
        assert choice.current is Carrier.DATACHANNEL


def test_probes_until_the_other_side_says_that_it_hears() -> None:
    choice = CarrierChoice(CarrierWish.AUTO, line=True)
    choice.on_hello((*BOTH, 7), START_US)
    choice.on_line(START_US)
    assert choice.may_probe(START_US)
    choice.on_report(heard(0), START_US)  # makes no sense: no proof
    assert choice.may_probe(START_US)
    choice.on_report(heard(1), START_US)
    assert choice.current is Carrier.AUDIO and not choice.may_probe(START_US)


def test_nobody_answers_so_probes_come_seldom() -> None:
    choice = CarrierChoice(CarrierWish.AUDIO, line=True)
    choice.on_hello(BOTH, START_US)
    tried = []
    for ms in range(3000, 30_000, 100):  # the line begins later than the call
        now_us = START_US + ms * 1000
        choice.on_line(now_us)
        choice.advance(now_us)
        if choice.may_probe(now_us):
            tried.append(ms)
    rounds = [[t for t in tried if low <= t < low + 9000] for low in (3000, 12_500, 22_500)]
    assert [r[0] for r in rounds] == [3000, 13_100, 23_200]
    assert all(r[-1] - r[0] == PROBE_US // 1000 for r in rounds)
    assert PROBE_AGAIN_US == 10_000_000 and choice.current is Carrier.DATACHANNEL


def test_two_reports_of_silence_and_the_data_channel_carries() -> None:
    choice, now_us = proved(), START_US + SECOND_US
    for index in range(DEAF_REPORTS):
        for _ in range(10):
            now_us += 300_000
            choice.on_line(now_us)
            choice.on_sent(now_us)
        assert choice.current is Carrier.AUDIO, index
        choice.on_report(heard(4, 2600 + 1500 * index), now_us)
    assert choice.current is Carrier.DATACHANNEL and "finds no messages" in choice.why
    choice.on_report(heard(4, 9000), now_us)  # the other side has not noticed yet
    assert choice.current is Carrier.DATACHANNEL


def test_a_report_in_between_and_silence_of_our_own_count_for_nothing() -> None:
    choice, now_us = proved(), START_US + SECOND_US
    choice.on_line(now_us)
    for messages in (4, 9, 12):
        for _ in range(3):
            choice.on_sent(now_us)
        choice.on_report(heard(messages, 2600), now_us)
        choice.on_report(heard(messages + 1), now_us)
    assert choice.current is Carrier.AUDIO
    now_us += 9 * SECOND_US
    choice.on_line(now_us)
    for _ in range(5):  # we have sent nothing for 9 s
        choice.on_report(heard(20, 2600), now_us)
    assert choice.current is Carrier.AUDIO


def test_a_line_that_stands_still_is_left_and_taken_again_later_each_time() -> None:
    choice, now_us = proved(), START_US
    hold_us, messages = HOLD_US, 1
    for _ in range(6):
        now_us += LINE_STALLED_US + 1
        choice.advance(now_us)
        assert choice.current is Carrier.DATACHANNEL and "stands still" in choice.why
        left_us = now_us
        while choice.current is Carrier.DATACHANNEL:
            now_us += 100_000
            choice.on_line(now_us)
            choice.advance(now_us)
            if choice.may_probe(now_us):
                messages += 1
                choice.on_report(heard(messages), now_us)
        assert hold_us <= now_us - left_us <= hold_us + 300_000
        hold_us = min(2 * hold_us, MAX_HOLD_US)
    assert hold_us == MAX_HOLD_US


# --- what the other side is told ------------------------------------------------------------------------------


def test_the_first_message_is_told_and_the_others_are_not() -> None:
    watch = CarrierWatch()
    assert watch.on_message(Carrier.DATACHANNEL, START_US) is None
    assert watch.on_message(Carrier.AUDIO, START_US) == heard(1)
    assert watch.on_message(Carrier.AUDIO, START_US + 1) is None
    assert watch.on_message(Carrier.DATACHANNEL, START_US + 2) is None


def test_probes_are_answered_again_when_they_go_on() -> None:
    watch = CarrierWatch()
    assert watch.on_probe(START_US) == heard(1)
    assert watch.on_probe(START_US + 60_000) is None
    assert watch.on_probe(START_US + SILENT_AGAIN_US) == heard(3)
    assert watch.advance(START_US + 60 * SECOND_US) is None  # probes promise nothing


def test_silence_is_told_a_few_times_and_its_end_once() -> None:
    watch = CarrierWatch()
    watch.on_message(Carrier.AUDIO, START_US)
    watch.on_message(Carrier.AUDIO, START_US + 60_000)
    told = []
    for ms in range(60, 20_000, 100):
        report = watch.advance(START_US + ms * 1000)
        if report is not None:
            told.append((ms, report))
    assert [ms for ms, _ in told] == [2560, 4060, 5560, 7060] and len(told) == MAX_SILENT_REPORTS
    assert told[0][1] == heard(2, SILENT_US // 1000) and told[1][1] == heard(2, 4000)
    assert watch.on_message(Carrier.AUDIO, START_US + 20 * SECOND_US) == heard(3)
    assert watch.on_message(Carrier.AUDIO, START_US + 20 * SECOND_US) is None


def test_no_silence_where_messages_come_by_data_channel() -> None:
    watch = CarrierWatch()
    watch.on_message(Carrier.AUDIO, START_US)
    watch.on_message(Carrier.DATACHANNEL, START_US + SECOND_US)
    assert watch.advance(START_US + 9 * SECOND_US) is None


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, (1 << 32) - 1), st.integers(0, 5000)), max_size=60)
)
def test_no_report_of_a_stranger_does_harm(steps: list[tuple[int, int, int]]) -> None:
    choice, watch, now_us = CarrierChoice(CarrierWish.AUTO, line=True), CarrierWatch(), START_US
    choice.on_hello(BOTH, now_us)
    for kind, number, ms in steps:
        now_us += ms * 1000
        if kind == 0:
            choice.on_report(CarrierHeard(number % 256, number, ms), now_us)
        elif kind == 1:
            choice.on_report(heard(number, ms), now_us)
        elif kind == 2:
            choice.on_line(now_us)
            choice.on_sent(now_us)
        else:
            report = watch.on_probe(now_us) if kind == 3 else watch.on_message(Carrier.AUDIO, now_us)
            assert report is None or report.silent_ms == 0
            watch.advance(now_us)
        choice.advance(now_us)
        assert choice.current in Carrier


# --- both carriers behind one interface -----------------------------------------------------------------------


class Talker:
    """Makes messages of numbers."""

    def __init__(self) -> None:
        self.number = 0
        self.still = False
        self.carriers: list[Carrier] = []

    def cut(self) -> bytes | None:
        if self.still:
            return None
        self.number += 1
        return b"cut %d" % self.number

    def use_carrier(self, carrier: Carrier) -> None:
        self.carriers.append(carrier)


class Call:
    """One side, whose data channel is a list."""

    def __init__(self, wish: CarrierWish = CarrierWish.AUTO, *, theirs: tuple[int, ...] = BOTH) -> None:
        self.told: list[str] = []
        self.channel: list[bytes] = []
        self.talker = Talker()
        self.carriers = Carriers(wish, audio=True, line=True, tell=self.told.append)
        self.now_us = START_US
        self.carriers.open(theirs, self._send, self.now_us)

    def _send(self, message: bytes) -> bool:
        self.channel.append(message)
        return True

    def board(self, room: int = 1000) -> bytes | None:
        self.now_us += 60_000
        return self.carriers.board(self.now_us, room)

    def on_audio(self) -> "Call":
        self.carriers.carry(self.talker, self.now_us)
        assert self.board() == b""
        self.carriers.on_report(heard(1), self.now_us)
        return self


def test_messages_take_the_data_channel_until_the_probe_is_heard() -> None:
    call = Call()
    assert call.board() is None  # no face: nothing to try it for
    call.carriers.carry(call.talker, call.now_us)
    assert call.board() == b"" and call.carriers.send(b"first")
    call.carriers.on_report(heard(1), call.now_us)
    assert call.talker.carriers == [Carrier.DATACHANNEL, Carrier.AUDIO]
    assert [call.board(), call.board()] == [b"cut 1", b"cut 2"]
    assert call.channel == [b"first"]
    assert call.carriers.sent == {
        Carrier.DATACHANNEL: CarrierCounts(1, 5),
        Carrier.AUDIO: CarrierCounts(2, 10),
    }
    assert call.told == ["carrier: your face rides in the packets of your voice"]


def test_messages_that_would_cost_too_much_wait_for_the_next_packet() -> None:
    call = Call().on_audio()
    call.talker.cut = lambda: bytes(60)  # type: ignore[method-assign]
    boarded = [call.board() for _ in range(200)]  # 12 s
    rode = sum(message is not None for message in boarded)
    assert RIDE_KBPS - 0.1 < rode * (60 + 5) * 8 / 12_000 < RIDE_KBPS + 0.3
    assert boarded[:3] == [bytes(60)] * 3 and None in boarded


def test_a_still_face_sends_nothing() -> None:
    call = Call().on_audio()
    call.talker.still = True
    assert [call.board() for _ in range(5)] == [None] * 5


def test_complete_messages_ride_first_and_the_newest_few_only() -> None:
    call = Call().on_audio()
    for number in range(MAX_WAITING + 2):
        assert call.carriers.send(b"whole %d" % number)
    assert [call.board() for _ in range(MAX_WAITING + 1)] == [
        *(b"whole %d" % number for number in range(2, MAX_WAITING + 2)),
        b"cut 1",
    ]


def test_what_is_too_long_for_a_packet_takes_the_data_channel() -> None:
    call = Call().on_audio()
    call.carriers.send(bytes(700))
    assert call.board(room=699) is None and call.channel == [bytes(700)]
    assert call.carriers.current is Carrier.AUDIO


def test_what_waits_when_the_line_stops_takes_the_data_channel() -> None:
    call = Call().on_audio()
    call.carriers.send(b"waits")
    call.now_us += LINE_STALLED_US + 1
    call.carriers.advance(call.now_us)
    assert call.channel == [b"waits"] and call.talker.carriers[-1] is Carrier.DATACHANNEL
    assert call.told[-1] == "carrier: your face takes the data channel: the voice line stands still"
    assert call.carriers.send(b"next") and call.channel[-1] == b"next"


def test_whoever_insists_is_told_why_not() -> None:
    refused = Call(CarrierWish.AUDIO, theirs=(Carrier.DATACHANNEL,))
    why = "the other side takes none from packets of voice"
    assert refused.told == [f"carrier: the data channel; in packets of the voice it cannot be: {why}"]
    call = Call(CarrierWish.AUDIO)
    call.carriers.carry(call.talker, call.now_us)
    for _ in range(100):
        call.board()
        call.carriers.advance(call.now_us)
    assert call.told == ["carrier: the data channel; what we put into packets of the voice does not arrive"]
    assert Call(CarrierWish.AUTO, theirs=()).told == []


def test_what_is_offered() -> None:
    def offered(wish: CarrierWish, *, audio: bool = True) -> tuple[Carrier, ...]:
        return Carriers(wish, audio=audio, line=False, tell=print).offered

    assert offered(CarrierWish.AUTO) == offered(CarrierWish.AUDIO) == BOTH
    assert (
        offered(CarrierWish.DATACHANNEL) == offered(CarrierWish.AUTO, audio=False) == (Carrier.DATACHANNEL,)
    )


def test_what_came_by_which() -> None:
    carriers = Call().carriers
    assert carriers.on_message(Carrier.AUDIO, 0, START_US) == heard(1)
    assert carriers.on_message(Carrier.AUDIO, 30, START_US) is None
    assert carriers.on_message(Carrier.DATACHANNEL, 50, START_US) is None
    assert carriers.received == {
        Carrier.DATACHANNEL: CarrierCounts(1, 50),
        Carrier.AUDIO: CarrierCounts(1, 30),
    }
