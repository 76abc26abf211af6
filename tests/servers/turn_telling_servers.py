"""Local servers of recognisers that tell turns: Deepgram Flux, AssemblyAI, OpenAI's Realtime API."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import numpy as np
from aiohttp import web

from .faults import heard
from .provider import Line, Provider, line

END_S = 0.3  # so much silence ends a turn
_SILENT = 100  # samples below this are silence, also after resampling


class TurnTellingServer(Provider):
    """Hears words made by `faults.spoken`, and a turn's end in the silence behind them.

    Attributes:
        text_s: How long the text takes after the end of its turn, where it comes behind it, s.
        turns: The turns that were told.
    """

    def __init__(self) -> None:
        super().__init__()
        self.text_s = 0.0
        self.turns: list[str] = []


class _TurnLine(Line):
    """One connection; the subclasses write its protocol."""

    rate = 16_000

    def __init__(self, provider: TurnTellingServer, request: web.Request) -> None:
        super().__init__(provider, request)
        self._provider = provider
        self._sound = bytearray()  # of the turn
        self._told = 0  # words of it

    async def hear(self, sound: bytes) -> None:
        self._sound += sound
        words = heard(self._sound, self.rate)
        if len(words) > self._told:
            if not self._told:
                await self.began(words[0])
            self._told = len(words)
            await self.went_on(" ".join(words), words[-1])
        samples = np.frombuffer(self._sound[: len(self._sound) // 2 * 2], np.int16)
        if words and not (np.abs(samples[-int(END_S * self.rate) :]) > _SILENT).any():
            self._sound.clear()
            self._told = 0
            self._provider.turns.append(" ".join(words))
            await self.ended(" ".join(words))
            self._provider.note()

    async def began(self, text: str) -> None:
        raise NotImplementedError

    async def went_on(self, text: str, word: str) -> None:
        raise NotImplementedError

    async def ended(self, text: str) -> None:
        raise NotImplementedError


class FluxServer(TurnTellingServer):
    """Deepgram's /v2/listen."""

    def routes(self) -> list[web.RouteDef]:
        return [line("/v2/listen", lambda request: _FluxLine(self, request))]


class _FluxLine(_TurnLine):
    _turn = 0

    async def opened(self) -> None:
        await self.send({"type": "Connected", "request_id": "r", "sequence_id": 0})

    async def received(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            await self.hear(message)
        elif json.loads(message)["type"] == "CloseStream":
            await self.close()

    async def began(self, text: str) -> None:
        await self._tell("StartOfTurn", text)

    async def went_on(self, text: str, word: str) -> None:
        await self._tell("Update", text)

    async def ended(self, text: str) -> None:
        await self._tell("EndOfTurn", text)
        self._turn += 1

    async def _tell(self, event: str, text: str) -> None:
        words = [{"word": word, "confidence": 0.9} for word in text.split()]
        told = {"type": "TurnInfo", "event": event, "turn_index": self._turn, "transcript": text}
        await self.send({**told, "words": words, "end_of_turn_confidence": 0.9 * (event == "EndOfTurn")})


class AssemblyAITurnsServer(TurnTellingServer):
    """AssemblyAI's streaming protocol, version 3, with its own turn detection."""

    def routes(self) -> list[web.RouteDef]:
        return [line("/v3/ws", lambda request: _AssemblyAILine(self, request))]


class _AssemblyAILine(_TurnLine):
    _turn = 0

    async def opened(self) -> None:
        await self.send({"type": "Begin", "id": "s", "expires_at": 2_000_000_000})

    async def received(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            await self.hear(message)
        elif json.loads(message)["type"] == "Terminate":
            ended = {"audio_duration_seconds": 1.0, "session_duration_seconds": 1.0}
            await self.send({"type": "Termination", **ended})
            await self.close()

    async def began(self, text: str) -> None:
        await self.send({"type": "SpeechStarted", "timestamp": 0})

    async def went_on(self, text: str, word: str) -> None:
        await self._tell(text, final=False)

    async def ended(self, text: str) -> None:
        await self._tell(text, final=True)
        self._turn += 1

    async def _tell(self, text: str, *, final: bool) -> None:
        words = [
            {"text": word, "start": 0, "end": 1, "confidence": 0.9, "word_is_final": True}
            for word in text.split()
        ]
        told = {"type": "Turn", "turn_order": self._turn, "transcript": text, "words": words}
        ends = {"turn_is_formatted": final, "end_of_turn": final, "end_of_turn_confidence": 0.9 * final}
        await self.send({**told, **ends})


class RealtimeVADServer(TurnTellingServer):
    """OpenAI's Realtime API with server VAD: the text of a turn comes behind its end."""

    def routes(self) -> list[web.RouteDef]:
        return [line("/v1/realtime", lambda request: _RealtimeLine(self, request))]


class _RealtimeLine(_TurnLine):
    rate = 24_000
    _item = 0

    async def opened(self) -> None:
        await self.send({"type": "session.created", "session": {}})

    async def received(self, message: str | bytes) -> None:
        event: dict[str, Any] = json.loads(message)
        if event["type"] == "session.update":
            assert event["session"]["audio"]["input"]["turn_detection"] == {"type": "server_vad"}
            await self.send({"type": "session.updated", "session": event["session"]})
        elif event["type"] == "input_audio_buffer.append":
            await self.hear(base64.b64decode(event["audio"]))

    async def began(self, text: str) -> None:
        self._item += 1
        await self._tell("input_audio_buffer.speech_started")

    async def went_on(self, text: str, word: str) -> None:
        await self._tell("conversation.item.input_audio_transcription.delta", delta=f"{word} ")

    async def ended(self, text: str) -> None:
        await self._tell("input_audio_buffer.speech_stopped")
        await self._tell("input_audio_buffer.committed")
        await asyncio.sleep(self._provider.text_s)
        await self._tell("conversation.item.input_audio_transcription.completed", transcript=text)

    async def _tell(self, kind: str, **fields: str) -> None:
        await self.send({"type": kind, "item_id": f"item_{self._item}", **fields})
