"""An answer that breaks off goes on where it was: nothing twice, nothing lost, one answer throughout."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein.pipeline import UPSTREAM, Level, SpeechInterruptedFrame
from bargein.pipeline.frames import (
    ErrorFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    SpokenAudioFrame,
)
from bargein.pipeline.testing import PipelineTest, regex
from bargein.processors.context import INTERRUPTED_MARK, SPEECH_STOPPED_MARK, Context
from bargein.processors.llm import LLM
from bargein.processors.services.chat import Call, ChatModel, Piece, Thought, Usage
from bargein.processors.services.continuing import GO_ON, Answer, Filled, Join, Repeated, beginning, behind
from bargein.processors.services.fallback import FallbackChat
from bargein.processors.services.openai_chat import ChatCompletions
from bargein.processors.services.openai_responses import Responses
from bargein.processors.services.retry import Backoff
from bargein.processors.tools import Tools
from bargein.processors.tts import TTS, Sentences
from bargein.transports.output import AudioOutput

from ...servers.openai_server import Messages, OpenAIServer, Trouble, refuse, tool_calls
from ..fakes import FakeVoice, playing

TOKENS = ["Paris", " is the", " cap", "ital of", " France", ", and", " London", " is not."]
TEXT = "".join(TOKENS)
ASK = [{"role": "user", "content": "hi"}]

either = pytest.mark.parametrize("model", [ChatCompletions, Responses])


def joined(join: Join, said: str, *new: str) -> str:
    return said + "".join(map(join.take, new)) + join.end()


# The seam ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "new", "whole"),
    [
        # the last word again, as the model is told
        ("Good", ["Good", " day"], "Good day"),
        ("Good ", ["Good", " day"], "Good day"),
        ("so we", ["we", " were"], "so we were"),
        # in full, because it broke off
        ("an inter", ["inter", "ruption", " is"], "an interruption is"),
        ("an inter", ["Interruption is"], "an interruption is"),
        # more than that, even all of it
        ("The capital of", ["The", " capital of Fr", "ance"], "The capital of France"),
        ("a b a b", ["a b", " c"], "a b a b c"),
        # nothing of it
        ("Good ", ["day."], "Good day."),
        ("Good", ["day."], "Good day."),
        ("Good", [", day."], "Good, day."),
        ("Good", [" ", "day."], "Good day."),
        ("a b", ["…", "c"], "a b c"),
        ("a b", ["..", ".", " c"], "a b c"),
        # with the marks between words
        ("Good day, ", ["day", ", how"], "Good day, how"),
        ("Good day,", ["day how"], "Good day, how"),
        ("I saw Paris.", ["Paris", ". It"], "I saw Paris. It"),
        ("I saw Paris.", ["It"], "I saw Paris. It"),
        ("well-", ["well", "-known"], "well-known"),
        ("it's", ["it's", " so"], "it's so"),
        # and nothing more: it was complete
        ("Yes.", ["Yes."], "Yes."),
        ("Yes", ["."], "Yes."),
        ("Yes.", ["."], "Yes."),
        ("I saw Paris", ["saw"], "I saw Paris"),
        ("Yes.", [], "Yes."),
        # scripts without spaces
        ("今日は天", ["天", "気です"], "今日は天気です"),
        ("今日は", ["天気です"], "今日は天気です"),
        ("今日は。", ["は。", "天気"], "今日は。天気"),
        ("ฉันชอบกินข้าว", ["ข้าว", "ผัด"], "ฉันชอบกินข้าวผัด"),
        ("ฉันชอบกินข้", ["กินข้าว", "ผัด"], "ฉันชอบกินข้าวผัด"),
        ("ခင်ဗျား", ["ခင်ဗျား ", "နေ"], "ခင်ဗျား နေ"),
        # letters with signs, capitals that become two letters, words that begin alike
        ("मुझे दुनि", ["दुनिया", " में"], "मुझे दुनिया में"),
        ("उसका", ["की तरह"], "उसका की तरह"),
        ("Gel, İstan", ["İstan", "bul güzel"], "Gel, İstanbul güzel"),
        ("من می\u200cخوا", ["می\u200cخواهم", " بروم"], "من می\u200cخواهم بروم"),  # noqa: RUF001
        # Korean has spaces
        ("안녕하세", ["안녕하세요.", " 저는"], "안녕하세요. 저는"),
        ("안녕하세요.", ["저는 민수"], "안녕하세요. 저는 민수"),
    ],
)
def test_what_a_model_repeats_is_left_out(said: str, new: list[str], whole: str) -> None:
    assert joined(Repeated(said), said, *new) == whole


@pytest.mark.parametrize(
    ("said", "new", "whole"),
    [
        ("an inter", ["ruption"], "an interruption"),
        ("Good", [" day"], "Good day"),
        ("Good ", [" ", " day"], "Good day"),
        ("very", [" very", " good"], "very very good"),
    ],
)
def test_what_a_server_fills_in_is_taken_as_it_comes(said: str, new: list[str], whole: str) -> None:
    assert joined(Filled(said), said, *new) == whole


@given(data=st.data())
def test_wherever_it_broke_off_and_however_much_is_repeated(data: st.DataObject) -> None:
    words = data.draw(st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=1, unique=True))
    marks = [data.draw(st.sampled_from([" ", ", ", ". "])) for _ in words]
    text = "".join(word + mark for word, mark in zip(words, marks, strict=True)).rstrip()
    said = text[: data.draw(st.integers(1, len(text)))]
    starts = [word.start() for word in re.finditer(r"\w+", said)]
    again = text[data.draw(st.sampled_from(starts)) :]
    # A cut-off word that begins another one is ambiguous: which of the two was it?
    last = said[starts[-1] :].rstrip(" ,.")
    if [word for word in words if word.startswith(last)] != [text[starts[-1] :].split(" ")[0].rstrip(",.")]:
        return
    pieces = data.draw(st.lists(st.integers(1, 5), min_size=len(again), max_size=len(again)))
    new: list[str] = []
    for size in pieces:
        new, again = [*new, again[:size]], again[size:]
    assert joined(Repeated(said), said, *new) == text


def test_what_a_conversation_ends_with() -> None:
    call = {"role": "assistant", "content": "Hm.", "tool_calls": [{"id": "a"}]}
    for messages in ([], ASK, [*ASK, call], [*ASK, {"role": "assistant", "content": None}]):
        assert beginning(messages) == (messages, "")
    assert beginning([*ASK, {"role": "assistant", "content": "Well"}]) == (ASK, "Well")


async def test_what_is_kept_back_comes_before_what_follows_it() -> None:
    async def pieces(*given: Piece) -> AsyncIterator[Piece]:
        for piece in given:
            yield piece

    call = Call("a", "look", "{}")
    stream: Any = pieces(Thought("hm"), "b", call, Usage(1, 1))
    assert [p async for p in behind(Repeated("a b c"), stream)] == [Thought("hm"), call, Usage(1, 1)]
    stream = pieces("!", call)
    assert [p async for p in behind(Repeated("a b c"), stream)] == ["!", call]


async def test_an_answer_that_has_called_a_tool_cannot_go_on() -> None:
    async def pieces() -> AsyncIterator[Piece]:
        yield "Let me see."
        yield Call("a", "look", "{}")

    answer, stream = Answer(ASK), pieces()
    assert answer.can_go_on()
    assert len([p async for p in answer.follow(stream)]) == 2  # type: ignore[arg-type]
    assert not answer.can_go_on()


# Models ------------------------------------------------------------------------------------------------


def going_on(messages: Messages) -> list[str]:
    """All of the answer, or what is left of it, as an obedient model writes it."""
    if messages[-1]["content"] != GO_ON:
        return TOKENS
    said = messages[-2]["content"]
    assert TEXT.startswith(said)
    return re.findall(r"\s*\S+", TEXT[said.rindex(" ") + 1 if " " in said else 0 :])


class Talk:
    """A bot on one model that speaks."""

    def __init__(self, server: OpenAIServer, chat: ChatModel, **options: Any) -> None:
        self.server = server
        server.answer = going_on
        self.context = Context("")
        self.context.llm_context.add_message({"role": "user", "content": "hi"})
        self.voice = FakeVoice()
        self.test = PipelineTest(LLM(chat, **options), self.context.assistant, Sentences(), TTS(self.voice))

    def ask(self) -> None:
        self.test.send(LLMContextFrame(self.context.llm_context))

    @property
    def text(self) -> str:
        return "".join(frame.text for frame in self.test.received(LLMTextFrame))


@asynccontextmanager
async def talking(
    model: Callable[..., ChatModel], *troubles: Trouble | None, **options: Any
) -> AsyncIterator[Talk]:
    server = OpenAIServer()
    server.plan(*troubles)
    async with server.client() as client:
        talk = Talk(server, model(client, "m", **options))
        async with talk.test:
            yield talk


@either
@pytest.mark.parametrize("kind", ["cut", "garbage", "end"])
@pytest.mark.parametrize("after", range(1, len(TOKENS) + 1))
async def test_an_answer_goes_on(model: Callable[..., ChatModel], kind: Any, after: int) -> None:
    async with talking(model, Trouble(kind, after)) as talk:
        talk.ask()
        await talk.test.expect(LLMTextFrame)
        (response,) = talk.test.session.responses
        await talk.test.expect(LLMFullResponseEndFrame)
        assert talk.text == TEXT
        assert talk.context.messages[-1] == {"role": "assistant", "content": TEXT}
        assert "".join(talk.voice.spoken).strip() == TEXT
        assert response.text.strip() == TEXT
        marks = [mark for frame in talk.test.received(SpokenAudioFrame) for mark in frame.marks]
        assert marks[-1][1] == len(TEXT)
        assert len(talk.test.received(LLMFullResponseStartFrame)) == 1
        assert not talk.test.received(ErrorFrame, UPSTREAM)
        assert len(talk.server.requests) == 2


@either
async def test_it_goes_on_as_often_as_requests_are_repeated_and_then_ends(
    model: Callable[..., ChatModel],
) -> None:
    async with talking(model, *[Trouble("cut", 3)] * 3, backoff=Backoff(attempts=3)) as talk:
        talk.ask()
        await talk.test.expect(ErrorFrame, UPSTREAM, error=regex("^LLM: ServiceUnavailable"), within=100)
        await talk.test.expect(LLMFullResponseEndFrame)
        assert TEXT.startswith(talk.text)
        assert talk.text not in (TEXT, "")
        assert len(talk.server.requests) == 3
        assert talk.context.messages[-1]["content"] == talk.text.strip()


@either
async def test_what_a_request_to_go_on_looks_like(model: Callable[..., ChatModel]) -> None:
    async with talking(model, Trouble("cut", 4)) as talk:
        talk.ask()
        await talk.test.expect(LLMFullResponseEndFrame)
        first, second = (request.messages for request in talk.server.requests)
        assert second[: len(first)] == first
        assert [m["role"] for m in second[len(first) :]] == ["assistant", "user"]
        assert second[-1]["content"] == GO_ON


async def test_a_server_that_fills_in_is_not_told_to_go_on() -> None:
    async with talking(ChatCompletions, Trouble("cut", 3), fills_in=True) as talk:
        talk.server.answer = lambda messages: (
            TOKENS if messages[-1]["role"] == "user" else [TEXT.removeprefix(messages[-1]["content"])]
        )
        talk.ask()
        await talk.test.expect(LLMFullResponseEndFrame)
        assert talk.text == TEXT
        assert talk.server.requests[1].messages[-1]["role"] == "assistant"


@either
async def test_a_half_written_call_is_written_again_behind_the_text(model: Callable[..., ChatModel]) -> None:
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"rain in {city}"

    calls = tool_calls(("weather", '{"city": "Rome"}', "a"))
    server = OpenAIServer()
    async with server.client() as client:
        server.plan(Trouble("cut", 5))
        server.script(["Let me", " see.", *calls], ["see. ", *calls])
        got = [p async for p in model(client, "m").stream(ASK, Tools([weather]).schemas)]
        assert "".join(p for p in got if isinstance(p, str)).strip() == "Let me see."
        assert [p for p in got if isinstance(p, Call)] == [Call("a", "weather", '{"city": "Rome"}')]


@either
async def test_a_failure_that_waiting_does_not_cure_ends_the_answer(model: Callable[..., ChatModel]) -> None:
    async with talking(model, Trouble("cut", 3), refuse(401)) as talk:
        talk.ask()
        await talk.test.expect(ErrorFrame, UPSTREAM, error=regex("^LLM: KeyRejected"), within=100)
        await talk.test.expect(LLMFullResponseEndFrame)
        assert len(talk.server.requests) == 2
        assert TEXT.startswith(talk.context.messages[-1]["content"])


@either
async def test_an_interruption_before_it_goes_on(model: Callable[..., ChatModel]) -> None:
    pause = Backoff(attempts=3, first_s=1e6, cap_s=1e6, patience_s=1e9)
    async with talking(model, Trouble("cut", 4), backoff=pause) as talk:
        talk.ask()
        await talk.test.expect(LLMTextFrame)
        assert await talk.server.requests[0].outcome == "cut"
        talk.test.interrupt("user_speaking")
        await talk.test.expect(SpeechInterruptedFrame, level=Level.FULL, response_id="r1")
        await talk.test.expect_none(LLMTextFrame, within=1e5)
        assert len(talk.server.requests) == 1
        talk.context.llm_context.add_message({"role": "user", "content": "again"})
        talk.ask()
        await talk.test.expect(LLMFullResponseEndFrame)
        assert talk.context.messages[-1]["content"] == TEXT


@either
async def test_an_interruption_while_it_goes_on(model: Callable[..., ChatModel]) -> None:
    async with talking(model, Trouble("cut", 4)) as talk:
        talk.server.token_s = 1
        talk.ask()
        await talk.server.came(2)
        await asyncio.sleep(3.5)
        talk.test.interrupt("user_speaking")
        await talk.test.expect(SpeechInterruptedFrame, level=Level.FULL, response_id="r1")
        assert await talk.server.requests[1].outcome == "closed"
        await talk.test.expect_none(LLMTextFrame, within=100)


@either
async def test_speech_only_lets_the_text_go_on(model: Callable[..., ChatModel]) -> None:
    async with talking(model, Trouble("cut", 4)) as talk:
        talk.server.token_s = 1
        talk.ask()
        await talk.server.came(2)
        talk.test.interrupt_speech("user_clicked_stop")
        await talk.test.expect(SpeechInterruptedFrame, level=Level.SPEECH, response_id="r1")
        await talk.test.expect(LLMFullResponseEndFrame)
        assert talk.text == TEXT
        assert not talk.test.received(SpokenAudioFrame)


@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "with a stand-in"])
async def test_interrupted_at_any_moment_it_has_what_was_heard(alone: bool, level: Level) -> None:
    for after in range(1, len(TOKENS) + 1):
        for tenths in range(0, 30, 4):
            server, context, output = OpenAIServer(), Context(""), AudioOutput(16_000)
            server.answer, server.token_s = going_on, 0.1
            server.plan(Trouble("cut", after))
            client, backoff = server.client(), Backoff(attempts=2 if alone else 1, first_s=0.1)
            chat = ChatCompletions(client, "m", backoff=backoff)
            bot = LLM(chat if alone else FallbackChat(chat, ChatCompletions(client, "m")))
            context.llm_context.add_message({"role": "user", "content": "hi"})
            test = PipelineTest(bot, context.assistant, Sentences(), TTS(FakeVoice()), output)
            async with playing(output, bytearray()), test:
                test.send(LLMContextFrame(context.llm_context))
                await test.advance(tenths / 10 + 0.05)
                errors = await take_errors(test, 0)
                if level is Level.FULL:
                    test.interrupt("user_speaking")
                else:
                    test.interrupt_speech("user_speaking")
                report = await test.expect(SpeechInterruptedFrame, level=level)
                await test.advance(30)
                await take_errors(test, errors)
            told = "".join(frame.text for frame in test.received(LLMTextFrame))
            last = context.messages[-1]
            assert TEXT.startswith(report.heard)
            if level is Level.SPEECH or report.heard == TEXT:
                assert told == TEXT
                assert last["content"].replace(SPEECH_STOPPED_MARK, "") == TEXT
            else:
                assert TEXT.startswith(told)
                heard = {"role": "assistant", "content": report.heard.rstrip() + INTERRUPTED_MARK}
                assert last == (heard if report.heard else ASK[0])


async def take_errors(test: PipelineTest, taken: int) -> int:
    """Expect all that went wrong but so many; returns how many that makes."""
    errors = test.received(ErrorFrame, UPSTREAM)
    for error in errors[taken:]:
        await test.expect(ErrorFrame, UPSTREAM, error=error.error)
    return len(errors)
