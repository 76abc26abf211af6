"""Local servers that speak Deepgram's streaming protocols, /v1/listen and /v1/speak."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from .faults import Fault, heard
from .provider import Line, Provider, line
from .speech import SpeechLine, SpeechProvider


class DeepgramSTTServer(Provider):
    """Hears words made by `faults.spoken`: each while it is spoken, all of them at a Finalize.

    Attributes:
        result_s: How long a result takes, s.
        finalized: The texts given at each Finalize, empty ones too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.result_s = 0.0
        self.finalized: list[str] = []

    def routes(self) -> list[web.RouteDef]:
        return [line("/v1/listen", lambda request: _ListenLine(self, request))]


class _ListenLine(Line):
    def __init__(self, provider: DeepgramSTTServer, request: web.Request) -> None:
        super().__init__(provider, request)
        self._provider = provider
        self._sound = bytearray()  # since the last final result
        self._told = 0  # words of it
        self._results: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def opened(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._answer())

    def closed(self) -> None:
        assert self._task is not None
        self._task.cancel()

    async def received(self, message: str | bytes) -> None:
        rate = int(self.query["sample_rate"])
        if isinstance(message, bytes):
            self._sound += message
            words = heard(bytes(self._sound), rate)
            if len(words) > self._told:
                self._told = len(words)
                self._results.put_nowait(_result(" ".join(words), final=False))
            return
        match json.loads(message)["type"]:
            case "Finalize":
                text = " ".join(heard(bytes(self._sound), rate))
                self._sound.clear()
                self._told = 0
                self._provider.finalized.append(text)
                self._provider.note()
                self._results.put_nowait(_result(text, final=True))
            case "CloseStream":
                await self.send({"type": "Metadata", "request_id": "r", "duration": 0.0, "channels": 1})
                await self.close()

    async def _answer(self) -> None:
        while True:
            result = await self._results.get()
            await asyncio.sleep(self._provider.result_s)
            fault = self._provider.faults.take()
            if fault is Fault.CUT:
                self.cut()
            if fault is Fault.GARBAGE:
                await self.send({"type": "Results", "is_final": "?", "channel": {"alternatives": []}})
            if fault is not Fault.HANG:
                await self.send(result)


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
