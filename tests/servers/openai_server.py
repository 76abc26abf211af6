"""A local server that speaks OpenAI's chat completions protocol, with scripted answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Messages = list[dict[str, Any]]


@dataclass
class Request:
    """One request as the server saw it.

    Attributes:
        body: The JSON that was sent.
        sent: How many tokens went out.
        outcome: Done with "finished", or with "closed" when the client closed the connection first.
    """

    body: dict[str, Any]
    sent: int = 0
    outcome: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class OpenAIServer:
    """Answers streaming chat completions on loopback.

    Attributes:
        answer: Makes the tokens of an answer from the messages.
        token_s: Pause before each token, s.
        requests: All that came, in order.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Messages], list[str]] = lambda messages: ["Hello."]
        self.token_s = 0.0
        self.requests: list[Request] = []
        self.arrived = asyncio.Event()
        self.base_url = ""
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[OpenAIServer]:
        """Serve until the block is left."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()
            for writer in self._connections.values():
                writer.transport.abort()
            await asyncio.gather(*self._connections)
            await server.wait_closed()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        self._connections[me] = writer
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()
            del self._connections[me]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                request = Request(body)
                self.requests.append(request)
                self.arrived.set()
                await self._stream(request, reader, writer)

    async def _stream(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        closed = asyncio.ensure_future(reader.read(1))
        try:
            await self._tokens(request, closed, writer)
        finally:
            closed.cancel()
            with suppress(asyncio.CancelledError):
                await closed

    async def _tokens(
        self, request: Request, closed: asyncio.Future[bytes], writer: asyncio.StreamWriter
    ) -> None:
        for token in [*self.answer(request.body["messages"]), None]:
            await asyncio.wait([closed], timeout=self.token_s)
            if closed.done():
                request.outcome.set_result("closed")
                raise ConnectionError
            choice = {"index": 0, "delta": {"content": token} if token else {}, "finish_reason": None}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
            event = f"data: {json.dumps(chunk | {'choices': [choice]})}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            request.sent += 1
        done = b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(done), done))
        request.outcome.set_result("finished")
