"""What one hop of an audio frame costs.

Both sides: a source, ten processors and a sink in one running session. Frames of 20 ms are made before
the clock starts. The clock runs from the source's first push to the sink's last frame; a hop is that
time through frames and through links (source to first, ..., tenth to sink). The frames are pushed in
one go: Pipecat's queues then seldom run empty, which spares it most of its wake-ups.

- Passing: bargein's processors have no handler for audio. Pipecat's push on whatever they get; a Pipecat
  processor has no other way of not caring.
- Handling: each processor counts the frame and pushes it on, in bargein from a `def` handler, which is
  what a handler that awaits nothing is there, and from an `async def` handler.

Pipecat runs twice: without any observer, and with those that a PipelineWorker has by default.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from pipecat.frames.frames import Frame, OutputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from bargein import Pipeline, Processor, Session, handles
from benchmarks.report import Report, Row, progress
from benchmarks.stock import StockProcessor, stock_session

RATE = 24_000  # Hz
FRAME = bytes(RATE // 50 * 2)  # 20 ms of silence, 16-bit mono
AIM = 20


class Passing(Processor):
    """Does not care for audio."""


class Handling(Processor):
    """Counts audio frames in a `def` handler."""

    frames = 0

    @handles(OutputAudioRawFrame)
    def count(self, frame: OutputAudioRawFrame) -> None:
        """Count and push on."""
        self.frames += 1
        self.push(frame)


class HandlingAsync(Processor):
    """Counts audio frames in an `async def` handler."""

    frames = 0

    @handles(OutputAudioRawFrame)
    async def count(self, frame: OutputAudioRawFrame) -> None:
        """Count and push on."""
        self.frames += 1
        self.push(frame)


class Sink(Processor):
    """Notes when the last of the expected frames has come."""

    def __init__(self, expected: int) -> None:
        self.missing = expected
        self.at = 0.0
        self.done = asyncio.Event()

    @handles(OutputAudioRawFrame)
    def count(self, frame: OutputAudioRawFrame) -> None:
        """Take the frame."""
        self.missing -= 1
        if not self.missing:
            self.at = time.perf_counter()
            self.done.set()


class StockHandling(FrameProcessor):
    """Counts audio frames."""

    frames = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Count and push on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputAudioRawFrame):
            self.frames += 1
        await self.push_frame(frame, direction)


class StockSink(FrameProcessor):
    """Notes when the last of the expected frames has come."""

    def __init__(self, expected: int) -> None:
        super().__init__()
        self.missing = expected
        self.at = 0.0
        self.done = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take audio; other frames pass."""
        await super().process_frame(frame, direction)
        if not isinstance(frame, OutputAudioRawFrame):
            await self.push_frame(frame, direction)
            return
        self.missing -= 1
        if not self.missing:
            self.at = time.perf_counter()
            self.done.set()


def run(frames: int = 2000, repeats: int = 7, processors: int = 10) -> Report:
    """Measure hops in both engines, by turns."""

    def ours(kind: type[Processor]) -> Callable[[], Awaitable[float]]:
        return lambda: _bargein(kind, frames, processors)

    def stock(kind: type[FrameProcessor], observed: bool) -> Callable[[], Awaitable[float]]:
        return lambda: _pipecat(kind, frames, processors, observed)

    measured = _by_turns(
        repeats,
        {
            "passing": ours(Passing),
            "handling": ours(Handling),
            "handling, async": ours(HandlingAsync),
            "stock passing": stock(StockProcessor, False),
            "stock handling": stock(StockHandling, False),
            "stock passing, observed": stock(StockProcessor, True),
            "stock handling, observed": stock(StockHandling, True),
        },
    )
    pairs = (
        ("passing", "stock passing", AIM),
        ("passing, Pipecat with its default observers", "stock passing, observed", AIM),
        ("handling", "stock handling", AIM),
        ("handling, Pipecat with its default observers", "stock handling, observed", AIM),
        ("handling, async", "stock handling", None),
    )
    rows = tuple(
        Row(what, "us", measured[what.partition(", Pipecat")[0]], measured[stock_key], aim)
        for what, stock_key, aim in pairs
    )
    return Report(f"One hop of a 20 ms audio frame, {processors} processors, {frames} frames", rows)


def main() -> None:
    """Measure and print the table."""
    print(run())


def _by_turns(repeats: int, sides: dict[str, Callable[[], Awaitable[float]]]) -> dict[str, tuple[float, ...]]:
    values: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats):
        for name, side in sides.items():
            progress(f"hops: repeat {repeat + 1} of {repeats}: {name}")
            values[name].append(asyncio.run(_awaited(side)))
    progress("")
    return {name: tuple(found) for name, found in values.items()}


async def _awaited(side: Callable[[], Awaitable[float]]) -> float:
    return await side()


def audio(count: int) -> list[OutputAudioRawFrame]:
    return [OutputAudioRawFrame(audio=FRAME, sample_rate=RATE, num_channels=1) for _ in range(count)]


async def _bargein(kind: type[Processor], count: int, processors: int) -> float:
    source, sink = Passing(), Sink(count)
    frames = audio(count)
    async with Session(Pipeline([source, *(kind() for _ in range(processors)), sink])):
        begun = time.perf_counter()
        for frame in frames:
            source.push(frame)
        await sink.done.wait()
    return (sink.at - begun) / count / (processors + 1) * 1e6


async def _pipecat(kind: type[FrameProcessor], count: int, processors: int, observed: bool) -> float:
    source, sink = StockProcessor(), StockSink(count)
    frames = audio(count)
    async with stock_session([source, *(kind() for _ in range(processors)), sink], observed=observed):
        begun = time.perf_counter()
        for frame in frames:
            await source.push_frame(frame)
        await sink.done.wait()
    return (sink.at - begun) / count / (processors + 1) * 1e6
