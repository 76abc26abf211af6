"""Local servers that speak Deepgram's streaming protocols, /v1/listen and /v1/speak."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from .hearing import HearingLine, HearingProvider
from .provider import line
from .speech import SpeechLine, SpeechProvider


class DeepgramSTTServer(HearingProvider):
    """Gives each word while it is spoken, and all of them at a Finalize."""

    def routes(self) -> list[web.RouteDef]:
        return [line("/v1/listen", lambda request: _ListenLine(self, request))]


class _ListenLine(HearingLine):
    garbage: dict[str, Any] = {  # noqa: RUF012
        "type": "Results",
        "is_final": "?",
        "channel": {"alternatives": []},
    }

    def result(self, text: str, *, final: bool) -> dict[str, Any]:
        return _result(text, final=final)

    async def received(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.hear(message)
            return
        match json.loads(message)["type"]:
            case "Finalize":
                self.finalize()
            case "CloseStream":
                await self.send({"type": "Metadata", "request_id": "r", "duration": 0.0, "channels": 1})
                await self.close()


def _result(text: str, *, final: bool) -> dict[str, Any]:
    words = [
        {"word": word, "start": i / 4, "end": i / 4 + 0.2, "confidence": 0.9, "punctuated_word": word}
        for i, word in enumerate(text.split())
    ]
    model = {"name": "general-nova-3", "version": "1", "arch": "nova-3"}
    return {
        "type": "Results",
        "channel_index": [0, 1],
        "duration": 1.0,
        "start": 0.0,
        "is_final": final,
        "speech_final": final,
        "channel": {"alternatives": [{"transcript": text, "confidence": 0.9, "words": words}]},
        "metadata": {"request_id": "r", "model_info": model, "model_uuid": "u"},
        "from_finalize": final,
    }


class DeepgramTTSServer(SpeechProvider):
    """Speaks each text as it comes; a Flush is answered behind the last of them."""

    def routes(self) -> list[web.RouteDef]:
        return [line("/v1/speak", lambda request: _SpeakLine(self, request))]


# The protocol knows no contexts: a connection carries one stream of audio.
_STREAM = ""


class _SpeakLine(SpeechLine):
    def __init__(self, provider: DeepgramTTSServer, request: web.Request) -> None:
        super().__init__(provider, request)
        self._sequence = 0

    @property
    def sample_rate(self) -> int:
        return int(self.query["sample_rate"])

    async def opened(self) -> None:
        await self.send({"type": "Metadata", "request_id": "r", "model_name": self.query["model"]})

    async def received(self, message: str | bytes) -> None:
        command = json.loads(message)
        match command["type"]:
            case "Speak":
                self.say(_STREAM, command["text"])
            case "Flush":
                self.finish(_STREAM)
            case "Clear":
                await self.cancel(_STREAM)
                await self._tell("Cleared")
            case "Close":
                await self.close()

    async def send_word(self, context: str, word: str, pcm: bytes) -> None:
        await self.send(pcm)

    async def send_done(self, context: str) -> None:
        await self._tell("Flushed")

    async def _tell(self, kind: str) -> None:
        await self.send({"type": kind, "sequence_id": self._sequence})
        self._sequence += 1
