"""A local server that speaks ElevenLabs' text-to-speech protocol with several contexts."""

from __future__ import annotations

import json
from base64 import b64encode
from itertools import pairwise

from aiohttp import web

from .provider import line
from .speech import WORD_MS, SpeechLine, SpeechProvider


class ElevenLabsServer(SpeechProvider):
    """Speaks each text of a context as it comes, with the times of its characters.

    What was flushed is spoken to its end when the context is closed; any other close ends its speech.
    """

    def routes(self) -> list[web.RouteDef]:
        path = "/v1/text-to-speech/{voice}/multi-stream-input"
        return [line(path, lambda request: _Line(self, request))]


class _Line(SpeechLine):
    def __init__(self, provider: ElevenLabsServer, request: web.Request) -> None:
        super().__init__(provider, request)
        self._flushed: set[str] = set()  # contexts whose next close lets them finish

    @property
    def sample_rate(self) -> int:
        return int(self.query["output_format"].removeprefix("pcm_"))

    async def received(self, message: str | bytes) -> None:
        command = json.loads(message)
        if command.get("close_socket"):
            await self.close()
            return
        context = command.get("context_id", "")
        if text := command.get("text", "").strip():
            self.say(context, text)
        if command.get("flush"):
            self._flushed.add(context)
        if command.get("close_context"):
            if context in self._flushed:
                self._flushed.remove(context)
                self.finish(context)
            else:
                await self.cancel(context)
                await self.send_done(context)

    async def send_word(self, context: str, word: str, pcm: bytes) -> None:
        chars = [*word, " "]
        times = [i * WORD_MS // len(chars) for i in range(len(chars) + 1)]
        durations = [after - before for before, after in pairwise(times)]
        alignment = {"chars": chars, "charStartTimesMs": times[:-1], "charDurationsMs": durations}
        await self.send(
            {
                "audio": b64encode(pcm).decode(),
                "isFinal": None,
                "alignment": alignment,
                "normalizedAlignment": alignment,
                "contextId": context,
            }
        )

    async def send_done(self, context: str) -> None:
        await self.send({"isFinal": True, "contextId": context})
