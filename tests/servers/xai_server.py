"""A local server that speaks xAI's text-to-speech protocol, whose audio names no text."""

from __future__ import annotations

import json
from base64 import b64encode

from aiohttp import web

from .provider import line
from .speech import WORD_MS, SpeechLine, SpeechProvider

_STREAM = ""  # a connection carries one utterance at a time


class XAIServer(SpeechProvider):
    """Speaks each text as it comes, with the times of its characters; a text.done ends the utterance."""

    def routes(self) -> list[web.RouteDef]:
        return [line("/v1/tts", lambda request: _Line(self, request))]


class _Line(SpeechLine):
    def __init__(self, provider: XAIServer, request: web.Request) -> None:
        super().__init__(provider, request)
        self._words = 0  # sent of this utterance

    @property
    def sample_rate(self) -> int:
        return int(self.query["sample_rate"])

    async def received(self, message: str | bytes) -> None:
        event = json.loads(message)
        match event["type"]:
            case "text.delta":
                self.say(_STREAM, event["delta"])
            case "text.done":
                self.finish(_STREAM)
            case "text.clear":
                await self.cancel(_STREAM)
                self._words = 0
                await self.send({"type": "audio.clear"})

    async def send_word(self, context: str, word: str, pcm: bytes) -> None:
        start, self._words = self._words * WORD_MS / 1000, self._words + 1
        step = WORD_MS / 1000 / (len(word) + 1)
        times = [[start + step * n, start + step * (n + 1)] for n in range(len(word) + 1)]
        stamps = {"graph_chars": list(f"{word} "), "graph_times": times}
        audio = b64encode(pcm).decode()
        await self.send({"type": "audio.delta", "delta": audio, "audio_timestamps": stamps})

    async def send_done(self, context: str) -> None:
        self._words = 0
        await self.send({"type": "audio.done"})
