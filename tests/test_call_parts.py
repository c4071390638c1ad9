"""Parts of a call on their own: sound, the source's thread, token bucket, the self view, certificates' names."""

import asyncio
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from mien.call.audio import FRAME_SAMPLES, VoiceTrack
from mien.call.face_view import fit_view
from mien.call.self_view import LIVE_RED, with_self_view
from mien.call.source_worker import SenderSettings, SourceWorker, TrackedFrame
from mien.call.token_bucket import TokenBucket
from mien.call.voice_source import open_voice
from mien.commands.call_options import view_size
from mien.encoder.capture import Frame
from mien.protocol.avatar import parse_avatar
from mien.protocol.errors import MienError
from mien.protocol.stream import StreamHeader
from tests.avatar_samples import CREATED
from tests.call_samples import PortraitSource, PortraitTracker, avatar_file
from tests.event_loop import in_loop
from tests.voice_samples import write_wav


def test_voice_frames_come_in_time_and_stop_when_muted(tmp_path: Path) -> None:
    ones = write_wav(tmp_path / "a.wav", np.ones(FRAME_SAMPLES + 10, np.int16), rate=48_000)

    async def scenario() -> None:
        track = open_voice(str(ones))
        start = time.monotonic()
        frames = [await track.recv() for _ in range(5)]
        assert 0.06 < time.monotonic() - start < 1
        assert (frames[1].pts or 0) - (frames[0].pts or 0) >= FRAME_SAMPLES
        sums = [int(f.to_ndarray().sum()) for f in frames]
        assert sums == [FRAME_SAMPLES, 10, 0, 0, 0]
        track.muted = True
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(track.recv(), 0.1)
        track.muted = False
        await asyncio.wait_for(track.recv(), 1)
        track.stop()
        with pytest.raises(MediaStreamError):
            await track.recv()

    in_loop(scenario)


def test_silence_is_a_voice_too() -> None:
    async def scenario() -> None:
        assert isinstance(open_voice("silence", muted=True), VoiceTrack)

    in_loop(scenario)


def test_token_bucket() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=5, now_us=0)
    assert [bucket.take(1, now_us=0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.wait_us(1, now_us=0) == 100_000
    assert not bucket.take(1, now_us=99_000) and bucket.take(1, now_us=100_000)
    assert not bucket.take(6, now_us=10_000_000)  # more than there ever is
    assert bucket.take(5, now_us=10_000_000)
    assert not bucket.take(1, now_us=9_000_000)  # a clock that steps back fills nothing
    with pytest.raises(ValueError, match="expected more than 0"):
        TokenBucket(rate_per_s=0, burst=1, now_us=0)


class Listener:
    def __init__(self) -> None:
        self.frames: list[TrackedFrame] = []
        self.headers: list[StreamHeader] = []
        self.ended: list[Exception | None] = []
        self.messages: list[bytes] = []

    def on_stream(self, header: StreamHeader) -> None:
        self.headers.append(header)

    def on_frame(self, frame: TrackedFrame) -> None:
        self.frames.append(frame)
        self.messages += frame.messages

    def on_source_end(self, messages: tuple[bytes, ...], error: Exception | None) -> None:
        self.messages += messages
        self.ended.append(error)

    async def until_end(self) -> None:
        for _ in range(500):
            if self.ended:
                return
            await asyncio.sleep(0.02)
        pytest.fail("the source did not end")


def test_a_clip_is_played_at_its_own_pace() -> None:
    async def scenario() -> None:
        listener, source = Listener(), PortraitSource(1.5)
        avatar = parse_avatar(avatar_file(), now_unix_s=CREATED)
        worker = SourceWorker(source, PortraitTracker(), avatar, listener)
        start = time.monotonic()
        worker.start()
        await listener.until_end()
        assert 1.4 < time.monotonic() - start < 4
        assert listener.ended == [None] and source.closed
        assert len(listener.frames) + worker.left_out == 45
        assert len(listener.headers) == 1 and listener.headers[0].avatar_id == avatar.avatar_id[:8]
        assert len(listener.messages) >= 3
        stamps = [f.stamp_us for f in listener.frames]
        assert stamps == sorted(stamps)
        assert all(f.done_us >= f.stamp_us for f in listener.frames)

    in_loop(scenario)


def test_a_photo_stands_still_until_stopped() -> None:
    class Photo(PortraitSource):
        def __iter__(self) -> Iterator[Frame]:
            yield next(super().__iter__())

    async def scenario() -> None:
        listener, source = Listener(), Photo(1)
        worker = SourceWorker(source, PortraitTracker(), None, listener)
        worker.start()
        await asyncio.sleep(0.5)
        await worker.stop()
        assert len(listener.frames) > 5 and source.closed
        times = [f.timestamp_us for f in listener.frames]
        assert times == sorted(set(times))

    in_loop(scenario)


def test_a_clip_that_is_repeated_goes_on_in_time() -> None:
    async def scenario() -> None:
        listener = Listener()
        worker = SourceWorker(
            PortraitSource(0.2), PortraitTracker(), None, listener, settings=SenderSettings(repeat=True)
        )
        worker.start()
        await asyncio.sleep(0.8)
        await worker.stop()
        times = [f.timestamp_us for f in listener.frames]
        assert times[-1] > 300_000 and times == sorted(set(times))

    in_loop(scenario)


def test_a_loop_that_is_busy_leaves_frames_out() -> None:
    """A live source never waits for the loop: at most three frames wait there."""

    class Live(PortraitSource):
        live = True

        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                time.sleep(0.005)
                yield frame

    async def scenario() -> None:
        listener = Listener()
        worker = SourceWorker(Live(1), PortraitTracker(), None, listener)
        worker.start()
        time.sleep(0.5)  # noqa: ASYNC251  the loop is stuck
        await listener.until_end()
        assert len(listener.frames) <= 6 or worker.left_out >= 20
        assert worker.left_out > 0

    in_loop(scenario)


def test_an_empty_source_ends() -> None:
    async def scenario() -> None:
        listener = Listener()
        SourceWorker(PortraitSource(0), PortraitTracker(), None, listener).start()
        await listener.until_end()
        assert listener.frames == [] and listener.ended == [None]

    in_loop(scenario)


def test_the_self_view_says_when_the_camera_is_live() -> None:
    picture = np.full((120, 160, 3), 90, np.uint8)
    own = np.zeros((48, 64, 3), np.uint8)
    own[:, :32] = 200
    quiet = with_self_view(picture, own, live=False)
    assert quiet[10, 125].mean() < 50 and quiet[10, 155].mean() > 150  # mirrored, in the corner
    assert (quiet[60:, :100] == 90).all() and (picture == 90).all()
    live = with_self_view(picture, None, live=True)
    assert tuple(live[119, 80]) == LIVE_RED


def test_view_sizes() -> None:
    assert fit_view(1920, 1080, 512) == (512, 288)
    assert fit_view(100, 60, 512) == (100, 60)
    assert fit_view(3, 1000, 64) == (2, 64)
    assert PortraitSource.rate == Fraction(30)
    assert view_size("512") == (512, None)
    assert view_size("1280x721") == (1280, (1280, 720))  # even, for video coders
    for text in ("0", "63", "5000", "1280x", "big", "1280x10", "-5"):
        with pytest.raises(MienError, match="--size"):
            view_size(text)
