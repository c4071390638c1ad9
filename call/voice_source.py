"""Which voice is sent: what the user names."""

from pathlib import Path

from mien.call.audio import VoiceTrack
from mien.call.sound_device import MicrophoneTrack
from mien.call.sound_file import FileTrack


def open_voice(spec: str, *, muted: bool = False) -> VoiceTrack:
    """Return the track for "microphone", "silence" or the path of a file with sound. Raises `MienError`."""
    if spec == "microphone":
        return MicrophoneTrack(muted=muted)
    if spec == "silence":
        return VoiceTrack(muted=muted)
    return FileTrack(Path(spec).expanduser(), muted=muted)
