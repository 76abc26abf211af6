"""What the stand-ins for providers share: a web server on loopback, and WebSockets that fail on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from aiohttp import WSMsgType, web

from .faults import Fault, Faults

_STATUS = {Fault.UNAUTHORIZED: 401, Fault.RATE_LIMITED: 429, Fault.BROKEN: 500}


class Provider:
    """Serves `routes` on loopback.

    Attributes:
        url: Without a path, "http://127.0.0.1:PORT".
        refusals: Answers with a status code, one for each connection or request.
        faults: What goes wrong, one for each answer.
        connections: How many WebSockets were accepted.
        open: How many of them are open.
        headers: Of the last request or handshake.
    """

    def __init__(self) -> None:
        self.url = ""
        self.refusals, self.faults = Faults(), Faults()
        self.connections = 0
        self.open = 0
        self.headers: dict[str, str] = {}
        self._changed = asyncio.Event()

    @property
    def ws_url(self) -> str:
        """The address for WebSockets."""
        return self.url.replace("http", "ws", 1)

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        raise NotImplementedError

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        """Serve until the block is left; connections that are left then are cut."""
        app = web.Application()
        app.add_routes(self.routes())
        # A handler ends when its client is gone, as a provider's would.
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def refusal(self, request: web.Request) -> int | None:
        """The status code this request is refused with, if it is."""
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        return _STATUS.get(self.refusals.take())

    def note(self) -> None:
        """Something has happened that a test may wait for."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is asked whenever something has happened here."""
        while not condition():
            await self._changed.wait()


class Line:
    """One WebSocket connection, on the provider's side."""

    def __init__(self, provider: Provider, request: web.Request) -> None:
        self.query = request.query
        self._host = provider
        self._request = request
        self._socket = web.WebSocketResponse()

    async def run(self) -> web.StreamResponse:
        """Accept the connection and hand each message to `received` until it is closed."""
        host = self._host
        if (status := host.refusal(self._request)) is not None:
            return web.Response(status=status)
        await self._socket.prepare(self._request)
        host.connections += 1
        host.open += 1
        host.note()
        try:
            await self.opened()
            async for message in self._socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self.received(message.data)
        finally:
            host.open -= 1
            self.closed()
            host.note()
        return self._socket

    async def opened(self) -> None:
        """The connection stands."""

    async def received(self, message: str | bytes) -> None:
        """The client has sent a message."""
        raise NotImplementedError

    def closed(self) -> None:
        """The connection is gone."""

    async def send(self, message: dict[str, Any] | str | bytes) -> None:
        """Send JSON, text or audio; what is sent on a connection that is gone is lost."""
        try:
            if isinstance(message, bytes):
                await self._socket.send_bytes(message)
            elif isinstance(message, str):
                await self._socket.send_str(message)
            else:
                await self._socket.send_json(message)
        except ConnectionError:
            return

    async def close(self) -> None:
        """Close the connection in due form."""
        await self._socket.close()

    def cut(self) -> None:
        """Break the connection off."""
        cut(self._request)


def line(path: str, accept: Callable[[web.Request], Line]) -> web.RouteDef:
    """A route for WebSockets."""

    async def run(request: web.Request) -> web.StreamResponse:
        return await accept(request).run()

    return web.get(path, run)


def cut(request: web.Request) -> None:
    """Break the connection of a request off, without a goodbye."""
    if request.transport is not None:
        request.transport.abort()
