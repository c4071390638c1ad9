"""What a call is made of and may do."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import av

from mien.call.audio import VoiceTrack
from mien.call.carrier_choice import CarrierWish
from mien.call.face_view import ShownPicture, ViewSettings
from mien.call.ladder import LadderSettings
from mien.call.opus import VoiceSettings
from mien.call.peer import Addresses, IceServer
from mien.call.source_worker import SenderSettings, TrackedFrame
from mien.decoder.playout import PlayoutSettings
from mien.encoder.capture import Source
from mien.encoder.tracker import Tracker
from mien.protocol.avatar import Signer
from mien.protocol.quantizer import Quality

MOST_DELAY_WITH_VOICE_US: Final = 450_000  # of a face, from its stamp


@dataclass(frozen=True, slots=True)
class RateSettings:
    """What our side may send. `budget_kbps`: on the wire, everything counted, either way; None: what the link carries.

    `qualities`: the steps to choose from; None: the sender's alone. `first_picture_kbps`: for sending what makes our
    first picture, whatever the budget; None: what voice leaves of the budget, or half of it. `follow_link`: send less
    where the link carries less; a measurement may want it otherwise.
    """

    budget_kbps: float | None = None
    qualities: frozenset[Quality] | None = None
    first_picture_kbps: float | None = None
    follow_link: bool = True


@dataclass(frozen=True, slots=True)
class CallSettings:
    """What a call may do. `allow_video`: lost tracking may lead to video by itself (the user's word, once a call)."""

    view: ViewSettings = field(default_factory=ViewSettings)
    sender: SenderSettings = field(default_factory=SenderSettings)
    ladder: LadderSettings = field(default_factory=LadderSettings)
    addresses: Addresses = Addresses.INTERFACES
    ice_servers: tuple[IceServer, ...] = ()
    allow_video: bool = False
    audio: bool = True
    carrier: CarrierWish = CarrierWish.AUTO
    voice: VoiceSettings = field(default_factory=VoiceSettings)  # its rate and its packets' length are bounds
    rate: RateSettings = field(default_factory=RateSettings)
    record: Path | None = None
    cache_folder: Path | None = None  # of avatars; None: nothing is kept
    tuning: bytes | None = None  # a tuning's file, used where it belongs to the other side's avatar
    transfer_kbps: float = 17.0
    connect_s: float = 20.0
    hang_up_at_end: bool = True  # when the input ends

    @property
    def face_view(self) -> ViewSettings:
        """The view, whose face waits no longer than a voice that goes with it can."""
        if self.view.playout is not None or not self.audio:
            return self.view
        return replace(self.view, playout=PlayoutSettings(most_delay_us=MOST_DELAY_WITH_VOICE_US))


@dataclass(frozen=True, slots=True)
class CallHooks:
    """Called on the event loop; they must return soon and not raise."""

    on_frame: Callable[[TrackedFrame], None] | None = None
    on_picture: Callable[[ShownPicture], None] | None = None
    on_status: Callable[[str], None] | None = None
    on_voice: Callable[[av.AudioFrame], None] | None = None
    voice_delay_us: Callable[[], int] | None = None  # from `on_voice` until the sound is in the air


@dataclass(frozen=True, slots=True, eq=False)
class Participant:
    """Our side: the camera or file, its tracker, the avatar's bytes and the key of its owner; all may be absent."""

    source: Source | None = None
    tracker: Tracker | None = None
    avatar: bytes | None = None
    signer: Signer | None = None
    voice: VoiceTrack | None = None
