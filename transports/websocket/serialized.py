"""Pipecat's frame serializers as protocols: Protobuf for Pipecat's clients, and the telephone."""

from __future__ import annotations

from loguru import logger
from pipecat.clocks.system_clock import SystemClock
from pipecat.frames.frames import InputTransportMessageFrame, OutputTransportMessageUrgentFrame
from pipecat.processors.frame_processor import FrameProcessorSetup
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.utils.asyncio.task_manager import TaskManager

from ...pipeline import BargeinError
from ...pipeline.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    PipecatInterruptionFrame,
    Reason,
)
from ..rtvi import rtvi
from .protocol import MAX_MESSAGE_BYTES, MAX_RATE, MIN_RATE, Audio, Data, Event, Message, Pushed, Reply, Said


class BadMessage(BargeinError, ValueError):
    """Raised when a serializer understands a message that this transport cannot use."""


class SerializerProtocol:
    """Speaks what a stock Pipecat serializer speaks.

    Args:
        serializer: Of this one client.
        input_rate: What the serializer is to decode audio to, in Hz, where it resamples at all.
        output_rate: Of the bot's audio, in Hz.
        speaks_rtvi: Whether its client understands RTVI messages.
    """

    block_ms = 20
    max_message_bytes = MAX_MESSAGE_BYTES

    def __init__(
        self,
        serializer: FrameSerializer,
        *,
        input_rate: int = 16_000,
        output_rate: int = 24_000,
        speaks_rtvi: bool = False,
    ) -> None:
        self.started = False
        self.output_rate = output_rate
        self.speaks_rtvi = speaks_rtvi
        self._serializer = serializer
        self._input_rate = input_rate

    async def decode(self, data: Data) -> list[Event]:
        if not self.started:
            await self._set_up()
        try:
            frame = await self._serializer.deserialize(data)
            return [] if frame is None else self._event(frame)
        except Exception as error:  # each serializer stumbles in its own way
            logger.debug("{} refused a message: {!r}", type(self._serializer).__name__, error)
            text = str(error) if isinstance(error, BadMessage) else "a message could not be decoded"
            return [Reply(data) for data in await self.message(rtvi("error-response", {"error": text}))]

    async def audio(self, pcm: bytes) -> list[Data]:
        return await self._encode(OutputAudioRawFrame(pcm, self.output_rate, 1))

    async def mark(self, number: int) -> list[Data]:
        return []

    async def clear(self) -> list[Data]:
        return await self._encode(PipecatInterruptionFrame())

    async def message(self, message: Message) -> list[Data]:
        if not self.speaks_rtvi:
            return []
        return await self._encode(OutputTransportMessageUrgentFrame(message))

    async def end(self) -> None:
        await self._encode(EndFrame())

    async def _set_up(self) -> None:
        # A serializer reads the rates and nothing else; there is no Pipecat pipeline to name.
        setup = FrameProcessorSetup(
            clock=SystemClock(),  # type: ignore[no-untyped-call]
            task_manager=TaskManager(),
            pipeline_worker=None,  # type: ignore[arg-type]
            audio_in_sample_rate=self._input_rate,
            audio_out_sample_rate=self.output_rate,
        )
        await self._serializer.setup(setup)
        self.started = True

    async def _encode(self, frame: Frame) -> list[Data]:
        data = await self._serializer.serialize(frame)
        return [] if data is None else [data]

    def _event(self, frame: Frame) -> list[Event]:
        if isinstance(frame, InputAudioRawFrame):
            if not MIN_RATE <= frame.sample_rate <= MAX_RATE or frame.num_channels != 1:
                raise BadMessage(
                    f"audio must be mono at {MIN_RATE} to {MAX_RATE} Hz, not {frame.num_channels} channels "
                    f"at {frame.sample_rate} Hz"
                )
            return [Audio(frame.audio, frame.sample_rate)]
        if isinstance(frame, InputTransportMessageFrame):
            if not isinstance(frame.message, dict):
                raise BadMessage("a message must be a JSON object")
            return [Said(frame.message)]
        if isinstance(frame, PipecatInterruptionFrame):
            return [Pushed(InterruptionFrame(reason=Reason.CLIENT_REQUEST))]
        return [Pushed(frame)]


class RTVIProtocol(SerializerProtocol):
    """RTVI in Pipecat's Protobuf frames: what `@pipecat-ai/websocket-transport` speaks."""

    def __init__(self) -> None:
        super().__init__(ProtobufFrameSerializer(), speaks_rtvi=True)
