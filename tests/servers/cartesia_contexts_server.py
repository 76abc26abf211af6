"""A local server that speaks Cartesia's text-to-speech protocol with contexts that are continued."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from aiohttp import web

from .provider import line
from .speech import WORD_MS, SpeechLine, SpeechProvider


class CartesiaContextsServer(SpeechProvider):
    """Speaks each text of a context as it comes, the time of each word before its audio.

    A message that does not continue its context ends it.
    """

    def routes(self) -> list[web.RouteDef]:
        return [line("/tts/websocket", lambda request: _Line(self, request))]


class _Line(SpeechLine):
    def __init__(self, provider: CartesiaContextsServer, request: web.Request) -> None:
        super().__init__(provider, request)
        self._rate = 0
        self._words: dict[str, int] = {}  # sent, by context

    @property
    def sample_rate(self) -> int:
        return self._rate

    async def received(self, message: str | bytes) -> None:
        command = json.loads(message)
        context = command["context_id"]
        if command.get("cancel"):
            await self.cancel(context)
            return
        form = command["output_format"]
        assert (form["container"], form["encoding"]) == ("raw", "pcm_s16le"), form
        self._rate = form["sample_rate"]
        if command["transcript"].strip():
            self.say(context, command["transcript"])
        if not command["continue"]:
            self.finish(context)

    async def send_word(self, context: str, word: str, pcm: bytes) -> None:
        start = self._words.get(context, 0) * WORD_MS / 1000
        self._words[context] = self._words.get(context, 0) + 1
        times = {"words": [word], "start": [start], "end": [start + WORD_MS / 1000]}
        await self._tell("timestamps", context, word_timestamps=times)
        await self._tell("chunk", context, data=b64encode(pcm).decode(), step_time=1.0)

    async def send_done(self, context: str) -> None:
        await self._tell("done", context, done=True, status_code=200)

    async def _tell(self, kind: str, context: str, **values: Any) -> None:
        await self.send({"type": kind, "context_id": context, "done": False, "status_code": 206} | values)
