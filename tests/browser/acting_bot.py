"""A bot whose user and model act as a test says: all in between is real, and so are connection and page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from bargein import Session
from bargein.bots import Bot, RunningBot
from bargein.bots.live_policies import offer_policies
from bargein.bots.parts import LLMPart, STTPart, TTSPart, every
from bargein.bots.place import Shared
from bargein.bots.server import create_app
from bargein.pipeline.observing import Turns
from bargein.processors.services.openai_chat import ChatCompletions
from bargein.transports.ends import ends_of
from bargein.transports.rtvi import RTVI
from bargein.transports.webrtc import WebRTCConnection, WebRTCInput

from ..bots.scripted import SYLLABLES
from ..processors.fakes import FakeEndOfTurn, FakeTranscriber, FakeVAD, FakeVoice
from ..servers.openai_server import OpenAIServer, Token, tool_calls


class User(WebRTCInput):
    """Somebody at the page, who speaks when told to, whatever the microphone hears."""

    def __init__(self, connection: WebRTCConnection, transcriber: FakeTranscriber) -> None:
        super().__init__(connection)
        self._transcriber = transcriber
        self._left = 0  # blocks of speech
        self._silent = asyncio.Event()

    async def say(self, text: str, seconds: float) -> None:
        """Speak for so long; it is understood as this text."""
        self._transcriber.script.append((text, 0.1))
        self._left = round(seconds / 0.02)
        self._silent.clear()
        await self._silent.wait()

    def _hear(self, pcm: bytes) -> None:
        if self._left:
            self._left -= 1
            pcm = SYLLABLES[self._left // 5 % 2]
            if not self._left:
                self._silent.set()
        else:
            pcm = bytes(len(pcm))
        super()._hear(pcm)


async def look_up_tide(place: str) -> str:
    """When the tide is high."""
    await asyncio.sleep(0.8)
    return f"High water at {place} is at ten past four."


class ActingBot:
    """Serves one page after the other.

    Attributes:
        model: Says what the model answers.
        user: Of the session that began last.
    """

    def __init__(self, model: OpenAIServer) -> None:
        self.model = model
        self.user: User | None = None
        self.app: FastAPI = create_app(self.run)

    def answers(self, *answers: str | list[Token]) -> None:
        """What the model says from now on, one after the other."""
        self.model.script(*(pieces(a) if isinstance(a, str) else a for a in answers))

    async def say(self, text: str, seconds: float = 1.0) -> None:
        """Let the user speak."""
        assert self.user is not None
        await self.user.say(text, seconds)

    async def run(self, connection: WebRTCConnection) -> None:
        bot = Bot(name="acting", stt="local", llm="local", tts="local", tools=[look_up_tide])
        transcriber, ends = FakeTranscriber([]), ends_of(connection)
        self.user = User(connection, transcriber)
        shared = Shared(FakeVAD, FakeEndOfTurn([0.9] * 1000))
        async with self.model.client() as client:
            for part in every(bot.declaration.parts):
                if isinstance(part, STTPart):
                    shared.opened.append((part, transcriber))
                elif isinstance(part, LLMPart):
                    shared.opened.append((part, [lambda session: ChatCompletions(client, "acting")]))
                elif isinstance(part, TTSPart):
                    shared.opened.append((part, FakeVoice(delay_s=0.05)))
            page = RTVI(connection, ends.sink.playout, report_calls=bot.declaration.report_calls)
            with RunningBot(bot, shared).pipeline(self.user, ends.sink, page) as pipeline:
                offer_policies(pipeline, page)
                session = Session(pipeline)
                Turns(session, page)
                await session.run()


def pieces(text: str) -> list[Token]:
    """A text as a model makes it."""
    return list(re.findall(r"\s*\S+", text))


def tide_call(place: str) -> list[Token]:
    """The model calls `look_up_tide`."""
    return tool_calls(("look_up_tide", f'{{"place": "{place}"}}'))


@asynccontextmanager
async def acting() -> AsyncIterator[ActingBot]:
    """The bot; its model makes a piece of text each 20 ms."""
    model = OpenAIServer()
    model.token_s = 0.02
    yield ActingBot(model)
