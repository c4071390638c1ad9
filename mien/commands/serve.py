"""`mien serve`: signalling for calls, and the web client's files."""

import argparse
import asyncio
import contextlib
import json
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console

import mien
from mien.protocol.errors import MienError

EXAMPLE: Final = """examples:
  mien serve
  mien serve --host 0.0.0.0 --port 8443 --cert cert.pem --key key.pem
  mien serve --host 0.0.0.0 --self-signed --cert-out mien-serve.pem
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8765, help="port; 0 for any free one (default: 8765)")
    parser.add_argument("--cert", type=Path, help="TLS certificate, PEM (with --key)")
    parser.add_argument("--key", type=Path, help="TLS private key, PEM (with --cert)")
    parser.add_argument(
        "--self-signed", action="store_true", help="TLS with a new certificate, for development"
    )
    parser.add_argument(
        "--cert-out", type=Path, help="where to write the self-signed certificate, for --ca-file"
    )
    parser.add_argument(
        "--web", type=Path, help="folder of the web client (default: the checkout's, if it is there)"
    )
    parser.add_argument("--rooms", type=int, default=200, help="most rooms at once (default: 200)")
    parser.add_argument("--peers-per-room", type=int, default=2, help="most peers in one room (default: 2)")
    parser.add_argument(
        "--idle-s", type=float, default=3600.0, help="seconds of silence before a peer is let go"
    )
    parser.add_argument(
        "--seconds", type=float, help="stop after so many seconds (default: run until interrupted)"
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line on standard output, for each event"
    )


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted. Returns 0."""
    tls = _tls(options)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options, tls))
    return 0


async def _serve(options: argparse.Namespace, tls: ssl.SSLContext | None) -> None:
    from mien.call.server import ServerLimits, SignallingServer

    limits = ServerLimits(rooms=options.rooms, peers_per_room=options.peers_per_room, idle_s=options.idle_s)
    server = SignallingServer(
        limits=limits, static=_static(options.web), on_event=_print_event if options.json else None
    )
    port = await server.start(options.host, options.port, tls=tls)
    host = f"[{options.host}]" if ":" in options.host else options.host
    scheme = "wss" if tls else "ws"
    if options.json:
        _print_event("listening", {"url": f"{scheme}://{host}:{port}"})
    else:
        console = Console(stderr=True)
        console.print(f"signalling on [bold]{scheme}://{host}:{port}[/]; stop with Ctrl-C", highlight=False)
        console.print(f"join a room with  mien call {scheme}://{host}:{port}/ROOM", highlight=False)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows has no signal handlers in its loop
            loop.add_signal_handler(number, stopped.set)
    try:
        async with asyncio.timeout(options.seconds):
            await stopped.wait()
    except TimeoutError:
        pass
    finally:
        await server.close()


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    from mien.call.certificate import context_of, context_of_self_signed, make_self_signed

    if options.self_signed and (options.cert or options.key):
        raise MienError("--self-signed makes a certificate of its own: leave out --cert and --key")
    if bool(options.cert) != bool(options.key):
        raise MienError("--cert and --key belong together: give both")
    if options.cert_out and not options.self_signed:
        raise MienError("--cert-out writes the certificate that --self-signed makes: give both")
    if options.cert:
        return context_of(options.cert, options.key)
    if not options.self_signed:
        return None
    made = make_self_signed(() if options.host in ("0.0.0.0", "::") else (options.host,))
    if options.cert_out:
        options.cert_out.write_bytes(made.certificate)
    print(f"self-signed certificate, SHA-256 {made.sha256}", file=sys.stderr)
    return context_of_self_signed(made)


def _static(folder: Path | None) -> Any:
    from mien.call.static_files import StaticFiles

    if folder is not None and not folder.is_dir():
        raise MienError(f"{folder} is no folder: give --web the web client's, or leave it out")
    found = folder or Path(mien.__file__).parent.parent / "web"
    return StaticFiles.load(found) if found.is_dir() else None


def _print_event(event: str, details: dict[str, Any]) -> None:
    print(json.dumps({"time": round(time.time(), 3), "event": event, **details}), flush=True)
