"""The server's side of WebSockets: limits, origins, dead and slow clients, the end."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import suppress

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bargein.bots import server as servers
from bargein.transports.websocket import WebSocketConnection
from bargein.transports.websocket import connection as connections

from .bot import Bots
from .served import WAIT_S, Served, joined, served

pytestmark = pytest.mark.real_time


async def health(server: Served) -> dict[str, object]:
    async with httpx.AsyncClient() as client:
        answer: dict[str, object] = (await client.get(f"http://{server.host}/healthz")).json()
        return answer


async def test_one_session_too_many() -> None:
    async with served(max_sessions=1) as server:
        async with joined(server) as first:
            await first.expect("ready")
            assert await health(server) == {"status": "ok", "sessions": 1, "max_sessions": 1}
            async with connect(server.url + "/ws") as second:
                async with asyncio.timeout(WAIT_S):
                    await second.wait_closed()
                assert second.close_code == 1013
                assert "1 conversation at a time" in (second.close_reason or "")
        await server.empty()
        async with joined(server) as third:
            await third.expect("ready")


@pytest.mark.parametrize(
    ("origin", "host", "welcome"),
    [
        (None, None, True),  # no browser
        ("http://{own}", None, True),
        ("http://localhost:{port}", "localhost:{port}", True),
        ("http://[::1]:{port}", "[::1]:{port}", True),
        ("https://ours.example", None, True),
        ("https://evil.example", None, False),
        ("null", None, False),
        ("", None, False),
        ("http://127.0.0.1:1", None, False),  # another server on this machine
        ("http://localhost:{port}", None, False),
        ("http://evil.example:{port}", "evil.example:{port}", False),  # its name points here
        ("http://[", "[", False),
    ],
)
@pytest.mark.parametrize("path", list(servers.PROTOCOLS))
async def test_pages_of_other_origins_stay_outside(
    path: str, origin: str | None, host: str | None, welcome: bool
) -> None:
    async with served(allowed_origins=["https://ours.example"]) as server:
        places = {"own": server.host, "port": str(server.port)}
        headers = {"Host": (host or "{own}").format(**places)}
        if origin is not None:
            headers["Origin"] = origin.format(**places)
        request = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            f"GET {path} HTTP/1.1\r\n{request}Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        async with asyncio.timeout(WAIT_S):
            status = await reader.readline()
        writer.transport.abort()
        assert status.split()[1] == (b"101" if welcome else b"403")
        if not welcome:
            assert not server.app.state.sessions.connections


@pytest.mark.parametrize("path", list(servers.PROTOCOLS))
async def test_each_path_has_the_limit_of_its_protocol(path: str) -> None:
    limit = servers.PROTOCOLS[path]().max_message_bytes
    async with served() as server, connect(f"{server.url}{path}?token=x", compression=None) as client:
        with suppress(ConnectionClosed):  # in the middle of it
            await client.send("x" * (limit + 1))
        async with asyncio.timeout(WAIT_S):
            await client.wait_closed()
        assert client.close_code == 1009
        assert not (client.close_reason or "").startswith("a message may have"), "it has been read"
        await server.empty()


async def test_there_is_no_socket_without_a_bot_for_it() -> None:
    async with served() as server:
        with pytest.raises(InvalidStatus):
            await connect(server.url + "/ws/else").__aenter__()


class Narrator(Bots):
    """Speaks without end, as soon as its client has begun."""

    async def run(self, connection: WebSocketConnection) -> None:
        task = asyncio.create_task(super().run(connection))
        await self.begun.wait()
        while not task.done():
            self.sessions[-1].send_text("go on")
            await asyncio.wait([task], timeout=0.05)


async def test_a_client_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SLOW_S", 0.5)
    bots = Narrator()
    async with served(bots) as server:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", server.port))
            await loop.sock_sendall(
                client,
                f"GET /ws HTTP/1.1\r\nHost: {server.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode(),
            )
            await loop.sock_recv(client, 1_000)
            start = json.dumps({"type": "start", "agent_sample_rate": 48_000}).encode()
            mask = os.urandom(4)
            masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(start))
            await loop.sock_sendall(client, bytes([0x81, 0x80 | len(start)]) + mask + masked)
            await asyncio.wait_for(bots.begun.wait(), WAIT_S)
            connection = bots.connections[0]
            reason = await asyncio.wait_for(asyncio.shield(connection.closed), 3 * WAIT_S)
            assert "too slow" in reason
            assert len(connection._unsent) <= connections.MAX_UNSENT
            await server.empty()


async def test_a_peer_that_is_gone_without_a_word_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "PING_S", 0.5)
    async with served() as server, joined(server) as client:
        await server.bots.begun.wait()
        # As after a pulled cable: nothing arrives at the client, nothing comes from it.
        client.connection.transport.pause_reading()
        await server.empty()
        client.connection.transport.abort()  # there is nobody to say goodbye to


async def test_the_server_stops() -> None:
    async with served() as server:
        async with joined(server) as client:
            await client.expect("ready")
            await client.say({"type": "text", "text": "hello"})
            await client.until(client.pcm)
            await server.app.state.sessions.end()
            assert await client.closed() == (1000, "the server stops")
        await server.empty()


async def test_a_bot_that_fails_says_so_without_details() -> None:
    class Failing(Bots):
        async def run(self, connection: WebSocketConnection) -> None:
            raise RuntimeError("a secret detail")

    async with served(Failing()) as server, joined(server) as client:
        error = await client.expect("error")
        assert error["fatal"] is True
        assert "secret" not in error["error"]
        await client.closed()
        await server.empty()
