"""Sound from files and devices: formats, where it begins beside its picture, and when which of it was made."""

import asyncio
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from mien.call import audio, clock, sound_device
from mien.call.audio import FRAME_SAMPLES, RATE_HZ, VoiceTrack
from mien.call.input_sound import InputSound, SoundingSource
from mien.call.sound_device import Loudspeaker, MicrophoneTrack, device_latency_us
from mien.call.sound_file import SoundFile
from mien.call.voice_source import open_voice
from mien.encoder.capture import Frame, open_source
from mien.protocol.errors import MienError
from tests.event_loop import in_loop
from tests.voice_samples import write_wav


def clicks(seconds: float, *, every: float = 0.5, rate: int = RATE_HZ) -> NDArray[np.int16]:
    """Return silence with 10 ms of tone every half second, the first at half a second."""
    time = np.arange(round(seconds * rate)) / rate
    on = (time % every < 0.01) & (time >= every)
    return np.asarray(12_000 * np.sin(2 * np.pi * 1000 * time) * on, np.int16)


def write_film(path: Path, *, sound_from_s: float, seconds: float = 1.0) -> Path:
    """Write a film of 25 grey pictures a second with clicks; its sound begins so much later than its picture."""
    with av.open(str(path), "w") as film:
        video = film.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = film.add_stream("aac", rate=44_100, layout="stereo")
        for index in range(round(25 * seconds)):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), index, np.uint8), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            film.mux(video.encode(picture))
        mono = clicks(seconds, rate=44_100) / np.float32(32_768)
        for at in range(0, len(mono) - 1023, 1024):
            both = np.ascontiguousarray(np.tile(mono[at : at + 1024], (2, 1)), np.float32)
            frame = av.AudioFrame.from_ndarray(both, format="fltp", layout="stereo")
            frame.sample_rate, frame.time_base = 44_100, Fraction(1, 44_100)
            frame.pts = at + round(sound_from_s * 44_100)
            film.mux(audio.encode(frame))
        film.mux(video.encode(None))
        film.mux(audio.encode(None))
    return path


def first_click_s(sound: NDArray[np.int16]) -> float:
    return int(np.argmax(np.abs(sound) > 3000)) / RATE_HZ


def test_wav_files(tmp_path: Path) -> None:
    ramp = np.arange(480, dtype=np.int16)
    one = SoundFile(write_wav(tmp_path / "a.wav", ramp))
    assert (one.read(0, 480) == ramp).all() and not one.read(480, 960).any()
    stereo = SoundFile(write_wav(tmp_path / "b.wav", np.repeat(ramp, 2), channels=2))
    assert np.abs(stereo.read(0, 480) - ramp).max() <= 1
    slow = SoundFile(write_wav(tmp_path / "c.wav", clicks(1.0, rate=16_000), rate=16_000))
    assert abs(first_click_s(slow.read(0, RATE_HZ)) - 0.5) < 0.002
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    for name in ("bad.wav", "none.wav"):
        with pytest.raises(MienError, match="microphone"):
            SoundFile(tmp_path / name)


def test_pieces_are_read_in_any_sizes_and_gaps_are_skipped(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    sound = random.integers(-9000, 9000, 20_000).astype(np.int16)
    path = write_wav(tmp_path / "a.wav", sound)
    file = SoundFile(path)
    at, parts = 0, []
    while at < 20_000:
        count = int(random.integers(1, 3000))
        parts.append(file.read(at, count))
        at += count
    assert (np.concatenate(parts)[:20_000] == sound).all()
    late = SoundFile(path)
    assert (late.read(12_345, 100) == sound[12_345:12_445]).all()
    late.close()
    assert not late.read(15_000, 5000)[-100:].any()


@pytest.mark.parametrize("later_s", [0.0, 0.2])
def test_sound_of_a_film_lies_where_its_picture_says(tmp_path: Path, later_s: float) -> None:
    film = write_film(tmp_path / "film.mp4", sound_from_s=later_s)
    beside = SoundFile(film, with_picture=True).read(0, RATE_HZ)
    assert abs(first_click_s(beside) - 0.5 - later_s) < 0.004
    alone = SoundFile(film).read(0, RATE_HZ)
    assert abs(first_click_s(alone) - 0.5) < 0.03  # the coder's own first block may be cut off


def test_what_holds_no_sound(tmp_path: Path) -> None:
    silent = tmp_path / "silent.mp4"
    with av.open(str(silent), "w") as film:
        video = film.add_stream("libx264", rate=25)
        video.width = video.height = 64
        film.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        film.mux(video.encode(None))
    with pytest.raises(MienError, match="no sound"):
        SoundFile(silent)
    with pytest.raises(MienError, match="no picture"):
        SoundFile(write_wav(tmp_path / "a.wav", clicks(1.0)), with_picture=True)


def test_positions_and_times_are_one_another() -> None:
    async def scenario() -> None:
        track = VoiceTrack()
        begin_us = track.capture_us(0)
        assert abs(begin_us - clock.now_us()) < 100_000
        assert track.capture_us(RATE_HZ) == begin_us + 1_000_000
        assert abs(track.position_at(begin_us + 500_000) - RATE_HZ // 2) < 48
        frame = await track.recv()
        assert frame.pts is not None and abs(track.capture_us(frame.pts) - clock.now_us()) < 100_000

    in_loop(scenario)


class Shout:
    """A filter that can be heard."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def clean(self, samples: NDArray[np.int16], *, captured_us: int) -> NDArray[np.int16]:
        self.times.append(captured_us)
        return samples + np.int16(5)


def test_a_filter_hears_what_was_captured_when() -> None:
    async def scenario() -> None:
        track = VoiceTrack()
        track.filter = shout = Shout()
        frames = [await track.recv() for _ in range(3)]
        assert all((frame.to_ndarray() == 5).all() for frame in frames)
        assert np.diff(shout.times).tolist() == [20_000, 20_000]

    in_loop(scenario)


# --- the input's own sound --------------------------------------------------------------------------------------


def pictures(source: SoundingSource, *, count: int) -> Iterator[Frame]:
    """Take frames as a call does that begins a file again at its end."""
    while count > 0:
        for frame in source:
            yield frame
            count -= 1


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no sound out, however busy the machine is."""
    monkeypatch.setattr(audio, "MAX_WAITING_FRAMES", 1000)


@pytest.mark.usefixtures("patient")
def test_input_sound_keeps_to_its_picture_and_begins_again(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", sound_from_s=0.0, seconds=0.6)

    async def scenario() -> None:
        sound = InputSound(film)
        with pytest.raises(TimeoutError):  # no picture, no sound
            await asyncio.wait_for(sound.recv(), 0.05)
        source = SoundingSource(open_source(str(film)), sound)
        before_us = clock.now_us()
        list(pictures(source, count=45))  # three times through it, at once
        await asyncio.sleep(0)
        assert before_us <= sound.capture_us(0) <= clock.now_us()
        frames = [await sound.recv() for _ in range(90)]
        heard = np.zeros(2 * RATE_HZ, np.int16)
        for frame in frames:
            assert frame.pts is not None
            heard[frame.pts : frame.pts + FRAME_SAMPLES] = frame.to_ndarray()[0]
        for again in range(3):
            begin = round((0.6 * again) * RATE_HZ)
            assert abs(first_click_s(heard[begin : begin + round(0.6 * RATE_HZ)]) - 0.5) < 0.005
        sound.stop()
        with pytest.raises(MediaStreamError):
            await sound.recv()

    in_loop(scenario)


@pytest.mark.usefixtures("patient")
def test_input_sound_goes_on_where_positions_were_asked_for_before(tmp_path: Path) -> None:
    """Positions never step back: they are times on the wire."""
    film = write_film(tmp_path / "film.mp4", sound_from_s=0.0)

    async def scenario() -> None:
        sound = InputSound(film)
        begin_us = sound.capture_us(0)
        await asyncio.sleep(0.11)
        picture_us = clock.now_us()
        sound.begin_pass(0, picture_us)
        heard = np.zeros(RATE_HZ, np.int16)
        for _ in range(35):
            frame = await sound.recv()
            assert frame.pts is not None
            heard[frame.pts : frame.pts + FRAME_SAMPLES] = frame.to_ndarray()[0]
        assert sound.capture_us(0) == begin_us
        assert abs(first_click_s(heard) - 0.5 - (picture_us - begin_us) / 1e6) < 0.004
        sound.stop()

    in_loop(scenario)


def test_a_camera_has_no_sound(tmp_path: Path) -> None:
    async def scenario() -> None:
        sound = InputSound(write_film(tmp_path / "film.mp4", sound_from_s=0.0))
        camera: Any = SimpleNamespace(live=True)
        with pytest.raises(MienError, match="microphone"):
            SoundingSource(camera, sound)

    in_loop(scenario)


# --- devices ----------------------------------------------------------------------------------------------------


class Device:
    """Stands for a PortAudio stream. `air_s` moves with our clock, and its own clock is another."""

    def __init__(self, callback: Callable[..., None], *, latency_s: float) -> None:
        self.callback = callback
        self.latency = latency_s
        self.closed = False

    def record(self, value: int, *, age_s: float) -> None:
        block = np.full(FRAME_SAMPLES, value, np.int16).tobytes()
        self.callback(
            block, FRAME_SAMPLES, SimpleNamespace(currentTime=77.0, inputBufferAdcTime=77.0 - age_s), None
        )

    def play(self) -> bytes:
        data = bytearray(2 * FRAME_SAMPLES)
        self.callback(
            memoryview(data),
            FRAME_SAMPLES,
            SimpleNamespace(currentTime=77.0, outputBufferDacTime=77.0 + self.latency),
            None,
        )
        return bytes(data)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    opened: list[Device] = []

    def open_device(kind: str, callback: Callable[..., None]) -> Device:
        opened.append(Device(callback, latency_s=0.03))
        return opened[-1]

    monkeypatch.setattr(sound_device, "open_device", open_device)
    return opened


def test_a_microphone_tells_when_its_sound_was_in_the_air(
    devices: list[Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device's clock is 0.1 % fast, and its thread up to 10 ms late."""
    now_us = 5_000_000
    random = np.random.default_rng(2)

    async def scenario() -> None:
        nonlocal now_us
        monkeypatch.setattr(clock, "now_us", lambda: now_us)
        track = open_voice("microphone")
        assert isinstance(track, MicrophoneTrack) and track.latency_us == 30_000
        errors = []
        for index in range(200):
            air_us = 5_000_000 + 19_980 * index
            now_us = air_us + 50_000 + int(random.integers(0, 10_000))
            devices[0].record(index, age_s=(now_us - air_us + int(random.integers(-2000, 2000))) / 1e6)
            frame = await asyncio.wait_for(track.recv(), 1)
            assert (frame.to_ndarray() == index).all()
            assert frame.pts == index * FRAME_SAMPLES
            errors.append(track.capture_us(frame.pts) - air_us)
        assert max(map(abs, errors)) < 3000
        track.muted = True
        now_us += 300_000
        devices[0].record(99, age_s=0.05)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(track.recv(), 0.05)
        track.muted = False
        devices[0].record(7, age_s=0.05)
        frame = await asyncio.wait_for(track.recv(), 1)
        assert (frame.to_ndarray() == 7).all()
        assert frame.pts in ((200 + 14) * FRAME_SAMPLES, (200 + 15) * FRAME_SAMPLES)  # the time that passed
        assert track.capture_us(frame.pts) == now_us - 50_000
        track.stop()
        assert devices[0].closed

    in_loop(scenario)


def test_a_loudspeaker_begins_with_some_in_hand_and_remembers_what_it_played(
    devices: list[Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now_us", lambda: 5_000_000)
    speaker = Loudspeaker()

    def frame(value: int) -> av.AudioFrame:
        made = av.AudioFrame.from_ndarray(
            np.full((1, FRAME_SAMPLES), value, np.int16), format="s16", layout="mono"
        )
        made.sample_rate = RATE_HZ
        return made

    speaker.play(frame(1))
    assert not any(devices[0].play())
    assert abs(speaker.delay_us - (2 * 20_000 + 30_000)) < 2000
    speaker.play(frame(2))
    heard = [np.frombuffer(devices[0].play(), np.int16)[0] for _ in range(3)]
    assert heard == [1, 2, 0]
    for value in range(20):
        speaker.play(frame(value))
    assert np.frombuffer(devices[0].play(), np.int16)[0] == 14  # of too many the oldest are left out
    played = [np.frombuffer(block.data, np.int16)[0] for block in speaker.played]
    assert played == [0, 1, 2, 0, 14]
    assert all(abs(block.air_us - 5_030_000) <= 1 for block in speaker.played)
    speaker.close()
    assert devices[0].closed


def test_latency_that_makes_no_sense() -> None:
    for latency in ("none", float("nan"), float("inf"), -1.0, 30.0, (0.1, 0.2)):
        assert device_latency_us(SimpleNamespace(latency=latency)) == 0
    assert device_latency_us(SimpleNamespace(latency=0.0123)) == 12_300
    assert device_latency_us(object()) == 0
