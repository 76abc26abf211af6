"""The other end of a connection: an aiortc peer that plays a tone and listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any

import av
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, MediaStreamTrack

WAIT_S = 120.0  # a test that waits longer for anything has failed
RATE = 48_000


class Tone(MediaStreamTrack):
    """440 Hz at a quarter of full scale, in real time."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._clock = AudioStreamTrack()

    async def recv(self) -> av.AudioFrame:
        silence = await self._clock.recv()
        assert isinstance(silence, av.AudioFrame)
        assert silence.pts is not None
        start = silence.pts * RATE // silence.sample_rate
        samples = np.arange(start, start + RATE // 50)
        wave = (8192 * np.sin(2 * np.pi * 440 * samples / RATE)).astype("<i2")
        frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        return frame


class Peer:
    """A client with a data channel and one audio track each way.

    Attributes:
        messages: JSON objects received.
        peaks: Peak of each 20 ms received.
    """

    def __init__(self, *, audio: bool = True) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel = self.pc.createDataChannel("chat")
        self.opened = asyncio.Event()
        self.channel_closed = asyncio.Event()
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.peaks: asyncio.Queue[int] = asyncio.Queue()
        self._listening: asyncio.Task[None] | None = None
        self.channel.on("open", self.opened.set)
        self.channel.on("close", self.channel_closed.set)
        self.channel.on("message", lambda text: self.messages.put_nowait(json.loads(text)))
        self.pc.on("track", self._listen)
        if audio:
            self.pc.addTrack(Tone())

    async def offer(self) -> str:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return self.pc.localDescription.sdp

    async def accept(self, answer: str) -> None:
        """Take the answer and wait until the data channel is open."""
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        async with asyncio.timeout(WAIT_S):
            await self.opened.wait()

    def send(self, kind: str, data: dict[str, Any] | None = None, message_id: str = "1") -> None:
        """Send an RTVI message."""
        message = {"label": "rtvi-ai", "type": kind, "id": message_id, "data": data or {}}
        self.channel.send(json.dumps(message))

    async def expect(self, kind: str, **data: Any) -> dict[str, Any]:
        """Wait for a message of this type whose data has these values; others are passed over."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message = await self.messages.get()
                found = message.get("data", {})
                if message["type"] == kind and all(found.get(key) == value for key, value in data.items()):
                    return message

    async def hear(self, *, loud: bool) -> None:
        """Wait for 5 blocks running, 100 ms, that are loud, or are silent."""
        run = 0
        async with asyncio.timeout(WAIT_S):
            while run < 5:
                run = run + 1 if (await self.peaks.get() > 1000) == loud else 0

    async def close(self) -> None:
        await self.pc.close()
        if self._listening is not None:
            await self._listening

    def _listen(self, track: MediaStreamTrack) -> None:
        async def listen() -> None:
            try:
                while True:
                    frame = await track.recv()
                    assert isinstance(frame, av.AudioFrame)
                    self.peaks.put_nowait(int(np.abs(frame.to_ndarray()).max()))
            except MediaStreamError:
                pass

        self._listening = asyncio.create_task(listen())


@asynccontextmanager
async def peer(*, audio: bool = True) -> AsyncIterator[Peer]:
    client = Peer(audio=audio)
    try:
        yield client
    finally:
        await client.close()
