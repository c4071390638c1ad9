"""The sound of `mien call`: which voice is sent, what cleans it, where the other side's is heard."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console

from mien.call.audio import VoiceTrack
from mien.call.audio_processing import why_no_processing
from mien.call.input_sound import InputSound, SoundingSource
from mien.call.sound_device import Loudspeaker, MicrophoneTrack
from mien.call.voice_processing import ProcessingSettings, Switch, VoiceProcessing
from mien.call.voice_source import open_voice
from mien.encoder.capture import Source
from mien.protocol.errors import MienError

INPUT: Final = "input"  # the sound of the input itself
KINDS: Final = {
    "noise": "--noise-suppression",
    "gain": "--gain",
    "echo": "--echo",
}

ALL_OFF: Final = ProcessingSettings(Switch.OFF, Switch.OFF, Switch.OFF)


@dataclass(slots=True, eq=False)
class Sound:
    """What was opened. `source` is the source of pictures, which leads the voice where that is its own sound."""

    source: Source | None = None
    voice: VoiceTrack | None = None
    speaker: Loudspeaker | None = field(default=None)

    def delay_us(self) -> int:
        """Return how long a voice takes from us into the air."""
        return self.speaker.delay_us if self.speaker is not None else 0

    def close(self) -> None:
        """Close the loudspeaker; the voice is its session's."""
        if self.speaker is not None:
            self.speaker.close()


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare what concerns sound."""
    group.add_argument(
        "--audio",
        metavar="SOURCE",
        help="microphone, silence, input (the sound of --input), or a file with sound (default: a microphone if any)",
    )
    choices = [switch.value for switch in Switch]
    group.add_argument(
        KINDS["noise"],
        choices=choices,
        default="auto",
        dest="noise",
        help="default: auto, where noise is less than 15 dB below speech",
    )
    group.add_argument(
        KINDS["gain"], choices=choices, default="auto", dest="gain", help="default: auto, for microphones"
    )
    group.add_argument(
        KINDS["echo"],
        choices=choices,
        default="auto",
        dest="echo",
        help="cancel it (default: auto, where one is heard; it takes from a voice that speaks while the other side does, "
        "so headphones are better)",
    )


def open_sound(options: argparse.Namespace, source: Source | None, console: Console) -> Sound:
    """Open microphone (or what stands for it) and loudspeaker, in a running loop. Raises `MienError`."""
    sound = Sound(source)
    if options.no_audio:
        return sound
    try:
        _open_voice(options, sound)
    except MienError as error:
        if options.audio:
            raise
        console.print(f"you are not heard: {error}")
    try:
        sound.speaker = Loudspeaker()
    except MienError as error:
        console.print(f"you hear nothing: {error}")
    if sound.voice is not None and options.audio != "silence":
        _clean(options, sound, sound.voice, console)
    return sound


def _open_voice(options: argparse.Namespace, sound: Sound) -> None:
    if options.audio != INPUT:
        sound.voice = open_voice(options.audio or "microphone", muted=options.mute)
        return
    if sound.source is None or not options.input:
        raise MienError("--audio input is the sound of --input: name a video file there")
    if sound.source.live:
        raise MienError("a camera has no sound of its own: use --audio microphone")
    voice = InputSound(Path(options.input).expanduser(), muted=options.mute)
    sound.voice, sound.source = voice, SoundingSource(sound.source, voice)


def _clean(options: argparse.Namespace, sound: Sound, voice: VoiceTrack, console: Console) -> None:
    settings = ProcessingSettings(Switch(options.noise), Switch(options.gain), Switch(options.echo))
    asked = [kind for kind in KINDS if getattr(settings, kind) is Switch.ON]
    missing = why_no_processing() if settings != ALL_OFF else ""
    if missing and asked:
        raise MienError(f"{KINDS[asked[0]]} on: {missing}")
    microphone = isinstance(voice, MicrophoneTrack)
    if missing and microphone:
        console.print(f"your voice is sent as it is: {missing}")
    voice.filter = VoiceProcessing(
        settings, microphone=microphone, played=sound.speaker.played if sound.speaker else None
    )
