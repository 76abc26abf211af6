"""Handlers, order, queues and failures of one processor."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import pytest

from bargein.pipeline import (
    DOWNSTREAM,
    UPSTREAM,
    HandlerError,
    Pipeline,
    Processor,
    Session,
    SessionNotRunning,
    handles,
)
from bargein.pipeline.frames import (
    ControlFrame,
    DataFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    FrameDirection,
    LLMTextFrame,
    StartFrame,
    SystemFrame,
    TextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest


class Shout(Processor):
    @handles(TextFrame)
    def shout(self, frame: TextFrame) -> None:
        self.push(replace(frame, text=frame.text.upper()))


class Slow(Processor):
    """Takes a second for each text."""

    @handles(TextFrame)
    async def slow(self, frame: TextFrame) -> None:
        await asyncio.sleep(1)
        self.push(frame)


class Picky(Processor):
    """Fails at every text but "good", inline or in the worker."""

    @handles(LLMTextFrame)
    async def later(self, frame: LLMTextFrame) -> None:
        await asyncio.sleep(1)
        self.at_once(frame)

    @handles(TextFrame)
    def at_once(self, frame: TextFrame) -> None:
        if frame.text != "good":
            raise ValueError(frame.text)
        self.push(frame)


def texts(test: PipelineTest) -> list[str]:
    return [frame.text for frame in test.received(TextFrame)]


async def test_push_is_a_plain_call_through_inline_handlers() -> None:
    async with PipelineTest(Shout(), Processor(), Shout()) as test:
        test.send(TextFrame("a"))
        assert texts(test) == ["A"]


async def test_a_frame_without_a_handler_passes_in_both_directions() -> None:
    async with PipelineTest(Shout(), Slow()) as test:
        down, up = ControlFrame(), DataFrame()
        test.send(down)
        test.send(up, UPSTREAM)
        assert test.received(ControlFrame) == [down]
        assert test.received(DataFrame, UPSTREAM) == [up]


async def test_a_frame_with_a_handler_belongs_to_it() -> None:
    class Swallow(Processor):
        @handles(TextFrame)
        def swallow(self, frame: TextFrame) -> None:
            pass

    async with PipelineTest(Swallow()) as test:
        test.send(TextFrame("a"))
        await test.expect_none(TextFrame, within=1)


async def test_the_most_specific_handler_wins_also_over_an_inherited_one() -> None:
    class Base(Processor):
        seen: list[str]

        @handles(TextFrame)
        def text(self, frame: TextFrame) -> None:
            self.seen.append("text")

        @handles(DataFrame)
        def data(self, frame: DataFrame) -> None:
            self.seen.append("data")

    class Derived(Base):
        @handles(LLMTextFrame)
        def llm(self, frame: LLMTextFrame) -> None:
            self.seen.append("llm")

    processor = Derived()
    processor.seen = []
    async with PipelineTest(processor) as test:
        for frame in (LLMTextFrame("a"), TextFrame("b"), DataFrame()):
            test.send(frame)
    assert processor.seen == ["llm", "text", "data"]


async def test_one_handler_for_several_types_is_given_the_direction() -> None:
    class Turn(Processor):
        @handles(TextFrame, ControlFrame)
        def turn(self, frame: Frame, direction: FrameDirection) -> None:
            self.push(frame, UPSTREAM if direction is DOWNSTREAM else DOWNSTREAM)

    async with PipelineTest(Turn()) as test:
        test.send(TextFrame("a"))
        test.send(ControlFrame(), UPSTREAM)
        await test.expect(TextFrame, UPSTREAM, text="a")
        await test.expect(ControlFrame)


async def test_an_unhandled_end_frame_waits_for_the_slow_frames_before_it() -> None:
    """Pipecat #3524: a slow processor and a dropped EndFrame."""
    async with PipelineTest(Slow(), Slow()) as test:
        for text in "abc":
            test.send(TextFrame(text))
        test.session.end()
        await test.session.finished()
        assert [getattr(f, "text", f.name) for f in test.received()[1:-1]] == ["a", "b", "c"]
        assert isinstance(test.received()[-1], EndFrame)


async def test_a_busy_processor_keeps_every_pair_of_frames_in_order() -> None:
    async with PipelineTest(Slow(), Shout()) as test:
        sent: list[Frame] = [TextFrame("a"), ControlFrame(), TextFrame("b"), DataFrame(), ControlFrame()]
        for frame in sent:
            test.send(frame)
        await test.advance(5)
        kinds = [type(frame) for frame in test.received()[1:]]
    assert kinds == [type(frame) for frame in sent]


async def test_frames_of_both_directions_are_worked_off_one_at_a_time() -> None:
    async with PipelineTest(Slow()) as test:
        test.send(TextFrame("a"))
        test.send(DataFrame(), UPSTREAM)
        assert not test.received(DataFrame, UPSTREAM)
        await test.expect(DataFrame, UPSTREAM, within=1.5)


async def test_system_frames_overtake_data() -> None:
    async with PipelineTest(Slow(), Slow()) as test:
        test.send(TextFrame("a"))
        test.send(UserStartedSpeakingFrame())
        assert len(test.received(UserStartedSpeakingFrame)) == 1
        assert texts(test) == []


async def test_system_frames_stay_in_order_behind_an_async_handler() -> None:
    class Greeter(Processor):
        @handles(UserStartedSpeakingFrame)
        async def greet(self, frame: UserStartedSpeakingFrame) -> None:
            await asyncio.sleep(1)
            self.push(frame)

        @handles(SystemFrame)
        def inline(self, frame: SystemFrame) -> None:
            self.push(frame)

    async with PipelineTest(Greeter()) as test:
        sent = [
            UserStartedSpeakingFrame(),
            UserStoppedSpeakingFrame(),
            UserStartedSpeakingFrame(),
            UserStoppedSpeakingFrame(),
        ]
        for frame in sent:
            test.send(frame)
        await test.advance(3)
        assert [f.name for f in test.received(SystemFrame)[1:]] == [f.name for f in sent]


async def test_no_interruption_cancels_the_async_handler_of_a_system_frame() -> None:
    class Greeter(Processor):
        @handles(UserStartedSpeakingFrame)
        async def greet(self, frame: UserStartedSpeakingFrame) -> None:
            await asyncio.sleep(1)
            self.push(TextFrame("hello"))

    async with PipelineTest(Greeter()) as test:
        test.send(UserStartedSpeakingFrame())
        await test.advance(0.5)
        test.interrupt()
        await test.expect(TextFrame, text="hello")


async def test_an_exception_becomes_an_error_frame_and_the_next_frame_is_worked_on() -> None:
    async with PipelineTest(Shout(), Picky(), Processor()) as test:
        test.send(LLMTextFrame("bad"))
        test.send(TextFrame("worse"))
        test.send(DataFrame())
        error = await test.expect(ErrorFrame, UPSTREAM, error="Picky: ValueError: BAD")
        assert isinstance(error.exception, ValueError)
        assert error.metadata["processor"] == "Picky"
        await test.expect(ErrorFrame, UPSTREAM, error="Picky: ValueError: WORSE")
        await test.expect(DataFrame)


@pytest.mark.parametrize("kind", ["inline", "async"])
async def test_an_exception_in_a_system_handler_becomes_an_error_frame(kind: str) -> None:
    class Inline(Processor):
        @handles(UserStartedSpeakingFrame)
        def fail(self, frame: Frame) -> None:
            raise ValueError("no")

    class Async(Processor):
        @handles(UserStartedSpeakingFrame)
        async def fail(self, frame: Frame) -> None:
            raise ValueError("no")

    async with PipelineTest(Inline() if kind == "inline" else Async()) as test:
        for _ in range(2):
            test.send(UserStartedSpeakingFrame())
            await test.expect(ErrorFrame, UPSTREAM)


async def test_a_failing_error_handler_does_not_go_round_in_circles() -> None:
    class Sensitive(Processor):
        @handles(ErrorFrame)
        def fail(self, frame: ErrorFrame) -> None:
            raise RuntimeError("not another one")

    async with PipelineTest(Sensitive(), Picky()) as test:
        test.send(TextFrame("bad"))
        await test.expect(ErrorFrame, UPSTREAM, error="Sensitive: RuntimeError: not another one")
        assert len(test.received(ErrorFrame, UPSTREAM)) == 1


async def test_a_cancelled_error_of_foreign_work_does_not_stop_the_processor() -> None:
    """Pipecat #4095: an escaped CancelledError kills the task that reads the input."""

    class Fragile(Processor):
        @handles(TextFrame)
        async def wait(self, frame: TextFrame) -> None:
            if frame.text == "bad":
                foreign = asyncio.ensure_future(asyncio.sleep(9))
                asyncio.get_running_loop().call_soon(foreign.cancel)
                await foreign
            self.push(frame)

        @handles(UserStartedSpeakingFrame)
        async def system(self, frame: Frame) -> None:
            raise asyncio.CancelledError

    async with PipelineTest(Fragile()) as test:
        test.send(TextFrame("bad"))
        test.send(TextFrame("good"))
        await test.expect(ErrorFrame, UPSTREAM)
        await test.expect(TextFrame, text="good")
        for _ in range(2):
            test.send(UserStartedSpeakingFrame())
            await test.expect(ErrorFrame, UPSTREAM)


async def test_a_handler_that_cancels_its_own_task_does_not_stop_the_processor() -> None:
    class Fragile(Processor):
        @handles(TextFrame, UserStartedSpeakingFrame)
        async def give_up(self, frame: Frame) -> None:
            if getattr(frame, "text", "bad") == "bad":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)
            self.push(frame)

    async with PipelineTest(Fragile()) as test:
        test.send(TextFrame("bad"))
        test.send(TextFrame("good"))
        await test.expect(ErrorFrame, UPSTREAM)
        await test.expect(TextFrame, text="good")
        for _ in range(2):
            test.send(UserStartedSpeakingFrame())
            await test.expect(ErrorFrame, UPSTREAM)


async def test_a_broadcast_goes_both_ways_as_siblings() -> None:
    class Announcer(Processor):
        @handles(TextFrame)
        def announce(self, frame: TextFrame) -> None:
            self.broadcast(UserStartedSpeakingFrame)

    async with PipelineTest(Processor(), Announcer(), Processor()) as test:
        test.send(TextFrame("a"))
        up = await test.expect(UserStartedSpeakingFrame, UPSTREAM)
        down = await test.expect(UserStartedSpeakingFrame)
        assert up.broadcast_sibling_id == down.id
        assert down.broadcast_sibling_id == up.id


async def test_spawned_work_runs_beside_the_handler_and_its_failure_is_reported() -> None:
    class Spawner(Processor):
        @handles(TextFrame)
        def start_work(self, frame: TextFrame) -> None:
            self.spawn(self.work(frame.text))

        async def work(self, text: str) -> None:
            await asyncio.sleep(1)
            if text == "bad":
                raise ValueError(text)
            self.push(LLMTextFrame(text))

    async with PipelineTest(Spawner()) as test:
        test.send(TextFrame("bad"))
        test.send(TextFrame("good"))
        test.send(DataFrame())
        assert len(test.received(DataFrame)) == 1
        await test.expect(LLMTextFrame, text="good")
        await test.expect(ErrorFrame, UPSTREAM, error="Spawner: ValueError: bad")


async def test_work_spawned_and_interrupted_at_once_leaves_no_unawaited_coroutine() -> None:
    class Spawner(Processor):
        @handles(TextFrame)
        def start_work(self, frame: TextFrame) -> None:
            self.spawn(asyncio.sleep(1))

    async with PipelineTest(Spawner()) as test:
        test.send(TextFrame("a"))
        test.interrupt()
        await test.advance(1)


def test_handlers_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(HandlerError, match=r"both one and two handle TextFrame; keep one"):

        class Torn(Processor):
            @handles(TextFrame)
            def one(self, frame: TextFrame) -> None: ...

            @handles(TextFrame)
            def two(self, frame: TextFrame) -> None: ...


def test_a_handler_with_the_wrong_parameters_is_refused() -> None:
    with pytest.raises(HandlerError, match=r"Wrong\.handle: .* not 1 parameters"):

        class Wrong(Processor):
            @handles(TextFrame)
            def handle(self) -> None: ...


def test_a_handler_that_yields_is_refused() -> None:
    """As services of Pipecat do; nobody would iterate over it."""
    with pytest.raises(HandlerError, match=r"Yields\.handle: a handler pushes frames with self\.push"):

        class Yields(Processor):
            @handles(TextFrame)
            async def handle(self, frame: TextFrame) -> AsyncIterator[Frame]:
                yield frame

    with pytest.raises(HandlerError, match=r"yields none"):

        class YieldsInline(Processor):
            @handles(TextFrame)
            def handle(self, frame: TextFrame) -> Iterator[Frame]:
                yield frame


async def test_the_engines_names_are_not_for_subclasses() -> None:
    with pytest.raises(HandlerError, match=r"Runs\._run: the name is the engine's; choose another"):

        class Runs(Processor):
            async def _run(self) -> None: ...

    class Keeps(Processor):
        def __init__(self) -> None:
            self._queue = asyncio.Queue()  # type: ignore[assignment]

    with pytest.raises(HandlerError, match=r"Keeps\._queue: the name is the engine's"):
        await Session(Pipeline([Keeps()])).run()


async def test_pushing_outside_a_session_is_refused() -> None:
    processor = Shout()
    with pytest.raises(SessionNotRunning, match="Shout is in no running session"):
        processor.push(TextFrame("a"))
    with pytest.raises(SessionNotRunning):
        processor.interrupt()
    async with Session(Pipeline([processor])):
        processor.push(TextFrame("a"))
    with pytest.raises(SessionNotRunning):
        processor.push(TextFrame("a"))


async def test_a_start_frame_comes_first() -> None:
    async with PipelineTest(Slow()) as test:
        test.send(TextFrame("a"))
        await test.expect(TextFrame)
        assert isinstance(test.received()[0], StartFrame)


async def test_frame_types_made_later_find_their_handlers() -> None:
    @dataclass
    class Whisper(TextFrame):
        volume: float = 0.1

    async with PipelineTest(Shout()) as test:
        test.send(Whisper("psst"))
        await test.expect(Whisper, text="PSST", volume=0.1)
