"""What the service tests share: a bot with a loudspeaker, and its conversations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from anthropic import AsyncAnthropic
from google.genai import Client as GoogleClient
from openai import AsyncOpenAI
from pipecat.processors.frame_processor import FrameProcessor

from bargein.pipeline import UPSTREAM, Level, Processor, SpeechInterruptedFrame, Stage, handles
from bargein.pipeline.frames import (
    BotStoppedSpeakingFrame,
    ErrorFrame,
    InputAudioRawFrame,
    TTSAudioRawFrame,
    UserStartedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import Context
from bargein.transports.output import AudioOutput
from bargein.transports.playout import FADE_MS

from ..servers.faults import spoken
from ..servers.openai_server import Token

RATE = 24_000
STEP_MS = 20
# The tests play several times faster than people listen.
STEP_S = 0.004
WAIT_S = 120.0  # a test that waits longer for anything has failed
CHUNK = 640  # bytes of the user's sound in a frame, 20 ms

# Deprecations inside Pipecat and the clients it uses.
LIBRARY_WARNINGS = [
    pytest.mark.filterwarnings(f"ignore:{message}:DeprecationWarning")
    for message in (".AudioContextTTSService.", "websockets", "Inheritance class AiohttpClientSession")
]

LONG = "One two three four five six seven eight nine ten eleven twelve. Then thirteen and fourteen."
NEXT = "Something else entirely."


class Tap(Processor):
    """Keeps the audio that passes, s16le bytes."""

    stage = Stage.SPEECH

    def __init__(self) -> None:
        self.audio = bytearray()

    @handles(TTSAudioRawFrame)
    def keep(self, frame: TTSAudioRawFrame) -> None:
        self.audio += frame.audio
        self.push(frame)


class Loudspeaker:
    """Plays an output, and lets a test wait until so much of it has sounded.

    Attributes:
        played: What sounded, silence left out, s16le bytes.
    """

    def __init__(self, output: AudioOutput) -> None:
        self.played = bytearray()
        self._output = output
        self._stepped = asyncio.Event()

    async def until_played(self, ms: float) -> None:
        """Wait until this much has sounded."""
        async with asyncio.timeout(WAIT_S):
            while len(self.played) < ms * RATE * 2 // 1000:
                self._stepped.clear()
                await self._stepped.wait()

    def has_played(self, sound: bytes) -> bool:
        """Whether this has sounded, and before it at most the fade of speech that was cut."""
        return self.played.endswith(sound) and len(self.played) - len(sound) <= FADE_MS * RATE * 2 // 1000

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[None]:
        """Play until the block is left."""
        task = asyncio.get_running_loop().create_task(self._play())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _play(self) -> None:
        while True:
            samples = np.frombuffer(self._output.playout.read(RATE * STEP_MS // 1000), np.int16)
            self.played += samples[samples != 0].tobytes()
            self._stepped.set()
            await asyncio.sleep(STEP_S)


@dataclass
class Bot:
    """A bot that answers typed questions aloud.

    Attributes:
        model: The language model's server, with scripted answers.
    """

    test: PipelineTest
    model: Any
    context: Context
    speaker: Loudspeaker
    _errors: int = field(default=0, init=False)  # how many have been taken

    def ask(self, answer: str) -> None:
        """Ask a question whose answer is known; the model gives it word by word."""
        self.speaker.played.clear()
        self.model.script(tokens(answer))
        self.test.session.send_text("Tell me.")

    async def said(self) -> None:
        """Wait until the answer has been said."""
        await self.test.expect(BotStoppedSpeakingFrame)

    async def interrupt(self, level: Level) -> SpeechInterruptedFrame:
        """Interrupt, now; returns the report, which is there at once."""
        interrupt(self.test, level)
        return await self.test.expect(SpeechInterruptedFrame, level=level)

    async def take_errors(self) -> list[str]:
        """What went wrong since the last time; the test has expected it."""
        errors = self.test.received(ErrorFrame, UPSTREAM)[self._errors :]
        self._errors += len(errors)
        for error in errors:
            await self.test.expect(ErrorFrame, UPSTREAM, error=error.error)
        return [error.error for error in errors]

    @property
    def last_message(self) -> dict[str, Any]:
        """The last one of the context."""
        return self.context.messages[-1]


def interrupt(test: PipelineTest, level: Level) -> None:
    """Interrupt, now."""
    if level is Level.FULL:
        test.interrupt("user_speaking")
    else:
        test.interrupt_speech("user_speaking")


@asynccontextmanager
async def closing_client(service: FrameProcessor) -> AsyncIterator[None]:
    """Close a service's HTTP client afterwards: Pipecat leaves that to the garbage collector."""
    try:
        yield
    finally:
        client = getattr(service, "_client", None)
        if isinstance(client, AsyncOpenAI | AsyncAnthropic):
            await client.close()
        elif isinstance(client, GoogleClient):
            await client.aio.aclose()
            client.close()


async def speak(test: PipelineTest, text: str) -> None:
    """The user speaks and stops, as the VAD tells it."""
    test.send(VADUserStartedSpeakingFrame())
    test.send(UserStartedSpeakingFrame())
    sound = spoken(text)
    for at in range(0, len(sound), CHUNK):
        test.send(InputAudioRawFrame(sound[at : at + CHUNK], 16_000, 1))
        await asyncio.sleep(0.001)
    test.send(VADUserStoppedSpeakingFrame())


def tokens(text: str) -> list[Token]:
    """A text as a model streams it."""
    words = text.split()
    return [*(f"{word} " for word in words[:-1]), words[-1]]


async def outcomes(streams: Iterable[asyncio.Future[str]]) -> list[str]:
    """How streams at a provider ended."""
    return [await asyncio.wait_for(stream, WAIT_S) for stream in streams]


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that tells nobody when it happens."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
