"""A local server that speaks Gemini's streamGenerateContent: scripted answers as server-sent events."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from aiohttp import web

from .faults import Fault
from .provider import cut
from .scripted_model import ModelRequest, ScriptedModel, Token

_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}


SIGNATURE = base64.b64encode(b"the thought that led to a call").decode()


def function_call(name: str, *, signed: bool = True, **arguments: Any) -> dict[str, Any]:
    """A call as Gemini streams it: in one piece, and the first of an answer signed."""
    call = {"functionCall": {"name": name, "args": arguments}}
    return {**call, "thoughtSignature": SIGNATURE} if signed else call


class GeminiServer(ScriptedModel):
    """Answers streamGenerateContent. Like Google's it refuses contents that are not valid."""

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1beta/models/{model}:streamGenerateContent", self._generate)]

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        assert request.query["alt"] == "sse"
        taken = ModelRequest(await request.json(), request.match_info["model"])
        self.requests.append(taken)
        status, problem = self.refusal(request), invalid(taken.body["contents"])
        if status is not None or problem is not None:
            taken.outcome.set_result("refused")
            status = status or 400
            error = {"code": status, "message": problem or "try again later", "status": _STATUS[status]}
            return web.json_response({"error": error}, status=status)
        fault = self.faults.take()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        with self.answering(taken) as tokens:
            if fault is Fault.HANG:
                await asyncio.Event().wait()
            await response.prepare(request)
            for token in tokens:
                if fault is Fault.GARBAGE and taken.sent:
                    await response.write(b'data: {"candidates": [}\r\n\r\n')
                if fault is Fault.CUT and taken.sent:
                    cut(request)
                await asyncio.sleep(self.token_s)
                await response.write(_event(taken, token, last=token is tokens[-1]))
                taken.sent += 1
                self.note()
        return response


def _event(request: ModelRequest, token: Token, *, last: bool) -> bytes:
    part = {"text": token} if isinstance(token, str) else token
    candidate: dict[str, Any] = {"content": {"parts": [part], "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = "STOP"
    usage = {"promptTokenCount": 10, "candidatesTokenCount": request.sent + 1, "totalTokenCount": 11}
    event = {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": request.model,
        "responseId": "r",
    }
    return f"data: {json.dumps(event)}\r\n\r\n".encode()


def invalid(contents: list[dict[str, Any]]) -> str | None:
    """What is wrong with the contents by Google's rules, if anything."""
    if not contents:
        return "contents is not specified"
    calls: list[str] = []  # of the turn before, which this one must answer
    for index, content in enumerate(contents):
        if content["role"] not in ("user", "model"):
            return "Please use a valid role: user, model."
        if not content.get("parts"):
            return f"contents[{index}].parts must not be empty"
        for part in content["parts"]:
            if part.get("text") == "":
                return f"contents[{index}].parts contains an empty text parameter"
            if not part.keys() & {"text", "functionCall", "functionResponse"}:
                return f"contents[{index}].parts.data: required oneof field 'data' must have one field"
        answers = [p["functionResponse"]["name"] for p in content["parts"] if "functionResponse" in p]
        if answers != calls:
            return (
                "Please ensure that the number of function response parts is equal to the number of "
                "function call parts of the function call turn."
            )
        signed = [p for p in content["parts"] if "functionCall" in p]
        calls = [p["functionCall"]["name"] for p in signed]
        if signed and "thoughtSignature" not in signed[0]:
            return f"Function call is missing a thought_signature in functionCall parts: {calls[0]}"
    if contents[-1]["role"] != "user":
        return "Please ensure that single turn requests end with a user role."
    return None
