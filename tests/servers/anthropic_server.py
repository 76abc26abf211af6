"""A local server that speaks Anthropic's Messages protocol: scripted answers as server-sent events."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .faults import Fault
from .provider import Provider, cut


@dataclass
class MessagesRequest:
    """One request as the server saw it.

    Attributes:
        body: The JSON that was sent.
        sent: How many tokens went out.
        outcome: Done with "finished", "refused", or "closed" when the connection ended first.
    """

    body: dict[str, Any]
    sent: int = 0
    outcome: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class AnthropicServer(Provider):
    """Answers POST /v1/messages. Like Anthropic's it refuses messages that are not valid.

    Attributes:
        token_s: Pause before each token, s.
        requests: All that came, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.token_s = 0.0
        self.requests: list[MessagesRequest] = []
        self._script: list[list[str]] = []

    def script(self, *answers: list[str]) -> None:
        """Give these answers, one after the other."""
        self._script = list(answers)

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/messages", self._messages)]

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        taken = MessagesRequest(await request.json())
        self.requests.append(taken)
        status, problem = self.refusal(request), _invalid(taken.body["messages"])
        if status is not None or problem is not None:
            taken.outcome.set_result("refused")
            error = {"type": "invalid_request_error", "message": problem or "try again later"}
            return web.json_response({"type": "error", "error": error}, status=status or 400)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            await self._stream(taken, request, response)
            taken.outcome.set_result("finished")
        except ConnectionError:
            pass
        finally:
            if not taken.outcome.done():
                taken.outcome.set_result("closed")
            self.note()
        return response

    async def _stream(
        self, taken: MessagesRequest, request: web.Request, response: web.StreamResponse
    ) -> None:
        async def send(kind: str, **values: Any) -> None:
            data = json.dumps({"type": kind, **values})
            await response.write(f"event: {kind}\ndata: {data}\n\n".encode())

        fault = self.faults.take()
        tokens = self._script.pop(0)
        if fault is Fault.HANG:
            await asyncio.Event().wait()
        message = {
            "id": f"msg_{len(self.requests)}",
            "type": "message",
            "role": "assistant",
            "model": taken.body["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 1},
        }
        await send("message_start", message=message)
        await send("content_block_start", index=0, content_block={"type": "text", "text": ""})
        await send("ping")
        for token in tokens:
            if fault is Fault.GARBAGE:
                await response.write(b"event: content_block_delta\ndata: {no json\n\n")
            if fault is Fault.CUT and taken.sent:
                cut(request)
            await asyncio.sleep(self.token_s)
            await send("content_block_delta", index=0, delta={"type": "text_delta", "text": token})
            taken.sent += 1
            self.note()
        await send("content_block_stop", index=0)
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        await send("message_delta", delta=stop, usage={"output_tokens": taken.sent})
        await send("message_stop")


def _invalid(messages: list[dict[str, Any]]) -> str | None:
    """What is wrong with the messages by Anthropic's rules, if anything."""
    if not messages or messages[0]["role"] != "user":
        return "messages: the first message must be the user's"
    for index, message in enumerate(messages):
        if message["role"] not in ("user", "assistant"):
            return f"messages.{index}: unexpected role {message['role']!r}"
        if not message["content"]:
            return f"messages.{index}: content must not be empty"
    return None
