"""Faces in the packets of voices, in whole calls on loopback: what is counted is packets, not time."""

import argparse
import asyncio
from collections.abc import Callable, Coroutine
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.call import carrier_choice, voice_line
from mien.call.audio import FRAME_SAMPLES, VoiceTrack
from mien.call.carrier_choice import CarrierWish
from mien.call.face_view import ViewSettings
from mien.call.opus import VoiceSettings
from mien.call.opus_padding import Taken, take
from mien.call.peer import Addresses
from mien.call.rendezvous import local_pair
from mien.call.scripted_source import CoverableSource
from mien.call.session import CallHooks, CallSession, CallSettings, Participant
from mien.call.statistics import CallStatistics
from mien.call.wire_cause import Cause
from mien.commands.call_options import add_arguments, call_settings
from mien.decoder.recording import read_recording
from mien.protocol.control import Carrier
from mien.protocol.log import open_log
from tests.avatar_samples import TEST_KEY
from tests.call_samples import PortraitSource, PortraitTracker, avatar_file
from tests.event_loop import in_loop
from tests.voice_samples import speech


class Speaker(VoiceTrack):
    """Speaks without a pause."""

    def __init__(self, *, muted: bool = False) -> None:
        super().__init__(muted=muted)
        self._at = 0

    async def read(self) -> NDArray[np.int16]:
        self._at = (self._at + FRAME_SAMPLES) % (len(speech(4.0)) - FRAME_SAMPLES)
        return speech(4.0)[self._at : self._at + FRAME_SAMPLES]


def person(voice: VoiceTrack | None) -> Participant:
    source = CoverableSource(PortraitSource(60))
    return Participant(source, PortraitTracker(), avatar_file(), TEST_KEY, voice)


def settings(**changes: Any) -> CallSettings:
    fields: dict[str, Any] = {
        "addresses": Addresses.LOOPBACK,
        "view": ViewSettings(longest_px=64, rate=Fraction(5)),
        "voice": VoiceSettings(12, 60),
        "transfer_kbps": 1000,
    }
    return CallSettings(**(fields | changes))


@pytest.mark.parametrize("wish", [None, *CarrierWish])
def test_the_command_line_says_which_carrier(wish: CarrierWish | None) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args(["den", *(("--carrier", wish.value) if wish else ())])
    assert call_settings(options, "ws://127.0.0.1/den").carrier is (wish or CarrierWish.AUTO)


async def call_through(
    one: CallSession, other: CallSession, script: Callable[[], Coroutine[Any, Any, None]]
) -> tuple[CallStatistics, CallStatistics]:
    ends = local_pair()

    async def act() -> None:
        await asyncio.gather(one.connected.wait(), other.connected.wait())
        try:
            await script()
        finally:
            one.hang_up()

    first, second, _ = await asyncio.gather(one.run(ends[0]), other.run(ends[1]), act())
    return first, second


async def until(done: Callable[[], Coroutine[Any, Any, bool]], *, limit_s: float = 25) -> None:
    for _ in range(round(limit_s * 20)):
        if await done():
            return
        await asyncio.sleep(0.05)
    pytest.fail("what was waited for did not happen")


def carried(session: CallSession, carrier: str, at_least: int) -> Callable[[], Coroutine[Any, Any, bool]]:
    """Return whether so many messages have come to a session by a carrier."""

    async def done() -> bool:
        received = (await session.statistics()).received
        return received.by_carrier[carrier].messages >= at_least

    return done


def test_while_both_speak_faces_cost_not_one_packet() -> None:
    told: list[str] = []

    async def scenario() -> None:
        one = CallSession(person(Speaker()), settings(), CallHooks(on_status=told.append))
        other = CallSession(person(Speaker()), settings())

        async def script() -> None:
            await until(carried(other, "audio", 2))
            await until(carried(one, "audio", 2))
            before, start = one.meter.totals(), await one.statistics()
            await asyncio.sleep(3)
            wire, end = one.meter.totals().since(before), await one.statistics()
            spoken = wire.sent[Cause.AUDIO].datagrams
            assert 15 < spoken <= 3.3 / 0.06
            rode = end.sent.by_carrier["audio"].messages - start.sent.by_carrier["audio"].messages
            assert 3 < rode <= spoken + 1
            faces = wire.sent[Cause.COEFFICIENTS]
            assert faces.datagrams == 0  # no packet of their own
            size = end.sent.message_bytes - start.sent.message_bytes
            assert 0 < faces.wire_bytes <= size + 8 * (rode + 1) + 40

        first, second = await call_through(one, other, script)
        for mine, theirs in ((first, second), (second, first)):
            assert mine.sent.carrier == "audio" and mine.ended
            assert theirs.received.by_carrier["audio"].messages <= mine.sent.by_carrier["audio"].messages
            assert theirs.received.messages > 4 and theirs.received.malformed == 0
            assert mine.received.audio_frames > 50

    in_loop(scenario, limit_s=60)
    assert "carrier: your face rides in the packets of your voice" in told


def test_both_muted_faces_still_move_and_nothing_is_heard(tmp_path: Path) -> None:
    async def scenario() -> None:
        one = CallSession(person(Speaker(muted=True)), settings())
        other = CallSession(person(Speaker(muted=True)), settings(record=tmp_path / "talk.mien"))

        async def script() -> None:
            await until(carried(other, "audio", 2))
            before, start = one.meter.totals(), await one.statistics()
            await asyncio.sleep(3)
            wire, end = one.meter.totals().since(before), await one.statistics()
            rode = end.sent.by_carrier["audio"].messages - start.sent.by_carrier["audio"].messages
            assert 5 <= rode <= 3.5 / 0.2  # five a second
            made = wire.sent[Cause.COEFFICIENTS].datagrams
            assert Cause.AUDIO not in wire.sent or wire.sent[Cause.AUDIO].datagrams == 0
            assert abs(made - rode) <= 1
            # headers, seal and codec take 56 bytes; whatever else there is comes by the clock
            assert wire.sent[Cause.COEFFICIENTS].wire_bytes <= 100 * made

        first, second = await call_through(one, other, script)
        assert first.received.audio_frames == second.received.audio_frames == 0
        assert first.received.messages > 4 and second.received.messages > 4

    in_loop(scenario, limit_s=60)
    with open_log(str(tmp_path / "talk.mien")) as reader:
        recording = read_recording(reader)
    assert recording.carriers[Carrier.AUDIO].messages > 4
    assert sum(use.messages for use in recording.carriers.values()) == recording.segments[0].messages
    assert sum(use.message_bytes for use in recording.carriers.values()) > 40


def test_without_a_microphone_the_face_rides_all_the_same() -> None:
    async def scenario() -> None:
        one, watcher = CallSession(person(None), settings()), CallSession(Participant(), settings())
        first, second = await call_through(one, watcher, lambda: until(carried(watcher, "audio", 4)))
        assert first.sent.carrier == "audio" and second.received.audio_frames == 0

    in_loop(scenario, limit_s=60)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ({"carrier": CarrierWish.DATACHANNEL}, {}),
        ({}, {"carrier": CarrierWish.DATACHANNEL}),
        ({"audio": False}, {"audio": False}),
    ],
)
def test_where_one_side_wants_none_of_it_the_data_channel_carries(
    mine: dict[str, Any], theirs: dict[str, Any]
) -> None:
    async def scenario() -> None:
        one = CallSession(person(Speaker(muted=True)), settings(**mine))
        other = CallSession(person(Speaker(muted=True)), settings(**theirs))

        async def script() -> None:
            await until(carried(other, "datachannel", 4))
            await until(carried(one, "datachannel", 4))

        for figures in await call_through(one, other, script):
            assert figures.sent.carrier == "datachannel"
            assert figures.received.by_carrier["audio"].messages == 0
            assert Cause.AUDIO not in figures.wire.sent  # not even a try

    in_loop(scenario, limit_s=60)


def test_stripped_on_the_way_messages_take_the_data_channel_and_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Something in between begins to strip padding in mid-call, and stops."""
    told: list[str] = []
    stripping = False

    def take_what_is_left(packet: bytes) -> Taken | None:
        return None if stripping else take(packet)

    monkeypatch.setattr(voice_line, "take", take_what_is_left)
    monkeypatch.setattr(carrier_choice, "HOLD_US", 1_000_000)
    monkeypatch.setattr(carrier_choice, "SILENT_US", 1_500_000)
    monkeypatch.setattr(carrier_choice, "PROBE_AGAIN_US", 2_500_000)

    async def scenario() -> None:
        nonlocal stripping
        one = CallSession(person(Speaker()), settings(), CallHooks(on_status=told.append))
        other = CallSession(person(Speaker(muted=True)), settings())

        async def script() -> None:
            nonlocal stripping
            await until(carried(other, "audio", 3))
            await until(carried(one, "audio", 3))
            stripping = True
            by_channel = (await other.statistics()).received.by_carrier["datachannel"].messages
            await until(carried(other, "datachannel", by_channel + 3))
            stripping = False
            by_audio = (await other.statistics()).received.by_carrier["audio"].messages
            await until(carried(other, "audio", by_audio + 3))

        figures, _ = await call_through(one, other, script)
        assert figures.sent.carrier == "audio"

    in_loop(scenario, limit_s=60)
    carriers = [text for text in told if text.startswith("carrier: ")]
    assert carriers[:3] == [
        "carrier: your face rides in the packets of your voice",
        "carrier: your face takes the data channel: "
        + "the other side finds no messages in the packets of voice any more",
        "carrier: your face rides in the packets of your voice",
    ]
