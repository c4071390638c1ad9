"""The gate and its track: closed, not one camera pixel passes."""

import asyncio

import av
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError

from mien.call.video_gate import VideoGate
from mien.call.video_track import MAX_SIDE_PX, GatedVideoTrack, fit_size

FRAME = np.full((48, 64, 3), 200, np.uint8)


def run(coroutine: object) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 10))  # type: ignore[arg-type]


def test_a_closed_gate_keeps_and_passes_nothing() -> None:
    async def scenario() -> None:
        gate = VideoGate()
        track = GatedVideoTrack(gate)
        for i in range(20):
            gate.offer(FRAME, i)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(track.recv(), 0.1)
        gate.open()  # what came before does not pass now either
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(track.recv(), 0.1)
        assert gate.passed_pixels == 0

    run(scenario())


def test_open_it_passes_the_newest_frame_once() -> None:
    async def scenario() -> None:
        gate = VideoGate()
        gate.open()
        gate.offer(FRAME, 1)
        gate.offer(FRAME, 2)
        assert (await gate.take())[1] == 2
        assert gate.passed_pixels == 48 * 64 and gate.passed_frames == 1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gate.take(), 0.05)

    run(scenario())


def test_closing_forgets_the_waiting_frame() -> None:
    async def scenario() -> None:
        gate = VideoGate()
        gate.open()
        gate.offer(FRAME, 1)
        gate.close()
        gate.open()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gate.take(), 0.05)
        assert gate.passed_pixels == 0

    run(scenario())


def test_the_track_scales_stamps_and_paces() -> None:
    async def scenario() -> None:
        gate = VideoGate()
        track = GatedVideoTrack(gate)
        gate.open()
        gate.offer(np.zeros((1001, 2001, 3), np.uint8), 5_000_000)
        start = asyncio.get_running_loop().time()
        first = await track.recv()
        assert (first.width, first.height, first.pts, first.format.name) == (640, 320, 0, "yuv420p")
        gate.offer(FRAME, 5_100_000)
        second = await track.recv()
        assert asyncio.get_running_loop().time() - start > 0.06
        assert second.pts == 9000  # 0.1 s of a 90 kHz clock
        assert isinstance(second, av.VideoFrame)

    run(scenario())


def test_a_stopped_track_ends() -> None:
    async def scenario() -> None:
        track = GatedVideoTrack(VideoGate())
        track.stop()
        with pytest.raises(MediaStreamError):
            await track.recv()

    run(scenario())


@pytest.mark.parametrize("size", [(1, 1), (641, 3), (4096, 2160), (720, 1280), (640, 480)])
def test_sizes_are_even_and_bounded(size: tuple[int, int]) -> None:
    width, height = fit_size(*size)
    assert width % 2 == height % 2 == 0
    assert 2 <= width <= MAX_SIDE_PX and 2 <= height <= MAX_SIDE_PX
