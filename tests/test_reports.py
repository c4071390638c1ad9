"""Reports of a call: round trip, losses and latency over two clocks that do not agree; jitter of arrivals."""

from dataclasses import replace
from fractions import Fraction

from mien.call.arrivals import Arrivals
from mien.call.queue_gauge import QueueGauge
from mien.call.redundancy import IN_BURSTS_BY_AUDIO, IN_BURSTS_BY_CHANNEL, LossTrend, Redundancy
from mien.call.reports import Reception, Reports
from mien.protocol.control import Carrier, ReceiverReport

NOTHING = Reception(0, 0, 0, 0)
RATE = Fraction(30)
THEIR_AHEAD_US = 77_000_000_000  # their clock is ahead of ours
TRIP_US = 40_000  # one way


def report(*, received: int, lost: int, runs: int | None = None) -> ReceiverReport:
    empty = Reports().make(NOTHING, sent=0, coded=None, now_us=0)
    return replace(empty, received=received, lost=lost, runs=lost if runs is None else runs)


def exchange(rounds: int) -> tuple[Reports, Reports]:
    """Let two sides report to one another, each way taking `TRIP_US`, every second."""
    ours, theirs = Reports(), Reports()
    for second in range(rounds):
        now_us = 1_000_000 * (second + 1)
        coded = (30 * (second + 1), now_us)  # tick n was taken at n / 30 s of our clock
        report = ours.make(NOTHING, sent=5 * second, coded=coded, now_us=now_us)
        theirs.take(
            report, came=4 * second, tick_rate=RATE, transport_us=0, now_us=now_us + TRIP_US + THEIR_AHEAD_US
        )
        back = theirs.make(NOTHING, sent=0, coded=None, now_us=now_us + 300_000 + THEIR_AHEAD_US)
        ours.take(back, came=0, tick_rate=None, transport_us=0, now_us=now_us + 300_000 + TRIP_US)
    return ours, theirs


def test_round_trip_and_losses() -> None:
    ours, theirs = exchange(4)
    assert ours.round_trip_us == theirs.round_trip_us == 2 * TRIP_US
    assert theirs.lost == 3 and ours.their_lost == 3


def test_latency_across_clocks() -> None:
    _, theirs = exchange(4)
    for tick in range(150, 200):
        taken_us = round(tick / 30 * 1e6) + THEIR_AHEAD_US
        theirs.note_picture(Fraction(tick), RATE, taken_us + 250_000)
    assert theirs.latency.samples == 50
    assert abs(theirs.latency.median_ms - 250) < 0.01
    report = theirs.make(NOTHING, sent=0, coded=None, now_us=THEIR_AHEAD_US + 9_000_000)
    assert abs(report.latency_us - 250_000) < 10


def test_a_report_that_had_to_be_sent_again_spoils_neither_round_trip_nor_latency() -> None:
    ours, theirs = exchange(4)
    report = ours.make(NOTHING, sent=25, coded=(150, 5_000_000), now_us=5_000_000)
    arrival_us = 5_000_000 + 1_000_000 + TRIP_US + THEIR_AHEAD_US
    theirs.take(report, came=20, tick_rate=RATE, transport_us=0, now_us=arrival_us)
    assert theirs.newest_round_trip_us > 1_000_000 and theirs.round_trip_us == 2 * TRIP_US
    theirs.note_picture(Fraction(160), RATE, round(160 / 30 * 1e6) + THEIR_AHEAD_US + 250_000)
    assert abs(theirs.latency.median_ms - 250) < 0.01


def test_without_a_report_nothing_is_claimed() -> None:
    reports = Reports()
    reports.note_picture(Fraction(3), RATE, 1_000_000)
    assert reports.latency.samples == 0 and reports.round_trip_us == 0 and reports.lost == 0


def test_when_reports_are_due() -> None:
    reports = Reports()
    assert not reports.is_due(99_000_000)  # not connected yet
    reports.start(0)
    due = [t for t in range(0, 25_000_000, 100_000) if reports.is_due(t)]
    assert due == [2_000_000, 12_000_000, 22_000_000]


def test_nonsense_is_survived() -> None:
    reports = Reports()
    huge = (1 << 53) - 1
    reports.take(
        replace(
            report(received=0, lost=0),
            sent_us=huge,
            echo_us=huge,
            held_us=huge,
            coded_tick=huge,
            coded_us=huge,
        ),
        came=5,
        tick_rate=RATE,
        transport_us=0,
        now_us=1_000_000,
    )
    reports.note_picture(Fraction(10), RATE, 2_000_000)
    reports.make(NOTHING, sent=0, coded=None, now_us=3_000_000).serialize()
    assert reports.round_trip_us == 0 and reports.lost == 0


def message(first_tick: int, frames: int = 6) -> bytes:
    return bytes([0x10, frames - 1]) + (first_tick % 65536).to_bytes(2, "big") + b"body"


def test_even_arrivals_have_no_jitter_also_where_ticks_wrap() -> None:
    arrivals = Arrivals(RATE)
    for i in range(200):
        arrivals.on_message(message(65_000 + 6 * i), 200_000 * i)
    assert arrivals.jitter_us == 0 and arrivals.messages == 200


def test_short_heads_count_as_long_ones() -> None:
    arrivals = Arrivals(RATE)
    for i in range(200):
        short = (0x5200 | (65_000 + 6 * i) % 512).to_bytes(2, "big")
        arrivals.on_message(b"\x60" + short + b"body" if i % 5 else message(65_000 + 6 * i), 200_000 * i)
    assert (arrivals.jitter_us, arrivals.messages, arrivals.missing) == (0, 200, 0)


def test_jitter_of_uneven_arrivals() -> None:
    arrivals = Arrivals(RATE)
    for i in range(400):
        arrivals.on_message(message(6 * i), 200_000 * i + 10_000 * (i % 2))
    assert 9_000 < arrivals.jitter_us < 11_000


def test_pauses_and_short_messages_are_no_jitter() -> None:
    arrivals = Arrivals(RATE)
    arrivals.on_message(message(0), 0)
    arrivals.on_message(b"", 1)
    arrivals.on_message(b"\x10", 2)
    arrivals.on_message(message(6), 30_000_000)
    assert arrivals.jitter_us == 0


def test_repeats_are_wanted_from_the_first_bad_report_until_several_good_ones() -> None:
    trend = LossTrend()
    wanted = []
    for received, lost in ((50, 0), (98, 2), (148, 2), (190, 10), (240, 10), (290, 10), (340, 10), (390, 10)):
        trend.take(report(received=received, lost=lost))
        wanted.append(trend.redundancy(Carrier.DATACHANNEL).copies)
    assert wanted == [0, 1, 1, 1, 1, 1, 0, 0]


def test_numbers_that_run_backwards_are_no_news() -> None:
    trend = LossTrend()
    trend.take(report(received=50, lost=5))
    for received, lost in ((10, 900), (900, 0), (900, 0)):
        trend.take(report(received=received, lost=lost))
    assert trend.redundancy(Carrier.AUDIO) == Redundancy(copies=2)


def test_in_bursts_the_data_channel_takes_short_messages() -> None:
    for run in (2, 5, 9):
        trend = LossTrend()
        trend.take(report(received=100, lost=6 * run, runs=6))
        assert trend.mean_run == run
        assert trend.redundancy(Carrier.DATACHANNEL) == IN_BURSTS_BY_CHANNEL
        assert trend.redundancy(Carrier.AUDIO) == IN_BURSTS_BY_AUDIO


def test_a_burst_is_forgotten_when_losses_come_singly() -> None:
    trend, received, lost, runs = LossTrend(), 0, 0, 0
    for length in (5, 5, 1, 1, 1, 1, 1):
        received, lost, runs = received + 40, lost + 6 * length, runs + 6
        trend.take(report(received=received, lost=lost, runs=runs))
    assert 1 < trend.mean_run < 1.2
    assert trend.redundancy(Carrier.DATACHANNEL).lag == 0


def test_a_queue_and_its_end_are_reported_soon() -> None:
    reports = Reports()
    reports.start(0)
    assert reports.is_due(2_000_000)
    reports.make(NOTHING, sent=0, coded=None, now_us=2_000_000)
    reports.note_queue(90_000, now_us=4_000_000)
    assert not reports.is_due(4_000_000)
    reports.note_queue(180_000, now_us=4_000_000)
    assert reports.is_due(4_000_000)
    reports.make(replace(NOTHING, queue_us=180_000), sent=0, coded=None, now_us=4_000_000)
    reports.note_queue(0, now_us=4_100_000)
    assert not reports.is_due(5_500_000) and reports.is_due(6_000_000)
    assert reports.make(NOTHING, sent=0, coded=None, now_us=6_000_000).queue_us == 0
    reports.note_queue(0, now_us=8_000_000)
    assert not reports.is_due(8_000_000)


def test_losses_are_reported_soon() -> None:
    reports = Reports()
    reports.start(0)
    reports.note_missing(0, 5, now_us=1_000_000)
    assert not reports.is_due(1_000_000)
    assert reports.is_due(2_000_000)
    assert reports.make(replace(NOTHING, received=10), sent=0, coded=None, now_us=2_000_000).lost == 0
    reports.note_missing(1, 12, now_us=3_000_000)
    assert not reports.is_due(3_000_000)
    assert reports.is_due(6_000_000)
    assert (
        reports.make(replace(NOTHING, received=20, missing=1), sent=0, coded=None, now_us=6_000_000).lost == 1
    )
    reports.note_missing(1, 40, now_us=11_000_000)
    assert not reports.is_due(11_000_000)
    assert reports.is_due(16_000_000)


def test_missing_messages_show_as_gaps_in_the_ticks() -> None:
    arrivals = Arrivals(RATE)
    for number in (0, 1, 3, 4, 7, 6, 8):  # 2 and 5 are lost, 6 is late
        arrivals.on_message(
            bytes([0x10, 0x15]) + (65530 + 6 * number).to_bytes(4, "big")[2:], 200_000 * number
        )
    assert arrivals.missing == 2


def test_a_face_at_rest_misses_nothing() -> None:
    arrivals = Arrivals(RATE)
    for number in range(5):
        arrivals.on_message(message(6 * number), 200_000 * number)
    for number, first in enumerate((30, 36, 66, 96)):
        arrivals.on_message(
            bytes([0x30, 0]) + first.to_bytes(2, "big") + b"body", 1_000_000 + 500_000 * number
        )
    for number in (17, 18, 20):
        arrivals.on_message(message(6 * number), 200_000 * number)
    assert arrivals.missing == 1  # 19
    assert arrivals.jitter_us == 0


def test_messages_of_changing_length_are_counted_as_messages() -> None:
    arrivals, first, lost = Arrivals(RATE), 0, 0
    for number in range(300):
        frames = 2 + number % 2 if number % 100 < 50 else 6
        if number % 10 == 7:
            lost += 1
        else:
            arrivals.on_message(message(first, frames), first * 33_333)
        first += frames
    assert abs(arrivals.missing - lost) <= 5


def test_a_copy_is_no_message_that_came() -> None:
    arrivals = Arrivals(RATE)
    for number in (0, 1, 1, 2, 4):
        arrivals.on_message(message(6 * number), 200_000 * number)
    assert arrivals.missing == 1


def arrivals_of(lost: set[int], count: int) -> Arrivals:
    arrivals = Arrivals(RATE)
    for number in range(count):
        if number not in lost:
            arrivals.on_message(message(6 * number), 200_000 * number)
    return arrivals


def test_runs_tell_bursts_from_single_losses() -> None:
    single, burst = arrivals_of({3, 9, 15, 21}, 30), arrivals_of({3, 4, 5, 6, 15, 16}, 30)
    assert (single.missing, single.runs) == (4, 4)
    assert (burst.missing, burst.runs) == (6, 2)


def test_what_comes_late_is_no_run_either() -> None:
    arrivals = Arrivals(RATE)
    for number in (0, 1, 4, 2, 3, 5, 9, 7):
        arrivals.on_message(message(6 * number), 200_000 * number)
    assert (arrivals.missing, arrivals.runs) == (2, 2)  # 6 and 8


def test_keep_alives_that_get_lost_show_as_long_gaps() -> None:
    arrivals = Arrivals(RATE)
    for seconds in (0, 1, 2, 5, 6):
        arrivals.on_message(bytes([0x30, 0]) + (30 * seconds).to_bytes(2, "big"), 1_000_000 * seconds)
    assert (arrivals.missing, arrivals.runs) == (2, 1)
    assert arrivals.still_messages == 5


def test_a_queue_shows_before_anything_is_lost() -> None:
    arrivals = Arrivals(RATE)
    for number in range(60):
        late_us = max(0, number - 30) * 20_000  # from the sixth second on, each waits 20 ms longer
        arrivals.on_message(message(6 * number), 200_000 * number + late_us)
        if number == 30:
            assert arrivals.queue.queue_us(200_000 * number) == 0
    assert 300_000 <= arrivals.queue.queue_us(200_000 * 59 + 580_000) <= 580_000
    assert arrivals.queue.queue_us(60_000_000) == 0  # nothing came lately


def test_a_longer_way_counts_as_the_way_after_half_a_minute() -> None:
    gauge = QueueGauge()
    for number in range(600):
        gauge.note(100_000 * number, 100_000 * number + (50_000 if number < 100 else 250_000))
        if number == 200:
            assert gauge.queue_us(100_000 * number) == 200_000
    assert gauge.queue_us(60_000_000) == 0
