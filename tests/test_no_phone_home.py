"""A face codec must not phone home: neither a tracker nor a call contacts anything outside this machine.

The same trace of mediapipe 0.10.35 and 1.2.2 shows them looking up a statistics server at their first frames,
in native code, by either method: that is why these versions are refused, and that this test can fail.
"""

import json
import sys
from pathlib import Path

import ifaddr
import pytest

from mien.call.audio_processing import why_no_processing
from mien.encoder.tracker_choice import open_tracker
from mien.protocol.errors import MienError
from tests.network_trace import METHODS, Contact, Method, outside, parse_strace, trace, why_not

TESTS = Path(__file__).parent
SECOND_PYTHON = TESTS.parent / ".venv-face-mesh" / "bin" / "python"


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    chosen: Method = request.param
    reason = why_not(chosen)
    if reason is not None:
        pytest.skip(reason)
    return chosen


def script(name: str, python: Path | str = sys.executable) -> list[str]:
    return [str(python), "-m", f"tests.{name}"]


IN_CHECKOUT = {"PYTHONPATH": str(TESTS.parent)}


def own_addresses() -> list[str]:
    found = (ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips)
    return [ip if isinstance(ip, str) else ip[0] for ip in found]


def test_positive_control(method: Method, tmp_path: Path) -> None:
    """The trace sees a native connection and a native look-up: without this, silence below means nothing."""
    contacts, _ = trace([sys.executable, str(TESTS / "native_contact.py")], method=method, folder=tmp_path)
    seen = outside(contacts)
    assert Contact("connect", "192.0.2.77", 443) in seen
    assert any(contact.what == "lookup" for contact in seen)
    if method == "preload":
        assert Contact("lookup", "positive-control.invalid", 0) in seen


def test_main_tracker_is_silent(method: Method, tmp_path: Path) -> None:
    try:
        open_tracker().close()
    except MienError as error:
        pytest.skip(str(error))
    contacts, out = trace(script("traced_tracker"), method=method, folder=tmp_path, env=IN_CHECKOUT)
    assert json.loads(out)["found"] == 12
    assert outside(contacts) == []


def test_second_tracker_is_silent(method: Method, tmp_path: Path) -> None:
    if not SECOND_PYTHON.exists():
        pytest.skip("no .venv-face-mesh; `make test` makes it where the official bundle is the main tracker")
    contacts, out = trace(
        script("traced_tracker", SECOND_PYTHON), method=method, folder=tmp_path, env=IN_CHECKOUT
    )
    assert json.loads(out)["found"] == 12
    assert outside(contacts) == []


def test_speech_clean_up_is_silent(method: Method, tmp_path: Path) -> None:
    """A package made for calls through servers: that the one part that is used calls nobody has to be seen."""
    reason = why_no_processing()
    if reason:
        pytest.skip(reason)
    contacts, out = trace(script("traced_voice"), method=method, folder=tmp_path, env=IN_CHECKOUT)
    assert int(out) == 48_000
    assert outside(contacts) == []


def test_call_is_silent(method: Method, tmp_path: Path) -> None:
    """No STUN server is asked, no name looked up: every datagram goes to this machine itself."""
    contacts, out = trace(script("traced_call"), method=method, folder=tmp_path, env=IN_CHECKOUT)
    assert int(out) > 3
    assert any(contact.what == "send" for contact in contacts)  # the trace saw the call
    assert outside(contacts, own=own_addresses()) == []


def test_reading_strace() -> None:
    lines = [
        '7 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.1")}, 16) = 0',
        '7 connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT',
        '8 sendto(4, ""..., 20, 0, {sa_family=AF_INET6, sin6_port=htons(3478), '
        + 'inet_pton(AF_INET6, "2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28 <unfinished ...>',
        '8 sendto(4, ""..., 20, 0, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}, 16) = 20',
        "8 connect(5, {sa_family=AF_INET6, sin6_port=htons(9), "
        + 'inet_pton(AF_INET6, "::ffff:127.0.0.1", &sin6_addr), sin6_scope_id=0}, 28) = 0',
    ]
    contacts = list(parse_strace(lines))
    assert len(contacts) == 4
    assert outside(contacts) == [Contact("lookup", "127.0.0.1", 53), Contact("send", "2001:db8::1", 3478)]


def test_own_addresses_count_as_here_only_when_named() -> None:
    contact = Contact("send", "10.1.2.3", 5000)
    assert outside([contact]) == [contact]
    assert outside([contact], own=["10.1.2.3"]) == []
    assert outside([Contact("lookup", "10.1.2.3", 0), Contact("lookup", "localhost", 0)]) == []
    assert outside([Contact("lookup", "example.com", 0)]) != []
