"""Repeats what a receiver showed, from its log: same bytes, same times, same code."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mien.decoder.playout import PlayoutSettings, Shown
from mien.decoder.receiver import Receiver, parse_floor
from mien.decoder.renderer import Backend
from mien.decoder.stage import AvatarEvent, RungEvent, Stage, ViewEvent
from mien.protocol.avatar import AvatarAssembler
from mien.protocol.errors import WireError
from mien.protocol.log import (
    EventKind,
    EventRecord,
    LogReader,
    MessageRecord,
    RenderRecord,
    picture_crc,
)
from mien.protocol.stream import StreamHeader
from mien.protocol.tuning import Tuning


@dataclass(frozen=True, slots=True, eq=False)
class Repeated:
    """A picture that was shown: its time on the receiver's clock, RGB uint8 [height, width, 3], the state."""

    time_us: int
    rgb: NDArray[np.uint8]
    shown: Shown


@dataclass(slots=True)
class Agreement:
    """How many of the log's checksums the replay met."""

    states: int = 0
    states_equal: int = 0
    pictures: int = 0
    pictures_equal: int = 0


class ShownAgain:
    """Drives a receiver and a stage with a log's records. Raises `WireError` for records that make no sense."""

    def __init__(
        self,
        reader: LogReader,
        whole: AvatarAssembler,
        *,
        now_unix_s: int,
        backend: Backend | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        """`whole` is the avatar with all its layers. `backend`: None takes the one that drew live.

        `tuning`: the one that scenes were drawn with; a log does not say that.
        """
        self.agreement = Agreement()
        self.other_avatars = 0  # the log says that another avatar was shown for a while
        self._reader = reader
        self._whole = whole
        self._now_unix_s = now_unix_s
        self._backend = backend
        self._tuning = tuning
        self._settings = PlayoutSettings()
        self._receiver: Receiver | None = None
        self._view = first_view(reader)
        self._stage = self._make_stage()
        self._latest: Repeated | None = None

    def pictures(self) -> Iterator[Repeated]:
        """Give the pictures in order. Each is checked against its checksum by the time the next one is asked for."""
        for record in self._reader.records():
            match record:
                case MessageRecord():
                    self._started().on_message(record.data, record.time_us)
                case RenderRecord():
                    self._latest = self._repeat(record)
                    yield self._latest
                case EventRecord():
                    self._on_event(record)

    def close(self) -> None:
        """Free the renderer."""
        self._stage.close()

    def _started(self) -> Receiver:
        if self._receiver is None:
            self._receiver = Receiver(self._reader.header.stream, settings=self._settings)
        return self._receiver

    def _make_stage(self) -> Stage:
        view = self._view
        return Stage(width=view.width, height=view.height, backend=self._backend or view.backend)

    def _repeat(self, record: RenderRecord) -> Repeated:
        shown = self._started().show(record.time_us)
        if record.state_crc is not None:
            self.agreement.states += 1
            self.agreement.states_equal += shown.checksum() == record.state_crc
        for picture in self._started().take_scene():
            self._stage.add_scene(picture)
        rgb = self._stage.draw(shown, now_us=record.time_us, known=self._started().known)
        return Repeated(record.time_us, rgb, shown)

    def _on_event(self, record: EventRecord) -> None:
        match record.event:
            case EventKind.SETTINGS:
                self._settings = PlayoutSettings.parse(record.data)
            case EventKind.STREAM:
                self._started().on_stream(StreamHeader.parse(record.data), now_us=record.time_us)
            case EventKind.FLOOR:
                self._started().wait_at_least(parse_floor(record.data), now_us=record.time_us)
            case EventKind.VIEW:
                self._set_view(ViewEvent.parse(record.data))
            case EventKind.AVATAR:
                self._set_avatar(AvatarEvent.parse(record.data))
            case EventKind.RUNG:
                self._stage.set_rung(RungEvent.parse(record.data).rung, now_us=record.time_us)
            case EventKind.PICTURE:
                self._check_picture(record)

    def _set_view(self, view: ViewEvent) -> None:
        """Each avatar is noted with the view; only one of another size or renderer changes anything."""
        if view != self._view:
            self._stage.close()
            self._view = view
            self._stage = self._make_stage()

    def _set_avatar(self, event: AvatarEvent) -> None:
        avatar = event.avatar_from(self._whole, now_unix_s=self._now_unix_s)
        if avatar is None:
            self.other_avatars += 1
            self._stage.clear()
        else:
            self._stage.set_avatar(avatar, self._started().header, self._tuning)

    def _check_picture(self, record: EventRecord) -> None:
        if len(record.data) != 4 or self._latest is None:
            raise WireError("the log has the checksum of a picture that was not made")
        self.agreement.pictures += 1
        self.agreement.pictures_equal += picture_crc(self._latest.rgb) == int.from_bytes(record.data, "big")


def first_view(reader: LogReader) -> ViewEvent:
    """Return the first view of a log: what is shown before it has the same size. Without any, the stream's own."""
    for record in reader.records():
        if isinstance(record, EventRecord) and record.event == EventKind.VIEW:
            return ViewEvent.parse(record.data)
    return ViewEvent(reader.header.stream.width, reader.header.stream.height, "auto")
