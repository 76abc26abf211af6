"""A session of stock Pipecat without models, for the footprint benchmark."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipecat.frames.frames import Frame, InputAudioRawFrame, TextFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from benchmarks.stock import stock_session


class Part(FrameProcessor):
    """Passes audio and text on as soon as `gate` is open."""

    def __init__(self, gate: asyncio.Event) -> None:
        super().__init__()
        self.gate = gate

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Push audio on at once, text when it may."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TextFrame):
            await self.gate.wait()
        await self.push_frame(frame, direction)


class Last(Part):
    """Says when text has come through."""

    def __init__(self, gate: asyncio.Event) -> None:
        super().__init__(gate)
        self.reached = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take text."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TextFrame):
            self.reached.set()


@asynccontextmanager
async def session(processors: int, gate: asyncio.Event, *, observed: bool) -> AsyncIterator[list[Part]]:
    """A session, in a task of its own, whose processors have passed on one audio and one text frame.

    Args:
        processors: How many, without those Pipecat adds.
        gate: Open; while it is closed the processors hold the text they get.
        observed: With Pipecat's default observers.
    """
    last = Last(gate)
    parts = [*(Part(gate) for _ in range(processors - 1)), last]
    async with stock_session(parts, observed=observed):
        await parts[0].queue_frame(InputAudioRawFrame(audio=bytes(640), sample_rate=16_000, num_channels=1))
        await parts[0].queue_frame(TextFrame("hello"))
        await last.reached.wait()
        yield parts


async def keep_busy(parts: list[Part]) -> None:
    """Give every processor text, while the gate is closed."""
    for part in parts:
        await part.queue_frame(TextFrame("hello"))
