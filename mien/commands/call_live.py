"""The line below a running `mien call` that says what it costs and how late it is. Only in a terminal."""

import asyncio
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mien.call.session import CallSession

EVERY_S: Final = 1.0


async def keep_line(session: CallSession, console: Console) -> None:
    """Show the line until cancelled; what is printed meanwhile stands above it."""
    if not console.is_terminal:
        return
    await session.connected.wait()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(Text(str(session.live), style="dim", no_wrap=True, overflow="ellipsis"), refresh=True)
            await asyncio.sleep(EVERY_S)
