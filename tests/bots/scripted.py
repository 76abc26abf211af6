"""A declared bot in virtual time: its own pipeline, with a scripted model server and a user who types or
speaks; recogniser and voice are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bargein import DOWNSTREAM, Processor, Session
from bargein.bots import Bot, RunningBot
from bargein.bots.parts import LLMPart, STTPart, TTSPart, every
from bargein.bots.place import Shared
from bargein.pipeline.frames import Frame, FrameDirection, InputAudioRawFrame
from bargein.processors.services.openai_chat import ChatCompletions
from bargein.transports.output import AudioOutput
from bargein.transports.rtvi import RTVI, rtvi

from ..processors.fakes import FakeEndOfTurn, FakeTranscriber, FakeVAD, FakeVoice, playing
from ..servers.openai_server import Messages, OpenAIServer

# 20 ms each of a low and a high sound: together no hum. No byte that FakeVAD looks at is 0.
SYLLABLES = [
    ((8000 * np.sin(2 * np.pi * hertz / 16_000 * np.arange(320))).astype(np.int16) | 1).tobytes()
    for hertz in (300, 3000)
]


class Microphone(Processor):
    """The user's side: silence, and sound while somebody speaks."""

    def __init__(self) -> None:
        self.speaking = False
        self._blocks = 0

    async def start(self) -> None:
        self.spawn(self._listen())

    async def _listen(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            self._blocks += 1
            sound = SYLLABLES[self._blocks // 5 % 2] if self.speaking else bytes(640)
            self.push(InputAudioRawFrame(audio=sound, sample_rate=16_000, num_channels=1))


@dataclass
class Channel:
    """A client on RTVI."""

    on_message: Any = None
    received: list[dict[str, Any]] = field(default_factory=list)

    def send(self, message: dict[str, Any]) -> None:
        self.received.append(message)

    def texts(self, kind: str) -> list[str]:
        """Of all messages of a type; partial transcripts do not count."""
        data = [message["data"] for message in self.received if message["type"] == kind]
        return [d["text"] for d in data if d.get("final", True)]

    def send_text(self, text: str) -> None:
        self.on_message(rtvi("send-text", {"content": text}, "1"))


@dataclass
class Conversation:
    """A running session of a bot.

    Attributes:
        server: Says what the model answers.
        voice: What the bot speaks with.
    """

    server: OpenAIServer
    session: Session
    channel: Channel
    microphone: Microphone
    voice: FakeVoice
    messages: Messages
    played: bytearray
    frames: list[Frame] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def observe(self, frame: Frame, direction: FrameDirection, processor: Processor) -> None:
        if direction is DOWNSTREAM and all(frame is not seen for seen in self.frames[-50:]):
            self.frames.append(frame)
            self._news.set()

    async def say(self, seconds: float = 1.0) -> None:
        """Speak for so long; what is understood is the transcriber's next text."""
        self.microphone.speaking = True
        await asyncio.sleep(seconds)
        self.microphone.speaking = False

    async def write(self, text: str) -> None:
        """Write something, and wait until it is answered and the answer said."""
        self.channel.send_text(text)
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until nothing is going on."""
        await asyncio.sleep(3)
        async with asyncio.timeout(300):
            for response in self.session.responses:
                await response.wait()

    async def until(self, frame_type: type[Frame], count: int = 1) -> None:
        """Wait until so many frames of a type have passed."""
        async with asyncio.timeout(60):
            while sum(isinstance(frame, frame_type) for frame in self.frames) < count:
                self._news.clear()
                await self._news.wait()

    @property
    def said(self) -> list[str]:
        """The bot's answers in the context."""
        return [m["content"] for m in self.messages if m["role"] == "assistant" and m.get("content")]

    @property
    def ending(self) -> str:
        """Why the bot ended it, as the client is told."""
        news = [m["data"] for m in self.channel.received if m["type"] == "server-message"]
        return "".join(data["reason"] for data in news if data["type"] == "ending")

    @property
    def results(self) -> list[str]:
        """What tools returned, as the model reads it."""
        return [m["content"] for m in self.messages if m["role"] == "tool"]


@asynccontextmanager
async def conversation(bot: Bot, *understood: str) -> AsyncIterator[Conversation]:
    """A session of the bot; its recogniser understands these texts, one a turn."""
    server, voice, microphone, channel = OpenAIServer(), FakeVoice(), Microphone(), Channel()
    server.token_s = 0.01
    output, context = AudioOutput(16_000), bot.new_context()
    async with server.client() as client:
        shared = Shared(FakeVAD, FakeEndOfTurn([0.9] * 100))
        for part in every(bot.declaration.parts):
            if isinstance(part, STTPart):
                shared.opened.append((part, FakeTranscriber([(text, 0.1) for text in understood])))
            elif isinstance(part, LLMPart):
                shared.opened.append((part, [lambda session: ChatCompletions(client, "scripted")]))
            elif isinstance(part, TTSPart):
                shared.opened.append((part, voice))
        running, rtvi_client = RunningBot(bot, shared), RTVI(channel, output.playout)
        with running.pipeline(microphone, output, rtvi_client, context=context) as pipeline:
            played = bytearray()
            async with Session(pipeline) as session, playing(output, played):
                talk = Conversation(server, session, channel, microphone, voice, context.messages, played)
                session.observe(talk.observe)
                yield talk
