"""A `VoiceAgent` in virtual time: a server in the process says what its model answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, get_args

from bargein.bots.voice_agent import VoiceAgent
from bargein.bots.voice_agent.events import AudioChunk, Event, EventName
from bargein.processors.services.openai_chat import ChatCompletions
from bargein.processors.services.openai_responses import Responses

from ...processors.fakes import FakeTranscriber, FakeVoice
from ...servers.openai_server import Messages, OpenAIServer, invalid

E = TypeVar("E", bound=Event)
SECOND = b"\1\1" * 16_000  # of a recording


@dataclass
class Talk:
    """An agent and all that it told, audio apart."""

    agent: VoiceAgent
    server: OpenAIServer
    voice: FakeVoice
    transcriber: FakeTranscriber
    told: list[Event] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sounds: list[tuple[float, AudioChunk]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def listen(self) -> None:
        """Listen to everything."""
        for name in get_args(EventName):
            self.agent.on(name, partial(self.take, name))

    def take(self, name: str, event: Event) -> None:
        if isinstance(event, AudioChunk):
            if any(event.data):
                self.sounds.append((asyncio.get_running_loop().time(), event))
        else:
            self.told.append(event)
            self.names.append(name)
        self._news.set()

    def of(self, kind: type[E]) -> list[E]:
        """All events of a class."""
        return [event for event in self.told if isinstance(event, kind)]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait, from event to event, until something is so."""
        async with asyncio.timeout(60):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def sounding(self, seconds: float = 0.0) -> None:
        """Wait until the voice is heard, and then so long."""
        heard = len(self.sounds)
        await self.until(lambda: len(self.sounds) > heard)
        await asyncio.sleep(seconds)

    @property
    def history(self) -> Messages:
        return self.agent.get_history()


def doing(agent: VoiceAgent) -> list[str]:
    """What it is doing."""
    states = {
        "processing": agent.processing,
        "speaking": agent.speaking,
        "pending": agent.pending_speech_chunks,
    }
    return [name for name, state in states.items() if state]


@asynccontextmanager
async def talking(
    *understood: str,
    tools: tuple[Callable[..., Any], ...] = (),
    stt_s: float = 0.1,
    kind: type[VoiceAgent] = VoiceAgent,
    chat: type[ChatCompletions | Responses] = ChatCompletions,
    **options: Any,
) -> AsyncIterator[Talk]:
    """An agent whose recogniser understands these texts, one after the other."""
    server, voice = OpenAIServer(), FakeVoice()
    server.token_s = 0.01
    transcriber = FakeTranscriber([(text, stt_s) for text in understood])
    async with server.client() as client:
        speaks: dict[str, Any] = {"speech_model": voice, "transcription_model": transcriber} | options
        agent = kind(model=chat(client, "m"), tools=tools, instructions="Be brief.", **speaks)
        talk = Talk(agent, server, voice, transcriber)
        talk.listen()
        async with agent:
            yield talk
    assert all(invalid(request.messages) is None for request in server.requests)
