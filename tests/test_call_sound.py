"""What `mien call` opens of sound, and what it says where something is missing."""

import argparse
import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from mien.call.audio import VoiceTrack
from mien.call.input_sound import InputSound, SoundingSource
from mien.call.sound_file import FileTrack
from mien.call.voice_processing import VoiceProcessing
from mien.commands import call_sound
from mien.commands.call_sound import Sound, open_sound
from mien.encoder.capture import open_source
from mien.protocol.errors import MienError
from tests.test_sound import Device, clicks, devices, write_film
from tests.voice_samples import write_wav

__all__ = ["devices"]  # a fixture


def opened(*words: str, film: Path | None = None) -> tuple[Sound, str]:
    parser = argparse.ArgumentParser()
    call_sound.add_arguments(parser.add_argument_group("voice"))
    for flag in ("--mute", "--no-audio"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--input")
    options = parser.parse_args([*words, *(["--input", str(film)] if film else [])])
    text = io.StringIO()

    async def scenario() -> Sound:
        return open_sound(options, open_source(str(film)) if film else None, Console(file=text, width=300))

    return asyncio.run(scenario()), text.getvalue()


def treatments(sound: Sound) -> tuple[bool, bool, bool]:
    assert sound.voice is not None and isinstance(sound.voice.filter, VoiceProcessing)
    all_three = sound.voice.filter.treatments()
    return all_three.noise.on, all_three.gain.on, all_three.echo.on


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        def __init__(self, **what: bool) -> None:
            pass

    monkeypatch.setattr(call_sound, "why_no_processing", lambda: "")
    defaults = VoiceProcessing.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "make", Nothing)


def test_a_file(tmp_path: Path, devices: list[Device], library: None) -> None:
    sound, said = opened("--audio", str(write_wav(tmp_path / "a.wav", clicks(1.0))), "--mute")
    assert isinstance(sound.voice, FileTrack) and sound.voice.muted and not said
    assert treatments(sound) == (False, False, False)


def test_a_microphone_and_a_loudspeaker(devices: list[Device], library: None) -> None:
    assert treatments(opened()[0]) == (False, True, True)
    assert treatments(opened("--echo", "off", "--gain", "off", "--noise-suppression", "on")[0]) == (
        True,
        False,
        False,
    )
    assert len(devices) == 4


def test_the_inputs_own_sound(tmp_path: Path, devices: list[Device]) -> None:
    film = write_film(tmp_path / "film.mp4", sound_from_s=0.0)
    sound, _ = opened("--audio", "input", film=film)
    assert isinstance(sound.voice, InputSound) and isinstance(sound.source, SoundingSource)
    with pytest.raises(MienError, match="--input"):
        opened("--audio", "input")


def test_no_device_and_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none(kind: str, callback: object) -> None:
        raise MienError("no sound device can be used")

    with monkeypatch.context() as patch:
        patch.setattr("mien.call.sound_device.open_device", none)
        sound, said = opened()
        assert sound.voice is None and sound.speaker is None
        assert "you are not heard: no sound device" in said and "you hear nothing" in said
        with pytest.raises(MienError, match="no sound device"):
            opened("--audio", "microphone")
        sound, _ = opened("--no-audio")
        assert sound.voice is None and sound.speaker is None
    monkeypatch.setattr(
        "mien.call.sound_device.open_device", lambda kind, callback: Device(callback, latency_s=0)
    )
    monkeypatch.setattr(call_sound, "why_no_processing", lambda: "no speech clean-up: not installed")
    assert "your voice is sent as it is: no speech clean-up" in opened()[1]
    with pytest.raises(MienError, match="--echo on: no speech"):
        opened("--echo", "on")
    assert "sent as it is" not in opened("--noise-suppression", "off", "--echo", "off", "--gain", "off")[1]


def test_silence_is_left_alone(devices: list[Device]) -> None:
    sound, _ = opened("--audio", "silence")
    assert type(sound.voice) is VoiceTrack and sound.voice.filter is None
