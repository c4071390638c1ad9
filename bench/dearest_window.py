"""The dearest five seconds of a call, cause by cause, and how long its event loop stood still meanwhile.

Where a machine stands still for a moment, the voice of that moment leaves at once when it goes on: the five seconds
that begin there hold more than five seconds of voice. So whoever reads of a dear window wants to know of the stall.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from mien.call import clock
from mien.call.wire_cause import CAUSES, Direction
from mien.call.wire_meter import WireMeter

WINDOW_US: Final = 5_000_000
LOOK_S: Final = 0.1  # the grain of the meter's windows


@dataclass(frozen=True, slots=True)
class DearestWindow:
    """kbps on the wire in the dearest five seconds that were seen, and what they were for."""

    kbps: float = 0.0
    by_cause: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen in a while. `stall_us`: how much later than due the latest look was, and so everything else."""

    windows: tuple[DearestWindow, ...]
    stall_us: int


async def watch_windows(meters: Sequence[WireMeter], seconds: float) -> Watched:
    """Look at what each of the meters' connections sends, for some seconds."""
    windows = [DearestWindow() for _ in meters]
    begin_us = looked_us = clock.now_us()
    stall_us = 0
    while looked_us - begin_us < seconds * 1e6:
        await asyncio.sleep(min(LOOK_S, max(0.0, seconds - (looked_us - begin_us) / 1e6)))
        now_us = clock.now_us()
        stall_us = max(stall_us, now_us - looked_us - round(LOOK_S * 1e6))
        looked_us = now_us
        windows = [dearer(window, meter) for window, meter in zip(windows, meters, strict=True)]
    return Watched(tuple(windows), stall_us)


def dearer(window: DearestWindow, meter: WireMeter) -> DearestWindow:
    """Return a connection's last five seconds, if they are dearer than those."""
    kbps = meter.kbps(Direction.SENT, window_us=WINDOW_US)
    if kbps <= window.kbps:
        return window
    causes = {cause: meter.kbps(Direction.SENT, cause, window_us=WINDOW_US) for cause in CAUSES}
    return DearestWindow(kbps, {cause.value: value for cause, value in causes.items() if value})
