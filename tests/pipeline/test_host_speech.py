"""Stock language models and voices in our pipelines: what was heard, both levels, the context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pipecat.frames.frames import FunctionCallResultProperties
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.tts_service import TextAggregationMode

from bargein import Level, SpeechInterruptedFrame
from bargein.pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import Context
from bargein.processors.tts import Sentences
from bargein.transports.output import AudioOutput

from ..processors.fakes import playing
from .stock_processors import StockModel, StockNamelessVoice, StockVoice, StockWordVoice

ANSWER = "One two three. Four five six."


class Talk:
    """A bot of a stock model and a stock voice, in virtual time, its speech played at its pace."""

    def __init__(self, model: StockModel, voice: FrameProcessor, *, sentences: bool = True) -> None:
        self.model = model
        self.context = Context("Be brief.")
        self.output = AudioOutput(16_000)
        self.test = PipelineTest(
            self.context.user,
            model,
            self.context.assistant,
            *([Sentences()] if sentences else []),
            voice,
            self.output,
        )
        self.played = bytearray()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PipelineTest]:
        async with playing(self.output, self.played), self.test:
            yield self.test

    def ask(self, text: str = "Count.") -> None:
        self.test.session.send_text(text)

    @property
    def said(self) -> list[str]:
        """What the context has of the answers."""
        return [m.get("content", "") for m in self.context.messages if m["role"] == "assistant"]

    @property
    def heard(self) -> str:
        return "".join(frame.text for frame in self.test.received(TTSTextFrame))


def voices() -> list[Any]:
    return [
        pytest.param(StockVoice, id="sentences"),
        pytest.param(StockWordVoice, id="words"),
        pytest.param(lambda: StockWordVoice(late=True), id="late words"),
    ]


@pytest.mark.parametrize("sentences", [True, False])
@pytest.mark.parametrize("voice", voices())
async def test_an_answer_is_said_to_its_end(voice: Any, sentences: bool) -> None:
    talk = Talk(StockModel([ANSWER]), voice(), sentences=sentences)
    async with talk.running() as test:
        talk.ask()
        await test.expect(BotStoppedSpeakingFrame, within=60)
        assert [m["content"].strip() for m in talk.context.messages[1:]] == ["Count.", ANSWER]
        assert talk.heard.strip() == ANSWER
        assert not test.session.responding
        assert talk.played.count(b"\x01") == 2 * 800 * len(ANSWER.replace(".", ". ").replace("  ", " "))
        kinds = [type(f) for f in test.received()]
        for kind in (LLMFullResponseStartFrame, LLMFullResponseEndFrame, TTSStoppedFrame):
            assert kinds.count(kind) == 1
        shown = "".join(f.text for f in test.received(LLMTextFrame))
        assert shown.strip() == ANSWER
        assert kinds.index(LLMFullResponseStartFrame) < kinds.index(LLMTextFrame)


@pytest.mark.parametrize("sentences", [True, False])
@pytest.mark.parametrize(
    ("voice", "heard"),
    [
        pytest.param(StockVoice, "One two three.", id="sentences"),
        pytest.param(StockWordVoice, "One two three. Four", id="words"),
        pytest.param(lambda: StockWordVoice(late=True), "One two three. Four", id="late words"),
    ],
)
async def test_what_was_heard_is_exact(voice: Any, heard: str, sentences: bool) -> None:
    talk = Talk(StockModel([ANSWER, "Yes?"]), voice(), sentences=sentences)
    async with talk.running() as test:
        talk.ask()
        await test.expect(BotStartedSpeakingFrame)
        await test.advance(len("One two three. Four f") * 0.05)
        test.interrupt()
        report = await test.expect(SpeechInterruptedFrame)
        assert report.heard.strip() == heard
        assert talk.said == [f"{heard}—"]
        assert not test.session.responding
        await test.expect_none(TTSAudioRawFrame, within=10)
        talk.ask("Go on.")
        await test.expect(BotStoppedSpeakingFrame, within=60)
        assert talk.said == [f"{heard}—", "Yes? "]
        assert talk.heard.strip().endswith("Yes?")


@pytest.mark.parametrize("sentences", [True, False])
@pytest.mark.parametrize("voice", voices())
async def test_speech_only_stops_the_voice_and_the_text_goes_on(voice: Any, sentences: bool) -> None:
    service = voice()
    talk = Talk(StockModel([ANSWER, "Yes?"], delay_s=0.3), service, sentences=sentences)
    async with talk.running() as test:
        talk.ask()
        await test.expect(BotStartedSpeakingFrame)
        await test.advance(0.1)
        test.interrupt_speech()
        await test.expect(LLMFullResponseEndFrame)
        await test.expect_none(TTSAudioRawFrame, within=10)
        assert "".join(f.text for f in test.received(LLMTextFrame)).strip() == ANSWER
        assert not test.session.responding
        assert len(talk.model.asked) == 1
        assert service.spoken == ["One two three."]
        talk.ask("Again.")
        await test.expect(BotStoppedSpeakingFrame, within=60)
        assert talk.heard.strip().endswith("Yes?")


async def test_the_end_of_an_answer_inside_the_voice_goes_round_it() -> None:
    talk = Talk(StockModel([ANSWER], delay_s=0.0), StockVoice(delay_s=0.5))
    async with talk.running() as test:
        talk.ask()
        await test.advance(1.0)
        test.interrupt_speech()
        await test.expect(LLMFullResponseEndFrame, within=0.1)
        assert not test.session.responding


async def test_audio_of_an_old_context_is_dropped_whenever_it_comes() -> None:
    talk = Talk(StockModel([ANSWER, "Yes?"]), StockWordVoice(delay_s=0.3, careless=True))
    async with talk.running() as test:
        talk.ask()
        await test.expect(BotStartedSpeakingFrame)
        test.interrupt()
        await test.advance(0.05)  # the fade
        del talk.played[:]
        await test.expect(BotStoppedSpeakingFrame)
        talk.ask("Go on.")
        await test.expect(BotStoppedSpeakingFrame, within=60)
        assert talk.heard.strip().endswith("Yes?")
        assert test.stats.stale_dropped > 0
        assert talk.played.count(b"\x01") == 2 * 800 * len("Yes? ")


LONG = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen."


@pytest.mark.parametrize("voice", [StockVoice, StockNamelessVoice])
@pytest.mark.parametrize("delay_s", [0.0, 0.1])
async def test_words_without_times_are_placed_by_the_pace_of_the_voice(voice: Any, delay_s: float) -> None:
    talk = Talk(StockModel([*[ANSWER] * 8, LONG], delay_s=0.0), voice(delay_s))
    async with talk.running() as test:
        for _ in range(8):
            talk.ask()
            await test.advance(10)
        assert "".join(talk.said).split() == " ".join([ANSWER] * 8).split()
        talk.ask()
        await test.expect(BotStartedSpeakingFrame)
        await test.advance(len("One two three four five six seven eight n") * 0.05)
        test.interrupt()
        heard = (await test.expect(SpeechInterruptedFrame)).heard.split()
        assert LONG.split()[: len(heard)] == heard
        assert 7 <= len(heard) <= 9


async def test_words_are_estimated_before_anything_is_known_of_a_voice() -> None:
    talk = Talk(StockModel([LONG], delay_s=0.0), StockNamelessVoice(0.0))
    async with talk.running() as test:
        talk.ask()
        await test.expect(BotStartedSpeakingFrame)
        await test.advance(2.0)  # all of its audio is there, and no word of an end
        test.interrupt()
        assert (await test.expect(SpeechInterruptedFrame)).heard == "One two three four five six"
        assert talk.said == ["One two three four five six—"]


async def test_a_streamed_sentence_is_not_taken_as_said_when_its_text_is_complete() -> None:
    voice = StockNamelessVoice(0.3, text_aggregation_mode=TextAggregationMode.TOKEN)
    talk = Talk(StockModel([LONG + " And so on."], delay_s=0.05), voice, sentences=False)
    async with talk.running() as test:
        talk.ask()
        await test.expect(BotStartedSpeakingFrame)
        await test.advance(2.0)  # all of it is written, seven words are spoken
        test.interrupt()
        heard = (await test.expect(SpeechInterruptedFrame)).heard.split()
        assert heard == LONG.split()[: len(heard)]
        assert 5 <= len(heard) <= 7


@pytest.mark.parametrize("level", Level)
async def test_a_slow_connection_that_names_nothing_is_made_anew_when_it_is_cut(level: Level) -> None:
    service = StockNamelessVoice(delay_s=0.7)
    talk = Talk(StockModel([ANSWER, "Yes?"]), service)
    async with talk.running() as test:
        talk.ask()
        await test.expect(BotStoppedSpeakingFrame)  # "One" has been played, "two" is to come
        talk.played.clear()
        test.interrupt() if level is Level.FULL else test.interrupt_speech()
        talk.ask("Go on.")
        await test.advance(20)
        assert service.connections == 2
        assert talk.played.count(b"\x01") == 2 * 800 * len("Yes? ")


async def test_a_given_text_is_an_answer() -> None:
    test = PipelineTest(StockVoice(), output := AudioOutput(16_000))
    async with playing(output, bytearray()), test:
        test.session.say("Hello there.")
        await test.expect(BotStoppedSpeakingFrame, within=60)
        assert "".join(f.text for f in test.received(TTSTextFrame)) == "Hello there."
        assert not test.session.responding


@pytest.mark.parametrize("sentences", [True, False])
@pytest.mark.parametrize("voice", [*voices(), pytest.param(StockNamelessVoice, id="nameless")])
async def test_a_critical_text_is_said_to_its_end(voice: Any, sentences: bool) -> None:
    talk = Talk(StockModel(["Yes?"]), voice(), sentences=sentences)
    async with talk.running() as test:
        test.session.say("Please leave. Now.", critical=True)
        await test.expect(BotStartedSpeakingFrame)
        test.interrupt()
        await test.advance(0.1)
        test.interrupt_speech()
        await test.advance(20)
        assert talk.heard == "Please leave. Now."
        assert talk.said == ["Please leave. Now."]
        assert not test.session.responding
        talk.ask()
        await test.advance(20)
        assert talk.said == ["Please leave. Now.", "Yes? "]


async def test_answers_are_shown_one_behind_the_other() -> None:
    test = PipelineTest(Sentences(), StockVoice(), output := AudioOutput(16_000))
    async with playing(output, bytearray()), test:
        test.session.say("First.")
        test.session.say("Second.")
        await test.advance(20)
        kinds = (LLMFullResponseStartFrame, LLMTextFrame, LLMFullResponseEndFrame)
        assert [type(f) for f in test.received() if isinstance(f, kinds)] == [*kinds, *kinds]


async def test_without_an_output_of_ours_all_passes_as_it_is() -> None:
    model = StockModel([ANSWER])
    context = Context("Be brief.")
    async with PipelineTest(context.user, model, context.assistant, StockWordVoice()) as test:
        test.session.send_text("Count.")
        await test.expect(TTSStoppedFrame)
        await test.expect(LLMFullResponseEndFrame)
        assert "".join(f.text + " " for f in test.received(TTSTextFrame)).split() == ANSWER.split()
        assert all(f.pts for f in test.received(TTSTextFrame))
        assert b"".join(f.audio for f in test.received(TTSAudioRawFrame))


# Function calls --------------------------------------------------------------------------------------


def talk_with(handler: Any, **options: Any) -> Talk:
    model = StockModel([("look", {"at": "sky"}), "It is blue."])
    model.register_function("look", handler, **options)
    return Talk(model, StockVoice())


async def test_a_function_call_has_one_result_and_the_model_goes_on() -> None:
    async def look(params: FunctionCallParams) -> None:
        await asyncio.sleep(0.5)
        await params.result_callback({"seen": "blue"})

    talk = talk_with(look)
    async with talk.running() as test:
        talk.ask("What is up?")
        await test.expect(BotStoppedSpeakingFrame, within=60)
        assert [m["role"] for m in talk.context.messages[1:]] == ["user", "assistant", "tool", "assistant"]
        assert talk.context.messages[3]["content"] == '{"seen":"blue"}'
        assert talk.said[-1].strip() == "It is blue."
        assert talk.model.asked[1][3]["content"] == '{"seen":"blue"}'


async def test_an_interrupted_call_is_cancelled_with_one_result() -> None:
    async def look(params: FunctionCallParams) -> None:
        await asyncio.sleep(5)
        await params.result_callback("late")

    talk = talk_with(look)
    async with talk.running() as test:
        talk.ask("What is up?")
        await test.advance(1)
        test.interrupt()
        await test.advance(10)
        assert len(talk.model.asked) == 1
        tools = [m for m in talk.context.messages if m["role"] == "tool"]
        assert [m["content"] for m in tools] == ["The call was cancelled."]
        talk.ask("Well?")
        await test.expect(BotStoppedSpeakingFrame, within=60)
        assert talk.said[-1].strip() == "It is blue."


async def test_a_call_that_ignores_the_interruption_puts_its_result_into_the_context() -> None:
    async def look(params: FunctionCallParams) -> None:
        await asyncio.sleep(5)
        await params.result_callback("done")

    talk = talk_with(look, cancel_on_interruption=False)
    async with talk.running() as test:
        talk.ask("What is up?")
        await test.advance(1)
        test.interrupt()
        await test.advance(10)
        assert len(talk.model.asked) == 1
        assert [m["content"] for m in talk.context.messages if m["role"] == "tool"] == ["done"]


async def test_reports_on_the_way_are_no_results() -> None:
    async def look(params: FunctionCallParams) -> None:
        await params.result_callback("half", properties=FunctionCallResultProperties(is_final=False))
        await asyncio.sleep(1)
        await params.result_callback("all")

    talk = talk_with(look, cancel_on_interruption=False)
    async with talk.running() as test:
        talk.ask("What is up?")
        await test.expect(BotStoppedSpeakingFrame, within=60)
        assert [m["content"] for m in talk.context.messages if m["role"] == "tool"] == ["all"]


async def test_a_full_interruption_ends_the_model_at_once() -> None:
    talk = Talk(StockModel([ANSWER], delay_s=0.3), StockVoice())
    async with talk.running() as test:
        talk.ask()
        await test.expect(LLMTextFrame)
        test.interrupt()
        report = await test.expect(SpeechInterruptedFrame, level=Level.FULL)
        assert report.response_id == "r1"
        await test.expect_none(LLMTextFrame, within=20)
        assert not talk.played.strip(b"\0")
        assert not test.session.responding
        assert talk.said == []
