"""The impaired link: the statistics of each impairment, and a call through the relay."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Final

import pytest

from mien.bench.impaired_path import ImpairedPath, PathCounts, impaired_pair
from mien.bench.impairment import GilbertElliott, Link, Profile, RandomLoss
from mien.bench.link_trace import COLUMNS, TRACES, LinkMoment, LinkTrace
from mien.bench.make_link_traces import make
from mien.call.rendezvous import local_pair
from mien.call.session import CallSession, Participant
from mien.call.statistics import CallStatistics
from mien.protocol.control import Carrier
from mien.protocol.errors import MienError
from mien.protocol.message import CoefficientMessage
from tests.test_call_loopback import person, settings

START_US: Final = 1_000_000
GAP_US: Final = 20_000
SIZE: Final = 125  # 1000 bits


def passed(profile: Profile, count: int, *, seed: int = 1, gap_us: int = GAP_US) -> list[list[int]]:
    """Return each packet's arrivals, in microseconds after it was sent."""
    link = Link(profile, seed=seed)
    times = [START_US + number * gap_us for number in range(count)]
    return [[arrival - now for arrival in link.send(now, SIZE)] for now in times]


def losses(profile: Profile, count: int = 20_000, *, seed: int = 1) -> list[bool]:
    return [not arrivals for arrivals in passed(profile, count, seed=seed)]


def test_a_good_link_delivers_at_once_and_a_seed_says_everything() -> None:
    assert passed(Profile(), 5) == [[0]] * 5
    bad = Profile(jitter_us=9_000, loss=RandomLoss(0.2), duplicate=0.1, reorder=0.1)
    assert passed(bad, 300) == passed(bad, 300) != passed(bad, 300, seed=2)


def test_random_loss() -> None:
    lost = losses(Profile(loss=RandomLoss(0.2)))
    assert sum(lost) / len(lost) == pytest.approx(0.2, abs=0.01)
    runs = [sum(1 for _ in run) for gone, run in groupby(lost) if gone]
    assert sum(runs) / len(runs) == pytest.approx(1 / 0.8, abs=0.05)


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_bursts(share: float) -> None:
    model = GilbertElliott.bursts(share, mean_packets=5)
    assert model.mean_share == pytest.approx(share)
    lost = losses(Profile(loss=model), 60_000)
    assert sum(lost) / len(lost) == pytest.approx(share, rel=0.1)
    runs = [sum(1 for _ in run) for gone, run in groupby(lost) if gone]
    assert sum(runs) / len(runs) == pytest.approx(5, rel=0.1)


def test_a_bad_state_may_let_packets_through() -> None:
    model = GilbertElliott(to_bad=0.1, to_good=0.3, loss_good=0.02, loss_bad=0.5)
    assert model.mean_share == pytest.approx(0.25 * 0.5 + 0.75 * 0.02)
    lost = losses(Profile(loss=model), 40_000)
    assert sum(lost) / len(lost) == pytest.approx(model.mean_share, rel=0.1)


def test_one_impairment_leaves_the_others_where_they_were() -> None:
    alone = Profile(loss=RandomLoss(0.1))
    both = replace(alone, jitter_us=5_000, duplicate=0.3, reorder=0.2, outages=((2_000_000, 3_000_000),))
    count = 500
    outside = [n for n in range(count) if not 2_000_000 <= n * GAP_US < 3_000_000]
    one, other = losses(alone, count), losses(both, count)
    assert [one[n] for n in outside] == [other[n] for n in outside]


def test_delay_and_jitter_keep_the_order() -> None:
    arrivals = [a[0] for a in passed(Profile(delay_us=40_000, jitter_us=60_000), 4000)]
    assert min(arrivals) >= 40_000 and max(arrivals) <= 100_000
    assert sum(arrivals) / len(arrivals) > 70_000  # whoever waits makes the next ones wait too
    times = [n * GAP_US + a for n, a in enumerate(arrivals)]
    assert times == sorted(times)
    apart = [a[0] for a in passed(Profile(delay_us=40_000, jitter_us=60_000), 4000, gap_us=100_000)]
    assert sum(apart) / len(apart) == pytest.approx(70_000, rel=0.03)


def test_reordering() -> None:
    profile = Profile(delay_us=10_000, reorder=0.1, reorder_us=50_000)
    arrivals = [a[0] for a in passed(profile, 10_000)]
    assert set(arrivals) == {10_000, 60_000}
    assert arrivals.count(60_000) / len(arrivals) == pytest.approx(0.1, abs=0.01)


def test_duplication() -> None:
    copies = [len(a) for a in passed(Profile(duplicate=0.25), 10_000)]
    assert copies.count(2) / len(copies) == pytest.approx(0.25, abs=0.02) and set(copies) == {1, 2}


def test_a_bottleneck_serialises_and_drops_at_the_tail() -> None:
    # 100 kbps pass one packet in 10 ms; one comes each 5 ms; 5 packets fit.
    profile = Profile(rate_kbps=100, queue_bytes=5 * SIZE)
    arrivals = passed(profile, 1000, gap_us=5_000)
    assert [a for a in arrivals[:3]] == [[10_000], [15_000], [20_000]]
    waits = [a[0] for a in arrivals if a]
    assert max(waits) <= 50_000
    assert len(waits) == pytest.approx(500, abs=6)
    assert passed(profile, 50, gap_us=10_000) == [[10_000]] * 50  # at its rate it never fills


def test_an_outage_cuts_and_ends() -> None:
    link = Link(Profile(outages=((1_000_000, 3_000_000),)), seed=1)
    arrived = [bool(link.send(START_US + t, SIZE)) for t in range(0, 5_000_000, GAP_US)]
    assert arrived == [not 1_000_000 <= t < 3_000_000 for t in range(0, 5_000_000, GAP_US)]
    assert link.counts.cut == 100 and link.counts.lost == 0


def test_a_trace_sets_rate_delay_and_loss() -> None:
    moments = (LinkMoment(100, 5_000, 0), LinkMoment(0, 5_000, 0), LinkMoment(50, 20_000, 1))
    trace = LinkTrace(100_000, moments)
    link = Link(Profile(trace=trace), seed=1)
    assert link.send(0, SIZE) == [10_000 + 5_000]
    assert link.send(95_000, SIZE) == [210_000 + 20_000]  # half, then nothing for a row, then half at half
    assert link.send(250_000, SIZE) == []
    assert link.send(300_000, SIZE) == [310_000 + 5_000]  # from the start
    assert trace.at(650_000) == moments[0]


@pytest.mark.parametrize("name", TRACES)
def test_packaged_traces_are_what_their_script_makes(name: str) -> None:
    trace = LinkTrace.named(name)
    assert trace.serialize() == make(name).serialize() and LinkTrace.parse(trace.serialize()) == trace
    assert trace.duration_us == 60_000_000
    # A call of 20 kbps in packets of 100 bytes passes, with delays like such a link's.
    link = Link(Profile(trace=trace), seed=1)
    arrivals = [(t, link.send(t, 100)) for t in range(0, 60_000_000, 40_000)]
    delays = sorted(a[0] - t for t, a in arrivals if a)
    low, median, high = (220_000, 400_000, 3_000_000) if name == "edge" else (22_000, 50_000, 300_000)
    assert low <= delays[0] and delays[len(delays) // 2] < median and delays[-1] < high
    assert len(delays) > 0.95 * len(arrivals)


@pytest.mark.parametrize(
    "rows",
    ["", "0,1,1,0", "0,1,1,0\n100,1,1", "0,1,1,0\n100,x,1,0", "0,1,1,0\n100,1,1,0\n250,1,1,0",
     "5,1,1,0\n105,1,1,0", "0,0,1,0\n100,0,1,0", "0,1,1,0\n100,1,1,101", "0,nan,1,0\n100,1,1,0",
     "0,1,1,0\n0,1,1,0", "0,1,1,0\ninf,1,1,0", "0,inf,1,0\n100,1,1,0", "0,1,inf,0\n100,1,1,0"],
)  # fmt: skip
def test_a_bad_trace_is_refused(rows: str) -> None:
    with pytest.raises(MienError):
        LinkTrace.parse(",".join(COLUMNS) + "\n" + rows)


@pytest.mark.parametrize(
    "make_it",
    [
        lambda: RandomLoss(1.5),
        lambda: GilbertElliott.bursts(0.9, 2),
        lambda: GilbertElliott.bursts(0.1, 0.5),
        lambda: GilbertElliott(0.1, 0),
        lambda: Profile(rate_kbps=0),
        lambda: Profile(delay_us=-1),
        lambda: Profile(rate_kbps=5, trace=LinkTrace(1, (LinkMoment(1, 0, 0),))),
        lambda: Profile(outages=((5, 4),)),
        lambda: LinkTrace.named("gsm"),
    ],
)
def test_senseless_settings_are_refused(make_it: Callable[[], object]) -> None:
    with pytest.raises(MienError):
        make_it()


def test_a_call_through_a_network_that_turns_bad_and_good_again() -> None:
    back = Profile(delay_us=20_000)
    good = Profile(delay_us=30_000)
    bad = replace(good, loss=RandomLoss(0.4), duplicate=0.2, reorder=0.2)

    async def scenario() -> tuple[CallStatistics, CallStatistics, PathCounts]:
        one, other, path = await impaired_pair(good, back, seed=3)
        caller = CallSession(person(4.5), settings())
        watcher = CallSession(Participant(), settings())

        async def weather() -> None:
            await caller.connected.wait()
            await asyncio.sleep(1)
            path.change(bad, back)
            await asyncio.sleep(2)
            path.change(good, back)

        try:
            run = asyncio.gather(caller.run(one), watcher.run(other), weather())
            sender, receiver, _ = await run
            return sender, receiver, path.counts
        finally:
            path.close()

    sender, receiver, counts = asyncio.run(asyncio.wait_for(scenario(), 30))
    assert counts.forward.lost > 0 and counts.back.lost == 0
    assert counts.forward.sent > 30 and counts.back.sent > 10
    assert 0 < receiver.received.messages < sender.sent.messages
    assert 50 <= sender.round_trip_ms < 150


class Listening(CallSession):
    """Keeps the coefficient messages that came."""

    def __init__(self) -> None:
        super().__init__(Participant(), settings())
        self.came: list[bytes] = []

    def on_coefficients(self, data: bytes, carrier: Carrier = Carrier.DATACHANNEL) -> None:
        self.came.append(data)
        super().on_coefficients(data, carrier)


def test_messages_repeat_the_ones_before_once_losses_are_reported() -> None:
    lossy, back = Profile(delay_us=20_000, loss=RandomLoss(0.25)), Profile(delay_us=20_000)

    async def scenario() -> list[bytes]:
        one, other, path = await impaired_pair(replace(lossy, loss=None), back, seed=2)
        caller, watcher = CallSession(person(8), settings()), Listening()

        async def weather() -> None:
            await caller.connected.wait()
            path.change(lossy, back)

        try:
            await asyncio.gather(caller.run(one), watcher.run(other), weather())
            return watcher.came
        finally:
            path.close()

    came = asyncio.run(asyncio.wait_for(scenario(), 60))
    repeats = [CoefficientMessage.parse(data).repeats is not None for data in came]
    assert not repeats[0]
    assert any(repeats)
    first = repeats.index(True)
    assert sum(repeats[first:]) >= 0.7 * len(
        repeats[first:]
    )  # not behind frames that a busy machine left out


def test_the_path_takes_only_loopback_and_one_socket() -> None:
    async def scenario() -> None:
        path = ImpairedPath(Profile(), Profile(), seed=1)
        await path.open()
        try:
            one, other = path.wrap(*local_pair())
            line = "a=candidate:1 1 udp 2130706431 {} {} typ host\r\n"
            await one.send({"kind": "offer", "sdp": line.format("127.0.0.1", 1234)})
            assert " 1234 " not in (await other.receive())["sdp"]
            for host, port in (("192.168.1.5", 1234), ("127.0.0.1", 1235)):
                with pytest.raises(MienError):
                    await one.send({"kind": "offer", "sdp": line.format(host, port)})
        finally:
            path.close()

    asyncio.run(scenario())
