"""Models and a loudspeaker for tests in virtual time: what they answer, and when, is the test's to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bargein.transports.output import AudioOutput


@asynccontextmanager
async def playing(output: AudioOutput, played: bytearray) -> AsyncIterator[None]:
    """Play an output of 16 kHz at its pace, and keep what sounded."""

    async def play() -> None:
        while True:
            played.extend(output.playout.read(320))
            await asyncio.sleep(0.02)

    task = asyncio.create_task(play())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@dataclass
class FakeVAD:
    """Hears speech in chunks whose first sample is not 0."""

    CHUNK_SAMPLES: int = 512
    SAMPLE_RATE: int = 16_000

    resets: int = 0

    def probability(self, chunk: bytes) -> float:
        return 1.0 if chunk[0] else 0.0

    def reset(self) -> None:
        self.resets += 1


@dataclass
class FakeUtterance:
    text: str
    seconds: float
    on_partial: Callable[[str], None]
    fed: bytearray = field(default_factory=bytearray)
    cancelled: bool = False
    ready: tuple[int, float] = (-1, 0.0)  # bytes fed at the last snapshot, and when its text is known

    def feed(self, pcm: bytes) -> None:
        self.fed += pcm

    async def snapshot(self) -> str:
        self.ready = (len(self.fed), asyncio.get_running_loop().time() + self.seconds)
        await asyncio.sleep(self.seconds)
        return self.text

    async def finish(self) -> str:
        fed, at = self.ready
        wait = at - asyncio.get_running_loop().time() if fed == len(self.fed) else self.seconds
        await asyncio.sleep(max(0.0, wait))
        return self.text

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeTranscriber:
    """Hears one text after the other; each final takes its seconds."""

    script: list[tuple[str, float]]
    opened: list[FakeUtterance] = field(default_factory=list)

    def open(self, on_partial: Callable[[str], None]) -> FakeUtterance:
        text, seconds = self.script[len(self.opened)]
        utterance = FakeUtterance(text, seconds, on_partial)
        self.opened.append(utterance)
        return utterance


@dataclass
class FakeEndOfTurn:
    """Gives one verdict after the other."""

    verdicts: list[float | Exception]
    heard: list[bytes] = field(default_factory=list)

    async def probability(self, pcm: bytes) -> float:
        self.heard.append(pcm)
        await asyncio.sleep(0.03)
        verdict = self.verdicts.pop(0)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


@dataclass(frozen=True)
class FakeWord:
    end: int
    end_s: float


@dataclass(frozen=True)
class FakeChunk:
    pcm: bytes
    sample_rate: int
    words: tuple[FakeWord, ...]


@dataclass
class FakeVoice:
    """Speaks a character in 50 ms, after `delay_s`, in chunks of one word."""

    sample_rate: int = 16_000
    delay_s: float = 0.1
    spoken: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)  # texts whose synthesis ended, one way or another

    async def synthesize(self, text: str) -> AsyncGenerator[FakeChunk, None]:
        self.spoken.append(text)
        try:
            start = 0
            while start < len(text):
                await asyncio.sleep(self.delay_s)
                end = text.find(" ", start + 1)
                end = len(text) if end < 0 else end
                samples = (end - start) * self.sample_rate // 20
                words = (FakeWord(end, end / 20),)
                yield FakeChunk(b"\x01\x01" * samples, self.sample_rate, words)
                start = end
        finally:
            self.closed.append(text)
