"""Tools that do what no tool should: each call has its one result, and the conversation goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from bargein.pipeline import Level, SpeechInterruptedFrame
from bargein.pipeline.frames import BotStoppedSpeakingFrame, EndFrame, LLMTextFrame, TTSTextFrame
from bargein.processors.tools import BadTool, ToolCall, Tools, tool

from ..servers.openai_server import tool_calls
from .scripted import bot


async def cancels_itself() -> str:
    """Cancel."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)
    return "never"


async def fails_in_a_group() -> str:
    """Fail."""
    raise BaseExceptionGroup("several", [asyncio.CancelledError(), ValueError("one of them")])


async def cancels_a_scope() -> str:
    """Cancel."""
    with anyio.move_on_after(0.5):
        await anyio.sleep(10)
    return "moved on"


async def stops_its_generator() -> str:
    """Stop."""
    raise GeneratorExit


@pytest.mark.parametrize("function", [cancels_itself, fails_in_a_group, stops_its_generator])
async def test_a_tool_that_ends_without_a_result_has_one_at_once(function: Callable[..., Any]) -> None:
    async with bot(function) as b:
        b.server.script([*tool_calls((function.__name__, ""))], ["It failed."], ["Yes."])
        b.ask()
        await b.test.expect(LLMTextFrame, text="It failed.", within=5)
        assert len(b.results) == 1
        assert b.results[0].startswith(f"Error: {function.__name__} ")
        await b.test.expect(BotStoppedSpeakingFrame)


async def test_a_scope_of_anyio_inside_a_tool_is_its_own_affair() -> None:
    async with bot(cancels_a_scope) as b:
        b.server.script([*tool_calls(("cancels_a_scope", ""))], ["Fine."])
        b.ask()
        await b.test.expect(LLMTextFrame, text="Fine.")
        assert b.results == ["moved on"]


def test_a_generator_is_no_tool() -> None:
    async def stream() -> AsyncIterator[str]:
        """Stream."""
        yield "a"

    with pytest.raises(BadTool, match="stream: a tool returns its result, it yields none"):
        Tools([stream])


@pytest.mark.real_time
async def test_plain_tools_that_hang_keep_no_other_from_running() -> None:
    """They cannot be ended; in asyncio's shared pool six of them would stop every session's tools."""
    release = threading.Event()

    @tool(timeout_s=0.05)
    def hang() -> None:
        """Hang."""
        release.wait(60)

    def quick() -> str:
        """Answer."""
        return "quick"

    try:
        async with bot(hang, quick) as b:
            b.server.token_s = 0
            hanging = tool_calls(*[("hang", "")] * 40)
            b.server.script(hanging, [*tool_calls(("quick", ""))], ["Done."])
            b.ask()
            await b.test.expect(LLMTextFrame, text="Done.", within=60)
            assert b.results[-1] == "quick"
            assert await asyncio.to_thread(lambda: "others too") == "others too"
    finally:
        release.set()


async def test_a_tool_that_was_given_up_neither_speaks_nor_ends_the_call() -> None:
    @tool(timeout_s=1)
    async def late(call: ToolCall) -> str:
        """Be late."""
        for _ in range(5):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1)
        call.say("I am late.")
        call.push(EndFrame())
        call.end()
        return "late"

    async with bot(late) as b:
        b.server.token_s = 1
        b.server.script([*tool_calls(("late", ""))], [f"{number}, " for number in range(20)])
        b.ask()
        while (await b.test.expect(LLMTextFrame)).text != "19, ":
            pass
        await b.test.expect(BotStoppedSpeakingFrame)
        assert b.results == ["Error: late was given up after 1 s"]
        assert not any("late" in frame.text for frame in b.test.received(LLMTextFrame))
        assert not b.test.received(EndFrame)


# Tools that act on the session -------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["finish", "cancel", "keep"])
async def test_a_tool_may_interrupt_the_answer_that_called_it(policy: Any) -> None:
    @tool(on_interruption=policy)
    async def stop(call: ToolCall) -> str:
        """Stop."""
        call.session.interrupt("a tool")
        await asyncio.sleep(1)
        return "stopped"

    async with bot(stop) as b:
        b.server.script(["Wait.", *tool_calls(("stop", ""), ("stop", ""))], ["Here I am."])
        b.ask()
        await b.test.expect(SpeechInterruptedFrame, level=Level.FULL, reason="a tool")
        await b.test.expect_none(LLMTextFrame, within=5)
        assert b.test.stats.interruptions == 1 if policy == "cancel" else b.test.stats.interruptions <= 2
        b.ask("are you there?")
        await b.test.expect(LLMTextFrame, text="Here I am.")
        assert len(b.results) == 2
        assert not any("still running" in result for result in b.results)


async def test_a_tool_may_say_send_and_end() -> None:
    async def act(call: ToolCall) -> str:
        """Act."""
        call.session.say("A word of mine.")
        call.session.send_text("and now?")  # answered together with what the tool is called for
        return "acted"

    async def hang_up(call: ToolCall) -> str:
        """Hang up."""
        call.session.end()
        return "bye"

    async with bot(act, hang_up) as b:
        b.server.script([*tool_calls(("act", ""))], ["I acted."], [*tool_calls(("hang_up", ""))], ["Bye."])
        b.ask()
        await b.test.expect(BotStoppedSpeakingFrame)
        assert "".join(frame.text for frame in b.test.received(TTSTextFrame)) == "I acted.A word of mine."
        b.ask("that is all")
        await b.test.expect(EndFrame)
        assert b.test.received(TTSTextFrame)[-1].text == "Bye."
        assert b.results == ["acted", "bye"]


async def test_a_huge_result_and_a_thousand_words_of_arguments_go_through() -> None:
    def read(page: str) -> str:
        """Read."""
        return page * 100

    async with bot(read) as b:
        page = "word " * 1000
        b.server.script([*tool_calls(("read", f'{{"page": "{page}"}}'), size=2000)], ["Long."], ["Yes."])
        b.ask()
        await b.test.expect(LLMTextFrame, text="Long.")
        assert len(b.results[0]) == 500_000
        b.ask("and?")
        await b.test.expect(LLMTextFrame, text="Yes.")
