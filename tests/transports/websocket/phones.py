"""Telephone companies, as their media streams look from the server: a caller, and what the caller hears."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from .served import WAIT_S, Served

RATE = 8_000
BLOCK = RATE // 50

Message = dict[str, Any]
Samples = npt.NDArray[np.int16]


def _mu_law() -> npt.NDArray[np.int32]:
    """The 256 values of G.711 mu-law, by code."""
    code = ~np.arange(256, dtype=np.uint8)
    size = (((code & 15).astype(np.int32) << 3) + 132 << ((code >> 4) & 7).astype(np.int32)) - 132
    return np.where(code & 128, -size, size)


MU_LAW = _mu_law()


@dataclass(frozen=True)
class Company:
    """One provider's messages.

    Attributes:
        opening: What it sends before the first audio.
        media: The caller's audio.
        plays: The `event` of the bot's audio.
        clears: The message that drops audio.
        marks: Whether a message is a mark, and its name.
        played: The acknowledgement of a mark.
        mu_law: Whether the audio is G.711, else linear.
        returns: Whether the marks of dropped audio are acknowledged.
        stop: The end of the call.
        mark_s: How far apart the marks are.
        stream_key: Where each message to it must have the stream's id; empty where none is needed.
    """

    opening: tuple[Message, ...]
    media: Callable[[str], Message]
    plays: str
    clears: Message
    marks: Callable[[Message], str | None]
    played: Callable[[str], Message]
    stop: Message
    mu_law: bool = True
    returns: bool = True
    mark_s: float = 0.1
    stream_key: str = ""


def _mark_name(message: Message) -> str | None:
    return message["mark"]["name"] if message["event"] == "mark" else None


COMPANIES = {
    "twilio": Company(
        opening=(
            {"event": "connected", "protocol": "Call", "version": "1.0.0"},
            {
                "event": "start",
                "sequenceNumber": "1",
                "streamSid": "MZ1",
                "start": {
                    "accountSid": "AC1",
                    "streamSid": "MZ1",
                    "callSid": "CA1",
                    "tracks": ["inbound"],
                    "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                    "customParameters": {},
                },
            },
        ),
        media=lambda payload: {
            "event": "media",
            "sequenceNumber": "2",
            "streamSid": "MZ1",
            "media": {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": payload},
        },
        plays="media",
        clears={"event": "clear", "streamSid": "MZ1"},
        marks=_mark_name,
        played=lambda name: {"event": "mark", "streamSid": "MZ1", "mark": {"name": name}},
        stop={"event": "stop", "streamSid": "MZ1", "stop": {"accountSid": "AC1", "callSid": "CA1"}},
        stream_key="streamSid",
    ),
    "telnyx": Company(
        opening=(
            {"event": "connected", "version": "1.0.0"},
            {
                "event": "start",
                "sequence_number": "1",
                "stream_id": "32DE0DEA-53CB",
                "start": {
                    "user_id": "U1",
                    "call_control_id": "v2:T02llQxIya-Rk_hf=",
                    "from": "+13122010094",
                    "to": "+13122123456",
                    "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
                },
            },
        ),
        media=lambda payload: {
            "event": "media",
            "stream_id": "32DE0DEA-53CB",
            "media": {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": payload},
        },
        plays="media",
        clears={"event": "clear"},
        marks=_mark_name,
        played=lambda name: {"event": "mark", "stream_id": "32DE0DEA-53CB", "mark": {"name": name}},
        stop={"event": "stop", "stream_id": "32DE0DEA-53CB", "stop": {"user_id": "U1"}},
    ),
    "plivo": Company(
        opening=(
            {
                "event": "start",
                "sequenceNumber": 1,
                "start": {
                    "callId": "12345678-1234",
                    "streamId": "87654321-4321",
                    "accountId": "MA1",
                    "tracks": ["inbound"],
                    "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
                },
                "extra_headers": "",
            },
        ),
        media=lambda payload: {
            "event": "media",
            "streamId": "87654321-4321",
            "media": {"track": "inbound", "chunk": 1, "timestamp": "5", "payload": payload},
        },
        plays="playAudio",
        clears={"event": "clearAudio", "streamId": "87654321-4321"},
        marks=lambda message: message["name"] if message["event"] == "checkpoint" else None,
        played=lambda name: {"event": "playedStream", "streamId": "87654321-4321", "name": name},
        stop={"event": "stop", "streamId": "87654321-4321"},
        returns=False,
        stream_key="streamId",
    ),
    "exotel": Company(
        opening=(
            {"event": "connected"},
            {
                "event": "start",
                "sequence_number": 1,
                "stream_sid": "S1",
                "start": {
                    "stream_sid": "S1",
                    "call_sid": "C1",
                    "account_sid": "A1",
                    "from": "0987",
                    "to": "0123",
                    "media_format": {"encoding": "base64", "sample_rate": "8000", "bit_rate": "128kbps"},
                },
            },
        ),
        media=lambda payload: {
            "event": "media",
            "stream_sid": "S1",
            "media": {"chunk": 1, "timestamp": "5", "payload": payload},
        },
        plays="media",
        clears={"event": "clear", "stream_sid": "S1"},
        marks=_mark_name,
        played=lambda name: {"event": "mark", "stream_sid": "S1", "mark": {"name": name}},
        stop={"event": "stop", "stream_sid": "S1", "stop": {"call_sid": "C1", "reason": "callended"}},
        mu_law=False,
        mark_s=0.2,
        stream_key="stream_sid",
    ),
}


class Caller:
    """One call: sends sound in real time, silence where there is none to send, and plays what it gets.

    Attributes:
        heard: What the company was given to play since the last clear, mono at 8 kHz.
        chunks: Bytes of each piece of audio it got.
        cleared: What was dropped or had been played when it was told to clear, one entry for each time.
        silent_after: Marks are acknowledged up to this one, and when a clear returns them.
    """

    def __init__(self, company: Company, connection: ClientConnection) -> None:
        self.company = company
        self.connection = connection
        self.heard = np.empty(0, np.int16)
        self.cleared: list[Samples] = []
        self.chunks: list[int] = []
        self.silent_after = 10**9
        self._open: list[str] = []
        self._to_say = np.empty(0, np.int16)
        self._news = asyncio.Condition()
        self._tasks = [asyncio.create_task(self._talk()), asyncio.create_task(self._listen())]

    def say(self, samples: Samples) -> None:
        self._to_say = np.concatenate([self._to_say, samples])

    async def send(self, message: Message) -> None:
        await self.connection.send(json.dumps(message))

    async def until(self, reached: Callable[[], Any]) -> None:
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(reached)

    def loud(self, value: int) -> int:
        """How many samples of about this value it was given since the last clear."""
        return int((np.abs(self.heard.astype(int) - value) < 0.05 * value).sum())

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _talk(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            block = np.zeros(BLOCK, np.int16)
            piece, self._to_say = self._to_say[:BLOCK], self._to_say[BLOCK:]
            block[: len(piece)] = piece
            data = block.astype("<i2").tobytes()
            if self.company.mu_law:
                data = (
                    np.abs(MU_LAW[None, :] - block[:, None].astype(int))
                    .argmin(axis=1)
                    .astype(np.uint8)
                    .tobytes()
                )
            try:
                await self.send(self.company.media(base64.b64encode(data).decode()))
            except ConnectionClosed:
                return
            due += 0.02
            await asyncio.sleep(due - loop.time())

    async def _listen(self) -> None:
        try:
            async for data in self.connection:
                async with self._news:
                    await self._take(json.loads(data))
                    self._news.notify_all()
        except ConnectionClosed:
            pass

    async def _take(self, message: Message) -> None:
        key = self.company.stream_key
        assert not key or message[key] == self.company.clears[key]
        name = self.company.marks(message)
        if name is not None:
            if int(name) <= self.silent_after:
                await self.send(self.company.played(name))
            else:
                self._open.append(name)
        elif message["event"] == self.company.plays:
            data = base64.b64decode(message["media"]["payload"])
            self.chunks.append(len(data))
            pcm = MU_LAW[np.frombuffer(data, np.uint8)] if self.company.mu_law else np.frombuffer(data, "<i2")
            self.heard = np.concatenate([self.heard, pcm.astype(np.int16)])
        else:
            assert message == self.company.clears
            self.cleared.append(self.heard)
            self.heard = np.empty(0, np.int16)
            names, self._open = self._open, []
            for name in names if self.company.returns else []:
                await self.send(self.company.played(name))


@asynccontextmanager
async def calling(
    server: Served, name: str, headers: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Caller]:
    """A call by this company."""
    company, url = COMPANIES[name], server.url + "/ws/phone"
    async with connect(url, compression=None, additional_headers=headers) as connection:
        for message in company.opening:
            await connection.send(json.dumps(message))
        caller = Caller(company, connection)
        try:
            yield caller
        finally:
            await caller.end()
