"""What a client is told of spoken answers and of tool calls, by a bot with a real language model client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from bargein import Level
from bargein.pipeline import UPSTREAM
from bargein.pipeline.frames import (
    ErrorFrame,
    SpeechHoldFrame,
    SpeechInterruptedFrame,
    SpeechReleaseFrame,
)
from bargein.pipeline.observing import Turns
from bargein.pipeline.testing import PipelineTest
from bargein.processors import LLM, TTS, Sentences
from bargein.processors.context import Context
from bargein.processors.services.errors import ServiceUnavailable
from bargein.processors.services.fallback import FallbackChat
from bargein.processors.services.openai_chat import ChatCompletions
from bargein.processors.services.retry import Backoff
from bargein.processors.tools import ToolCall, tool
from bargein.transports.rtvi import RTVI

from ..processors.fakes import FakeChunk, FakeVoice
from ..servers.openai_server import OpenAIServer, refuse, tool_calls
from .test_rtvi import RATE, Client, Player

pytestmark = pytest.mark.virtual_time

TWO = ["One is", " said. ", "Two is", " not."]  # a character takes 50 ms


class Bot:
    """Answers typed text through the `openai` client and a voice."""

    def __init__(self, *tools: Any, **options: Any) -> None:
        self.model = OpenAIServer()
        self.client = Client()
        self.context = Context()
        output = Player(RATE)
        self.rtvi = RTVI(self.client, output.playout, **options)
        llm = LLM(self.model.client(), "m", tools=tools)
        thinking = [self.context.user, llm, self.context.assistant, self.rtvi]
        self.test = PipelineTest(*thinking, Sentences(), TTS(FakeVoice(RATE)), output)

    def pieces(self) -> list[tuple[str, bool, str, str]]:
        """Of each `bot-output`: text, whether it is spoken, status, and how far it was heard."""
        return [
            (d["text"], d["will_be_spoken"], d["spoken_status"], _heard(d))
            for d in self.client.got("bot-output")
        ]


def _heard(data: dict[str, Any]) -> str:
    progress = data.get("spoken_progress", {"accumulated_text": "", "remaining_text": data["text"]})
    assert progress["accumulated_text"] + progress["remaining_text"] == data["text"]
    return str(progress["accumulated_text"])


async def test_an_answer_piece_by_piece() -> None:
    bot = Bot()
    bot.model.script([*TWO])
    async with bot.test as test:
        bot.client.say("send-text", {"content": "Count."}, "42")
        await test.advance(5)
    assert bot.pieces() == [
        ("One is said.", True, "new", ""),
        ("One is said.", True, "in-progress", "One"),
        ("One is said.", True, "in-progress", "One is"),
        ("One is said.", True, "completed", "One is said."),
        ("Two is not.", True, "new", ""),
        ("Two is not.", True, "in-progress", "Two"),
        ("Two is not.", True, "in-progress", "Two is"),
        ("Two is not.", True, "completed", "Two is not."),
    ]
    segments = [(d["segment_id"], d["response_id"]) for d in bot.client.got("bot-output")]
    assert segments == [(1, "r1")] * 4 + [(2, "r1")] * 4
    about = {"response_id": "r1"}
    for kind in ("bot-llm-started", "bot-llm-stopped", "bot-tts-started", "bot-tts-stopped"):
        assert len(bot.client.got(kind)) == 1
    said = [{"text": "One is said.", **about}, {"text": "Two is not.", **about}]
    assert bot.client.got("bot-transcription") == said
    assert bot.client.got("user-llm-text") == [{"text": "Count."}]
    (typed,) = bot.client.got("user-input")
    assert (typed["input_type"], typed["text"], typed["msg_id"]) == ("chat", "Count.", "42")


@pytest.mark.parametrize("level", list(Level))
async def test_an_interruption_ends_what_was_begun(level: Level) -> None:
    bot = Bot()
    bot.model.token_s = 0.1
    bot.model.script([*TWO, " Three", " comes", " later."])
    async with bot.test as test:
        bot.client.say("send-text", {"content": "Count."})
        await test.advance(0.5)
        assert bot.pieces()[-1] == ("One is said.", True, "in-progress", "One")
        assert bot.client.got("bot-llm-stopped") == bot.client.got("bot-tts-stopped") == []
        before = len(bot.client.received)
        bot.client.ask("interrupt", level=level)
        at_once = [message["type"] for message in bot.client.received[before:]]
        await test.advance(5)
    about = {"response_id": "r1"}
    assert bot.client.got("bot-llm-stopped") == bot.client.got("bot-tts-stopped") == [about]
    assert "bot-tts-stopped" in at_once
    assert ("bot-llm-stopped" in at_once) is (level is Level.FULL)
    later = [piece for piece in bot.pieces() if piece[0] != "One is said."]
    if level is Level.FULL:
        assert later == []
    else:
        assert later == [("Two is not.", False, "new", ""), ("Three comes later.", False, "new", "")]


async def test_a_piece_that_was_waiting_is_shown_when_only_the_voice_is_cut() -> None:
    bot = Bot()
    bot.model.script([*TWO])
    async with bot.test as test:
        bot.client.say("send-text", {"content": "Count."})
        await test.advance(0.65)
        bot.client.ask("interrupt", level="speech")
        await test.advance(5)
    assert bot.pieces()[-1] == ("Two is not.", False, "new", "")
    assert "".join(d["text"] for d in bot.client.got("bot-llm-text")) == "One is said. Two is not."


async def test_the_client_wants_one_answer_as_text_alone() -> None:
    bot = Bot()
    bot.model.token_s = 0.1
    bot.model.script([*TWO], ["Aloud."])
    async with bot.test as test:
        options = {"run_immediately": True, "audio_response": False}
        bot.client.say("send-text", {"content": "Write.", "options": options})
        await test.advance(5)
        assert bot.pieces() == [("One is said. Two is not.", False, "new", "")]
        assert bot.client.got("bot-started-speaking") == bot.client.got("bot-tts-started") == []
        assert bot.client.states() == ["thinking", "listening"]
        bot.client.say("send-text", {"content": "Speak."})
        await test.advance(5)
    assert bot.pieces()[-1] == ("Aloud.", True, "completed", "Aloud.")
    assert [m["content"] for m in bot.context.messages[1:]] == ["Write.", "".join(TWO), "Speak.", "Aloud."]


async def test_an_interruption_of_a_text_answer_leaves_the_next_one_its_voice() -> None:
    bot = Bot()
    bot.model.token_s = 0.1
    bot.model.script([*TWO], ["Aloud."])
    async with bot.test as test:
        options = {"audio_response": False}
        bot.client.say("send-text", {"content": "Write.", "options": options})
        await test.advance(0.25)
        bot.client.say("send-text", {"content": "No, speak."})
        await test.advance(5)
    assert bot.pieces()[0] == ("One is said.", False, "new", "")
    assert bot.pieces()[-1] == ("Aloud.", True, "completed", "Aloud.")


async def test_text_may_wait_for_its_answer() -> None:
    bot = Bot()
    bot.model.script(["Very well."])
    async with bot.test as test:
        bot.client.say("send-text", {"content": "It rains.", "options": {"run_immediately": False}})
        bot.client.say("append-to-context", {"role": "assistant", "content": "So it does."})
        await test.advance(1)
        assert bot.model.requests == []
        await test.expect_none(SpeechInterruptedFrame, within=1)
        ask = {"role": "user", "content": "And now?", "run_immediately": True}
        bot.client.say("append-to-context", ask, "9")
        await test.advance(5)
    assert bot.client.got("append-to-context-result") == [{"result": "appended"}] * 2
    contents = [message["content"] for message in bot.model.requests[0].messages[1:]]
    assert contents == ["It rains.", "So it does.", "And now?"]


def weather(city: str) -> str:
    return f"Rain in {city}."


@pytest.mark.parametrize(
    ("report", "begun", "stopped"),
    [
        (None, {}, {}),
        ("none", {}, {}),
        ("name", {"function_name": "weather"}, {}),
        ("arguments", {"function_name": "weather", "arguments": {"city": "Oslo"}}, {}),
        (
            "full",
            {"function_name": "weather", "arguments": {"city": "Oslo"}},
            {"result": "Rain in Oslo."},
        ),
    ],
)
async def test_tool_calls_are_told_as_far_as_allowed(
    report: Any, begun: dict[str, Any], stopped: dict[str, Any]
) -> None:
    bot = Bot(weather, report_calls={} if report is None else {"weather": report, "*": "full"})
    bot.model.script(tool_calls(("weather", '{"city": "Oslo"}', "c1")), ["It rains."])
    async with bot.test as test:
        bot.client.say("send-text", {"content": "Weather?"})
        await test.advance(5)
    about = {"response_id": "r1"}
    named = {key: value for key, value in begun.items() if key == "function_name"}
    assert bot.client.got("llm-function-call-started") == [{**named, **about}]
    assert bot.client.got("llm-function-call-in-progress") == [{"tool_call_id": "c1", **begun, **about}]
    ended = {"tool_call_id": "c1", "cancelled": False, **named, **stopped, **about}
    assert bot.client.got("llm-function-call-stopped") == [ended]


async def test_no_more_is_told_of_a_tool_than_of_none() -> None:
    bot = Bot(weather, report_calls={"weather": "disabled"})
    bot.model.script(tool_calls(("weather", '{"city": "Oslo"}', "c1")), ["It rains."])
    async with bot.test as test:
        bot.client.say("send-text", {"content": "Weather?"})
        await test.advance(5)
    assert not any("function-call" in message["type"] for message in bot.client.received)


async def test_a_cancelled_call_stops_once() -> None:
    @tool(on_interruption="cancel")
    async def wait() -> str:
        await asyncio.sleep(60)
        return "late"

    bot = Bot(wait)
    bot.model.script(tool_calls(("wait", "{}", "c1")))
    async with bot.test as test:
        bot.client.say("send-text", {"content": "Wait."})
        await test.advance(1)
        bot.client.ask("interrupt")
        await test.advance(1)
    (stopped,) = bot.client.got("llm-function-call-stopped")
    assert (stopped["tool_call_id"], stopped["cancelled"]) == ("c1", True)


async def test_the_client_gives_a_tool_its_result() -> None:
    async def place(call: ToolCall) -> str:
        return str(await bot.rtvi.calls.client_result(call.id))

    bot = Bot(place, report_calls={"place": "name"})
    bot.model.script(tool_calls(("place", "{}", "c1")), ["You are in Oslo."])
    result = {"function_name": "place", "tool_call_id": "c1", "arguments": {}, "result": "Oslo"}
    async with bot.test as test:
        bot.client.say("send-text", {"content": "Where am I?"})
        await test.advance(1)
        bot.client.say("llm-function-call-result", result)
        await test.advance(5)
        assert bot.client.got("error-response") == []
        bot.client.say("llm-function-call-result", result)
    assert bot.model.requests[1].messages[-1]["content"] == "Oslo"
    assert len(bot.client.got("error-response")) == 1


async def test_without_a_voice_all_text_is_unspoken() -> None:
    model, client, context = OpenAIServer(), Client(), Context()
    model.script([*TWO])
    llm = LLM(model.client(), "m")
    async with PipelineTest(context.user, llm, context.assistant, RTVI(client)) as test:
        client.say("client-ready", {"version": "2.0.0"})
        client.say("send-text", {"content": "Count."})
        await test.advance(1)
    assert client.got("bot-ready")[0]["capabilities"]["audio_out"] is False
    (shown,) = client.got("bot-output")
    assert (shown["text"], shown["will_be_spoken"]) == ("One is said. Two is not.", False)


async def test_latencies_are_metrics_where_turns_are_observed() -> None:
    bot = Bot()
    bot.model.token_s = 0.1
    bot.model.script([*TWO, *TWO, *TWO], [*TWO, *TWO, *TWO, *TWO])
    async with bot.test as test:
        Turns(test.session, bot.rtvi)
        bot.client.say("send-text", {"content": "Speak."})
        await test.advance(6)
        bot.client.say("send-text", {"content": "Count."})
        await test.advance(0.3)
        test.send(SpeechHoldFrame())
        await test.advance(0.15)
        test.send(SpeechReleaseFrame("noise"))
        await test.advance(0.2)
        bot.client.ask("interrupt")
        await test.advance(1)
    metrics = bot.client.got("metrics")
    waits = [wait for data in metrics for wait in data.get("stop_to_first_audio", ())]
    assert [wait["response_id"] for wait in waits] == ["r1", "r2"]
    assert waits[0]["value"] == pytest.approx(sum(waits[0]["parts"].values()))
    assert waits[0]["value"] > 0.1
    (cut,) = [cut for data in metrics for cut in data.get("barge_in", ())]
    assert (cut["response_id"], cut["parts"]["decision"]) == ("r2", 0.0)
    assert cut["saved_tokens"] > 0
    (pause,) = [pause for data in metrics for pause in data.get("pause", ())]
    assert (pause["reason"], pause["resumed"]) == ("noise", False)
    assert pause["value"] == pytest.approx(0.15)


async def test_while_another_model_takes_over_the_bot_thinks() -> None:
    broken, client, output = OpenAIServer(), Client(), Player(RATE)
    broken.plan(refuse(500))
    bot = Bot()
    bot.model.token_s = 1
    bot.model.script([*TWO])
    models = [
        ChatCompletions(server.client(), "m", backoff=Backoff(attempts=1)) for server in (broken, bot.model)
    ]
    thinking = [bot.context.user, LLM(FallbackChat(*models)), bot.context.assistant, RTVI(client)]
    async with PipelineTest(*thinking, Sentences(), TTS(FakeVoice(RATE)), output) as test:
        client.say("send-text", {"content": "Count."})
        await test.expect(ErrorFrame, UPSTREAM, within=5)
        await test.advance(30)
    assert len(client.got("error")) == 1
    assert client.states()[:2] == ["thinking", "speaking"]
    assert client.states()[-1] == "listening"


async def test_an_answer_whose_voice_fails_while_it_is_made_is_over_in_the_end() -> None:
    class Hoarse(FakeVoice):
        async def synthesize(self, text: str) -> AsyncGenerator[FakeChunk, None]:
            if text:
                raise ServiceUnavailable("Hoarse", "no voice")
            yield FakeChunk(b"", RATE, ())

    bot, client, output = Bot(), Client(), Player(RATE)
    bot.model.token_s = 0.5
    bot.model.script([*TWO])
    thinking = [bot.context.user, LLM(bot.model.client(), "m"), bot.context.assistant, RTVI(client)]
    async with PipelineTest(*thinking, Sentences(), TTS(Hoarse(RATE)), output) as test:
        client.say("send-text", {"content": "Count."})
        await test.expect(ErrorFrame, UPSTREAM, within=5)
        await test.advance(1)
        assert client.states() == ["thinking"]
        await test.expect(ErrorFrame, UPSTREAM, within=5)
        await test.advance(5)
    assert client.states() == ["thinking", "listening"]
