"""Whole calls between two sessions of one process: real ICE, DTLS, SCTP and RTP on loopback."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mien.call.audio import VoiceTrack
from mien.call.face_view import ShownPicture, ViewSettings
from mien.call.peer import Addresses
from mien.call.rendezvous import PeerLeft, local_pair
from mien.call.scripted_source import CoverableSource, parse_script
from mien.call.session import CallHooks, CallSession, CallSettings, Participant
from mien.call.statistics import CallStatistics
from mien.call.wire_cause import Cause, Direction
from mien.decoder.as_shown import ShownAgain
from mien.protocol.avatar import assemble
from mien.protocol.consent import ConsentKind
from mien.protocol.control import Rung, RungReason, Verdict
from mien.protocol.errors import MienError
from mien.protocol.log import open_log
from tests.avatar_samples import OTHER_KEY, TEST_KEY
from tests.call_samples import PortraitSource, PortraitTracker, avatar_file
from tests.event_loop import in_loop

VIEW = ViewSettings(longest_px=64)


def settings(**changes: Any) -> CallSettings:
    fields: dict[str, Any] = {
        "addresses": Addresses.LOOPBACK,
        "view": VIEW,
        "audio": False,
        "transfer_kbps": 1000,
        "connect_s": 10.0,
    }
    return CallSettings(**(fields | changes))


def person(seconds: float, **changes: Any) -> Participant:
    fields: dict[str, Any] = {
        "source": CoverableSource(PortraitSource(seconds)),
        "tracker": PortraitTracker(),
        "avatar": avatar_file(),
        "signer": TEST_KEY,
    }
    return Participant(**(fields | changes))


async def talk(one: CallSession, other: CallSession) -> tuple[CallStatistics, CallStatistics]:
    ends = local_pair()
    return await asyncio.gather(one.run(ends[0]), other.run(ends[1]))


async def talk_until(
    done: Callable[[], bool], one: CallSession, other: CallSession, *, limit_s: float = 10
) -> tuple[CallStatistics, CallStatistics]:
    """Let two sessions talk until something holds, then hang up; fails where it never does."""

    async def watch() -> None:
        await one.connected.wait()
        for _ in range(round(limit_s * 50)):
            if done():
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("what was waited for did not happen")
        one.hang_up()

    ends = local_pair()
    first, second, _ = await asyncio.gather(one.run(ends[0]), other.run(ends[1]), watch())
    return first, second


def judged_and_drawn(session: CallSession, pictures: list[ShownPicture]) -> bool:
    return session.verdict is not None and len(pictures) > 5


def has_all(session: CallSession) -> bool:
    return session.verdict is not None and session.avatar_delivered


def verdict_of(session: CallSession) -> Callable[[], bool]:
    """Return whether the other side has said what becomes of this side's avatar."""
    return lambda: session.verdict is not None


def after(statistics: CallStatistics, rung: Rung, reason: RungReason) -> float:
    """Return when the other side was told to show this rung for this reason."""
    return next(c.seconds for c in statistics.received.rungs if c.rung is rung and c.reason == reason)


def test_a_covered_camera_with_and_without_permission(tmp_path: Path) -> None:
    """One call: both cameras are covered for 5 s; one side allowed video, the other did not."""
    log_path = tmp_path / "talk.mien"
    seen: dict[str, list[ShownPicture]] = {"allowing": [], "forbidding": []}
    moments: dict[str, float] = {}

    async def scenario() -> None:
        people = {name: person(20) for name in seen}
        calls = {
            name: CallSession(
                people[name],
                settings(allow_video=name == "allowing", record=log_path if name == "allowing" else None),
                CallHooks(on_picture=seen[name].append),
            )
            for name in seen
        }

        async def script() -> None:
            await calls["allowing"].connected.wait()
            start = time.monotonic()
            for seconds, covered in ((1.5, True), (6.5, False)):
                await asyncio.sleep(start + seconds - time.monotonic())
                for one in people.values():
                    assert isinstance(one.source, CoverableSource)
                    one.source.covered = covered
                moments["covered" if covered else "uncovered"] = time.monotonic() - start
            await asyncio.sleep(2.5)
            assert not calls["allowing"].camera_live
            calls["allowing"].hang_up()

        allowing, forbidding, _ = await asyncio.gather(
            *await_both(calls["allowing"], calls["forbidding"]), script()
        )
        covered, uncovered = moments["covered"], moments["uncovered"]

        # the side that allowed it: video within 3 s, the avatar again within 3 s of tracking. The 2 s until then
        # count from the last face seen, on a busy machine some time before the camera was covered.
        assert 1.5 < after(forbidding, Rung.VIDEO, RungReason.TRACKING_LOST) - covered < 3
        assert after(forbidding, Rung.AVATAR, RungReason.TRACKING_BACK) - uncovered < 3
        assert [c.camera_live for c in allowing.sent.rungs] == [False, False, True, False]
        assert allowing.sent.camera_pixels > 0 and allowing.sent.video_packets > 0
        assert forbidding.received.video_frames > 3
        video = [p for p in seen["forbidding"] if p.rung is Rung.VIDEO]
        assert video and min(p.rgb[16:48, 16:48].mean() for p in video) < 10  # the black picture of a thumb
        first = (video[0].composited_us - seen["forbidding"][0].composited_us) / 1e6
        assert first < covered + 3
        assert seen["forbidding"][-1].rgb.mean() > 60

        # the side that did not: not one pixel, at the gate, in RTP, on the wire
        assert forbidding.sent.camera_pixels == 0
        assert forbidding.sent.video_packets == allowing.received.video_packets == 0
        assert Cause.VIDEO not in forbidding.wire.sent
        assert allowing.received.video_frames == 0
        assert 1.5 < after(allowing, Rung.STILL, RungReason.TRACKING_LOST) - covered < 3
        assert after(allowing, Rung.AVATAR, RungReason.TRACKING_BACK) - uncovered < 3
        assert (
            min(p.rgb.mean() for p in seen["allowing"] if p.avatar) > 60
        )  # the last good still, never black

        # and the rest of the call
        assert allowing.connect_s is not None and allowing.connect_s < 5
        assert allowing.received.avatar_verdict == forbidding.received.avatar_verdict == Verdict.SHOWN
        assert allowing.received.messages > 20 and allowing.received.malformed == 0
        assert 0 < allowing.received.latency.median_ms < 1500
        assert forbidding.received.recorded_by_other

    in_loop(scenario)
    replay_is_what_was_shown(log_path)


def await_both(
    one: CallSession, other: CallSession
) -> tuple[Coroutine[Any, Any, CallStatistics], Coroutine[Any, Any, CallStatistics]]:
    ends = local_pair()
    return one.run(ends[0]), other.run(ends[1])


def replay_is_what_was_shown(path: Path) -> None:
    with open_log(str(path)) as reader:
        again = ShownAgain(
            reader, assemble(avatar_file(), now_unix_s=int(time.time())), now_unix_s=int(time.time())
        )
        try:
            count = sum(1 for _ in again.pictures())
        finally:
            again.close()
        assert reader.damage is None
    assert again.agreement.states == again.agreement.states_equal == count > 30
    assert again.agreement.pictures == again.agreement.pictures_equal > 30


def test_show_and_hide_at_run_time() -> None:
    pictures: list[ShownPicture] = []
    status: list[str] = []

    async def scenario() -> None:
        sender = CallSession(person(20), settings(), CallHooks(on_status=status.append))
        watcher = CallSession(Participant(), settings(), CallHooks(on_picture=pictures.append))

        async def script() -> None:
            await sender.connected.wait()
            await asyncio.sleep(1)
            sender.show()
            assert sender.camera_live
            await asyncio.sleep(1.5)
            sender.hide()
            assert not sender.camera_live
            passed = sender.gate.passed_pixels
            await asyncio.sleep(1)
            assert sender.gate.passed_pixels == passed > 0
            watcher.hang_up()

        sent, received, _ = await asyncio.gather(*await_both(sender, watcher), script())
        assert [c.rung for c in sent.sent.rungs] == [Rung.STILL, Rung.AVATAR, Rung.VIDEO, Rung.AVATAR]
        assert sent.sent.rungs[2].reason == RungReason.USER
        assert received.received.video_frames > 5
        assert received.sent.frames == 0 and received.sent.avatar_verdict is None
        assert sent.ended == "the other side hung up"

    in_loop(scenario)
    assert any(text.startswith("CAMERA LIVE") for text in status)
    assert {p.rung for p in pictures if p.avatar} >= {Rung.AVATAR, Rung.VIDEO}


def test_several_faces_show_the_still() -> None:
    async def scenario() -> None:
        crowd = CallSession(person(20, source=PortraitSource(20, faces=2)), settings(allow_video=True))
        watcher = CallSession(Participant(), settings())
        sent, received = await talk_until(
            lambda: crowd.rung_reason == RungReason.SEVERAL_FACES, crowd, watcher
        )
        assert {c.rung for c in sent.sent.rungs} == {Rung.STILL}
        assert sent.sent.camera_pixels == received.received.video_packets == 0

    in_loop(scenario)


def test_a_known_avatar_is_not_sent_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        sizes = []
        for _ in range(2):
            sender = CallSession(person(20), settings())
            watcher = CallSession(Participant(), settings(cache_folder=tmp_path / "avatars"))
            # all layers, not only the first
            sent, received = await talk_until(partial(has_all, sender), sender, watcher)
            assert sent.sent.avatar_verdict == received.received.avatar_verdict == Verdict.SHOWN
            sizes.append(received.received.avatar_bytes)
        assert sizes == [len(avatar_file()), 0]

    in_loop(scenario)


def test_the_transfer_keeps_to_its_rate() -> None:
    async def scenario() -> None:
        sender = CallSession(person(20), settings(transfer_kbps=20))
        watcher = CallSession(Participant(), settings())
        sent, received = await talk_until(verdict_of(sender), sender, watcher)
        assert received.received.first_face_s is not None
        wire = sent.wire.sent[Cause.TRANSFER].wire_bytes
        assert wire * 8 / 1000 < 20 * sent.seconds + 8 * 4  # and one burst

    in_loop(scenario)


def test_a_test_fixture_is_shown_on_loopback_and_not_recorded(tmp_path: Path) -> None:
    status: list[str] = []

    async def scenario() -> None:
        fixture = CallSession(person(20, avatar=avatar_file(kind=ConsentKind.TEST_FIXTURE)), settings())
        watcher = CallSession(
            Participant(), settings(record=tmp_path / "talk.mien"), CallHooks(on_status=status.append)
        )
        sent, _ = await talk_until(verdict_of(fixture), fixture, watcher)
        assert sent.loopback and sent.sent.avatar_verdict == Verdict.SHOWN

    in_loop(scenario)
    assert not (tmp_path / "talk.mien").exists()
    assert any("does not permit" in text for text in status)


def test_somebody_elses_avatar_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the owner's key there is no proof; with another key there is a proof of nothing."""
    monkeypatch.setattr("mien.call.incoming.PROOF_WAIT_US", 300_000)

    async def scenario() -> None:
        for signer in (None, OTHER_KEY):
            thief = CallSession(person(20, signer=signer), settings())
            pictures: list[ShownPicture] = []
            watcher = CallSession(Participant(), settings(), CallHooks(on_picture=pictures.append))
            sent, received = await talk_until(partial(judged_and_drawn, thief, pictures), thief, watcher)
            assert sent.sent.avatar_verdict == received.received.avatar_verdict == Verdict.NOT_OWNER
            assert received.received.messages == 0
            assert pictures and not any(p.avatar for p in pictures)  # an empty picture, and the call goes on
            assert received.ended == "the other side hung up"

    in_loop(scenario)


def test_an_expired_avatar_is_refused_before_the_call() -> None:
    async def scenario() -> None:
        CallSession(person(1, avatar=avatar_file(expires_unix_s=1_750_000_001)), settings())

    with pytest.raises(MienError, match="expired"):
        in_loop(scenario)


def test_no_call_comes_about() -> None:
    class Gone:
        async def meet(self) -> bool:
            return True

        async def send(self, description: dict[str, str]) -> None:
            pass

        async def receive(self) -> dict[str, str]:
            raise PeerLeft

    class Nonsense(Gone):
        async def receive(self) -> dict[str, str]:
            return {"kind": "answer", "sdp": "v=0\r\nm=nonsense\r\n"}

    class Silent(Gone):
        async def receive(self) -> dict[str, str]:
            await asyncio.sleep(60)
            raise PeerLeft

    async def scenario(way: Gone) -> None:
        source = PortraitSource(1)
        session = CallSession(person(1, source=source), settings(connect_s=0.5))
        try:
            await session.run(way)
        finally:
            assert source.closed

    for way, words in ((Gone(), "left before"), (Nonsense(), "makes no sense"), (Silent(), "--ice-server")):
        with pytest.raises(MienError, match=words):
            in_loop(partial(scenario, way), limit_s=10)


def test_a_failing_tracker_ends_the_face_and_not_the_call() -> None:
    class Broken(PortraitTracker):
        def track(self, rgb: Any, timestamp_us: int) -> Any:
            if timestamp_us > 500_000:
                raise RuntimeError("the model is broken")
            return super().track(rgb, timestamp_us)

    status: list[str] = []

    async def scenario() -> None:
        sender = CallSession(
            person(20, tracker=Broken()), settings(hang_up_at_end=False), CallHooks(on_status=status.append)
        )
        watcher = CallSession(Participant(), settings())

        async def script() -> None:
            await sender.connected.wait()
            await asyncio.sleep(1.5)
            watcher.hang_up()

        sent, _, _ = await asyncio.gather(*await_both(sender, watcher), script())
        assert sent.sent.rungs[-1].reason == RungReason.INPUT_ENDED

    in_loop(scenario)
    assert any("the model is broken" in text for text in status)


def test_voice_and_its_absence() -> None:
    """One side talks (silence is talk too), the other is muted: not an audio packet leaves it."""

    async def scenario() -> None:
        talker = CallSession(Participant(voice=VoiceTrack()), settings(audio=True))
        heard: list[Any] = []
        muted = CallSession(
            Participant(voice=VoiceTrack(muted=True)), settings(audio=True), CallHooks(on_voice=heard.append)
        )
        sent, received = await talk_until(lambda: len(heard) > 20, talker, muted)
        assert received.received.audio_frames > 20
        assert Cause.AUDIO in sent.wire.sent and Cause.AUDIO not in received.wire.sent
        assert sent.received.audio_frames == 0

    in_loop(scenario)


def test_the_bill_includes_the_hanging_up() -> None:
    """What one end says it received, the other says it sent: nothing leaves after the meter's last reading."""

    async def scenario() -> None:
        one, other = CallSession(Participant(), settings()), CallSession(Participant(), settings())
        first, second = await talk_until(lambda: True, one, other)
        await asyncio.sleep(0.1)
        for session, figures in ((one, first), (other, second)):
            assert figures.wire.sent == session.meter.totals().sent
        for sender, receiver in ((first, second), (second, first)):
            assert receiver.wire.total(Direction.RECEIVED).wire_bytes <= (
                sender.wire.total(Direction.SENT).wire_bytes
            )

    in_loop(scenario)


def test_nothing_is_left_running() -> None:
    async def scenario() -> None:
        await talk(CallSession(person(1), settings()), CallSession(person(1), settings()))
        await asyncio.sleep(0.1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_scripts() -> None:
    acts = parse_script("10:uncover 5:cover 12.5:quit")
    assert [(a.seconds, a.verb) for a in acts] == [(5, "cover"), (10, "uncover"), (12.5, "quit")]
    for bad in ("cover", "x:cover", "5:dance", "-1:quit", "nan:quit"):
        with pytest.raises(MienError, match="SECONDS:VERB"):
            parse_script(bad)
