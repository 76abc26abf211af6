"""A local server that speaks Anthropic's Messages protocol: scripted answers as server-sent events."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from .faults import Fault
from .provider import cut
from .scripted_model import ModelRequest, ScriptedModel, Token


class AnthropicServer(ScriptedModel):
    """Answers POST /v1/messages. Like Anthropic's it refuses messages that are not valid.

    A token is text, a call: {"name": ..., "input": ...}, or a thought: {"thinking": ..., "signature": ...}.
    """

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/messages", self._messages)]

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        taken = ModelRequest(body, body["model"])
        self.requests.append(taken)
        thinks = taken.body.get("thinking", {}).get("type") == "enabled"
        status, problem = self.refusal(request), _invalid(taken.body["messages"], thinks=thinks)
        if status is not None or problem is not None:
            taken.outcome.set_result("refused")
            error = {"type": "invalid_request_error", "message": problem or "try again later"}
            return web.json_response({"type": "error", "error": error}, status=status or 400)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        with self.answering(taken) as tokens:
            await self._stream(taken, tokens, request, response)
        return response

    async def _stream(
        self, taken: ModelRequest, tokens: list[Token], request: web.Request, response: web.StreamResponse
    ) -> None:
        async def send(kind: str, **values: Any) -> None:
            data = json.dumps({"type": kind, **values})
            await response.write(f"event: {kind}\ndata: {data}\n\n".encode())

        fault = self.faults.take()
        if fault is Fault.HANG:
            await asyncio.Event().wait()
        message: dict[str, Any] = {
            "id": f"msg_{len(self.requests)}",
            "type": "message",
            "role": "assistant",
            "model": taken.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 1},
        }
        await send("message_start", message=message)
        await send("ping")
        block = -1
        open_text = False  # the last block is of text, and goes on
        for token in tokens:
            if fault is Fault.GARBAGE and taken.sent:
                await response.write(b"event: content_block_delta\ndata: {no json\n\n")
            if fault is Fault.CUT and taken.sent:
                cut(request)
            await asyncio.sleep(self.token_s)
            if not (open_text and isinstance(token, str)):
                if block >= 0:
                    await send("content_block_stop", index=block)
                block += 1
                begun = _block(token, f"toolu_{len(self.requests)}_{block}")
                await send("content_block_start", index=block, content_block=begun)
                open_text = isinstance(token, str)
            for delta in _deltas(token):
                await send("content_block_delta", index=block, delta=delta)
            taken.sent += 1
            self.note()
        await send("content_block_stop", index=block)
        stop = {"stop_reason": "end_turn" if open_text else "tool_use", "stop_sequence": None}
        await send("message_delta", delta=stop, usage={"output_tokens": taken.sent})
        await send("message_stop")


def _block(token: Token, call_id: str) -> dict[str, Any]:
    if isinstance(token, str):
        return {"type": "text", "text": ""}
    if "thinking" in token:
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "tool_use", "id": call_id, "name": token["name"], "input": {}}


def _deltas(token: Token) -> list[dict[str, Any]]:
    if isinstance(token, str):
        return [{"type": "text_delta", "text": token}]
    if "thinking" in token:
        thought = {"type": "thinking_delta", "thinking": token["thinking"]}
        return [thought, {"type": "signature_delta", "signature": token["signature"]}]
    return [{"type": "input_json_delta", "partial_json": json.dumps(token["input"])}]


def _invalid(messages: list[dict[str, Any]], *, thinks: bool) -> str | None:
    """What is wrong with the messages by Anthropic's rules, if anything.

    Args:
        messages: Those of the request.
        thinks: Whether it asks for extended thinking.
    """
    if not messages or messages[0]["role"] != "user":
        return "messages: the first message must be the user's"
    calls: set[str] = set()  # of the message before, which this one must answer
    for index, message in enumerate(messages):
        if message["role"] not in ("user", "assistant"):
            return f"messages.{index}: unexpected role {message['role']!r}"
        if not message["content"]:
            return f"messages.{index}: content must not be empty"
        blocks = message["content"] if isinstance(message["content"], list) else []
        results = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if results - calls:
            return f"messages.{index}: unexpected `tool_use_id` in `tool_result`: {results - calls}"
        if calls - results:
            return f"messages.{index}: `tool_use` without `tool_result` right behind it: {calls - results}"
        calls = {block["id"] for block in blocks if block["type"] == "tool_use"}
        if blocks and blocks[-1]["type"] == "thinking":
            return f"messages.{index}: the final block in an assistant message cannot be `thinking`"
        if thinks and calls and blocks[0]["type"] != "thinking":
            return f"messages.{index}: expected `thinking`, but found `{blocks[0]['type']}`"
    return None
