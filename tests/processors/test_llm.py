"""The language model through the real `openai` client: streaming, and closing the connection."""

from __future__ import annotations

import asyncio

import pytest
from openai import AsyncOpenAI

from bargein.pipeline import UPSTREAM, Level, SpeechInterruptedFrame
from bargein.pipeline.frames import (
    ErrorFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
)
from bargein.pipeline.testing import PipelineTest, regex
from bargein.processors.context import Context
from bargein.processors.llm import LLM

from ..servers.openai_server import OpenAIServer, invalid, tool_calls

pytestmark = pytest.mark.real_time


async def test_the_answer_is_streamed_with_the_options_given() -> None:
    async with OpenAIServer().serving() as server:
        server.answer = lambda messages: ["You said ", str(messages[-1]["content"]), "."]
        async with AsyncOpenAI(base_url=server.base_url, api_key="secret") as client:
            context = Context("Be brief.")
            context.llm_context.add_message({"role": "user", "content": "hi"})
            async with PipelineTest(LLM(client, "m", temperature=0.5)) as test:
                test.send(LLMContextFrame(context.llm_context))
                await test.expect(LLMFullResponseStartFrame)
                await test.expect(LLMFullResponseEndFrame)
                assert [f.text for f in test.received(LLMTextFrame)] == ["You said ", "hi", "."]
        body = server.requests[0].body
        assert (body["model"], body["temperature"], body["stream"]) == ("m", 0.5, True)
        assert body["messages"][0]["content"].startswith("Be brief.")


async def test_a_full_interruption_closes_the_connection_and_the_next_answer_comes() -> None:
    async with OpenAIServer().serving() as server:
        server.answer = lambda messages: ["word "] * 1000
        server.token_s = 0.01
        async with AsyncOpenAI(base_url=server.base_url, api_key="secret") as client:
            context = Context("Be brief.")
            async with PipelineTest(LLM(client, "m")) as test:
                test.send(LLMContextFrame(context.llm_context))
                await test.expect(LLMTextFrame)
                test.interrupt()
                assert await asyncio.wait_for(server.requests[0].outcome, 60) == "closed"
                assert server.requests[0].sent < 1000
                server.answer = lambda messages: ["Next."]
                test.send(LLMContextFrame(context.llm_context))
                await test.expect(LLMTextFrame, text="Next.")
                await test.expect(LLMFullResponseEndFrame)
                assert test.stats.undead == 0


async def test_interrupted_while_the_request_is_under_way() -> None:
    async with OpenAIServer().serving() as server:
        server.token_s = 1e6
        async with AsyncOpenAI(base_url=server.base_url, api_key="secret") as client:
            async with PipelineTest(LLM(client, "m")) as test:
                test.send(LLMContextFrame(Context("").llm_context))
                await server.arrived.wait()
                test.interrupt()
                await test.expect(SpeechInterruptedFrame, level=Level.FULL, response_id="r1")
                assert await asyncio.wait_for(server.requests[0].outcome, 60) == "closed"
            assert not test.received(LLMTextFrame)


async def test_speech_only_lets_the_answer_go_on() -> None:
    async with OpenAIServer().serving() as server:
        server.answer = lambda messages: [f"{n} " for n in range(30)]
        server.token_s = 0.005
        client = AsyncOpenAI(base_url=server.base_url, api_key="secret")
        async with client, PipelineTest(LLM(client, "m")) as test:
            test.send(LLMContextFrame(Context("").llm_context))
            await test.expect(LLMTextFrame)
            test.interrupt_speech()
            await test.expect(LLMFullResponseEndFrame)
            said = "".join(f.text for f in test.received(LLMTextFrame))
            assert said == "".join(f"{n} " for n in range(30))
        assert server.requests[0].outcome.result() == "finished"


async def test_a_server_that_is_not_there_is_an_error_and_ends_nothing() -> None:
    client = AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="secret", max_retries=0)
    async with client, PipelineTest(LLM(client, "m")) as test:
        for _ in range(2):
            test.send(LLMContextFrame(Context("").llm_context))
            error = await test.expect(
                ErrorFrame, UPSTREAM, error=regex("^LLM: ServiceUnavailable: .127.0.0.1 m. .*connect")
            )
            assert "secret" not in error.error
            await test.expect(LLMFullResponseEndFrame)


async def test_parallel_calls_over_the_wire() -> None:
    """Two tools that each wait for the other: they run side by side, and the model gets both results."""
    arrived = {"left": asyncio.Event(), "right": asyncio.Event()}

    async def meet(here: str, there: str) -> str:
        """Meet somebody.

        Args:
            here: Where you wait.
            there: Where the other waits.
        """
        arrived[here].set()
        await arrived[there].wait()
        return f"met from the {here}"

    async with OpenAIServer().serving() as server:
        server.script(
            [
                "One ",
                "moment.",
                *tool_calls(
                    ("meet", '{"here": "left", "there": "right"}', "a"),
                    ("meet", '{"here": "right", "there": "left"}', "b"),
                    size=3,
                ),
            ],
            ["They met."],
        )
        async with AsyncOpenAI(base_url=server.base_url, api_key="secret", max_retries=0) as client:
            context = Context("Be brief.")
            context.llm_context.add_message({"role": "user", "content": "hi"})
            async with PipelineTest(LLM(client, "m", tools=[meet]), context.assistant) as test:
                test.send(LLMContextFrame(context.llm_context))
                await test.expect(LLMTextFrame, where=lambda f: f.text == "One ")
                await test.expect(LLMFullResponseEndFrame)
        first, second = server.requests
        parameters = first.body["tools"][0]["function"]["parameters"]
        assert parameters["properties"]["here"] == {"type": "string", "description": "Where you wait."}
        assert "tools" in second.body
        assert [m["role"] for m in second.messages[1:]] == ["user", "assistant", "tool", "tool"]
        assert [m["content"] for m in second.messages if m["role"] == "tool"] == [
            "met from the left",
            "met from the right",
        ]
        assert context.messages[-1] == {"role": "assistant", "content": "They met."}


async def test_a_history_with_an_interrupted_call_is_accepted_over_the_wire() -> None:
    began = asyncio.Event()

    async def wait() -> None:
        """Wait for ever."""
        began.set()
        await asyncio.Event().wait()

    async with OpenAIServer().serving() as server:
        server.script(tool_calls(("wait", "{}")), ["Hello."])
        async with AsyncOpenAI(base_url=server.base_url, api_key="secret", max_retries=0) as client:
            context = Context("Be brief.")
            context.llm_context.add_message({"role": "user", "content": "hi"})
            async with PipelineTest(LLM(client, "m", tools=[wait]), context.assistant) as test:
                test.send(LLMContextFrame(context.llm_context))
                await asyncio.wait_for(began.wait(), 60)
                test.interrupt()
                context.llm_context.add_message({"role": "user", "content": "so?"})
                test.send(LLMContextFrame(context.llm_context))
                await test.expect(LLMTextFrame, text="Hello.")
                await test.expect(LLMFullResponseEndFrame)
        assert await asyncio.wait_for(server.requests[1].outcome, 60) == "finished"
        assert invalid(context.messages) is None


async def test_a_history_that_is_not_valid_is_refused_by_the_server() -> None:
    """The server of these tests does notice."""
    async with OpenAIServer().serving() as server:
        async with AsyncOpenAI(base_url=server.base_url, api_key="secret", max_retries=0) as client:
            context = Context("Be brief.")
            context.messages.append({"role": "tool", "tool_call_id": "x", "content": "orphan"})
            async with PipelineTest(LLM(client, "m")) as test:
                test.send(LLMContextFrame(context.llm_context))
                await test.expect(ErrorFrame, UPSTREAM, error=regex("RequestRejected.*without its call"))
        assert server.requests[0].outcome.result() == "refused"
