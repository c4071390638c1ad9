"""The calls that `mien bench call` makes, and what each of them may cost."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from mien.call.carrier_choice import CarrierWish
from mien.encoder.scene_encoder import USUAL_KBPS


class Voice(StrEnum):
    """What comes from a side's microphone."""

    SPEECH = "speech"  # loud and without a pause: the worst case
    PAUSES = "speech with pauses"
    LISTENS = "listens"  # an open microphone in a quiet room
    MUTED = "muted"
    NONE = "no voice line"


@dataclass(frozen=True, slots=True)
class Role:
    """What one side of a call does."""

    voice: Voice
    face: bool = True
    scene_kbps: float = 0.0  # of a scene layer, without headers; 0: none


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure of a case may be at most. `what` is a name of `bench.call.Measured.figures`."""

    what: str
    at_most: float


@dataclass(frozen=True, slots=True)
class Case:
    """One call. `without_face` names the case that differs in nothing but the faces."""

    name: str
    roles: tuple[Role, Role]
    carrier: CarrierWish
    kbps: float
    frame_ms: int
    limits: tuple[Limit, ...] = ()
    without_face: str | None = None

    @property
    def both_alike(self) -> bool:
        """Whether both sides do the same."""
        return self.roles[0] == self.roles[1]

    @property
    def has_faces(self) -> bool:
        """Whether anybody is seen."""
        return any(role.face for role in self.roles)


# Opus kbps and ms a packet, and what each way of a whole call with both voices and both faces may cost.
VOICES: Final = ((12.0, 40, 30.0), (12.0, 60, 26.0), (8.0, 60, 21.0))
MUTED_KBPS: Final = 6.0
ON_TOP: Final = (Limit("on_top_kbps", 3.5), Limit("extra_packets_per_s", 0.0))
DATA_CHANNEL: Final = (Limit("forward_kbps", 5.8), Limit("sack_kbps", 1.8))
# A scene layer, and what it may cost together with the face: all of one way by the data channel; on top of a voice.
SCENE_KBPS: Final = USUAL_KBPS
SCENE_BY_CHANNEL_KBPS: Final = 15.0
SCENE_ON_TOP_KBPS: Final = 9.0
CARRIERS: Final = (CarrierWish.AUDIO, CarrierWish.DATACHANNEL)


def all_cases() -> tuple[Case, ...]:
    """Return every case. Those that others are compared with come first."""
    cases = [_voice_only(kbps, frame_ms) for kbps, frame_ms, _ in VOICES]
    cases.append(_case("muted, no face", Role(Voice.MUTED, face=False), CarrierWish.DATACHANNEL))
    for carrier in CARRIERS:
        cases += [_speech(kbps, frame_ms, limit, carrier) for kbps, frame_ms, limit in VOICES]
        on = f"on {carrier}"
        cases.append(_case(f"speech with pauses {on}", Role(Voice.PAUSES), carrier))
        cases.append(_case(f"monologue {on}", Role(Voice.SPEECH), carrier, other=Role(Voice.LISTENS)))
        muted = (Limit("total_kbps", MUTED_KBPS),) if carrier is CarrierWish.AUDIO else ()
        cases.append(_case(f"both muted {on}", Role(Voice.MUTED), carrier, limits=muted))
    face = Role(Voice.NONE)
    cases.append(_case("faces only on datachannel", face, CarrierWish.DATACHANNEL, limits=DATA_CHANNEL))
    cases += _with_scenes()
    return tuple(cases)


def _with_scenes() -> tuple[Case, Case]:
    kbps, frame_ms, _ = VOICES[1]
    scene = f"scenes of {SCENE_KBPS:g} kbps"
    return (
        _case(
            f"faces and {scene} on datachannel",
            Role(Voice.NONE, scene_kbps=SCENE_KBPS),
            CarrierWish.DATACHANNEL,
            limits=(Limit("total_kbps", SCENE_BY_CHANNEL_KBPS),),
        ),
        replace(
            _speech(kbps, frame_ms, 0.0, CarrierWish.AUDIO),
            name=f"speech {kbps:g}k/{frame_ms} and {scene} on audio",
            roles=(Role(Voice.SPEECH, scene_kbps=SCENE_KBPS),) * 2,
            limits=(Limit("on_top_kbps", SCENE_ON_TOP_KBPS), Limit("extra_packets_per_s", 0.0)),
        ),
    )


def _voice_only(kbps: float, frame_ms: int) -> Case:
    role = Role(Voice.SPEECH, face=False)
    name = f"speech {kbps:g}k/{frame_ms}, no face"
    return Case(name, (role, role), CarrierWish.DATACHANNEL, kbps, frame_ms)


def _speech(kbps: float, frame_ms: int, limit: float, carrier: CarrierWish) -> Case:
    limits = (Limit("total_kbps", limit), *(ON_TOP if carrier is CarrierWish.AUDIO else DATA_CHANNEL))
    return Case(
        f"speech {kbps:g}k/{frame_ms} on {carrier}",
        (Role(Voice.SPEECH), Role(Voice.SPEECH)),
        carrier,
        kbps,
        frame_ms,
        limits,
        without_face=_voice_only(kbps, frame_ms).name,
    )


def _case(
    name: str,
    role: Role,
    carrier: CarrierWish,
    *,
    other: Role | None = None,
    limits: tuple[Limit, ...] = (),
) -> Case:
    kbps, frame_ms, _ = VOICES[1]
    return Case(name, (role, other or role), carrier, kbps, frame_ms, limits)
