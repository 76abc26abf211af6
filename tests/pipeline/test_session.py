"""The life of a session: start, end, cancel, and what is left of it."""

import asyncio
from contextlib import suppress

import pytest

from bargein.pipeline import (
    UPSTREAM,
    Pipeline,
    Processor,
    ProcessorInUse,
    Session,
    SessionNotRunning,
    StartFailed,
    handles,
)
from bargein.pipeline.frames import (
    CancelFrame,
    DataFrame,
    EndFrame,
    EndWorkerFrame,
    Frame,
    FrameDirection,
    LLMTextFrame,
    StartFrame,
    TextFrame,
)
from bargein.pipeline.tasks import GRACE_S
from bargein.pipeline.testing import PipelineTest, leak_check


class Journal(Processor):
    """Writes its life into a list it shares."""

    def __init__(self, label: str, journal: list[str]) -> None:
        self.label = label
        self.journal = journal

    async def start(self) -> None:
        self.journal.append(f"start {self.label}")

    async def stop(self) -> None:
        self.journal.append(f"stop {self.label}")

    @handles(StartFrame, TextFrame, CancelFrame, EndFrame)
    def note(self, frame: Frame) -> None:
        self.journal.append(f"{type(frame).__name__} {self.label}")
        self.push(frame)


class Fails(Journal):
    async def start(self) -> None:
        await super().start()
        raise OSError("no microphone")


class Endless(Processor):
    """Works on a text until it is cancelled."""

    @handles(TextFrame)
    async def work(self, frame: TextFrame) -> None:
        self.spawn(asyncio.Event().wait())  # type: ignore[arg-type]
        await asyncio.Event().wait()


class Deaf(Processor):
    """Goes on for some seconds, whatever cancels it, and then pushes."""

    def __init__(self, seconds: float = 10) -> None:
        self.seconds = seconds

    @handles(TextFrame)
    async def work(self, frame: TextFrame) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds
        while loop.time() < end:
            try:
                await asyncio.sleep(end - loop.time())
            except asyncio.CancelledError:
                continue
        self.push(LLMTextFrame("too late"))


async def test_processors_start_last_first_and_stop_first_started_last() -> None:
    journal: list[str] = []
    session = Session(Pipeline([Journal("a", journal), Journal("b", journal)]))
    async with session:
        session.push(TextFrame("x"))
        session.end()
        await session.finished()
    assert journal == [
        "start b",
        "start a",
        "StartFrame a",
        "StartFrame b",
        "TextFrame a",
        "TextFrame b",
        "EndFrame a",
        "EndFrame b",
        "stop a",
        "stop b",
    ]


async def test_a_failed_start_stops_what_had_started() -> None:
    journal: list[str] = []
    session = Session(Pipeline([Journal("a", journal), Fails("b", journal), Journal("c", journal)]))
    with pytest.raises(StartFailed, match="Fails could not start: no microphone") as caught:
        await session.run()
    assert isinstance(caught.value.__cause__, OSError)
    assert journal == ["start c", "start b", "stop b", "stop c"]


async def test_a_failed_stop_does_not_keep_the_others_from_stopping() -> None:
    class FailsToStop(Processor):
        async def stop(self) -> None:
            raise OSError("stuck")

    journal: list[str] = []
    async with Session(Pipeline([Journal("a", journal), FailsToStop(), Journal("b", journal)])):
        pass
    assert journal[-2:] == ["stop a", "stop b"]


async def test_run_ends_with_an_end_frame_from_any_place() -> None:
    class Ender(Processor):
        @handles(TextFrame)
        def end(self, frame: TextFrame) -> None:
            self.push(EndWorkerFrame(), UPSTREAM)

        async def start(self) -> None:
            asyncio.get_running_loop().call_later(1, lambda: self.session.push(TextFrame("x")))

    async with asyncio.timeout(2):
        await Session(Pipeline([Processor(), Ender(), Processor()])).run()


async def test_cancel_ends_the_session_and_all_its_work() -> None:
    async with PipelineTest(Endless()) as test:
        test.send(TextFrame("a"))
        test.send(DataFrame())
        await test.advance(0)
        test.session.cancel("enough")
        await test.session.finished()
        assert [frame.reason for frame in test.received(CancelFrame)] == ["enough"]
    assert len(asyncio.all_tasks()) == 1
    assert not test.received(DataFrame)


async def test_a_cancel_frame_that_passes_ends_the_session() -> None:
    """Pipecat #3661, #3548: a call that never ends."""
    async with PipelineTest(Endless()) as test:
        test.send(TextFrame("a"))
        test.send(CancelFrame())
        async with asyncio.timeout(1):
            await test.session.finished()


async def test_cancel_before_the_session_runs_ends_it_at_once() -> None:
    """Pipecat #4276: a cancel before the StartFrame."""
    journal: list[str] = []
    session = Session(Pipeline([Journal("a", journal)]))
    session.cancel()
    async with asyncio.timeout(1):
        await session.run()
    assert journal[0] == "start a"
    assert journal[-1] == "stop a"


async def test_cancel_while_processors_start_reaches_none_that_has_not_started() -> None:
    class SlowStart(Journal):
        async def start(self) -> None:
            await asyncio.sleep(1)
            await super().start()

    journal: list[str] = []
    session = Session(Pipeline([Journal("a", journal), SlowStart("b", journal), Journal("c", journal)]))
    asyncio.get_running_loop().call_later(0.5, session.cancel)
    async with asyncio.timeout(2):
        await session.run()
    for label in "abc":
        own = [line for line in journal if line.endswith(label)]
        assert own[0] == f"start {label}"
        assert own[-1] == f"stop {label}"


async def test_cancelling_the_task_that_runs_a_session_leaves_nothing() -> None:
    """Pipecat #4838: leaks on cancel."""
    journal: list[str] = []

    async def run() -> None:
        session = Session(Pipeline([Journal("a", journal), Endless()]))
        async with session:
            session.push(TextFrame("x"))
            await session.finished()

    async with leak_check():
        task = asyncio.create_task(run())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert journal[-1] == "stop a"


async def test_cancelling_twice_while_the_session_closes_still_closes_it() -> None:
    class SlowStop(Processor):
        stopped = False

        async def stop(self) -> None:
            await asyncio.sleep(1)
            self.stopped = True

    processor = SlowStop()
    task = asyncio.create_task(Session(Pipeline([processor])).run())
    loop = asyncio.get_running_loop()
    loop.call_later(1, task.cancel)
    loop.call_later(1.5, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert processor.stopped


async def test_an_error_in_the_block_ends_the_session_and_goes_on() -> None:
    async def use() -> None:
        async with Session(Pipeline([Endless()])) as session:
            session.push(TextFrame("a"))
            await asyncio.sleep(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()
    assert len(asyncio.all_tasks()) == 1


async def test_work_deaf_to_its_end_holds_the_session_up_for_the_grace_only() -> None:
    loop = asyncio.get_running_loop()
    test = PipelineTest(Deaf(10), Deaf(10))
    async with test:
        test.send(TextFrame("a"))
        await test.advance(0)
        leaving = loop.time()
    assert loop.time() - leaving == pytest.approx(GRACE_S)
    assert test.stats.undead == 1
    await asyncio.sleep(10)  # what it pushes then goes nowhere, without a noise
    assert len(asyncio.all_tasks()) == 1


async def test_interrupted_work_that_outlives_its_session_is_counted_once() -> None:
    test = PipelineTest(Deaf(20))
    async with test:
        test.send(TextFrame("a"))
        await test.advance(0)
        test.interrupt()
        await test.advance(3)
        assert test.stats.undead == 1
    assert test.stats.undead == 1
    await asyncio.sleep(20)


async def test_interrupted_work_that_ends_with_its_session_is_counted_once() -> None:
    test = PipelineTest(Deaf(20))
    async with test:
        test.send(TextFrame("a"))
        await test.advance(0)
        test.interrupt()
    await asyncio.sleep(20)
    assert test.stats.undead == 1


async def test_a_session_outside_its_block_refuses_frames_and_interruptions() -> None:
    session = Session(Pipeline([Processor()]))
    for _ in range(2):
        with pytest.raises(SessionNotRunning, match="async with"):
            session.push(TextFrame("a"))
        with pytest.raises(SessionNotRunning, match="nothing can be interrupted"):
            session.interrupt()
        async with session:
            pass


async def test_a_processor_runs_in_one_session_at_a_time() -> None:
    processor = Processor()
    async with Session(Pipeline([processor])):
        with pytest.raises(ProcessorInUse, match="Processor already runs in another session"):
            await Session(Pipeline([processor])).run()
    async with Session(Pipeline([processor])) as session:
        assert processor.session is session


async def test_names_are_unique_within_a_session() -> None:
    processors = [Endless(), Deaf(), Endless()]
    async with Session(Pipeline(processors)):
        assert [p.name for p in processors] == ["Endless", "Deaf", "Endless#2"]


async def test_observers_see_every_push_and_each_interruption_once() -> None:
    class Pusher(Processor):
        @handles(TextFrame)
        def two(self, frame: TextFrame) -> None:
            self.push(LLMTextFrame("1"))
            self.push(LLMTextFrame("2"), UPSTREAM)

    seen: list[tuple[str, FrameDirection]] = []
    pusher = Pusher()
    async with Session(Pipeline([pusher, Processor()])) as session:
        session.observe(lambda frame, direction, processor: seen.append((type(frame).__name__, direction)))
        session.push(TextFrame("a"))
        session.interrupt()
    names = [name for name, _ in seen]
    assert names == ["LLMTextFrame", "LLMTextFrame", "InterruptionFrame", "SpeechInterruptedFrame"]
    async with Session(Pipeline([pusher])) as session:
        session.push(TextFrame("b"))
    assert len(seen) == 4


async def test_an_observer_added_before_the_start_sees_every_push() -> None:
    seen: list[str] = []
    session = Session(Pipeline([Journal("a", [])]))
    session.observe(lambda frame, direction, processor: seen.append(type(frame).__name__))
    async with session:
        session.push(TextFrame("a"))
    assert seen == ["StartFrame", "TextFrame"]


async def test_repr_is_a_state_report() -> None:
    pipeline = Pipeline([Endless(), Processor()])
    assert repr(pipeline) == "Pipeline (not running)\n  <Endless detached>\n  <Processor detached>"
    async with Session(pipeline) as session:
        session.push(TextFrame("a"))
        session.push(TextFrame("b"))
        session.push(EndFrame())
        await asyncio.sleep(0.25)
        report = repr(pipeline).splitlines()
        assert report[0].startswith("Pipeline (running, response epoch 0, speech epoch 0, 2 tasks")
        assert report[1].startswith("  <Endless working on TextFrame#")
        assert report[1].endswith(" for 0.250 s, 2 queued (1 kept)>")
        assert report[2] == "  <Processor idle>"
        session.interrupt_speech()
        session.interrupt()
        assert repr(pipeline).startswith("Pipeline (running, response epoch 1, speech epoch 2, ")
        assert "  <Endless idle>" in repr(pipeline)
        with session.respond() as response:
            assert f"responses {response.id}" in repr(pipeline)


class HangsUp(Processor):
    """Ends the session a second after a text, and swallows its cancellation meanwhile."""

    @handles(TextFrame)
    async def later(self, frame: TextFrame) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
        self.session.end() if frame.text == "session" else self.push(EndWorkerFrame(), UPSTREAM)


@pytest.mark.parametrize("way", ["session", "frame"])
async def test_work_that_was_interrupted_does_not_end_the_session(way: str) -> None:
    async with PipelineTest(HangsUp()) as test:
        test.send(TextFrame(way))
        await asyncio.sleep(0.1)
        test.interrupt()
        await test.expect_none(EndFrame, within=5)
        assert test.stats.stale_dropped == 1
        test.send(TextFrame(way))
        await test.expect(EndFrame, within=2)
