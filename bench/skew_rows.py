"""Lips against voice, for `mien bench latency`: at several jitters, computed on both carriers and in real calls."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from mien.bench.impairment import Profile
from mien.bench.lip_sync import computed_sync
from mien.bench.lip_sync_call import LipSyncCall, lip_sync_call
from mien.call.carrier_choice import CarrierWish
from mien.call.opus import VoiceSettings
from mien.encoder.synthetic_source import SyntheticSource, toning_at
from mien.encoder.tracker import Tracker
from mien.protocol.avatar import Signer
from mien.protocol.control import Carrier
from mien.protocol.errors import MienError

JITTERS_MS: Final = (0, 40, 80)
FRAME_MS: Final = 60
SHORTER_MS: Final = (40, 20)
DELAY_US: Final = 30_000  # of the path, beside the jitter
AT_MOST_MS: Final = 45.0
COMPUTED_S: Final = 20.0
CALL_S: Final = 10.0
CALL_SOURCE_S: Final = 90.0
CALL_SIZE_PX: Final = 256  # drawing the test picture larger would take time from the call


@dataclass(frozen=True, slots=True)
class SkewRow:
    """How much later tones were seen than heard, in ms. `how`: "computed", without a clock, or a real "call".

    `worst_ms` is the one farthest from 0. `kept`: the median is within the limit of a call, all are of a computed one.
    `face_ms`: from making to seeing, median, the path's delay left out; a computed call takes no time for tracking,
    coding and drawing.
    """

    how: str
    carrier: str
    frame_ms: int
    jitter_ms: int
    face_ms: float
    tones: int
    median_ms: float
    worst_ms: float
    at_most_ms: float
    kept: bool


def skew_row(
    how: str, carrier: str, frame_ms: int, jitter_ms: int, face_ms: float, skews_ms: NDArray[np.float64]
) -> SkewRow:
    """Summarise. Raises ValueError where there is nothing to summarise."""
    if not len(skews_ms):
        raise ValueError("no tones, expected at least one")
    median_ms = float(np.median(skews_ms))
    worst_ms = float(skews_ms[np.abs(skews_ms).argmax()])
    judged_ms = worst_ms if how == "computed" else median_ms
    kept = abs(judged_ms) <= AT_MOST_MS
    return SkewRow(
        how=how,
        carrier=carrier,
        frame_ms=frame_ms,
        jitter_ms=jitter_ms,
        face_ms=round(face_ms - DELAY_US / 1000, 1),
        tones=len(skews_ms),
        median_ms=round(median_ms, 1),
        worst_ms=round(worst_ms, 1),
        at_most_ms=AT_MOST_MS,
        kept=kept,
    )


def computed_rows(seconds: float = COMPUTED_S) -> Iterator[SkewRow]:
    """Compute a call for each carrier and jitter: no clock, no load of the machine changes them."""
    wanted = [(carrier, FRAME_MS, jitter_ms) for carrier in Carrier for jitter_ms in JITTERS_MS]
    wanted += [(Carrier.AUDIO, frame_ms, 0) for frame_ms in SHORTER_MS]
    for carrier, frame_ms, jitter_ms in wanted:
        voice = VoiceSettings(frame_ms=frame_ms)
        result = computed_sync(_path(jitter_ms), carrier=carrier, voice=voice, seconds=seconds)
        name = carrier.name.lower()
        yield skew_row("computed", name, frame_ms, jitter_ms, result.face_ms, result.skews_ms)


def called_rows(
    tracker: Tracker, avatar: Callable[[], tuple[bytes, Signer]], console: Console
) -> Iterator[SkewRow]:
    """Make a call for each jitter: the test picture opens its jaw on tones, tracked live."""
    data, signer = avatar()
    for jitter_ms in JITTERS_MS:
        call = LipSyncCall(
            source=SyntheticSource(CALL_SOURCE_S, size_px=CALL_SIZE_PX, script=toning_at),
            tracker=tracker,
            avatar=data,
            signer=signer,
            forward=_path(jitter_ms),
            carrier=CarrierWish.AUDIO,
            voice=VoiceSettings(frame_ms=FRAME_MS),
            seconds=CALL_S,
        )
        try:
            result = asyncio.run(lip_sync_call(call))
        except MienError as error:
            console.print(
                f"lips and voice at {jitter_ms} ms of jitter: {error}", style="yellow", highlight=False
            )
            continue
        row = skew_row("call", call.carrier.value, FRAME_MS, jitter_ms, result.face_ms, result.skews_ms)
        console.print(
            f"lips and voice at {jitter_ms} ms of jitter: {row.median_ms:+.0f} ms apart", highlight=False
        )
        yield row


def _path(jitter_ms: int) -> Profile:
    return Profile(delay_us=DELAY_US, jitter_us=1000 * jitter_ms)
