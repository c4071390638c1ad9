"""The jitter buffer of a voice: packets in at odd times, 20 ms out every 20 ms."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mien.call.opus import RATE_HZ, VoiceSettings
from mien.call.voice_coder import VoiceCoder, VoicePacket
from mien.call.voice_playout import FADE, GONE_US, MOST_HELD_BACK_US, MOST_WAIT, VoicePlayout
from tests.voice_samples import speech

FRAME_US = 60_000
STEP_US = 20_000


@cache
def packets(*, pause: bool = False) -> tuple[VoicePacket, ...]:
    sound = speech(3.0)
    if pause:
        sound = np.concatenate([speech(1.2), np.zeros(2 * RATE_HZ, np.int16), speech(1.2)])
    coder = VoiceCoder(VoiceSettings())
    return tuple(p for at in range(0, len(sound), 960) for p in coder.push(sound[at : at + 960], at))


def arrival(packet: VoicePacket) -> int:
    """A frame leaves when it is complete."""
    return packet.position * 1_000_000 // RATE_HZ + FRAME_US


def play(
    arrivals: list[tuple[int, int, VoicePacket]], *, origin: int = 1000, until_us: int = 6_000_000
) -> tuple[VoicePlayout, NDArray[np.int16], list[int | None]]:
    """Play (time, sequence, packet); return what was heard, and the first sample's time of each 20 ms, or None."""
    playout = VoicePlayout()
    waiting = sorted(arrivals, key=lambda a: a[0])
    heard: list[NDArray[np.int16]] = []
    times: list[int | None] = []
    for now_us in range(0, until_us, STEP_US):
        while waiting and waiting[0][0] <= now_us:
            at, sequence, packet = waiting.pop(0)
            playout.push(
                sequence & 0xFFFF, (origin + packet.position) & 0xFFFFFFFF, packet.data, arrival_us=at
            )
        sound = playout.read(now_us)
        times.append(None if sound is None else now_us)
        heard.append(np.zeros(960, np.int16) if sound is None else sound)
    return playout, np.concatenate(heard), times


def loudness(sound: NDArray[np.int16]) -> NDArray[np.float64]:
    """The sound's envelope, every half millisecond: the coder keeps that better than the waves."""
    return np.convolve(np.abs(sound.astype(float)), np.hanning(480), "same")[::24]


def delay_us(heard: NDArray[np.int16], *, start_us: int, length_us: int = 500_000) -> int:
    """Return how much later than it was spoken the sound around a time is heard, to 5 ms."""
    start, count = start_us // 500, length_us // 500
    said, came = loudness(speech(3.0))[start : start + count], loudness(heard)
    scores = {
        d: np.corrcoef(said, came[start + d : start + d + count])[0, 1]
        for d in range(min(1100, len(came) - start - count))
    }
    best = max(scores, key=lambda d: float(scores[d]))
    assert scores[best] > 0.8
    return best * 500


@pytest.mark.parametrize("origin", [0, 1 << 31, (1 << 32) - 30_000])
def test_steady_packets_wait_hardly(origin: int) -> None:
    """60 ms of packet, 20 ms of waiting, 6.5 ms of libopus; aiortc's own buffer would add 240 ms."""
    playout, heard, _ = play(
        [(arrival(p), 65_530 + i, p) for i, p in enumerate(packets())], origin=origin, until_us=3_000_000
    )
    assert playout.counts.filled_samples <= 2 * 960
    assert playout.counts.late == playout.counts.skipped == playout.counts.malformed == 0
    assert 80_000 <= delay_us(heard, start_us=2_000_000) <= 110_000


def test_jitter_makes_it_wait_longer() -> None:
    random = np.random.default_rng(4)
    late = [(arrival(p) + int(random.integers(0, 80_000)), i, p) for i, p in enumerate(packets())]
    playout, heard, _ = play(late, until_us=3_000_000)
    assert playout.counts.filled_samples < 0.1 * RATE_HZ
    assert playout.counts.late <= 1
    assert 100_000 <= delay_us(heard, start_us=2_000_000) <= 60_000 + 20_000 + 80_000 + 40_000


def test_a_lost_packet_is_filled_in_without_a_shift() -> None:
    kept = [(arrival(p), i, p) for i, p in enumerate(packets()) if i % 7 != 5]
    playout, heard, _ = play(kept, until_us=2_900_000)
    lost = playout.counts.filled_samples / (playout.counts.played_samples)
    assert 0.1 < lost < 0.2
    assert 75_000 <= delay_us(heard, start_us=1_900_000, length_us=400_000) <= 110_000


def test_packets_out_of_order_are_put_in_order() -> None:
    swapped = [(arrival(p) + (70_000 if i % 5 == 2 else 0), i, p) for i, p in enumerate(packets())]
    playout, _, _ = play(swapped, until_us=3_000_000)
    assert playout.counts.late == 0
    assert playout.counts.filled_samples < 0.15 * RATE_HZ


def test_a_pause_is_played_and_ends_the_waiting() -> None:
    """In the first sentence packets are up to 200 ms late; after the pause nothing of that is left."""
    arrivals = [(arrival(p) + (200_000 if i == 4 else 0), i, p) for i, p in enumerate(packets(pause=True))]
    playout, heard, times = play(arrivals, until_us=4_200_000)
    assert all(time is not None for time in times[10:])  # the pause too is played
    quiet = heard[int(2.0 * RATE_HZ) : int(3.1 * RATE_HZ)]
    assert np.abs(quiet).max() < 400 and np.abs(heard[: 2 * RATE_HZ]).max() > 3000
    assert np.abs(np.diff(quiet.astype(int))).max() < 400
    assert playout.counts.skipped == 0


def test_what_the_loudspeaker_takes_counts_as_well() -> None:
    """The face is told of sound in the air; for a face the sound leaves us sooner by what the loudspeaker takes."""
    arrivals = [(arrival(p), i, p) for i, p in enumerate(packets())]
    playout, _, _ = play(arrivals, until_us=2_000_000)
    timestamp = 1000 + RATE_HZ
    earliest_us, heard_us = playout.earliest_us(timestamp), playout.heard_us(timestamp)
    assert earliest_us is not None and heard_us is not None
    playout.air_us = 70_000
    assert playout.earliest_us(timestamp) == earliest_us + 70_000
    assert playout.heard_us(timestamp) == heard_us + 70_000
    playout.wait_until(timestamp, earliest_us + 70_000 + 100_000)
    assert abs(playout._wanted_origin_us - playout._own_origin_us - 100_000) <= 1


def test_who_is_muted_is_not_played() -> None:
    few = [(arrival(p), i, p) for i, p in enumerate(packets()[:10])]
    playout, heard, times = play(few, until_us=4_000_000)
    ended = next(i for i in range(20, len(times)) if times[i] is None) * STEP_US
    last = few[-1][0]
    fade_us = FADE * 1_000_000 // RATE_HZ
    assert GONE_US + fade_us - STEP_US <= ended - last <= GONE_US + fade_us + 3 * STEP_US
    assert not playout.playing
    assert not heard[(ended // STEP_US) * 960 :].any()
    assert abs(int(heard[(ended // STEP_US) * 960 - 1])) < 50  # it faded out


def test_an_outage_does_not_make_it_late_for_ever() -> None:
    held = [
        (max(arrival(p), 2_000_000) if p.position > 0.7 * RATE_HZ else arrival(p), i, p)
        for i, p in enumerate(packets())
    ]
    _, heard, _ = play(held, until_us=3_200_000)
    most_us = FRAME_US + (MOST_WAIT + 2880) * 1_000_000 // RATE_HZ
    assert 86_000 < delay_us(heard, start_us=2_100_000) < most_us + 20_000


def play_with_face(
    waits_us: dict[int, int], *, pause: bool = False
) -> tuple[NDArray[np.int16], VoicePlayout]:
    """Play packets whose face is seen so much after it was taken, from given times on; jitterless."""
    playout, heard = VoicePlayout(), []
    waiting = [(arrival(p), i, p) for i, p in enumerate(packets(pause=pause))]
    for now_us in range(0, 4_400_000 if pause else 3_000_000, STEP_US):
        while waiting and waiting[0][0] <= now_us:
            at, number, packet = waiting.pop(0)
            playout.push(number, packet.position + 1000, packet.data, arrival_us=at)
        begun = [wait_us for from_us, wait_us in waits_us.items() if from_us <= now_us]
        if begun:
            playout.wait_until(1000, begun[-1])
        sound = playout.read(now_us)
        heard.append(np.zeros(960, np.int16) if sound is None else sound)
    return np.concatenate(heard), playout


def test_the_voice_waits_for_its_face_from_the_start() -> None:
    heard, playout = play_with_face({0: 250_000})
    assert 240_000 <= delay_us(heard, start_us=1_000_000) <= 260_000
    assert playout.counts.stretched_samples == 0


@pytest.mark.parametrize(("first_us", "then_us"), [(120_000, 210_000), (260_000, 140_000)])
def test_the_wait_changes_while_somebody_speaks(first_us: int, then_us: int) -> None:
    heard, playout = play_with_face({0: first_us, 700_000: then_us})
    assert delay_us(heard, start_us=100_000, length_us=300_000) == pytest.approx(first_us, abs=10_000)
    assert delay_us(heard, start_us=2_200_000) == pytest.approx(then_us, abs=15_000)
    moved = abs(then_us - first_us) * RATE_HZ // 1_000_000
    assert playout.counts.stretched_samples == pytest.approx(moved, abs=900)
    untouched, _ = play_with_face({0: first_us})
    roughest = np.abs(np.diff(untouched.astype(int), 2)).max()
    assert np.abs(np.diff(heard.astype(int), 2)).max() <= 1.3 * roughest  # no clicks


def test_in_a_pause_the_wait_changes_at_once() -> None:
    heard, playout = play_with_face({0: 120_000, 1_600_000: 330_000}, pause=True)
    assert playout.counts.stretched_samples == 0
    said = np.concatenate([speech(1.2), np.zeros(2 * RATE_HZ, np.int16), speech(1.2)])
    start, count = 3_300_000 // 500, 600
    part, came = loudness(said)[start : start + count], loudness(heard)
    scores = [np.corrcoef(part, came[start + d : start + d + count])[0, 1] for d in range(900)]
    assert 500 * int(np.argmax(scores)) == pytest.approx(330_000, abs=15_000)


def test_no_face_holds_the_voice_back_for_long() -> None:
    heard, _ = play_with_face({0: 5_000_000})
    own_us = 60_000 + 20_000
    assert delay_us(heard, start_us=1_000_000) <= own_us + MOST_HELD_BACK_US + 30_000


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFF),
            st.one_of(st.integers(0, 0xFFFFFFFF), st.integers(0, 40_000)),
            st.one_of(st.binary(max_size=30), st.sampled_from([p.data for p in packets()[:5]])),
            st.integers(0, 60_000),
        ),
        max_size=40,
    )
)
def test_whatever_comes(items: list[tuple[int, int, bytes, int]]) -> None:
    playout = VoicePlayout()
    now_us = 0
    for sequence, timestamp, data, later_us in items:
        now_us += later_us
        playout.push(sequence, timestamp, data, arrival_us=now_us)
        sound = playout.read(now_us)
        assert sound is None or sound.shape == (960,)
        assert len(playout._held) <= 65
