"""Code around the engine that breaks in ways nobody planned for: no session may hang or come apart."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress

import anyio
import pytest

from bargein.pipeline import (
    UPSTREAM,
    InputRejected,
    InterruptionFrame,
    Pipeline,
    Processor,
    Response,
    Session,
    SpeechInterruptedFrame,
    handles,
)
from bargein.pipeline.frames import (
    DataFrame,
    ErrorFrame,
    Frame,
    FrameDirection,
    LLMTextFrame,
    SystemFrame,
    TextFrame,
)
from bargein.pipeline.testing import PipelineTest, run_in_virtual_time


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words for it")


def _cancelled() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    future.result()


def _exit() -> None:
    sys.exit(3)


def _group() -> None:
    raise BaseExceptionGroup("several", [asyncio.CancelledError(), ValueError("one of them")])


def _unprintable() -> None:
    raise Unprintable


FAULTS = pytest.mark.parametrize("fault", [_cancelled, _exit, _group, _unprintable])


class Signal(SystemFrame):
    pass


class Inline(Processor):
    def __init__(self, fault: Callable[[], None]) -> None:
        self.fault = fault

    @handles(TextFrame, Signal, InterruptionFrame)
    def work(self, frame: Frame) -> None:
        if not isinstance(frame, TextFrame) or frame.text == "bad":
            self.fault()
        self.push(frame)


class Waiting(Inline):
    @handles(TextFrame, Signal, InterruptionFrame)
    async def work(self, frame: Frame) -> None:  # type: ignore[override]
        await asyncio.sleep(0.1)
        super().work(frame)


class Spawning(Inline):
    @handles(TextFrame, Signal, InterruptionFrame)
    def work(self, frame: Frame) -> None:
        self.spawn(self._later(frame))

    async def _later(self, frame: Frame) -> None:
        super().work(frame)


KINDS = pytest.mark.parametrize("kind", [Inline, Waiting, Spawning])


@FAULTS
@KINDS
async def test_a_handler_that_fails_in_an_odd_way_is_an_error_and_the_next_frame_is_worked_on(
    kind: type[Inline], fault: Callable[[], None]
) -> None:
    pusher = Passing()
    async with PipelineTest(pusher, kind(fault)) as test:
        test.send(TextFrame("bad"))
        test.send(TextFrame("good"))
        error = await test.expect(ErrorFrame, UPSTREAM)
        assert error.error.startswith(kind.__name__)
        await test.expect(TextFrame, text="good")
        test.send(Signal())
        await test.expect(ErrorFrame, UPSTREAM)
        test.send(TextFrame("better"))
        await test.expect(TextFrame, text="better")


class Passing(Processor):
    """In front of the one that fails: what fails there is not its failure."""

    @handles(TextFrame)
    async def go_on(self, frame: TextFrame) -> None:
        self.push(frame)


@FAULTS
@KINDS
async def test_a_handler_of_the_interruption_that_fails_in_an_odd_way_keeps_nobody_from_being_told(
    kind: type[Inline], fault: Callable[[], None]
) -> None:
    async with PipelineTest(kind(fault), Slow()) as test:
        test.send(TextFrame("good"))
        await test.advance(0.2)
        kept = TextFrame("kept")
        kept.interruptible = False
        test.send(kept)
        await test.advance(0.2)
        test.session.interrupt()
        await test.expect(SpeechInterruptedFrame)
        await test.expect(TextFrame, text="kept")
        await test.expect(ErrorFrame, UPSTREAM)


class Slow(Processor):
    @handles(TextFrame)
    async def work(self, frame: TextFrame) -> None:
        await asyncio.sleep(1)
        self.push(frame)


async def test_an_observer_that_fails_costs_no_frame_and_no_interruption() -> None:
    def observe(frame: Frame, direction: FrameDirection, processor: Processor) -> None:
        raise OSError("the disk is full")

    async with PipelineTest(Slow(), Slow()) as test:
        test.session.observe(observe)
        test.send(TextFrame("a"))
        await test.expect(TextFrame, text="a")
        test.send(TextFrame("b"))
        await test.advance(0.5)
        test.session.interrupt()
        await test.expect(SpeechInterruptedFrame)
        await test.expect_none(TextFrame, within=5)


async def test_a_failing_callback_of_an_answer_does_not_break_the_interruption() -> None:
    def fail(response: Response) -> None:
        raise OSError("the database is gone")

    finished: list[str] = []

    class Answerer(Processor):
        @handles(TextFrame)
        async def answer(self, frame: TextFrame) -> None:
            with self.session.respond() as response:
                response.on_finished += [fail, lambda response: finished.append(response.id)]
                await asyncio.sleep(1)
                self.push(LLMTextFrame("done"))

    async with PipelineTest(Answerer()) as test:
        test.send(TextFrame("a"))
        await test.advance(0.5)
        test.session.interrupt()
        await test.expect(SpeechInterruptedFrame, response_id="r1")
        assert finished == ["r1"]
        test.send(TextFrame("b"))
        await test.expect(LLMTextFrame, text="done")
        assert finished == ["r1", "r2"]


async def test_a_voice_that_cannot_be_cut_does_not_break_the_interruption() -> None:
    class Stuck:
        def cut(self) -> None:
            raise OSError("no such device")

    async with PipelineTest(Slow()) as test:
        test.session.voices.append(Stuck())
        test.send(TextFrame("a"))
        await test.advance(0.5)
        test.session.interrupt()
        await test.expect(SpeechInterruptedFrame)
        await test.expect_none(TextFrame, within=5)


@FAULTS
async def test_a_stop_that_fails_in_an_odd_way_leaves_nothing_behind(fault: Callable[[], None]) -> None:
    stopped: list[str] = []

    class Stops(Processor):
        async def stop(self) -> None:
            stopped.append(self.name)

    class Fails(Stops):
        async def stop(self) -> None:
            await super().stop()
            fault()

    processors = [Stops(), Fails(), Stops()]
    async with Session(Pipeline(processors)) as session:
        waiting = session.send_text("hello")
    assert stopped == ["Stops", "Fails", "Stops#2"]
    with pytest.raises(InputRejected):
        await waiting
    async with Session(Pipeline(processors)):
        pass


class Swallows(Processor):
    """Takes its cancellation for a reason to go on with the next frame."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    @handles(TextFrame)
    async def work(self, frame: TextFrame) -> None:
        self.begun.append(frame.text)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(10)

    @handles(Signal)
    async def signal(self, frame: Signal) -> None:
        self.begun.append("signal")
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(10)


async def test_no_queued_frame_is_begun_on_when_the_session_closes() -> None:
    swallows = Swallows()
    async with PipelineTest(swallows) as test:
        for text in ("a", "b", "c"):
            test.send(TextFrame(text))
            test.send(Signal())
        await test.advance(0.1)
    await asyncio.sleep(60)
    assert sorted(swallows.begun) == ["a", "signal"]


async def test_a_group_of_tasks_inside_a_handler_ends_with_it() -> None:
    left: list[str] = []

    class Groups(Processor):
        @handles(TextFrame)
        async def work(self, frame: TextFrame) -> None:
            if frame.text == "anyio":
                async with anyio.create_task_group() as anyio_group:
                    anyio_group.start_soon(self._part, "1")
                    anyio_group.start_soon(self._part, "2")
            else:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._part("1"))
                    group.create_task(self._part("2"))

        async def _part(self, name: str) -> None:
            try:
                await asyncio.sleep(5)
                self.push(LLMTextFrame(name))
            finally:
                left.append(name)
                if name == "2":
                    raise ConnectionError("closed badly")

    for text in ("anyio", "asyncio"):
        left.clear()
        async with PipelineTest(Groups()) as test:
            test.send(TextFrame(text))
            await test.advance(1)
            test.interrupt()
            await test.expect_none(LLMTextFrame, within=20)
            assert sorted(left) == ["1", "2"]
            test.send(DataFrame())
            await test.expect(DataFrame)
            assert not test.received(ErrorFrame, UPSTREAM)


async def test_a_session_inside_a_session_is_on_its_own() -> None:
    """As when a call is handed to another bot: the inner one is started by a handler of the outer."""

    class Background(Processor):
        def __init__(self) -> None:
            self.ticks = 0
            self.responses: list[Response | None] = []

        async def start(self) -> None:
            self.spawn(self._tick())

        async def _tick(self) -> None:
            while True:
                await asyncio.sleep(1)
                self.ticks += 1

        @handles(TextFrame)
        def note(self, frame: TextFrame) -> None:
            self.responses.append(self.response)

    background = Background()
    inner = Session(Pipeline([background]))

    class Outer(Processor):
        @handles(TextFrame)
        async def transfer(self, frame: TextFrame) -> None:
            with self.session.respond():
                async with inner:
                    inner.push(TextFrame("a"))
                    await inner.finished()

    async with PipelineTest(Outer()) as test:
        test.send(TextFrame("x"))
        await test.advance(1.5)
        inner.interrupt()
        await test.advance(2)
        assert background.ticks == 3
        assert background.responses == [None]
        inner.push(TextFrame("b"))
        assert background.responses == [None, None]
        inner.cancel()


async def test_a_report_that_interrupts_again_is_reported_too() -> None:
    class Again(Processor):
        @handles(SpeechInterruptedFrame)
        def again(self, frame: SpeechInterruptedFrame) -> None:
            if frame.reason == "first":
                self.session.interrupt("second")
            self.push(frame)

    async with PipelineTest(Again(), Slow()) as test:
        test.send(TextFrame("a"))
        await test.advance(0.5)
        test.session.interrupt("first")
        reasons = sorted(frame.reason for frame in test.received(SpeechInterruptedFrame))
        assert reasons == ["first", "second"]
        await test.expect_none(TextFrame, within=5)
        test.send(TextFrame("b"))
        await test.expect(TextFrame, text="b")


async def test_ten_thousand_frames_waiting_are_gone_at_once() -> None:
    slow = Slow()
    async with PipelineTest(slow) as test:
        for number in range(10_000):
            frame = TextFrame(str(number))
            frame.interruptible = number % 1000 != 999
            test.send(frame)
        await test.advance(0.5)
        test.interrupt()
        assert "10 queued (10 kept)" in repr(slow) or "9 queued (9 kept)" in repr(slow)
        for number in range(999, 10_000, 1000):
            await test.expect(TextFrame, text=str(number))


def test_a_session_used_from_another_thread_or_its_loop_says_so() -> None:
    async def main() -> None:
        async with PipelineTest(Slow()) as test:
            session = test.session
            for use in (
                lambda: session.push(TextFrame("a")),
                session.interrupt,
                session.interrupt_speech,
                lambda: session.say("a"),
                lambda: session.send_text("a"),
                session.end,
                session.cancel,
            ):
                with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                    await asyncio.to_thread(use)
                with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                    await asyncio.to_thread(asyncio.run, _call(use))
            assert not session.responding
            await test.expect_none(TextFrame, within=5)

    run_in_virtual_time(main())


async def _call(use: Callable[[], object]) -> None:
    use()


async def test_a_push_from_a_thread_is_noticed_in_tests() -> None:
    class Threaded(Processor):
        @handles(TextFrame)
        async def work(self, frame: TextFrame) -> None:
            await asyncio.to_thread(self.push, frame)

    async with PipelineTest(Threaded(), Slow()) as test:
        test.send(TextFrame("a"))
        error = await test.expect(ErrorFrame, UPSTREAM)
        assert "call_soon_threadsafe" in error.error
