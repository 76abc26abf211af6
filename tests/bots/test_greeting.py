"""What a bot says first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bargein import Processor, Session
from bargein.bots import Bot, RunningBot, load_bot
from bargein.bots.parts import LLMPart, every
from bargein.bots.place import Shared
from bargein.bots.rehearsal import rehearsal
from bargein.pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    SpeechHoldFrame,
    TTSTextFrame,
)
from bargein.processors.context import INTERRUPTED_MARK
from bargein.transports.rtvi import rtvi

from ..processors.fakes import FakeVAD
from .scripted import Conversation, conversation

HELLO = "Good day, this is the library, and everything in it can be borrowed for a month."


def library(greeting: Any = HELLO) -> Bot:
    return Bot(name="library", greeting=greeting, stt="local", llm="local", tts="local")


def ready(talk: Conversation) -> None:
    """The client is there."""
    talk.channel.on_message(rtvi("client-ready", {"version": "2.0.0"}, "1"))


async def test_it_is_said_once_the_client_is_ready_and_once_only() -> None:
    async with conversation(library(), "What is this?") as talk:
        talk.server.script(["A library."])
        await asyncio.sleep(2)
        assert talk.said == []
        ready(talk)
        ready(talk)
        await talk.until(BotStoppedSpeakingFrame)
        kinds = [m["type"] for m in talk.channel.received]
        assert (kinds[0], kinds.count("bot-ready")) == ("bot-ready", 2)
        assert "".join(talk.voice.spoken) == HELLO
        assert "".join(talk.channel.texts("bot-tts-text")) == HELLO
        await talk.say()
        await talk.quiet()
        asked = [(m["role"], m["content"]) for m in talk.server.requests[0].messages[1:]]
        assert asked == [("assistant", HELLO), ("user", "What is this?")]
        assert talk.said == [HELLO, "A library."]


async def test_who_talks_over_it_interrupts_it_and_the_model_knows_what_was_heard() -> None:
    async with conversation(library(), "No, stop, tell me of the books.") as talk:
        talk.server.script(["Books are many."])
        ready(talk)
        await talk.until(TTSTextFrame, 4)
        await talk.say(2.0)
        await talk.quiet()
        first, second = talk.said
        assert first.endswith(INTERRUPTED_MARK)
        assert HELLO.startswith(first.removesuffix(INTERRUPTED_MARK))
        assert len(first) < len(HELLO)
        assert second == "Books are many."
        assert talk.server.requests[0].messages[1]["content"] == first


async def test_a_critical_one_is_said_to_its_end() -> None:
    async with conversation(
        library({"text": HELLO, "critical": True}), "No, stop, tell me of the books."
    ) as talk:
        talk.server.script(["Books are many."])
        ready(talk)
        await talk.until(TTSTextFrame, 4)
        await talk.say(2.0)
        await talk.quiet()
        assert talk.said == [HELLO, "Books are many."]
        assert not any(isinstance(frame, SpeechHoldFrame) for frame in talk.frames)


async def test_without_a_client_to_wait_for_it_is_said_when_the_session_begins() -> None:
    bot = library()
    async with rehearsal(bot, "Yes.") as talk:
        assert await talk.write("Is it open?") == "Yes."
        assert [m["content"] for m in talk.messages[1:]] == [HELLO, "Is it open?", "Yes."]


async def test_each_session_is_greeted() -> None:
    bot = Bot(name="typist", greeting="Hello.", llm="local")
    shared = Shared(FakeVAD, None)
    shared.opened = [
        (part, [lambda session: None]) for part in every(bot.declaration.parts) if isinstance(part, LLMPart)
    ]
    running = RunningBot(bot, shared)
    for _ in range(2):
        context = bot.new_context()
        with running.pipeline(Processor(), Processor(), context=context) as pipeline:
            async with Session(pipeline) as session:
                await asyncio.sleep(1)
                assert not session.responding
        assert [m["content"] for m in context.messages[1:]] == ["Hello."]


@pytest.mark.parametrize("name", ["receptionist", "phone"])
async def test_the_shipped_ones(name: str) -> None:
    bot = load_bot(name)
    assert bot.declaration.greeting is not None
    async with conversation(bot) as talk:
        ready(talk)
        await talk.until(BotStartedSpeakingFrame)
        await talk.until(BotStoppedSpeakingFrame)
        assert talk.said == [bot.declaration.greeting.text]
