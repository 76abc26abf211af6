"""A bot declared with OpenAI's or Cartesia's services talks with them, and its interruptions reach them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bargein import Processor, Session
from bargein.bots import Bot
from bargein.pipeline.frames import (
    InputAudioRawFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.transports.output import AudioOutput

from ..processors.fakes import playing
from ..servers.cartesia_server import KEY as CARTESIA_KEY
from ..servers.cartesia_server import CartesiaServer
from ..servers.faults import each, until
from ..servers.openai_audio import KEY, OpenAIAudioServer
from ..servers.openai_server import OpenAIServer

pytestmark = pytest.mark.real_time

ANSWER: list[Any] = ["It is", " five in", " London,", " and six", " in Paris."]


class Servers:
    """The providers, on loopback."""

    def __init__(self) -> None:
        self.chat, self.audio, self.cartesia = OpenAIServer(), OpenAIAudioServer(), CartesiaServer()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Servers]:
        async with self.chat.serving(), self.audio.serving(), self.cartesia.serving():
            yield self

    def bot(self, hearing: str, thinking: str, speaking: str) -> Bot:
        openai = self.audio.base_url
        at: dict[str, dict[str, Any]] = {
            "openai": {"service": "openai", "base_url": openai, "api_key": KEY},
            "openai-realtime": {"service": "openai-realtime", "base_url": openai, "api_key": KEY},
            "cartesia": {"service": "cartesia", "base_url": self.cartesia.base_url},
        }
        return Bot(
            name="clock",
            stt=at[hearing],
            llm={"service": thinking, "base_url": self.chat.base_url, "api_key": KEY},
            tts=at[speaking],
            context="Be brief.",
        )

    @property
    def cut(self) -> list[str]:
        """How requests for speech ended."""
        spoken = [s.outcome.result() for s in self.audio.spoken if s.outcome.done()]
        return spoken + ["closed" for context in self.cartesia.contexts if context.cancelled]


async def say(session: Session, text: str) -> None:
    """A turn of the user in the servers' toy language; no detector takes it for speech."""
    session.push(VADUserStartedSpeakingFrame(start_secs=0.1))
    for word in each(text):
        session.push(InputAudioRawFrame(word, 16_000, 1))
    session.push(VADUserStoppedSpeakingFrame(stop_secs=0.1))


@pytest.mark.parametrize(
    ("hearing", "thinking", "speaking"),
    [
        ("openai", "openai", "openai"),
        ("openai-realtime", "openai-responses", "openai"),
        ("cartesia", "openai", "cartesia"),
    ],
)
async def test_a_bot_of_provider_services(
    hearing: str, thinking: str, speaking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARTESIA_API_KEY", CARTESIA_KEY)
    servers, output, played = Servers(), AudioOutput(16_000), bytearray()
    async with asyncio.timeout(300), servers.serving():
        servers.chat.answer = lambda messages: ANSWER
        servers.audio.chunk_s = servers.cartesia.word_s = 0.05
        bot = servers.bot(hearing, thinking, speaking)
        async with bot.open(lambda line: None, max_sessions=1) as running:
            context = bot.new_context()
            with running.pipeline(Processor(), output, context=context) as pipeline:
                async with Session(pipeline) as session, playing(output, played):
                    await say(session, "tell me the time in London and Paris")
                    await until(lambda: output.playout.queued_ms > 0)
                    await until(lambda: session.responses[0].heard)
                    session.interrupt("user_speaking")
                    await until(lambda: "closed" in servers.cut)
                    assert [m["role"] for m in context.messages] == ["system", "user", "assistant"]
                    assert context.messages[1]["content"] == "tell me the time in London and Paris"
                    heard = context.messages[2]["content"].removesuffix("—")
                    assert heard
                    assert "".join(ANSWER).startswith(heard)
                    answer = await session.send_text("again please")
                    assert answer.heard == "".join(ANSWER)
