"""Stock Pipecat language-model services, hosted, against servers that speak their providers' protocols."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.anthropic.llm import AnthropicLLMService
from pipecat.services.groq.llm import GroqLLMService
from pipecat.services.openai.llm import OpenAILLMService

from bargein.pipeline import UPSTREAM, Level
from bargein.pipeline.frames import (
    ErrorFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import INTERRUPTED_MARK, SPEECH_STOPPED_MARK, Context
from bargein.processors.tts import TTS, Sentences
from bargein.transports.output import AudioOutput
from bargein.transports.playout import FADE_MS

from ..processors.fakes import FakeVoice
from ..servers.anthropic_server import AnthropicServer
from ..servers.faults import Fault
from ..servers.openai_server import OpenAIServer, Trouble, refuse
from .bots import (
    LIBRARY_WARNINGS,
    LONG,
    NEXT,
    RATE,
    Bot,
    Loudspeaker,
    closing_client,
    outcomes,
    tokens,
    until,
)

pytestmark = [pytest.mark.real_time, *LIBRARY_WARNINGS]


@dataclass(frozen=True)
class Model:
    """A service and its provider.

    Attributes:
        plan: Lets a fault happen to the next request; what breaks off, breaks off in the answer.
    """

    server: Callable[[], Any]
    service: Callable[[Any], FrameProcessor]
    plan: Callable[[Any, Fault], None]


def _plan_openai(server: OpenAIServer, fault: Fault) -> None:
    if fault in REFUSALS:
        server.plan(refuse(int(fault.value), x_should_retry="false"))
    elif fault is Fault.HANG:
        server.plan(Trouble("hang", 0))
    else:
        server.plan(Trouble("cut" if fault is Fault.CUT else "garbage", 2))


def _plan_anthropic(server: AnthropicServer, fault: Fault) -> None:
    (server.refusals if fault in REFUSALS else server.faults).plan(fault)


REFUSALS = (Fault.RATE_LIMITED, Fault.BROKEN, Fault.UNAUTHORIZED)


MODELS = {
    "openai": Model(
        OpenAIServer,
        lambda server: OpenAILLMService(
            api_key="k", base_url=server.base_url, settings=OpenAILLMService.Settings(model="m")
        ),
        _plan_openai,
    ),
    "groq": Model(
        OpenAIServer,
        lambda server: GroqLLMService(
            api_key="k", base_url=server.base_url, settings=GroqLLMService.Settings(model="m")
        ),
        _plan_openai,
    ),
    "anthropic": Model(
        AnthropicServer,
        lambda server: AnthropicLLMService(
            api_key="k", client=AsyncAnthropic(api_key="k", base_url=server.url, max_retries=0)
        ),
        _plan_anthropic,
    ),
}

models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
levels = pytest.mark.parametrize("level", Level)


@asynccontextmanager
async def thinking(model: Model) -> AsyncIterator[Bot]:
    server, context, output = model.server(), Context("Be brief."), AudioOutput(RATE)
    voice = TTS(FakeVoice(RATE, delay_s=0.0))
    async with server.serving():
        service = model.service(server)
        test = PipelineTest(context.user, service, context.assistant, Sentences(), voice, output)
        speaker = Loudspeaker(output)
        async with closing_client(service), test, speaker.playing():
            yield Bot(test, server, context, speaker)
            assert test.stats.undead == 0


async def _next_answer_is_said(bot: Bot) -> None:
    """The next answer comes, whole, and nothing else."""
    bot.model.token_s = 0.0
    before = len(bot.test.received(LLMTextFrame))
    bot.ask(NEXT)
    await bot.said()
    assert [f.text for f in bot.test.received(LLMTextFrame)[before:]] == tokens(NEXT)
    assert bot.last_message == {"role": "assistant", "content": NEXT}
    assert bot.speaker.played
    assert await outcomes([bot.model.requests[-1].outcome]) == ["finished"]


@models
async def test_a_conversation(model: Model) -> None:
    async with thinking(model) as bot:
        bot.ask("You said that.")
        await bot.test.expect(LLMFullResponseStartFrame)
        await bot.test.expect(LLMFullResponseEndFrame)
        await bot.said()
        assert [f.text for f in bot.test.received(LLMTextFrame)] == ["You ", "said ", "that."]
        await _next_answer_is_said(bot)
        body = bot.model.requests[-1].body
        system = body.get("system") or body["messages"][0]["content"]
        assert "Be brief." in str(system)
        assert [m["role"] for m in body["messages"] if m["role"] != "system"] == ["user", "assistant", "user"]


@models
async def test_a_full_interruption_closes_the_stream(model: Model) -> None:
    async with thinking(model) as bot:
        bot.model.token_s = 0.02
        bot.ask(LONG)
        await bot.speaker.until_played(200)
        report = await bot.interrupt(Level.FULL)
        words = len(bot.test.received(LLMTextFrame))
        assert await outcomes([bot.model.requests[0].outcome]) == ["closed"]
        assert bot.model.requests[0].sent < len(LONG.split())
        assert report.heard
        assert bot.last_message["content"] == report.heard.rstrip() + INTERRUPTED_MARK
        assert len(bot.test.received(LLMTextFrame)) == words
        await _next_answer_is_said(bot)


@models
async def test_a_speech_only_interruption_lets_the_stream_finish(model: Model) -> None:
    async with thinking(model) as bot:
        bot.model.token_s = 0.02
        bot.ask(LONG)
        await bot.speaker.until_played(200)
        await bot.interrupt(Level.SPEECH)
        played = len(bot.speaker.played)
        assert await outcomes([bot.model.requests[0].outcome]) == ["finished"]
        await bot.test.expect(LLMFullResponseEndFrame)
        assert "".join(f.text for f in bot.test.received(LLMTextFrame)) == LONG
        shown = bot.last_message["content"]
        assert shown.replace(SPEECH_STOPPED_MARK, "").split() == LONG.split()
        assert len(bot.speaker.played) - played <= FADE_MS * RATE * 2 // 1000
        await _next_answer_is_said(bot)


@models
async def test_interrupted_before_the_first_token(model: Model) -> None:
    async with thinking(model) as bot:
        bot.model.token_s = 1e6
        bot.ask(LONG)
        await until(lambda: bot.model.requests)
        assert (await bot.interrupt(Level.FULL)).heard == ""
        assert await outcomes([bot.model.requests[0].outcome]) == ["closed"]
        assert bot.last_message["role"] == "user"
        await _next_answer_is_said(bot)


@models
async def test_interrupted_over_and_over(model: Model) -> None:
    async with thinking(model) as bot:
        for _ in range(5):
            bot.model.token_s = 0.02
            bot.ask(LONG)
            await bot.test.expect(LLMTextFrame)
            await bot.interrupt(Level.FULL)
        await _next_answer_is_said(bot)
        ends = await outcomes(r.outcome for r in bot.model.requests)
        assert ends == ["closed"] * 5 + ["finished"]


@models
@pytest.mark.parametrize("fault", REFUSALS)
async def test_a_refused_request_is_told_and_the_next_one_is_answered(model: Model, fault: Fault) -> None:
    async with thinking(model) as bot:
        model.plan(bot.model, fault)
        bot.ask(NEXT)
        error = await bot.test.expect(ErrorFrame, UPSTREAM)
        assert fault.value in error.error
        assert await outcomes([bot.model.requests[0].outcome]) == ["refused"]
        if fault is not Fault.UNAUTHORIZED:  # Pipecat gives such a service no more work
            await _next_answer_is_said(bot)


@models
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.GARBAGE])
async def test_a_broken_stream_is_told_and_the_next_request_is_answered(model: Model, fault: Fault) -> None:
    async with thinking(model) as bot:
        model.plan(bot.model, fault)
        bot.ask(LONG)
        await bot.test.expect(ErrorFrame, UPSTREAM)
        await bot.test.expect(LLMFullResponseEndFrame)
        await _next_answer_is_said(bot)


@models
async def test_a_model_that_hangs_holds_nobody_up(model: Model) -> None:
    async with thinking(model) as bot:
        model.plan(bot.model, Fault.HANG)
        bot.ask(LONG)
        await until(lambda: bot.model.requests)
        await bot.interrupt(Level.FULL)
        assert await outcomes([bot.model.requests[0].outcome]) == ["closed"]
        await _next_answer_is_said(bot)


@models
async def test_a_cancelled_session_closes_the_stream(model: Model) -> None:
    async with thinking(model) as bot:
        bot.model.token_s = 0.02
        bot.ask(LONG)
        await bot.test.expect(LLMTextFrame)
        bot.test.session.cancel()
    assert await outcomes([bot.model.requests[0].outcome]) == ["closed"]
