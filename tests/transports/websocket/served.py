"""A real server on loopback, and a client as anybody would write it with a WebSocket library."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bargein.bots.server import config, create_app
from bargein.transports.webrtc import WebRTCConnection

from .bot import Bots

WAIT_S = 120.0  # a test that waits longer for anything has failed

Message = dict[str, Any]


class Served:
    """A server and the bots it runs."""

    def __init__(self, app: FastAPI, bots: Bots, port: int) -> None:
        self.app = app
        self.bots = bots
        self.port = port
        self.host = f"127.0.0.1:{port}"
        self.url = f"ws://{self.host}"

    async def empty(self) -> None:
        """Wait until there is no session."""
        async with asyncio.timeout(WAIT_S):
            while tasks := set(self.app.state.sessions._tasks):
                await asyncio.wait(tasks)
        assert not self.app.state.sessions.connections


@asynccontextmanager
async def served(bots: Bots | None = None, **options: Any) -> AsyncIterator[Served]:
    """The bot behind the real server; all sessions must end before it does."""
    bots = bots or Bots()

    async def no_peers(connection: WebRTCConnection) -> None:
        raise AssertionError("nobody calls")

    app = create_app(no_peers, run_socket_bot=bots.run, **options)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(config(app, "127.0.0.1", 0))
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup(sockets=[listener])
        ticking = asyncio.create_task(server.main_loop())
        try:
            yield Served(app, bots, listener.getsockname()[1])
        finally:
            server.should_exit = True
            await ticking
            await server.shutdown(sockets=[listener])


class Client:
    """Speaks JSON and PCM.

    Attributes:
        got: What came, in order: PCM as bytes, messages as objects.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.got: list[bytes | Message] = []
        self.on_message: Callable[[Message], None] = lambda message: None
        self._news = asyncio.Condition()
        self._over = False
        self._reading = asyncio.create_task(self._read())

    async def say(self, message: Message) -> None:
        await self.connection.send(json.dumps(message))

    async def until(self, reached: Callable[[], Any]) -> Any:
        """Wait until something that came makes this true."""

        def decided() -> Any:
            found = reached()
            assert found or not self._over, f"the connection is closed: {self.connection.close_reason}"
            return found

        async with asyncio.timeout(WAIT_S), self._news:
            return await self._news.wait_for(decided)

    async def expect(self, kind: str, **fields: Any) -> Message:
        """The first message of this type with these fields, once it has come."""

        def find() -> Message | None:
            found = (m for m in self.all(kind) if fields.items() <= m.items())
            return next(found, None)

        message: Message = await self.until(find)
        return message

    def all(self, kind: str) -> list[Message]:
        return [m for m in self.got if isinstance(m, dict) and m["type"] == kind]

    def cleared(self) -> int:
        """The place in `got` of the last `clear`."""
        return len(self.got) - 1 - self.got[::-1].index({"type": "clear"})

    def pcm(self, start: int = 0) -> bytes:
        """The audio that came, from this place in `got` on."""
        return b"".join(m for m in self.got[start:] if isinstance(m, bytes))

    async def closed(self) -> tuple[int, str]:
        """Wait until the server has closed the connection; its code and reason."""
        async with asyncio.timeout(WAIT_S):
            await self.connection.wait_closed()
        return self.connection.close_code or 0, self.connection.close_reason or ""

    async def leave(self) -> None:
        await self.connection.close()
        await self._reading

    async def _read(self) -> None:
        try:
            async for data in self.connection:
                message = json.loads(data) if isinstance(data, str) else data
                async with self._news:
                    self.got.append(message)
                    self._news.notify_all()
                if isinstance(message, dict):
                    self.on_message(message)
        except ConnectionClosed:
            pass
        async with self._news:
            self._over = True
            self._news.notify_all()


@asynccontextmanager
async def joined(server: Served, start: Message | None = None, path: str = "/ws") -> AsyncIterator[Client]:
    """A client that has sent its first message, and leaves in the end."""
    async with connect(server.url + path, max_size=None, compression=None) as connection:
        client = Client(connection)
        try:
            await client.say(start or {"type": "start"})
            yield client
        finally:
            await client.leave()
