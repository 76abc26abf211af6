"""A bot from the model to the loudspeaker, in virtual time: a server in the process says what it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pipecat.frames.frames import LLMMessagesAppendFrame

from bargein.pipeline.frames import TTSTextFrame
from bargein.pipeline.testing import PipelineTest
from bargein.processors.context import Context
from bargein.processors.llm import LLM
from bargein.processors.tts import TTS, Sentences
from bargein.transports.output import AudioOutput

from ..servers.openai_server import Messages, OpenAIServer, invalid
from .fakes import FakeVoice, playing


@dataclass
class Bot:
    """From the model to the loudspeaker; `server` says what the model answers."""

    server: OpenAIServer
    context: Context
    output: AudioOutput
    test: PipelineTest

    def ask(self, text: str = "hi") -> None:
        frame = LLMMessagesAppendFrame([{"role": "user", "content": text}], run_llm=True)
        frame.interruptible = False  # as what the user said is
        self.test.send(frame)

    @property
    def messages(self) -> Messages:
        """The conversation without the system prompt."""
        return self.context.messages[1:]

    @property
    def results(self) -> list[str]:
        return [m["content"] for m in self.messages if m["role"] == "tool"]

    async def heard(self, word: str) -> None:
        while (await self.test.expect(TTSTextFrame)).text.strip() != word:
            pass


@asynccontextmanager
async def bot(*tools: Callable[..., Any], max_steps: int = 5) -> AsyncIterator[Bot]:
    server, context, output = OpenAIServer(), Context("Be brief."), AudioOutput(16_000)
    server.token_s = 0.01

    async with server.client() as client:
        llm = LLM(client, "m", tools=tools, max_steps=max_steps)
        test = PipelineTest(context.user, llm, context.assistant, Sentences(), TTS(FakeVoice()), output)
        async with test, playing(output, bytearray()):
            yield Bot(server, context, output, test)
    assert invalid(context.messages) is None
    assert all(r.outcome.done() and r.outcome.result() != "refused" for r in server.requests)
