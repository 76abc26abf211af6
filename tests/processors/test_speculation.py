"""Answers begun before the turn is over: taken over when it ends so, gone without a trace otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from openai import AsyncOpenAI
from pipecat.frames.frames import FunctionCallsStartedFrame

from bargein.pipeline.frames import (
    UPSTREAM,
    EagerTranscriptionFrame,
    ErrorFrame,
    Frame,
    LikelyEndOfTurnFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    UserResumedFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import Context
from bargein.processors.llm import LLM

from ..servers.openai_server import OpenAIServer, tool_calls

pytestmark = pytest.mark.real_time

VISIBLE = (LLMFullResponseStartFrame, LLMTextFrame, LLMFullResponseEndFrame)


class Talk:
    def __init__(self, test: PipelineTest, server: OpenAIServer, context: Context) -> None:
        self.test, self.server, self.context = test, server, context

    def pause(self, text: str) -> None:
        """The user falls silent; this would be the transcript, and the turn is likely over."""
        self.test.send(EagerTranscriptionFrame(text, "user", "0"))
        self.test.send(LikelyEndOfTurnFrame())

    def end_turn(self, text: str) -> None:
        final = TranscriptionFrame(text, "user", "0", finalized=True)
        final.interruptible = False
        self.test.send(final)
        self.test.send(UserStoppedSpeakingFrame())

    async def requested(self, count: int) -> None:
        while len(self.server.requests) < count:
            self.server.arrived.clear()
            await asyncio.wait_for(self.server.arrived.wait(), 60)

    @property
    def visible(self) -> list[Frame]:
        return [f for f in self.test.received(Frame) if isinstance(f, VISIBLE)]


@asynccontextmanager
async def talking(
    token_s: float = 0.0, *, speculate: bool = True, tools: Iterable[Callable[..., Any]] = ()
) -> AsyncIterator[Talk]:
    async with OpenAIServer().serving() as server:
        server.token_s = token_s
        client = AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0)
        context = Context("", speculate=speculate)
        async with (
            client,
            PipelineTest(context.user, LLM(client, "m", tools=tools), context.assistant) as test,
        ):
            yield Talk(test, server, context)


async def test_a_confirmed_turn_takes_the_answer_begun_ahead() -> None:
    async with talking() as talk:
        talk.pause("hello there")
        await talk.requested(1)
        await asyncio.wait_for(talk.server.requests[0].outcome, 60)
        assert talk.visible == []
        talk.end_turn("hello there")
        await talk.test.expect(LLMFullResponseStartFrame)
        await talk.test.expect(LLMTextFrame, text="Hello.")
        await talk.test.expect(LLMFullResponseEndFrame)
        assert len(talk.server.requests) == 1
        assert [m["content"] for m in talk.context.messages[1:]] == ["hello there", "Hello."]


async def test_a_user_who_speaks_on_leaves_no_trace_of_it() -> None:
    for frame in (UserResumedFrame(), VADUserStartedSpeakingFrame()):
        async with talking(token_s=1e6) as talk:
            talk.pause("hello")
            await talk.requested(1)
            talk.test.send(frame)
            assert await asyncio.wait_for(talk.server.requests[0].outcome, 60) == "closed"
            assert talk.visible == []
            assert len(talk.context.messages) == 1
            assert talk.test.stats.interruptions == 0
            assert not talk.test.session.responding


async def test_another_transcript_is_answered_afresh() -> None:
    async with talking() as talk:
        talk.pause("hello")
        await talk.requested(1)
        talk.end_turn("hello you")
        await talk.test.expect(LLMFullResponseEndFrame)
        assert talk.server.requests[1].body["messages"][-1]["content"] == "hello you"
        assert len(talk.test.received(LLMFullResponseStartFrame)) == 1


async def test_nothing_is_guessed_before_the_end_is_likely_or_while_the_bot_answers() -> None:
    async with talking(token_s=0.05) as talk:
        talk.test.send(EagerTranscriptionFrame("hello", "user", "0"))
        talk.end_turn("hello")
        await talk.test.expect(LLMFullResponseStartFrame)
        talk.pause("mm-hmm")
        await talk.test.expect(LLMFullResponseEndFrame)
        assert len(talk.server.requests) == 1


async def test_a_context_that_does_not_speculate_asks_when_the_turn_is_over() -> None:
    async with talking(speculate=False) as talk:
        talk.pause("hello")
        await talk.test.expect_none(LLMTextFrame, within=0.1)
        assert not talk.server.requests
        talk.end_turn("hello")
        await talk.test.expect(LLMFullResponseEndFrame)
        assert len(talk.server.requests) == 1


async def test_a_typed_message_meanwhile_makes_the_guess_void() -> None:
    async with talking() as talk:
        talk.pause("hello")
        await talk.requested(1)
        talk.test.session.send_text("typed")
        await talk.test.expect(LLMFullResponseEndFrame)
        assert talk.server.requests[-1].body["messages"][-1]["content"] == "typed"


async def test_a_guess_that_fails_is_the_answer_that_fails() -> None:
    client, context = AsyncOpenAI(base_url="http://127.0.0.1:9", api_key="k", max_retries=0), Context("")
    async with client, PipelineTest(context.user, LLM(client, "m"), context.assistant) as test:
        talk = Talk(test, OpenAIServer(), context)
        talk.pause("hello")
        await asyncio.sleep(0)
        talk.end_turn("hello")
        await test.expect(ErrorFrame, UPSTREAM)
        await test.expect(LLMFullResponseEndFrame)


@dataclass
class Till:
    """A tool that must not be called before the turn is over."""

    paid: int = 0

    def pay(self) -> str:
        """Pay."""
        self.paid += 1
        return "paid"


async def test_a_guess_calls_no_tool_before_the_turn_is_over_and_then_once() -> None:
    till = Till()
    async with talking(tools=[till.pay]) as talk:
        talk.server.script([*tool_calls(("pay", ""))], ["Paid."])
        talk.pause("pay it")
        await talk.requested(1)
        await asyncio.wait_for(talk.server.requests[0].outcome, 60)
        await talk.test.expect_none(FunctionCallsStartedFrame, within=0.1)
        assert (till.paid, len(talk.context.messages)) == (0, 1)
        talk.end_turn("pay it")
        await talk.test.expect(LLMTextFrame, text="Paid.")
        assert (till.paid, len(talk.server.requests)) == (1, 2)


@pytest.mark.parametrize("how", ["speaks on", "says more", "interrupts"])
async def test_a_guess_that_is_thrown_away_has_called_nothing(how: str) -> None:
    till = Till()
    async with talking(tools=[till.pay]) as talk:
        talk.server.script([*tool_calls(("pay", ""))], ["No."])
        talk.pause("pay it")
        await talk.requested(1)
        await asyncio.wait_for(talk.server.requests[0].outcome, 60)
        if how == "speaks on":
            talk.test.send(VADUserStartedSpeakingFrame())
        elif how == "interrupts":
            talk.test.session.interrupt()
        talk.end_turn("pay it not")
        await talk.test.expect(LLMTextFrame, text="No.")
        assert till.paid == 0
        assert not talk.test.received(FunctionCallsStartedFrame)
