"""Voices whose audio and word times are not what a voice should give."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from bargein.pipeline import UPSTREAM, SpeechInterruptedFrame
from bargein.pipeline.frames import (
    BotStoppedSpeakingFrame,
    EndFrame,
    ErrorFrame,
    SpeechHoldFrame,
    SpeechReleaseFrame,
    TTSSpeakFrame,
    TTSTextFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import Context
from bargein.processors.tts import TTS, Sentences
from bargein.transports.output import AudioOutput

from .fakes import FakeChunk, FakeVoice, FakeWord, playing

TEXT = "One two three four."
ENDS = [3, 7, 13, 19]  # of its words, in characters
RATE = 16_000


@dataclass
class OddVoice:
    """Gives these chunks for each text."""

    chunks: list[FakeChunk] = field(default_factory=list)

    async def synthesize(self, text: str) -> AsyncGenerator[FakeChunk, None]:
        await asyncio.sleep(0.1)
        for chunk in self.chunks:
            yield chunk


def audio(seconds: float) -> bytes:
    return b"\1\1" * int(seconds * RATE)


@asynccontextmanager
async def speaking(voice: OddVoice | FakeVoice) -> AsyncIterator[tuple[PipelineTest, Context]]:
    context, output = Context("Be brief."), AudioOutput(RATE)
    test = PipelineTest(context.assistant, Sentences(), TTS(voice), output)
    async with test, playing(output, bytearray()):
        yield test, context


async def heard_after(voice: OddVoice, seconds: float) -> str:
    """What of the text is in the context when it is interrupted so long after its first sound."""
    async with speaking(voice) as (test, _):
        test.send(TTSSpeakFrame(TEXT))
        await test.advance(0.1 + seconds + 0.03)
        test.interrupt()
        report = await test.expect(SpeechInterruptedFrame)
        assert "".join(frame.text for frame in test.received(TTSTextFrame)) == report.heard
        return report.heard


def words(*times: tuple[int, float]) -> tuple[FakeWord, ...]:
    return tuple(FakeWord(end, end_s) for end, end_s in times)


IN_ORDER = words(*((end, index + 1.0) for index, end in enumerate(ENDS)))


@pytest.mark.parametrize(
    "cut",
    [
        lambda: [FakeChunk(audio(4), RATE, IN_ORDER)],
        lambda: [FakeChunk(audio(4), RATE, IN_ORDER[::-1])],
        # All times before all audio, as a service sends them that aligns first.
        lambda: [FakeChunk(b"", RATE, IN_ORDER), *[FakeChunk(audio(0.5), RATE, ())] * 8],
        lambda: [FakeChunk(audio(0.5), RATE, IN_ORDER), *[FakeChunk(audio(0.5), RATE, ())] * 7],
        # Each word a chunk late.
        lambda: [
            FakeChunk(audio(1), RATE, ()),
            *[FakeChunk(audio(1), RATE, (word,)) for word in IN_ORDER[:3]],
            FakeChunk(b"", RATE, IN_ORDER[3:]),
        ],
    ],
    ids=["together", "backwards", "ahead", "first", "late"],
)
@pytest.mark.parametrize("count", [0, 1, 2, 3])
async def test_the_words_heard_are_those_that_were_over(
    cut: Callable[[], list[FakeChunk]], count: int
) -> None:
    heard = await heard_after(OddVoice(cut()), count + 0.5)
    assert heard == TEXT[: ([0, *ENDS])[count]]


@pytest.mark.parametrize(
    "times",
    [
        words((3, 1.0), (7, 60.0), (13, math.inf), (19, 1e9)),
        words((3, 1.0), (7, math.nan)),
        words((3, 1.0), (500, 1.5)),
        words((3, 1.0), (7, -5.0)),
        words((-3, 0.5), (3, 1.0)),
    ],
    ids=["beyond the audio", "no number", "beyond the text", "before the audio", "before the text"],
)
async def test_impossible_times_spoil_no_sentence(times: tuple[FakeWord, ...]) -> None:
    voice = OddVoice([FakeChunk(audio(2), RATE, times)])
    async with speaking(voice) as (test, context):
        test.send(TTSSpeakFrame(TEXT))
        test.send(TTSSpeakFrame("Five."))
        await test.expect(BotStoppedSpeakingFrame)
        assert not test.received(ErrorFrame, UPSTREAM)
        assert "".join(frame.text for frame in test.received(TTSTextFrame)) == f"{TEXT}Five."
        assert [m["content"] for m in context.messages[1:]] == [TEXT, "Five."]


@pytest.mark.parametrize("chunks", [[], [FakeChunk(b"", RATE, ())], [FakeChunk(b"", RATE, IN_ORDER)]])
async def test_a_voice_that_gives_no_sound_holds_nothing_up(chunks: list[FakeChunk]) -> None:
    async with speaking(OddVoice(chunks)) as (test, _):
        test.send(TTSSpeakFrame(TEXT))
        test.send(TTSSpeakFrame("Five."))
        await test.advance(1)
        assert not test.session.responding
        assert not test.received(BotStoppedSpeakingFrame)
        test.session.end()
        await test.expect(EndFrame, within=5)


async def test_an_end_during_a_hold_waits_for_its_release() -> None:
    async with speaking(FakeVoice()) as (test, _):
        test.send(TTSSpeakFrame(TEXT))
        await test.advance(0.5)
        test.send(SpeechHoldFrame())
        test.session.end()
        await test.expect_none(EndFrame, within=5)
        test.send(SpeechReleaseFrame())
        await test.expect(EndFrame, within=5)
        assert "".join(frame.text for frame in test.received(TTSTextFrame)) == TEXT


async def test_critical_words_behind_a_long_answer_come_right_after_an_interruption() -> None:
    async with speaking(FakeVoice()) as (test, context):
        test.send(TTSSpeakFrame("A long answer. " * 20))
        await test.advance(1)
        test.session.say("Fire! Leave the house.", critical=True)
        await test.advance(1)
        test.interrupt()
        test.interrupt()
        await test.expect(BotStoppedSpeakingFrame, within=5)
        assert context.messages[-1]["content"] == "Fire! Leave the house."
        assert not test.session.responding
