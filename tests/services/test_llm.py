"""Stock Pipecat language-model services, hosted, against servers that speak their providers' protocols."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from google.genai.types import HttpOptions
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import LLMThoughtEndFrame
from pipecat.services.anthropic.llm import AnthropicLLMService, AnthropicThinkingConfig
from pipecat.services.google.llm import GoogleLLMService
from pipecat.services.groq.llm import GroqLLMService
from pipecat.services.llm_service import FunctionCallParams, LLMService
from pipecat.services.openai.llm import OpenAILLMService

from bargein.pipeline import UPSTREAM, Level
from bargein.pipeline.frames import (
    ErrorFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
)
from bargein.pipeline.hosted_llm import CANCELLED, HostedLLM
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import INTERRUPTED_MARK, SPEECH_STOPPED_MARK, Context
from bargein.processors.tts import TTS, Sentences
from bargein.transports.output import AudioOutput
from bargein.transports.playout import FADE_MS

from ..processors.fakes import FakeVoice
from ..servers.anthropic_server import AnthropicServer
from ..servers.faults import Fault
from ..servers.gemini_server import SIGNATURE, GeminiServer, function_call
from ..servers.openai_server import OpenAIServer, Request, Token, Trouble, refuse, tool_calls
from ..servers.scripted_model import ModelRequest
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
        several: Whether the service makes several calls of one answer; Pipecat 1.14's for Anthropic makes
            the last of them.
        plan: Lets a fault happen to the next request; what breaks off, breaks off in the answer.
        look: Calls of the function `look`, one for each place, as the provider streams them.
        told: What a request's messages say.
    """

    server: Callable[[], Any]
    service: Callable[[Any], LLMService[Any]]
    plan: Callable[[Any, Fault], None]
    look: Callable[..., list[Token]]
    told: Callable[[Any], Told]
    several: bool = True


@dataclass
class Told:
    """What a model was told: the system prompt, then all in the order of the messages."""

    instructions: str
    roles: list[str]  # "user" and "assistant", of the texts
    texts: list[str]
    calls: list[str]  # where to look
    results: list[str]


def _told_openai(request: Request) -> Told:
    system, *messages = request.messages
    texts = [m for m in messages if m.get("content") and m["role"] != "tool"]
    calls = [json.loads(c["function"]["arguments"]) for m in messages for c in m.get("tool_calls", [])]
    return Told(
        system["content"],
        [m["role"] for m in texts],
        [m["content"] for m in texts],
        [call["at"] for call in calls],
        [m["content"] for m in messages if m["role"] == "tool"],
    )


def _told_anthropic(request: ModelRequest) -> Told:
    blocks = [(m["role"], block) for m in request.body["messages"] for block in _blocks(m["content"])]
    results = [block["content"] for _, block in blocks if block["type"] == "tool_result"]
    return Told(
        "".join(block["text"] for block in _blocks(request.body["system"])),
        [role for role, block in blocks if block["type"] == "text"],
        [block["text"] for _, block in blocks if block["type"] == "text"],
        [block["input"]["at"] for _, block in blocks if block["type"] == "tool_use"],
        results,
    )


def _blocks(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _told_gemini(request: ModelRequest) -> Told:
    parts = [(c["role"], part) for c in request.body["contents"] for part in c["parts"]]
    texts = [(role, part["text"]) for role, part in parts if "text" in part]
    return Told(
        "".join(part["text"] for part in request.body["systemInstruction"]["parts"]),
        ["assistant" if role == "model" else "user" for role, _ in texts],
        [text for _, text in texts],
        [part["functionCall"]["args"]["at"] for _, part in parts if "functionCall" in part],
        [part["functionResponse"]["response"]["value"] for _, part in parts if "functionResponse" in part],
    )


def _plan_openai(server: OpenAIServer, fault: Fault) -> None:
    if fault in REFUSALS:
        server.plan(refuse(int(fault.value), x_should_retry="false"))
    elif fault is Fault.HANG:
        server.plan(Trouble("hang", 0))
    else:
        server.plan(Trouble("cut" if fault is Fault.CUT else "garbage", 2))


def _plan_anthropic(server: AnthropicServer, fault: Fault) -> None:
    (server.refusals if fault in REFUSALS else server.faults).plan(fault)


def _plan_gemini(server: GeminiServer, fault: Fault) -> None:
    (server.refusals if fault in REFUSALS else server.faults).plan(fault)


def _look_openai(*places: str) -> list[Token]:
    calls: list[Token] = []
    for index, place in enumerate(places):  # one behind the other, as OpenAI's do
        for call in tool_calls(("look", json.dumps({"at": place}), f"call_{place}")):
            assert isinstance(call, dict)
            call["tool_calls"][0]["index"] = index
            calls.append(call)
    return calls


def _look_anthropic(*places: str) -> list[Token]:
    return [{"name": "look", "input": {"at": place}} for place in places]


def _look_gemini(*places: str) -> list[Token]:
    return [function_call("look", at=place, signed=place is places[0]) for place in places]


REFUSALS = (Fault.RATE_LIMITED, Fault.BROKEN, Fault.UNAUTHORIZED)


MODELS = {
    "openai": Model(
        OpenAIServer,
        lambda server: OpenAILLMService(
            api_key="k", base_url=server.base_url, settings=OpenAILLMService.Settings(model="m")
        ),
        _plan_openai,
        _look_openai,
        _told_openai,
    ),
    "groq": Model(
        OpenAIServer,
        lambda server: GroqLLMService(
            api_key="k", base_url=server.base_url, settings=GroqLLMService.Settings(model="m")
        ),
        _plan_openai,
        _look_openai,
        _told_openai,
    ),
    "anthropic": Model(
        AnthropicServer,
        lambda server: AnthropicLLMService(
            api_key="k", client=AsyncAnthropic(api_key="k", base_url=server.url, max_retries=0)
        ),
        _plan_anthropic,
        _look_anthropic,
        _told_anthropic,
        several=False,
    ),
    "google": Model(
        GeminiServer,
        lambda server: GoogleLLMService(
            api_key="k",
            http_options=HttpOptions(base_url=server.url),
            settings=GoogleLLMService.Settings(model="gemini-3.6-flash"),
        ),
        _plan_gemini,
        _look_gemini,
        _told_gemini,
    ),
}

TWICE = f"{LONG} {LONG}"

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
        told = model.told(bot.model.requests[-1])
        assert "Be brief." in told.instructions
        assert told.roles == ["user", "assistant", "user"]
        assert told.texts == ["Tell me.", "You said that.", "Tell me."]


@models
async def test_a_full_interruption_closes_the_stream(model: Model) -> None:
    async with thinking(model) as bot:
        bot.model.token_s = 0.001
        bot.ask(TWICE)
        await until(lambda: bot.model.requests and bot.model.requests[0].sent >= len(LONG.split()))
        bot.model.token_s = 1e6
        await bot.speaker.until_played(200)
        report = await bot.interrupt(Level.FULL)
        words = len(bot.test.received(LLMTextFrame))
        assert await outcomes([bot.model.requests[0].outcome]) == ["closed"]
        assert bot.model.requests[0].sent < len(TWICE.split())
        assert report.heard
        assert bot.last_message["content"] == report.heard.rstrip() + INTERRUPTED_MARK
        assert len(bot.test.received(LLMTextFrame)) == words
        await _next_answer_is_said(bot)


@models
async def test_a_speech_only_interruption_lets_the_stream_finish(model: Model) -> None:
    async with thinking(model) as bot:
        bot.model.token_s = 0.001
        bot.ask(TWICE)
        await until(lambda: bot.model.requests and bot.model.requests[0].sent >= len(LONG.split()))
        bot.model.token_s = 0.2
        await bot.speaker.until_played(200)
        await bot.interrupt(Level.SPEECH)
        played = len(bot.speaker.played)
        bot.model.token_s = 0.0
        assert await outcomes([bot.model.requests[0].outcome]) == ["finished"]
        await until(lambda: bot.test.received(LLMFullResponseEndFrame))
        assert "".join(f.text for f in bot.test.received(LLMTextFrame)) == TWICE
        shown = bot.last_message["content"]
        assert shown.replace(SPEECH_STOPPED_MARK, "").split() == TWICE.split()
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
            bot.model.token_s = 1e6
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
        bot.model.token_s = 1e6
        bot.test.session.cancel()
    assert await outcomes([bot.model.requests[0].outcome]) == ["closed"]


# Function calls --------------------------------------------------------------------------------------

LOOK = FunctionSchema("look", "Look at a place.", {"at": {"type": "string"}}, ["at"])
SEEN = {"sky": "blue", "sea": "grey"}


@asynccontextmanager
async def looking(model: Model, looks: Callable[[FunctionCallParams], Any]) -> AsyncIterator[Bot]:
    """A bot that may look at places."""
    async with thinking(model) as bot:
        bot.context.llm_context.set_tools(ToolsSchema([LOOK]))
        service = next(p.stock for p in bot.test.session.pipeline.processors if isinstance(p, HostedLLM))
        assert isinstance(service, LLMService)
        service.register_function("look", looks)
        yield bot


@models
async def test_functions_are_called_and_the_model_is_told_all_of_it(model: Model) -> None:
    """Two calls in one answer, behind words that belong to the same message."""

    async def look(params: FunctionCallParams) -> None:
        await params.result_callback(SEEN[params.arguments["at"]])

    places = list(SEEN) if model.several else ["sky"]
    async with looking(model, look) as bot:
        bot.model.script(
            [*tokens("Let me look."), *model.look(*places)], tokens("Blue and grey."), tokens(NEXT)
        )
        bot.test.session.send_text("Tell me.")
        await until(lambda: bot.last_message.get("content") == "Blue and grey.")
        roles = [m["role"] for m in bot.context.messages[1:]]
        assert roles == ["user", "assistant", *("tool" for _ in places), "assistant"]
        told = model.told(bot.model.requests[1])
        assert (told.calls, told.results) == (places, [SEEN[place] for place in places])
        assert told.texts == ["Tell me.", "Let me look."]
        await until(lambda: not bot.test.session.responding)
        bot.test.session.send_text("And now?")
        await until(lambda: bot.last_message["content"] == NEXT)
        told = model.told(bot.model.requests[2])
        assert told.texts == ["Tell me.", "Let me look.", "Blue and grey.", "And now?"]
        assert await outcomes(r.outcome for r in bot.model.requests) == ["finished"] * 3


@models
@levels
async def test_an_interruption_while_a_function_runs_leaves_one_result(model: Model, level: Level) -> None:
    runs, may_end = asyncio.Event(), asyncio.Event()

    async def look(params: FunctionCallParams) -> None:
        runs.set()
        await may_end.wait()
        await params.result_callback("blue")

    async with looking(model, look) as bot:
        bot.model.script(model.look("sky"), tokens("It is blue."))
        bot.test.session.send_text("Tell me.")
        await runs.wait()
        await bot.interrupt(level)
        if level is Level.FULL:
            await until(lambda: bot.last_message["content"] == CANCELLED)
        else:
            may_end.set()
            await until(lambda: "It is blue." in str(bot.last_message.get("content")))
        await until(lambda: not bot.test.session.responding)
        assert not bot.speaker.played
        await _next_answer_is_said(bot)
        told = model.told(bot.model.requests[-1])
        assert told.calls == ["sky"]
        assert told.results == [CANCELLED if level is Level.FULL else "blue"]
        assert len(bot.model.requests) == (2 if level is Level.FULL else 3)


# Thoughts --------------------------------------------------------------------------------------------

THOUGHT: dict[str, Any] = {"thinking": "The sky is above.", "signature": "signed"}


async def test_claude_is_given_its_thoughts_back() -> None:
    """With extended thinking it refuses the results of calls without the thought that led to them."""

    async def look(params: FunctionCallParams) -> None:
        await params.result_callback("blue")

    def service(server: AnthropicServer) -> LLMService[Any]:
        client = AsyncAnthropic(api_key="k", base_url=server.url, max_retries=0)
        thinking = AnthropicThinkingConfig(type="enabled", budget_tokens=1024)
        settings = AnthropicLLMService.Settings(thinking=thinking)
        return AnthropicLLMService(api_key="k", client=client, settings=settings)

    async with looking(replace(MODELS["anthropic"], service=service), look) as bot:
        bot.model.script(
            [THOUGHT, "Let me look.", *_look_anthropic("sky")],
            tokens("It is blue."),
            [THOUGHT, *tokens(LONG)],
        )
        bot.test.session.send_text("Tell me.")
        await until(lambda: bot.last_message.get("content") == "It is blue.")
        _, asked, result = bot.model.requests[1].body["messages"]
        assert [block["type"] for block in asked["content"]] == ["thinking", "text", "tool_use"]
        assert asked["content"][0] == {"type": "thinking", **THOUGHT}
        assert result["content"][0]["content"] == "blue"
        await until(lambda: not bot.test.session.responding)

        # A thought whose answer is cut before its first word goes with it.
        bot.model.token_s = 1.0
        bot.test.session.send_text("Tell me more.")
        await bot.test.expect(LLMThoughtEndFrame)
        await bot.test.expect(LLMThoughtEndFrame)
        await bot.interrupt(Level.FULL)
        await _next_answer_is_said(bot)
        told = bot.model.requests[-1].body["messages"]
        assert sum(block["type"] == "thinking" for m in told for block in _blocks(m["content"])) == 1


async def test_gemini_is_given_its_signatures_back() -> None:
    async def look(params: FunctionCallParams) -> None:
        await params.result_callback(SEEN[params.arguments["at"]])

    async with looking(MODELS["google"], look) as bot:
        bot.model.script(_look_gemini("sky", "sea"), tokens("Blue and grey."))
        bot.test.session.send_text("Tell me.")
        await until(lambda: bot.last_message.get("content") == "Blue and grey.")
        _, asked, results = bot.model.requests[1].body["contents"]
        assert [part.get("thoughtSignature") for part in asked["parts"]] == [SIGNATURE, None]
        assert [part["functionResponse"]["response"] for part in results["parts"]] == [
            {"value": "blue"},
            {"value": "grey"},
        ]
