"""Stock speech recognition in our pipelines: the end of a turn comes behind its words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from pipecat.services.settings import STTSettings

from bargein import SpeechInterruptedFrame
from bargein.pipeline.frames import (
    Frame,
    FrameDirection,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    LLMContextFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.pipeline.stock import SegmentedSTTService, STTService
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import Context


class StockEar(STTService):
    """Transcribes when the VAD stops, after `delay_s`, by a receiver of its own as over a websocket."""

    def __init__(self, texts: list[str], delay_s: float = 0.3) -> None:
        super().__init__(
            sample_rate=16_000, ttfs_p99_latency=0.8, settings=STTSettings(model="m", language=None)
        )
        self.texts, self.delay_s = texts, delay_s
        self.heard = b""

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        self.heard += audio
        yield None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStartedSpeakingFrame):
            await self.push_frame(InterimTranscriptionFrame("...", "user", "t0"))
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            self.create_task(self._transcribe())

    async def _transcribe(self) -> None:
        await asyncio.sleep(self.delay_s)
        if self.texts:
            await self.push_frame(TranscriptionFrame(self.texts.pop(0), "user", "t1"))


def turn(test: PipelineTest) -> None:
    """The user says something, and the turn ends at once."""
    for frame in (VADUserStartedSpeakingFrame(), UserStartedSpeakingFrame()):
        test.send(frame)
    test.send(InputAudioRawFrame(b"\1\0" * 320, 16_000, 1))
    for end in (VADUserStoppedSpeakingFrame(), UserStoppedSpeakingFrame()):
        test.send(end)


async def test_a_late_transcript_still_belongs_to_its_turn() -> None:
    context = Context("Be brief.")
    ear = StockEar(["what time is it"])
    async with PipelineTest(ear, context.user) as test:
        turn(test)
        asked = await test.expect(LLMContextFrame)
        assert asked.context.messages[-1] == {"role": "user", "content": "what time is it"}
        kinds = [
            type(f) for f in test.received() if isinstance(f, TranscriptionFrame | UserStoppedSpeakingFrame)
        ]
        assert kinds == [TranscriptionFrame, UserStoppedSpeakingFrame]
        assert ear.heard == b"\1\0" * 320


async def test_words_that_are_later_than_the_service_says_are_answered() -> None:
    """One turn in a hundred, by what services say of themselves; more on a slow machine."""
    context = Context("Be brief.")
    async with PipelineTest(StockEar(["what time is it", "hello"], delay_s=3.0), context.user) as test:
        turn(test)
        await test.expect(UserStoppedSpeakingFrame, within=1)
        await test.expect(TranscriptionFrame, within=5)
        await test.expect(UserStoppedSpeakingFrame)
        asked = await test.expect(LLMContextFrame)
        assert asked.context.messages[-1] == {"role": "user", "content": "what time is it"}
        turn(test)
        await test.expect(LLMContextFrame, within=5)
        await test.advance(5)
        assert len(test.received(LLMContextFrame)) == 2
        assert len(test.received(UserStoppedSpeakingFrame)) == 4


async def test_late_words_belong_to_the_turn_in_which_they_come() -> None:
    context = Context("Be brief.")
    async with PipelineTest(StockEar(["what time is it"], delay_s=3.0), context.user) as test:
        turn(test)
        await test.expect(UserStoppedSpeakingFrame, within=1)
        test.send(VADUserStartedSpeakingFrame())
        await test.expect(TranscriptionFrame, within=5)
        await test.expect_none(LLMContextFrame, within=1)
        test.send(UserStoppedSpeakingFrame())
        await test.expect(LLMContextFrame)
        assert context.messages[-1]["content"] == "what time is it"


class StockSegmentEar(SegmentedSTTService):
    """Transcribes each segment of speech in its turn, in `delay_s`; one without a text is noise."""

    def __init__(self, texts: list[str], delay_s: float) -> None:
        super().__init__(
            sample_rate=16_000, ttfs_p99_latency=0.8, settings=STTSettings(model="m", language=None)
        )
        self.texts, self.delay_s = texts, delay_s

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        await asyncio.sleep(self.delay_s)
        if text := self.texts.pop(0):
            yield TranscriptionFrame(text, "user", f"{asyncio.get_running_loop().time():09.3f}")


@pytest.mark.parametrize("delay_s", [0.01, 0.3, 2.0])
async def test_a_turn_of_several_segments_is_answered_with_its_last_words(delay_s: float) -> None:
    """The first segment's transcript comes while the user speaks on."""
    context = Context("Be brief.")
    async with PipelineTest(StockSegmentEar(["what time", "is it"], delay_s), context.user) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(VADUserStoppedSpeakingFrame())
        test.send(VADUserStartedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="what time", within=5)
        for end in (VADUserStoppedSpeakingFrame(), UserStoppedSpeakingFrame()):
            test.send(end)
        await test.expect(LLMContextFrame, within=5)
        assert context.messages[-1]["content"] == "what time is it"
        assert len(test.received(LLMContextFrame)) == 1


async def test_a_segment_without_words_ends_the_turn_when_that_is_known() -> None:
    async with PipelineTest(StockSegmentEar([""], 0.3)) as test:
        turn(test)
        await test.expect_none(UserStoppedSpeakingFrame, within=0.25)
        await test.expect(UserStoppedSpeakingFrame, within=0.1)
        await test.advance(5)
        assert len(test.received(UserStoppedSpeakingFrame)) == 1


async def test_a_segment_that_takes_too_long_is_not_waited_for() -> None:
    context = Context("Be brief.")
    async with PipelineTest(StockSegmentEar(["what time is it"], 7.0), context.user) as test:
        turn(test)
        await test.expect_none(UserStoppedSpeakingFrame, within=4.9)
        await test.expect(UserStoppedSpeakingFrame, within=0.2)
        await test.expect(LLMContextFrame, within=5)
        assert context.messages[-1]["content"] == "what time is it"
        assert len(test.received(UserStoppedSpeakingFrame)) == 2


async def test_noise_that_takes_long_to_transcribe_ends_the_turn_once() -> None:
    async with PipelineTest(StockSegmentEar([""], 7.0)) as test:
        turn(test)
        await test.advance(10)
        assert len(test.received(UserStoppedSpeakingFrame)) == 1


async def test_a_turn_without_words_ends_all_the_same() -> None:
    async with PipelineTest(StockEar([])) as test:
        turn(test)
        await test.expect_none(UserStoppedSpeakingFrame, within=0.7)
        await test.expect(UserStoppedSpeakingFrame, within=0.2)


async def test_a_turn_whose_words_are_there_ends_at_once() -> None:
    async with PipelineTest(StockEar(["hello"], delay_s=0.0)) as test:
        test.send(VADUserStartedSpeakingFrame())
        test.send(VADUserStoppedSpeakingFrame())
        await test.expect(TranscriptionFrame, text="hello")
        test.send(UserStoppedSpeakingFrame())
        await test.expect(UserStoppedSpeakingFrame, within=0.01)


async def test_the_end_of_the_session_lets_the_turn_end() -> None:
    async with PipelineTest(StockEar([])) as test:
        turn(test)
        test.session.end()
        await test.session.finished()
        assert test.received(UserStoppedSpeakingFrame)


@pytest.mark.parametrize("level", ["interrupt", "interrupt_speech"])
async def test_no_interruption_takes_the_users_words(level: str) -> None:
    async with PipelineTest(StockEar(["stop that"])) as test:
        turn(test)
        await test.advance(0.1)
        interrupt: Any = getattr(test, level)
        interrupt()
        await test.expect(SpeechInterruptedFrame)
        await test.expect(TranscriptionFrame, text="stop that")
        await test.expect(UserStoppedSpeakingFrame)
