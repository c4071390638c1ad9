"""`mien bench`: finds the measurement's module in `mien.bench` and runs it."""

import argparse
import importlib
import importlib.util
import logging
from typing import Final

from mien.protocol.errors import MienError

# Measurement -> the line `mien bench --help` prints. Each is a module of `mien.bench` with `EXAMPLE`,
# `add_arguments` and `run`, imported only when it is named.
BENCHES: Final[dict[str, str]] = {
    "rate": "kbps against landmark error, CPU per frame, latency",
    "fuzz": "hostile bytes for every parser",
    "picture": "pictures against the originals",
    "loss": "error against packet loss",
    "voice": "a voice's kbps, and what noise, echo and losses do to it",
    "latency": "frame stamp to picture, step by step",
    "call": "a whole call, every byte counted",
    "speed": "pictures drawn a second, by tier and size",
    "budget": "calls with a budget, and what they send",
}

EXAMPLE: Final = "\n".join(
    [
        "measurements:",
        *(f"  {name:8} {summary}" for name, summary in BENCHES.items()),
        "examples:",
        "  mien bench rate --help",
        "  mien bench fuzz --count 100000",
    ]
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; what follows the measurement's name is its own."""
    parser.add_argument("bench", metavar="WHAT", choices=BENCHES, help=", ".join(BENCHES))
    parser.add_argument("rest", metavar="...", nargs=argparse.REMAINDER, help="see `mien bench WHAT --help`")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Raises `MienError` for a measurement that is not built yet."""
    name: str = options.bench
    if importlib.util.find_spec(f"mien.bench.{name}") is None:
        raise MienError(f"`bench {name}` is not there yet; there are: {', '.join(built())}")
    module = importlib.import_module(f"mien.bench.{name}")
    parser = argparse.ArgumentParser(
        prog=f"mien bench {name}",
        description=BENCHES[name],
        epilog=module.EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.add_argument(
        "--log-level",
        default=options.log_level,
        choices=["debug", "info", "warning", "error"],
        help="default: warning",
    )
    own = parser.parse_args(options.rest)
    logging.getLogger().setLevel(own.log_level.upper())
    status: int = module.run(own)
    return status


def built() -> list[str]:
    """Return the measurements that this version has."""
    return [name for name in BENCHES if importlib.util.find_spec(f"mien.bench.{name}") is not None]
