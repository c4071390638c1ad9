"""The line below a running call, and the bill at its end."""

import asyncio
import io
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from mien.call.call_state import CallState
from mien.call.datagram_shares import voice_shares
from mien.call.live_figures import LiveFigures, LiveFlow, live_figures, live_flow
from mien.call.riders import Rider
from mien.call.session import CallSession
from mien.call.statistics import CallStatistics, Latency, ReceivedStatistics, SentStatistics
from mien.call.wire_cause import Cause, Direction, Share
from mien.call.wire_ledger import WireLedger
from mien.call.wire_meter import WireMeter
from mien.commands.call_live import keep_line
from mien.commands.call_report import wire_table
from mien.protocol.control import Carrier

FIGURES = LiveFigures(LiveFlow(18.1, 3.4, 1.0), LiveFlow(18.0, 0.0, 0.9), 143.4, 0.0, Carrier.AUDIO)


def filled_ledger() -> WireLedger:
    """Sent in 10 s: 100 packets of voice of 125 bytes, in each a rider of 20, and acknowledgements."""
    ledger = WireLedger(0)
    for _ in range(100):
        ledger.enter(Direction.SENT, 125, voice_shares(125, Rider(20, 14)), 9_000_000)
        ledger.enter(Direction.SENT, 93, (Share(Cause.SACK, 16),), 9_000_000)
    return ledger


def meter() -> WireMeter:
    made = WireMeter(clock=lambda: 9_500_000)
    made._ledger = filled_ledger()
    return made


def test_the_flow_of_the_last_seconds() -> None:
    flow = live_flow(meter(), Direction.SENT)
    kbps = [8 * sent_bytes / 5000 for sent_bytes in (10_500, 2_000, 9_300, 21_800)]
    assert [flow.voice, flow.face, flow.rest, flow.total] == pytest.approx(kbps)
    assert live_flow(meter(), Direction.RECEIVED) == LiveFlow(0, 0, 0)


def test_the_line() -> None:
    assert str(FIGURES) == (
        "up 22.5 kbps (voice 18.1, face 3.4, rest 1.0) | down 18.9 kbps (voice 18.0, face 0.0, rest 0.9) | "
        "latency 143 ms here, - there | face in voice packets"
    )
    call = SimpleNamespace(
        meter=meter(),
        reports=SimpleNamespace(recent_latency=Latency(), their_latency_ms=0.0),
        carriers=SimpleNamespace(current=Carrier.DATACHANNEL),
        rate=None,
    )
    line = str(live_figures(cast(CallState, call)))
    assert line.endswith("rest 0.0) | face on data channel") and line.startswith("up 34.9 kbps (voice 16.8")


def shown(*, terminal: bool) -> str:
    """Keep the line for a moment, and return what was written."""
    file = io.StringIO()

    async def scenario() -> None:
        session: Any = SimpleNamespace(connected=asyncio.Event(), live=FIGURES)
        console = Console(file=file, force_terminal=terminal, width=200)
        line = asyncio.create_task(keep_line(cast(CallSession, session), console))
        await asyncio.sleep(0)
        assert file.getvalue() == ""  # nothing before the call stands
        session.connected.set()
        await asyncio.sleep(0.05)
        assert line.done() is not terminal
        line.cancel()
        await asyncio.gather(line, return_exceptions=True)

    asyncio.run(scenario())
    return file.getvalue()


def test_the_line_is_for_terminals() -> None:
    assert "latency 143 ms here" in shown(terminal=True)
    assert shown(terminal=False) == ""


def test_the_bill() -> None:
    wire = filled_ledger().totals(10_000_000)
    statistics = CallStatistics(1.0, 10.0, "", True, False, SentStatistics(), ReceivedStatistics(), wire, 0.0)
    console = Console(file=io.StringIO(), record=True, width=100)
    console.print(wire_table(statistics))
    rows = {
        cells[0].strip(): [c.strip() for c in cells[1:]]
        for line in console.export_text().splitlines()
        if len(cells := line.strip("│").split("│")) == 5
    }
    assert rows["audio"] == ["8.40", "100", "0.00", "0"]
    assert rows["coefficients"] == ["1.60", "0", "0.00", "0"]  # they ride: not a packet of their own
    assert rows["all"] == ["17.44", "200", "0.00", "0"]
    assert rows["the same over IPv6"][0] == "20.64"
    assert rows["the same through TURN"][0] == "18.09"
    assert "the same over IPv4" not in rows
