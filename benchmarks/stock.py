"""Stock Pipecat, driven as its own `run_test` drives it: a PipelineWorker in a WorkerRunner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pipecat.frames.frames import Frame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner


class StockProcessor(FrameProcessor):
    """The least a Pipecat processor must do: let everything pass."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Push the frame on."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


@asynccontextmanager
async def stock_session(processors: Sequence[FrameProcessor], *, observed: bool) -> AsyncIterator[None]:
    """Run processors in a session of stock Pipecat, from its start to its clean end.

    Args:
        processors: Without Pipecat's own source and sink, which it puts around them.
        observed: With the observers a PipelineWorker has by default (turns, RTVI, idle), or without any.
    """
    pipeline = Pipeline(list(processors))
    if observed:
        worker = PipelineWorker(pipeline)
    else:
        worker = PipelineWorker(
            pipeline, enable_turn_tracking=False, enable_rtvi=False, idle_timeout_secs=None
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
        yield
    finally:
        await worker.cancel()
        await running
