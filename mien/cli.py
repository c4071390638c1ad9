"""The command line: finds the verb's module, parses its arguments, turns errors into one clear line."""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

from mien import __version__
from mien.protocol.errors import MienError

# Verb -> the line `mien --help` prints. A verb's module is imported only when it is named, so that
# `mien inspect` does not wait for mediapipe.
VERBS: Final[dict[str, str]] = {
    "demo": "two peers over real WebRTC on loopback: side-by-side picture and the kbps it cost",
    "enroll": "make a signed avatar from a clip, a photo or the camera",
    "encode": "turn a clip into a coefficient log",
    "replay": "render a coefficient log with an avatar",
    "inspect": "say what is in a .mien or an .avatar file",
    "serve": "signalling for calls",
    "call": "join a call",
    "bench": "measure rate against quality, and fuzz the parsers",
    "models": "list or fetch the face tracker's model bundle",
    "doctor": "what this machine has, what is missing, how to get it",
}


def build_parser(verb: str | None) -> argparse.ArgumentParser:
    """Return the parser; only `verb`'s own arguments are declared (all verbs are listed)."""
    parser = argparse.ArgumentParser(prog="mien", description="A face in a few kbps.")
    parser.add_argument("--version", action="version", version=f"mien {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, summary in VERBS.items():
        if name == verb:
            module = importlib.import_module(f"mien.commands.{name}")
            sub = verbs.add_parser(
                name,
                help=summary,
                description=summary,
                epilog=module.EXAMPLE,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            module.add_arguments(sub)
            sub.add_argument(
                "--log-level",
                default="warning",
                choices=["debug", "info", "warning", "error"],
                help="what goes to standard error (default: warning)",
            )
            sub.set_defaults(run=module.run)
        else:
            verbs.add_parser(name, help=summary, add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns its exit status: 0 done, 1 failed, 2 the user can mend it, 130 interrupted."""
    # The matrices here are small: a BLAS with threads of its own would only burn a second core waiting.
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = next((a for a in arguments if a in VERBS), None)
    options = build_parser(verb).parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    try:
        status: int = options.run(options)
    except MienError as error:
        print(f"mien {options.verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    return status
