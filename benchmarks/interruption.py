"""How long an interruption takes to stop ten busy processors, and what still leaves after it.

Both sides: a source at the head, ten processors and a sink in one running session, no observers. Each
processor has an async handler at work on a frame, and 1,000 more such frames in its queue. Nothing but
the queues holds these frames, so dropping them frees them.

The source decides, as a turn detector at the head of a bot does: `Processor.interrupt` in bargein,
`FrameProcessor.broadcast_interruption` in Pipecat. The clock runs from there until

- the last of the ten handlers has its CancelledError (both engines), or
- the call has returned (bargein alone: from then on nothing that was interrupted can leave).

Each handler pushes one more frame as it is cancelled, as code that flushes a buffer does. A stale frame is
any frame of before the interruption, or of a handler it cancelled, that reaches the sink afterwards.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from pipecat.frames.frames import DataFrame, Frame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from bargein import Pipeline, Processor, Session, handles
from benchmarks.report import Report, Row, progress
from benchmarks.stock import StockProcessor, stock_session

AIM = 30
# Turns of the event loop left to either engine, after all have stopped, for stale frames to show.
TURNS = 100


@dataclass
class JobFrame(DataFrame):
    """Work for the processor it reaches first."""


@dataclass
class ResultFrame(DataFrame):
    """What a handler pushes as it is cancelled."""


class Stops:
    """When the handlers began and stopped; shared by a run's processors."""

    def __init__(self, processors: int) -> None:
        self.running = 0
        self.missing = processors
        self.at = 0.0
        self.all_running = asyncio.Event()
        self.all_stopped = asyncio.Event()

    async def work(self) -> None:
        """Work without an end; note the cancellation."""
        self.running += 1
        if self.running == self.missing:
            self.all_running.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.missing -= 1
            if not self.missing:
                self.at = time.perf_counter()
                self.all_stopped.set()


@dataclass
class Outcome:
    """One interruption: ms until the handlers had stopped and until the call was back; stale frames."""

    stopped_ms: float
    returned_ms: float
    stale: int


def run(queued: int = 1000, repeats: int = 7, processors: int = 10) -> Report:
    """Interrupt both engines, by turns."""
    ours: list[Outcome] = []
    stock: list[Outcome] = []
    for repeat in range(repeats):
        progress(f"interruption: repeat {repeat + 1} of {repeats}")
        ours.append(asyncio.run(_bargein(queued, processors)))
        stock.append(asyncio.run(_pipecat(queued, processors)))
    progress("")
    stopped = tuple(o.stopped_ms for o in ours), tuple(o.stopped_ms for o in stock)
    return Report(
        f"Interruption of {processors} busy processors with {queued} frames queued each",
        (
            Row("decision to last handler stopped", "ms", *stopped, AIM),
            Row("decision to the call's return", "ms", tuple(o.returned_ms for o in ours)),
            Row(
                "stale frames that left",
                "frames",
                tuple(float(o.stale) for o in ours),
                tuple(float(o.stale) for o in stock),
            ),
        ),
    )


def main() -> None:
    """Measure and print the table."""
    print(run())


async def _settled(stops: Stops) -> None:
    await stops.all_running.wait()
    for _ in range(TURNS):
        await asyncio.sleep(0)


# bargein ---------------------------------------------------------------------------------------------


class Worker(Processor):
    """Works on a job until it is cancelled."""

    def __init__(self, stops: Stops) -> None:
        self.stops = stops

    @handles(JobFrame)
    async def work(self, frame: JobFrame) -> None:
        """Work; push a result when cancelled."""
        try:
            await self.stops.work()
        finally:
            self.push(ResultFrame())


class Sink(Processor):
    """Counts the data frames that get through."""

    frames = 0

    @handles(DataFrame)
    def count(self, frame: DataFrame) -> None:
        """Take the frame."""
        self.frames += 1


async def _bargein(queued: int, processors: int) -> Outcome:
    stops, sink = Stops(processors), Sink()
    parts = [Processor(), *(Worker(stops) for _ in range(processors))]
    async with Session(Pipeline([*parts, sink])):
        for before in parts[:-1]:
            for _ in range(queued + 1):
                before.push(JobFrame())
        await _settled(stops)
        decided = time.perf_counter()
        parts[0].interrupt()
        returned = time.perf_counter()
        await stops.all_stopped.wait()
        for _ in range(TURNS):
            await asyncio.sleep(0)
    return Outcome((stops.at - decided) * 1000, (returned - decided) * 1000, sink.frames)


# Pipecat ---------------------------------------------------------------------------------------------


class StockWorker(FrameProcessor):
    """Works on a job until it is cancelled."""

    def __init__(self, stops: Stops) -> None:
        super().__init__()
        self.stops = stops

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Work; push a result when cancelled. Other frames pass."""
        await super().process_frame(frame, direction)
        if not isinstance(frame, JobFrame):
            await self.push_frame(frame, direction)
            return
        try:
            await self.stops.work()
        finally:
            await self.push_frame(ResultFrame())


class StockSink(FrameProcessor):
    """Counts the data frames that get through."""

    frames = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take data frames; others pass."""
        await super().process_frame(frame, direction)
        if isinstance(frame, DataFrame):
            self.frames += 1
        else:
            await self.push_frame(frame, direction)


async def _pipecat(queued: int, processors: int) -> Outcome:
    stops, sink = Stops(processors), StockSink()
    parts = [StockProcessor(), *(StockWorker(stops) for _ in range(processors))]
    async with stock_session([*parts, sink], observed=False):
        for before in parts[:-1]:
            for _ in range(queued + 1):
                await before.push_frame(JobFrame())
        await _settled(stops)
        decided = time.perf_counter()
        await parts[0].broadcast_interruption()  # type: ignore[no-untyped-call]
        returned = time.perf_counter()
        await stops.all_stopped.wait()
        for _ in range(TURNS):
            await asyncio.sleep(0)
    return Outcome((stops.at - decided) * 1000, (returned - decided) * 1000, sink.frames)
