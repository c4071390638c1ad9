"""From received messages to the state to draw: decoder, playout and, if asked for, the recorder. Sans I/O."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.decoder.blink import shut_lids
from mien.decoder.playout import Playout, PlayoutCounts, PlayoutSettings, Shown
from mien.decoder.scene_decoder import SceneDecoder, ScenePicture
from mien.models.face_model import FaceModel
from mien.protocol.codec import MessageDecoder
from mien.protocol.errors import WireError
from mien.protocol.log import EventKind, LogWriter
from mien.protocol.message import Kind, message_kind
from mien.protocol.state import FaceState
from mien.protocol.stream import StreamHeader

logger = logging.getLogger(__name__)

MAX_SCENE_PICTURES: Final = 16  # between two pictures that are shown


@dataclass(slots=True)
class ReceiverCounts:
    """What came in."""

    messages: int = 0  # good ones
    message_bytes: int = 0
    bad_messages: int = 0  # dropped: not what the format says, or of another stream
    scene_messages: int = 0
    scene_bytes: int = 0
    scene_pictures: int = 0  # that they gave


class Receiver:
    """One peer's face: messages in, the state for any render time out.

    Everything that decides what is shown passes through here, so that a log which notes the calls repeats it:
    `on_stream`, `on_message` and `show`, in their order.
    """

    def __init__(
        self,
        header: StreamHeader,
        *,
        settings: PlayoutSettings | None = None,
        recorder: LogWriter | None = None,
        now_us: int = 0,
    ) -> None:
        """`recorder` is a log whose header holds `header`; it is written to, not closed. `now_us`: for its notes.

        Raises `WireError` for a stream of another face model or other codec tables than this version has.
        """
        self.settings = settings or PlayoutSettings()
        self.counts = ReceiverCounts()
        self.recorder = recorder
        self._carrier: int | None = None  # that brought the newest message
        self._blink = shut_lids(FaceModel.load())
        self._start(header)
        if recorder is not None:
            self.note(EventKind.SETTINGS, self.settings.serialize(), now_us=now_us)
            if recorder.header.stream != header:
                self.note(EventKind.STREAM, header.serialize(), now_us=now_us)

    @property
    def header(self) -> StreamHeader:
        """The stream that is being shown; its states are relative to the header's framing."""
        return self._header

    @property
    def playout_counts(self) -> PlayoutCounts:
        """What became of the ticks of the present stream."""
        return self._playout.counts

    def on_stream(self, header: StreamHeader, *, now_us: int) -> None:
        """The sender announced a new stream: what it sent before is over. The same header again changes nothing.

        Raises `WireError` as the constructor does; the present stream then goes on.
        """
        if header == self._header:
            return
        self._start(header)
        self.note(EventKind.STREAM, header.serialize(), now_us=now_us)

    def on_message(self, data: bytes, arrival_us: int, carrier: int | None = None) -> bool:
        """Take a coefficient or scene message; return whether it was good. Bad ones are dropped and counted.

        `carrier`, a number of `mien.protocol.control.Carrier`, is for the log alone.
        """
        if message_kind(data) == Kind.SCENE:
            return self._on_scene(data, arrival_us)
        try:
            batch = self._decoder.decode(data)
        except WireError as error:
            self.counts.bad_messages += 1
            logger.debug("dropped a message: %s", error)
            return False
        self.counts.messages += 1
        self.counts.message_bytes += len(data)
        if carrier is not None and carrier != self._carrier:
            self._carrier = carrier
            self.note(EventKind.CARRIER, bytes([carrier]), now_us=arrival_us)
        self._record(lambda log: log.message(data, time_us=arrival_us))
        self._playout.push(batch, arrival_us=arrival_us)
        self._scene.note_tick(batch.first_tick)
        return True

    def known(self, tick: int) -> FaceState | None:
        """Return the face at a tick that is still to be shown, if it is here; changes nothing."""
        return self._playout.known(tick)

    @property
    def wants_scene_refresh(self) -> bool:
        """Whether scene messages come of which nothing can be made."""
        return self.counts.scene_messages > 0 and self._scene.wants_refresh

    def take_scene(self) -> list[ScenePicture]:
        """Return the scene's pictures that have come since the last time."""
        pictures = list(self._pictures)
        self._pictures.clear()
        return pictures

    def _on_scene(self, data: bytes, arrival_us: int) -> bool:
        try:
            pictures = self._scene.decode(data)
        except WireError as error:
            self.counts.bad_messages += 1
            logger.debug("dropped a scene message: %s", error)
            return False
        self.counts.scene_messages += 1
        self.counts.scene_bytes += len(data)
        self.counts.scene_pictures += len(pictures)
        self._pictures.extend(pictures)
        self._record(lambda log: log.message(data, time_us=arrival_us))
        return True

    def show(self, render_us: int) -> Shown:
        """Return what to show at a time of the clock that arrivals are on."""
        shown = self._playout.state_at(render_us)
        self._record(lambda log: log.render(render_us, state_crc=shown.checksum()))
        return shown

    @property
    def offset_us(self) -> int | None:
        """What is added to a tick's media time, tick / rate, to get the time when it is shown; None: not known."""
        return self._playout.offset_us

    def wait_at_least(self, floor_us: int | None, *, now_us: int) -> None:
        """Let `offset_us` be at least this, as far as the settings allow: a voice is to be heard with the face."""
        self._playout.wait_at_least(floor_us)
        self.note(EventKind.FLOOR, serialize_floor(floor_us), now_us=now_us)

    def on_picture(self, rgb: NDArray[np.uint8], *, now_us: int) -> None:
        """Note the picture, RGB uint8 [h, w, 3], that was made of the latest `show`."""
        self._record(lambda log: log.picture(rgb, time_us=now_us))

    def note(self, kind: EventKind, data: bytes, *, now_us: int) -> None:
        """Note in the log something else that changes what is shown."""
        self._record(lambda log: log.event(kind, data, time_us=now_us))

    def _start(self, header: StreamHeader) -> None:
        model_id = FaceModel.load().model_id
        if header.model_id != model_id:
            raise WireError(
                f"stream uses face model {header.model_id.hex()}, this version of mien has {model_id.hex()}: "
                "update the older side"
            )
        self._decoder = MessageDecoder(header)
        self._header = header
        self._playout = Playout(header, self.settings, blink=self._blink)
        self._scene = SceneDecoder(header.stream)
        self._pictures: deque[ScenePicture] = deque(maxlen=MAX_SCENE_PICTURES)

    def _record(self, write: Callable[[LogWriter], None]) -> None:
        """Write to the log; a disk that is full ends the recording, not the call."""
        if self.recorder is None:
            return
        try:
            write(self.recorder)
        except OSError as error:
            logger.error("the recording ended: %s", error.strerror or error)
            self.recorder = None


def serialize_floor(floor_us: int | None) -> bytes:
    """Return the data of a FLOOR event. Raises `OverflowError` beyond 64 bits."""
    return b"" if floor_us is None else floor_us.to_bytes(8, "big", signed=True)


def parse_floor(data: bytes) -> int | None:
    """Read the data of a FLOOR event. Raises `WireError`."""
    if len(data) not in (0, 8):
        raise WireError(f"floor is {len(data)} bytes, expected 0 or 8")
    return int.from_bytes(data, "big", signed=True) if data else None
