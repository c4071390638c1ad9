"""Lips and voice in a real call of this machine with itself, over a path with jitter.

Sound and face are made on one clock, and taken down where they come out: a picture when it is composited, sound when
it is handed out. Display and loudspeaker are not in it. Run it on a quiet machine.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from mien.bench.impaired_path import impaired_pair
from mien.bench.impairment import Profile
from mien.bench.lip_sync import Opening, Openings, SeenAndHeard, tone_sound
from mien.call import clock
from mien.call.audio import FRAME_SAMPLES, VoiceTrack
from mien.call.carrier_choice import CarrierWish
from mien.call.face_view import ShownPicture, ViewSettings
from mien.call.opus import VoiceSettings
from mien.call.peer import Addresses
from mien.call.session import CallSession
from mien.call.settings import CallHooks, CallSettings, Participant, RateSettings
from mien.call.statistics import CallStatistics
from mien.decoder.playout import Status
from mien.encoder.capture import Frame, Source
from mien.encoder.tracker import Tracker
from mien.protocol.avatar import Signer
from mien.protocol.errors import MienError

SETTLE_S: Final = 6.0
MAX_BEGIN_S: Final = 25.0
TRANSFER_KBPS: Final = 2000.0


@dataclass(frozen=True, slots=True, eq=False)
class LipSyncCall:
    """How the call is made. `source` shows `toning_at`, as a file does; `tracker` finds the face in it."""

    source: Source
    tracker: Tracker
    avatar: bytes
    signer: Signer
    forward: Profile = field(default_factory=Profile)
    carrier: CarrierWish = CarrierWish.AUDIO
    voice: VoiceSettings = field(default_factory=VoiceSettings)
    view: ViewSettings = field(default_factory=lambda: ViewSettings(longest_px=128))
    seconds: float = 12.0
    settle_s: float = SETTLE_S
    seed: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class LipSyncResult(Openings):
    """The openings of the steady part, and what the call's own statistics said."""

    receiver: CallStatistics


async def lip_sync_call(call: LipSyncCall) -> LipSyncResult:
    """Make the call. Raises `MienError` where no face was shown, or no tone was heard."""
    watch = _Watch(call)
    one, other, path = await impaired_pair(call.forward, Profile(), seed=call.seed)
    runs = [
        asyncio.ensure_future(run)
        for run in (watch.conduct(), watch.sender.run(one), watch.receiver.run(other))
    ]
    try:
        _, _, statistics = await asyncio.gather(*runs)
    finally:
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        path.close()
    assert isinstance(statistics, CallStatistics)
    return LipSyncResult(watch.openings(), statistics)


class ToneTrack(VoiceTrack):
    """A voice that goes on softly, and is loud where the script says that there is a tone."""

    def __init__(self) -> None:
        super().__init__()
        self.begins_us: int | None = None  # when the script's second 0 was; until then it is silent

    async def read(self) -> NDArray[np.int16]:
        """Return the sound of the next 20 ms."""
        if self.begins_us is None:
            return np.zeros(FRAME_SAMPLES, np.int16)
        start_us = self.capture_us(self._position * FRAME_SAMPLES) - self.begins_us
        return tone_sound(start_us, FRAME_SAMPLES)


class _Telling:
    """Another source, which tells the sound when its first frame is taken."""

    live = False

    def __init__(self, source: Source, track: ToneTrack) -> None:
        self._source = source
        self._track = track
        self.name = source.name
        self.rate: Fraction = source.rate
        self.width, self.height = source.width, source.height

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._source:
            if self._track.begins_us is None:
                self._track.begins_us = clock.now_us() - frame.timestamp_us
            yield frame

    def close(self) -> None:
        """Close the other source."""
        self._source.close()


class _Watch:
    """Takes down what is seen and heard."""

    def __init__(self, call: LipSyncCall) -> None:
        self._call = call
        self._track = ToneTrack()
        self._taken = SeenAndHeard()
        self._steady: tuple[int, int] | None = None
        settings = CallSettings(
            view=call.view,
            addresses=Addresses.LOOPBACK,
            voice=call.voice,
            carrier=call.carrier,
            transfer_kbps=TRANSFER_KBPS,
            rate=RateSettings(follow_link=False),  # a busy machine is no narrow link
            hang_up_at_end=False,
        )
        me = Participant(
            _Telling(call.source, self._track), call.tracker, call.avatar, call.signer, self._track
        )
        self.sender = CallSession(me, settings)
        hooks = CallHooks(on_picture=self._on_picture, on_voice=self._on_voice)
        self.receiver = CallSession(Participant(voice=VoiceTrack(muted=True)), settings, hooks)

    async def conduct(self) -> None:
        """Wait for the steady part, let it pass, and hang up."""
        try:
            async with asyncio.timeout(MAX_BEGIN_S):
                await self.sender.connected.wait()
                while not self._taken.begun:  # noqa: ASYNC110  nobody tells
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise MienError(f"no face and no voice came within {MAX_BEGIN_S:g} s") from None
        await asyncio.sleep(self._call.settle_s)
        start_us = clock.now_us()
        await asyncio.sleep(self._call.seconds)
        self._steady = start_us, clock.now_us()
        self.sender.hang_up()

    def openings(self) -> tuple[Opening, ...]:
        """Return the tones of the steady part. Raises `MienError` where none was both seen and heard."""
        assert self._steady is not None and self._track.begins_us is not None
        return self._taken.openings(self._track.begins_us, *self._steady)

    def _on_picture(self, picture: ShownPicture) -> None:
        if picture.avatar and picture.shown.status is not Status.WAITING:
            self._taken.see(picture.composited_us, picture.shown.state)

    def _on_voice(self, frame: av.AudioFrame) -> None:
        self._taken.hear(clock.now_us(), np.asarray(frame.to_ndarray().reshape(-1), np.int16))
