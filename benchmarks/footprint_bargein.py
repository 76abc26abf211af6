"""A session of bargein without models, for the footprint benchmark."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bargein import Pipeline, Processor, Session, handles
from bargein.pipeline.frames import InputAudioRawFrame, TextFrame


class Part(Processor):
    """Passes audio and text on as soon as `gate` is open."""

    def __init__(self, gate: asyncio.Event) -> None:
        self.gate = gate

    @handles(InputAudioRawFrame)
    def hear(self, frame: InputAudioRawFrame) -> None:
        """Push audio on at once."""
        self.push(frame)

    @handles(TextFrame)
    async def answer(self, frame: TextFrame) -> None:
        """Push text on when it may."""
        await self.gate.wait()
        self.push(frame)


class Last(Part):
    """Says when text has come through."""

    def __init__(self, gate: asyncio.Event) -> None:
        super().__init__(gate)
        self.reached = asyncio.Event()

    @handles(TextFrame)
    async def answer(self, frame: TextFrame) -> None:
        """Take text."""
        self.reached.set()
        await self.gate.wait()


@asynccontextmanager
async def session(processors: int, gate: asyncio.Event, *, observed: bool) -> AsyncIterator[list[Part]]:
    """A session, in a task of its own, whose processors have passed on one audio and one text frame.

    Args:
        processors: How many.
        gate: Open; while it is closed the processors hold the text they get.
        observed: With the default observers: bargein has none.
    """
    last = Last(gate)
    parts = [*(Part(gate) for _ in range(processors - 1)), last]
    running = Session(Pipeline(parts))
    task = asyncio.create_task(running.run())
    await asyncio.sleep(0)  # the session starts
    running.push(InputAudioRawFrame(audio=bytes(640), sample_rate=16_000, num_channels=1))
    running.push(TextFrame("hello"))
    await last.reached.wait()
    try:
        yield parts
    finally:
        running.cancel()
        await task


async def keep_busy(parts: list[Part]) -> None:
    """Give every processor text, while the gate is closed."""
    running = parts[0].session
    running.push(TextFrame("hello"))
    for part in parts[:-1]:
        part.push(TextFrame("hello"))
