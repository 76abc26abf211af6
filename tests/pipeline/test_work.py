"""Epochs and responses: which work running code belongs to."""

import asyncio

from bargein.pipeline import Pipeline, Processor, Response, Session, handles
from bargein.pipeline.frames import LLMTextFrame, TextFrame, UserStartedSpeakingFrame
from bargein.pipeline.testing import PipelineTest
from bargein.pipeline.work import ROOT, Epoch, Work, current_work


class Spy(Processor):
    """Notes the work its handlers run for."""

    def __init__(self) -> None:
        self.works: list[Work] = []

    @handles(LLMTextFrame)
    async def later(self, frame: LLMTextFrame) -> None:
        await asyncio.sleep(1)
        self.works.append(current_work.get())

    @handles(TextFrame, UserStartedSpeakingFrame)
    def now(self, frame: TextFrame) -> None:
        self.works.append(current_work.get())


class Answer(Processor):
    """Begins a response for each text and says two words in it, 1 s apart."""

    def __init__(self) -> None:
        self.responses: list[Response] = []

    @handles(TextFrame)
    async def answer(self, frame: TextFrame) -> None:
        with self.session.respond() as response:
            self.responses.append(response)
            self.push(LLMTextFrame("one"))
            await asyncio.sleep(1)
            self.push(LLMTextFrame("two"))


async def test_an_injected_frame_brings_the_current_epoch_and_leaves_no_trace() -> None:
    spy = Spy()
    async with PipelineTest(spy) as test:
        for number in range(3):
            test.send(TextFrame("a"))
            test.send(LLMTextFrame("b"))
            await test.advance(2)
            for work in spy.works[-2:]:
                assert work.epoch is test.session.epoch
                assert work.epoch.response == number
            assert current_work.get() is ROOT
            test.interrupt()


async def test_system_frames_from_outside_run_as_root() -> None:
    spy = Spy()
    async with PipelineTest(spy) as test:
        test.send(UserStartedSpeakingFrame())
    assert spy.works == [ROOT]


async def test_epochs_count_both_levels() -> None:
    async with PipelineTest(Processor()) as test:
        test.interrupt_speech()
        test.interrupt()
        test.interrupt_speech()
        epoch = test.session.epoch
        assert (epoch.response, epoch.speech) == (1, 3)
        assert epoch != Epoch(test.session, 1, 3)


async def test_the_response_travels_with_its_frames() -> None:
    answer, spy = Answer(), Spy()
    async with PipelineTest(answer, spy) as test:
        test.send(TextFrame("a"))
        test.send(TextFrame("b"))
        await test.advance(5)
        first, second = answer.responses
        assert [work.response for work in spy.works] == [first, first, second, second]
        assert first.complete
        assert first.finished
        assert (first.id, second.id) == ("r1", "r2")


async def test_an_interrupted_response_is_finished() -> None:
    answer = Answer()
    async with PipelineTest(answer) as test:
        test.send(TextFrame("a"))
        await test.advance(0.5)
        test.interrupt_speech()
        (response,) = answer.responses
        assert response.silenced
        assert not response.finished
        test.interrupt()
        assert response.finished


async def test_work_of_one_session_is_fresh_in_another() -> None:
    """A bot that listens to another one: the first one's epochs mean nothing to the second."""

    class Bridge(Processor):
        def __init__(self, other: Session) -> None:
            self.other = other

        @handles(TextFrame)
        async def over(self, frame: TextFrame) -> None:
            try:
                await asyncio.sleep(1)
            finally:
                self.other.push(frame)

    spy = Spy()
    async with Session(Pipeline([spy])) as other, PipelineTest(Bridge(other)) as test:
        test.send(TextFrame("a"))
        await test.advance(0.5)
        test.interrupt()
        await test.advance(1)
        assert [work.epoch for work in spy.works] == [other.epoch]
