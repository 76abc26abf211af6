"""A whole agent behind the protocol: scripted model server, fake ears and voice; and a client that plays
what it gets, as a page does."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from openai import AsyncOpenAI

from bargein import Pipeline, Processor, Session
from bargein.processors.context import Context
from bargein.processors.llm import LLM
from bargein.processors.stt import STT, Transcriber
from bargein.processors.tts import TTS, Sentences
from bargein.transports.ends import ends_of
from bargein.transports.voice_agent import VoiceAgentProtocol
from bargein.transports.voice_agent.encoding import decode, encode
from bargein.transports.websocket import WebSocketConnection

from ...processors.fakes import FakeChunk, FakeTranscriber, FakeVoice
from ...servers.openai_server import OpenAIServer, Token
from ..websocket.memory import Wire

Message = dict[str, Any]
SENTENCES = ["The first sentence of it.", " The second sentence of it.", " The third sentence of it."]
ANSWER = "".join(SENTENCES)
WORDS = [word if i == 0 else f" {word}" for i, word in enumerate(ANSWER.split())]
RECORDING = b64encode(encode(bytes(3_200), 16_000, "wav")).decode()


def seconds_of(chunk: Message) -> float:
    """How long an `audio_chunk` plays."""
    return len(decode(b64decode(chunk["data"]))) / 32_000


class PageWire(Wire):
    """A client in memory that plays chunk after chunk, and drops all when it is told to.

    Attributes:
        told: Messages in their order, each with the time it came.
        played: Chunks with the times at which they began and will have ended; what was dropped is cut.
    """

    def __init__(self, *, acknowledges: bool = False, delay_s: float = 0.0) -> None:
        super().__init__()
        self.acknowledges = acknowledges
        self.delay_s = delay_s  # before a chunk that comes into silence begins
        self.played: list[tuple[float, float, Message]] = []
        self.news = asyncio.Event()

    @property
    def told(self) -> list[Message]:
        return [m for _, m in self.got if isinstance(m, dict)]

    @property
    def kinds(self) -> list[str]:
        return [m["type"] for m in self.told]

    def of(self, kind: str) -> list[Message]:
        return [m for m in self.told if m["type"] == kind]

    def after(self, kind: str) -> list[str]:
        """The types of what came after the last message of this type."""
        return self.kinds[len(self.kinds) - self.kinds[::-1].index(kind) :]

    async def expect(self, kind: str, count: int = 1) -> Message:
        """The message of this type that came as the `count`-th, once it has."""
        async with asyncio.timeout(60):
            while len(self.of(kind)) < count:
                self.news.clear()
                await self.news.wait()
        return self.of(kind)[count - 1]

    @property
    def heard_s(self) -> float:
        """Seconds of the bot's voice that have sounded by now."""
        now = asyncio.get_running_loop().time()
        return sum(max(0.0, min(now, end) - begin) for begin, end, _ in self.played)

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await super()._send(message)
        if message["type"] != "websocket.send":
            return
        loop, told = asyncio.get_running_loop(), self.told[-1]
        if told["type"] == "audio_chunk":
            busy_until = self.played[-1][1] if self.played else 0.0
            begin = busy_until if busy_until > loop.time() else loop.time() + self.delay_s
            self.played.append((begin, begin + seconds_of(told), told))
            if self.acknowledges:
                loop.call_at(self.played[-1][1], self._acknowledge, told["chunkId"])
        elif told["type"] == "speech_interrupted":
            now = loop.time()
            self.played = [(begin, min(end, now), chunk) for begin, end, chunk in self.played if begin < now]
        self.news.set()

    def _acknowledge(self, chunk: int) -> None:
        now = asyncio.get_running_loop().time() + 1e-6
        if any(c["chunkId"] == chunk and end <= now for _, end, c in self.played):
            self.say(type="audio_played", chunkId=chunk)


class AtOnce(ThreadPoolExecutor):
    """Runs what it is given before it returns: coding sound takes no time, however busy the machine is."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


class Steady(FakeVoice):
    """Says a character in 50 ms, after 150 ms of thinking; a sentence is one chunk."""

    async def synthesize(self, text: str) -> AsyncGenerator[FakeChunk, None]:
        self.spoken.append(text)
        try:
            await asyncio.sleep(0.15)
            samples = len(text) * self.sample_rate // 20
            yield FakeChunk(np.full(samples, 257, np.int16).tobytes(), self.sample_rate, ())
        finally:
            self.closed.append(text)


@dataclass
class Agent:
    """What an agent is made of, and the conversations it holds.

    Attributes:
        transcripts: What the ears will hear, with the seconds it takes them; None for an agent without.
    """

    client: AsyncOpenAI
    voice: Any = field(default_factory=lambda: FakeVoice(delay_s=0.01))
    transcripts: list[tuple[str, float]] | None = field(default_factory=list)
    transcriber: Transcriber | None = None
    tools: Iterable[Callable[..., Any]] = ()
    further: Iterable[Processor] = ()  # behind the source
    sessions: list[Session] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, connection: WebSocketConnection) -> None:
        """One conversation."""
        ends, context = ends_of(connection), Context("Be brief.", speculate=False)
        ears: list[Processor] = []
        if self.transcripts is not None:
            ears = [STT(self.transcriber or FakeTranscriber(self.transcripts))]
        model = LLM(self.client, "m", tools=self.tools)
        thinking = [context.user, model, context.assistant, *ends.clients]
        parts = [ends.source, *self.further, *ears, *thinking, Sentences(), TTS(self.voice), ends.sink]
        session = Session(Pipeline(parts))
        self.sessions.append(session)
        self.contexts.append(context)
        async with session:
            self.begun.set()
            await session.finished()


@dataclass
class Conversation:
    """A page in memory with an agent behind it."""

    page: PageWire
    agent: Agent
    server: OpenAIServer
    connection: WebSocketConnection

    @property
    def session(self) -> Session:
        return self.agent.sessions[0]

    @property
    def history(self) -> list[tuple[str, Any]]:
        """Roles and contents of the context, without the system prompt."""
        return [(m["role"], m.get("content")) for m in self.agent.contexts[0].messages[1:]]

    async def quiet(self) -> None:
        """Wait until nothing is being said or made."""
        async with asyncio.timeout(120):
            await asyncio.sleep(0.05)
            while responses := self.session.responses:
                await responses[-1].wait()
            await asyncio.sleep(0.5)


@asynccontextmanager
async def talking(
    *answers: Sequence[Token],
    page: PageWire | None = None,
    protocol: VoiceAgentProtocol | None = None,
    token_s: float = 0.02,
    **options: Any,
) -> AsyncIterator[Conversation]:
    """An agent in virtual time; without answers it always gives `ANSWER`, a word each 20 ms."""
    asyncio.get_running_loop().set_default_executor(AtOnce())
    server, page = OpenAIServer(), page or PageWire()
    server.token_s = token_s
    server.answer = lambda messages: list(WORDS)
    if answers:
        server.script(*map(list, answers))
    await page.websocket.accept()
    async with server.client() as client:
        agent = Agent(client, **options)
        connection = WebSocketConnection(page.websocket, protocol or VoiceAgentProtocol())
        assert await connection.begin()
        running = asyncio.create_task(agent.run(connection))
        serving = asyncio.create_task(connection.serve())
        await agent.begun.wait()
        try:
            yield Conversation(page, agent, server, connection)
        finally:
            page.writable.set()
            page.leave()
            await serving
            await running
