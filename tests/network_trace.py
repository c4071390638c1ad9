"""Runs a program and tells whom it talked to, natively too: Python's sockets are not the only ones in a process.

`strace` sees every system call; where it is missing (Debian does not install it) a preload library sees what
goes through the C library. Both are proved by a control in tests/test_no_phone_home.py.
"""

import ipaddress
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

Method = Literal["strace", "preload"]
METHODS: Final[tuple[Method, ...]] = ("strace", "preload")

_IPV4: Final = re.compile(r'sin_port=htons\((\d+)\), sin_addr=inet_addr\("([^"]+)"\)')
_IPV6: Final = re.compile(r'sin6_port=htons\((\d+)\).*?inet_pton\(AF_INET6, "([^"]+)"')
DNS_PORTS: Final = (53, 853, 5353)


@dataclass(frozen=True, slots=True)
class Contact:
    """A name that was looked up, or an address that was connected or sent to."""

    what: Literal["lookup", "connect", "send"]
    target: str
    port: int


def why_not(method: Method) -> str | None:
    """Return why this machine cannot trace by `method`, None where it can."""
    if not os.path.exists("/proc/self/maps"):
        return "needs Linux"
    if method == "preload":
        return None if shutil.which("gcc") else "gcc is not installed"
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, check=False)
    return None if probe.returncode == 0 else "strace may not trace here"


def trace(
    command: Sequence[str],
    *,
    method: Method,
    folder: Path,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120,
) -> tuple[list[Contact], str]:
    """Run `command` to its end; return its contacts and its standard output.

    Raises `AssertionError` with its standard error where it fails.
    """
    log = folder / "contacts.log"
    log.unlink(missing_ok=True)
    environment = {**os.environ, **(env or {})}
    if method == "strace":
        calls = "trace=connect,sendto,sendmsg,sendmmsg"
        command = [
            "strace",
            "-f",
            "-qq",
            "-s",
            "0",
            "-e",
            calls,
            "-e",
            "signal=none",
            "-o",
            str(log),
            *command,
        ]
    else:
        environment |= {"LD_PRELOAD": str(_preload_library(folder)), "NETWORK_TRACE_LOG": str(log)}
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        timeout=timeout_s,
        check=False,
    )
    assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stderr[-4000:]}"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return list(parse_strace(lines) if method == "strace" else parse_preload(lines)), result.stdout


def parse_strace(lines: Iterable[str]) -> Iterable[Contact]:
    """Read strace's lines. A name look-up shows as traffic to a DNS port, wherever the server is."""
    for line in lines:
        what: Literal["connect", "send"] = "connect" if "connect(" in line else "send"
        for port, address in (*_IPV4.findall(line), *_IPV6.findall(line)):
            yield Contact("lookup" if int(port) in DNS_PORTS else what, address, int(port))


def parse_preload(lines: Iterable[str]) -> Iterable[Contact]:
    """Read the preload library's lines."""
    for line in lines:
        what, port, target = line.split(" ", 2)
        if what == "lookup":
            yield Contact("lookup", target, int(port))
        elif what in ("connect", "send"):
            kind: Literal["connect", "send"] = "connect" if what == "connect" else "send"
            yield Contact("lookup" if int(port) in DNS_PORTS else kind, target, int(port))


def outside(contacts: Iterable[Contact], *, own: Iterable[str] = ()) -> list[Contact]:
    """Return the contacts beyond this machine. `own`: addresses of its interfaces, where they may be used."""
    mine = {ipaddress.ip_address(address) for address in own}
    return [contact for contact in contacts if not _is_here(contact, mine)]


def _is_here(contact: Contact, own: set[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> bool:
    if contact.what == "lookup" and contact.port != 0:
        return False  # a question to a name server, and be it one on loopback: it passes it on
    if contact.target == "localhost":
        return True
    try:
        address = ipaddress.ip_address(contact.target.split("%")[0])
    except ValueError:
        return False  # a name
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    # Looking up a number asks nobody.
    return contact.what == "lookup" or address.is_loopback or address.is_unspecified or address in own


@cache
def _preload_library(folder: Path) -> Path:
    library = folder / "network_trace.so"
    source = Path(__file__).with_name("network_trace.c")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library
