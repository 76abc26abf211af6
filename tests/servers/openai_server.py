"""A local server that speaks OpenAI's chat completions and responses, with scripted answers and troubles.

It serves on loopback, or in the process itself, without a socket, for tests in virtual time. Like
OpenAI's it refuses a history that is not valid.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

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


@dataclass(frozen=True)
class Trouble:
    """What goes wrong with one request.

    Attributes:
        kind: "refuse" answers with a status, "hang" sends nothing more, "cut" breaks the connection off,
            "garbage" sends what is no event, "end" ends the stream as if it were complete, "ping" sends
            nothing but a comment each second.
        after: How many events of the answer come before it; None: not even the headers.
        status: Of a refusal.
        code: Of a refusal, as in OpenAI's error objects.
        headers: Of a refusal.
    """

    kind: Literal["refuse", "hang", "cut", "garbage", "end", "ping"]
    after: int | None = None
    status: int = 0
    code: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def refuse(status: int, code: str = "", **headers: str) -> Trouble:
    """A refusal; headers are written with underscores."""
    return Trouble("refuse", None, status, code, {n.replace("_", "-"): v for n, v in headers.items()})


@dataclass
class Request:
    """One request as the server saw it.

    Attributes:
        path: Without the host: "/v1/responses".
        body: The JSON that was sent.
        headers: By their names in lower case.
        trouble: What goes wrong with it, if anything.
        sent: How many events of the answer went out.
        outcome: Done with "finished", with "refused", with "cut" when the server broke it off, or with
            "closed" when the client closed the connection first.
    """

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    trouble: Trouble | None = None
    sent: int = 0
    outcome: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def messages(self) -> Messages:
        """The conversation, in the form of chat completions."""
        if self.path.endswith("/responses"):
            return _messages(self.body)
        messages: Messages = self.body["messages"]
        return messages

    def end(self, outcome: str) -> None:
        """Say how it ended, unless that is known."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class OpenAIServer:
    """Answers streaming chat completions and responses.

    Attributes:
        answer: Makes the tokens of an answer from the messages.
        token_s: Pause before each event of an answer, s.
        requests: All that came, in order.
        models: What it says it has.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Messages], list[Token] | list[str]] = lambda messages: ["Hello."]
        self.token_s = 0.0
        self.requests: list[Request] = []
        self.models = ["m"]
        self.arrived = asyncio.Event()
        self.base_url = ""
        self._troubles: deque[Trouble | None] = deque()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def script(self, *answers: list[Token]) -> None:
        """Give these answers, one after the other."""
        left = list(answers)
        self.answer = lambda messages: left.pop(0)

    def plan(self, *troubles: Trouble | None) -> None:
        """What goes wrong with the next requests, one after the other; None: nothing."""
        self._troubles.extend(troubles)

    async def came(self, count: int) -> None:
        """Wait until so many requests have come."""
        while len(self.requests) < count:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 60)

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

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[Request, Trouble | None]:
        """A request that has come, and what goes wrong with it before its answer begins."""
        request = Request(path, json.loads(body), headers)
        request.trouble = self._troubles.popleft() if self._troubles else None
        if request.trouble is None and (problem := invalid(request.messages)) is not None:
            request.trouble = refuse(400, problem)
        self.requests.append(request)
        self.arrived.set()
        if request.trouble is None or request.trouble.after is not None:
            return request, None
        if request.trouble.kind == "refuse":
            request.end("refused")
        return request, request.trouble

    async def events(
        self, request: Request, pause: Callable[[float], Awaitable[None]]
    ) -> AsyncIterator[bytes]:
        """The answer as server-sent events, with a pause before each, and with its trouble."""
        tokens = self.answer(request.messages)
        wire = _responses_events if request.path.endswith("/responses") else _chat_events
        trouble = request.trouble
        for event in (*wire(tokens, request.body), None):  # None: behind them all
            if event is not None:
                await pause(self.token_s)
            if trouble is not None and request.sent == trouble.after:
                if trouble.kind == "hang":
                    await pause(1e6)
                elif trouble.kind == "cut":
                    raise ConnectionResetError
                elif trouble.kind == "garbage":
                    yield b"data: {]\n\n"
                while trouble.kind == "ping":
                    yield b": ping\n\n"
                    await pause(1)
                return
            if event is not None:
                yield event
                request.sent += 1

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
                method, path, _ = lines[0].split(" ")
                headers = {n.lower(): v for n, v in (line.split(": ", 1) for line in lines[1:] if line)}
                if method == "GET":
                    models = [
                        {"id": m, "object": "model", "created": 0, "owned_by": "us"} for m in self.models
                    ]
                    _write_json(writer, 200, {"object": "list", "data": models}, {})
                    continue
                body = await reader.readexactly(int(headers["content-length"]))
                request, trouble = self.take(path, headers, body)
                if trouble is not None and trouble.kind == "refuse":
                    _write_json(writer, trouble.status, _error(request), trouble.headers)
                    continue
                await self._stream(request, trouble, reader, writer)

    async def _stream(
        self,
        request: Request,
        trouble: Trouble | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        closed = asyncio.ensure_future(reader.read(1))

        async def pause(seconds: float) -> None:
            await asyncio.wait([closed], timeout=seconds)
            if closed.done():
                request.end("closed")
                raise ConnectionError

        try:
            if trouble is not None:
                if trouble.kind == "hang":
                    await pause(1e6)
                raise ConnectionResetError
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            async for event in self.events(request, pause):
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            writer.write(b"0\r\n\r\n")
            request.end("finished")
        except ConnectionResetError:
            await writer.drain()  # what was sent before the cut arrives
            request.end("cut")
            raise
        finally:
            closed.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await closed


class _InProcess(httpx2.AsyncBaseTransport):
    """Hands requests to the server by a function call."""

    def __init__(self, server: OpenAIServer) -> None:
        self._server = server

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        taken, trouble = self._server.take(request.url.path, dict(request.headers), body)
        if trouble is not None and trouble.kind == "refuse":
            return httpx2.Response(trouble.status, json=_error(taken), headers=trouble.headers)
        if trouble is not None and trouble.kind == "hang":
            try:
                await asyncio.sleep(1e6)
            finally:
                taken.end("closed")
        if trouble is not None:
            taken.end("cut")
            raise httpx2.RemoteProtocolError("the server broke the connection off")
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, stream=_Stream(self._server, taken))


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, server: OpenAIServer, request: Request) -> None:
        self._request = request
        # One iterator: the client comes back for what is left behind the last event.
        self._events = server.events(request, asyncio.sleep)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for event in self._events:
                yield event
        except ConnectionResetError:
            self._request.end("cut")
            raise httpx2.ReadError("the server broke the connection off") from None
        self._request.end("finished")

    async def aclose(self) -> None:
        self._request.end("closed")


def _write_json(writer: asyncio.StreamWriter, status: int, answer: object, headers: dict[str, str]) -> None:
    body = json.dumps(answer).encode()
    head = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    writer.write(f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + body)


def _error(request: Request) -> dict[str, Any]:
    """As OpenAI's; like theirs it quotes a wrong key, and unlike theirs all of it."""
    trouble = request.trouble
    assert trouble is not None
    key = request.headers.get("authorization")
    words = f"Incorrect API key provided: {key}" if trouble.status == 401 else trouble.code or "Trouble."
    return {"error": {"message": words, "type": "an_error", "code": trouble.code or None}}


# The wire ----------------------------------------------------------------------------------------------


def _chat_events(tokens: list[Token] | list[str], body: dict[str, Any]) -> Iterator[bytes]:
    """Chunks of a chat completion. A token with "choices" is a whole chunk."""
    called = any(isinstance(t, dict) and "tool_calls" in t for t in tokens)
    base = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    for token in [*tokens, None]:
        if isinstance(token, dict) and "choices" in token:
            yield _data(base | token)
            continue
        delta = {} if token is None else {"content": token} if isinstance(token, str) else token
        reason = None if token is not None else "tool_calls" if called else "stop"
        yield _data(base | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        usage = {"prompt_tokens": 7, "completion_tokens": len(tokens), "total_tokens": 7 + len(tokens)}
        yield _data(base | {"choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _responses_events(tokens: list[Token] | list[str], body: dict[str, Any]) -> Iterator[bytes]:
    """Events of a response. A token with "type" is a whole event."""
    response = {"id": "resp_1", "object": "response", "created_at": 0, "model": "m", "output": []}
    yield _event({"type": "response.created", "response": response | {"status": "in_progress"}})
    calls: dict[int, dict[str, Any]] = {}
    for token in tokens:
        if isinstance(token, str):
            place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
            yield _event({"type": "response.output_text.delta", "delta": token, **place})
        elif "type" in token:
            yield _event(token)
        else:
            for part in token["tool_calls"]:
                yield _event(_call_event(calls, part))
    for index, call in calls.items():
        done = call | {"status": "completed"}
        yield _event({"type": "response.output_item.done", "output_index": index, "item": done})
    if any(isinstance(t, dict) and t.get("type") in ("response.failed", "error") for t in tokens):
        return
    details = {"input_tokens_details": {"cached_tokens": 3}, "output_tokens_details": {"reasoning_tokens": 1}}
    usage = {"input_tokens": 7, "output_tokens": len(tokens), "total_tokens": 7 + len(tokens)}
    done = response | {"status": "completed", "usage": usage | details}
    yield _event({"type": "response.completed", "response": done})


def _call_event(calls: dict[int, dict[str, Any]], part: dict[str, Any]) -> dict[str, Any]:
    index, function = part["index"], part["function"]
    if index not in calls:
        calls[index] = {
            "type": "function_call",
            "id": f"fc_{index}",
            "call_id": part["id"],
            "name": function["name"],
            "arguments": function["arguments"],
        }
        item = calls[index] | {"status": "in_progress"}
        return {"type": "response.output_item.added", "output_index": index, "item": item}
    calls[index]["arguments"] += function["arguments"]
    return {
        "type": "response.function_call_arguments.delta",
        "output_index": index,
        "item_id": f"fc_{index}",
        "delta": function["arguments"],
    }


def _messages(body: dict[str, Any]) -> Messages:
    """The input items of a responses request as chat messages."""
    messages: Messages = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    for item in body["input"]:
        kind = item.get("type", "message")
        if kind == "message":
            messages.append({"role": item["role"], "content": item["content"]})
        elif kind == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
        else:
            function = {"name": item["name"], "arguments": item["arguments"]}
            call = {"id": item["call_id"], "type": "function", "function": function}
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant"})
            messages[-1].setdefault("tool_calls", []).append(call)
    return messages


def _data(value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def _event(value: dict[str, Any]) -> bytes:
    return f"event: {value['type']}\n".encode() + _data(value)
