"""Stock speech recognition in our pipelines: the end of a turn comes behind its words."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from pipecat.frames.frames import ProposedUserStartedSpeakingFrame, ProposedUserStoppedSpeakingFrame
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.settings import STTSettings
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies

from bargein import Level, Processor, SpeechInterruptedFrame, handles
from bargein.pipeline.frames import (
    Frame,
    FrameDirection,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.pipeline.stock import SegmentedSTTService, STTService
from bargein.pipeline.testing import PipelineTest
from bargein.processors.bargein import BargeIn
from bargein.processors.context import Context
from bargein.processors.turn import Turn
from bargein.transports.output import AudioOutput

from ..processors.fakes import playing
from .stock_processors import StockVoice

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair


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


class StockTurns(STTService):
    """Tells turns itself, as Deepgram Flux, AssemblyAI and OpenAI with their turn detection do."""

    def __init__(self) -> None:
        super().__init__(
            sample_rate=16_000, ttfs_p99_latency=0.8, settings=STTSettings(model="m", language=None)
        )

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        yield None

    def service_metadata_frame(self) -> Any:
        frame = super().service_metadata_frame()
        frame.user_turn_strategies = ExternalUserTurnStrategies()
        return frame

    async def begin(self, text: str = "") -> None:
        await self.broadcast_frame(ProposedUserStartedSpeakingFrame)
        if text:
            await self.push_frame(InterimTranscriptionFrame(text, "user", "t0"))

    async def words(self, text: str) -> None:
        await self.push_frame(TranscriptionFrame(text, "user", "t1", finalized=True))

    async def end(self) -> None:
        await self.broadcast_frame(ProposedUserStoppedSpeakingFrame)

    async def say(self, text: str, *, late: bool = False) -> None:
        """A turn; its words come before its end, or late."""
        await self.begin(text.split(maxsplit=1)[0])
        if late:
            await self.end()
            await asyncio.sleep(0.3)
        await self.words(text)
        if not late:
            await self.end()


turn_frames = (
    VADUserStartedSpeakingFrame,
    UserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
    UserStoppedSpeakingFrame,
)


@pytest.mark.parametrize("late", [False, True])
async def test_a_service_that_tells_turns_itself_is_answered_once(late: bool) -> None:
    context, ear = Context("Be brief."), StockTurns()
    async with PipelineTest(ear, context.user) as test:
        for number, text in enumerate(("what time is it", "and where"), start=1):
            await ear.say(text, late=late)
            await test.advance(3)
            asked = test.received(LLMContextFrame)
            assert len(asked) == number
            assert "what time is it" in context.messages[-1]["content"]
            for direction_frames in (test.received(), test.received(direction=FrameDirection.UPSTREAM)):
                kinds = [type(f) for f in direction_frames if isinstance(f, turn_frames)]
                assert [kinds.count(kind) for kind in turn_frames] == [number] * 4
        assert context.messages[-1]["content"] == "what time is it and where"
        assert not test.received(ProposedUserStoppedSpeakingFrame)


async def test_a_turn_that_a_service_ends_without_words_is_not_answered() -> None:
    context, ear = Context("Be brief."), StockTurns()
    async with PipelineTest(ear, context.user) as test:
        await ear.begin()
        await ear.end()
        await test.expect(UserStoppedSpeakingFrame, within=2)
        await test.expect_none(LLMContextFrame, within=10)


@pytest.mark.parametrize("ended_by", ["the service first", "Turn first"])
async def test_where_our_turns_come_from_before_it_the_service_does_not_decide(ended_by: str) -> None:
    context, ear = Context("Be brief."), StockTurns()
    async with PipelineTest(Turn(silence_ms=500), ear, context.user) as test:
        for number in (1, 2):
            test.send(VADUserStartedSpeakingFrame())
            await test.advance(0.3)
            await ear.begin("what")
            test.send(VADUserStoppedSpeakingFrame())
            await test.advance(0.1 if ended_by == "the service first" else 0.9)
            await ear.words("what time is it")
            await ear.end()
            await test.advance(3)
            assert len(test.received(LLMContextFrame)) == number
            assert len(test.received(UserStartedSpeakingFrame)) == number


@pytest.mark.parametrize("vad", [False, True])
@pytest.mark.parametrize(
    ("said", "interrupts"), [("no wait listen to me", True), ("stop", True), ("mm-hmm", False)]
)
async def test_a_service_that_tells_turns_itself_barges_in(vad: bool, said: str, interrupts: bool) -> None:
    class Model(Processor):
        @handles(LLMContextFrame)
        def answer(self, frame: LLMContextFrame) -> None:
            with self.session.respond():
                self.push(LLMFullResponseStartFrame())
                self.push(LLMTextFrame("One two three four five six seven eight nine ten. " * 4))
                self.push(LLMFullResponseEndFrame())

    context, ear, output, played = Context(), StockTurns(), AudioOutput(16_000), bytearray()
    test = PipelineTest(ear, BargeIn(), context.user, Model(), context.assistant, StockVoice(), output)
    async with playing(output, played), test:
        await ear.say("tell me something")
        await test.advance(2)
        assert not test.received(SpeechInterruptedFrame)
        if vad:
            test.send(VADUserStartedSpeakingFrame())
        await test.advance(0.2)
        await ear.begin(said)
        await test.advance(0.3)
        await ear.words(said)
        await ear.end()
        if vad:
            test.send(VADUserStoppedSpeakingFrame())
        await test.advance(0.5)
        assert [r.level for r in test.received(SpeechInterruptedFrame)] == [Level.FULL] * interrupts
        await test.advance(60)
        users = [m["content"] for m in context.messages if m["role"] == "user"]
        assert users == ["tell me something", said][: 1 + interrupts]


async def test_pipecats_aggregator_resolves_what_a_service_proposes() -> None:
    context, ear = LLMContext(), StockTurns()
    pair = LLMContextAggregatorPair(context)
    async with PipelineTest(ear, pair.user()) as test:
        await test.advance(1)  # it has learned who tells turns
        await ear.say("what time is it")
        await test.expect(LLMContextFrame, within=5)
        await test.advance(5)
        assert context.messages == [{"role": "user", "content": "what time is it"}]
        assert len(test.received(LLMContextFrame)) == 1
        assert len(test.received(UserStartedSpeakingFrame)) == 1
        assert len(test.received(UserStoppedSpeakingFrame)) == 1


@pytest.mark.parametrize("level", ["interrupt", "interrupt_speech"])
@pytest.mark.parametrize("kind", ["stream", "segments", "turns of its own"])
async def test_a_turn_whose_words_come_through_an_interruption_is_answered(kind: str, level: str) -> None:
    ears = {
        "stream": StockEar(["stop that"], delay_s=0.4),
        "segments": StockSegmentEar(["stop that"], 0.4),
        "turns of its own": StockTurns(),
    }
    ear, context = ears[kind], Context("Be brief.")
    async with PipelineTest(ear, context.user) as test:
        if isinstance(ear, StockTurns):
            await ear.begin("stop")
            getattr(test, level)()
            await ear.words("stop that")
            await ear.end()
        else:
            turn(test)
            await test.advance(0.1)
            getattr(test, level)()
        await test.expect(LLMContextFrame, within=10)
        assert context.messages[-1]["content"] == "stop that"
        await test.advance(10)
        assert len(test.received(LLMContextFrame)) == 1
