"""A local server that speaks Neuphonic's text-to-speech protocol, which tells neither contexts nor ends."""

from __future__ import annotations

import json
from base64 import b64encode

from aiohttp import web

from .provider import line
from .speech import SpeechLine, SpeechProvider


class NeuphonicServer(SpeechProvider):
    """Speaks each text that ends in a stop mark, one after the other."""

    def routes(self) -> list[web.RouteDef]:
        return [line("/speak/{language}", lambda request: _Line(self, request))]


class _Line(SpeechLine):
    @property
    def sample_rate(self) -> int:
        return int(self.query["sampling_rate"])

    async def received(self, message: str | bytes) -> None:
        text = json.loads(message)["text"].removesuffix("<STOP>").strip()
        if text:  # otherwise the client flushes or keeps the connection alive
            self.say("", text)

    async def send_word(self, context: str, word: str, pcm: bytes) -> None:
        data = {"audio": b64encode(pcm).decode(), "text": word, "sampling_rate": self.sample_rate}
        await self.send({"status_code": 200, "data": data})

    async def send_done(self, context: str) -> None:
        """Nothing is sent."""
