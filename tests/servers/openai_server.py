"""A local server that speaks OpenAI's chat completions protocol, with scripted answers and tool calls.

It serves on loopback, or in the process itself, without a socket, for tests in virtual time. Like
OpenAI's it refuses a history that is not valid.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
from openai import AsyncOpenAI

Messages = list[dict[str, Any]]
# Text, or any other delta as it is on the wire.
Token = str | dict[str, Any]


def tool_calls(*calls: tuple[str, str] | tuple[str, str, str], size: int = 5) -> list[Token]:
    """Calls as OpenAI streams them: each is announced, then their arguments come in pieces.

    Args:
        calls: (name, arguments) or (name, arguments, id); ids are made up otherwise.
        size: Characters in a piece. The pieces of parallel calls take turns.
    """
    announced: list[Token] = []
    pieces: list[list[Token]] = []
    for index, (name, arguments, *given) in enumerate(calls):
        call_id = given[0] if given else f"call_{name}_{index}"
        function = {"name": name, "arguments": ""}
        call = {"index": index, "id": call_id, "type": "function", "function": function}
        announced.append({"tool_calls": [call]})
        for at in range(0, len(arguments), size):
            piece = {"index": index, "function": {"arguments": arguments[at : at + size]}}
            pieces[at // size : at // size + 1] = [[*_row(pieces, at // size), {"tool_calls": [piece]}]]
    return announced + [piece for row in pieces for piece in row]


def _row(rows: list[list[Token]], index: int) -> list[Token]:
    return rows[index] if index < len(rows) else []


def invalid(messages: Messages) -> str | None:
    """What is wrong with a history, if anything, by OpenAI's rules and chat templates'."""
    waiting: list[str] = []
    for index, message in enumerate(messages):
        role = message["role"]
        if role == "tool":
            if message["tool_call_id"] not in waiting:
                return f"messages[{index}]: a result without its call, or a second one"
            waiting.remove(message["tool_call_id"])
            if not isinstance(message["content"], str):
                return f"messages[{index}]: a result must be text"
            continue
        if waiting:
            return f"messages[{index}]: calls without results before it: {waiting}"
        calls = message.get("tool_calls")
        if calls is None and not message.get("content"):
            return f"messages[{index}]: empty"
        if calls == [] or (calls and role != "assistant"):
            return f"messages[{index}]: tool_calls out of place"
        for call in calls or []:
            if not call["id"] or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", call["function"]["name"]):
                return f"messages[{index}]: bad id or name in {call}"
            try:
                if not isinstance(json.loads(call["function"]["arguments"]), dict):
                    return f"messages[{index}]: arguments are no object"
            except ValueError:
                return f"messages[{index}]: arguments are no JSON"
            waiting.append(call["id"])
        if len(set(waiting)) != len(waiting):
            return f"messages[{index}]: an id twice"
    return f"calls without results at the end: {waiting}" if waiting else None


@dataclass
class Request:
    """One request as the server saw it.

    Attributes:
        body: The JSON that was sent.
        sent: How many tokens went out.
        outcome: Done with "finished", with "refused" when the history was not valid, or with "closed"
            when the client closed the connection first.
    """

    body: dict[str, Any]
    sent: int = 0
    outcome: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def messages(self) -> Messages:
        """The history that was sent."""
        messages: Messages = self.body["messages"]
        return messages


class OpenAIServer:
    """Answers streaming chat completions.

    Attributes:
        answer: Makes the tokens of an answer from the messages.
        token_s: Pause before each token, s.
        requests: All that came, in order.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Messages], list[Token] | list[str]] = lambda messages: ["Hello."]
        self.token_s = 0.0
        self.requests: list[Request] = []
        self.arrived = asyncio.Event()
        self.base_url = ""
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def script(self, *answers: list[Token]) -> None:
        """Give these answers, one after the other."""
        left = list(answers)
        self.answer = lambda messages: left.pop(0)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[OpenAIServer]:
        """Serve on loopback until the block is left."""
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

    def client(self) -> AsyncOpenAI:
        """The real client, connected without a socket."""
        http = httpx2.AsyncClient(transport=_InProcess(self))
        return AsyncOpenAI(base_url="http://in-process/v1", api_key="secret", http_client=http, max_retries=0)

    def take(self, body: bytes) -> tuple[Request, str | None]:
        """A request that has come, and why it is refused, if it is."""
        request = Request(json.loads(body))
        self.requests.append(request)
        self.arrived.set()
        problem = invalid(request.messages)
        if problem is not None:
            request.outcome.set_result("refused")
        return request, problem

    async def events(self, request: Request, pause: Callable[[], Any]) -> AsyncIterator[bytes]:
        """The answer as server-sent events, with a pause before each."""
        tokens = self.answer(request.messages)
        called = any(isinstance(t, dict) and "tool_calls" in t for t in tokens)
        for token in [*tokens, None]:
            await pause()
            delta = {} if token is None else {"content": token} if isinstance(token, str) else token
            reason = None if token is not None else "tool_calls" if called else "stop"
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
            yield f"data: {json.dumps(chunk | {'choices': [choice]})}\n\n".encode()
            request.sent += 1
        yield b"data: [DONE]\n\n"

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
                request, problem = self.take(await reader.readexactly(int(headers["content-length"])))
                if problem is None:
                    await self._stream(request, reader, writer)
                    continue
                body = _error(problem)
                writer.write(
                    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%b" % (len(body), body)
                )

    async def _stream(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        closed = asyncio.ensure_future(reader.read(1))

        async def pause() -> None:
            await asyncio.wait([closed], timeout=self.token_s)
            if closed.done():
                request.outcome.set_result("closed")
                raise ConnectionError

        try:
            async for event in self.events(request, pause):
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            writer.write(b"0\r\n\r\n")
            request.outcome.set_result("finished")
        finally:
            closed.cancel()
            with suppress(asyncio.CancelledError):
                await closed


class _InProcess(httpx2.AsyncBaseTransport):
    """Hands requests to the server by a function call."""

    def __init__(self, server: OpenAIServer) -> None:
        self._server = server

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        taken, problem = self._server.take(await request.aread())
        if problem is not None:
            return httpx2.Response(400, content=_error(problem))
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, stream=_Stream(self._server, taken))


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, server: OpenAIServer, request: Request) -> None:
        self._request = request
        # One iterator: the client comes back for what is left behind the last event.
        self._events = server.events(request, lambda: asyncio.sleep(server.token_s))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for event in self._events:
            yield event
        if not self._request.outcome.done():
            self._request.outcome.set_result("finished")

    async def aclose(self) -> None:
        if not self._request.outcome.done():
            self._request.outcome.set_result("closed")


def _error(problem: str) -> bytes:
    return json.dumps({"error": {"message": problem, "type": "invalid_request_error"}}).encode()
