"""Tools: what the model is told of them, every way a call can go, and interruptions at every point of it."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import pytest
from pipecat.frames.frames import (
    FunctionCallCancelFrame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    FunctionCallsStartedFrame,
)
from pydantic import BaseModel, Field

from bargein.pipeline import UPSTREAM, Level, SpeechInterruptedFrame
from bargein.pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMTextFrame,
    TextFrame,
    TTSTextFrame,
)
from bargein.pipeline.testing import PipelineTest, regex
from bargein.processors.context import INTERRUPTED_MARK, SPEECH_STOPPED_MARK, Context
from bargein.processors.llm import LLM
from bargein.processors.services.chat import Call, Piece
from bargein.processors.tools import BadArguments, BadTool, ToolCall, Tools, as_text, tool

from ..servers.openai_server import Messages, OpenAIServer, Token, tool_calls
from .scripted import Bot, bot

# What a tool is made of -------------------------------------------------------------------------------


class Unit(StrEnum):
    CELSIUS = "celsius"
    FAHRENHEIT = "fahrenheit"


class Place(BaseModel):
    city: str
    country: str = "IT"


async def get_weather(place: Place, call: ToolCall, days: int = 3, unit: Unit = Unit.CELSIUS) -> str:
    """Look up the weather.

    Knows seven days at most.

    Args:
        place: Where.
        days: How many days.
    """
    return f"{days} days in {place.city}, {unit}"


def test_a_function_is_described_by_its_hints_and_docstring() -> None:
    (schema,) = Tools([get_weather]).schemas
    function = schema["function"]
    assert (schema["type"], function["name"]) == ("function", "get_weather")
    assert function["description"] == "Look up the weather.\n\nKnows seven days at most."
    parameters = function["parameters"]
    assert list(parameters["properties"]) == ["place", "days", "unit"]  # the call is not the model's to give
    assert parameters["required"] == ["place"]
    assert parameters["properties"]["place"]["description"] == "Where."
    assert parameters["properties"]["days"] == {
        "type": "integer",
        "description": "How many days.",
        "default": 3,
    }
    assert parameters["$defs"]["Unit"]["enum"] == ["celsius", "fahrenheit"]


def test_an_annotation_may_describe_and_limit_a_parameter() -> None:
    def roll(sides: Annotated[int, Field(description="Of the die.", ge=2)], json: str = "") -> int:
        return sides

    tools = Tools([roll])
    assert tools.schemas[0]["function"]["parameters"]["properties"]["sides"] == {
        "type": "integer",
        "description": "Of the die.",
        "minimum": 2,
    }
    assert "description" not in tools.schemas[0]["function"]
    found = tools.find("roll")
    assert found is not None
    assert found.bind('{"sides": 6}') == {"sides": 6, "json": ""}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('{"place": {"city": "Rome"}, "days": "many"}', "days: Input should be a valid integer.*not 'many'$"),
        ('{"place": {}}', "place.city: Field required"),
        ("", "place is required$"),
        ('{"place": {"city": "Rome"}, "speed": 3}', "there is no parameter speed$"),
        ('{"place": {"city": "Rome"}, "call": {}}', "there is no parameter call$"),
        ('{"place": {"ci', "they: Invalid JSON"),
        ('"Rome"', "they: Arguments must be an array or an object, not 'Rome'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: str, message: str) -> None:
    found = Tools([get_weather]).find("get_weather")
    assert found is not None
    with pytest.raises(BadArguments, match=message):
        found.bind(arguments)


def no_hint(x) -> None:  # type: ignore[no-untyped-def]
    pass


def star(*cities: str) -> None:
    pass


def positional(x: int, /) -> None:
    pass


def unreadable(x: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821
    pass


def unknown_type(x: threading.Thread) -> None:
    pass


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ([no_hint], "no_hint: give the parameter x a type hint"),
        ([star], "cities.* cannot be passed by name"),
        ([positional], "cannot be passed by name"),
        ([unreadable], "unreadable: its type hints cannot be read: name 'Missing'"),
        ([unknown_type], "unknown_type: Unable to generate pydantic-core schema for .*Thread"),
        ([lambda: None], "has no name a tool can have"),
        ([get_weather, get_weather], "two tools are called get_weather"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused(
    functions: list[Callable[..., Any]], message: str
) -> None:
    with pytest.raises(BadTool, match=message):
        Tools(functions)


def test_results_are_text_for_the_model() -> None:
    assert as_text("plain") == "plain"
    assert as_text(None) == "Done."
    assert json.loads(as_text({"at": Place(city="Rome"), "unit": Unit.CELSIUS})) == {
        "at": {"city": "Rome", "country": "IT"},
        "unit": "celsius",
    }
    assert as_text("a \ud800 lone surrogate") == "a \ufffd lone surrogate"
    with pytest.raises(ValueError, match="serialize"):
        as_text(object())


# A bot with tools, in virtual time --------------------------------------------------------------------


@dataclass
class Clock:
    """A slow tool, and when it was at what."""

    seconds: float = 2.0
    began: int = 0
    finished: int = 0
    cancelled: int = 0

    async def wait(self) -> str:
        """Wait."""
        self.began += 1
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.finished += 1
        return "waited"


async def test_text_call_result_and_text_stand_in_their_order() -> None:
    def find(city: str) -> dict[str, int]:
        """Find.

        Args:
            city: Where.
        """
        return {"degrees": 21}

    async with bot(find) as b:
        b.server.script(
            ["Let me", " check.", *tool_calls(("find", '{"city": "Rome"}', "c1"))],
            ["It is ", "warm."],
            ["Yes."],
        )
        b.ask()
        await b.test.expect(BotStoppedSpeakingFrame)
        call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"city": "Rome"}'}}
        assert b.messages == [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "Let me check.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": '{"degrees":21}'},
            {"role": "assistant", "content": "It is warm."},
        ]
        assert b.server.requests[1].messages == b.context.messages[:-1]
        assert b.server.requests[0].body["tools"] == Tools([find]).schemas
        for direction in (b.test.received(), b.test.received(direction=UPSTREAM)):
            kinds = [
                type(f)
                for f in direction
                if isinstance(
                    f, FunctionCallsStartedFrame | FunctionCallInProgressFrame | FunctionCallResultFrame
                )
            ]
            assert kinds == [FunctionCallsStartedFrame, FunctionCallInProgressFrame, FunctionCallResultFrame]
        (result,) = b.test.received(FunctionCallResultFrame)
        assert (result.function_name, result.tool_call_id, result.arguments) == (
            "find",
            "c1",
            {"city": "Rome"},
        )
        assert (result.result, result.error) == ('{"degrees":21}', None)
        (started,) = b.test.received(FunctionCallsStartedFrame)
        assert [c.function_name for c in started.function_calls] == ["find"]
        assert started.function_calls[0].context is b.context.llm_context
        b.ask("and?")
        await b.test.expect(LLMTextFrame, text="Yes.")


async def test_what_was_said_before_a_call_is_spoken_while_the_tool_runs() -> None:
    clock = Clock(20)
    async with bot(clock.wait) as b:
        b.server.script(["Let me look that up in", " my books", *tool_calls(("wait", ""))], ["Done."])
        b.ask()
        await b.heard("books")
        await b.test.expect(BotStoppedSpeakingFrame, within=1)
        assert (clock.began, clock.finished) == (1, 0)
        await b.test.expect(BotStartedSpeakingFrame, within=30)
        await b.test.expect(BotStoppedSpeakingFrame, within=30)
    assert [m.get("content") for m in b.messages] == [
        "hi",
        "Let me look that up in my books",
        "waited",
        "Done.",
    ]


async def test_parallel_calls_run_side_by_side_and_results_keep_the_calls_order() -> None:
    async def sleep(seconds: float) -> str:
        """Sleep."""
        await asyncio.sleep(seconds)
        return f"slept {seconds:g}"

    async with bot(sleep) as b:
        arguments = [("sleep", json.dumps({"seconds": s})) for s in (3, 1, 2)]
        b.server.script(tool_calls(*arguments, size=4), ["Good morning."])
        began = asyncio.get_running_loop().time()
        b.ask()
        for _ in arguments:
            await b.test.expect(FunctionCallResultFrame)
        assert asyncio.get_running_loop().time() - began < 3.5
        await b.test.expect(BotStoppedSpeakingFrame)
        assert b.results == ["slept 3", "slept 1", "slept 2"]
        assert [f.result for f in b.test.received(FunctionCallResultFrame)] == [
            "slept 1",
            "slept 2",
            "slept 3",
        ]
        assert len(b.test.received(FunctionCallsStartedFrame)) == 1


async def test_servers_that_give_no_ids_or_the_same_ones_or_one_index() -> None:
    def echo(text: str) -> str:
        """Echo."""
        return text

    def delta(index: int, call_id: str | None, text: str, name: str = "echo") -> Token:
        function = {"name": name, "arguments": json.dumps({"text": text})}
        return {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": function}]}

    async with bot(echo) as b:
        b.server.script(
            [delta(0, None, "a"), delta(1, "", "b")],
            [delta(0, "call_0", "c"), delta(0, "call_1", "d")],
            [delta(0, "call_0", "e"), delta(1, "call_0", "f")],
            [delta(0, "x", "g", name="functions.echo")],
            ["Done."],
        )
        b.ask()
        await b.test.expect(BotStoppedSpeakingFrame)
        assert b.results[:-1] == ["a", "b", "c", "d", "e", "f"]
        assert b.results[-1] == "Error: there is no tool called functions_echo; the tools are: echo"


# Calls that go wrong


async def raises() -> None:
    raise RuntimeError("out of paper")


@tool(timeout_s=3)
async def hangs() -> None:
    await asyncio.Event().wait()


@tool(timeout_s=3)
async def swallows() -> str:
    for _ in range(3):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue
    return "too late"


LET_GO = threading.Event()


@tool(timeout_s=0.2)
def sleeps_in_a_thread() -> None:
    LET_GO.wait()


async def garbage() -> object:
    return object()


def circle() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


def exits() -> None:
    sys.exit(3)


async def exits_in_the_loop() -> None:
    sys.exit(3)


async def cancels_itself() -> None:
    raise asyncio.CancelledError


def stops_iterating() -> None:
    next(iter(()))


async def add(a: int, b: int) -> int:
    return a + b


@pytest.mark.parametrize(
    ("function", "call", "result"),
    [
        (raises, ("raises", "{}"), "Error: raises failed: RuntimeError: out of paper"),
        (hangs, ("hangs", "{}"), "Error: hangs was given up after 3 s"),
        (swallows, ("swallows", "{}"), "Error: swallows was given up after 3 s"),
        (
            sleeps_in_a_thread,
            ("sleeps_in_a_thread", "{}"),
            "Error: sleeps_in_a_thread was given up after 0.2 s",
        ),
        (
            garbage,
            ("garbage", "{}"),
            "Error: garbage failed: PydanticSerializationError: Unable to serialize",
        ),
        (circle, ("circle", "{}"), "Error: circle failed: PydanticSerializationError: "),
        (exits, ("exits", "{}"), "Error: exits failed: SystemExit: 3"),
        (exits_in_the_loop, ("exits_in_the_loop", "{}"), "Error: exits_in_the_loop failed: SystemExit: 3"),
        (cancels_itself, ("cancels_itself", "{}"), "Error: cancels_itself failed: CancelledError"),
        (stops_iterating, ("stops_iterating", "{}"), "Error: stops_iterating failed: RuntimeError"),
        (add, ("subtract", '{"a": 1}'), "Error: there is no tool called subtract; the tools are: add"),
        (
            add,
            ("add", '{"a": 1, "b": "x"}'),
            "Error: the arguments of add do not fit: b: Input should be a valid",
        ),
        (add, ("add", '{"a": 1}'), "Error: the arguments of add do not fit: b is required"),
        (add, ("add", '{"a": 1, '), "Error: the arguments of add do not fit: they: Invalid JSON"),
        (add, ("add", "[1, 2]"), "Error: the arguments of add do not fit: "),
    ],
)
async def test_a_call_that_goes_wrong_has_a_result_that_says_so(
    function: Callable[..., Any], call: tuple[str, str], result: str
) -> None:
    LET_GO.clear()
    try:
        async with bot(function) as b:
            b.server.script(["One moment.", *tool_calls(call, call)], ["Sorry."], ["Hello again."])
            b.ask()
            for _ in range(2):
                frame = await b.test.expect(
                    FunctionCallResultFrame, where=lambda f: f.result.startswith(result)
                )
                assert frame.error == frame.result.removeprefix("Error: ")
            await b.test.expect(LLMTextFrame, text="Sorry.")
            assert all(r.startswith(result) for r in b.results)
            # What the model gave stays as it was, where it can be sent at all.
            sent = b.messages[1]["tool_calls"][0]["function"]["arguments"]
            raw = call[1]
            assert json.loads(sent) == (json.loads(raw) if raw.endswith("}") else {})
            b.test.interrupt()
            b.ask("again")
            await b.test.expect(LLMTextFrame, text="Hello again.")
    finally:
        LET_GO.set()


async def test_the_model_may_call_tools_only_so_often_in_one_answer() -> None:
    clock = Clock(0.1)
    async with bot(clock.wait, max_steps=2) as b:
        b.server.answer = lambda messages: tool_calls(("wait", "{}"))  # whatever it is told
        b.ask()
        await b.test.expect(LLMFullResponseEndFrame)
        assert [r.body.get("tool_choice") for r in b.server.requests] == [None, None, "none"]
        assert clock.finished == 2
        assert b.results == ["waited"] * 2


async def test_a_plain_function_runs_in_a_thread_and_may_speak_from_there() -> None:
    threads: list[threading.Thread] = []

    def look(call: ToolCall) -> str:
        threads.append(threading.current_thread())
        call.say("One moment.")
        return "found"

    async with bot(look) as b:
        b.server.script(["Let me see.", *tool_calls(("look", ""))], ["Here."])
        b.ask()
        await b.test.expect(BotStoppedSpeakingFrame)
        assert threads[0] is not threading.main_thread()
        assert "".join(f.text for f in b.test.received(TTSTextFrame)) == "Let me see.\nOne moment.\nHere."
        assert [m.get("content") for m in b.messages] == ["hi", "Let me see.\nOne moment.", "found", "Here."]


async def test_without_a_context_behind_it_the_model_calls_nothing() -> None:
    clock, server, context = Clock(), OpenAIServer(), Context("Be brief.")
    server.answer = lambda messages: tool_calls(("wait", "{}"))
    async with server.client() as client, PipelineTest(LLM(client, "m", tools=[clock.wait])) as test:
        test.send(LLMContextFrame(context.llm_context))
        await test.expect(ErrorFrame, UPSTREAM, error=regex("CallsNotRecorded: .*put context.assistant"))
        assert clock.began == 0


async def test_the_end_of_the_session_settles_what_still_runs() -> None:
    clock = Clock(1000)
    async with bot(clock.wait) as b:
        b.server.script(tool_calls(("wait", "{}")))
        b.ask()
        await b.test.expect(FunctionCallInProgressFrame)
        await b.test.advance(1)
    assert clock.cancelled == 1
    assert b.results == ["The session ended before the call did."]


# Interruptions ----------------------------------------------------------------------------------------


async def ask_and_interrupt_the_tool(b: Bot) -> None:
    b.server.script(tool_calls(("wait", "{}")), ["Hello", " again."], ["And again."])
    b.ask()
    await b.test.expect(FunctionCallInProgressFrame)
    await b.test.advance(0.5)
    b.test.interrupt()
    b.ask("never mind")


async def test_by_default_a_tool_finishes_and_its_result_is_discarded() -> None:
    clock = Clock(5)
    async with bot(clock.wait) as b:
        await ask_and_interrupt_the_tool(b)
        await b.test.expect(LLMTextFrame, text="Hello")
        assert (clock.began, clock.finished, clock.cancelled) == (1, 0, 0)  # the turn did not wait
        await b.test.advance(10)
        assert clock.finished == 1
        assert b.results == ["The user interrupted; the call runs to its end, but its result is discarded."]
        assert len(b.test.received(FunctionCallResultFrame)) == 1
        assert [m["role"] for m in b.messages] == ["user", "assistant", "tool", "user", "assistant"]


async def test_a_tool_may_be_cancelled() -> None:
    clock = Clock(5)
    async with bot(tool(on_interruption="cancel")(clock_tool(clock))) as b:
        await ask_and_interrupt_the_tool(b)
        await b.test.expect(LLMTextFrame, text="Hello")
        assert (clock.finished, clock.cancelled) == (0, 1)
        assert b.results == ["The user interrupted; the call was cancelled."]
        assert b.test.received(FunctionCallInProgressFrame)[0].cancel_on_interruption
        assert [f.tool_call_id for f in b.test.received(FunctionCallCancelFrame)] == ["call_wait_0"]


def clock_tool(clock: Clock) -> Callable[..., Any]:
    async def wait() -> str:
        """Wait."""
        return await clock.wait()

    return wait


async def test_a_result_may_be_kept_for_the_turns_that_follow() -> None:
    clock = Clock(1)
    async with bot(tool(on_interruption="keep")(clock_tool(clock))) as b:
        await ask_and_interrupt_the_tool(b)
        await b.test.expect(BotStoppedSpeakingFrame)
        b.ask("well?")
        await b.test.expect(BotStoppedSpeakingFrame)
        first, second = (r.messages for r in b.server.requests[1:])
        assert [m["content"] for m in first if m["role"] == "tool"] == [
            "The call is still running. Its result will stand here when it is done."
        ]
        assert [m["content"] for m in second if m["role"] == "tool"] == ["waited"]


async def test_pipecat_3661_no_call_stays_in_progress() -> None:
    """Interrupted at each push of a turn with two calls of each kind: no call is left without an end."""

    async def one_run(interrupt_at: int) -> int:
        clocks = [Clock(1), Clock(1), Clock(1)]
        finish, cancel, keep = map(clock_tool, clocks)
        finish.__name__, cancel.__name__, keep.__name__ = "finish", "cancel", "keep"
        tools = [finish, tool(on_interruption="cancel")(cancel), tool(on_interruption="keep")(keep)]
        async with bot(*tools) as b:
            names = ["finish", "cancel", "keep"] * 2
            calls: list[Token] = ["One", " moment.", *tool_calls(*((n, "{}") for n in names))]
            b.server.answer = lambda messages: ["All right."] if _answered(messages) else calls
            before = b.test.pushes
            began: list[list[int]] = []  # calls of each kind, when an answer was interrupted

            def look(frame: Frame, *_: object) -> None:
                if isinstance(frame, SpeechInterruptedFrame) and frame.response_id:
                    began.append([clock.began for clock in clocks])

            b.test.session.observe(look)
            if interrupt_at:
                b.test.interrupt_at_push(interrupt_at)
            b.ask()
            await b.test.advance(10)
            assert len(b.test.received(SpeechInterruptedFrame)) == (1 if interrupt_at else 0)
            began.append([clock.began for clock in clocks])
            pushes = b.test.pushes - before
            b.ask("so?")
            await b.test.advance(10)
            assert b.messages[-1] == {"role": "assistant", "content": "All right."}
            assert [clock.began for clock in clocks] == began[0]
            assert not any("still running" in result for result in b.results)
            # Each call ended once, as clients saw it.
            started = b.test.received(FunctionCallsStartedFrame)
            ids = sorted(c.tool_call_id for f in started for c in f.function_calls)
            assert sorted(f.tool_call_id for f in b.test.received(FunctionCallResultFrame)) == ids
            assert len(b.results) == len(ids)
        return pushes

    pushes = await one_run(0)
    assert pushes > 30
    for count in range(1, pushes + 1):
        await one_run(count)


def _answered(messages: Messages) -> bool:
    return messages[-1]["role"] == "tool" or "so?" in messages[-1]["content"]


async def test_nothing_is_called_when_interrupted_between_announcement_and_start() -> None:
    for frame_type, count in ((FunctionCallsStartedFrame, 1), (FunctionCallsStartedFrame, 2)):
        clock = Clock()
        async with bot(clock.wait) as b:
            b.server.script(tool_calls(("wait", "{}"), ("wait", "{}")))
            b.test.interrupt_at_push(count, of=frame_type)
            b.ask()
            await b.test.advance(10)
            assert clock.began == 0
            assert b.results == ["The user interrupted before this call was started; it was not made."] * 2


async def test_a_thread_that_comes_late_does_not_call() -> None:
    """All threads are taken when the call is made; one is free only after the interruption."""
    began: list[str] = []
    free = threading.Event()

    def late() -> None:
        began.append("late")

    async with bot(late) as b:
        b.server.script(["Hello."], tool_calls(("late", "{}")), ["Hello again."])
        b.ask()  # the client's first request needs a thread
        await b.test.expect(BotStoppedSpeakingFrame)
        loop = asyncio.get_running_loop()
        taken = [loop.run_in_executor(None, free.wait) for _ in range(64)]
        try:
            b.ask("please")
            await b.test.expect(FunctionCallInProgressFrame)
            b.test.interrupt()
            b.ask("so?")
            await b.test.expect(LLMTextFrame, text="Hello again.")
        finally:
            free.set()
            await asyncio.wait(taken)
        assert began == []
        assert b.results == ["The user interrupted before this call was started; it was not made."]


async def test_arguments_that_were_still_coming_are_neither_kept_nor_acted_on() -> None:
    clock = Clock()
    async with bot(clock.wait) as b:
        b.server.script(["Let me ", *tool_calls(("wait", '{"a": "' + 50 * "x" + '"}'))], ["Hello."])
        b.ask()
        await b.test.expect(LLMTextFrame)
        while b.server.requests[0].sent < 5:
            await b.test.advance(0.01)
        b.test.interrupt()
        b.ask("so?")
        await b.test.expect(LLMTextFrame, text="Hello.")
        assert b.server.requests[0].outcome.result() == "closed"
        assert clock.began == 0
        assert b.messages == [
            {"role": "user", "content": "hi so?"},
            {"role": "assistant", "content": "Hello."},
        ]


@pytest.mark.parametrize("policy", ["finish", "cancel", "keep"])
async def test_the_next_turn_waits_for_no_tool(policy: Any) -> None:
    """Not for one that swallows its cancellation, not for one that sleeps in a thread."""
    free = threading.Event()

    @tool(on_interruption=policy)
    async def stubborn() -> str:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if free.is_set():
                    raise

    @tool(on_interruption=policy)
    def asleep() -> str:
        free.wait()
        return "awake"

    try:
        async with bot(stubborn, asleep) as b:
            b.server.script(tool_calls(("stubborn", "{}"), ("asleep", "{}")), ["Hello."])
            b.ask()
            await b.test.expect(FunctionCallInProgressFrame)
            await b.test.expect(FunctionCallInProgressFrame)
            await b.test.advance(0.1)
            b.test.interrupt()
            b.ask("so?")
            await b.test.expect(LLMTextFrame, text="Hello.")
            assert not free.is_set()
            free.set()
    finally:
        free.set()


async def test_speech_only_does_not_touch_a_tool() -> None:
    clock = Clock(20)
    async with bot(tool(on_interruption="cancel")(clock_tool(clock))) as b:
        b.server.script(["One two three four.", *tool_calls(("wait", "{}"))], ["Done."])
        b.ask()
        await b.heard("two")
        b.test.interrupt_speech()
        await b.test.expect(LLMFullResponseEndFrame, within=30)
        assert clock.finished == 1
        assert [m.get("content") for m in b.messages] == [
            "hi",
            f"One two{SPEECH_STOPPED_MARK} three four.",
            "waited",
            "Done.",
        ]


async def test_a_voice_that_was_stopped_before_its_first_word() -> None:
    async with bot(Clock(1).wait) as b:
        b.server.script(tool_calls(("wait", "{}")), ["Done."])
        b.ask()
        await b.test.expect(FunctionCallInProgressFrame)
        b.test.interrupt_speech()
        await b.test.expect(LLMFullResponseEndFrame)
        assert "content" not in b.messages[1]
        assert b.messages[-1]["content"] == f"{SPEECH_STOPPED_MARK}Done."


async def test_a_library_that_swallows_the_cancellation_calls_nothing() -> None:
    clock, context = Clock(), Context("Be brief.")

    class Deaf:
        model = service = "deaf"

        async def stream(self, *request: object) -> AsyncGenerator[Piece, None]:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
            yield Call("", "wait", "{}")

    async with PipelineTest(LLM(Deaf(), tools=[clock.wait]), context.assistant) as test:
        test.send(LLMContextFrame(context.llm_context))
        await test.advance(1)
        test.interrupt()
        await test.expect_none(FunctionCallsStartedFrame, within=60)
        assert clock.began == 0
        assert len(context.messages) == 1


# pipecat #4997: a tool of a discarded answer hung up on the caller -------------------------------------


async def hang_up(call: ToolCall) -> str:
    """End the call."""
    await asyncio.sleep(1)
    call.end()
    return "ends after your goodbye"


async def test_pipecat_4997_a_tool_of_an_interrupted_answer_does_not_end_the_call() -> None:
    for seconds in (0.5, 1.2, 2.0):  # while the tool runs, while the goodbye is generated, while it is spoken
        async with bot(hang_up) as b:
            goodbye: list[Token] = ["Good", "bye", " and", " thank", " you", " for", " calling."]

            def answer(messages: Messages, goodbye: list[Token] = goodbye) -> list[Token]:
                if messages[-1]["role"] == "tool":
                    return goodbye
                return ["Yes?"] if "wait!" in messages[-1]["content"] else tool_calls(("hang_up", "{}"))

            b.server.answer = answer
            b.server.token_s = 0.05
            b.ask()
            await b.test.expect(FunctionCallInProgressFrame)
            await b.test.advance(seconds)
            b.test.interrupt("user_speaking")
            b.ask("wait!")
            await b.test.expect(LLMTextFrame, text="Yes?")
            await b.test.advance(60)
            assert not b.test.received(EndFrame)


async def test_an_answer_that_was_heard_ends_the_call_if_a_tool_said_so() -> None:
    async with bot(hang_up) as b:
        b.server.script(tool_calls(("hang_up", "{}")), ["Goodbye and thank you."])
        b.ask()
        await b.test.expect(EndFrame)
        assert "".join(f.text for f in b.test.received(TTSTextFrame)) == "Goodbye and thank you."


@pytest.mark.parametrize("policy", ["finish", "keep"])
async def test_a_tool_of_an_interrupted_answer_neither_speaks_nor_pushes(policy: Any) -> None:
    acted: list[bool] = []

    @tool(on_interruption=policy)
    async def late(call: ToolCall) -> str:
        await asyncio.sleep(2)
        call.say("I am late.")
        call.push(EndFrame())
        call.end()
        acted.append(call.interrupted)
        return "late"

    async with bot(late) as b:
        b.server.script(tool_calls(("late", "{}")), ["Hello."])
        b.ask()
        await b.test.expect(FunctionCallInProgressFrame)
        await b.test.advance(1)
        b.test.interrupt()
        b.ask("so?")
        await b.test.expect(LLMTextFrame, text="Hello.")
        await b.test.expect_none(LLMTextFrame, within=60)
        assert acted == [True]
        assert not b.test.received(EndFrame)


# What was heard of an answer with tools in it -----------------------------------------------------------

BEFORE, SAID, AFTER = "One two three.", "Four five.", "Six seven eight."


async def test_interrupted_at_every_moment_the_context_holds_what_was_heard() -> None:
    async def count(call: ToolCall) -> str:
        """Count."""
        call.say(SAID)
        await asyncio.sleep(2)
        return "counted"

    whole = f"{BEFORE}\n{SAID}\n{AFTER}"
    held: set[int] = set()
    for step in range(70):
        async with bot(count) as b:
            b.server.script([BEFORE, *tool_calls(("count", "{}"))], [AFTER])
            b.ask()
            await b.test.advance(step * 0.05 + 0.001)
            heard = "".join(f.text for f in b.test.received(TTSTextFrame))
            b.test.interrupt()
            report = await b.test.expect(SpeechInterruptedFrame, level=Level.FULL)
            await b.test.expect_none(TextFrame, within=5)
            assert whole.startswith(heard)
            texts = [m["content"] for m in b.messages if m["role"] == "assistant" and "content" in m]
            if report.response_id is None:
                assert texts == ([f"{BEFORE}\n{SAID}", AFTER] if step > 20 else []), step
                continue
            wanted = [heard[: len(BEFORE + SAID) + 2].rstrip(), heard[len(BEFORE + SAID) + 2 :].rstrip()]
            wanted = [text for text in wanted if text]
            if wanted:
                wanted[-1] += INTERRUPTED_MARK
            assert texts == wanted, step
            held.add(len(wanted))
            called = [m for m in b.messages if "tool_calls" in m]
            assert len(called) == len(b.results) <= 1
            if "Six" in heard:
                assert b.results == ["counted"]
    assert held == {0, 1, 2}


async def test_a_speech_stop_then_an_interruption_keeps_what_was_shown() -> None:
    async with bot(Clock(3).wait) as b:
        b.server.script([BEFORE, *tool_calls(("wait", "{}"))], [AFTER])
        b.ask()
        await b.test.expect(BotStartedSpeakingFrame)
        await b.heard("One")
        b.test.interrupt_speech()
        await b.test.advance(0.2)
        b.test.interrupt()
        await b.test.expect_none(LLMTextFrame, within=10)
        assert b.messages[1]["content"] == f"One{SPEECH_STOPPED_MARK} two three.{INTERRUPTED_MARK}"
        assert len(b.results) == 1
