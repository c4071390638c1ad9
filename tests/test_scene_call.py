"""The scene layer in whole calls on loopback: who may see it, when it stops, and that a log shows it again."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mien.call.carrier_choice import CarrierWish
from mien.call.carriers import Carriers
from mien.call.face_view import ViewSettings
from mien.call.peer import Addresses
from mien.call.rendezvous import local_pair
from mien.call.scene_gate import SceneGate
from mien.call.scripted_source import CoverableSource
from mien.call.session import CallHooks, CallSession, CallSettings, Participant
from mien.call.source_worker import SenderSettings
from mien.cli import main
from mien.decoder.as_shown import Agreement, ShownAgain
from mien.decoder.stage import Stage
from mien.encoder.scene_sender import SceneSettings
from mien.protocol.avatar import assemble
from mien.protocol.capsule import unpack
from mien.protocol.control import Carrier
from mien.protocol.log import open_log
from mien.protocol.message import Kind, message_kind
from tests.avatar_samples import TEST_KEY
from tests.call_samples import PortraitSource, PortraitTracker, avatar_file

WITH_SCENE = SenderSettings(scene=SceneSettings(6))


def settings(sender: SenderSettings = WITH_SCENE, **changes: Any) -> CallSettings:
    fields: dict[str, Any] = {
        "addresses": Addresses.LOOPBACK,
        "view": ViewSettings(longest_px=64, rate=Fraction(10), backend="numpy"),
        "sender": sender,
        "audio": False,
        "transfer_kbps": 1000,
    }
    return CallSettings(**(fields | changes))


def me() -> Participant:
    return Participant(CoverableSource(PortraitSource(60)), PortraitTracker(), avatar_file(), TEST_KEY, None)


async def until(done: Callable[[], Coroutine[Any, Any, bool]], what: str) -> None:
    for _ in range(400):
        if await done():
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"{what} did not happen")


def call(
    one: Callable[[], CallSession],
    other: Callable[[], CallSession],
    script: Callable[[CallSession, CallSession], Coroutine[Any, Any, None]],
) -> None:
    async def scenario() -> None:
        first, second, ends = one(), other(), local_pair()

        async def act() -> None:
            await asyncio.gather(first.connected.wait(), second.connected.wait())
            try:
                await script(first, second)
            finally:
                first.hang_up()

        await asyncio.gather(first.run(ends[0]), second.run(ends[1]), act())

    asyncio.run(asyncio.wait_for(scenario(), 60))


def scenes_at_least(session: CallSession, count: int) -> Callable[[], Coroutine[Any, Any, bool]]:
    async def done() -> bool:
        return (await session.statistics()).received.scene_pictures >= count

    return done


def test_a_scene_goes_with_the_face_until_it_is_hidden_and_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    log = tmp_path / "talk.mien"

    async def script(one: CallSession, other: CallSession) -> None:
        await until(scenes_at_least(other, 16), "a scene")
        assert one.camera_live and (await one.statistics()).camera_live
        one.hide()
        assert not one.camera_live
        await asyncio.sleep(0.3)
        before = (await other.statistics()).received.scene_messages
        await asyncio.sleep(0.6)
        after = await other.statistics()
        assert after.received.scene_messages == before
        sent = (await one.statistics()).sent
        assert sent.scene_messages == before and sent.camera_pixels == 0
        # A picture of the camera and what the face says share a message.
        assert sent.messages < sent.scene_messages + 8 * after.seconds

    call(
        lambda: CallSession(me(), settings(), CallHooks(on_status=told.append)),
        lambda: CallSession(
            Participant(None, None, None, None, None),
            settings(SenderSettings(), record=log),
        ),
        script,
    )
    lit = [text for text in told if "CAMERA LIVE" in text]
    assert len(lit) == 1 and "scene layer" in lit[0] and "camera off: no scene layer" in told
    agreement = shown_again(log)
    assert agreement.pictures > 10 and agreement.states_equal == agreement.states
    assert agreement.pictures_equal == agreement.pictures
    monkeypatch.setattr(Stage, "add_scene", lambda self, picture: None)
    assert shown_again(log).pictures_equal < agreement.pictures - 5  # it was to be seen


def shown_again(log: Path) -> Agreement:
    with open_log(str(log)) as reader:
        now_s = int(time.time())
        again = ShownAgain(reader, assemble(avatar_file(), now_unix_s=now_s), now_unix_s=now_s)
        assert all(picture.rgb.any() for picture in again.pictures())
        again.close()
    return again.agreement


def test_nobody_who_did_not_ask_for_it_sends_or_hears_of_a_scene() -> None:
    async def script(one: CallSession, other: CallSession) -> None:
        async def talks() -> bool:
            return (await other.statistics()).received.messages >= 5

        await until(talks, "a talk")
        assert (await one.statistics()).sent.scene_messages == 0 and not one.camera_live

    call(
        lambda: CallSession(me(), settings(SenderSettings())),
        lambda: CallSession(me(), settings(SenderSettings())),
        script,
    )


def test_a_stranger_before_the_camera_ends_the_scene() -> None:
    stranger: list[bool] = []
    sender = replace(WITH_SCENE, may_show=lambda: not stranger)

    async def script(one: CallSession, other: CallSession) -> None:
        await until(scenes_at_least(other, 3), "a scene")
        stranger.append(True)
        await asyncio.sleep(0.3)
        before = (await one.statistics()).sent.scene_messages
        await asyncio.sleep(0.5)
        assert (await one.statistics()).sent.scene_messages == before
        stranger.clear()  # too late: for this call it is over
        await asyncio.sleep(0.5)
        assert (await one.statistics()).sent.scene_messages == before and not one.camera_live

    call(lambda: CallSession(me(), settings(sender)), lambda: CallSession(me(), settings()), script)


# --- The parts ------------------------------------------------------------------------------------------------


def test_the_gate_needs_all_of_it() -> None:
    gate = SceneGate(wanted=True)
    gate.accept()
    assert not gate.is_open
    gate.show_avatar(True)
    assert gate.is_open
    gate.show_avatar(False)
    assert not gate.is_open and gate.wanted
    gate.show_avatar(True)
    gate.hide()
    gate.accept()
    gate.show_avatar(True)
    assert not gate.is_open and not gate.wanted
    never = SceneGate(wanted=False)
    never.accept()
    never.show_avatar(True)
    assert not never.is_open


class MadeFace:
    """A face that has something to say each time."""

    def cut(self) -> bytes | None:
        return b"\x10face"

    def use_carrier(self, carrier: Carrier) -> None:
        """Nothing changes."""


def scene_message(number: int, size: int = 40) -> bytes:
    return bytes([Kind.SCENE << 4, 0, 0, 0, number]) + bytes(size)


def keeping(messages: list[bytes]) -> Callable[[bytes], bool]:
    def send(data: bytes) -> bool:
        messages.append(data)
        return True

    return send


def test_the_data_channel_takes_face_and_scene_as_one() -> None:
    sent: list[bytes] = []
    carriers = Carriers(CarrierWish.DATACHANNEL, audio=False, line=False, tell=lambda text: None)
    carriers.open((0,), keeping(sent), 0)
    carriers.carry(MadeFace(), 0)
    carriers.send_scene([scene_message(1)])
    carriers.send_scene([scene_message(2, 1090), scene_message(3)])
    assert [list(map(message_kind, unpack(m))) for m in sent] == [
        [Kind.COEFFICIENTS, Kind.SCENE], [Kind.SCENE], [Kind.COEFFICIENTS, Kind.SCENE]
    ]  # fmt: skip


def test_packets_of_a_voice_take_what_there_is_room_for() -> None:
    by_channel: list[bytes] = []
    carriers = Carriers(CarrierWish.AUTO, audio=True, line=True, tell=lambda text: None)
    carriers.open((0, 1), keeping(by_channel), 0)
    carriers.carry(MadeFace(), 0)
    carriers._current = Carrier.AUDIO
    carriers._settle = lambda now_us: None  # type: ignore[method-assign]
    carriers.send_scene([scene_message(1), scene_message(2, 500), scene_message(3), scene_message(4)])
    boarded = [carriers.board(n * 1_000_000, 140) for n in range(4)]
    kinds = [[m[4] if message_kind(m) == Kind.SCENE else 0 for m in unpack(b or b"")] for b in boarded]
    assert kinds == [[0, 1], [0, 3, 4], [0], [0]]
    assert [m[4] for m in by_channel] == [2]


def test_the_command_refuses_what_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    avatar = tmp_path / "me.avatar"
    avatar.write_bytes(Path("tests/vectors/test-fixture-1.avatar").read_bytes())
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))
    for extra, said in (
        (["--scene", "5"], "name it with --avatar"),
        (["--scene", "50", "--avatar", "x"], "expected 3 to 20"),
        (["--scene", "5", "--avatar", "x", "--budget-kbps", "15"], "without --scene"),
        (["--scene", "5", "--avatar", str(avatar)], "nobody's own likeness"),
    ):
        assert main(["call", "den", "--no-window", *extra]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
