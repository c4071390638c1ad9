"""A hostile client of the signalling server is refused with a reason, and the others go on."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from mien.call.server import ServerLimits, SignallingServer
from mien.call.signalling import SignallingClient
from mien.protocol.errors import MienError

Scenario = Callable[[SignallingServer, str], Awaitable[None]]


def run(limits: ServerLimits, scenario: Scenario) -> None:
    async def whole() -> None:
        server = SignallingServer(limits=limits)
        port = await server.start("127.0.0.1", 0)
        try:
            await scenario(server, f"ws://127.0.0.1:{port}")
            for _ in range(500):
                if not server.room_count:
                    break
                await asyncio.sleep(0.01)
            assert not server.room_count
            async with SignallingClient(f"ws://127.0.0.1:{port}/still-here"):  # whatever came, it serves on
                pass
        finally:
            async with asyncio.timeout(5):
                await server.close()

    asyncio.run(asyncio.wait_for(whole(), 20))


async def last_words(socket: ClientConnection) -> str:
    """Return the text of the last message and of the close frame."""
    text = ""
    try:
        while True:
            text = str(await socket.recv())
    except ConnectionClosed as error:
        return f"{text} {error.rcvd.code if error.rcvd else ''} {error.rcvd.reason if error.rcvd else ''}"


def test_a_full_room() -> None:
    async def scenario(server: SignallingServer, url: str) -> None:
        async with SignallingClient(f"{url}/den"), SignallingClient(f"{url}/den"):
            with pytest.raises(MienError, match="the room is full"):
                async with SignallingClient(f"{url}/den"):
                    pass
        assert server.refused == 1

    run(ServerLimits(), scenario)


def test_all_rooms_taken() -> None:
    async def scenario(server: SignallingServer, url: str) -> None:
        async with SignallingClient(f"{url}/a"), SignallingClient(f"{url}/b"):
            with pytest.raises(MienError, match="rooms are taken"):
                async with SignallingClient(f"{url}/c"):
                    pass
            async with SignallingClient(f"{url}/a"):
                pass

    run(ServerLimits(rooms=2), scenario)


def test_too_many_connections_of_one_host() -> None:
    async def scenario(server: SignallingServer, url: str) -> None:
        async with SignallingClient(f"{url}/a"), SignallingClient(f"{url}/b"):
            with pytest.raises(MienError, match="503"):
                async with SignallingClient(f"{url}/c"):
                    pass

    run(ServerLimits(connections_per_host=2), scenario)


def test_too_many_messages() -> None:
    async def scenario(server: SignallingServer, url: str) -> None:
        async with connect(f"{url}/den", compression=None) as socket:
            message = '{"type":"signal","peer":"0123456789abcdef","data":{"kind":"x"}}'
            with pytest.raises(ConnectionClosed):
                for _ in range(1000):
                    await socket.send(message)
                    await asyncio.sleep(0)
            assert "1008" in await last_words(socket)

    run(ServerLimits(messages_per_s=5, burst=10), scenario)


@pytest.mark.parametrize(
    "message",
    ["nonsense", "[" * 20_000, '{"type":"welcome","peer":"0123456789abcdef","peers":[]}', b"\0\1\2", "null"],
    ids=["text", "deep", "not for clients", "binary", "null"],
)
def test_what_makes_no_sense(message: str | bytes) -> None:
    async def scenario(server: SignallingServer, url: str) -> None:
        async with connect(f"{url}/den", compression=None) as socket:
            await socket.send(message)
            words = await last_words(socket)
            assert "refused" in words and "1008" in words

    run(ServerLimits(), scenario)


def test_an_over_long_message() -> None:
    async def scenario(server: SignallingServer, url: str) -> None:
        async with connect(f"{url}/den", compression=None) as socket:
            await socket.send("x" * 100_000)
            assert "1009" in await last_words(socket)

    run(ServerLimits(), scenario)


def test_nothing_said_for_too_long() -> None:
    async def scenario(server: SignallingServer, url: str) -> None:
        async with connect(f"{url}/den", compression=None) as socket:
            assert "nothing said" in await last_words(socket)

    run(ServerLimits(idle_s=0.2), scenario)


def test_a_peer_that_does_not_read_is_dropped() -> None:
    async def scenario(server: SignallingServer, url: str) -> None:
        async with (
            connect(f"{url}/den", compression=None, max_queue=1, close_timeout=0.1) as deaf,
            SignallingClient(f"{url}/den") as talker,
        ):
            deaf.transport.pause_reading()
            (name,) = talker.others
            for _ in range(20_000):
                await talker.send(name, {"kind": "x", "sdp": "y" * 30_000})
                if server.refused:
                    break
            assert server.refused

    run(ServerLimits(messages_per_s=1e6, burst=100_000, outbox=4), scenario)


def test_bad_rooms_and_plain_requests() -> None:
    async def scenario(server: SignallingServer, url: str) -> None:
        for path in ("/", "/a/b", "/..", "/" + "x" * 65, "/%61"):
            with pytest.raises(MienError, match="404"):
                async with SignallingClient(url + path):
                    pass

    run(ServerLimits(), scenario)


def test_raw_bytes_do_no_harm() -> None:
    async def scenario(server: SignallingServer, url: str) -> None:
        host, port = url.removeprefix("ws://").split(":")
        rng = random.Random(3)
        upgrade = b"GET /den HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        for start in (b"", upgrade, b"GET / HTTP/1.1\r\n", b"POST /den HTTP/1.1\r\n\r\n"):
            for _ in range(10):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(start + rng.randbytes(rng.randint(1, 500)))
                writer.close()
                del reader
        await asyncio.sleep(0.1)

    run(ServerLimits(open_s=1), scenario)


def test_two_hundred_comers_and_goers_leave_nothing_behind() -> None:
    async def scenario(server: SignallingServer, url: str) -> None:
        async def visit(number: int) -> None:
            async with SignallingClient(f"{url}/room{number % 20}") as client:
                for other in client.others:
                    await client.send(other, {"kind": "offer"})

        results = await asyncio.gather(*(visit(i) for i in range(100)), return_exceptions=True)
        assert all(r is None or isinstance(r, MienError) for r in results)  # full rooms refuse
        assert sum(r is None for r in results) >= 40

    run(ServerLimits(connections_per_host=200), scenario)
