"""The two ends of a pipeline on a WebRTC connection."""

from __future__ import annotations

import asyncio

from ...pipeline import Processor, handles
from ...pipeline.frames import InputAudioRawFrame, StartFrame
from ..output import AudioOutput
from .connection import WebRTCConnection
from .media import INPUT_RATE


class WebRTCInput(Processor):
    """Pushes the peer's voice as 20 ms InputAudioRawFrames, mono at 16 kHz, and ends the session when
    the peer is gone."""

    def __init__(self, connection: WebRTCConnection) -> None:
        self.connection = connection

    async def start(self) -> None:
        self.spawn(self._watch())

    async def stop(self) -> None:
        self.connection.on_block = None

    @handles(StartFrame)
    def listen(self, frame: StartFrame) -> None:
        self.push(frame)
        self.connection.on_block = self._hear

    def _hear(self, pcm: bytes) -> None:
        self.push(InputAudioRawFrame(audio=pcm, sample_rate=INPUT_RATE, num_channels=1))

    async def _watch(self) -> None:
        self.session.cancel(await asyncio.shield(self.connection.closed))


class WebRTCOutput(AudioOutput):
    """Plays the bot's speech to the peer, who reads the playout each 20 ms.

    Args:
        connection: The peer.
        sample_rate: What Opus is given, in Hz: 8, 12, 16, 24 or 48 kHz.
    """

    def __init__(self, connection: WebRTCConnection, sample_rate: int = 24_000) -> None:
        super().__init__(sample_rate)
        self.connection = connection

    async def start(self) -> None:
        await super().start()
        self.connection.play(self.playout.read, self.sample_rate)
