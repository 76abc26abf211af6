"""A local server that speaks Rime's WebSocket protocol of JSON messages with contexts, /ws3."""

from __future__ import annotations

import json
from base64 import b64encode

from aiohttp import web

from .provider import line
from .speech import WORD_MS, SpeechLine, SpeechProvider


class RimeServer(SpeechProvider):
    """Speaks each text as it comes, the time of each word behind its audio; a flush ends a context."""

    def routes(self) -> list[web.RouteDef]:
        return [line("/ws3", lambda request: _Line(self, request))]


class _Line(SpeechLine):
    def __init__(self, provider: RimeServer, request: web.Request) -> None:
        super().__init__(provider, request)
        self._context = ""  # the one of the last text

    @property
    def sample_rate(self) -> int:
        return int(self.query["samplingRate"])

    async def received(self, message: str | bytes) -> None:
        command = json.loads(message)
        match command.get("operation"):
            case None:
                self._context = command["contextId"]
                self.say(self._context, command["text"])
            case "flush":
                self.finish(self._context)
            case "clear":
                await self.cancel_all()
            case "eos":
                await self.close()

    async def send_word(self, context: str, word: str, pcm: bytes) -> None:
        await self.send({"type": "chunk", "data": b64encode(pcm).decode(), "contextId": context})
        times = {"words": [word], "start": [0.0], "end": [WORD_MS / 1000]}
        await self.send({"type": "timestamps", "word_timestamps": times, "contextId": context})

    async def send_done(self, context: str) -> None:
        await self.send({"type": "done", "contextId": context})
