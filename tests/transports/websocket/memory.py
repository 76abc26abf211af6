"""A WebSocket in memory, for tests in virtual time: how fast the client reads is the test's to say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from starlette.websockets import WebSocket

from bargein.transports.websocket import JsonProtocol, WebSocketConnection

from .bot import RATE, Bots

Message = dict[str, Any]


class Wire:
    """The client's end.

    Attributes:
        got: When it came (loop time in s), and what: PCM, or an object.
        slowness_s: How long each message takes.
        writable: Cleared while nothing gets through.
        lag: Marks are acknowledged once so many later ones have come; None for never.
        code: Of the close frame, and its reason.
    """

    def __init__(self) -> None:
        self.got: list[tuple[float, bytes | Message]] = []
        self.slowness_s = 0.0
        self.writable = asyncio.Event()
        self.writable.set()
        self.lag: int | None = None
        self.acknowledged = 0  # how many of `got` are known to have been played
        self.code: tuple[int, str] | None = None
        self._news = asyncio.Event()
        self._marks: list[int] = []  # places in `got`
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        self.websocket = WebSocket({"type": "websocket", "headers": []}, self._inbox.get, self._send)

    def say(self, **message: Any) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    def speak(self, pcm: bytes) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "bytes": pcm})

    def leave(self) -> None:
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1000})

    def all(self, kind: str) -> list[tuple[int, Message]]:
        """Messages of this type, with their places in `got`."""
        return [(i, m) for i, (_, m) in enumerate(self.got) if isinstance(m, dict) and m["type"] == kind]

    async def until(self, reached: Callable[[], object]) -> None:
        """Wait until something that came makes this true."""
        async with asyncio.timeout(60):
            while not reached():
                self._news.clear()
                await self._news.wait()

    def samples(self, value: int, start: int = 0, end: int | None = None) -> int:
        """How many samples of this value came between two places in `got`."""
        pcm = b"".join(m for _, m in self.got[start:end] if isinstance(m, bytes))
        return int((np.frombuffer(pcm, "<i2") == value).sum())

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "websocket.close":
            self.code = message["code"], message["reason"]
        if message["type"] != "websocket.send":
            return
        await self.writable.wait()
        await asyncio.sleep(self.slowness_s)
        now = asyncio.get_running_loop().time()
        self._news.set()
        if message.get("bytes") is not None:
            self.got.append((now, message["bytes"]))
            return
        told = json.loads(message["text"].encode())
        self.got.append((now, told))
        if told["type"] == "mark":
            self._marks.append(len(self.got))
            if self.lag is not None and len(self._marks) > self.lag:
                self.acknowledged = self._marks[-1 - self.lag]
                self.say(type="played", mark=told["mark"] - self.lag)


@asynccontextmanager
async def wired() -> AsyncIterator[tuple[Wire, WebSocketConnection, Bots]]:
    """A client in memory, of a bot that runs. No rate is changed: samples keep their values."""
    wire, bots = Wire(), Bots()
    await wire.websocket.accept()
    connection = WebSocketConnection(wire.websocket, JsonProtocol())
    wire.say(type="start", agent_sample_rate=RATE)
    assert await connection.begin()
    running = asyncio.create_task(bots.run(connection))
    serving = asyncio.create_task(connection.serve())
    await bots.begun.wait()
    try:
        yield wire, connection, bots
    finally:
        wire.writable.set()
        wire.leave()
        await serving
        await running
