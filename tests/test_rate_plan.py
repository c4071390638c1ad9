"""The rate plan: never above its budget by its own model, never worse for a larger one, and what it refuses."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.call.opus import VoiceSettings
from mien.call.rate_plan import Situation, best_plan, check_budget, least_kbps, payload_kbps
from mien.call.redundancy import IN_BURSTS_BY_CHANNEL, NO_REPEATS, Redundancy
from mien.protocol.control import Carrier
from mien.protocol.errors import MienError
from mien.protocol.quantizer import Quality

BOTH = frozenset({Carrier.AUDIO, Carrier.DATACHANNEL})
CHANNEL = frozenset({Carrier.DATACHANNEL})
TALK = Situation(VoiceSettings(16, 40), carriers=BOTH, acknowledges=False)

voices = st.none() | st.builds(
    VoiceSettings, st.sampled_from([6.0, 9.5, 12.0, 16.0, 24.0]), st.sampled_from([20, 40, 60, 120])
)
situations = st.builds(
    Situation,
    voices,
    st.booleans(),
    st.sampled_from([BOTH, CHANNEL]),
    st.frozensets(st.sampled_from(Quality), min_size=1),
    st.builds(Redundancy, st.integers(0, 2), st.integers(0, 5)),
    st.booleans(),
)


@given(situations, st.floats(0, 60))
def test_no_plan_is_above_its_budget_unless_none_can_be_below(situation: Situation, budget: float) -> None:
    plan = best_plan(budget, situation)
    assert plan.wire_kbps <= max(budget, least_kbps(situation))
    assert plan.wire_kbps >= plan.voice_kbps + plan.face_kbps


@given(situations, st.floats(0, 60), st.floats(0, 60))
def test_a_larger_budget_buys_no_less(situation: Situation, one: float, other: float) -> None:
    low, high = sorted((one, other))
    if low >= least_kbps(situation):
        less, more = best_plan(low, situation), best_plan(high, situation)
        assert (less.redundancy.copies, less.points) <= (more.redundancy.copies, more.points)


@given(situations, st.floats(0, 60))
def test_what_was_asked_for_is_kept(situation: Situation, budget: float) -> None:
    plan = best_plan(budget, situation)
    assert plan.quality in situation.qualities
    assert plan.redundancy.copies <= situation.redundancy.copies
    assert (plan.voice is None) == (situation.voice is None)
    if plan.voice is not None and situation.voice is not None:
        assert plan.voice.kbps <= situation.voice.kbps and plan.voice.frame_ms >= situation.voice.frame_ms
    assert plan.carrier in situation.carriers


@given(situations, st.floats(0, 60))
def test_a_budget_is_refused_where_the_model_says_more(situation: Situation, budget: float) -> None:
    try:
        check_budget(budget, situation)
    except MienError as error:
        assert budget < least_kbps(situation)
        assert f"{least_kbps(situation):.1f} kbps at least" in str(error)
    else:
        assert budget >= least_kbps(situation)


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (12, "voice 6k/120 ms, face low"),
        (16, "voice 8k/120 ms"),
        (20, "voice 12k/120 ms"),
        (26, "voice 12k/60 ms, face high every 60 ms"),
        (40, "voice 16k/40 ms, face high every 40 ms"),
    ],
)
def test_what_a_talk_gets(budget: float, text: str) -> None:
    assert best_plan(budget, TALK).text.startswith(text)


def test_a_face_alone() -> None:
    for budget in (4, 6):
        plan = best_plan(budget, Situation(carriers=BOTH, acknowledges=False))
        assert plan.wire_kbps <= budget and plan.voice is None
    assert best_plan(6, Situation(acknowledges=False)).frames >= 8
    assert best_plan(20, Situation(acknowledges=False)).frames == 6


def test_repeats_are_the_first_to_go_where_the_budget_is_small() -> None:
    lossy = replace(TALK, redundancy=Redundancy(2, 1))
    assert least_kbps(lossy) == least_kbps(TALK)
    assert best_plan(12, lossy).redundancy == Redundancy() and best_plan(12, lossy).wire_kbps <= 12
    assert best_plan(20, lossy).redundancy == Redundancy(2, 1)


def test_in_bursts_messages_are_short_where_the_budget_pays_them() -> None:
    bursty = Situation(acknowledges=False, redundancy=IN_BURSTS_BY_CHANNEL)
    assert best_plan(20, bursty).frames == 3
    short_of_money = best_plan(7, bursty)
    assert short_of_money.frames >= 6 and short_of_money.redundancy == Redundancy()


def test_a_refusal_says_what_would_do() -> None:
    with pytest.raises(MienError, match=r"at least, .* without voice"):
        check_budget(8, TALK)
    high = replace(TALK, qualities=frozenset({Quality.HIGH}))
    check_budget(13, high)
    with pytest.raises(MienError, match="11.7 without --quality"):
        check_budget(12, high)


def test_longer_messages_and_fewer_repeats_cost_less() -> None:
    for quality in Quality:
        costs = [payload_kbps(quality, frames) for frames in range(1, 18)]
        assert costs == sorted(costs, reverse=True)
        assert payload_kbps(quality, 6, Redundancy(1)) > payload_kbps(quality, 6)
        assert payload_kbps(quality, 6, Redundancy(1, 4)) > payload_kbps(quality, 6, Redundancy(1))


def test_a_scene_makes_the_messages_of_the_data_channel_more_frequent() -> None:
    plain, with_scene = Situation(), Situation(scene_kbps=5.0)
    headers_kbps = 7.5 * 93 * 8 / 1000  # whatever the face would do alone
    assert least_kbps(with_scene) > 5.0 + headers_kbps + payload_kbps(Quality.LOW, 4, NO_REPEATS)
    assert least_kbps(with_scene) - least_kbps(plain) < 5.0 + headers_kbps


def test_a_scene_in_packets_of_a_voice_costs_its_bits_and_little_more() -> None:
    plain = replace(TALK, carriers=frozenset({Carrier.AUDIO}))
    more = least_kbps(replace(plain, scene_kbps=5.0)) - least_kbps(plain)
    assert 5.4 < more < 6.5
