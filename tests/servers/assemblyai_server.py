"""A local server that speaks AssemblyAI's streaming protocol, version 3."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from .hearing import HearingLine, HearingProvider
from .provider import line


class AssemblyAIServer(HearingProvider):
    """Gives turns: each grows word by word, until a ForceEndpoint ends it."""

    def routes(self) -> list[web.RouteDef]:
        return [line("/v3/ws", lambda request: _TurnLine(self, request))]


class _TurnLine(HearingLine):
    garbage: dict[str, Any] = {"type": "Turn", "turn_order": "?", "words": None}  # noqa: RUF012

    def __init__(self, provider: AssemblyAIServer, request: web.Request) -> None:
        super().__init__(provider, request)
        self._turn = 0

    def result(self, text: str, *, final: bool) -> dict[str, Any]:
        words = [
            {"text": word, "start": i * 200, "end": i * 200 + 150, "confidence": 0.9, "word_is_final": True}
            for i, word in enumerate(text.split())
        ]
        turn, self._turn = self._turn, self._turn + final
        return {
            "type": "Turn",
            "turn_order": turn,
            "turn_is_formatted": final,
            "end_of_turn": final,
            "transcript": text,
            "end_of_turn_confidence": 1.0 if final else 0.1,
            "words": words,
        }

    async def opened(self) -> None:
        await super().opened()
        await self.send({"type": "Begin", "id": "s", "expires_at": 2_000_000_000})

    async def received(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.hear(message)
            return
        match json.loads(message)["type"]:
            case "ForceEndpoint":
                self.finalize()
            case "Terminate":
                ended = {"audio_duration_seconds": 1.0, "session_duration_seconds": 1.0}
                await self.send({"type": "Termination", **ended})
                await self.close()
