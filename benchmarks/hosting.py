"""What it costs to host stock Pipecat processors, beside the same processors in stock Pipecat.

Both sides have the very same stock processors between a source and a sink, without observers: on one side
in a stock pipeline, on the other each hosted in a session of ours.

- Hops: as in `hops`, 20 ms audio frames pushed in one go. A hosted hop is Pipecat's own queues and tasks
  plus the host's.
- Interruption: as in `interruption`. The clock runs from the decision until the last processor's work
  has been cancelled. Each pushes one more frame as it is cancelled: a stale one, if it reaches the sink.
- Beside a stubborn one: a processor in the middle ignores its cancellation for a second. The clock runs
  until the last of the others has been cancelled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from pipecat.frames.frames import Frame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from bargein import Pipeline, Session
from benchmarks import hops, interruption
from benchmarks.interruption import TURNS, JobFrame, Stops
from benchmarks.report import Report, Row, progress
from benchmarks.stock import StockProcessor, stock_session

# How long the stubborn processor ignores its cancellation, s.
STUBBORN_S = 1.0

Runs = Callable[[Sequence[FrameProcessor]], AbstractAsyncContextManager[Callable[[], None]]]


def run(frames: int = 2000, queued: int = 100, repeats: int = 7, processors: int = 10) -> Report:
    """Measure both sides, by turns."""
    sides: dict[str, Runs] = {"hosted": _hosted, "stock": _stock}
    hop: dict[str, list[float]] = {side: [] for side in sides}
    plain: dict[str, list[tuple[float, int]]] = {side: [] for side in sides}
    beside: dict[str, list[tuple[float, int]]] = {side: [] for side in sides}
    for repeat in range(repeats):
        for side, runs in sides.items():
            progress(f"hosting: repeat {repeat + 1} of {repeats}: {side}")
            hop[side].append(asyncio.run(_hop(runs, frames, processors)))
            plain[side].append(asyncio.run(_interrupt(runs, queued, processors, stubborn=False)))
            beside[side].append(asyncio.run(_interrupt(runs, queued, processors, stubborn=True)))
    progress("")

    def row(what: str, unit: str, measured: dict[str, list[tuple[float, int]]], index: int) -> Row:
        ours, theirs = (tuple(float(m[index]) for m in measured[side]) for side in sides)
        return Row(what, unit, ours, theirs)

    return Report(
        f"Hosting {processors} stock processors ({frames} audio frames; {queued} frames queued each)",
        (
            Row("one hop", "us", tuple(hop["hosted"]), tuple(hop["stock"])),
            row("decision to last handler stopped", "ms", plain, 0),
            row("stale frames that left", "frames", plain, 1),
            row("the same beside a stubborn one", "ms", beside, 0),
            row("stale frames that left beside it", "frames", beside, 1),
        ),
    )


def main() -> None:
    """Measure and print the table."""
    print(run())


@asynccontextmanager
async def _hosted(processors: Sequence[FrameProcessor]) -> AsyncIterator[Callable[[], None]]:
    """Run processors in a session of ours; gives a function that interrupts it."""
    async with Session(Pipeline(list(processors))) as session:
        yield session.interrupt


@asynccontextmanager
async def _stock(processors: Sequence[FrameProcessor]) -> AsyncIterator[Callable[[], None]]:
    """Run processors in stock Pipecat; gives a function that interrupts it from its head."""
    tasks: list[asyncio.Task[None]] = []
    async with stock_session(processors, observed=False):
        head = processors[0]

        def interrupt() -> None:
            broadcast = head.broadcast_interruption()  # type: ignore[no-untyped-call]
            tasks.append(asyncio.create_task(broadcast))

        yield interrupt
        await asyncio.gather(*tasks)


async def _hop(runs: Runs, count: int, processors: int) -> float:
    source, sink = StockProcessor(), hops.StockSink(count)
    parts = [source, *(hops.StockHandling() for _ in range(processors)), sink]
    frames = hops.audio(count)
    async with runs(parts):
        await _settled()
        begun = time.perf_counter()
        for frame in frames:
            await source.push_frame(frame)
        await sink.done.wait()
    return (sink.at - begun) / count / (processors + 1) * 1e6


async def _interrupt(runs: Runs, queued: int, processors: int, *, stubborn: bool) -> tuple[float, int]:
    """Milliseconds until the last of the processors had stopped, and how many stale frames left."""
    stops, sink = Stops(processors), interruption.StockSink()
    workers: list[FrameProcessor] = [interruption.StockWorker(stops) for _ in range(processors)]
    if stubborn:
        workers.insert(processors // 2, Stubborn())
    parts = [StockProcessor(), *workers, sink]
    async with runs(parts) as interrupt:
        await _settled()
        for before in parts[:-2]:
            for _ in range(queued + 1):
                await before.push_frame(JobFrame())
        await stops.all_running.wait()
        await _settled()
        decided = time.perf_counter()
        interrupt()
        await stops.all_stopped.wait()
        await _settled()
        return (stops.at - decided) * 1000, sink.frames


async def _settled() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Stubborn(FrameProcessor):
    """Works on a job, and ignores its cancellation for a while."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Work. Other frames pass."""
        await super().process_frame(frame, direction)
        if not isinstance(frame, JobFrame):
            await self.push_frame(frame, direction)
            return
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(STUBBORN_S)
