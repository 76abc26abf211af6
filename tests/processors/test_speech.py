"""From the model's text to what was heard: sentences, TTS, output and the context, interrupted everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bargein.pipeline import UPSTREAM, Level, Processor, SpeechInterruptedFrame, handles
from bargein.pipeline.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndFrame,
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    OutputAudioRawFrame,
    TTSSpeakFrame,
    TTSTextFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import INTERRUPTED_MARK, SPEECH_STOPPED_MARK, Context
from bargein.processors.tts import TTS, Sentences
from bargein.transports.output import AudioOutput

from .fakes import FakeVoice, playing

ANSWER = ["One two three.", " Four five six.", " Seven eight nine."]


class ScriptedLLM(Processor):
    """Says its pieces, one each 100 ms."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    @handles(LLMContextFrame)
    async def answer(self, frame: LLMContextFrame) -> None:
        with self.session.respond():
            self.push(LLMFullResponseStartFrame())
            for piece in self.pieces:
                await asyncio.sleep(0.1)
                self.push(LLMTextFrame(piece))
            self.push(LLMFullResponseEndFrame())


class Bot:
    """A bot whose output is played at its pace by `play`."""

    def __init__(self, pieces: list[str]) -> None:
        self.context = Context("Be brief.")
        self.voice = FakeVoice()
        self.output = AudioOutput(16_000)
        self.played = bytearray()
        self.test = PipelineTest(
            ScriptedLLM(pieces), self.context.assistant, Sentences(), TTS(self.voice), self.output
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PipelineTest]:
        async with self.test as test, playing(self.output, self.played):
            yield test

    def ask(self) -> None:
        self.test.send(LLMContextFrame(self.context.llm_context))

    async def heard(self, word: str) -> None:
        """Wait until a word has been heard."""
        while (await self.test.expect(TTSTextFrame)).text.strip() != word:
            pass

    @property
    def answers(self) -> list[str]:
        return [m["content"] for m in self.context.messages if m["role"] == "assistant"]

    @property
    def audible_s(self) -> float:
        return sum(1 for b in self.played if b) / 2 / 16_000


async def test_an_answer_is_spoken_and_its_words_are_heard_in_order() -> None:
    bot = Bot(ANSWER)
    async with bot.running() as test:
        bot.ask()
        await test.expect(BotStartedSpeakingFrame)
        await test.expect(BotStartedSpeakingFrame, UPSTREAM)
        await test.expect(BotStoppedSpeakingFrame)
        assert "".join(f.text for f in test.received(TTSTextFrame)) == "".join(ANSWER)
        assert not test.session.responding
    assert bot.answers == ["".join(ANSWER)]
    assert bot.audible_s == pytest.approx(len("".join(ANSWER)) / 20, abs=0.01)


async def test_a_full_interruption_leaves_exactly_what_was_heard() -> None:
    bot = Bot(ANSWER)
    async with bot.running() as test:
        bot.ask()
        await bot.heard("five")
        before = bot.audible_s
        test.interrupt("user_speaking")
        report = await test.expect(SpeechInterruptedFrame, level=Level.FULL, response_id="r1")
        assert report.heard == "One two three. Four five"
        assert report.unheard == " six. Seven eight nine."
        await test.expect_none(TTSTextFrame, within=5)
        await test.expect_none(LLMTextFrame, within=1)
        assert len(test.received(BotStoppedSpeakingFrame)) == 1
    assert bot.answers == ["One two three. Four five" + INTERRUPTED_MARK]
    assert bot.audible_s - before <= 0.016  # the fade


async def test_an_interruption_before_the_first_sound_leaves_no_words() -> None:
    """livekit #6157: a truncation at 0 ms was rejected, and all of the answer stayed."""
    bot = Bot(ANSWER)
    async with bot.running() as test:
        bot.ask()
        await test.expect(LLMTextFrame)
        test.interrupt()
        await test.expect(SpeechInterruptedFrame, heard="", unheard="One two three.", response_id="r1")
        await test.expect_none(OutputAudioRawFrame, within=5)
    assert bot.answers == []
    assert bot.audible_s == 0
    assert bot.voice.closed == bot.voice.spoken


async def test_an_interruption_after_the_last_word_changes_nothing() -> None:
    bot = Bot(ANSWER)
    async with bot.running() as test:
        bot.ask()
        await test.expect(BotStoppedSpeakingFrame)
        test.interrupt()
        await test.expect(SpeechInterruptedFrame, response_id=None, heard="", unheard="")
    assert bot.answers == ["".join(ANSWER)]


async def test_the_end_is_open_until_the_client_has_heard_it() -> None:
    """All audio was sent, the client still plays: an interruption then is no late one."""
    bot = Bot(["One two three."])
    bot.output.playout.delay_ms = 400
    async with bot.running() as test:
        bot.ask()
        await test.expect(BotStartedSpeakingFrame)
        while bot.output.playout.queued_ms or not test.received(LLMFullResponseEndFrame):
            await test.advance(0.02)
        test.interrupt()
        report = await test.expect(SpeechInterruptedFrame, response_id="r1")
        assert report.heard == "One"  # " two" ended 50 to 400 ms before
    assert bot.answers == ["One" + INTERRUPTED_MARK]


async def test_speech_only_stops_the_voice_and_the_text_goes_on() -> None:
    bot = Bot(ANSWER)
    async with bot.running() as test:
        bot.ask()
        await bot.heard("One")
        before = bot.audible_s
        test.interrupt_speech("user_clicked_stop")
        report = await test.expect(SpeechInterruptedFrame, level=Level.SPEECH, heard="One")
        assert report.reason == "user_clicked_stop"
        await test.expect(LLMFullResponseEndFrame)
        await test.expect_none(OutputAudioRawFrame, within=5)
        assert "".join(f.text for f in test.received(LLMTextFrame)) == "".join(ANSWER)
        assert bot.audible_s - before <= 0.016
        assert not test.session.responding
        test.skip()
        bot.ask()
        await test.expect(BotStartedSpeakingFrame)
        await test.expect(BotStoppedSpeakingFrame)
    assert bot.answers == [
        f"One{SPEECH_STOPPED_MARK} two three. Four five six. Seven eight nine.",
        "".join(ANSWER),
    ]


async def test_interrupted_at_every_moment_the_context_holds_what_was_heard() -> None:
    """Each 50 ms of an answer: what the context keeps is what sounded, no more and no less."""
    for step in range(60):
        bot = Bot(ANSWER)
        async with bot.running() as test:
            bot.ask()
            await test.advance(step * 0.05 + 0.001)
            test.interrupt()
            heard_s = bot.audible_s
            await test.expect(SpeechInterruptedFrame)
            await test.expect_none(Frame, within=1)
        text = "".join(ANSWER)
        words = [i for i in range(1, len(text) + 1) if i == len(text) or text[i] == " "]
        heard_to = max((w for w in words if w / 20 <= heard_s + 1e-6), default=0)
        if heard_to == len(text):
            assert bot.answers == [text]
        else:
            assert bot.answers == ([text[:heard_to] + INTERRUPTED_MARK] if heard_to else []), step


async def test_given_text_is_spoken_as_a_response_of_its_own() -> None:
    bot = Bot(ANSWER)
    async with bot.running() as test:
        test.send(TTSSpeakFrame("Hold on. Just a second."))
        await test.expect(BotStoppedSpeakingFrame)
    assert bot.voice.spoken == ["Hold on.", " Just a second."]
    assert bot.answers == ["Hold on. Just a second."]


async def test_a_text_said_inside_an_answer_does_not_move_the_answers_words() -> None:
    """Once the positions of both were counted together."""
    bot = Bot(["One two three. ", "Four five", " six."])
    async with bot.running() as test:
        bot.ask()
        await test.advance(0.25)
        bot.context.assistant.push(TTSSpeakFrame("Hold on."))  # past the model, which is busy
        await test.expect(BotStoppedSpeakingFrame)
        heard = {f.context_id: "" for f in test.received(TTSTextFrame)}
        for frame in test.received(TTSTextFrame):
            heard[frame.context_id] += frame.text
        assert heard == {"r1": "One two three. Four five six.", "r2": "Hold on."}


async def test_critical_speech_survives_interruptions() -> None:
    bot = Bot(ANSWER)
    async with bot.running() as test:
        critical = TTSSpeakFrame("Your call is recorded.")
        critical.interruptible = False
        test.send(critical)
        for _ in range(20):
            await test.advance(0.05)
            test.interrupt()
        await test.expect(BotStoppedSpeakingFrame)
    assert bot.audible_s == pytest.approx(len("Your call is recorded.") / 20, abs=0.01)


async def test_the_end_waits_for_what_is_said() -> None:
    bot = Bot(ANSWER)
    async with bot.running() as test:
        bot.ask()
        await test.expect(LLMFullResponseEndFrame)
        test.session.end()
        await test.expect(EndFrame)
        assert bot.output.playout.queued_ms == 0
    assert bot.audible_s == pytest.approx(len("".join(ANSWER)) / 20, abs=0.01)
