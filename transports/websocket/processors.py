"""The two ends of a pipeline on a WebSocket connection."""

from __future__ import annotations

import asyncio

from ...pipeline import Processor, handles
from ...pipeline.frames import InputAudioRawFrame, InterruptionFrame, SpeechOnlyInterruptionFrame, StartFrame
from ..output import AudioOutput
from .connection import WebSocketConnection
from .pace import Pace
from .uplink import INPUT_RATE


class WebSocketInput(Processor):
    """Pushes the client's voice as 20 ms InputAudioRawFrames, mono at 16 kHz, and what else its serializer
    makes frames of; ends the session when the client is gone."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection

    async def start(self) -> None:
        self.spawn(self._watch())

    async def stop(self) -> None:
        self.connection.ignore()

    @handles(StartFrame)
    def listen(self, frame: StartFrame) -> None:
        self.push(frame)
        self.connection.listen(self._hear, self.push)

    def _hear(self, pcm: bytes) -> None:
        self.push(InputAudioRawFrame(audio=pcm, sample_rate=INPUT_RATE, num_channels=1))

    async def _watch(self) -> None:
        self.session.cancel(await asyncio.shield(self.connection.closed))


class WebSocketOutput(AudioOutput):
    """Plays the bot's speech to the client, at the rate its protocol says.

    Args:
        connection: Begun.
    """

    def __init__(self, connection: WebSocketConnection) -> None:
        super().__init__(connection.protocol.output_rate)
        self.connection = connection
        self.pace = Pace(self.playout, connection.protocol.block_ms)

    async def start(self) -> None:
        await super().start()
        self.connection.play(self.pace)

    def interrupted(self, frame: InterruptionFrame | SpeechOnlyInterruptionFrame) -> None:
        if self.pace.clear(asyncio.get_running_loop().time()):
            self.connection.clear()
        super().interrupted(frame)
