"""What steers a running `mien call`: its script and `--seconds`, signals, and lines typed in the terminal."""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator

from rich.console import Console

from mien.call.scripted_source import Act, CoverableSource
from mien.call.session import CallSession
from mien.commands.call_equipment import Equipment


async def direct(session: CallSession, options: argparse.Namespace, equipment: Equipment) -> None:
    """Do what the script and --seconds say."""
    await session.connected.wait()
    if options.show:
        session.show()
    acts = list(equipment.script)
    if options.seconds is not None:
        acts.append(Act(options.seconds, "quit"))
    passed_s = 0.0
    for act in sorted(acts, key=lambda a: a.seconds):
        await asyncio.sleep(act.seconds - passed_s)
        passed_s = act.seconds
        _do(session, act.verb, equipment.source)


def _do(session: CallSession, verb: str, source: CoverableSource | None) -> bool:
    """Do one thing; False where there is no such thing."""
    if verb in ("cover", "uncover"):
        if source is not None:
            source.covered = verb == "cover"
    elif verb == "show":
        session.show()
    elif verb == "hide":
        session.hide()
    elif verb in ("mute", "unmute"):
        session.mute(verb == "mute")
    elif verb == "quit":
        session.hang_up()
    else:
        return False
    return True


@contextlib.contextmanager
def hang_up_on_signals(session: CallSession) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM hang up, or give up waiting."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def interrupt() -> None:
        if session.connected.is_set():
            session.hang_up("interrupted")
        elif task is not None:
            task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM)
    with contextlib.suppress(NotImplementedError):  # Windows has no signal handlers in its loop
        for number in numbers:
            loop.add_signal_handler(number, interrupt)
    try:
        yield
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        with contextlib.suppress(NotImplementedError):
            for number in numbers:
                loop.remove_signal_handler(number)


@contextlib.contextmanager
def commands_from_terminal(session: CallSession, console: Console) -> Iterator[None]:
    """Read commands, a line each, where standard input is a terminal."""
    if not sys.stdin or not sys.stdin.isatty():
        yield
        return
    loop = asyncio.get_running_loop()

    def read() -> None:
        verb = sys.stdin.readline().strip().lower()
        if verb and not _do(session, verb, None):
            console.print("show, hide, mute, unmute or quit")

    try:
        loop.add_reader(sys.stdin, read)
    except NotImplementedError:  # Windows' loop
        yield
        return
    try:
        yield
    finally:
        loop.remove_reader(sys.stdin)
