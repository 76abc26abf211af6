"""Sentences made ahead of their time: no gaps, the same order, and nothing left behind by an interruption."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest

from bargein import UPSTREAM, Level, Pipeline, Session
from bargein.pipeline.frames import (
    ErrorFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    OutputAudioRawFrame,
    SpeechInterruptedFrame,
    TTSStoppedFrame,
)
from bargein.pipeline.testing import PipelineTest, regex
from bargein.processors.speech_ahead import SpeechAhead
from bargein.processors.tts import TTS, Sentences
from bargein.transports.output import AudioOutput

from .fakes import FakeChunk, FakeVoice, playing

TEXTS = ["One.", " Two.", " Three.", " Four.", " Five.", " Six."]


class Slow(FakeVoice):
    """Takes a second for each request, and its sentences last a fifth of one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[float, str]] = []
        self.running = self.most = 0

    async def synthesize(self, text: str) -> AsyncGenerator[FakeChunk, None]:
        self.asked.append((asyncio.get_running_loop().time(), text.strip()))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(1.0)
            if "Two" in text and "broken" in text:
                raise RuntimeError("no breath")
            yield FakeChunk(b"\1\1" * 3_200, 16_000, ())
        finally:
            self.running -= 1
            self.closed.append(text)


def bot(voice: FakeVoice, requests: int) -> PipelineTest:
    ahead = [SpeechAhead(voice, requests)] if requests else []
    return PipelineTest(Sentences(), *ahead, TTS(voice))


def say(test: PipelineTest, texts: list[str]) -> None:
    with test.session.respond():
        test.send(LLMFullResponseStartFrame())
        for text in texts:
            test.send(LLMTextFrame(text))
        test.send(LLMFullResponseEndFrame())


async def spoken_s(requests: int) -> tuple[Slow, float]:
    voice = Slow()
    async with bot(voice, requests) as test:
        began = asyncio.get_running_loop().time()
        say(test, TEXTS)
        await test.expect(TTSStoppedFrame, within=60)
        return voice, asyncio.get_running_loop().time() - began


async def test_several_sentences_are_made_at_the_same_time_and_no_more_than_asked_for() -> None:
    voice, alone_s = await spoken_s(0)
    assert voice.most == 1
    assert alone_s == pytest.approx(6, abs=0.1)
    voice, together_s = await spoken_s(3)
    assert voice.most == 3
    assert together_s == pytest.approx(2, abs=0.1)
    assert [text for _, text in voice.asked] == [text.strip() for text in TEXTS]
    assert all(a <= b for (a, _), (b, _) in pairwise(voice.asked))


async def test_they_are_spoken_in_their_order_whichever_is_ready_first() -> None:
    class Uneven(FakeVoice):
        async def synthesize(self, text: str) -> AsyncGenerator[FakeChunk, None]:
            number = TEXTS.index(text if text in TEXTS else f" {text}")
            await asyncio.sleep(2.0 - number * 0.3)
            yield FakeChunk(bytes([number + 1] * 200), 16_000, ())

    async with bot(Uneven(), 6) as test:
        say(test, TEXTS)
        await test.expect(TTSStoppedFrame)
        sounds = [f.audio[0] for f in test.received(OutputAudioRawFrame) if f.audio]
    assert sounds == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("level", [Level.FULL, Level.SPEECH])
async def test_an_interruption_cancels_all_that_was_asked_for(level: Level) -> None:
    voice = Slow()
    async with bot(voice, 3) as test:
        say(test, TEXTS)
        await test.advance(0.5)
        assert voice.running == 3
        (test.interrupt if level is Level.FULL else test.interrupt_speech)("stop")
        await test.expect(SpeechInterruptedFrame)
        await test.advance(0.01)
        assert voice.running == 0
        await test.expect_none(OutputAudioRawFrame, within=10)
        assert len(voice.asked) == 3
        say(test, ["Next."])
        await test.expect(OutputAudioRawFrame)


async def test_requests_that_cannot_be_cancelled_hold_up_nobody() -> None:
    class Undead(Slow):
        async def synthesize(self, text: str) -> AsyncGenerator[FakeChunk, None]:
            self.asked.append((asyncio.get_running_loop().time(), text.strip()))
            if "Next" not in text:
                for _ in range(10):
                    try:
                        await asyncio.sleep(1.0)
                    except asyncio.CancelledError:
                        continue
            yield FakeChunk(b"\1\1" * 3_200, 16_000, ())

    voice = Undead()
    async with bot(voice, 2) as test:
        say(test, TEXTS)
        await test.advance(0.5)
        test.interrupt()
        say(test, ["Next."])
        await test.expect(OutputAudioRawFrame, within=0.1)
        await test.advance(20)
        assert sum(1 for frame in test.received(OutputAudioRawFrame) if frame.audio) == 1
        assert [text for _, text in voice.asked] == ["One.", "Two.", "Next."]


async def test_a_sentence_that_fails_is_told_and_the_others_are_spoken() -> None:
    async with bot(Slow(), 3) as test:
        say(test, ["One.", " Two is broken.", " Three."])
        await test.expect(TTSStoppedFrame)
        assert sum(1 for frame in test.received(OutputAudioRawFrame) if frame.audio) == 2
        await test.expect(ErrorFrame, UPSTREAM, error=regex("no breath"))


async def test_critical_speech_is_spoken_to_its_end() -> None:
    voice, played = Slow(), bytearray()
    output = AudioOutput(16_000)
    parts = [Sentences(), SpeechAhead(voice, 3), TTS(voice), output]
    async with Session(Pipeline(parts)) as session, playing(output, played):
        session.say("One. Two. Three. Four. Five.", critical=True)
        await asyncio.sleep(0.5)
        session.interrupt()
        await asyncio.sleep(10)
        assert sum(1 for byte in played if byte) / 32_000 == pytest.approx(1.0, abs=0.01)
