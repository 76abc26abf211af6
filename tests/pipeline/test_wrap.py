"""Processors of ours in a stock Pipecat pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pipecat.frames.frames import InterruptionFrame as StockInterruption
from pipecat.frames.frames import LLMMessagesAppendFrame, MetricsFrame
from pipecat.metrics.metrics import LLMUsageMetricsData, TTFBMetricsData
from pipecat.pipeline.pipeline import Pipeline as StockPipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from bargein import (
    UPSTREAM,
    Level,
    Processor,
    Reason,
    SpeechInterruptedFrame,
    SpeechOnlyInterruptionFrame,
    Stage,
    handles,
)
from bargein.pipeline.frames import (
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    StartFrame,
    TranscriptionFrame,
)
from bargein.pipeline.wrap import PipecatProcessor
from bargein.processors.context import Context
from bargein.processors.llm import LLM

from ..servers.openai_server import OpenAIServer


class Log(FrameProcessor):
    """A stock processor that keeps what passes."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[tuple[Frame, FrameDirection]] = []
        self.arrived = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.frames.append((frame, direction))
        self.arrived.set()
        await self.push_frame(frame, direction)

    def of(self, kind: type[Frame]) -> list[Frame]:
        return [frame for frame, _ in self.frames if isinstance(frame, kind)]

    async def wait_for(self, kind: type[Frame], count: int = 1) -> Frame:
        async with asyncio.timeout(60):
            while len(self.of(kind)) < count:
                self.arrived.clear()
                await self.arrived.wait()
        return self.of(kind)[-1]


class Shout(Processor):
    """Shouts after a second; "stop" interrupts, "bad" fails."""

    def __init__(self, stage: Stage = Stage.WORK) -> None:
        self.stage = stage
        self.told: list[str] = []
        self.responses: list[str | None] = []

    @handles(LLMTextFrame)
    async def shout(self, frame: LLMTextFrame) -> None:
        self.responses.append(self.response.id if self.response is not None else None)
        if frame.text == "bad":
            raise ValueError("bad text")
        await asyncio.sleep(1)
        self.push(LLMTextFrame(frame.text.upper()))

    @handles(TranscriptionFrame)
    def hear(self, frame: TranscriptionFrame) -> None:
        self.interrupt(Level(frame.text), Reason.USER_SPEAKING)

    @handles(SpeechInterruptedFrame)
    def report(self, frame: SpeechInterruptedFrame) -> None:
        self.told.append(frame.level)


@asynccontextmanager
async def stock_session(*processors: FrameProcessor) -> AsyncIterator[PipelineWorker]:
    worker = PipelineWorker(
        StockPipeline(list(processors)), enable_turn_tracking=False, enable_rtvi=False, idle_timeout_secs=None
    )
    started = asyncio.Event()

    async def on_started(worker: PipelineWorker, frame: Frame) -> None:
        started.set()

    worker.add_event_handler("on_pipeline_started", on_started)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        await started.wait()
        yield worker
    finally:
        await worker.cancel()
        await running


async def test_frames_pass_in_order_and_the_start_frame_first() -> None:
    before, after = Log(), Log()
    async with stock_session(before, PipecatProcessor(Shout(), Processor()), after) as worker:
        for text in "abc":
            await worker.queue_frame(LLMTextFrame(text))
        await after.wait_for(LLMTextFrame, 3)
        assert [f.text for f in after.of(LLMTextFrame) if isinstance(f, LLMTextFrame)] == ["A", "B", "C"]
        assert isinstance(after.frames[0][0], StartFrame)
        assert len(after.of(StartFrame)) == 1


async def test_frames_pass_upstream() -> None:
    before, after = Log(), Log()
    async with stock_session(before, PipecatProcessor(Processor()), after):
        await after.push_frame(TranscriptionFrame("up", "user", "now"), UPSTREAM)
        await before.wait_for(TranscriptionFrame)


async def test_a_stock_interruption_interrupts_inside() -> None:
    shout, after = Shout(), Log()
    wrapped = PipecatProcessor(shout)
    async with stock_session(wrapped, after) as worker:
        await worker.queue_frame(LLMTextFrame("old"))
        await asyncio.sleep(0.1)
        await worker.queue_frame(StockInterruption())
        await after.wait_for(StockInterruption)
        await worker.queue_frame(LLMTextFrame("new"))
        await after.wait_for(LLMTextFrame)
        await asyncio.sleep(5)
        assert [f.text for f in after.of(LLMTextFrame) if isinstance(f, LLMTextFrame)] == ["NEW"]
        assert len(after.of(StockInterruption)) == 1
        assert shout.told == [Level.FULL]
        assert wrapped.session.stats.interruptions == 1


@pytest.mark.parametrize(
    ("level", "kind"), [(Level.FULL, StockInterruption), (Level.SPEECH, SpeechOnlyInterruptionFrame)]
)
async def test_an_interruption_from_inside_is_broadcast_once(level: Level, kind: type[Frame]) -> None:
    before, after = Log(), Log()
    first, second = Shout(Stage.SPEECH), Shout(Stage.SPEECH)
    async with stock_session(before, PipecatProcessor(first), PipecatProcessor(second), after) as worker:
        await worker.queue_frame(LLMTextFrame("old"))
        await asyncio.sleep(1.5)  # it is in the second
        await worker.queue_frame(TranscriptionFrame(level, "user", "now"))
        await after.wait_for(kind)
        await before.wait_for(kind)
        await asyncio.sleep(5)
        assert not after.of(LLMTextFrame)
        assert len(after.of(kind)) == len(before.of(kind)) == 1
        assert first.told == second.told == [level]


async def test_answers_of_a_stock_model_are_responses_inside() -> None:
    shout, after = Shout(), Log()
    wrapped = PipecatProcessor(shout)
    async with stock_session(wrapped, after) as worker:
        for frame in (LLMFullResponseStartFrame(), LLMTextFrame("a"), LLMFullResponseEndFrame()) * 2:
            await worker.queue_frame(frame)
        await after.wait_for(LLMFullResponseEndFrame, 2)
        assert shout.responses == ["r1", "r2"]
        assert not wrapped.session.responding


async def test_an_error_inside_goes_upstream() -> None:
    before = Log()
    async with stock_session(before, PipecatProcessor(Shout())) as worker:
        await worker.queue_frame(LLMTextFrame("bad"))
        error = await before.wait_for(ErrorFrame)
        assert isinstance(error, ErrorFrame)
        assert error.error == "Shout: ValueError: bad text"


async def test_the_end_waits_for_what_is_inside() -> None:
    after = Log()
    async with stock_session(PipecatProcessor(Shout()), after) as worker:
        await worker.queue_frame(LLMTextFrame("a"))
        await worker.stop_when_done()  # type: ignore[no-untyped-call]
        await after.wait_for(EndFrame)
        kinds = [type(frame) for frame, _ in after.frames]
        assert kinds.index(LLMTextFrame) < kinds.index(EndFrame)


def question() -> Frame:
    return LLMMessagesAppendFrame([{"role": "user", "content": "Hi."}], run_llm=True)


async def test_metrics_of_a_model_inside_reach_the_stock_pipeline() -> None:
    server, context, after = OpenAIServer(), Context(), Log()
    server.script(["Hel", "lo."])
    async with server.client() as client:
        wrapped = PipecatProcessor(context.user, LLM(client, "m"), context.assistant)
        async with stock_session(wrapped, after) as worker:
            await worker.queue_frame(
                LLMMessagesAppendFrame([{"role": "user", "content": "Hi."}], run_llm=True)
            )
            await after.wait_for(LLMFullResponseEndFrame)
            assert "".join(f.text for f in after.of(LLMTextFrame) if isinstance(f, LLMTextFrame)) == "Hello."
            data = [
                d for frame in after.of(MetricsFrame) if isinstance(frame, MetricsFrame) for d in frame.data
            ]
            assert {type(d) for d in data} >= {TTFBMetricsData, LLMUsageMetricsData}
            assert context.messages[-1] == {"role": "assistant", "content": "Hello."}


async def test_a_stock_interruption_closes_the_request_of_a_model_inside() -> None:
    server, context, after = OpenAIServer(), Context(), Log()
    server.token_s = 1
    server.script([f"{n} " for n in range(20)])
    async with server.client() as client:
        wrapped = PipecatProcessor(context.user, LLM(client, "m"), context.assistant)
        async with stock_session(wrapped, after) as worker:
            await worker.queue_frame(
                LLMMessagesAppendFrame([{"role": "user", "content": "Hi."}], run_llm=True)
            )
            await after.wait_for(LLMTextFrame, 3)
            await worker.queue_frame(StockInterruption())
            await after.wait_for(StockInterruption)
            assert await server.requests[0].outcome == "closed"
            told = len(after.of(LLMTextFrame))
            await asyncio.sleep(30)
            assert len(after.of(LLMTextFrame)) == told


class Ender(Processor):
    """Ends the session, in the way it is told."""

    @handles(LLMTextFrame)
    def end(self, frame: LLMTextFrame) -> None:
        if frame.text == "end":
            self.session.end()
        else:
            self.session.cancel("enough")


@pytest.mark.parametrize(("how", "kind"), [("end", EndFrame), ("cancel", CancelFrame)])
async def test_a_processor_inside_ends_the_stock_pipeline(how: str, kind: type[Frame]) -> None:
    before, after = Log(), Log()
    async with stock_session(before, PipecatProcessor(Ender()), after) as worker:
        await worker.queue_frame(LLMTextFrame(how))
        await before.wait_for(kind)
        await after.wait_for(kind)
        await asyncio.sleep(5)
        assert worker.has_finished()
        assert len(before.of(kind)) == len(after.of(kind)) == 1
