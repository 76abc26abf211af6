"""What the stand-ins for text-to-speech providers share: a voice whose words are told apart by sound."""

from __future__ import annotations

import asyncio
from binascii import crc32
from dataclasses import dataclass, field

import numpy as np
from aiohttp import web

from .faults import Fault
from .provider import Line, Provider

WORD_MS = 100
# Audio that a cancelled stream still sends when the provider cancels late, in words.
LATE_WORDS = 3


def voice_of(text: str, sample_rate: int) -> bytes:
    """How a text sounds, mono s16le: each word is `WORD_MS` of a level of its own."""
    samples = sample_rate * WORD_MS // 1000
    levels = [np.full(samples, crc32(word.encode()) % 30_000 + 1, np.int16) for word in text.split()]
    return np.concatenate(levels).tobytes()


@dataclass
class Utterance:
    """One text that a client asked for.

    Attributes:
        sent: How many of its words have been sent.
        outcome: Done with "finished", with "cancelled" by the client, or with "closed" when the
            connection ended first.
    """

    context: str
    text: str
    sent: int = 0
    outcome: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class SpeechProvider(Provider):
    """Speaks what it is asked to.

    Attributes:
        spoken: All that was asked for, in order.
        chunk_s: Pause before each word, s.
        cancels_late: A stream that is cancelled goes on for `LATE_WORDS`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spoken: list[Utterance] = []
        self.chunk_s = 0.0
        self.cancels_late = False

    def ended(self, utterance: Utterance, outcome: str) -> None:
        """Tell how an utterance ended, unless that is known."""
        if not utterance.outcome.done():
            utterance.outcome.set_result(outcome)
            self.note()


@dataclass
class _Context:
    """One stream of texts on a connection, spoken one after the other."""

    asked: asyncio.Queue[Utterance | None] = field(default_factory=asyncio.Queue)  # None: no more come
    unsaid: list[Utterance] = field(default_factory=list)  # asked for, not spoken to the end
    task: asyncio.Task[None] | None = None


class SpeechLine(Line):
    """A WebSocket on which texts come in and audio goes out, in contexts."""

    def __init__(self, provider: SpeechProvider, request: web.Request) -> None:
        super().__init__(provider, request)
        self._provider = provider
        self._contexts: dict[str, _Context] = {}

    # What differs between providers

    @property
    def sample_rate(self) -> int:
        """Of the audio that is sent, Hz."""
        raise NotImplementedError

    async def send_word(self, context: str, word: str, pcm: bytes) -> None:
        """Send one word's audio."""
        raise NotImplementedError

    async def send_done(self, context: str) -> None:
        """Say that all of a context has been spoken."""
        raise NotImplementedError

    async def send_spoken(self, context: str) -> None:
        """Say that one text of a context has been spoken."""

    # What they share

    def say(self, name: str, text: str) -> None:
        """Speak a text in a context, behind what was asked for before."""
        context = self._contexts.setdefault(name, _Context())
        utterance = Utterance(name, text)
        self._provider.spoken.append(utterance)
        self._provider.note()
        context.unsaid.append(utterance)
        context.asked.put_nowait(utterance)
        if context.task is None:
            context.task = asyncio.get_running_loop().create_task(self._speak(name, context))

    def finish(self, name: str) -> None:
        """No more text comes for a context."""
        if name in self._contexts:
            self._contexts[name].asked.put_nowait(None)

    async def cancel(self, name: str) -> None:
        """Speak no more of a context."""
        unsaid = self._drop(name, "cancelled")
        if self._provider.cancels_late and unsaid:
            for word in unsaid[0].text.split()[unsaid[0].sent :][:LATE_WORDS]:
                await self.send_word(name, word, voice_of(word, self.sample_rate))

    async def cancel_all(self) -> None:
        """Speak no more of anything."""
        for name in list(self._contexts):
            await self.cancel(name)

    def closed(self) -> None:
        for name in list(self._contexts):
            self._drop(name, "closed")

    def _drop(self, name: str, outcome: str) -> list[Utterance]:
        context = self._contexts.pop(name, _Context())
        if context.task is not None:
            context.task.cancel()
        for utterance in context.unsaid:
            self._provider.ended(utterance, outcome)
        return context.unsaid

    async def _speak(self, name: str, context: _Context) -> None:
        while (utterance := await context.asked.get()) is not None:
            fault = self._provider.faults.take()
            for word in utterance.text.split():
                if fault is Fault.HANG:
                    await asyncio.Event().wait()
                if fault is Fault.GARBAGE:
                    await self.send("<html>")
                if fault is Fault.CUT and utterance.sent:
                    self.cut()
                await asyncio.sleep(self._provider.chunk_s)
                await self.send_word(name, word, voice_of(word, self.sample_rate))
                utterance.sent += 1
                self._provider.note()
            context.unsaid.remove(utterance)
            self._provider.ended(utterance, "finished")
            await self.send_spoken(name)
        del self._contexts[name]
        await self.send_done(name)
