"""Pipelines in pipelines, and beside each other."""

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from bargein.pipeline import (
    UPSTREAM,
    InterruptionFrame,
    Parallel,
    Pipeline,
    PipelineError,
    Processor,
    SpeechInterruptedFrame,
    handles,
)
from bargein.pipeline.frames import (
    DataFrame,
    EndFrame,
    Frame,
    LLMTextFrame,
    TextFrame,
    UserStartedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest


class Tag(Processor):
    """Passes each text on after a while, followed by one of its own."""

    def __init__(self, tag: str, seconds: float = 0) -> None:
        self.tag = tag
        self.seconds = seconds

    @handles(TextFrame)
    async def add(self, frame: TextFrame) -> None:
        await asyncio.sleep(self.seconds)
        self.push(frame)
        self.push(replace(frame, text=frame.text + self.tag))


class Shout(Processor):
    @handles(TextFrame)
    def shout(self, frame: TextFrame) -> None:
        self.push(LLMTextFrame(frame.text.upper()))


def texts(test: PipelineTest) -> list[str]:
    return [frame.text for frame in test.received(TextFrame)]


async def test_nested_pipelines_are_one_row() -> None:
    inner = Pipeline([Shout()])
    async with PipelineTest(Processor(), Pipeline([Processor(), inner])) as test:
        test.send(TextFrame("a"))
        assert texts(test) == ["A"]


async def test_every_branch_gets_every_frame_and_it_leaves_once() -> None:
    async with PipelineTest(Parallel([Processor()], [Tag("x")], [Tag("y"), Processor()])) as test:
        test.send(TextFrame("a"))
        test.send(UserStartedSpeakingFrame())
        test.send(DataFrame(), UPSTREAM)
        await test.advance(1)
        assert sorted(texts(test)) == ["a", "ax", "ay"]
        assert len(test.received(UserStartedSpeakingFrame)) == 1
        assert len(test.received(DataFrame, UPSTREAM)) == 1


async def test_parallels_nest() -> None:
    inner = Parallel([Tag("x")], [Parallel([Tag("y")], [Shout()])])
    async with PipelineTest(Parallel([inner], [Processor()]), Shout()) as test:
        test.send(TextFrame("a"))
        test.session.end()
        await test.session.finished()
        assert sorted(texts(test)) == ["A", "A", "AX", "AY"]
        assert len(test.received(EndFrame)) == 1


async def test_the_end_waits_for_the_slowest_branch() -> None:
    async with PipelineTest(Parallel([Processor()], [Tag("x", seconds=5)])) as test:
        test.send(TextFrame("a"))
        test.session.end()
        await test.session.finished()
        assert texts(test) == ["a", "ax"]


async def test_two_ends_do_not_pass_as_one() -> None:
    async with PipelineTest(Parallel([Processor()], [Tag("x", seconds=5)])) as test:
        test.send(TextFrame("a"))
        test.session.end()
        test.session.end()
        await test.session.finished()
        assert texts(test) == ["a", "ax"]


async def test_order_holds_through_branches_of_different_speed() -> None:
    async with PipelineTest(Parallel([Tag("", seconds=1)], [Tag("", seconds=0.3)]), Processor()) as test:
        sent = [LLMTextFrame(str(number)) for number in range(5)]
        for frame in sent:
            test.send(frame)
        await test.advance(10)
        arrived = [frame for frame in test.received(LLMTextFrame) if any(frame is s for s in sent)]
        assert arrived == sent


async def test_an_interruption_reaches_every_branch_once() -> None:
    class Told(Processor):
        def __init__(self) -> None:
            self.frames: list[Frame] = []

        @handles(InterruptionFrame, SpeechInterruptedFrame)
        def told(self, frame: Frame) -> None:
            self.frames.append(frame)
            self.push(frame)

    told = [Told() for _ in range(4)]
    branches = Parallel([told[1], Tag("x", seconds=1)], [Tag("y", seconds=1), told[2]])
    async with PipelineTest(told[0], branches, told[3]) as test:
        test.send(TextFrame("a"))
        test.send(TextFrame("b"))
        await test.advance(0.5)
        test.interrupt()
        await test.expect(SpeechInterruptedFrame)
        await test.expect_none(TextFrame, within=5)
        assert [len(processor.frames) for processor in told] == [2, 2, 2, 2]
        assert len(test.received(SpeechInterruptedFrame)) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pipeline([]), "needs at least one processor"),
        (Parallel, "needs at least one branch"),
        (lambda: Parallel([]), "needs at least one processor"),
        (lambda: Pipeline([Processor(), cast(Processor, "tts")]), "part 1 of the pipeline is 'tts'"),
        (lambda: Pipeline([p := Processor(), Parallel([p])]), "Processor is in the pipeline twice"),
    ],
)
def test_pipelines_that_make_no_sense_are_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(PipelineError, match=message):
        make()


async def test_the_state_report_shows_branches() -> None:
    async with PipelineTest(Parallel([Tag("x")], [Pipeline([Shout(), Tag("y", seconds=9)])])) as test:
        test.send(TextFrame("a"))
        await test.advance(1)
        lines = repr(test.session.pipeline).splitlines()
    assert [line.split(" for ")[0].rstrip("0123456789") for line in lines[1:]] == [
        "  <_Probe idle>",
        "  branch 1:",
        "    <Tag idle>",
        "  branch 2:",
        "    <Shout idle>",
        "    <Tag#2 working on LLMTextFrame#",
        "  <_Probe#2 idle>",
    ]
