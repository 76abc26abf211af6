"""A local server that speaks Together's text-to-speech protocol, in which clearing stops no audio."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from aiohttp import web

from .provider import line
from .speech import SpeechLine, SpeechProvider

SAMPLE_RATE = 24_000
_STREAM = ""  # a connection carries one stream of audio


class TogetherServer(SpeechProvider):
    """Speaks each text that is committed, and says when it has; what it has begun it finishes."""

    def routes(self) -> list[web.RouteDef]:
        return [line("/v1/audio/speech/websocket", lambda request: _Line(self, request))]


class _Line(SpeechLine):
    def __init__(self, provider: TogetherServer, request: web.Request) -> None:
        super().__init__(provider, request)
        self._buffer = ""
        self._item = 1

    @property
    def sample_rate(self) -> int:
        return SAMPLE_RATE

    async def opened(self) -> None:
        await self._tell("session.created", session={"id": "s", "model": self.query["model"]})

    async def received(self, message: str | bytes) -> None:
        event = json.loads(message)
        match event["type"]:
            case "input_text_buffer.append":
                self._buffer += event["text"]
                await self._tell("conversation.item.input_text.received", text=event["text"])
            case "input_text_buffer.commit" if self._buffer.strip():
                text, self._buffer = self._buffer, ""
                self.say(_STREAM, text)
            case "input_text_buffer.clear":
                self._buffer = ""

    async def send_word(self, context: str, word: str, pcm: bytes) -> None:
        audio = b64encode(pcm).decode()
        await self._tell("conversation.item.audio_output.delta", item_id=f"tts_{self._item}", delta=audio)

    async def send_spoken(self, context: str) -> None:
        await self._tell("conversation.item.audio_output.done", item_id=f"tts_{self._item}")
        self._item += 1

    async def send_done(self, context: str) -> None:
        """Nothing is sent: the stream does not end."""

    async def _tell(self, kind: str, **values: Any) -> None:
        await self.send({"type": kind, "event_id": "e"} | values)
