"""One call of this machine with itself in which both sides may speak and show a face, and what each of them sent.

Both peers are real: ICE, DTLS, SRTP and SCTP over loopback, everything counted at their sockets. What is reported is
the steady part: it begins when all avatars have been sent and the first reports are over.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.bench.dearest_window import DearestWindow, watch_windows
from mien.bench.played_face import PlayedSource, PlayedTracker, Take
from mien.call.audio import FRAME_SAMPLES, VoiceTrack
from mien.call.carrier_choice import CarrierWish
from mien.call.face_view import ViewSettings
from mien.call.opus import VoiceSettings
from mien.call.peer import Addresses
from mien.call.rendezvous import local_pair
from mien.call.session import CallSession
from mien.call.settings import CallSettings, Participant, RateSettings
from mien.call.source_worker import SenderSettings
from mien.call.statistics import CallStatistics
from mien.call.wire_cause import Direction
from mien.call.wire_tariff import Tariff, tariff
from mien.call.wire_totals import WireTotals
from mien.encoder.scene_sender import SceneSettings
from mien.protocol.avatar import Signer
from mien.protocol.errors import MienError

POLL_S: Final = 0.05
SETTLE_S: Final = 3.0  # after the last avatar: reports of the beginning, choice of the carrier
MAX_SETTLING_S: Final = 25.0
TRANSFER_KBPS: Final = 2000.0
# Drawing is not what is measured, and there may be several calls at once.
VIEW: Final = ViewSettings(longest_px=64, rate=Fraction(5))


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """Whom a call can show: a tracked face, and the avatar that it moves."""

    take: Take
    avatar: bytes
    signer: Signer


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """What one side does. `voice` is int16, 48 kHz, played round and round; None: there is no voice line.

    `scene_kbps` of a scene layer goes with the face; 0: none.
    """

    voice: NDArray[np.int16] | None = None
    muted: bool = False
    face: bool = False
    scene_kbps: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class TwoWayCall:
    """How a call is made. Without any voice there is no audio line in it at all."""

    person: Person
    sides: tuple[Side, Side]
    carrier: CarrierWish = CarrierWish.DATACHANNEL
    voice: VoiceSettings = field(default_factory=VoiceSettings)
    seconds: float = 20.0
    settle_s: float = SETTLE_S
    rate: RateSettings = field(
        default_factory=partial(RateSettings, follow_link=False)
    )  # a busy machine is no narrow link
    whole_avatar: bool = True  # the steady part begins when all of it is there, not only a first picture


@dataclass(frozen=True, slots=True)
class SideResult:
    """What one side sent, in the steady part unless it says otherwise."""

    wire: WireTotals
    payload_kbps: float  # coefficient messages without any header
    elsewhere: Tariff
    frames_per_s: float  # tracked and coded
    frames_left_out: int
    by_carrier: Mapping[str, int]  # messages
    metered_bytes: int  # the whole call's
    ports: frozenset[int]
    statistics: CallStatistics
    dearest: DearestWindow = field(default_factory=DearestWindow)
    stall_us: int = 0  # for how long the event loop stood still at most

    def kbps(self, *causes: str) -> float:
        """Return what some causes cost, or all."""
        flows = self.wire.sent
        chosen = [f for cause, f in flows.items() if cause in causes] if causes else flows.values()
        return sum(flow.kbps(self.wire.elapsed_us) for flow in chosen)

    def packets_per_s(self, *causes: str) -> float:
        """Return how many datagrams a second some causes took, or all."""
        chosen = [f for cause, f in self.wire.sent.items() if not causes or cause in causes]
        return sum(f.datagrams for f in chosen) * 1e6 / self.wire.elapsed_us


class LoopedSound(VoiceTrack):
    """Sound that begins again at its end."""

    def __init__(self, samples: NDArray[np.int16], *, muted: bool = False) -> None:
        super().__init__(muted=muted)
        self._samples = samples
        self._at = 0

    async def read(self) -> NDArray[np.int16]:
        """Return the next samples."""
        places = np.arange(self._at, self._at + FRAME_SAMPLES) % len(self._samples)
        self._at += FRAME_SAMPLES
        return self._samples[places]


async def two_way_call(call: TwoWayCall) -> tuple[SideResult, SideResult]:
    """Make the call. Raises `MienError` where it does not come about, or an avatar is not shown."""
    audio = any(side.voice is not None for side in call.sides)
    sessions = [
        CallSession(_participant(call, number), _settings(call, number, audio=audio))
        for number in range(len(call.sides))
    ]
    steady: list[_Steady] = []
    one, other = local_pair()
    conductor = asyncio.ensure_future(_conduct(call, sessions, steady))
    calls = [asyncio.ensure_future(s.run(end)) for s, end in zip(sessions, (one, other), strict=True)]
    try:
        await asyncio.gather(conductor, *calls)
    finally:
        for task in (conductor, *calls):
            task.cancel()
        await asyncio.gather(conductor, *calls, return_exceptions=True)
    first, second = (_result(s, c.result(), p) for s, c, p in zip(sessions, calls, steady, strict=True))
    return first, second


@dataclass(frozen=True, slots=True)
class _Steady:
    """One side's figures at both ends of the steady part."""

    before: CallStatistics
    after: CallStatistics
    dearest: DearestWindow
    stall_us: int


async def _conduct(call: TwoWayCall, sessions: list[CallSession], steady: list[_Steady]) -> None:
    """Wait for the steady part, read the meters at its two ends, and hang up."""
    try:
        async with asyncio.timeout(MAX_SETTLING_S):
            for session, side in zip(sessions, call.sides, strict=True):
                await session.connected.wait()
                while side.face and not _is_shown(call, session):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise MienError(
            f"the avatars were not shown within {MAX_SETTLING_S:g} s: the machine is too busy"
        ) from None
    await asyncio.sleep(call.settle_s)
    before = [await session.statistics() for session in sessions]
    watched = await watch_windows([session.meter for session in sessions], call.seconds)
    after = [await session.statistics() for session in sessions]
    for parts in zip(before, after, watched.windows, strict=True):
        steady.append(_Steady(*parts, watched.stall_us))
    sessions[0].hang_up()


def _is_shown(call: TwoWayCall, session: CallSession) -> bool:
    return session.verdict is not None and (session.avatar_delivered or not call.whole_avatar)


def _participant(call: TwoWayCall, number: int) -> Participant:
    side, person = call.sides[number], call.person
    voice = None if side.voice is None else LoopedSound(side.voice, muted=side.muted)
    if not side.face:
        return Participant(voice=voice)
    # The two sides show different parts of the take at any time.
    first = number * len(person.take.trackings) // 2
    tracker = PlayedTracker(person.take, first=first)
    seconds = MAX_SETTLING_S + call.settle_s + call.seconds + 10
    return Participant(
        source=PlayedSource(person.take, seconds=seconds, seen_from=first if side.scene_kbps else None),
        tracker=tracker,
        avatar=person.avatar,
        signer=person.signer,
        voice=voice,
    )


def _settings(call: TwoWayCall, number: int, *, audio: bool) -> CallSettings:
    scene_kbps = call.sides[number].scene_kbps
    return CallSettings(
        sender=SenderSettings(scene=SceneSettings(scene_kbps) if scene_kbps else None),
        view=VIEW,
        addresses=Addresses.LOOPBACK,
        audio=audio,
        voice=call.voice,
        transfer_kbps=TRANSFER_KBPS,
        carrier=call.carrier,
        rate=call.rate,
        hang_up_at_end=False,
    )


def _result(session: CallSession, statistics: CallStatistics, steady: _Steady) -> SideResult:
    before, after = steady.before.sent, steady.after.sent
    wire = steady.after.wire.since(steady.before.wire)
    payload = sum(flow.payload_bytes for cause, flow in wire.sent.items() if cause == "coefficients")
    return SideResult(
        wire=wire,
        payload_kbps=payload * 8000 / wire.elapsed_us,
        elsewhere=tariff(wire, Direction.SENT),
        frames_per_s=(after.frames - before.frames) * 1e6 / wire.elapsed_us,
        frames_left_out=after.frames_left_out - before.frames_left_out,
        by_carrier={
            name: counts.messages - (before.by_carrier[name].messages if name in before.by_carrier else 0)
            for name, counts in after.by_carrier.items()
        },
        metered_bytes=statistics.wire.total(Direction.SENT).wire_bytes,
        ports=session.meter.local_ports,
        statistics=statistics,
        dearest=steady.dearest,
        stall_us=steady.stall_us,
    )


def capture_percent(result: SideResult, bytes_from: Mapping[int, int]) -> float | None:
    """Return by how many percent the meter is above a capture of the whole call; None where nothing was captured."""
    captured = sum(bytes_from[port] for port in result.ports if port in bytes_from)
    return 100 * (result.metered_bytes - captured) / captured if captured else None
