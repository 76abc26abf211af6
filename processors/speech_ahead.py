"""Sentences that the voice makes while others are being spoken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from ..pipeline import Processor, Stage, handles
from ..pipeline.frames import InterruptionFrame, SentenceFrame, SpeechOnlyInterruptionFrame
from .tts import SpeechChunk, Synthesizer


class SpeechAhead(Processor):
    """Asks the voice for each sentence as soon as its text is there, for several at the same time.

    Put it right before the TTS. For voices that take long for each request, beside which short sentences
    would leave gaps. What was asked for and is interrupted is cancelled.

    Args:
        voice: The TTS's own; shared between sessions, the caller closes it.
        requests: So many at the same time.
    """

    stage = Stage.SPEECH

    def __init__(self, voice: Synthesizer, requests: int) -> None:
        self._voice = voice
        self._requests = requests
        self._free = asyncio.Semaphore(requests)  # given in the order of the sentences

    @handles(SentenceFrame)
    def ask(self, frame: SentenceFrame) -> None:
        chunks: asyncio.Queue[SpeechChunk | Exception | None] = asyncio.Queue()
        task = self.spawn(self._make(frame.text, chunks, self._free), f"{self.name}.{frame.start}")
        frame.speech = _made(chunks, task)
        self.push(frame)

    @handles(InterruptionFrame, SpeechOnlyInterruptionFrame)
    def interrupted(self, frame: InterruptionFrame | SpeechOnlyInterruptionFrame) -> None:
        self._free = asyncio.Semaphore(self._requests)  # a request that cannot be cancelled holds up nobody

    async def _make(
        self, text: str, chunks: asyncio.Queue[SpeechChunk | Exception | None], free: asyncio.Semaphore
    ) -> None:
        try:
            async with free, aclosing(self._voice.synthesize(text)) as speech:
                async for chunk in speech:
                    chunks.put_nowait(chunk)
        except Exception as error:
            chunks.put_nowait(error)  # raised where it is spoken
        finally:
            chunks.put_nowait(None)


async def _made(
    chunks: asyncio.Queue[SpeechChunk | Exception | None], task: asyncio.Task[None]
) -> AsyncGenerator[SpeechChunk, None]:
    """A sentence's speech as it comes; closing the generator ends the request."""
    try:
        while (chunk := await chunks.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk
    finally:
        task.cancel()
