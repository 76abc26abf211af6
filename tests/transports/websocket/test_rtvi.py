"""RTVI in Protobuf frames, over real sockets, with a client made from the wire format."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from pipecat.frames.protobufs import frames_pb2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from .bot import ANSWER, BEEP_BLOCKS, WORD_S, WORDS, level
from .served import WAIT_S, Served, served

pytestmark = pytest.mark.real_time

Frame: Any = frames_pb2.Frame  # type: ignore[attr-defined]


class Client:
    """What `@pipecat-ai/websocket-transport` sends and understands.

    Attributes:
        got: Frames received.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.got: list[Any] = []
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def say(self, kind: str, data: Any = None) -> None:
        frame = Frame()
        frame.message.data = json.dumps({"label": "rtvi-ai", "type": kind, "id": "7", "data": data})
        await self.connection.send(frame.SerializeToString())

    async def speak(self, samples: Any, rate: int = 16_000, channels: int = 1) -> None:
        frame = Frame()
        frame.audio.audio = samples.astype("<i2").tobytes()
        frame.audio.sample_rate, frame.audio.num_channels = rate, channels
        await self.connection.send(frame.SerializeToString())

    async def expect(self, kind: str) -> dict[str, Any]:
        """The first RTVI message of this type."""
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(lambda: self.told(kind))
        return self.told(kind)[0]

    async def until_told(self, kind: str, count: int) -> None:
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(lambda: len(self.told(kind)) >= count)

    async def until_loud(self, value: int, samples: float) -> None:
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(lambda: self.loud(value) >= samples)

    def told(self, kind: str) -> list[dict[str, Any]]:
        messages = (json.loads(f.message.data) for f in self.got if f.WhichOneof("frame") == "message")
        return [m for m in messages if m["type"] == kind]

    def loud(self, value: int, start: int = 0) -> int:
        """How many samples of this value came, from this place in `got` on."""
        blocks = [f.audio.audio for f in self.got[start:] if f.WhichOneof("frame") == "audio"]
        return int((np.abs(np.frombuffer(b"".join(blocks), "<i2").astype(int) - value) < 20).sum())

    async def _read(self) -> None:
        try:
            async for data in self.connection:
                async with self._news:
                    self.got.append(Frame.FromString(data))
                    self._news.notify_all()
        except ConnectionClosed:
            pass

    async def leave(self) -> None:
        await self.connection.close()
        await self._reading


@asynccontextmanager
async def joined(server: Served) -> AsyncIterator[Client]:
    async with connect(server.url + "/ws/rtvi", max_size=None) as connection:
        client = Client(connection)
        try:
            await client.say("client-ready", {"version": "2.1.0", "about": {"library": "test"}})
            yield client
        finally:
            await client.leave()


async def test_a_client_becomes_ready_talks_and_leaves() -> None:
    async with served() as server, joined(server) as client:
        ready = await client.expect("bot-ready")
        assert ready["id"] == "7"
        await client.speak(np.full(320 * 2 * BEEP_BLOCKS, 8_000))
        await client.speak(np.zeros(320 * 2 * BEEP_BLOCKS))
        await client.expect("bot-stopped-speaking")
        assert "".join(m["data"]["text"] for m in client.told("bot-llm-text")) == ANSWER
        assert client.loud(level("r1")) == len(WORDS) * WORD_S * 24_000
        audio = next(f.audio for f in client.got if f.WhichOneof("frame") == "audio")
        assert (audio.sample_rate, audio.num_channels) == (24_000, 1)
        await client.say("disconnect-bot")
        await server.empty()


async def test_both_ways_to_interrupt() -> None:
    async with served() as server, joined(server) as client:
        for number, way in enumerate(("message", "frame"), start=1):
            await client.say("send-text", {"content": "hello"})
            await client.until_loud(level(f"r{number}"), WORD_S * 24_000)
            before = len(client.got)
            if way == "message":
                await client.say("client-message", {"t": "interrupt", "d": {"level": "speech"}})
            else:
                frame = Frame()
                frame.interruption.SetInParent()
                await client.connection.send(frame.SerializeToString())
            # Typed text interrupts too.
            await client.until_told("bot-interrupted", 2 * number)
            clear = next(
                i for i, f in enumerate(client.got) if i >= before and f.WhichOneof("frame") == "interruption"
            )
            assert client.loud(level(f"r{number}"), clear) == 0


async def test_what_makes_no_sense_is_answered_with_an_error() -> None:
    async with served() as server, joined(server) as client:
        await client.expect("bot-ready")
        await client.connection.send("text")
        await client.connection.send(b"\xff\xff\xff")
        await client.speak(np.zeros(10), rate=1_000_000)
        await client.speak(np.zeros(10), channels=2)
        frame = Frame()
        frame.message.data = "[1]"
        await client.connection.send(frame.SerializeToString())
        await client.say("send-text", {"content": "hello"})
        await client.expect("bot-stopped-speaking")
        assert len(client.told("error-response")) == 5
