"""Calls over narrow and bad paths: a budget is kept to, a goodbye arrives, closing cannot be given up half-way."""

import argparse
import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from mien.bench.impaired_path import impaired_pair
from mien.bench.impairment import Profile, RandomLoss
from mien.bench.two_way_call import LoopedSound
from mien.call.avatar_offer import AvatarOffer
from mien.call.carrier_choice import CarrierWish
from mien.call.face_view import ViewSettings
from mien.call.opus import VoiceSettings
from mien.call.peer import Addresses, Peer
from mien.call.session import CallSession
from mien.call.settings import CallHooks, CallSettings, Participant, RateSettings
from mien.call.spare_pace import SparePace
from mien.call.statistics import CallStatistics
from mien.call.video_gate import VideoGate
from mien.call.wire_cause import Direction
from mien.cli import main
from mien.commands.call_options import add_arguments, call_settings
from mien.protocol.avatar import assemble
from mien.protocol.control import AvatarVerdict, Verdict
from mien.protocol.quantizer import Quality
from mien.protocol.transfer import ID_BYTES, Want
from tests.avatar_samples import CREATED, TEST_KEY
from tests.call_samples import PortraitSource, PortraitTracker, avatar_file
from tests.voice_samples import speech

SETTINGS = CallSettings(
    view=ViewSettings(longest_px=64, rate=Fraction(5)),
    addresses=Addresses.LOOPBACK,
    carrier=CarrierWish.AUTO,
    voice=VoiceSettings(16, 40),
    hang_up_at_end=False,
)
CLEAN = Profile(delay_us=20_000)


def talker(seconds: float) -> Participant:
    return Participant(
        source=PortraitSource(seconds),
        tracker=PortraitTracker(),
        avatar=avatar_file(),
        signer=TEST_KEY,
        voice=LoopedSound(speech(6.0)),
    )


def test_a_budget_is_kept_on_a_link_that_carries_little_more() -> None:
    budget = RateSettings(14, frozenset(Quality), first_picture_kbps=200)
    narrow = Profile(delay_us=20_000, rate_kbps=15, queue_bytes=6000)
    said: list[str] = []

    async def scenario() -> tuple[CallStatistics, float, int]:
        one, other, path = await impaired_pair(CLEAN, CLEAN, seed=5)
        caller = CallSession(talker(30), replace(SETTINGS, rate=budget), CallHooks(on_status=said.append))
        watcher = CallSession(Participant(), replace(SETTINGS, audio=True))

        async def conduct() -> tuple[float, int]:
            await caller.connected.wait()
            while caller.verdict is None:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.05)
            await asyncio.sleep(4)
            path.change(narrow, CLEAN)
            before = caller.meter.totals()
            await asyncio.sleep(8)
            kbps = caller.meter.totals().since(before).kbps(Direction.SENT)
            counts = path.counts.forward
            caller.hang_up()
            return kbps, counts.overflowed

        try:
            sender, _, (kbps, overflowed) = await asyncio.gather(
                caller.run(one), watcher.run(other), conduct()
            )
            return sender, kbps, overflowed
        finally:
            path.close()

    statistics, kbps, overflowed = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert kbps <= 14 and statistics.rate.most_kbps <= 14
    assert overflowed == 0
    assert statistics.rate.budget_kbps == 14 and statistics.rate.plan_kbps <= 14
    assert statistics.voice.sent.packets > 0
    assert statistics.as_json()["rate"]["changes"][0]["reason"] == "start"


def test_the_lesser_budget_holds_for_both_sides() -> None:
    async def scenario() -> list[CallStatistics]:
        one, other, path = await impaired_pair(CLEAN, CLEAN, seed=5)
        sessions = [
            CallSession(
                Participant(voice=LoopedSound(np.zeros(48_000, np.int16))), replace(SETTINGS, rate=rate)
            )
            for rate in (RateSettings(13), RateSettings())
        ]
        try:
            runs = [asyncio.ensure_future(s.run(end)) for s, end in zip(sessions, (one, other), strict=True)]
            await asyncio.gather(*(s.connected.wait() for s in sessions))
            sessions[0].hang_up()
            return list(await asyncio.gather(*runs))
        finally:
            path.close()

    for statistics in asyncio.run(asyncio.wait_for(scenario(), 30)):
        assert statistics.rate.budget_kbps == 13
        assert statistics.rate.plan_kbps <= 13


def test_a_goodbye_arrives_through_heavy_loss() -> None:
    """Of the first three words none arrives: the goodbye, and what SCTP and DTLS say when they close."""
    lossy = replace(CLEAN, loss=RandomLoss(0.6))

    async def scenario(seed: int) -> tuple[float, str]:
        one, other, path = await impaired_pair(CLEAN, CLEAN, seed=seed)
        leaver, stayer = (CallSession(Participant(), replace(SETTINGS, audio=False)) for _ in range(2))

        async def conduct() -> float:
            await asyncio.gather(leaver.connected.wait(), stayer.connected.wait())
            path.change(lossy, CLEAN)
            leaver.hang_up()
            return time.monotonic()

        try:
            left, _, statistics = await asyncio.gather(conduct(), leaver.run(one), stayer.run(other))
            return time.monotonic() - left, statistics.ended
        finally:
            path.close()

    for seed in range(3):
        seconds, ended = asyncio.run(asyncio.wait_for(scenario(seed), 20))
        assert seconds < 5
        assert ended in ("the other side hung up", "the other side closed the connection")


class Deaf:
    """Listens to nothing."""

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: None


def test_closing_goes_on_where_whoever_waits_gives_up() -> None:
    async def scenario() -> str:
        peer = Peer(Deaf(), gate=VideoGate(), addresses=Addresses.LOOPBACK)  # type: ignore[arg-type]
        await peer.offer()
        closing = asyncio.ensure_future(peer.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        assert closing.cancelled()
        await peer.close()
        return peer.connection.connectionState

    assert asyncio.run(asyncio.wait_for(scenario(), 10)) == "closed"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "--budget-kbps 8",
            "too little: this call takes 11.7 kbps at least, 3.2 without voice (--audio silence)",
        ),
        ("--budget-kbps 12 --quality high", "11.7 without --quality"),
        ("--budget-kbps 3 --no-audio", "3.3 kbps at least"),
        ("--budget-kbps 20 --voice-kbps 30", "--voice-kbps 30: expected 6 to 24"),
        ("--budget-kbps 0", "--budget-kbps 0: expected 1 to"),
        ("--budget-kbps 100 --allow-video", "no room for your camera"),
    ],
)
def test_impossible_budgets_are_refused(options: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", "den", "--no-window", "--avatar", "me.avatar", *options.split()]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_options_make_settings() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)

    def made(text: str) -> CallSettings:
        return call_settings(parser.parse_args(["den", *text.split()]), "ws://127.0.0.1:1/den")

    plain = made("")
    assert plain.voice == VoiceSettings(12, 60) and plain.rate.budget_kbps is None
    assert (
        plain.rate.qualities == frozenset({Quality.LOW, Quality.NORMAL})
        and plain.sender.quality is Quality.NORMAL
    )
    assert made("--quality high").rate.qualities == frozenset({Quality.HIGH})
    budget = made("--budget-kbps 20")
    assert budget.rate == RateSettings(20, frozenset(Quality)) and budget.voice == VoiceSettings(16, 40)
    both = made("--budget-kbps 20 --quality low --voice-kbps 9 --voice-frame-ms 60")
    assert both.rate == RateSettings(20, frozenset({Quality.LOW})) and both.voice == VoiceSettings(9, 60)


class Wire:
    """Stands where a peer stands, and takes down when what was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, int]] = []

    def send(self, label: str, data: bytes) -> bool:
        self.sent.append((time.monotonic(), len(data) + 93))
        return True

    def backlog_bytes(self, label: str) -> int:
        return 0


def test_an_avatars_later_layers_take_only_what_is_spare() -> None:
    avatar = assemble(avatar_file(), now_unix_s=CREATED)

    async def scenario(spare_kbps: float, *, judged: bool) -> int:
        wire = Wire()
        offer = AvatarOffer(avatar, None, wire, kbps=400, spare_kbps=lambda: spare_kbps)  # type: ignore[arg-type]
        if judged:
            offer.on_verdict(AvatarVerdict(avatar.avatar_id, Verdict.SHOWN))
        offer.on_answer(
            Want(
                avatar.avatar_id[:ID_BYTES], tuple((layer, 0) for layer in range(len(avatar.manifest.layers)))
            )
        )
        run = asyncio.ensure_future(offer.run())
        await asyncio.sleep(0.6)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        return sum(size for _, size in wire.sent)

    first = asyncio.run(scenario(0, judged=False))
    later = asyncio.run(scenario(4, judged=True))
    nothing = asyncio.run(scenario(0, judged=True))
    assert first > 2 * later > 0 == nothing
    assert later * 8 / 5000 <= 4


def taken(spare_kbps: Callable[[int], float], *, seconds: int = 60) -> list[tuple[int, int]]:
    """Return when pieces are taken, and what they cost, of what is spare at a time in microseconds."""
    pace, pieces = SparePace(least_bytes=300), []
    for now_us in range(0, seconds * 1_000_000, 100_000):
        cost = min(1100, round(pace.affordable_bytes(spare_kbps(now_us), now_us)))
        if cost:
            pace.take(cost, now_us)
            pieces.append((now_us, cost))
    return pieces


@pytest.mark.parametrize("kbps", [0.5, 1.8, 5.0, 17.0])
def test_what_is_spare_is_taken_evenly(kbps: float) -> None:
    pieces = taken(lambda now_us: kbps)
    assert 0.7 * kbps < 8 * sum(cost for _, cost in pieces) / 60_000 <= 1.02 * kbps
    for (one, cost), (other, _) in pairwise(pieces):
        assert (other - one) * kbps / 8000 >= cost
    assert max(cost for _, cost in pieces) <= max(300, kbps * 125)


def test_nothing_is_saved_up() -> None:
    """A lull of the others is no reason to send what they will want a moment later."""
    pieces = taken(lambda now_us: 2.0 if 20_000_000 <= now_us < 25_000_000 else 0.0)
    assert pieces and all(20_000_000 <= at < 25_000_000 for at, _ in pieces)
    assert sum(cost for at, cost in pieces if at < 21_000_000) <= 300
    assert (
        taken(lambda now_us: 0.1) == []
        and SparePace(least_bytes=300).affordable_bytes(math.inf, 0) == math.inf
    )
