"""Signalling: messages, the client against the server, files over HTTP, TLS."""

import asyncio
import json
import random
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mien.call.certificate import context_of, context_of_self_signed, make_self_signed
from mien.call.server import ServerLimits, SignallingServer
from mien.call.signal_messages import (
    Joined,
    Left,
    Refused,
    Signal,
    SignalMessage,
    Welcome,
    parse_signal_message,
)
from mien.call.signalling import SignallingClient, SignallingLost, is_loopback, room_url
from mien.call.static_files import StaticFiles
from mien.protocol.errors import MienError, WireError

PEER = "0123456789abcdef"
MESSAGES: list[SignalMessage] = [
    Signal(PEER, {"kind": "offer", "sdp": "v=0\r\n"}),
    Welcome(PEER, (PEER,)),
    Joined(PEER),
    Left(PEER),
    Refused("the room is full"),
]


@asynccontextmanager
async def running(server: SignallingServer | None = None, **options: object) -> AsyncIterator[int]:
    server = server or SignallingServer()
    port = await server.start("127.0.0.1", 0, **options)  # type: ignore[arg-type]
    try:
        yield port
    finally:
        async with asyncio.timeout(5):
            await server.close()


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_round_trip(message: SignalMessage) -> None:
    assert parse_signal_message(message.serialize()) == message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{}", "binary"),
        ("", "not JSON"),
        ("[" * 30_000, "not JSON"),
        ("[]", "expected an object"),
        ("x" * 40_000, "at most 32768"),
        ("{}", "of type None"),
        ('{"type":["signal"]}', "of type"),
        ('{"type":"joined","peer":"me"}', "16 hexadecimal digits"),
        ('{"type":"joined","peer":"0123456789abcdef","x":1}', "unknown field 'x'"),
        ('{"type":"signal","peer":"0123456789abcdef","data":{}}', "1 to 8 fields"),
        ('{"type":"signal","peer":"0123456789abcdef","data":{"a":1}}', "where text was expected"),
        ('{"type":"signal","peer":"0123456789abcdef","data":{"A b":""}}', "lower-case"),
        ('{"type":"welcome","peer":"0123456789abcdef","peers":[1]}', "where text was expected"),
    ],
)
def test_refused_messages(text: str, words: str) -> None:
    with pytest.raises(WireError, match=words):
        parse_signal_message(text)


def test_mutated_messages_give_a_message_or_a_clean_error() -> None:
    rng = random.Random(2)
    for _ in range(2000):
        text = list(rng.choice(MESSAGES).serialize())
        for _ in range(rng.randint(1, 3)):
            text[rng.randrange(len(text))] = chr(rng.choice([rng.randrange(128), rng.randrange(0x3000)]))
        try:
            message = parse_signal_message("".join(text))
        except WireError:
            continue
        assert parse_signal_message(message.serialize()) == message


def test_room_url() -> None:
    assert room_url("den") == "ws://127.0.0.1:8765/den"
    assert room_url("den", server="wss://example.org/") == "wss://example.org/den"
    assert room_url("https://example.org/den") == "wss://example.org/den"
    assert room_url("ws://[::1]:9/a-b_1") == "ws://[::1]:9/a-b_1"
    for bad in ("", "two words", "ftp://x/den", "ws://127.0.0.1/a/b", "ws://127.0.0.1:x/den", "ws:///den"):
        with pytest.raises(MienError, match="neither an address"):
            room_url(bad)


def test_loopback() -> None:
    assert (
        is_loopback("ws://127.0.0.1:8765/r")
        and is_loopback("ws://[::1]/r")
        and is_loopback("ws://localhost/r")
    )
    assert not is_loopback("ws://192.168.1.2/r")


def test_two_clients_meet_talk_and_part() -> None:
    async def scenario() -> None:
        async with running() as port, SignallingClient(f"ws://127.0.0.1:{port}/den") as first:
            assert first.others == ()
            async with SignallingClient(f"ws://127.0.0.1:{port}/den") as second:
                assert second.others == (first.name,)
                assert await first.receive() == Joined(second.name)
                await second.send(first.name, {"kind": "offer", "sdp": "x" * 20_000})
                assert await first.receive() == Signal(second.name, {"kind": "offer", "sdp": "x" * 20_000})
                await second.send("f" * 16, {"kind": "offer"})  # to nobody: no error, no message
                await first.send(second.name, {"kind": "answer"})
                assert await second.receive() == Signal(first.name, {"kind": "answer"})
            assert await first.receive() == Left(second.name)

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_rooms_do_not_hear_one_another() -> None:
    async def scenario() -> None:
        async with (
            running() as port,
            SignallingClient(f"ws://127.0.0.1:{port}/den") as first,
            SignallingClient(f"ws://127.0.0.1:{port}/attic") as second,
        ):
            assert second.others == ()
            await second.send(first.name, {"kind": "offer"})
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(first.receive(), 0.2)

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_errors_say_what_to_do() -> None:
    async def nobody_there() -> None:
        async with SignallingClient("ws://127.0.0.1:9/den"):
            pass

    with pytest.raises(MienError, match="Start one with `mien serve`"):
        asyncio.run(asyncio.wait_for(nobody_there(), 15))

    async def port_taken() -> None:
        async with running() as port:
            await SignallingServer().start("127.0.0.1", port)

    with pytest.raises(MienError, match="Choose another"):
        asyncio.run(asyncio.wait_for(port_taken(), 10))


def test_a_closing_server_is_told_to_its_clients() -> None:
    async def scenario() -> None:
        server = SignallingServer()
        port = await server.start("127.0.0.1", 0)
        async with SignallingClient(f"ws://127.0.0.1:{port}/den") as client:
            await server.close()
            with pytest.raises(SignallingLost, match="lost the signalling server"):
                await client.receive()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def _get(url: str) -> tuple[int, str, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def test_files_over_http(tmp_path: Path) -> None:
    web = tmp_path / "web"
    (web / "node_modules").mkdir(parents=True)
    (web / "index.html").write_text("<p>hello")
    (web / "node_modules" / "x.js").write_text("no")
    (web / ".secret.js").write_text("no")
    (web / "run.sh").write_text("no")
    (tmp_path / "outside.js").write_text("no")
    (web / "link.js").symlink_to(tmp_path / "outside.js")

    async def scenario() -> None:
        server = SignallingServer(static=StaticFiles.load(web))
        async with running(server) as port:
            base = f"http://127.0.0.1:{port}"
            status, kind, body = await asyncio.to_thread(_get, base + "/?room=den")
            assert (status, kind, body) == (200, "text/html; charset=utf-8", b"<p>hello")
            for path in (
                "/node_modules/x.js",
                "/.secret.js",
                "/run.sh",
                "/link.js",
                "/../outside.js",
                "/%2e%2e/outside.js",
            ):
                assert (await asyncio.to_thread(_get, base + path))[0] == 404

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_tls_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    made = make_self_signed()
    (tmp_path / "cert.pem").write_bytes(made.certificate)
    (tmp_path / "key.pem").write_bytes(made.key)

    async def scenario() -> None:
        async with running(tls=context_of(tmp_path / "cert.pem", tmp_path / "key.pem")) as port:
            url = f"wss://127.0.0.1:{port}/den"
            async with SignallingClient(url, ca_file=tmp_path / "cert.pem") as client:
                assert client.others == ()
            with pytest.raises(MienError, match="--ca-file"):
                async with SignallingClient(url):
                    pass

    asyncio.run(asyncio.wait_for(scenario(), 20))
    context_of_self_signed(made)
    with pytest.raises(MienError, match="belong together"):
        context_of(tmp_path / "key.pem", tmp_path / "cert.pem")


def test_events_hold_no_room_names() -> None:
    seen: list[str] = []

    async def scenario() -> None:
        server = SignallingServer(
            limits=ServerLimits(), on_event=lambda event, details: seen.append(json.dumps([event, details]))
        )
        async with running(server) as port, SignallingClient(f"ws://127.0.0.1:{port}/secret-name"):
            pass

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert len(seen) == 2
    assert not any("secret" in line for line in seen)
